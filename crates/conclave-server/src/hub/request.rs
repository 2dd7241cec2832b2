//! Requests: who gets which answer.

use super::access::{info, not_found};
use super::directory::User;
use super::state::{Conn, HubState, Session};
use super::{Checked, ConnId, Effect, Load, Purpose};
use crate::audit::Act;
use crate::store::{PageQuery, Select};
use conclave_proto::channel_log::{History, Role, Visibility};
use conclave_proto::frame::op::{KickSession, Nothing, Op, Subscribe};
use conclave_proto::frame::reply::{
    Channels, Idents, InviteInfo, Reply, ServerInvite, ServerInvites, UserInfo, Users,
};
use conclave_proto::id::{ChannelId, InviteId, LogId, UserId};
use conclave_proto::limit::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Now, UnixMs};

impl HubState {
    pub(super) fn request(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        op: Checked,
    ) -> Result<(), Reject> {
        let recovers = |c: &Conn| c.session.as_ref().is_some_and(|s| s.recovers);
        if self.conns.get(&conn).is_some_and(recovers) {
            self.may_recover(conn, &op)?;
        }
        self.has_room_for(now, &op)?;
        match op {
            Checked::Append { log, env } => self.append(now, conn, id, log, env),
            Checked::Ctl { rec, beside, .. } => self.attempt_ctl(now, conn, id, &rec, beside),
            Checked::Ident(rec) => self.append_ident(now, conn, id, &rec),
            Checked::Admin(act) => self.administer(now, conn, id, &act),
            Checked::Announcement { announced, rec } => {
                self.announce_key(now, conn, id, &announced, rec)
            }
            Checked::Profile { channel, env } => self.put_profile(now, conn, id, channel, *env),
            Checked::Other(op) => self.other(now, conn, id, *op),
        }
    }

    fn other(&mut self, now: Now, conn: ConnId, id: u64, op: Op) -> Result<(), Reject> {
        let me = self.session(conn)?;
        let reply = match op {
            Op::Subscribe(op) => return self.follow(conn, id, &me, &op),
            Op::Unsubscribe(op) => {
                self.unfollow(conn, &op.log);
                self.unsubscribe(conn, &op.log);
                Reply::Done(Nothing {})
            }
            Op::Read(op) => {
                let after = self.may_read(&me, &op.log, op.after)?;
                return self.load(conn, id, op.log, after, op.limit, Select::All);
            }
            Op::CtlFetch(op) => {
                let shown = self
                    .conns
                    .get(&conn)
                    .is_some_and(|c| c.shown.contains(&op.channel));
                let seen = self.dir.visible(&op.channel, &me.user).is_some();
                let there = self.dir.channel(&op.channel).is_some();
                if !(seen || shown && there) {
                    return Err(not_found("channel"));
                }
                self.mark_shown(conn, op.channel);
                let (log, limit) = (LogId::Channel(op.channel), u32::MAX);
                return self.load(conn, id, log, op.after, limit, Select::Ctl);
            }
            Op::IdentFetch(op) => self.idents(conn, &me, &op.user, op.from)?,
            Op::EkFetch(op) => self.announcements(&me, &op),
            Op::WrapPut(op) => return self.put_wraps(now, conn, id, &me, op),
            Op::WrapFetch(op) => return self.fetch_wraps(now, conn, id, &me, op),
            Op::WrapMissing(op) => self.missing_wraps(&me, &op)?,
            Op::Channels(_) => self.channels(&me),
            Op::FindChannel(op) => self.find_channel(conn, &me, &op.name)?,
            Op::FindUser(op) => self.find_user(&me, &op.name)?,
            Op::Invite(op) => return self.show_invite(now, conn, id, &me, op.invite),
            Op::Who(op) => self.who(&me, op.channel)?,
            Op::KickSession(op) => self.kick(now, &me, &op)?,
            Op::EnrolOpen(op) => self.open_enrolment(now, &me, &op)?,
            Op::Users(_) => self.users(&me)?,
            Op::ServerInvites(_) => self.server_invites(&me, now.wall),
            Op::Audit(op) => {
                self.must_be_admin(&me)?;
                let limit = op.limit.clamp(1, page_entries());
                let query = PageQuery::Audit {
                    after: op.after,
                    limit,
                };
                let purpose = Purpose::Answer(id);
                self.effect(Effect::Load(Load {
                    conn,
                    purpose,
                    query,
                }));
                return Ok(());
            }
            Op::Profiles(op) => self.profiles(&me, &op)?,
            Op::Cursors(op) => return self.cursors(conn, id, &me, op.log),
            Op::Items(op) => {
                if let LogId::Mailbox(_) = op.log {
                    let text = "a mailbox has no state and no memory";
                    return Err(Reject::new(Code::Malformed, text));
                }
                let after = self.may_read(&me, &op.log, op.after)?;
                return self.load(conn, id, op.log, after, op.limit, Select::Items);
            }
            Op::Append(_)
            | Op::Profile(_)
            | Op::CtlAppend(_)
            | Op::IdentAppend(_)
            | Op::Admin(_)
            | Op::EkPublish(_) => {
                return Err(Reject::new(Code::Internal, "the operation was not checked"));
            }
            Op::Unknown(_) => {
                return Err(Reject::new(
                    Code::UnknownOp,
                    "this server does not know that",
                ));
            }
        };
        self.reply(conn, id, reply);
        Ok(())
    }

    fn follow(
        &mut self,
        conn: ConnId,
        id: u64,
        me: &Session,
        op: &Subscribe,
    ) -> Result<(), Reject> {
        let after = self.may_read(me, &op.log, op.after)?;
        self.subscribe(conn, id, op.log, after)?;
        if let LogId::Channel(channel) = op.log {
            self.show(&me.path, channel);
        }
        Ok(())
    }

    /// Decides whether a session may read a log, and returns after which seq.
    fn may_read(&self, me: &Session, log: &LogId, after: u64) -> Result<u64, Reject> {
        match log {
            LogId::Channel(id) => {
                let channel = &self.dir.joined(id, &me.user)?.log;
                let since = channel.member(&me.user).map_or(u64::MAX, |m| m.since);
                Ok(match channel.history() {
                    History::Full => after,
                    History::SinceJoin => after.max(since.saturating_sub(1)),
                })
            }
            LogId::Mailbox(id) if me.mailbox == Some(*id) => Ok(after),
            LogId::Mailbox(_) => Err(not_found("log")),
        }
    }

    fn load(
        &mut self,
        conn: ConnId,
        id: u64,
        log: LogId,
        after: u64,
        limit: u32,
        select: Select,
    ) -> Result<(), Reject> {
        let limit = limit.clamp(1, page_entries());
        let query = PageQuery::Log {
            log,
            after,
            limit,
            select,
        };
        let purpose = Purpose::Answer(id);
        self.effect(Effect::Load(Load {
            conn,
            purpose,
            query,
        }));
        Ok(())
    }

    fn mark_shown(&mut self, conn: ConnId, channel: ChannelId) {
        if let Some(conn) = self.conns.get_mut(&conn)
            && conn.shown.len() < PAGE_ENTRIES_MAX
        {
            conn.shown.insert(channel);
        }
    }

    /// An identity may be read by who shares a channel, may answer, or needs it to verify the control
    /// records of a channel that it may read.
    fn idents(
        &self,
        conn: ConnId,
        me: &Session,
        user: &UserId,
        from: u64,
    ) -> Result<Reply, Reject> {
        let account = self.dir.users.get(user).ok_or_else(|| not_found("user"))?;
        let shown = self.conns.get(&conn).map(|c| &c.shown);
        let mine = self.dir.users.get(&me.user).map(|u| &u.channels);
        let seen = mine.into_iter().chain(shown).flatten();
        let mut people = seen.filter_map(|c| self.dir.channel(c)).map(|c| &c.people);
        if !self.may_know(me, user, account) && !people.any(|p| p.contains(user)) {
            return Err(not_found("user"));
        }
        let mut bytes = 0;
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        let records = account.records.iter().skip(skip).take_while(|rec| {
            bytes += rec.len();
            bytes <= PAGE_BYTES_MAX
        });
        Ok(Reply::Idents(Idents {
            user: *user,
            records: records.take(PAGE_ENTRIES_MAX).cloned().collect(),
            head: account.log.head().n,
        }))
    }

    /// Returns whether `me` may know of a user: they share a channel, it is an answer, or `me` runs a
    /// channel it can add users to.
    pub(super) fn may_know(&self, me: &Session, user: &UserId, account: &User) -> bool {
        let Some(mine) = self.dir.users.get(&me.user) else {
            return false;
        };
        let runs = |c: &ChannelId| {
            let channel = self.dir.channel(c);
            channel.is_some_and(|c| c.log.role(&me.user) >= Some(Role::Admin))
        };
        mine.standing.admin
            || self.dir.users.share(&me.user, user)
            || mine.correspondents.contains(user)
            || !account.standing.removed && mine.channels.iter().any(runs)
    }

    fn channels(&self, me: &Session) -> Reply {
        let seen = self.dir.channels().filter(|(_, c)| {
            let open = c.log.visibility() == Visibility::Public && !c.log.is_closed();
            open || c.log.role(&me.user).is_some()
        });
        let mut channels: Vec<_> = seen.map(|(id, c)| info(*id, c, &me.user)).collect();
        channels.sort_by(|a, b| (&a.name, a.channel).cmp(&(&b.name, b.channel)));
        Reply::Channels(Channels { channels })
    }

    fn find_channel(&mut self, conn: ConnId, me: &Session, name: &Name) -> Result<Reply, Reject> {
        let found = self
            .dir
            .channel_named(name)
            .ok_or_else(|| not_found("channel"))?;
        let channels = vec![info(*found.0, found.1, &me.user)];
        let id = *found.0;
        self.mark_shown(conn, id);
        Ok(Reply::Channels(Channels { channels }))
    }

    fn find_user(&self, me: &Session, name: &Name) -> Result<Reply, Reject> {
        let found = self
            .dir
            .user_named(name)
            .filter(|(id, u)| self.may_know(me, id, u));
        let (user_id, user) = found.ok_or_else(|| not_found("user"))?;
        Ok(Reply::User(self.user_info(me, user_id, user)))
    }

    fn user_info(&self, me: &Session, user_id: UserId, user: &User) -> UserInfo {
        UserInfo {
            name: user.log.username().clone(),
            user_id,
            ident: user.log.head(),
            admin: user.standing.admin && self.must_be_admin(me).is_ok(),
        }
    }

    fn show_invite(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        me: &Session,
        invite: InviteId,
    ) -> Result<(), Reject> {
        let invalid = || Reject::new(Code::InviteInvalid, "the invite is not valid");
        let sealed = self.boxes.get(&invite).cloned();
        if let Some((channel, found)) = self.dir.invited(&invite) {
            let live = found
                .log
                .invites()
                .get(&invite)
                .is_some_and(|i| i.is_live(now.wall));
            let member = found.log.role(&me.user).is_some();
            if found.log.is_closed() || !live && !member {
                return Err(invalid());
            }
            let channel = *channel;
            let shown = Box::new(InviteInfo {
                channel: Some(info(channel, found, &me.user)),
                ctl: Vec::new(),
                invite_box: sealed,
            });
            self.mark_shown(conn, channel);
            let query = PageQuery::Log {
                log: LogId::Channel(channel),
                after: 0,
                limit: page_entries(),
                select: Select::Ctl,
            };
            let purpose = Purpose::Invite(id, shown);
            self.effect(Effect::Load(Load {
                conn,
                purpose,
                query,
            }));
            return Ok(());
        }
        let row = self
            .invites
            .get(&invite)
            .filter(|row| now.wall < row.expires);
        row.ok_or_else(invalid)?;
        let shown = InviteInfo {
            channel: None,
            ctl: Vec::new(),
            invite_box: None,
        };
        self.reply(conn, id, Reply::Invite(shown));
        Ok(())
    }

    fn kick(&mut self, now: Now, me: &Session, op: &KickSession) -> Result<Reply, Reject> {
        let mine = self.dir.run_by(&op.channel, &me.user)?;
        let log = LogId::Channel(op.channel);
        let target = self.conns.iter().filter_map(|(id, c)| {
            let session = c.session.as_ref().filter(|s| s.path == op.path)?;
            c.subs.contains_key(&log).then_some((*id, session.user))
        });
        let target: Vec<(ConnId, UserId)> = target.collect();
        let Some((_, user)) = target.first() else {
            return Err(not_found("session in this channel"));
        };
        let outranks = *user == me.user || mine.log.role(user) < mine.log.role(&me.user);
        if !outranks {
            let text = "the session's user has no lower role than you";
            return Err(Reject::new(Code::Forbidden, text));
        }
        for (conn, _) in target {
            self.unfollow(conn, &log);
            let reason = Reject::new(Code::Forbidden, "kicked by an admin of the channel");
            self.drop_subscription(conn, log, reason);
        }
        self.audit(&Act {
            at: now.wall,
            user: Some(me.user),
            machine: Some(me.key),
            action: "kick_session",
            target: format!("{} in {}", op.path, op.channel),
            digest: None,
            request: None,
        });
        Ok(Reply::Done(Nothing {}))
    }

    pub(super) fn must_be_admin(&self, me: &Session) -> Result<(), Reject> {
        let account = self.dir.users.get(&me.user);
        match account.is_some_and(|u| u.standing.admin && !u.standing.removed) {
            true => Ok(()),
            false => Err(Reject::new(
                Code::Forbidden,
                "only server admins can do this",
            )),
        }
    }

    fn users(&self, me: &Session) -> Result<Reply, Reject> {
        self.must_be_admin(me)?;
        let users = self.dir.users.iter().filter(|(_, u)| !u.standing.removed);
        let mut users: Vec<_> = users.map(|(id, u)| self.user_info(me, *id, u)).collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Reply::Users(Users { users }))
    }

    fn server_invites(&self, me: &Session, now: UnixMs) -> Reply {
        let all = self.must_be_admin(me).is_ok();
        let live = self.invites.values().filter(|row| now < row.expires);
        let mut invites: Vec<ServerInvite> = live
            .filter(|row| all || row.minter == me.user)
            .map(|row| ServerInvite {
                invite: row.invite,
                minter: row.minter,
                uses_left: row.uses_left,
                expires: row.expires,
            })
            .collect();
        invites.sort_by_key(|invite| invite.expires);
        Reply::ServerInvites(ServerInvites { invites })
    }
}

fn page_entries() -> u32 {
    u32::try_from(PAGE_ENTRIES_MAX).unwrap_or(u32::MAX)
}
