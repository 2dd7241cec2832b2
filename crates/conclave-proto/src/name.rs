//! Names of users, machines, handles and channels (SECURITY D.5), and session paths made of them.
//!
//! One strict alphabet keeps look-alikes, bidi controls and separators out at the edge, so that a
//! [`Name`] can be printed anywhere. Names address; ids identify.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 32;

/// Words nobody may take as a user, handle or channel name.
pub const RESERVED: [&str; 15] = [
    "system",
    "server",
    "admin",
    "root",
    "owner",
    "human",
    "user",
    "claude",
    "anthropic",
    "conclave",
    "here",
    "all",
    "everyone",
    "cli",
    "desk",
];

/// The handle of command-line one-shots: hidden in rosters, without mailbox or cursor.
pub const CLI_HANDLE: &str = "cli";

/// The handle under which a machine takes permission requests: hidden in rosters, any number of processes at
/// once, with a mailbox that every enrolled machine has without asking.
pub const DESK_HANDLE: &str = "desk";

/// A name: `[a-z0-9][a-z0-9._-]{0,31}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Empty, or longer than [`NAME_BYTES_MAX`].
    #[error("a name has 1 to 32 characters")]
    Length,
    /// A character outside the alphabet, or a first character that is not a letter or digit.
    #[error("a name is made of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit")]
    Alphabet,
    /// One of [`RESERVED`].
    #[error("\"{0}\" is reserved")]
    Reserved(&'static str),
}

impl Name {
    /// Reads a name; reserved words are allowed (machines may be called anything well-formed).
    ///
    /// # Errors
    /// [`BadName::Length`] or [`BadName::Alphabet`].
    pub fn new(text: &str) -> Result<Self, BadName> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(BadName::Length);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let mut bytes = text.bytes();
        if !bytes.next().is_some_and(plain) || !bytes.all(|b| plain(b) || b"._-".contains(&b)) {
            return Err(BadName::Alphabet);
        }
        Ok(Self(text.into()))
    }

    /// Reads a name that somebody wants to take: as [`Name::new`], and not reserved.
    ///
    /// # Errors
    /// Any [`BadName`].
    pub fn claim(text: &str) -> Result<Self, BadName> {
        let name = Self::new(text)?;
        match RESERVED.iter().find(|word| **word == text) {
            Some(word) => Err(BadName::Reserved(word)),
            None => Ok(name),
        }
    }

    /// Turns any text into a name: lower case, other characters to `-`, cut to length.
    /// Empty and reserved results get `-1`, so that the outcome can always be claimed.
    #[must_use]
    pub fn slug(text: &str) -> Self {
        let mut out = String::new();
        for c in text.chars().flat_map(char::to_lowercase) {
            let c = if c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c) {
                c
            } else {
                '-'
            };
            let starts = out.is_empty();
            if !(starts && !c.is_ascii_alphanumeric() || c == '-' && out.ends_with('-')) {
                out.push(c);
            }
            if out.len() == NAME_BYTES_MAX {
                break;
            }
        }
        let out = out.trim_end_matches('-');
        if out.is_empty() {
            return Self("session-1".into());
        }
        if RESERVED.contains(&out) {
            return Self(format!("{out}-1").into());
        }
        Self(out.into())
    }

    /// Returns this name with `-n` behind it, shortened so that it fits.
    #[must_use]
    pub fn numbered(&self, n: u32) -> Self {
        let suffix = format!("-{n}");
        let keep = self.0.len().min(NAME_BYTES_MAX - suffix.len());
        Self(format!("{}{suffix}", &self.0[..keep]).into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::new(text)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        from_str(d, "a name")
    }
}

/// A session's full address, `user/machine/handle`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionPath {
    /// The user's name.
    pub user: Name,
    /// The machine's name, unique within the user.
    pub machine: Name,
    /// The session's handle, unique within the machine.
    pub handle: Name,
}

/// Why a text is no session path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Not three parts.
    #[error("a session path is user/machine/session")]
    Parts,
    /// A part is no name.
    #[error(transparent)]
    Name(#[from] BadName),
}

impl FromStr for SessionPath {
    type Err = BadPath;
    fn from_str(text: &str) -> Result<Self, BadPath> {
        let mut parts = text.split('/');
        let (Some(user), Some(machine), Some(handle), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadPath::Parts);
        };
        Ok(Self {
            user: Name::new(user)?,
            machine: Name::new(machine)?,
            handle: Name::new(handle)?,
        })
    }
}

impl fmt::Display for SessionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.user, self.machine, self.handle)
    }
}

impl fmt::Debug for SessionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for SessionPath {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionPath {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        from_str(d, "user/machine/session")
    }
}

fn from_str<'de, D: Deserializer<'de>, T>(d: D, expected: &'static str) -> Result<T, D::Error>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    struct Text<T>(&'static str, std::marker::PhantomData<T>);
    impl<T> serde::de::Visitor<'_> for Text<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    d.deserialize_str(Text(expected, std::marker::PhantomData))
}
