//! The first record of a channel, and what settings a channel can have.

use super::actor::{check_key, identity_at};
use super::body::{CtlBody, VerifiedCtl};
use super::word::{Limits, Mode, Role, Visibility};
use super::{Admission, ChannelLog, CtlError, Identities, MEMBERS_MAX, Member};
use crate::body::Head;
use crate::identity_log::Cap;
use crate::limit::TEXT_BYTES_MAX;
use crate::name::Name;
use crate::time::UnixMs;
use std::collections::{BTreeMap, BTreeSet};

impl ChannelLog {
    /// Starts a channel with its first record, whose signature was checked.
    ///
    /// # Errors
    /// [`CtlError`].
    pub fn start(
        seq: u64,
        at: UnixMs,
        rec: &VerifiedCtl,
        ids: &impl Identities,
    ) -> Result<Self, CtlError> {
        let CtlBody::Create {
            mode,
            visibility,
            history,
            name,
            topic,
            limits,
        } = &rec.body
        else {
            return Err(CtlError::Channel);
        };
        check_settings(*mode, *visibility, name.as_ref(), topic.as_deref())?;
        let author = &rec.author;
        let identity = identity_at(ids, &author.user, &author.ident)?;
        let machine = check_key(identity, rec, author.ident.n)?;
        if machine.is_some_and(|machine| !machine.caps.contains(&Cap::Create)) {
            return Err(CtlError::NoCreate);
        }
        if *visibility != Visibility::Private && name.is_none() {
            return Err(CtlError::Name);
        }
        let default = Limits {
            members_max: MEMBERS_MAX,
            retention_days: 0,
        };
        let limits = limits.unwrap_or(default);
        if limits.members_max == 0 || limits.members_max > MEMBERS_MAX {
            return Err(CtlError::Limit);
        }
        let owner = Member {
            name: identity.username().clone(),
            role: Role::Owner,
            ident: author.ident,
            since: seq,
            at,
            admission: Admission::Created,
        };
        let hash = rec.record().hash();
        Ok(Self {
            id: rec.channel,
            genesis: hash,
            head: Head { n: 0, hash },
            seq,
            mode: *mode,
            visibility: *visibility,
            history: *history,
            name: name.clone(),
            name_box: None,
            topic: topic.clone().filter(|topic| !topic.is_empty()),
            limits,
            creator: author.user,
            creator_lineage: machine.map(|machine| machine.lineage),
            members: [(author.user, owner)].into(),
            left: BTreeMap::new(),
            banned: BTreeSet::new(),
            invites: BTreeMap::new(),
            epochs: Vec::new(),
            stale: false,
            frozen: false,
            confidential: false,
            closed: false,
        })
    }
}

pub(super) fn check_settings(
    mode: Mode,
    visibility: Visibility,
    name: Option<&Name>,
    topic: Option<&str>,
) -> Result<(), CtlError> {
    if mode == Mode::E2e {
        if visibility == Visibility::Public {
            return Err(CtlError::ModeIsE2e);
        }
        if topic.is_some() || visibility == Visibility::Private && name.is_some() {
            return Err(CtlError::Mode);
        }
    }
    if name.is_some_and(|name| Name::claim(name.as_str()).is_err()) {
        return Err(CtlError::Name);
    }
    match topic {
        Some(t) if t.len() > TEXT_BYTES_MAX || t.chars().any(char::is_control) => {
            Err(CtlError::Topic)
        }
        _ => Ok(()),
    }
}
