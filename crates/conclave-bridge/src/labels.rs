//! What this session says of itself on one server: role, status, summary, and groups by channel.
//!
//! Pure, but for the file it is kept in: `profiles/<handle>` beside the policy. The command line edits
//! the same file, and a running bridge reads it again when it changed.

use crate::files;
use conclave_proto::id::ChannelId;
use conclave_proto::name::Name;
use conclave_proto::profile::{GROUPS_MAX, Group, Label, Profile, SUMMARY_BYTES_MAX, Status};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const DIR: &str = "profiles";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// What it is.
    pub role: Option<Name>,
    /// What it is doing.
    pub status: Option<Status>,
    /// What it works on.
    pub summary: Option<String>,
    /// The groups it carries, by channel.
    pub groups: BTreeMap<ChannelId, Vec<Label>>,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// What it works on; none: nothing is said.
    Summary(Option<String>),
    /// What it is doing.
    Status(Status),
    /// It carries a group, or has another role there.
    Join(ChannelId, Label),
    /// It carries a group, and what is below it, no more.
    Leave(ChannelId, Group),
    /// What the user gave at the start: a role, and groups for these channels.
    Given(Option<Name>, Vec<ChannelId>, Vec<Label>),
    /// The session starts: what it was doing is over.
    Started,
    /// What the host says the agent is doing: who asked not to be disturbed still is not.
    Doing(Option<Status>),
}

/// Why something does not change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoChange {
    /// The summary is too long.
    #[error("a summary has at most {SUMMARY_BYTES_MAX} bytes")]
    Long,
    /// One group more than fits.
    #[error("a session carries at most {GROUPS_MAX} groups in a channel")]
    Full,
    /// It does not carry the group.
    #[error("this session does not carry @{0} here")]
    NotIn(Group),
}

impl Labels {
    /// Returns what is said in a channel.
    #[must_use]
    pub fn profile(&self, channel: &ChannelId) -> Profile {
        Profile {
            role: self.role.clone(),
            groups: self.groups.get(channel).cloned().unwrap_or_default(),
            status: self.status,
            summary: self.summary.clone(),
            wake: None,
        }
    }

    /// Changes something.
    ///
    /// # Errors
    /// [`NoChange`]; then everything is as before.
    pub fn apply(&mut self, change: Change) -> Result<(), NoChange> {
        match change {
            Change::Summary(text) => {
                if text
                    .as_ref()
                    .is_some_and(|text| text.len() > SUMMARY_BYTES_MAX)
                {
                    return Err(NoChange::Long);
                }
                self.summary = text.filter(|text| !text.trim().is_empty());
            }
            Change::Status(status) => self.status = Some(status),
            Change::Join(channel, label) => {
                let groups = self.groups.entry(channel).or_default();
                let full = groups.len() >= GROUPS_MAX;
                match groups.iter_mut().find(|known| known.name == label.name) {
                    Some(known) => *known = label,
                    None if full => return Err(NoChange::Full),
                    None => groups.push(label),
                }
            }
            Change::Leave(channel, group) => {
                let groups = self.groups.entry(channel).or_default();
                let before = groups.len();
                groups.retain(|label| !group.reaches(&label.name));
                let left = before > groups.len();
                if groups.is_empty() {
                    self.groups.remove(&channel);
                }
                if !left {
                    return Err(NoChange::NotIn(group));
                }
            }
            Change::Given(role, channels, groups) => {
                if groups.len() > GROUPS_MAX {
                    return Err(NoChange::Full);
                }
                self.role = role.or_else(|| self.role.take());
                if !groups.is_empty() {
                    let given = channels.into_iter().map(|id| (id, groups.clone()));
                    self.groups.extend(given);
                }
            }
            // Who asked not to be disturbed is not disturbed after a restart, either.
            Change::Doing(status) => {
                if self.status != Some(Status::Dnd) {
                    self.status = status;
                }
            }
            Change::Started => self.status = self.status.filter(|word| *word == Status::Dnd),
        }
        Ok(())
    }

    /// Returns the file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let groups = self.groups.iter().map(|(channel, groups)| {
            let groups: Vec<String> = groups.iter().map(Label::to_string).collect();
            (channel.to_string(), groups.into())
        });
        let groups: Map<String, Value> = groups.collect();
        json!({
            "role": self.role.as_ref().map(Name::as_str),
            "status": self.status.map(Status::as_str),
            "summary": self.summary,
            "groups": groups,
        })
        .to_string()
    }

    /// Reads the file's text; what does not fit is left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let word = |key: &str| value.get(key).and_then(Value::as_str);
        let labels = |all: &Value| -> Vec<Label> {
            let words = all.as_array().into_iter().flatten();
            let labels = words.filter_map(|word| word.as_str()?.parse().ok());
            labels.take(GROUPS_MAX).collect()
        };
        let groups = value.get("groups").and_then(Value::as_object);
        let groups = groups.into_iter().flatten();
        Self {
            role: word("role").and_then(|word| Name::new(word).ok()),
            status: word("status").and_then(Status::from_word),
            summary: word("summary")
                .filter(|text| text.len() <= SUMMARY_BYTES_MAX)
                .map(str::to_owned),
            groups: groups
                .filter_map(|(id, all)| Some((id.parse().ok()?, labels(all))))
                .collect(),
        }
    }

    /// Reads what a handle of this machine says on a server; nothing if there is no file.
    #[must_use]
    pub fn load(server_dir: &Path, handle: &Name) -> Self {
        let bytes = files::read(&path(server_dir, handle)).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// Those of the file system; then nothing changed.
    pub fn keep(&self, server_dir: &Path, handle: &Name) -> io::Result<()> {
        let dir = server_dir.join(DIR);
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&dir)?;
        files::replace(&dir, handle.as_str(), self.to_text().as_bytes())
    }
}

/// Which file it is: another one whenever somebody replaced it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Option<(std::time::SystemTime, u64, u64)>);

impl Stamp {
    /// Looks at the file of a handle, without reading it.
    pub(crate) fn of(server_dir: &Path, handle: &Name) -> Self {
        let meta = std::fs::metadata(path(server_dir, handle)).ok();
        Self(meta.and_then(|meta| {
            #[cfg(unix)]
            let inode = std::os::unix::fs::MetadataExt::ino(&meta);
            #[cfg(not(unix))]
            let inode = 0;
            Some((meta.modified().ok()?, meta.len(), inode))
        }))
    }
}

fn path(server_dir: &Path, handle: &Name) -> PathBuf {
    server_dir.join(DIR).join(handle.as_str())
}
