//! Timers of the pure machines: a table with one slot per reason.
//!
//! A machine asks for the earliest deadline and takes what is due; nobody here reads a clock.

use crate::time::Mono;

/// Deadlines, at most one for each reason.
#[derive(Clone, Debug)]
pub struct Timers<R>(Vec<(R, Mono)>);

impl<R> Default for Timers<R> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<R: Copy + PartialEq> Timers<R> {
    /// Sets the deadline of `reason`, in place of an earlier one.
    pub fn set(&mut self, reason: R, at: Mono) {
        self.stop(reason);
        self.0.push((reason, at));
    }

    /// Sets the deadline of `reason` unless it has one.
    pub fn set_if_unset(&mut self, reason: R, at: Mono) {
        if !self.0.iter().any(|(r, _)| *r == reason) {
            self.0.push((reason, at));
        }
    }

    /// Takes the deadline of `reason` away.
    pub fn stop(&mut self, reason: R) {
        self.0.retain(|(r, _)| *r != reason);
    }

    /// Takes every deadline away.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the earliest reason whose time has come.
    pub fn take_due(&mut self, now: Mono) -> Option<R> {
        let (reason, at) = self.0.iter().min_by_key(|(_, at)| *at).copied()?;
        (at <= now).then(|| {
            self.stop(reason);
            reason
        })
    }

    /// Returns the earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Mono> {
        self.0.iter().map(|(_, at)| *at).min()
    }
}
