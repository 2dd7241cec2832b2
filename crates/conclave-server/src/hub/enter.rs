//! Coming in and going away: accounts, enrolments, handles, the lease, the end of a connection.

use super::presence::{Present, State, Wish};
use super::state::{Conn, HubState, LogState, Session};
use super::{ConnId, Enter, Outgoing};
use crate::store::Write;
use conclave_proto::body::Head;
use conclave_proto::close::Close;
use conclave_proto::frame::client::Hello;
use conclave_proto::frame::event::{Event, Presence};
use conclave_proto::frame::{Limits, Ready};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{ChannelId, LogId, MailboxId, SessionId, UserId};
use conclave_proto::key::MachineKey;
use conclave_proto::limit::{FRAME_BYTES_MAX, HEARTBEAT_MS, REQUESTS_IN_FLIGHT_MAX};
use conclave_proto::name::{CLI_HANDLE, DESK_HANDLE, SessionPath};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now, UnixMs};
use std::collections::{BTreeMap, BTreeSet};

/// How many sessions of one user have, or had, a mailbox.
const PATHS_MAX: usize = 1_024;

impl HubState {
    pub(super) fn enter(&mut self, now: Now, conn: ConnId, entry: Box<Enter>) {
        if !self.conns.contains_key(&conn) {
            return;
        }
        if self.draining {
            let reject = Reject::new(Code::Draining, "the server is going away");
            return self.send(conn, Outgoing::Entered(Err(reject.into())));
        }
        let hello = &entry.hello;
        let key = hello.key;
        if let Err(reject) = self.may_authenticate(now.mono, &key) {
            self.stats.refused.add(&reject.code);
            return self.send(conn, Outgoing::Entered(Err(reject.into())));
        }
        let result = match entry.mode.clone() {
            Mode::Auth => {
                self.admit(now, conn, &entry);
                return;
            }
            Mode::Register { genesis } => self.register(now, conn, &entry, &genesis, None),
            Mode::Redeem {
                invite,
                sig,
                genesis,
            } => self.register(now, conn, &entry, &genesis, Some((invite, sig))),
            Mode::Enrol { enrolment, .. } => match self.enrol_request(now.wall, hello, &entry.mode)
            {
                Ok(request) => {
                    if let Some(c) = self.conns.get_mut(&conn) {
                        c.waiting = Some(entry);
                    }
                    self.relay(&enrolment, request);
                    Ok(())
                }
                Err(reject) => Err(reject),
            },
            Mode::Recover { .. } => self.recover(now, conn, &entry),
        };
        if result.is_err() {
            self.authenticated(now.mono, key, &result);
        }
        if let Err(reject) = result {
            self.stats.refused.add(&reject.code);
            self.send(conn, Outgoing::Entered(Err(reject.into())));
        }
    }

    /// Gives an enrolled machine its session.
    pub(super) fn admit(&mut self, now: Now, conn: ConnId, entry: &Enter) {
        let placed = self.place(now, conn, entry);
        self.authenticated(now.mono, entry.hello.key, &placed);
        if let Err(reject) = &placed {
            self.stats.refused.add(&reject.code);
        }
        let outgoing = placed.map(Box::new).map_err(Box::new);
        self.send(conn, Outgoing::Entered(outgoing));
    }

    fn place(&mut self, now: Now, conn: ConnId, entry: &Enter) -> Result<Ready, Reject> {
        let hello = &entry.hello;
        let unknown = || Reject::new(Code::UnknownKey, "this machine key is not known here");
        let (user, account) = self.dir.user_of(&hello.key).ok_or_else(unknown)?;
        let machine = account.log.machine(&hello.key).ok_or_else(unknown)?;
        if account.standing.removed {
            return Err(Reject::new(Code::Unauthorized, "the account was removed"));
        }
        let (admin, ident) = (account.standing.admin, account.log.head());
        let wish = Wish {
            user: account.log.username(),
            machine: &machine.name,
            handle: &hello.handle,
            pinned: hello.pinned,
            key: hello.key,
            instance: hello.instance,
        };
        let desk = hello.handle.as_str() == DESK_HANDLE;
        let one_shot = desk || hello.handle.as_str() == CLI_HANDLE;
        let path = if one_shot {
            SessionPath {
                user: wish.user.clone(),
                machine: wish.machine.clone(),
                handle: hello.handle.clone(),
            }
        } else {
            self.roster.settle(&wish)?
        };
        let there = self.roster.get(&path).filter(|_| !one_shot);
        let replaced = match there.map(|there| there.state) {
            Some(State::Online(old)) => Some(old),
            Some(State::Leased(_)) | None => None,
        };
        self.has_seat(&user, conn, replaced)?;
        let there = there.is_some();
        let sessions = self.roster.of_machine(&hello.key);
        if !one_shot && !there && sessions >= self.settings.sessions_per_machine_max {
            let text = format!("a machine has at most {sessions} sessions");
            return Err(Reject::new(Code::LimitReached, text));
        }
        if !one_shot && !account.paths.contains(&path) && account.paths.len() >= PATHS_MAX {
            let text = format!("a user has at most {PATHS_MAX} handles; take one of them again");
            return Err(Reject::new(Code::LimitReached, text));
        }
        let mailbox = (desk || !one_shot).then(|| MailboxId::of(&user, &path));
        if let Some(mailbox) = mailbox {
            // Nobody is at the desk for long, and several may be: none takes the place of another.
            if !desk {
                self.occupy(now, conn, user, &path, hello);
            }
            self.make_mailbox(mailbox, user, &path);
        }
        if let Some(c) = self.conns.get_mut(&conn) {
            c.session = Some(Session {
                user,
                key: hello.key,
                path: path.clone(),
                mailbox,
                recovers: false,
            });
        }
        Ok(Ready {
            mailbox: mailbox.map(LogId::Mailbox),
            admin,
            ..self.ready(now, user, path, ident, entry.session)
        })
    }

    /// Returns what a session without a mailbox and without power is told.
    pub(super) fn ready(
        &self,
        now: Now,
        user_id: UserId,
        path: SessionPath,
        ident: Head,
        session: SessionId,
    ) -> Ready {
        Ready {
            user_id,
            path,
            session,
            mailbox: None,
            admin: false,
            ident,
            at: now.wall,
            limits: Limits {
                frame_bytes: u64::try_from(FRAME_BYTES_MAX).unwrap_or(u64::MAX),
                requests_in_flight: u32::try_from(REQUESTS_IN_FLIGHT_MAX).unwrap_or(u32::MAX),
                heartbeat_ms: HEARTBEAT_MS,
                message_retention_ms: self.settings.message_retention_ms,
                whisper_retention_ms: self.settings.whisper_retention_ms,
            },
            checkpoint: self.checkpoint.clone(),
        }
    }

    fn occupy(&mut self, now: Now, conn: ConnId, user: UserId, path: &SessionPath, hello: &Hello) {
        let old = match self.roster.get(path).map(|there| there.state) {
            Some(State::Online(old)) if old != conn => Some(old),
            _ => None,
        };
        if let Some(there) = self.roster.get_mut(path) {
            there.state = State::Online(conn);
        } else {
            let there = Present {
                user,
                key: hello.key,
                instance: hello.instance,
                state: State::Online(conn),
                since: now.wall,
                agent: hello.agent.clone(),
                follows: BTreeSet::new(),
                says: BTreeMap::new(),
            };
            self.roster.insert(path.clone(), there);
        }
        if let Some(old) = old {
            let reason = Reject::new(Code::HandleTaken, "the same session connected again");
            self.end(now.mono, old, Close::Superseded, reason);
        }
    }

    pub(super) fn make_mailbox(&mut self, mailbox: MailboxId, user: UserId, path: &SessionPath) {
        let log = LogId::Mailbox(mailbox);
        if self.logs.contains_key(&log) {
            return;
        }
        let state = LogState {
            owner: Some((user, path.clone())),
            ..LogState::empty()
        };
        self.logs.insert(log, state);
        if path.handle.as_str() != DESK_HANDLE
            && let Some(account) = self.dir.users.get_mut(&user)
        {
            account.paths.insert(path.clone());
        }
        let path = path.clone();
        self.write(Write::Mailbox {
            mailbox,
            user,
            path,
        });
    }

    /// Forgets a connection whose socket is gone; the session keeps its lease.
    pub(super) fn gone(&mut self, now: Now, conn: ConnId) {
        let logs = self
            .conns
            .get(&conn)
            .map(|c| c.subs.keys().copied().collect::<Vec<_>>());
        for log in logs.unwrap_or_default() {
            self.unsubscribe(conn, &log);
        }
        let session = self.conns.remove(&conn).and_then(|c| c.session);
        if let Some(session) = session {
            self.roster.left(&session.path, conn, now.mono);
        }
    }

    /// Ends a session that said goodbye: others see it go at once.
    pub(super) fn leave(&mut self, now: Now, conn: ConnId) {
        let session = self.conns.get(&conn).and_then(|c| c.session.clone());
        self.gone(now, conn);
        // Where a newer connection took the place over, that one is there.
        if let Some(session) = session
            && self
                .roster
                .get(&session.path)
                .is_some_and(Present::is_leased)
        {
            self.vanish(&session.path);
        }
    }

    /// Ends a connection with a reason.
    pub(super) fn end(&mut self, now: Mono, conn: ConnId, close: Close, reason: Reject) {
        let now = Now {
            mono: now,
            wall: UnixMs(0),
        };
        self.gone(now, conn);
        self.send(conn, Outgoing::Close(close, reason.into()));
    }

    /// Ends every session that `is` true of, at once and without a lease.
    pub(super) fn revoke(&mut self, now: Now, is: impl Fn(&UserId, &MachineKey) -> bool) {
        let session = |c: &Conn| {
            let s = c.session.as_ref();
            s.is_some_and(|s| is(&s.user, &s.key))
        };
        let ended = self.conns.iter().filter(|(_, c)| session(c));
        let ended: Vec<ConnId> = ended.map(|(id, _)| *id).collect();
        for conn in ended {
            let reason = Reject::new(Code::Unauthorized, "the machine or user was revoked");
            self.end(now.mono, conn, Close::Revoked, reason);
        }
        let gone = self
            .roster
            .iter()
            .filter(|(_, there)| is(&there.user, &there.key));
        let gone: Vec<SessionPath> = gone.map(|(path, _)| path.clone()).collect();
        for path in gone {
            self.vanish(&path);
        }
    }

    pub(super) fn end_leases(&mut self, now: Now) {
        for path in self.roster.lapsed(now.mono) {
            self.vanish(&path);
        }
    }

    fn vanish(&mut self, path: &SessionPath) {
        if let Some(there) = self.roster.remove(path) {
            for channel in there.follows {
                self.announce(channel, there.user, path, false);
            }
        }
    }

    /// Shows a session in a channel, if it was not there a moment ago.
    pub(super) fn show(&mut self, path: &SessionPath, channel: ChannelId) {
        let there = self.roster.get_mut(path);
        if let Some(user) = there.and_then(|t| t.follows.insert(channel).then_some(t.user)) {
            self.announce(channel, user, path, true);
        }
    }

    /// Ends what a session shows of a log it does not follow any more.
    pub(super) fn unfollow(&mut self, conn: ConnId, log: &LogId) {
        let session = self.conns.get(&conn).and_then(|c| c.session.clone());
        let (Some(session), LogId::Channel(channel)) = (session, *log) else {
            return;
        };
        let there = self.roster.get_mut(&session.path);
        let shown = there.is_some_and(|there| {
            there.says.remove(&channel);
            there.follows.remove(&channel)
        });
        if shown {
            self.announce(channel, session.user, &session.path, false);
        }
    }

    /// Ends what sessions of a user show outside the channels it is a member of.
    pub(super) fn hide_user(&mut self, user: UserId, channels: &BTreeSet<ChannelId>) {
        self.roster
            .unsay(|there, channel| there.user == user && !channels.contains(channel));
        let theirs = self.roster.iter().filter(|(_, there)| there.user == user);
        let hidden: Vec<(SessionPath, ChannelId)> = theirs
            .flat_map(|(path, t)| t.follows.difference(channels).map(|c| (path.clone(), *c)))
            .collect();
        for (path, channel) in hidden {
            if let Some(there) = self.roster.get_mut(&path) {
                there.follows.remove(&channel);
            }
            self.announce(channel, user, &path, false);
        }
    }

    fn announce(&mut self, channel: ChannelId, user_id: UserId, path: &SessionPath, online: bool) {
        let followers = self
            .logs
            .get(&LogId::Channel(channel))
            .map(|l| &l.followers);
        let others: Vec<ConnId> = followers
            .into_iter()
            .flatten()
            .filter(|id| {
                let session = self.conns.get(id).and_then(|c| c.session.as_ref());
                session.is_some_and(|s| s.path != *path)
            })
            .copied()
            .collect();
        let path = path.clone();
        let event = Event::Presence(Presence {
            channel,
            user_id,
            path,
            online,
        });
        self.tell_all(&others, &event);
    }

    /// Returns the live connections of a user's machines.
    pub(super) fn connections_of(&self, user: &UserId) -> Vec<ConnId> {
        let of = |c: &Conn| {
            let session = c.session.as_ref();
            session.is_some_and(|s| s.user == *user && !s.recovers)
        };
        let theirs = self.conns.iter().filter(|(_, c)| of(c));
        theirs.map(|(id, _)| *id).collect()
    }
}
