//! What can be found out of an envelope without knowing the channel: form, signature, content.
//!
//! This is where nearly all the work is, and it depends on nothing but the envelope and the keys: many
//! are opened on all cores at once, and judged one after the other.

use super::keys::KeyRing;
use conclave_e2ee::{OpenError, Place, whisper};
use conclave_proto::body::{BadBody, Body};
use conclave_proto::entry::{BadEnvelope, Envelope, Parsed, Suite};
use conclave_proto::id::Hash;

/// See the module.
#[derive(Debug)]
pub struct Opened {
    /// The envelope's parts, if it is well-formed.
    pub parsed: Result<Parsed, BadEnvelope>,
    /// The identity of the envelope's bytes.
    pub hash: Hash,
    /// What is in it.
    pub content: Content,
}

/// What an envelope holds.
#[derive(Debug)]
pub enum Content {
    /// This, signed by the key the header names.
    Body(Box<Body>),
    /// The signature is not by the key the header names.
    Unsigned,
    /// No body.
    Bad(BadBody),
    /// The seal is broken.
    Broken(OpenError),
    /// The key that opens it is not here.
    NoKey,
}

impl Opened {
    /// Opens one envelope.
    #[must_use]
    pub fn new(env: &Envelope, keys: &KeyRing) -> Self {
        let hash = env.hash();
        let parsed = env.clone().parse();
        let content = match &parsed {
            Ok(parsed) => Content::of(parsed, keys),
            Err(_) => Content::Bad(BadBody::Malformed),
        };
        Self {
            parsed,
            hash,
            content,
        }
    }

    /// Opens many, on all cores where there are enough of them.
    #[must_use]
    pub fn all(envs: &[Envelope], keys: &KeyRing) -> Vec<Self> {
        /// Fewer are opened faster than a thread is started.
        const SHARE: usize = 16;
        // Few come at a time, as a rule, and how many cores there are is read from files.
        let cores = match envs.len() <= SHARE {
            true => 1,
            false => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let share = envs.len().div_ceil(cores).max(SHARE);
        if envs.len() <= share {
            return envs.iter().map(|env| Self::new(env, keys)).collect();
        }
        let open = |part: &[Envelope]| -> Vec<Self> {
            part.iter().map(|env| Self::new(env, keys)).collect()
        };
        std::thread::scope(|scope| {
            let (first, rest) = envs.split_at(share);
            let others: Vec<_> = rest
                .chunks(share)
                .map(|part| (part, scope.spawn(move || open(part))))
                .collect();
            let mut opened = open(first);
            for (part, thread) in others {
                // A thread that cannot be had leaves its share to this one.
                opened.extend(thread.join().unwrap_or_else(|_| open(part)));
            }
            opened
        })
    }

    /// Looks again, with keys that came since.
    pub fn retry(&mut self, keys: &KeyRing) {
        if let (Content::NoKey, Ok(parsed)) = (&self.content, &self.parsed) {
            self.content = Content::of(parsed, keys);
        }
    }
}

impl Content {
    fn of(parsed: &Parsed, keys: &KeyRing) -> Self {
        if parsed.check().is_err() {
            return Self::Unsigned;
        }
        let header = &parsed.header;
        let plain = match (header.suite, header.route.recipient()) {
            (Suite::Clear, _) => Ok(parsed.envelope.ct.to_vec().into()),
            (Suite::One, None) => {
                let (channel, e) = (header.channel, header.epoch);
                match keys.channel(Place { channel, e }) {
                    Some(key) => key.open(parsed),
                    None => return Self::NoKey,
                }
            }
            (Suite::One, Some(_)) => match keys.own_named(&header.recipient_key) {
                Some(key) => whisper::open(parsed, key),
                None => return Self::NoKey,
            },
        };
        match plain.map(|plain| Body::parse(&plain)) {
            Ok(Ok(body)) => Self::Body(Box::new(body)),
            Ok(Err(error)) => Self::Bad(error),
            Err(error) => Self::Broken(error),
        }
    }
}
