//! Spans of time as an operator writes them: `30d`, `12h`, `15m`, `90s`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

const UNITS: [(&str, u64); 4] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
];

/// A span of time in whole seconds. A bare number is days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(u64);

/// A text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a span of time such as 30d, 12h, 15m or 90s; got {0:?}")]
pub struct BadSpan(String);

impl Span {
    /// Returns so many days.
    #[must_use]
    pub const fn days(days: u32) -> Self {
        Self(days as u64 * 86_400_000)
    }

    /// Returns so many seconds.
    #[must_use]
    pub const fn seconds(seconds: u32) -> Self {
        Self(seconds as u64 * 1_000)
    }

    /// Returns the milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let unit = UNITS
            .iter()
            .find_map(|(word, ms)| Some((text.strip_suffix(word)?, *ms)));
        let (number, ms) = unit.unwrap_or((text, 86_400_000));
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number = number.parse::<u64>().ok().filter(|_| digits);
        let span = number.and_then(|number| number.checked_mul(ms));
        // SQLite and JSON have signed integers.
        let span = span.filter(|ms| i64::try_from(*ms).is_ok());
        span.map(Self).ok_or_else(|| BadSpan(text.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, ms)| self.0.is_multiple_of(*ms));
        let (unit, ms) = whole.unwrap_or(&("s", 1_000));
        write!(f, "{}{unit}", self.0 / ms)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time such as \"30d\", or a number of days")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, days: i64) -> Result<Span, E> {
                let days = u32::try_from(days);
                days.map(Span::days).map_err(|_| {
                    E::custom("a number of days is not negative, and not larger than 2^32")
                })
            }
        }
        d.deserialize_any(Text)
    }
}
