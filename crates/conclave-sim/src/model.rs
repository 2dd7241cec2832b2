//! What must be true, told apart from the machines: every entry ever committed, and who may read what.
//!
//! The model watches commits at the store's door and clients' calls at theirs. It knows nothing of
//! hubs, frames or cursors.

use crate::invariant::{Broken, ensure};
use conclave_proto::channel_log::{CtlBody, ParsedCtl};
use conclave_proto::entry::{EntryBody, Header};
use conclave_proto::id::{LogId, MsgId, SenderSid, ServerId, UserId};
use conclave_proto::identity_log::IdentityLog;
use conclave_server::store::{Outcome, Write};
use std::collections::BTreeMap;

/// The reference.
#[derive(Debug)]
pub struct Model {
    /// Every log, entry by entry; the first has seq 1.
    pub logs: BTreeMap<LogId, Vec<EntryBody>>,
    places: BTreeMap<MsgId, (LogId, u64)>,
    /// What clients have asked to send: its log, and its number among the session's messages.
    sent: BTreeMap<MsgId, (LogId, u64)>,
    order: BTreeMap<(LogId, SenderSid), u64>,
    members: BTreeMap<(LogId, UserId), Stay>,
    /// Which server this is about.
    pub server: ServerId,
    /// Everybody's identity log.
    pub people: BTreeMap<UserId, IdentityLog>,
    /// Answers that said an entry is durable.
    pub acked: BTreeMap<MsgId, (LogId, u64)>,
}

/// The last time a user was in a channel: from which seq, and to which.
#[derive(Clone, Copy, Debug)]
struct Stay {
    to: Option<u64>,
}

impl Model {
    /// Makes the model of an empty server.
    #[must_use]
    pub const fn new(server: ServerId, people: BTreeMap<UserId, IdentityLog>) -> Self {
        Self {
            logs: BTreeMap::new(),
            places: BTreeMap::new(),
            sent: BTreeMap::new(),
            order: BTreeMap::new(),
            members: BTreeMap::new(),
            server,
            people,
            acked: BTreeMap::new(),
        }
    }

    /// A client sends a message; `n` counts what its session sends.
    pub fn sends(&mut self, msg: MsgId, log: LogId, n: u64) {
        self.sent.insert(msg, (log, n));
    }

    /// Writes became durable.
    ///
    /// # Errors
    /// [`Broken`] if the store gave places that are not the next ones, or stored what nobody sent.
    pub fn committed(&mut self, writes: &[Write], outcomes: &[Outcome]) -> Result<(), Broken> {
        for (write, outcome) in writes.iter().zip(outcomes) {
            let (log, body) = match write {
                Write::Append { log, env, .. } => (*log, EntryBody::Env(env.envelope.clone())),
                Write::Ctl { channel, rec } => {
                    (LogId::Channel(*channel), EntryBody::Ctl(rec.clone()))
                }
                _ => continue,
            };
            let Outcome::Appended { seq } = *outcome else {
                continue;
            };
            match &body {
                EntryBody::Env(env) => self.env(log, seq, Header::parse(&env.header))?,
                EntryBody::Ctl(rec) => self.ctl(log, seq, ParsedCtl::parse(rec).ok())?,
                EntryBody::Unknown(_) => {}
            }
            let entries = self.logs.entry(log).or_default();
            entries.push(body);
            let expected = u64::try_from(entries.len()).unwrap_or(0);
            ensure(seq == expected, || {
                format!("{log} got {seq} instead of {expected}")
            })?;
        }
        Ok(())
    }

    fn env(&mut self, log: LogId, seq: u64, header: Option<Header>) -> Result<(), Broken> {
        let header = header.ok_or_else(|| Broken("a header does not parse".to_owned()))?;
        let msg = header.msg_id;
        let sent = self.sent.get(&msg).copied();
        let (to, n) = sent.ok_or_else(|| Broken(format!("{msg} was never sent")))?;
        ensure(to == log, || format!("{msg} was sent to another log"))?;
        let twice = self.places.insert(msg, (log, seq));
        ensure(twice.is_none(), || {
            format!("{msg} was stored at {twice:?} and {seq}")
        })?;
        let before = self.order.insert((log, header.sid), n);
        ensure(before < Some(n), || {
            format!("{n} of a session came after {before:?}")
        })
    }

    fn ctl(&mut self, log: LogId, seq: u64, rec: Option<ParsedCtl>) -> Result<(), Broken> {
        let rec = rec.ok_or_else(|| Broken("a control record does not parse".to_owned()))?;
        match &rec.body {
            CtlBody::Create { .. } => {
                self.members
                    .insert((log, rec.author.user), Stay { to: None });
            }
            CtlBody::Add { user, .. } => {
                self.members.insert((log, *user), Stay { to: None });
            }
            CtlBody::Remove { user, .. } => {
                self.members.insert((log, *user), Stay { to: Some(seq) });
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns whether a user is a member now.
    #[must_use]
    pub fn is_member(&self, log: LogId, user: UserId) -> bool {
        matches!(self.members.get(&(log, user)), Some(Stay { to: None }))
    }

    /// An entry reached a client of this user.
    ///
    /// # Errors
    /// [`Broken`] if it is not what was committed there, or not for this user.
    pub fn delivered(
        &self,
        user: UserId,
        log: LogId,
        seq: u64,
        body: &EntryBody,
    ) -> Result<(), Broken> {
        let n = usize::try_from(seq).unwrap_or(0).wrapping_sub(1);
        let real = self.logs.get(&log).and_then(|entries| entries.get(n));
        ensure(real == Some(body), || {
            format!("{seq} of {log} is not what was committed")
        })?;
        if let LogId::Mailbox(_) = log {
            return Ok(());
        }
        let last = match self.members.get(&(log, user)) {
            None => 0,
            Some(Stay { to: None }) => u64::MAX,
            Some(Stay { to: Some(to) }) => *to,
        };
        ensure(seq <= last, || {
            format!("{user} got {seq} of {log}, but was in it until {last}")
        })
    }

    /// A client was told that its message is durable.
    ///
    /// # Errors
    /// [`Broken`] if it is not.
    pub fn acked(&mut self, msg: MsgId, log: LogId, seq: u64) -> Result<(), Broken> {
        let place = self.places.get(&msg).copied();
        ensure(place == Some((log, seq)), || {
            format!("{msg} was acknowledged at {seq} of {log}, but is at {place:?}")
        })?;
        self.acked.insert(msg, (log, seq));
        Ok(())
    }
}
