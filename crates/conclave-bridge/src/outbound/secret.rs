//! Credentials in a text that is about to leave (SECURITY B.7). Names the rule, never what matched.
//!
//! A text is looked at as a reader sees it: what is invisible is left out, compatible forms are made one, and
//! for what has a form of its own once more without its line breaks. What only names a secret passes:
//! placeholders, examples, hashes, public keys. It finds what is lying around, not what somebody encodes.

mod assigned;
mod shape;

use crate::render::sanitise::is_forbidden;
use crate::tool::args::Object;
use conclave_client::owner::Owner;
use serde_json::Value;
use std::fmt;
use unicode_normalization::UnicodeNormalization as _;

macro_rules! rules {
    ($($variant:ident = $word:literal),* $(,)?) => {
        /// What kind of credential was found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "each is named by its word")]
        pub enum Rule { $($variant),* }

        impl Rule {
            /// Returns what is called so, for people and agents.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

rules! {
    PrivateKey = "a private key", Aws = "an AWS access key id", GitHub = "a GitHub token",
    GitLab = "a GitLab token", Anthropic = "an Anthropic API key", OpenAi = "an API key (sk-)",
    Slack = "a Slack token or webhook", Npm = "an npm token", Google = "a Google API key", Stripe = "a Stripe key",
    Registry = "a package registry token", Jwt = "a signed web token (JWT)", Url = "a password in a URL",
    RecoveryKey = "a Conclave recovery key", Link = "a Conclave invite or machine link",
    Assigned = "a value that is called a secret", Environment = "a credential of an environment file",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Looks for a secret in whatever a call carries: in each text, and in JSON as it is written.
#[must_use]
pub fn scan_args(args: &Object) -> Option<Rule> {
    args.values().find_map(scan_value)
}

fn scan_value(value: &Value) -> Option<Rule> {
    match value {
        Value::String(text) => scan(text),
        Value::Array(all) => all.iter().find_map(scan_value),
        // A key that says what its value is counts as in a file.
        Value::Object(all) => {
            let pair = |(key, value): (&String, &Value)| match value {
                Value::String(text) => scan(&format!("{key}: {text}")),
                other => scan(key).or_else(|| scan_value(other)),
            };
            all.iter().find_map(pair)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Looks for a secret in a text.
#[must_use]
pub fn scan(text: &str) -> Option<Rule> {
    let seen = visible(text);
    look(&seen).or_else(|| look(&from_address(&seen)?))
}

fn look(seen: &str) -> Option<Rule> {
    let found = private_key(seen)
        .or_else(|| tokens(seen))
        .or_else(|| webhook(seen))
        .or_else(|| password_in_url(seen))
        .or_else(|| recovery_key(seen))
        .or_else(|| assigned::scan(seen));
    if found.is_some() || !seen.contains('\n') {
        return found;
    }
    let joined = joined(seen);
    tokens(&joined).or_else(|| password_in_url(&joined))
}

/// What a reader sees.
fn visible(text: &str) -> String {
    let line = |c: char| match c {
        '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
        c => c,
    };
    let kept = text.chars().map(line).filter(|c| !is_forbidden(*c));
    let kept: String = kept.nfkc().collect();
    match kept.contains('\\') {
        true => from_string(&kept),
        false => kept,
    }
}

/// The text without the escapes of a string in JSON or a program: a line break that is written out hides what
/// begins behind it.
fn from_string(text: &str) -> String {
    let text = text.replace("\\n", "\n").replace("\\r", "\n");
    text.replace("\\t", "\t").replace("\\\"", "\"")
}

/// The text as it was before it was put into an address, if it was: `%3D` is `=`.
fn from_address(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let (mut plain, mut any) = (parts.next()?.to_owned(), false);
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                any = true;
                plain.push(char::from(code));
                plain.push_str(part.get(2..).unwrap_or_default());
            }
            None => {
                plain.push('%');
                plain.push_str(part);
            }
        }
    }
    any.then_some(plain)
}

/// No token is longer than this: what is behind it is not looked at again.
const TOKEN_BYTES_MAX: usize = 512;

/// The text without its line breaks and what stands around them. A space stays where a line ends in a word of
/// prose, so that only what is cut within itself grows together.
fn joined(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for line in text.split('\n') {
        let line = line
            .trim()
            .trim_start_matches(['"', '\'', '>', '+', '|', '`']);
        let line = line.trim_start();
        let end = whole.len() - whole.len().min(TOKEN_BYTES_MAX);
        let tail = whole
            .get(whole.ceil_char_boundary(end)..)
            .unwrap_or_default();
        let last = tail.rsplit(' ').next().unwrap_or_default();
        if !shape::may_go_on(last) {
            whole.push(' ');
        }
        whole.push_str(line.trim_end_matches(['"', '\'', '+', '\\', '`', ' ']));
    }
    whole
}

/// A token with a prefix of its own.
struct Form {
    rule: Rule,
    prefix: &'static str,
    /// What else than letters and digits it consists of.
    marks: &'static str,
    /// How many characters follow at least.
    least: usize,
    /// How many follow at most; one more, and it is something else.
    most: usize,
}

const fn form(rule: Rule, prefix: &'static str, marks: &'static str, least: usize) -> Form {
    Form {
        rule,
        prefix,
        marks,
        least,
        most: usize::MAX,
    }
}

const FORMS: &[Form] = &[
    Form {
        most: 16,
        ..form(Rule::Aws, "AKIA", "", 16)
    },
    Form {
        most: 16,
        ..form(Rule::Aws, "ASIA", "", 16)
    },
    form(Rule::GitHub, "ghp_", "", 30),
    form(Rule::GitHub, "gho_", "", 30),
    form(Rule::GitHub, "ghu_", "", 30),
    form(Rule::GitHub, "ghs_", "", 30),
    form(Rule::GitHub, "ghr_", "", 30),
    form(Rule::GitHub, "github_pat_", "_", 36),
    form(Rule::GitLab, "glpat-", "_-.", 18),
    form(Rule::GitLab, "gldt-", "_-", 18),
    form(Rule::Anthropic, "sk-ant-", "_-", 20),
    form(Rule::OpenAi, "sk-proj-", "_-", 20),
    form(Rule::OpenAi, "sk-svcacct-", "_-", 20),
    form(Rule::OpenAi, "sk-or-v1-", "", 32),
    form(Rule::OpenAi, "sk-", "", 32),
    form(Rule::Slack, "xoxb-", "-", 20),
    form(Rule::Slack, "xoxa-", "-", 20),
    form(Rule::Slack, "xoxp-", "-", 20),
    form(Rule::Slack, "xoxr-", "-", 20),
    form(Rule::Slack, "xoxs-", "-", 20),
    form(Rule::Slack, "xapp-", "-", 20),
    form(Rule::Npm, "npm_", "", 30),
    form(Rule::Google, "AIza", "_-", 35),
    form(Rule::Google, "GOCSPX-", "_-", 20),
    form(Rule::Stripe, "sk_live_", "", 16),
    form(Rule::Stripe, "rk_live_", "", 16),
    form(Rule::Registry, "pypi-AgE", "_-", 40),
    form(Rule::Registry, "hf_", "", 30),
    form(Rule::Registry, "dckr_pat_", "_-", 20),
    form(Rule::Registry, "dop_v1_", "", 40),
    form(Rule::PrivateKey, "AGE-SECRET-KEY-1", "", 50),
    form(Rule::PrivateKey, "b3BlbnNzaC1rZXktdjE", "+/=", 40),
    form(Rule::PrivateKey, "MC4CAQAwBQYDK2VwBCIEI", "+/=", 40),
    form(Rule::PrivateKey, "MIIEv", "+/=", 200),
    form(Rule::Link, "1.", "_-", 40),
    form(Rule::Jwt, "eyJ", "_-", 10),
];

/// Looks for tokens that have a form of their own.
fn tokens(text: &str) -> Option<Rule> {
    let mut before = None;
    for (at, c) in text.char_indices() {
        let is_start = !before.is_some_and(|b: char| b.is_ascii_alphanumeric() || "_-".contains(b));
        let first = is_start && c.is_ascii_alphanumeric();
        let rest = text.get(at..).unwrap_or_default();
        if let Some(form) = FORMS
            .iter()
            .filter(|_| first)
            .find(|form| form.fits(rest, before))
        {
            return Some(form.rule);
        }
        before = Some(c);
    }
    None
}

impl Form {
    /// Returns whether a text begins with such a token.
    fn fits(&self, text: &str, before: Option<char>) -> bool {
        let Some(rest) = text.strip_prefix(self.prefix) else {
            return false;
        };
        let is_part = |c: char| c.is_ascii_alphanumeric() || self.marks.contains(c);
        let long = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        if long < self.least || long > self.most {
            return false;
        }
        let body = rest.get(..long).unwrap_or_default();
        let behind = rest.get(long..).unwrap_or_default();
        let fits = match self.rule {
            // Three parts, the first two of them JSON.
            Rule::Jwt => is_jwt(behind),
            // In the fragment of an address.
            Rule::Link => before == Some('#') && behind.starts_with('.'),
            Rule::Aws => !body.bytes().any(|b| b.is_ascii_lowercase()),
            _ => true,
        };
        fits && !shape::is_placeholder(body.get(..body.len().min(self.least)).unwrap_or(body))
    }
}

fn is_jwt(behind: &str) -> bool {
    let long = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-');
        end.unwrap_or(part.len())
    };
    let Some(claims) = behind.strip_prefix(".eyJ") else {
        return false;
    };
    let end = long(claims);
    let signature = claims.get(end..).and_then(|rest| rest.strip_prefix('.'));
    end >= 6 && signature.is_some_and(|rest| long(rest) >= 16)
}

/// How far behind its first line a private key is looked for.
const KEY_BYTES: usize = 2_048;
/// So many characters of it are enough.
const KEY_CHARS: usize = 40;

/// A private key in its text form: what only names the form passes.
fn private_key(text: &str) -> Option<Rule> {
    let heads = text.match_indices("-----BEGIN").filter_map(|(at, head)| {
        let rest = text.get(at + head.len()..)?;
        let end = rest.find("-----")?;
        let kind = rest.get(..end)?;
        (end <= 40 && kind.contains("PRIVATE KEY")).then(|| rest.get(end + 5..))?
    });
    let holds_key = |body: &str| {
        let body = body.get(..body.floor_char_boundary(KEY_BYTES.min(body.len())));
        let body = body.unwrap_or_default();
        let body = body
            .split("-----END")
            .next()
            .unwrap_or_default()
            .replace("\\n", "\n");
        let parts = body.split(|c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c));
        let chars: usize = parts.filter(|part| part.len() >= 4).map(str::len).sum();
        chars >= KEY_CHARS && !shape::is_placeholder(&body.replace(char::is_whitespace, ""))
    };
    let mut heads = heads;
    heads.any(holds_key).then_some(Rule::PrivateKey)
}

fn webhook(text: &str) -> Option<Rule> {
    let mut found = text.split("hooks.slack.com/services/").skip(1);
    let is_secret = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '/');
        let path = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        path.len() >= 30 && !shape::is_placeholder(path)
    };
    found.any(is_secret).then_some(Rule::Slack)
}

/// `scheme://user:password@host`.
fn password_in_url(text: &str) -> Option<Rule> {
    let is_secret = |(at, _): (usize, &str)| {
        let rest = text.get(at + 3..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || "/\"'`<>?#,".contains(c));
        let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        let Some((user, password)) = authority
            .rsplit_once('@')
            .and_then(|(account, _)| account.split_once(':'))
        else {
            return false;
        };
        let plain = [
            "password", "pass", "passwd", "pwd", "secret", "token", "postgres", "root", "guest",
            "user",
        ];
        let is_named = |name: &str| password.eq_ignore_ascii_case(name);
        password.len() >= 4
            && !password.starts_with(['$', '{', '%', '[', '*', '('])
            && password != user
            && !plain.iter().any(|name| is_named(name))
            && !shape::is_placeholder(password)
    };
    text.match_indices("://")
        .any(is_secret)
        .then_some(Rule::Url)
}

/// How many characters a recovery key has, without what is between its groups.
const RECOVERY_CHARS: usize = 56;

/// A recovery key proves itself by its checksum, however it is grouped.
fn recovery_key(text: &str) -> Option<Rule> {
    let parts: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect();
    let is_key = |from: usize| {
        let mut whole = String::with_capacity(RECOVERY_CHARS);
        for part in parts.iter().skip(from) {
            whole.push_str(part);
            if whole.len() >= RECOVERY_CHARS {
                break;
            }
        }
        let has_digit = whole.bytes().any(|b| b.is_ascii_digit());
        whole.len() == RECOVERY_CHARS && has_digit && Owner::from_recovery(&whole).is_ok()
    };
    (0..parts.len()).any(is_key).then_some(Rule::RecoveryKey)
}
