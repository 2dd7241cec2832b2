//! New accounts and new machines: by open registration, by invite, by the owner of an account.

use super::state::{Conn, HubState};
use super::{ConnId, Enter, Registration, Who};
use crate::audit::Act;
use crate::store::{Standing, Write};
use conclave_proto::frame::client::Hello;
use conclave_proto::frame::event::Event;
use conclave_proto::frame::op::EnrolRequest;
use conclave_proto::handshake::{Mode, enrolment_message, redeem_message};
use conclave_proto::id::{Blob, InviteId, UserId};
use conclave_proto::identity_log::{IdentityLog, Parsed, Verified};
use conclave_proto::key::{InviteKey, MachineKey, Signature, Verify as _};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Now, UnixMs};

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
    pub(super) fn register(
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
        self.needs_room()?;
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
            request: None,
        });
        let rec = genesis.record().bytes().clone();
        let write = Write::Ident { user, n: 0, rec };
        self.write_enter(write, conn, Box::new(entry.clone()));
    }

    pub(super) fn enrol_request(
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
    pub(super) fn relay(&mut self, enrolment: &InviteId, request: EnrolRequest) {
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
        let waits = |c: &Conn| c.waiting.as_ref().is_some_and(|e| e.hello.key == *key);
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
}
