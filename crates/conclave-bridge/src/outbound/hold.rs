//! What was stopped until a human allows it: once, bound to these words for this place, for ten minutes.
//!
//! Pure. An agent has no way to allow: a human answers the host's dialog, or signs the hold's digest with an
//! owner key at the command line. The digest has a fresh nonce in it, so that no answer counts twice.

use conclave_proto::bytes::Builder;
use conclave_proto::id::Hash;
use conclave_proto::time::Mono;
use std::collections::VecDeque;

/// How long something is held, and how long an answer counts, in milliseconds.
pub const HELD_MS: u64 = 10 * 60 * 1000;

/// The most that is held; beyond, the oldest is forgotten.
pub const HELD_MAX: usize = 16;

/// Why something is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It looks like a credential.
    Secret,
    /// It would go from where few read to where others do.
    Flow,
}

impl Why {
    /// Returns the word for it: the error of the tool and the kind of the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Flow => "flow",
        }
    }
}

/// What is about to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Why it may not.
    pub why: Why,
    /// Which rule says so, in our own words: never what matched.
    pub rule: String,
    /// Where it would go, or which tool would send it.
    pub place: String,
    /// The beginning of the words, cleaned; nothing of a secret.
    pub excerpt: Option<String>,
    /// What it is: the same words for the same place have the same one.
    pub key: Hash,
}

/// Returns the key of words for places.
#[must_use]
pub fn key(why: Why, places: &[String], text: &str) -> Hash {
    let mut builder = Builder::labelled("conclave/hold/what").lp(why.as_str().as_bytes());
    for place in places {
        builder = builder.lp(place.as_bytes());
    }
    builder.lp(text.as_bytes()).sha256()
}

/// Something that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What to call it: `h-` and six characters.
    pub id: String,
    /// What a human's signature is over.
    pub digest: Hash,
    /// What it is.
    pub what: Leaving,
    /// Since when.
    pub at: Mono,
    /// Whether a human allowed it, and it was not sent yet.
    pub allowed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Holds(VecDeque<Hold>);

impl Holds {
    /// Holds something; what is held already stays as it is.
    pub fn hold(&mut self, now: Mono, nonce: [u8; 16], what: Leaving) -> Hold {
        self.forget(now);
        if let Some(held) = self.0.iter().find(|held| held.what.key == what.key) {
            return held.clone();
        }
        let digest = Builder::labelled("conclave/hold")
            .raw(&nonce)
            .raw(what.key.as_bytes())
            .sha256();
        let letter = |b: &u8| char::from(b"abcdefghjkmnpqrstvwxyz0123456789"[usize::from(b % 32)]);
        let name: String = digest.as_bytes().iter().take(6).map(letter).collect();
        let held = Hold {
            id: format!("h-{name}"),
            digest,
            what,
            at: now,
            allowed: false,
        };
        if self.0.len() >= HELD_MAX {
            self.0.pop_front();
        }
        self.0.push_back(held.clone());
        held
    }

    /// Returns whether a human allowed this, and takes that back: it counts once.
    pub fn pass(&mut self, now: Mono, key: &Hash) -> bool {
        self.forget(now);
        let is_allowed = |held: &Hold| held.allowed && held.what.key == *key;
        let at = self.0.iter().position(is_allowed);
        at.and_then(|at| self.0.remove(at)).is_some()
    }

    /// Notes that a human allowed what has this id and this digest; returns whether that is held.
    pub fn allow(&mut self, now: Mono, id: &str, digest: &Hash) -> bool {
        self.forget(now);
        let mut held = self.0.iter_mut();
        let held = held.find(|held| held.id == id && held.digest == *digest);
        held.map(|held| held.allowed = true).is_some()
    }

    /// Returns what waits for a human, oldest first.
    pub fn waiting(&mut self, now: Mono) -> Vec<Hold> {
        self.forget(now);
        let waiting = self.0.iter().filter(|held| !held.allowed);
        waiting.cloned().collect()
    }

    fn forget(&mut self, now: Mono) {
        self.0.retain(|held| now.since(held.at) < HELD_MS);
    }
}
