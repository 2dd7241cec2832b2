//! Machines of a user, and acts of server admins.

use super::ConnId;
use super::access::not_found;
use super::state::{Enrolment, HubState, Session};
use crate::audit::Act;
use crate::store::{ServerInviteRow, Standing, Write};
use conclave_proto::admin::{AdminBody, VerifiedAct};
use conclave_proto::frame::event::{Event, IdentHead, Standing as StandingEvent};
use conclave_proto::frame::op::{EnrolOpen, Nothing};
use conclave_proto::frame::reply::Reply;
use conclave_proto::handshake::enrol_open_message;
use conclave_proto::id::{ChannelId, LogId, UserId};
use conclave_proto::identity_log::{IdentityChange, Verified};
use conclave_proto::key::Verify as _;
use conclave_proto::limit::ENROLMENT_MS;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;

/// The most enrolments one user has open.
const ENROLMENTS_MAX: usize = 8;
/// How many acts are remembered against repetition; more within the window are refused.
pub(crate) const ACTS_MAX: usize = 4_096;
/// How far the clock of who signs an act may be from the server's.
const ACT_SKEW_MS: u64 = 600_000;

impl HubState {
    pub(super) fn append_ident(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        rec: &Verified,
    ) -> Result<(), Reject> {
        let me = self.session(conn)?;
        if rec.user_id() != me.user {
            let text = "the record is of another user than this session's";
            return Err(Reject::new(Code::Unauthorized, text));
        }
        let hash = rec.record().hash();
        let log = self.dir.users.get(&me.user).map(|u| &u.log);
        let adds = log.is_some_and(|l| matches!(l.check(rec), Ok(IdentityChange::MachineAdded(_))));
        if log.and_then(|log| log.hash_at(rec.n)) == Some(&hash) {
            self.reply(conn, id, Reply::Done(Nothing {}));
            return Ok(());
        }
        if adds {
            self.may_add_machine(&me.user)?;
        }
        let change = self
            .dir
            .extend_user(&me.user, rec)
            .map_err(|e| Reject::new(e.code(), e.to_string()))?;
        let action = match change {
            IdentityChange::MachineAdded(_) => "machine_add",
            IdentityChange::MachineRevoked(_) => "machine_revoke",
            IdentityChange::MachineRotated { .. } => "machine_rotate",
            IdentityChange::OwnerAdded(_) => "owner_add",
            IdentityChange::OwnerRevoked(_) => "owner_revoke",
        };
        self.audit(&Act {
            at: now.wall,
            user: Some(me.user),
            machine: Some(me.key),
            action,
            target: me.user.to_string(),
            digest: Some(hash),
            request: None,
        });
        let (user, n) = (me.user, rec.n);
        let bytes = rec.record().bytes().clone();
        let write = Write::Ident {
            user,
            n,
            rec: bytes,
        };
        self.write_reply(write, conn, id, Reply::Done(Nothing {}));
        self.tell_ident(user);
        match change {
            IdentityChange::MachineAdded(key) => self.admit_enrolled(now, &key),
            IdentityChange::MachineRevoked(old) | IdentityChange::MachineRotated { old, .. } => {
                self.revoke(now, |_, key| *key == old);
            }
            IdentityChange::OwnerAdded(_) | IdentityChange::OwnerRevoked(_) => {}
        }
        Ok(())
    }

    /// Tells everybody who shares a channel with a user that its identity log grew.
    fn tell_ident(&mut self, user: UserId) {
        let Some(head) = self.dir.users.get(&user).map(|u| u.log.head()) else {
            return;
        };
        let known = |id: &UserId| self.dir.users.share(id, &user);
        let conns = self.conns.iter().filter_map(|(id, c)| {
            let session = c.session.as_ref()?;
            known(&session.user).then_some(*id)
        });
        let conns: Vec<ConnId> = conns.collect();
        self.tell_all(&conns, &Event::Ident(IdentHead { user, head }));
    }

    pub(super) fn open_enrolment(
        &mut self,
        now: Now,
        me: &Session,
        op: &EnrolOpen,
    ) -> Result<Reply, Reject> {
        op.key
            .verify(enrol_open_message(&me.user), &op.sig)
            .map_err(|e| Reject::new(Code::Unauthorized, e.to_string()))?;
        if op.expires > now.wall.plus(ENROLMENT_MS) || op.expires <= now.wall {
            let text = "the enrolment lapses too late, or has lapsed";
            return Err(Reject::new(Code::LimitReached, text));
        }
        let id = op.key.invite_id();
        let open = self
            .enrolments
            .iter()
            .filter(|(other, e)| **other != id && e.user == me.user);
        if open.count() >= ENROLMENTS_MAX {
            let text = format!("at most {ENROLMENTS_MAX} enrolments are open at a time");
            return Err(Reject::new(Code::LimitReached, text));
        }
        let enrolment = Enrolment {
            user: me.user,
            key: op.key,
            expires: op.expires,
        };
        if self
            .enrolments
            .get(&id)
            .is_some_and(|other| other.user != me.user)
        {
            return Err(not_found("enrolment"));
        }
        self.enrolments.insert(id, enrolment);
        self.relay_waiting(now.wall, &id);
        Ok(Reply::Done(Nothing {}))
    }

    pub(super) fn administer(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        rec: &VerifiedAct,
    ) -> Result<(), Reject> {
        let me = self.session(conn)?;
        self.must_be_admin(&me)?;
        let account = self
            .dir
            .users
            .get(&me.user)
            .ok_or_else(|| not_found("user"))?;
        let act = rec
            .check(&self.settings.server_id, &account.log)
            .map_err(|e| Reject::new(e.code(), e.to_string()))?;
        if self.acts.contains_key(&act.request) {
            self.reply(conn, id, Reply::Done(Nothing {}));
            return Ok(());
        }
        let skew = act.ts.0.abs_diff(now.wall.0);
        if skew > ACT_SKEW_MS {
            let text = format!(
                "the act was signed {} minutes from the server's time; check the clocks and do it again",
                skew / 60_000
            );
            return Err(Reject::new(Code::Forbidden, text));
        }
        // An act signed ahead of time stays good for as long again.
        let over = now.wall.0.saturating_sub(2 * ACT_SKEW_MS);
        self.acts.retain(|_, at| at.0 >= over);
        if self.acts.len() >= ACTS_MAX {
            let text = "too many acts of admins";
            return Err(Reject::new(Code::RateLimited, text).retry_after(ACT_SKEW_MS));
        }
        let (action, target) = self.carry_out(now, &me, &act.body)?;
        self.acts.insert(act.request, now.wall);
        let entry = Act {
            at: now.wall,
            user: Some(me.user),
            machine: Some(me.key),
            action,
            target,
            digest: Some(rec.record().hash()),
            request: Some(act.request),
        }
        .to_json();
        let reply = Reply::Done(Nothing {});
        self.write_reply(Write::Audit { entry }, conn, id, reply);
        Ok(())
    }

    fn carry_out(
        &mut self,
        now: Now,
        me: &Session,
        body: &AdminBody,
    ) -> Result<(&'static str, String), Reject> {
        Ok(match body {
            AdminBody::UserRemove { user } => {
                if *user == me.user {
                    return Err(Reject::new(Code::Forbidden, "nobody removes oneself"));
                }
                self.set_standing(user, |s| {
                    s.removed = true;
                    s.admin = false;
                })?;
                self.revoke(now, |id, _| id == user);
                ("user_remove", user.to_string())
            }
            AdminBody::AdminAdd { user } => {
                self.set_standing(user, |s| s.admin = true)?;
                ("admin_add", user.to_string())
            }
            AdminBody::AdminRemove { user } => {
                let admins = self.dir.users.iter().filter(|(_, u)| u.standing.admin);
                if admins.count() <= 1 {
                    return Err(Reject::new(Code::Forbidden, "one admin must remain"));
                }
                self.set_standing(user, |s| s.admin = false)?;
                ("admin_remove", user.to_string())
            }
            AdminBody::ServerInvite {
                key,
                max_uses,
                expires,
            } => {
                let invite = key.invite_id();
                if *max_uses == 0 || *expires <= now.wall {
                    return Err(Reject::new(Code::Malformed, "the invite is over already"));
                }
                if !self.invites.contains_key(&invite) {
                    self.put_invite(ServerInviteRow {
                        invite,
                        key: *key,
                        minter: me.user,
                        uses_left: *max_uses,
                        expires: *expires,
                    });
                }
                ("server_invite", invite.to_string())
            }
            AdminBody::ServerInviteRevoke { invite } => {
                let row = self.invites.get(invite).copied();
                let mut row = row.ok_or_else(|| not_found("invite"))?;
                row.uses_left = 0;
                self.put_invite(row);
                ("server_invite_revoke", invite.to_string())
            }
            AdminBody::LogFreeze { channel, on } => {
                self.freeze(channel, *on)?;
                let action = if *on { "log_freeze" } else { "log_thaw" };
                (action, channel.to_string())
            }
            AdminBody::LogDelete { channel } => {
                self.delete(channel)?;
                ("log_delete", channel.to_string())
            }
        })
    }

    fn set_standing(&mut self, id: &UserId, set: impl Fn(&mut Standing)) -> Result<(), Reject> {
        let account = self.dir.users.get_mut(id);
        let account = account.filter(|u| !u.standing.removed);
        let account = account.ok_or_else(|| not_found("user"))?;
        set(&mut account.standing);
        let (user, standing) = (*id, account.standing);
        self.write(Write::Standing { user, standing });
        let conns = self.connections_of(id);
        let admin = standing.admin;
        self.tell_all(&conns, &Event::Standing(StandingEvent { admin }));
        Ok(())
    }

    /// Puts an invite to the server, or removes it when it has no uses left.
    pub(super) fn put_invite(&mut self, row: ServerInviteRow) {
        match row.uses_left {
            0 => self.invites.remove(&row.invite),
            _ => self.invites.insert(row.invite, row),
        };
        self.write(Write::ServerInvite(row));
    }

    fn freeze(&mut self, channel: &ChannelId, frozen: bool) -> Result<(), Reject> {
        let log = LogId::Channel(*channel);
        self.dir
            .channel(channel)
            .ok_or_else(|| not_found("channel"))?;
        if let Some(state) = self.logs.get_mut(&log) {
            state.frozen = frozen;
        }
        self.write(Write::Freeze { log, frozen });
        Ok(())
    }

    fn delete(&mut self, channel: &ChannelId) -> Result<(), Reject> {
        let log = LogId::Channel(*channel);
        self.dir
            .channel(channel)
            .ok_or_else(|| not_found("channel"))?;
        let followers = self.logs.get_mut(&log).map(|state| {
            state.deleted = true;
            state.followers.iter().copied().collect::<Vec<_>>()
        });
        self.dir.delete_channel(channel);
        self.keys.forget(channel);
        self.roster.unsay(|_, said| said == channel);
        for conn in followers.unwrap_or_default() {
            self.unfollow(conn, &log);
            self.drop_subscription(conn, log, not_found("channel"));
        }
        self.write(Write::Delete { log });
        Ok(())
    }
}
