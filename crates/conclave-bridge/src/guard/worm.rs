//! The worm check: a text that several sessions bring within minutes, or that this one carries on from place
//! to place, is taken for one that spreads itself.
//!
//! Only long texts are looked at. One call is one target, however many it reaches. Pure.

use super::print::{Print, weight};
use crate::state::HomeId;
use conclave_proto::name::SessionPath;
use conclave_proto::time::UnixMs;
use std::collections::VecDeque;

/// Shorter texts are not looked at, in characters.
pub const BODY_CHARS_MIN: usize = 200;

/// For so long what came and went is compared.
const WINDOW_MS: u64 = 10 * 60_000;

/// So many targets of one text are one too many.
const TARGETS_MAX: usize = 3;

/// So many forwards of what came from elsewhere are one too many.
const FORWARDS_MAX: usize = 2;

/// The most texts remembered in each direction, and the most that are withheld.
const KEPT_MAX: usize = 256;
const WITHHELD_MAX: usize = 64;

/// The texts of one session.
#[derive(Debug, Default)]
pub struct Worm {
    came: VecDeque<Came>,
    sent: VecDeque<Sent>,
    withheld: VecDeque<Print>,
}

#[derive(Debug)]
struct Came {
    at: UnixMs,
    print: Print,
    from: (HomeId, SessionPath),
    place: String,
}

#[derive(Debug)]
struct Sent {
    at: UnixMs,
    print: Print,
    target: String,
}

/// Why a text is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// It went to too many targets, one call each.
    Targets,
    /// It came from elsewhere, and was carried on already.
    Forwards,
}

/// Returns the fingerprint of a text that is long enough to be looked at.
fn print(text: &str) -> Option<Print> {
    (text.chars().count() >= BODY_CHARS_MIN && weight(text) >= BODY_CHARS_MIN / 2)
        .then(|| Print::of(text))
}

impl Worm {
    /// Notes a text that came; returns whether another session brought it lately: then it is withheld from now
    /// on. `place` is where an answer to it would go, by the words of [`Self::send`].
    pub fn came(
        &mut self,
        at: UnixMs,
        from: (HomeId, &SessionPath),
        place: &str,
        text: &str,
    ) -> bool {
        let Some(print) = print(text) else {
            return false;
        };
        let from = (from.0, from.1.clone());
        // What was missed comes in any order.
        let near = |known: &Came| {
            at.since(known.at).max(known.at.since(at)) <= WINDOW_MS && known.print.is_near(print)
        };
        let spreads = self
            .came
            .iter()
            .any(|known| known.from != from && near(known));
        if self.came.len() >= KEPT_MAX {
            self.came.pop_front();
        }
        let place = place.to_owned();
        self.came.push_back(Came {
            at,
            print,
            from,
            place,
        });
        if spreads && !self.is_withheld(print) {
            if self.withheld.len() >= WITHHELD_MAX {
                self.withheld.pop_front();
            }
            self.withheld.push_back(print);
        }
        spreads
    }

    /// Returns whether a text is kept from the agent.
    #[must_use]
    pub fn withholds(&self, text: &str) -> bool {
        !self.withheld.is_empty() && print(text).is_some_and(|print| self.is_withheld(print))
    }

    fn is_withheld(&self, print: Print) -> bool {
        self.withheld.iter().any(|known| known.is_near(print))
    }

    /// Notes a text that is about to be sent, or says why it is not.
    ///
    /// # Errors
    /// [`Spread`].
    pub fn send(&mut self, at: UnixMs, target: &str, text: &str) -> Result<(), Spread> {
        let Some(print) = print(text) else {
            return Ok(());
        };
        let lately = |then: UnixMs| at.since(then) <= WINDOW_MS;
        let came: Vec<&str> = (self.came.iter())
            .filter(|came| lately(came.at) && came.print.is_near(print))
            .map(|came| came.place.as_str())
            .collect();
        // Who gives several a task of their own in the same form carries nothing on.
        let again = |sent: &&Sent| match came.is_empty() {
            true => sent.print.is_same(print),
            false => sent.print.is_near(print),
        };
        let before = self.sent.iter().filter(|s| lately(s.at)).filter(again);
        let mut targets: Vec<&str> = before.map(|sent| sent.target.as_str()).collect();
        targets.push(target);
        targets.sort_unstable();
        targets.dedup();
        let forwards = targets
            .iter()
            .filter(|target| !came.contains(target))
            .count();
        if !came.is_empty() && forwards >= FORWARDS_MAX && !came.contains(&target) {
            return Err(Spread::Forwards);
        }
        if targets.len() >= TARGETS_MAX {
            return Err(Spread::Targets);
        }
        if self.sent.len() >= KEPT_MAX {
            self.sent.pop_front();
        }
        let target = target.to_owned();
        self.sent.push_back(Sent { at, print, target });
        Ok(())
    }

    /// A human decided: everything is forgotten.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}
