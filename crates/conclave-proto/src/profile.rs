//! What a session says of itself in a channel: role, groups, status, summary.
//!
//! A profile lives as long as its session: the server keeps the newest one in memory, sealed like a
//! message where the channel is (`profile`, `profiles`). Words a peer chose freely are in
//! [`Profile::summary`] alone; everything else has a narrow alphabet.

use crate::body::word;
use crate::canonical::words;
use crate::name::{BadName, Name};
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The most groups a session carries in one channel.
pub const GROUPS_MAX: usize = 16;
/// The deepest group: `a/b/c/d`.
pub const GROUP_DEPTH_MAX: usize = 4;
/// The longest summary, in bytes.
pub const SUMMARY_BYTES_MAX: usize = 512;

/// A group's name: up to four [`Name`]s with `/` between them. `all` is everybody and no group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Group(String);

/// Why a text names no group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGroup {
    /// A part is no name.
    #[error("a group is up to four names with / between them: {0}")]
    Part(BadName),
    /// Deeper than [`GROUP_DEPTH_MAX`].
    #[error("a group has at most {GROUP_DEPTH_MAX} parts")]
    Deep,
    /// `all` means everybody.
    #[error("@all is everybody; choose another name")]
    All,
}

impl Group {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether a message to this group reaches who carries `label`: the group itself, or one below it.
    ///
    /// ```
    /// use conclave_proto::profile::Group;
    /// let group = |text: &str| text.parse::<Group>();
    /// assert!(group("eng")?.reaches(&group("eng/backend")?));
    /// assert!(!group("eng/backend")?.reaches(&group("eng")?));
    /// assert!(!group("eng")?.reaches(&group("english")?));
    /// # Ok::<(), conclave_proto::profile::BadGroup>(())
    /// ```
    #[must_use]
    pub fn reaches(&self, label: &Self) -> bool {
        let rest = label.0.strip_prefix(&self.0);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for Group {
    type Err = BadGroup;

    fn from_str(text: &str) -> Result<Self, BadGroup> {
        let text = text.strip_prefix('@').unwrap_or(text);
        let parts = text.split('/').map(Name::new);
        let parts = parts
            .collect::<Result<Vec<_>, _>>()
            .map_err(BadGroup::Part)?;
        if parts.len() > GROUP_DEPTH_MAX {
            return Err(BadGroup::Deep);
        }
        if parts.first().is_some_and(|part| part.as_str() == "all") {
            return Err(BadGroup::All);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Group {
    type Error = BadGroup;

    fn try_from(text: String) -> Result<Self, BadGroup> {
        text.parse()
    }
}

impl From<Group> for String {
    fn from(group: Group) -> Self {
        group.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A group that a session carries, and what it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The group.
    pub name: Group,
    /// A role in it, free-form in the alphabet of names: `lead`, `observer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
}

impl FromStr for Label {
    type Err = BadGroup;

    /// Reads `group` or `group:role`.
    fn from_str(text: &str) -> Result<Self, BadGroup> {
        let (name, role) = match text.split_once(':') {
            Some((name, role)) => (name, Some(role)),
            None => (text, None),
        };
        Ok(Self {
            name: name.parse()?,
            role: role.map(Name::new).transpose().map_err(BadGroup::Part)?,
        })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Some(role) => write!(f, "{}:{role}", self.name),
            None => self.name.fmt(f),
        }
    }
}

words! {
    /// What a session is doing.
    pub enum Status {
        /// Nothing: a message wakes it.
        Idle = "idle",
        /// A turn is under way.
        Working = "working",
        /// It waits for a human.
        Waiting = "waiting",
        /// It wants only what is urgent.
        Dnd = "dnd",
    }
}

words! {
    /// By which way a message reaches an agent.
    pub enum WakePath {
        /// A call of `wait_for_messages` that was waiting.
        Wait = "wait",
        /// The host's channel: the message itself.
        Channel = "channel",
        /// The plugin's monitor: a line that says that there is something.
        Monitor = "monitor",
        /// A hook at a boundary of the turn: the message itself.
        Hook = "hook",
        /// The host's own inbox: a line that says that there is something.
        Inbox = "inbox",
        /// A hook that waits in the background: a line that says that there is something.
        Rewake = "rewake",
    }
}

/// That a session's agent was woken: by which way, and when the evidence came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// By which way; a word of a newer version is taken as none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "word")]
    pub path: Option<WakePath>,
    /// When, by the session's clock.
    pub at: UnixMs,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What it is, free-form in the alphabet of names: `dev`, `reviewer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// The groups it carries in this channel, at most [`GROUPS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Label>,
    /// What it is doing; a word of a newer version is taken as none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "word")]
    pub status: Option<Status>,
    /// What it works on, in words of its own, at most [`SUMMARY_BYTES_MAX`] bytes. Peer text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When and how its agent was last woken for certain, by its own account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wake: Option<Wake>,
}

impl Profile {
    /// Returns whether everything is within its bounds.
    #[must_use]
    pub fn fits(&self) -> bool {
        let summary = self.summary.as_ref().map_or(0, String::len);
        self.groups.len() <= GROUPS_MAX && summary <= SUMMARY_BYTES_MAX
    }

    /// Returns whether a message to `group` is for who says this of itself.
    #[must_use]
    pub fn is_in(&self, group: &Group) -> bool {
        self.groups.iter().any(|label| group.reaches(&label.name))
    }
}
