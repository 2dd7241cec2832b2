//! Reading and writing small things: spans of time, moments, the text of peers.

use conclave_proto::time::UnixMs;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A length of time as people type it: `90s`, `15m`, `48h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// In milliseconds.
    pub(crate) ms: u64,
}

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a number and a unit, for example 90s, 15m, 48h or 7d".to_owned();
        let unit = text.chars().next_back().ok_or_else(wrong)?;
        let number: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
        let unit_ms = match unit {
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            _ => return Err(wrong()),
        };
        number
            .checked_mul(unit_ms)
            .map(|ms| Self { ms })
            .ok_or_else(wrong)
    }
}

/// Where to start reading: so long ago, at a moment, or after a seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// At this moment.
    Time(UnixMs),
    /// After this seq.
    Seq(u64),
}

impl FromStr for Since {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::Seq(seq));
        }
        if let Ok(span) = Span::from_str(text) {
            return Ok(Self::Time(UnixMs(now().0.saturating_sub(span.ms))));
        }
        let moment: Timestamp = text.parse().map_err(|_| {
            "expected a span (2h), a time (2026-01-31T09:00:00Z) or a seq (42)".to_owned()
        })?;
        Ok(Self::Time(UnixMs(
            u64::try_from(moment.as_millisecond()).unwrap_or(0),
        )))
    }
}

/// The time now, by the wall clock.
pub(crate) fn now() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The minute of the day of a moment, where this machine is.
pub(crate) fn minute(at: UnixMs) -> u16 {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    let moment = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let time = moment.to_zoned(TimeZone::system()).time();
    u16::try_from(i16::from(time.hour()) * 60 + i16::from(time.minute())).unwrap_or_default()
}

/// A moment, for people and programs alike: RFC 3339 in UTC, whole seconds.
pub(crate) fn moment(at: UnixMs) -> String {
    i64::try_from(at.0)
        .ok()
        .and_then(|ms| Timestamp::from_second(ms / 1000).ok())
        .map_or_else(|| format!("{} ms", at.0), |t| t.to_string())
}

/// Makes peer text safe for a terminal: control and direction characters become visible.
pub(crate) fn printable(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control() && c != '\n' && c != '\t'
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// As [`printable`], on one line.
pub(crate) fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}
