//! Quiet hours: whether a minute of the day is within them. Pure.

use crate::policy::Quiet;

/// How many minutes a day has.
pub const DAY_MIN: u16 = 24 * 60;

impl Quiet {
    /// Returns whether a minute of the day, by this machine's clock, is quiet. Hours that end when they begin are
    /// none.
    #[must_use]
    pub const fn has(&self, minute: u16) -> bool {
        match self.from <= self.until {
            true => self.from <= minute && minute < self.until,
            false => minute >= self.from || minute < self.until,
        }
    }
}
