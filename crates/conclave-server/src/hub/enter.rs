//! Coming in and going away: accounts, enrolments, handles, the lease, the end of a connection.

use super::presence::{Present, State, Wish};
use super::state::{HubState, LogState, Session};
use super::{ConnId, Enter, Outgoing, Registration, Who};
use crate::audit::Act;
use crate::store::{Standing, Write};
use conclave_proto::close::Close;
use conclave_proto::frame::client::Hello;
use conclave_proto::frame::event::{Event, Presence};
use conclave_proto::frame::op::EnrolRequest;
use conclave_proto::frame::{Limits, Ready};
use conclave_proto::handshake::{Mode, enrolment_message, redeem_message};
use conclave_proto::id::{Blob, ChannelId, InviteId, LogId, MailboxId, UserId};
use conclave_proto::identity_log::{IdentityLog, Parsed, Verified};
use conclave_proto::key::{InviteKey, MachineKey, Signature, Verify as _};
use conclave_proto::limit::{FRAME_BYTES_MAX, HEARTBEAT_MS, REQUESTS_IN_FLIGHT_MAX};
use conclave_proto::name::{CLI_HANDLE, SessionPath};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, Now, UnixMs};
use std::collections::BTreeSet;

/// What lets somebody make an account.
enum Ticket {
    /// Registration is open.
    Open,
    /// The link for the first admin.
    Bootstrap,
    /// An invite to the server.
    Server(InviteId),
    /// An invite into a channel, which has made so many accounts before, and by whom it was minted.
    Channel(InviteId, u32, UserId),
}

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
        };
        if let Err(reject) = result {
            self.stats.refused += 1;
            self.send(conn, Outgoing::Entered(Err(reject.into())));
        }
    }

    fn register(
        &mut self,
        now: Now,
        conn: ConnId,
        entry: &Enter,
        genesis: &Blob,
        invite: Option<(InviteKey, Signature)>,
    ) -> Result<(), Reject> {
        let reject =
            |e: conclave_proto::identity_log::BadIdentity| Reject::new(e.code(), e.to_string());
        let genesis = Parsed::parse(genesis)
            .and_then(Parsed::verify)
            .map_err(reject)?;
        let log = IdentityLog::start(&genesis, &self.settings.server_id).map_err(reject)?;
        let user = *log.user_id();
        if log.machine(&entry.hello.key).is_none() {
            let text = "the account is for another machine key";
            return Err(Reject::new(Code::Unauthorized, text));
        }
        if self.dir.users.get(&user).is_some() {
            // The answer to the first attempt was lost.
            self.admit(now, conn, entry);
            return Ok(());
        }
        let ticket = self.ticket(now.wall, &user, invite)?;
        if self.dir.user_named(log.username()).is_some() {
            let text = format!("the name {} is taken", log.username());
            return Err(Reject::new(Code::NameTaken, text));
        }
        self.dir
            .add_user(&genesis, &self.settings.server_id)
            .map_err(reject)?;
        self.open_account(now.wall, conn, entry, user, &genesis, &ticket);
        Ok(())
    }

    fn ticket(
        &self,
        now: UnixMs,
        user: &UserId,
        invite: Option<(InviteKey, Signature)>,
    ) -> Result<Ticket, Reject> {
        let closed = |text| Reject::new(Code::RegistrationClosed, text);
        let Some((key, sig)) = invite else {
            return match self.settings.registration {
                Registration::Open => Ok(Ticket::Open),
                Registration::Invite => Err(closed("an account needs an invite here")),
                Registration::Closed => Err(closed("no new accounts here")),
            };
        };
        let invalid = || Reject::new(Code::InviteInvalid, "the invite is not valid");
        key.verify(redeem_message(&self.settings.server_id, &key, user), &sig)
            .map_err(|_| invalid())?;
        if let Some(boot) = self.settings.bootstrap.filter(|boot| boot.key == key) {
            let good = now < boot.expires && !self.dir.has_admin();
            return good.then_some(Ticket::Bootstrap).ok_or_else(invalid);
        }
        if self.settings.registration == Registration::Closed {
            return Err(closed("no new accounts here"));
        }
        let id = key.invite_id();
        if let Some(row) = self.invites.get(&id) {
            let good = row.key == key && row.uses_left > 0 && now < row.expires;
            return good.then_some(Ticket::Server(id)).ok_or_else(invalid);
        }
        let (_, channel) = self.dir.invited(&id).ok_or_else(invalid)?;
        let invite = channel.log.invites().get(&id).ok_or_else(invalid)?;
        let made = self.redeemed.get(&id).copied().unwrap_or(0);
        let live = invite.is_live(now) && !channel.log.is_closed();
        if !live || invite.key != key || made >= invite.max_uses {
            return Err(invalid());
        }
        let minter = self.dir.users.get(&invite.by).map(|u| u.standing);
        let minter = minter.unwrap_or_default();
        if minter.removed || self.settings.account_invites == Who::Admins && !minter.admin {
            return Err(closed("this invite makes no accounts; ask a server admin"));
        }
        Ok(Ticket::Channel(id, made, invite.by))
    }

    fn open_account(
        &mut self,
        now: UnixMs,
        conn: ConnId,
        entry: &Enter,
        user: UserId,
        genesis: &Verified,
        ticket: &Ticket,
    ) {
        let mut minter = None;
        match ticket {
            Ticket::Open => {}
            Ticket::Bootstrap => {
                let standing = Standing {
                    admin: true,
                    removed: false,
                };
                if let Some(account) = self.dir.users.get_mut(&user) {
                    account.standing = standing;
                }
                self.write(Write::Standing { user, standing });
            }
            Ticket::Server(id) => {
                if let Some(mut row) = self.invites.get(id).copied() {
                    minter = Some(row.minter);
                    row.uses_left -= 1;
                    self.put_invite(row);
                }
            }
            Ticket::Channel(invite, made, by) => {
                minter = Some(*by);
                let (invite, accounts) = (*invite, made + 1);
                self.redeemed.insert(invite, accounts);
                self.write(Write::Redeemed { invite, accounts });
            }
        }
        self.audit(&Act {
            at: now,
            user: minter,
            machine: Some(entry.hello.key),
            action: "account_create",
            target: user.to_string(),
            digest: Some(genesis.record().hash()),
        });
        let rec = genesis.record().bytes().clone();
        let write = Write::Ident { user, n: 0, rec };
        self.write_enter(write, conn, Box::new(entry.clone()));
    }

    fn enrol_request(
        &self,
        now: UnixMs,
        hello: &Hello,
        mode: &Mode,
    ) -> Result<EnrolRequest, Reject> {
        let invalid = || Reject::new(Code::InviteInvalid, "the enrolment link is not valid");
        let Mode::Enrol {
            enrolment,
            name,
            encryption_key,
            consent,
            proof,
        } = mode
        else {
            return Err(invalid());
        };
        let open = self.enrolments.get(enrolment).filter(|e| now < e.expires);
        let open = open.ok_or_else(invalid)?;
        let message = || enrolment_message(&open.user, name, &hello.key, encryption_key);
        open.key.verify(message(), proof).map_err(|_| invalid())?;
        hello
            .key
            .verify(message(), consent)
            .map_err(|_| invalid())?;
        Ok(EnrolRequest {
            enrolment: *enrolment,
            name: name.clone(),
            key: hello.key,
            encryption_key: *encryption_key,
            consent: *consent,
            proof: *proof,
        })
    }

    /// Tells the connections of who opened an enrolment that a machine asks.
    fn relay(&mut self, enrolment: &InviteId, request: EnrolRequest) {
        if let Some(open) = self.enrolments.get(enrolment) {
            let opener = self.connections_of(&open.user);
            self.tell_all(&opener, &Event::Enrol(Box::new(request)));
        }
    }

    /// Relays again what waits for an enrolment: its opener may have come later.
    pub(super) fn relay_waiting(&mut self, now: UnixMs, enrolment: &InviteId) {
        let is = |entry: &Enter| matches!(&entry.mode, Mode::Enrol { enrolment: id, .. } if id == enrolment);
        let waiting = self.conns.values().filter_map(|c| c.waiting.as_deref());
        let requests: Vec<EnrolRequest> = waiting
            .filter(|entry| is(entry))
            .filter_map(|entry| self.enrol_request(now, &entry.hello, &entry.mode).ok())
            .collect();
        for request in requests {
            self.relay(enrolment, request);
        }
    }

    /// Lets in whoever waited for `key` to be enrolled.
    pub(super) fn admit_enrolled(&mut self, now: Now, key: &MachineKey) {
        let waits =
            |c: &super::state::Conn| c.waiting.as_ref().is_some_and(|e| e.hello.key == *key);
        let waiting = self.conns.iter().filter(|(_, c)| waits(c));
        let waiting: Vec<ConnId> = waiting.map(|(id, _)| *id).collect();
        for conn in waiting {
            let entry = self.conns.get_mut(&conn).and_then(|c| c.waiting.take());
            if let Some(entry) = entry {
                if let Mode::Enrol { enrolment, .. } = &entry.mode {
                    self.enrolments.remove(enrolment);
                }
                self.admit(now, conn, &entry);
            }
        }
    }

    pub(super) fn end_enrolments(&mut self, now: Now) {
        self.enrolments.retain(|_, e| now.wall < e.expires);
    }

    /// Gives an enrolled machine its session.
    pub(super) fn admit(&mut self, now: Now, conn: ConnId, entry: &Enter) {
        let outgoing = self.place(now, conn, entry).map(Box::new).map_err(Box::new);
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
        let one_shot = hello.handle.as_str() == CLI_HANDLE;
        let path = if one_shot {
            SessionPath {
                user: wish.user.clone(),
                machine: wish.machine.clone(),
                handle: hello.handle.clone(),
            }
        } else {
            self.roster.settle(&wish)?
        };
        let there = self.roster.get(&path).is_some();
        let sessions = self.roster.of_machine(&hello.key);
        if !one_shot && !there && sessions >= self.settings.sessions_per_machine_max {
            let text = format!("a machine has at most {sessions} sessions");
            return Err(Reject::new(Code::LimitReached, text));
        }
        let mailbox = (!one_shot).then(|| MailboxId::of(&user, &path));
        if let Some(mailbox) = mailbox {
            self.occupy(now, conn, user, &path, hello);
            self.make_mailbox(mailbox, user, &path);
        }
        if let Some(c) = self.conns.get_mut(&conn) {
            c.session = Some(Session {
                user,
                key: hello.key,
                path: path.clone(),
                mailbox,
            });
        }
        Ok(Ready {
            user_id: user,
            path,
            session: entry.session,
            mailbox: mailbox.map(LogId::Mailbox),
            admin,
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
        })
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
            };
            self.roster.insert(path.clone(), there);
        }
        if let Some(old) = old {
            let reason = Reject::new(Code::HandleTaken, "the same session connected again");
            self.end(now.mono, old, Close::Superseded, reason);
        }
    }

    fn make_mailbox(&mut self, mailbox: MailboxId, user: UserId, path: &SessionPath) {
        let log = LogId::Mailbox(mailbox);
        if self.logs.contains_key(&log) {
            return;
        }
        let state = LogState {
            oldest: 1,
            ..LogState::default()
        };
        self.logs.insert(log, state);
        if let Some(account) = self.dir.users.get_mut(&user) {
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
        let session = |c: &super::state::Conn| {
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
        if there.is_some_and(|t| t.follows.remove(&channel)) {
            self.announce(channel, session.user, &session.path, false);
        }
    }

    /// Ends what sessions of a user show outside the channels it is a member of.
    pub(super) fn hide_user(&mut self, user: UserId, channels: &BTreeSet<ChannelId>) {
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

    /// Returns the live connections of a user.
    pub(super) fn connections_of(&self, user: &UserId) -> Vec<ConnId> {
        let of = |c: &super::state::Conn| c.session.as_ref().is_some_and(|s| s.user == *user);
        let theirs = self.conns.iter().filter(|(_, c)| of(c));
        theirs.map(|(id, _)| *id).collect()
    }
}
