//! Values that somebody calls a secret: `api_key = …`, `"token": "…"`, `Bearer …`, lines of an environment file.

use super::Rule;
use super::shape::{RANDOM_BYTES_MIN, is_hash, is_placeholder, is_random};

/// Words that call what follows a secret; of `key` alone a hash is no secret.
const WORDS: [&str; 8] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "key",
    "credential",
    "pwd",
];

/// Ends of names in an environment file.
const NAMES: [&str; 9] = [
    "PASSWORD",
    "PASSWD",
    "SECRET",
    "TOKEN",
    "API_KEY",
    "APIKEY",
    "ACCESS_KEY",
    "SECRET_KEY",
    "PRIVATE_KEY",
];

/// How much before the word is looked at for what else it says.
const NAME_BYTES: usize = 24;

/// The longest value that is looked at.
const VALUE_BYTES_MAX: usize = 512;

/// The shortest value of an environment file that counts.
const VALUE_BYTES_MIN: usize = 8;

/// Looks for values that are called secrets.
pub(super) fn scan(text: &str) -> Option<Rule> {
    if text.lines().any(is_environment) {
        return Some(Rule::Environment);
    }
    // Case is folded byte for byte: places are the same in both.
    let lower = text.to_ascii_lowercase();
    let named = |word: &'static str| {
        lower
            .match_indices(word)
            .any(|(at, _)| is_named(text, &lower, at, word))
    };
    let mut words = WORDS.iter();
    let bearer = || {
        let mut found = lower.match_indices("bearer ");
        found.any(|(at, word)| {
            value(text.get(at + word.len()..).unwrap_or_default()).is_some_and(is_secret)
        })
    };
    (words.any(|word| named(word)) || bearer()).then_some(Rule::Assigned)
}

/// Returns whether the word at a place calls what follows a secret, and that looks like one.
fn is_named(text: &str, lower: &str, at: usize, word: &str) -> bool {
    let rest = text.get(at + word.len()..).unwrap_or_default();
    let rest = rest.trim_start_matches(['"', '\'', '`', ' ', ')', '*']);
    let after = rest
        .strip_prefix("=>")
        .or_else(|| rest.strip_prefix(":="))
        .or_else(|| rest.strip_prefix(['=', ':']));
    let Some(value) = after.and_then(value) else {
        return false;
    };
    let before = lower.get(lower.floor_char_boundary(at.saturating_sub(NAME_BYTES))..at);
    let name = before
        .unwrap_or_default()
        .rsplit('\n')
        .next()
        .unwrap_or_default();
    // What is public is for everybody, whatever it is called.
    if ["public", "pub", "fingerprint"]
        .iter()
        .any(|w| name.contains(w))
    {
        return false;
    }
    is_secret(value) && !(word == "key" && is_hash(value))
}

/// Takes the value that stands at the beginning of a text.
fn value(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\t', '"', '\'', '`']);
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    let text = text.get(..text.floor_char_boundary(VALUE_BYTES_MAX.min(text.len())))?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+/=_.~-!@#%^&*".contains(c);
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    text.get(..end)
}

fn is_secret(value: &str) -> bool {
    value.len() >= RANDOM_BYTES_MIN && is_random(value) && !is_placeholder(value) && !is_uuid(value)
}

fn is_uuid(value: &str) -> bool {
    let groups: Vec<usize> = value.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && is_hash(value)
}

/// `NAME=value` as in an environment file, where the name says that it is a secret: as a line of its own, or in
/// running text.
fn is_environment(line: &str) -> bool {
    let mut pairs = line.match_indices('=');
    pairs.any(|(at, _)| {
        let (before, value) = (line.get(..at), line.get(at + 1..).unwrap_or_default());
        let before = before.unwrap_or_default();
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        let lead = before.trim_end_matches(is_name);
        let name = before.get(lead.len()..).unwrap_or_default();
        if lead.ends_with(|c: char| c.is_alphanumeric() || c == '-')
            || !NAMES.iter().any(|end| name.ends_with(end))
        {
            return false;
        }
        let alone = matches!(lead.trim(), "" | "export");
        let value = match alone {
            true => value.trim(),
            false => value.split_whitespace().next().unwrap_or_default(),
        };
        is_environment_value(value.trim_matches(['"', '\'', '`', ',', ';', ')']), alone)
    })
}

fn is_environment_value(value: &str, alone: bool) -> bool {
    let has = |what: fn(char) -> bool| value.contains(what);
    // In running text words with a dash are words.
    let mixed = has(|c| c.is_ascii_digit()) || alone && has(|c| c.is_ascii_punctuation());
    value.len() >= VALUE_BYTES_MIN
        && !value.contains(char::is_whitespace)
        && has(|c| c.is_ascii_alphabetic())
        && mixed
        && !value.starts_with(['$', '<', '{', '%', '/', '.', '*'])
        && !value.contains("://")
        && !is_placeholder(value)
}
