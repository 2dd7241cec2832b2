//! Encryption keys and wraps: announced, brought, fetched, and asked for where one is missing.
//!
//! The server never sees a channel key. It stores what members bring and says who lacks a wrap; whom
//! to seal to, every client decides from the signed logs.

use super::access::not_found;
use super::quota::wraps_bytes;
use super::state::{HubState, Pending, Session};
use super::{ConnId, Effect, Load, Purpose};
use crate::store::{AnnouncementRow, Outcome, PageQuery, Write};
use conclave_proto::channel_log::{ChannelLog, History, SignerKey};
use conclave_proto::encryption_key::Announcement;
use conclave_proto::frame::event::{EpochOf, Event};
use conclave_proto::frame::op::{EkFetch, Nothing, WrapFetch, WrapMissing, WrapPut};
use conclave_proto::frame::reply::{Eks, Missing, Reply};
use conclave_proto::id::{Blob, ChannelId, LogId, UserId};
use conclave_proto::key::{HolderKey, MachineKey, OwnerKey};
use conclave_proto::limit::{ENCRYPTION_KEY_MS_MAX, WRAPS_MAX};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

/// How far ahead of the server's the clock of who announces a key may be.
const SKEW_MS: u64 = 86_400_000;
/// How many sessions are asked at a time for a wrap that is missing.
const HELPERS_MAX: usize = 8;
/// How often they are asked for the same one.
const ASK_MS: u64 = 1_000;
/// How long it is remembered who was asked last, so that others are next.
const ASKED_MS: u64 = 60_000;
/// How many missing wraps that is remembered of; beyond it they are asked for without a pause.
const ASKED_MAX: usize = 16_384;

/// What the hub knows of keys. Invariant: only what is durable.
#[derive(Debug, Default)]
pub(super) struct Keys {
    announced: BTreeMap<HolderKey, AnnouncementRow>,
    wrapped: BTreeMap<ChannelId, Wrapped>,
    asked: BTreeMap<(ChannelId, HolderKey), Asked>,
}

/// Who has a wrap of one epoch.
#[derive(Debug, Default)]
struct Wrapped {
    e: u32,
    holders: BTreeSet<HolderKey>,
}

/// When sessions were asked for a missing wrap, and which one of them last.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Mono,
    last: ConnId,
}

/// Wraps on their way into the store.
#[derive(Debug)]
pub(super) struct PutWraps {
    /// Whom to answer, if they were not brought with the epoch's record.
    pub(super) answer: Option<(ConnId, u64)>,
    pub(super) channel: ChannelId,
    pub(super) e: u32,
    pub(super) holders: Vec<HolderKey>,
}

impl Keys {
    pub(super) fn load(
        announced: Vec<AnnouncementRow>,
        wrapped: Vec<(ChannelId, u32, HolderKey)>,
    ) -> Self {
        let mut keys = Self {
            announced: announced.into_iter().map(|row| (row.holder, row)).collect(),
            ..Self::default()
        };
        for (channel, e, holder) in wrapped {
            keys.mark(channel, e, &[holder]);
        }
        keys
    }

    /// Forgets whom it asked long ago.
    pub(super) fn evict(&mut self, now: Mono) {
        self.asked.retain(|_, asked| now.since(asked.at) < ASKED_MS);
    }

    /// Forgets a channel that was deleted.
    pub(super) fn forget(&mut self, channel: &ChannelId) {
        self.wrapped.remove(channel);
    }

    /// Notes who has a wrap now, and returns who had none before.
    fn mark(&mut self, channel: ChannelId, e: u32, holders: &[HolderKey]) -> BTreeSet<HolderKey> {
        let wrapped = self.wrapped.entry(channel).or_default();
        if wrapped.e < e {
            let holders = BTreeSet::new();
            *wrapped = Wrapped { e, holders };
        }
        if wrapped.e != e {
            return BTreeSet::new();
        }
        let new = holders.iter().filter(|h| wrapped.holders.insert(**h));
        new.copied().collect()
    }

    fn unmark(&mut self, channel: &ChannelId, holder: &HolderKey, epochs: &[u32]) {
        if let Some(wrapped) = self.wrapped.get_mut(channel)
            && epochs.contains(&wrapped.e)
        {
            wrapped.holders.remove(holder);
        }
    }

    fn has(&self, channel: &ChannelId, e: u32, holder: &HolderKey) -> bool {
        let wrapped = self.wrapped.get(channel).filter(|w| w.e == e);
        wrapped.is_some_and(|w| w.holders.contains(holder))
    }
}

impl HubState {
    /// Takes the announcement of an encryption key of the session's machine, or of an owner key of its
    /// user; generations only grow.
    pub(super) fn announce_key(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        announced: &Announcement,
        rec: Blob,
    ) -> Result<(), Reject> {
        let me = self.session(conn)?;
        if announced.server != self.settings.server_id {
            let text = "the announcement is for another server";
            return Err(Reject::new(Code::Malformed, text));
        }
        let account = self.dir.users.get(&me.user);
        let mine = account.is_some_and(|u| match &announced.holder {
            SignerKey::Machine(key) => *key == me.key && u.log.machine(key).is_some(),
            SignerKey::Owner(key) => u.log.is_owner(key),
        });
        if !mine {
            let text = "the key is neither of this machine nor of an owner key of yours";
            return Err(Reject::new(Code::Unauthorized, text));
        }
        let latest = now.wall.plus(ENCRYPTION_KEY_MS_MAX).plus(SKEW_MS);
        if matches!(announced.holder, SignerKey::Machine(_)) && announced.not_after > latest {
            let days = ENCRYPTION_KEY_MS_MAX / SKEW_MS;
            let text = format!("an encryption key is good for at most {days} days");
            return Err(Reject::new(Code::LimitReached, text));
        }
        let row = AnnouncementRow {
            holder: announced.holder_key(),
            user: me.user,
            generation: announced.generation,
            rec,
        };
        if self.is_announced(&row)? {
            self.reply(conn, id, Reply::Done(Nothing {}));
            return Ok(());
        }
        self.take_token(now, conn)?;
        let write = Write::Announcement(row.clone());
        self.put(write, Pending::Announced(conn, id, Box::new(row)));
        Ok(())
    }

    /// Returns whether this very announcement is known.
    fn is_announced(&self, row: &AnnouncementRow) -> Result<bool, Reject> {
        match self.keys.announced.get(&row.holder) {
            Some(known) if known.rec == row.rec => Ok(true),
            Some(known) if known.generation >= row.generation => {
                let text = "a later encryption key of this holder is known";
                let reject = Reject::new(Code::VersionMismatch, text);
                Err(reject.expected(u64::from(known.generation)))
            }
            Some(_) | None => Ok(false),
        }
    }

    /// Learns that an announcement is durable. The store kept the first one of a generation; so does this.
    pub(super) fn announced_key(&mut self, conn: ConnId, id: u64, row: AnnouncementRow) {
        match self.is_announced(&row) {
            Ok(known) => {
                if !known {
                    self.keys.announced.insert(row.holder, row);
                }
                self.reply(conn, id, Reply::Done(Nothing {}));
            }
            Err(reject) => self.refuse(conn, id, reject),
        }
    }

    /// Returns the newest announcements of those that `me` may know of.
    pub(super) fn announcements(&self, me: &Session, op: &EkFetch) -> Reply {
        let known = |row: &&AnnouncementRow| {
            let account = self.dir.users.get(&row.user);
            account.is_some_and(|account| self.may_know(me, &row.user, account))
        };
        let rows = op.holders.iter();
        let rows = rows.filter_map(|holder| self.keys.announced.get(holder).filter(known));
        let recs = rows.map(|row| row.rec.clone()).collect();
        Reply::Eks(Eks { recs })
    }

    /// Returns whom the newest key may be brought to: where history is `since_join`, nobody who came
    /// after it was made.
    fn entitled(&self, log: &ChannelLog) -> BTreeMap<HolderKey, UserId> {
        let mut holders = log.holders(&self.dir.users);
        if log.history() == History::SinceJoin {
            let made = log.epoch().map_or(0, |epoch| epoch.seq);
            let there = |user: &UserId| log.member(user).is_some_and(|m| m.since < made);
            holders.retain(|_, user| there(user));
        }
        holders
    }

    /// Takes wraps of a channel's newest key from any member.
    pub(super) fn put_wraps(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        me: &Session,
        op: WrapPut,
    ) -> Result<(), Reject> {
        self.take_token(now, conn)?;
        let log = &self.dir.joined(&op.channel, &me.user)?.log;
        if log.epoch().is_none_or(|epoch| epoch.e != op.e) {
            let text = "the wraps are not of the channel's newest key";
            return Err(Reject::new(Code::StaleEpoch, text));
        }
        let entitled = self.entitled(log);
        if op.wraps.iter().any(|wrap| !entitled.contains_key(&wrap.to)) {
            return Err(no_holder());
        }
        self.use_up(now.mono, me.user, None, wraps_bytes(op.wraps.len()))?;
        let WrapPut { channel, e, wraps } = op;
        let put = PutWraps {
            answer: Some((conn, id)),
            channel,
            e,
            holders: wraps.iter().map(|wrap| wrap.to).collect(),
        };
        self.put(Write::Wraps { channel, e, wraps }, Pending::Wraps(put));
        Ok(())
    }

    /// Learns that wraps are durable, and tells the machines that had none.
    pub(super) fn wraps_stored(&mut self, put: &PutWraps, outcome: &Outcome) {
        if *outcome == Outcome::NoLog {
            if let Some((conn, id)) = put.answer {
                self.refuse(conn, id, not_found("channel"));
            }
            return;
        }
        let (channel, e) = (put.channel, put.e);
        let new = self.keys.mark(channel, e, &put.holders);
        self.stats.wraps += u64::try_from(new.len()).unwrap_or(0);
        // Who follows the channel learns of a new epoch by its record.
        if let Some((conn, id)) = put.answer {
            let waits = |s: &Session| !s.recovers && new.contains(&HolderKey::from(s.key));
            let waiting = self.conns.iter().filter(|(_, c)| {
                let session = c.session.as_ref();
                session.is_some_and(waits)
            });
            let waiting: Vec<ConnId> = waiting.map(|(conn, _)| *conn).collect();
            self.tell_all(&waiting, &Event::Keys(EpochOf { channel, e }));
            self.reply(conn, id, Reply::Done(Nothing {}));
        }
    }

    pub(super) fn wraps_dropped(&mut self, channel: &ChannelId, holder: &HolderKey, e: &[u32]) {
        self.keys.unmark(channel, holder, e);
    }

    /// Answers with a member's own wraps, and asks others where the newest one is missing.
    pub(super) fn fetch_wraps(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        me: &Session,
        op: WrapFetch,
    ) -> Result<(), Reject> {
        let log = &self.dir.joined(&op.channel, &me.user)?.log;
        if !self.is_mine(me, &op.holder) {
            let text = "the holder is neither this machine nor an owner key of yours";
            return Err(Reject::new(Code::Unauthorized, text));
        }
        let (channel, holder) = (op.channel, op.holder);
        let e = log.epoch().map(|epoch| epoch.e);
        let lacks = |e: &u32| op.unusable.contains(e) || !self.keys.has(&channel, *e, &holder);
        let wanted = e.filter(|e| lacks(e) && self.entitled(log).contains_key(&holder));
        if !op.unusable.is_empty() {
            self.take_token(now, conn)?;
            let epochs = op.unusable;
            let pending = Pending::Unwrapped(channel, holder, epochs.clone());
            let write = Write::Unwrap {
                channel,
                holder,
                epochs,
            };
            self.put(write, pending);
        }
        let query = PageQuery::Wraps {
            channel,
            holder,
            from: op.from,
        };
        let purpose = Purpose::Answer(id);
        self.effect(Effect::Load(Load {
            conn,
            purpose,
            query,
        }));
        if let Some(e) = wanted {
            self.ask_for(now.mono, conn, EpochOf { channel, e }, holder);
        }
        Ok(())
    }

    /// Returns whether a holder is the session's machine, or an owner key of its user. A user can name
    /// any key as an owner key of its own; what another user holds stays that one's.
    fn is_mine(&self, me: &Session, holder: &HolderKey) -> bool {
        if HolderKey::from(me.key) == *holder {
            return true;
        }
        let key = *holder.as_bytes();
        let account = self.dir.users.get(&me.user);
        let machine = self.dir.user_of(&MachineKey::new(key));
        let announced = self.keys.announced.get(holder);
        account.is_some_and(|u| u.log.is_owner(&OwnerKey::new(key)))
            && machine.is_none()
            && announced.is_none_or(|row| row.user == me.user)
    }

    /// Asks some sessions that follow a channel, others than last time, for a wrap that a holder lacks;
    /// those first that have one themselves.
    fn ask_for(&mut self, now: Mono, conn: ConnId, epoch: EpochOf, holder: HolderKey) {
        let before = self.keys.asked.get(&(epoch.channel, holder)).copied();
        if before.is_some_and(|before| now.since(before.at) < ASK_MS) {
            return;
        }
        let Some(state) = self.logs.get(&LogId::Channel(epoch.channel)) else {
            return;
        };
        let last = before.map_or(ConnId(0), |before| before.last);
        let later = state.followers.range((Excluded(last), Unbounded));
        let others = later
            .chain(state.followers.range(..=last))
            .filter_map(|id| {
                let session = self.conns.get(id)?.session.as_ref()?;
                let key = HolderKey::from(session.key);
                let has = self.keys.has(&epoch.channel, epoch.e, &key);
                (*id != conn && key != holder).then_some((*id, has))
            });
        let others: Vec<(ConnId, bool)> = others.collect();
        let any = !others.iter().any(|(_, has)| *has);
        let helpers = others.iter().filter(|(_, has)| *has || any);
        let helpers: Vec<ConnId> = helpers.take(HELPERS_MAX).map(|(id, _)| *id).collect();
        let Some(last) = helpers.last().copied() else {
            return;
        };
        let asked = &mut self.keys.asked;
        if asked.len() < ASKED_MAX || before.is_some() {
            asked.insert((epoch.channel, holder), Asked { at: now, last });
        }
        self.tell_all(&helpers, &Event::Wanted(epoch));
    }

    /// Returns who lacks a wrap of the newest key.
    pub(super) fn missing_wraps(&self, me: &Session, op: &WrapMissing) -> Result<Reply, Reject> {
        let log = &self.dir.joined(&op.channel, &me.user)?.log;
        let Some(e) = log.epoch().map(|epoch| epoch.e) else {
            let holders = Vec::new();
            return Ok(Reply::Missing(Missing { e: 0, holders }));
        };
        // A machine's first key stands in its identity record.
        let can_open = |holder: &HolderKey, user: &UserId| {
            let account = self.dir.users.get(user);
            let key = MachineKey::new(*holder.as_bytes());
            let machine = account.is_some_and(|u| u.log.machine(&key).is_some());
            machine || self.keys.announced.contains_key(holder)
        };
        let entitled = self.entitled(log).into_iter();
        let lack = entitled
            .filter(|(holder, user)| {
                can_open(holder, user) && !self.keys.has(&op.channel, e, holder)
            })
            .map(|(holder, _)| holder);
        let holders = lack.take(WRAPS_MAX).collect();
        Ok(Reply::Missing(Missing { e, holders }))
    }
}

/// The refusal of a wrap to somebody who is not to have the key.
pub(super) fn no_holder() -> Reject {
    let text = "a wrap is for somebody who may not have the key";
    Reject::new(Code::Forbidden, text)
}
