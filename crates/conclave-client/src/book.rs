//! What was verified: identities, channels, and whether an entry may be believed. Pure.
//!
//! The book never asks anybody: when an identity is missing, [`Verdict::Need`] says which, and the
//! same entry is checked again when it is there. A channel is kept twice: as of the newest record
//! known (for acting), and as of the place that the stream of entries has reached (for judging).

mod item;
pub mod keys;
pub mod opened;
mod profile;
mod verified;

use crate::event::NoticeKind;
use crate::replica::chain::ChannelPin;
use conclave_e2ee::Place;
use conclave_proto::bytes::sha256;
use conclave_proto::channel_log::{
    Admission, ChannelLog, CtlChange, CtlError, EnvError, Identities, ParsedCtl,
};
use conclave_proto::entry::{Entry, EntryBody, Parsed, Suite};
use conclave_proto::id::{Blob, ChannelId, Hash, LogId, RecipientKeyId, ServerId, UserId};
use conclave_proto::identity_log::{BadIdentity, IdentityLog};
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
pub use item::Unreadable;
use keys::KeyRing;
use opened::{Content, Opened};
use std::collections::HashMap;
pub use verified::Verified;

/// What an entry is worth.
#[derive(Debug)]
pub enum Verdict {
    /// A control record; it is applied.
    Ctl(CtlChange),
    /// Believed, as far as the book can tell; counters and ids are the replica's to know.
    Message(Box<Verified>),
    /// Something is needed first.
    Need(Need),
    /// Not to be believed.
    Refused(NoticeKind, String),
    /// Nothing of ours: of a newer version, or known already.
    Nothing,
}

/// What the book needs to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The identity log of a user, or more of it.
    Identity(UserId),
    /// Who has this name.
    User(Name),
    /// The key of an epoch.
    Key(Place),
    /// An encryption key of this machine.
    Own(RecipientKeyId),
}

/// What a message lets doubt: it was made by somebody who saw other things than this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The server shows different things to different members.
    Fork(String),
    /// The sender knows newer records of its own identity.
    Identity(UserId),
}

/// Who a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamePin {
    /// The user, as first seen.
    pub user: UserId,
    /// A human compared numbers.
    pub verified: bool,
    /// The name came with another user later.
    pub changed: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    server: ServerId,
    me: UserId,
    identities: HashMap<UserId, IdentityLog>,
    names: HashMap<Name, NamePin>,
    tips: HashMap<ChannelId, ChannelLog>,
    streams: HashMap<ChannelId, ChannelLog>,
    /// The places and hashes of control records, by number.
    chains: HashMap<ChannelId, Vec<(u64, Hash)>>,
    /// What channels are held to, whatever becomes of their chains.
    pins: HashMap<ChannelId, ChannelPin>,
    /// What this machine holds and knows of keys.
    pub keys: KeyRing,
}

impl Book {
    /// Starts with nothing known of a server, for the sessions of `me`.
    #[must_use]
    pub fn new(server: ServerId, me: UserId) -> Self {
        Self {
            server,
            me,
            identities: HashMap::new(),
            names: HashMap::new(),
            tips: HashMap::new(),
            streams: HashMap::new(),
            chains: HashMap::new(),
            pins: HashMap::new(),
            keys: KeyRing::default(),
        }
    }

    /// Returns whose sessions it serves.
    #[must_use]
    pub const fn me(&self) -> UserId {
        self.me
    }

    /// Returns whose records it holds.
    #[must_use]
    pub const fn server(&self) -> ServerId {
        self.server
    }

    /// Adds records of an identity log; those known already must be the same.
    ///
    /// # Errors
    /// [`BadIdentity`]; none of them is taken then.
    pub fn add_identity(&mut self, user: UserId, records: &[Blob]) -> Result<(), BadIdentity> {
        let mut records = records.iter();
        let mut log = match self.identities.get(&user) {
            Some(known) => known.clone(),
            None => {
                let Some(first) = records.next() else {
                    return Ok(());
                };
                let log = IdentityLog::genesis(first, &self.server)?;
                if log.user_id() != &user {
                    return Err(BadIdentity::Chain(0));
                }
                log
            }
        };
        records.try_for_each(|rec| log.append(rec).map(drop))?;
        self.identities.insert(user, log);
        Ok(())
    }

    /// Returns the number of the next identity record to fetch.
    #[must_use]
    pub fn next_identity(&self, user: &UserId) -> u64 {
        self.identities.get(user).map_or(0, |log| log.head().n + 1)
    }

    /// Pins a name, or notes that it changed.
    pub fn pin(&mut self, name: Name, pin: NamePin) {
        self.names.insert(name, pin);
    }

    /// Notes whom a server shows a name to stand for, beside whom it was pinned to. What a person said
    /// of the pinned user stays; so does the alarm once it was another.
    pub fn shown(&mut self, name: Name, pinned: UserId, shown: UserId) {
        let before = self.pinned(&name).filter(|pin| pin.user == pinned);
        let pin = NamePin {
            user: pinned,
            verified: before.is_some_and(|pin| pin.verified),
            changed: pinned != shown || before.is_some_and(|pin| pin.changed),
        };
        self.pin(name, pin);
    }

    /// Returns who a name stands for.
    #[must_use]
    pub fn pinned(&self, name: &Name) -> Option<NamePin> {
        self.names.get(name).copied()
    }

    /// Returns the channel as of the newest record known.
    #[must_use]
    pub fn tip(&self, channel: &ChannelId) -> Option<&ChannelLog> {
        self.tips.get(channel)
    }

    /// Returns every channel known.
    pub fn tips(&self) -> impl Iterator<Item = &ChannelLog> {
        self.tips.values()
    }

    /// Returns a channel's name: the one the server knows, or the one that members seal.
    #[must_use]
    pub fn channel_name(&self, channel: &ChannelId) -> Option<Name> {
        let open = self.tips.get(channel).and_then(|tip| tip.name().cloned());
        open.or_else(|| self.keys.bundle(channel)?.name.clone())
    }

    /// Forgets a channel: it is not ours any more.
    pub fn forget(&mut self, channel: &ChannelId) {
        self.tips.remove(channel);
        self.streams.remove(channel);
        self.chains.remove(channel);
    }

    /// Takes a channel as it was verified before: the server may never show less, or something else.
    pub fn restore(&mut self, log: ChannelLog, chain: Vec<(u64, Hash)>) {
        self.chains.insert(*log.id(), chain);
        self.tips.insert(*log.id(), log);
    }

    /// Holds a channel to its first record and to how far its chain was seen.
    pub fn hold(&mut self, channel: ChannelId, pin: ChannelPin) {
        self.pins.insert(channel, pin);
    }

    /// Returns what a channel is held to.
    #[must_use]
    pub fn held(&self, channel: &ChannelId) -> Option<ChannelPin> {
        self.pins.get(channel).copied()
    }

    /// Returns the place and hash of a control record, as it was verified.
    #[must_use]
    pub fn ctl_at(&self, channel: &ChannelId, n: u64) -> Option<(u64, Hash)> {
        let chain = self.chains.get(channel)?;
        chain.get(usize::try_from(n).ok()?).copied()
    }

    /// Returns whether a control record that is known stands at or before a place, and the channel as it
    /// was shown there does not have it.
    fn skips(&self, shown: &ChannelLog, seq: u64) -> bool {
        let next = self.ctl_at(shown.id(), shown.head().n + 1);
        next.is_some_and(|(place, _)| place <= seq)
    }

    /// Starts the stream of a channel with records from one's own replica.
    pub fn stream_from(&mut self, channel: ChannelId, log: ChannelLog) {
        self.streams.insert(channel, log);
    }

    /// Applies a control record to the newest state of its channel.
    ///
    /// # Errors
    /// [`CtlError`].
    pub fn advance_tip(
        &mut self,
        channel: ChannelId,
        seq: u64,
        at: UnixMs,
        rec: &Blob,
    ) -> Result<Option<CtlChange>, CtlError> {
        match self.tips.get_mut(&channel) {
            Some(tip) if seq <= tip.seq() => Ok(None),
            Some(tip) => {
                let change = tip.apply(seq, at, rec, &self.identities)?;
                let head = tip.head();
                let chain = self.chains.entry(channel).or_default();
                chain.push((seq, head.hash));
                self.pins
                    .entry(channel)
                    .and_modify(|pin| pin.c = pin.c.max(head.n));
                Ok(Some(change))
            }
            None => {
                let log = ChannelLog::create(seq, at, rec, &self.identities)?;
                if log.id() != &channel {
                    return Err(CtlError::Channel);
                }
                let genesis = *log.genesis();
                let pin = ChannelPin { genesis, c: 0 };
                if self.pins.entry(channel).or_insert(pin).genesis != genesis {
                    return Err(CtlError::Channel);
                }
                self.restore(log, vec![(seq, genesis)]);
                Ok(Some(CtlChange::Created))
            }
        }
    }

    /// Rebuilds a channel from records that were verified before.
    ///
    /// # Errors
    /// [`CtlError`], if the replica is damaged.
    pub fn rebuild(&self, records: &[(u64, UnixMs, Blob)]) -> Result<Option<ChannelLog>, CtlError> {
        let mut log: Option<ChannelLog> = None;
        for (seq, at, rec) in records {
            let rec = ParsedCtl::parse(rec)?.trust();
            match &mut log {
                Some(log) => {
                    log.extend(*seq, *at, &rec, &self.identities)?;
                }
                None => log = Some(ChannelLog::start(*seq, *at, &rec, &self.identities)?),
            }
        }
        Ok(log)
    }

    /// Judges the next entry of a log's stream and applies it if it is a control record.
    pub fn judge(
        &mut self,
        log: LogId,
        entry: &Entry,
        opened: &mut Option<Box<Opened>>,
    ) -> Verdict {
        match (&entry.body, log) {
            (EntryBody::Ctl(rec), LogId::Channel(channel)) => self.judge_ctl(channel, entry, rec),
            (EntryBody::Env(env), log) => {
                let opened = opened.get_or_insert_with(|| Box::new(Opened::new(env, &self.keys)));
                opened.retry(&self.keys);
                match log {
                    LogId::Mailbox(_) => self.judge_whisper(log, entry, opened),
                    LogId::Channel(channel) => match self.streams.get(&channel) {
                        Some(stream) => self.judge_env(stream, entry, opened),
                        None => Verdict::Refused(
                            NoticeKind::ChainBreak,
                            "no channel to judge it by".into(),
                        ),
                    },
                }
            }
            (EntryBody::Ctl(_), LogId::Mailbox(_)) => Verdict::Refused(
                NoticeKind::Malformed,
                "a control record in a mailbox".into(),
            ),
            (EntryBody::Unknown(_), _) => Verdict::Nothing,
        }
    }

    fn judge_ctl(&mut self, channel: ChannelId, entry: &Entry, rec: &Blob) -> Verdict {
        if let Err(error) = self.advance_tip(channel, entry.seq, entry.at, rec) {
            return refused_ctl(&error);
        }
        let next = match self.streams.get(&channel) {
            Some(stream) if entry.seq <= stream.seq() => return Verdict::Nothing,
            Some(stream) => stream.head().n + 1,
            None => 0,
        };
        if self.ctl_at(&channel, next) != Some((entry.seq, sha256(rec))) {
            return Verdict::Refused(
                NoticeKind::ServerFork,
                "the channel's control records were others before, or in other places".into(),
            );
        }
        let applied = match self.streams.get_mut(&channel) {
            Some(stream) => stream.apply(entry.seq, entry.at, rec, &self.identities),
            None => ChannelLog::create(entry.seq, entry.at, rec, &self.identities).map(|log| {
                self.streams.insert(channel, log);
                CtlChange::Created
            }),
        };
        match applied {
            Ok(change) => Verdict::Ctl(change),
            Err(error) => refused_ctl(&error),
        }
    }

    /// Judges an entry of a channel's past by the channel as it was then.
    #[must_use]
    pub fn judge_env(&self, channel: &ChannelLog, entry: &Entry, opened: &Opened) -> Verdict {
        let parsed = match &opened.parsed {
            Ok(parsed) => parsed,
            Err(error) => return Verdict::Refused(NoticeKind::Malformed, error.to_string()),
        };
        if self.skips(channel, entry.seq) {
            let text = "a control record that stands before it was shown in another place";
            return Verdict::Refused(NoticeKind::ServerFork, text.into());
        }
        match channel.check_env(&parsed.header, &self.identities) {
            Ok(()) => {}
            Err(EnvError::NeedIdentity { user, .. }) => {
                return Verdict::Need(Need::Identity(user));
            }
            Err(error) => return Verdict::Refused(notice_of(error), error.to_string()),
        }
        let Some((user, _)) = channel.member_named(&parsed.header.sender.user) else {
            return Verdict::Refused(NoticeKind::NotMember, "the sender is no member".into());
        };
        let log = LogId::Channel(*channel.id());
        match believe(log, *user, entry, parsed, opened) {
            Verdict::Message(m) if !m.is_message() => self.judge_item(channel, m, parsed),
            verdict => verdict,
        }
    }

    fn judge_whisper(&self, log: LogId, entry: &Entry, opened: &Opened) -> Verdict {
        let parsed = match &opened.parsed {
            Ok(parsed) => parsed,
            Err(error) => return Verdict::Refused(NoticeKind::Malformed, error.to_string()),
        };
        let header = &parsed.header;
        // A mailbox is named by user id, machine and handle: the recipient's name is looked at, too.
        let Some(me) = self.identities.get(&self.me) else {
            return Verdict::Need(Need::Identity(self.me));
        };
        let Some(pin) = self.names.get(&header.sender.user) else {
            return Verdict::Need(Need::User(header.sender.user.clone()));
        };
        let Some(identity) = self.identities.get(&pin.user) else {
            return Verdict::Need(Need::Identity(pin.user));
        };
        let machine = identity.machine(&header.sender_key);
        let fits = machine.is_some_and(|m| m.name == header.sender.machine)
            && *identity.username() == header.sender.user;
        let to = header.route.recipient();
        let ours = to.is_some_and(|path| path.user == *me.username())
            && header.log(|_| Some(self.me)) == Some(log)
            && header.channel.as_bytes() == &self.server.as_bytes()[..16];
        match (ours, machine) {
            (false, _) => Verdict::Refused(NoticeKind::Malformed, "not a whisper to here".into()),
            (true, _) if header.suite == Suite::Clear => {
                Verdict::Refused(NoticeKind::Downgrade, "a whisper that is not sealed".into())
            }
            (true, _) if pin.changed => Verdict::Refused(
                NoticeKind::PinChanged,
                format!("{} is another user than before", header.sender.user),
            ),
            (true, None) => Verdict::Need(Need::Identity(pin.user)),
            (true, Some(_)) if fits => believe(log, pin.user, entry, parsed, opened),
            (true, Some(_)) => Verdict::Refused(
                NoticeKind::BadSignature,
                "the key is not the sender's".into(),
            ),
        }
    }

    /// Compares what a sender had seen with what this machine was shown (SECURITY 2.5): its newest
    /// control record stands before the message in the server's order, so it must be known here, too.
    #[must_use]
    pub fn doubt(&self, m: &Verified) -> Option<Doubt> {
        if let (Some(head), LogId::Channel(channel)) = (m.body.ctl_head, m.log) {
            let reached = self.streams.get(&channel).map_or(0, |log| log.head().n);
            if head.n > reached || self.ctl_hash(&channel, head.n) != Some(head.hash) {
                let text = format!("{} was shown other control records", m.sender);
                return Some(Doubt::Fork(text));
            }
        }
        let head = m.body.ident_head?;
        match self.identities.get(&m.user)?.hash_at(head.n) {
            Some(hash) if *hash == head.hash => None,
            Some(_) => {
                let text = format!("{} has another identity than it is shown with", m.sender);
                Some(Doubt::Fork(text))
            }
            None => Some(Doubt::Identity(m.user)),
        }
    }

    /// Returns when a sender entered a channel and whether somebody here vouches for it: `me` let it
    /// in, it let `me` in, or it made the channel.
    #[must_use]
    pub fn standing(
        &self,
        channel: &ChannelId,
        user: &UserId,
        me: &UserId,
    ) -> (Option<UnixMs>, bool) {
        let Some(tip) = self.tips.get(channel) else {
            return (None, false);
        };
        let by = |member: Option<&conclave_proto::channel_log::Member>| match member?.admission {
            Admission::Added { by } | Admission::Invited { by, .. } => Some(by),
            Admission::Created | Admission::Open => None,
        };
        let vouched = by(tip.member(user)) == Some(*me)
            || by(tip.member(me)) == Some(*user)
            || tip.creator() == user;
        (tip.member(user).map(|member| member.at), vouched)
    }
}

impl Identities for Book {
    fn identity(&self, user: &UserId) -> Option<&IdentityLog> {
        self.identities.get(user)
    }
}

/// Believes an entry that may stand where it stands, if its content is what the sender signed.
fn believe(log: LogId, user: UserId, entry: &Entry, parsed: &Parsed, opened: &Opened) -> Verdict {
    let header = &parsed.header;
    let refused = |kind, text: &str| Verdict::Refused(kind, text.to_owned());
    match &opened.content {
        Content::Body(body) => {
            let body = (**body).clone();
            Verdict::Message(Box::new(Verified::new(
                log,
                user,
                entry,
                header,
                body,
                opened.hash,
            )))
        }
        Content::Unsigned => refused(NoticeKind::BadSignature, "the signature is not valid"),
        Content::Bad(error) => refused(NoticeKind::Malformed, &error.to_string()),
        Content::Broken(error) => refused(NoticeKind::BadSeal, &error.to_string()),
        Content::NoKey => match log {
            LogId::Channel(channel) => Verdict::Need(Need::Key(Place {
                channel,
                e: header.epoch,
            })),
            LogId::Mailbox(_) => Verdict::Need(Need::Own(header.recipient_key)),
        },
    }
}

fn refused_ctl(error: &CtlError) -> Verdict {
    match error {
        CtlError::NeedIdentity { user, .. } => Verdict::Need(Need::Identity(*user)),
        other => Verdict::Refused(NoticeKind::ChainBreak, other.to_string()),
    }
}

const fn notice_of(error: EnvError) -> NoticeKind {
    match error {
        EnvError::NotMember | EnvError::Reader | EnvError::NoSend => NoticeKind::NotMember,
        EnvError::Key => NoticeKind::BadSignature,
        EnvError::Mode => NoticeKind::Downgrade,
        EnvError::StaleEpoch => NoticeKind::BadEpoch,
        EnvError::Channel | EnvError::Frozen | EnvError::Closed | EnvError::NeedIdentity { .. } => {
            NoticeKind::Malformed
        }
    }
}
