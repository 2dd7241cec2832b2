//! What the hostile server answers when it does not lie. It stores and orders, and judges nothing.

use super::script::Script;
use super::{ctl, env};
use conclave_proto::channel_log::{ChannelLog, CtlBody, ParsedCtl};
use conclave_proto::encryption_key::Announcement;
use conclave_proto::entry::{Entry, EntryBody, Envelope, Header, Route};
use conclave_proto::frame::event::{EpochOf, Event, IdentHead};
use conclave_proto::frame::op::{
    CtlAppend, IdentAppend, IdentFetch, Nothing, Op, ProfilePut, Read, WrapFetch, WrapPut,
};
use conclave_proto::frame::reply::{
    Appended, ChannelInfo, Channels, Cursors, Eks, EntryPage, EpochWrap, Idents, InviteInfo,
    Missing, ProfileOf, Profiles, Reply, Sessions, Subscribed, UserInfo, Wraps,
};
use conclave_proto::frame::{Outcome, ServerFrame};
use conclave_proto::id::{ChannelId, InviteId, LogId, UserId};
use conclave_proto::key::HolderKey;
use conclave_proto::record::Record;
use conclave_proto::reject::{Code, Reject};
use std::collections::BTreeMap;

fn gone() -> Outcome {
    Outcome::Err(Reject::new(Code::NotFound, "no such thing"))
}

const fn done() -> Outcome {
    Outcome::Ok(Reply::Done(Nothing {}))
}

fn count(entries: &[Entry]) -> u64 {
    entries.last().map_or(0, |entry| entry.seq)
}

const fn page(entries: Vec<Entry>, head: u64) -> Outcome {
    let (gap, next) = (None, head);
    Outcome::Ok(Reply::Page(EntryPage {
        entries,
        gap,
        next,
        head,
    }))
}

fn stored(entry: &Entry, dup: bool) -> Outcome {
    let (seq, at) = (entry.seq, entry.at);
    Outcome::Ok(Reply::Appended(Appended { seq, at, dup }))
}

impl Script {
    /// Returns the channels that a user is a member of.
    #[must_use]
    pub fn channels_of(&self, user: &UserId) -> Channels {
        let all = self.logs.keys().filter_map(|log| match log {
            LogId::Channel(id) => self.state(id),
            LogId::Mailbox(_) => None,
        });
        let mine = all.filter(|log| log.role(user).is_some());
        let channels = mine.map(|log| info(&log, user)).collect();
        Channels { channels }
    }

    pub(super) fn answer(&mut self, guest: u64, op: &Op) -> Outcome {
        let asker = self.guests.get(&guest).and_then(|g| g.user.clone());
        let user = asker.map_or(UserId::new([0; 32]), |(user, _)| user);
        match op {
            Op::Append(op) => self.append(op.log, &op.env),
            Op::CtlAppend(op) => self.append_ctl(op),
            Op::Subscribe(op) => {
                if let Some(guest) = self.guests.get_mut(&guest) {
                    guest.follows.push(op.log);
                }
                // What was pushed without being kept was there, too.
                let head = count(self.entries(&op.log)).max(op.after);
                Outcome::Ok(Reply::Subscribed(Subscribed { head, oldest: 1 }))
            }
            Op::Unsubscribe(op) => {
                if let Some(guest) = self.guests.get_mut(&guest) {
                    guest.follows.retain(|log| *log != op.log);
                }
                done()
            }
            Op::Read(op) => {
                let all = self.entries(&op.log);
                let rest = all.iter().filter(|entry| entry.seq > op.after);
                page(rest.cloned().collect(), count(all))
            }
            Op::CtlFetch(op) => {
                let (_, chain) = self.chain(&op.channel);
                let head = count(&chain);
                let rest = chain.into_iter().filter(|entry| entry.seq > op.after);
                page(rest.collect(), head)
            }
            Op::IdentAppend(op) => self.append_identity(user, op),
            Op::IdentFetch(op) => self.show_identity(op),
            Op::EkPublish(op) => match Announcement::read(&op.rec) {
                Ok(said) => {
                    let known = self.announced.entry(said.holder_key()).or_default();
                    known.push(op.rec.clone());
                    done()
                }
                Err(_) => Outcome::Err(Reject::new(Code::Malformed, "no announcement")),
            },
            Op::EkFetch(op) => {
                let newest = |holder| self.announced.get(holder)?.last().cloned();
                let recs = op.holders.iter().filter_map(newest).collect();
                Outcome::Ok(Reply::Eks(Eks { recs }))
            }
            Op::WrapPut(op) => self.put_wraps(op),
            Op::WrapFetch(op) => self.fetch_wraps(guest, op),
            Op::WrapMissing(op) => {
                let (e, holders) = self.missing(&op.channel);
                Outcome::Ok(Reply::Missing(Missing { e, holders }))
            }
            Op::Channels(_) => Outcome::Ok(Reply::Channels(self.channels_of(&user))),
            Op::FindUser(op) => match self.names.get(&op.name).copied() {
                Some(user_id) => self.identity(&user_id).map_or_else(gone, |log| {
                    Outcome::Ok(Reply::User(UserInfo {
                        name: op.name.clone(),
                        user_id,
                        ident: log.head(),
                        admin: false,
                    }))
                }),
                None => gone(),
            },
            Op::Invite(op) => self.show_invite(op.invite, &user),
            Op::Who(_) => {
                let (sessions, more) = (Vec::new(), false);
                Outcome::Ok(Reply::Sessions(Sessions { sessions, more }))
            }
            Op::Items(op) => page(self.items(op), count(self.entries(&op.log))),
            Op::Cursors(op) => {
                let head = count(self.entries(&op.log));
                let (oldest, readers) = (1, Vec::new());
                Outcome::Ok(Reply::Cursors(Cursors {
                    head,
                    oldest,
                    readers,
                }))
            }
            Op::Profile(op) => self.put_profile(op),
            Op::Profiles(op) => {
                let all = self.profiles.iter();
                let there = all.filter(|((channel, _), _)| *channel == op.channel);
                let profiles = there.map(|((_, path), env)| ProfileOf {
                    path: path.clone(),
                    env: env.clone(),
                });
                let (profiles, more) = (profiles.collect(), false);
                Outcome::Ok(Reply::Profiles(Profiles { profiles, more }))
            }
            Op::FindChannel(_)
            | Op::KickSession(_)
            | Op::EnrolOpen(_)
            | Op::Admin(_)
            | Op::Users(_)
            | Op::ServerInvites(_)
            | Op::Audit(_)
            | Op::Unknown(_) => gone(),
        }
    }

    /// Returns the newest entry of each slot and memory item.
    fn items(&self, op: &Read) -> Vec<Entry> {
        let mut newest: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
        for entry in self.entries(&op.log) {
            if let EntryBody::Env(env) = &entry.body
                && let Some(header) = Header::parse(&env.header)
            {
                let by = header.sender.user.as_str().as_bytes();
                let item = match &header.route {
                    Route::State(slot, _) => slot.as_bytes().to_vec(),
                    Route::Memory(item, _) => [item.as_bytes(), by].concat(),
                    _ => continue,
                };
                newest.insert(item, entry.clone());
            }
        }
        let mut items: Vec<Entry> = newest.into_values().collect();
        items.retain(|entry| entry.seq > op.after);
        items.sort_by_key(|entry| entry.seq);
        items
    }

    fn put_profile(&mut self, op: &ProfilePut) -> Outcome {
        let Some(header) = Header::parse(&op.env.header) else {
            return Outcome::Err(Reject::new(Code::Malformed, "no header"));
        };
        let place = (op.channel, header.sender);
        self.profiles.insert(place, op.env.clone());
        done()
    }

    fn append(&mut self, log: LogId, envelope: &Envelope) -> Outcome {
        let known = self.entries(&log);
        let same = |e: &&Entry| matches!(&e.body, EntryBody::Env(known) if known == envelope);
        if let Some(entry) = known.iter().find(same) {
            return stored(entry, true);
        }
        let entry = env(count(known) + 1, envelope.clone());
        self.logs.entry(log).or_default().push(entry.clone());
        self.deliver(log, vec![entry.clone()]);
        stored(&entry, false)
    }

    fn append_ctl(&mut self, op: &CtlAppend) -> Outcome {
        let log = LogId::Channel(op.channel);
        let (Ok(rec), Ok(record)) = (ParsedCtl::parse(&op.rec), Record::parse(&op.rec)) else {
            return Outcome::Err(Reject::new(Code::Malformed, "no control record"));
        };
        let newest = self.state(&op.channel).map(|state| state.head().hash);
        if newest != rec.prev {
            return Outcome::Err(Reject::new(Code::CtlConflict, "somebody was first"));
        }
        let entry = ctl(count(self.entries(&log)) + 1, &record);
        self.logs.entry(log).or_default().push(entry.clone());
        if let CtlBody::Epoch { e, .. } = rec.body {
            let places = op
                .wraps
                .iter()
                .map(|wrap| ((op.channel, e, wrap.to), *wrap));
            self.wraps.extend(places);
        }
        if let CtlBody::Invite { key, .. } = rec.body {
            let sealed = op.invite_box.iter().cloned();
            self.boxes
                .extend(sealed.map(|sealed| (key.invite_id(), sealed)));
        }
        self.deliver(log, vec![entry.clone()]);
        stored(&entry, false)
    }

    fn append_identity(&mut self, user: UserId, op: &IdentAppend) -> Outcome {
        self.idents.entry(user).or_default().push(op.rec.clone());
        let Some(log) = self.identity(&user) else {
            self.idents.entry(user).or_default().pop();
            return Outcome::Err(Reject::new(Code::CtlConflict, "not the next record"));
        };
        let head = log.head();
        self.say_all(&ServerFrame::Event(Event::Ident(IdentHead { user, head })));
        done()
    }

    fn show_identity(&self, op: &IdentFetch) -> Outcome {
        let Some(records) = self.idents.get(&op.user) else {
            return gone();
        };
        let skip = usize::try_from(op.from).unwrap_or(usize::MAX);
        let head = u64::try_from(records.len()).unwrap_or(0).saturating_sub(1);
        let (user, records) = (op.user, records.iter().skip(skip).cloned().collect());
        Outcome::Ok(Reply::Idents(Idents {
            user,
            records,
            head,
        }))
    }

    fn put_wraps(&mut self, op: &WrapPut) -> Outcome {
        for wrap in &op.wraps {
            let place = (op.channel, op.e, wrap.to);
            self.wraps.entry(place).or_insert(*wrap);
        }
        let (channel, e) = (op.channel, op.e);
        let told = ServerFrame::Event(Event::Keys(EpochOf { channel, e }));
        for wrap in &op.wraps {
            if let Some(user) = self.user_of(&wrap.to) {
                self.say_to(&user, &told);
            }
        }
        done()
    }

    fn user_of(&self, holder: &HolderKey) -> Option<UserId> {
        let ids = self.identities();
        let mut all = ids.iter();
        let is = |log: &conclave_proto::identity_log::IdentityLog| {
            log.machines().any(|m| HolderKey::from(m.key) == *holder)
        };
        all.find(|(_, log)| is(log)).map(|(user, _)| *user)
    }

    fn fetch_wraps(&mut self, guest: u64, op: &WrapFetch) -> Outcome {
        for e in &op.unusable {
            self.wraps.remove(&(op.channel, *e, op.holder));
        }
        let all = self.wraps.iter();
        let mine = all.filter(|((channel, e, to), _)| {
            (channel, to) == (&op.channel, &op.holder) && *e >= op.from
        });
        let wraps: Vec<EpochWrap> = mine
            .map(|((_, e, _), wrap)| EpochWrap {
                e: *e,
                generation: wrap.generation,
                sealed: wrap.sealed,
            })
            .collect();
        let (e, missing) = self.missing(&op.channel);
        if missing.contains(&op.holder) {
            let (channel, log) = (op.channel, LogId::Channel(op.channel));
            let wanted = ServerFrame::Event(Event::Wanted(EpochOf { channel, e }));
            let asker = self.guests.get(&guest).and_then(|g| g.user.clone());
            self.say_if(&wanted, |g| g.follows.contains(&log) && g.user != asker);
        }
        Outcome::Ok(Reply::Wraps(Wraps { wraps }))
    }

    fn missing(&self, channel: &ChannelId) -> (u32, Vec<HolderKey>) {
        let Some(state) = self.state(channel) else {
            return (0, Vec::new());
        };
        let e = state.epoch().map_or(0, |epoch| epoch.e);
        let ids = self.identities();
        let lacks = |holder: &HolderKey| {
            let can = self.encryption_key(holder).is_some();
            can && !self.wraps.contains_key(&(*channel, e, *holder))
        };
        let holders = state.holders(&ids).into_keys().filter(lacks).collect();
        (e, holders)
    }

    fn show_invite(&self, invite: InviteId, user: &UserId) -> Outcome {
        let channels = self.logs.keys().filter_map(|log| match log {
            LogId::Channel(id) => Some(self.chain(id)),
            LogId::Mailbox(_) => None,
        });
        let found = channels.filter_map(|(state, ctl)| Some((state?, ctl)));
        let mut fits = found.filter(|(log, _)| log.invites().contains_key(&invite));
        let Some((log, ctl)) = fits.next() else {
            return gone();
        };
        Outcome::Ok(Reply::Invite(InviteInfo {
            channel: Some(info(&log, user)),
            ctl,
            invite_box: self.boxes.get(&invite).cloned(),
        }))
    }
}

fn info(log: &ChannelLog, user: &UserId) -> ChannelInfo {
    ChannelInfo {
        channel: *log.id(),
        name: log.name().cloned(),
        visibility: log.visibility().as_str().to_owned(),
        mode: log.mode().as_str().to_owned(),
        role: log.role(user).map(|role| role.as_str().to_owned()),
        members: u32::try_from(log.members().len()).unwrap_or(u32::MAX),
        topic: log.topic().map(str::to_owned),
        ctl: log.head(),
        ctl_seq: log.seq(),
        closed: log.is_closed(),
    }
}
