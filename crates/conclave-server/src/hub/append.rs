//! What changes logs: envelopes, and control records of channels.

use super::access::not_found;
use super::keys::{PutWraps, no_holder};
use super::quota::{envelope_bytes, wraps_bytes};
use super::state::{HubState, LogState, Pending, Session};
use super::{Beside, ConnId, Who};
use crate::audit::Act;
use crate::store::{Bound, Write};
use conclave_proto::channel_log::{
    CtlBody, CtlChange, CtlError, RemoveKind, VerifiedCtl, Visibility,
};
use conclave_proto::entry::{Header, Kind, Parsed, Suite};
use conclave_proto::frame::op::Wrap;
use conclave_proto::frame::reply::{Appended, Reply};
use conclave_proto::id::{Blob, ChannelId, InviteId, LogId, MailboxId, UserId};
use conclave_proto::identity_log::Cap;
use conclave_proto::limit::HOP_MAX;
use conclave_proto::name::{CLI_HANDLE, DESK_HANDLE, SessionPath};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;

/// How many of a user's sessions an error names.
const CANDIDATES_MAX: usize = 8;

impl HubState {
    pub(super) fn append(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        log: LogId,
        env: Box<Parsed>,
    ) -> Result<(), Reject> {
        let session = self.session(conn)?;
        let header = &env.header;
        if header.sender != session.path || header.sender_key != session.key {
            let text = "the entry names another sender than this session";
            return Err(Reject::new(Code::Unauthorized, text));
        }
        if header.hop > HOP_MAX {
            let text = format!("the causal depth is above {HOP_MAX}");
            return Err(Reject::new(Code::HopLimit, text));
        }
        self.take_token(now, conn)?;
        let may = match header.route.recipient() {
            None => {
                let may = self.may_post(&session, header);
                if log != LogId::Channel(header.channel) {
                    may?;
                    return Err(Reject::new(Code::Malformed, "the entry is for another log"));
                }
                may.map(|()| None)
            }
            Some(path) => self.may_whisper(&session, header, path, &log).map(Some),
        };
        let bound = match may {
            Ok(bound) => bound,
            // Rights end; what was stored before stays stored, and who repeats it is told so.
            Err(reject) => {
                let write = Write::Recall { log, env };
                self.put(write, Pending::Recall(conn, id, Box::new(reject)));
                return Ok(());
            }
        };
        let channel = bound.is_none().then_some(header.channel);
        let size = envelope_bytes(&env.envelope);
        self.use_up(now.mono, session.user, channel, size)?;
        self.write_append(Write::Append { log, env, bound }, conn, id);
        Ok(())
    }

    fn may_post(&self, session: &Session, header: &Header) -> Result<(), Reject> {
        let channel = self.dir.joined(&header.channel, &session.user)?;
        let log = self.logs.get(&LogId::Channel(header.channel));
        if log.is_none_or(|log| log.frozen) {
            return Err(Reject::new(
                Code::Frozen,
                "the channel is frozen by the server",
            ));
        }
        let checked = channel.log.check_env(header, &self.dir.users);
        checked.map_err(|e| Reject::new(e.code(), e.to_string()))
    }

    fn may_whisper(
        &mut self,
        session: &Session,
        header: &Header,
        path: &SessionPath,
        log: &LogId,
    ) -> Result<Bound, Reject> {
        let server = ChannelId::from_slice(
            self.settings
                .server_id
                .as_bytes()
                .get(..ChannelId::LEN)
                .unwrap_or_default(),
        );
        if Some(header.channel) != server {
            return Err(Reject::new(
                Code::Malformed,
                "the whisper is for another server",
            ));
        }
        if header.suite == Suite::Clear {
            let text = "whispers are sealed; update the client";
            return Err(Reject::new(Code::Mode, text));
        }
        if header.epoch != 0 {
            return Err(Reject::new(Code::Malformed, "a whisper has no epoch"));
        }
        let sender = self.dir.users.get(&session.user);
        let machine = sender.and_then(|u| u.log.machine(&session.key));
        if machine.is_none_or(|m| !m.caps.contains(&Cap::Send)) {
            return Err(Reject::new(Code::Forbidden, "this machine may not send"));
        }
        let nobody = || not_found("session");
        let (user, account) = self.dir.user_named(&path.user).ok_or_else(nobody)?;
        if !self.may_reach(&session.user, &user) {
            return Err(nobody());
        }
        let reader = MailboxId::of(&user, path);
        let desk = path.handle.as_str() == DESK_HANDLE;
        if desk && header.route.kind() != Kind::Receipt {
            let text = "nobody is at the desk to read messages";
            return Err(Reject::new(Code::NotFound, text));
        }
        // Every machine has a desk, whether somebody has ever been there or not.
        let opens = desk && account.log.machine_named(&path.machine).is_some();
        let exists = opens || self.logs.contains_key(&LogId::Mailbox(reader));
        if path.handle.as_str() == CLI_HANDLE || !exists {
            let there = account.paths.iter().rev().take(CANDIDATES_MAX);
            let there: Vec<String> = there.map(SessionPath::to_string).collect();
            let text = match there.is_empty() {
                true => format!("{} has no session", path.user),
                false => format!("no such session; {} has {}", path.user, there.join(", ")),
            };
            return Err(Reject::new(Code::NotFound, text));
        }
        if *log != LogId::Mailbox(reader) {
            return Err(Reject::new(Code::Malformed, "the entry is for another log"));
        }
        if opens {
            self.make_mailbox(reader, user, path);
        }
        if let Some(account) = self.dir.users.get_mut(&user) {
            account.heard(session.user);
        }
        let (items, bytes) = (
            self.settings.mailbox_items_max,
            self.settings.mailbox_bytes_max,
        );
        // Receipts come in where there is plenty of room, so that they never keep whispers out.
        let part = match header.route.kind() {
            Kind::Receipt => 2,
            Kind::Message | Kind::Whisper | Kind::State | Kind::Memory | Kind::Profile => 1,
        };
        Ok(Bound {
            reader,
            items: items.div_ceil(part),
            bytes: bytes.div_ceil(u64::from(part)),
        })
    }

    pub(super) fn append_ctl(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        rec: &VerifiedCtl,
        beside: Beside,
    ) -> Result<(), Reject> {
        let session = self.session(conn)?;
        // A new machine is told to every channel at once, and only the owner makes it.
        if !matches!(rec.body, CtlBody::Ident { .. }) {
            self.take_token(now, conn)?;
        }
        if rec.author.user != session.user {
            let text = "the record is by another user than this session's";
            return Err(Reject::new(Code::Unauthorized, text));
        }
        let channel = rec.channel;
        let number = usize::try_from(rec.c).unwrap_or(usize::MAX);
        let known = self
            .dir
            .channel(&channel)
            .and_then(|c| c.records.get(number).copied());
        if let Some((_, seq, at)) = known.filter(|(hash, ..)| *hash == rec.record().hash()) {
            let dup = true;
            self.reply(conn, id, Reply::Appended(Appended { seq, at, dup }));
            return Ok(());
        }
        match &rec.body {
            CtlBody::Create { .. } => {
                self.may_create(&session, &channel)?;
                self.has_machine_room(&channel, &session.user)?;
            }
            CtlBody::Join { ticket } => {
                let invite = ticket.map(|t| t.key.invite_id());
                self.may_join(&session, &channel, invite)?;
                self.has_machine_room(&channel, &session.user)?;
            }
            CtlBody::Add { user, .. } => {
                self.dir.joined(&channel, &session.user)?;
                self.has_machine_room(&channel, user)?;
            }
            _ => {
                self.dir.joined(&channel, &session.user)?;
            }
        }
        if !matches!(rec.body, CtlBody::Ident { .. }) {
            let size = wraps_bytes(beside.wraps.len());
            self.use_up(now.mono, session.user, Some(channel), size)?;
        }
        if self.dir.takes_name(rec) {
            return Err(Reject::new(
                Code::NameTaken,
                "another channel has this name",
            ));
        }
        let head = self
            .logs
            .get(&LogId::Channel(channel))
            .map_or(0, |l| l.head);
        let seq = head + self.waiting_ctl(&channel) + 1;
        let bad = |e: CtlError| Reject::new(e.code(), e.to_string());
        if let Some(known) = self
            .dir
            .channel(&channel)
            .filter(|_| !beside.wraps.is_empty())
        {
            // Who made wraps before the members changed is told that: the record's place comes first.
            let users = &self.dir.users;
            known.log.check(seq, now.wall, rec, users).map_err(bad)?;
            let holders = known.log.holders(users);
            if beside.wraps.iter().any(|w| !holders.contains_key(&w.to)) {
                return Err(no_holder());
            }
        }
        let change = self
            .dir
            .extend_channel(&channel, seq, now.wall, rec)
            .map_err(bad)?;
        let log = self.logs.entry(LogId::Channel(channel));
        log.or_insert_with(LogState::empty);
        let removed = match &change {
            CtlChange::MemberRemoved { user, .. } => Some(*user),
            _ => None,
        };
        let bytes = rec.record().bytes().clone();
        self.write_ctl(
            Write::Ctl {
                channel,
                rec: bytes,
            },
            conn,
            id,
            removed,
        );
        self.keep_wraps(channel, &change, beside.wraps);
        self.keep_boxes(&channel, &change, beside.invite_box);
        self.audit_ctl(now, &session, rec, &change);
        Ok(())
    }

    fn may_create(&self, session: &Session, channel: &ChannelId) -> Result<(), Reject> {
        if self.dir.knows_channel(channel) {
            return Err(Reject::new(Code::CtlConflict, "the channel id is taken"));
        }
        let account = self.dir.users.get(&session.user);
        let admin = account.is_some_and(|u| u.standing.admin);
        if self.settings.create_channels == Who::Admins && !admin {
            let text = "only server admins create channels here";
            return Err(Reject::new(Code::Forbidden, text));
        }
        self.has_place(session)
    }

    /// A join shows a private channel only to who holds an invite into it.
    fn may_join(
        &self,
        session: &Session,
        id: &ChannelId,
        invite: Option<InviteId>,
    ) -> Result<(), Reject> {
        let channel = self.dir.channel(id).ok_or_else(|| not_found("channel"))?;
        let holds = invite.is_some_and(|i| channel.log.invites().contains_key(&i));
        let member = channel.log.role(&session.user).is_some();
        if channel.log.visibility() == Visibility::Private && !holds && !member {
            return Err(not_found("channel"));
        }
        self.has_place(session)
    }

    fn has_place(&self, session: &Session) -> Result<(), Reject> {
        let most = self.settings.channels_per_user_max;
        let account = self.dir.users.get(&session.user);
        if account.is_some_and(|u| u.channels.len() >= most) {
            let text = format!("a user is in at most {most} channels");
            return Err(Reject::new(Code::LimitReached, text));
        }
        Ok(())
    }

    /// Keeps the wraps beside a new epoch, in the same commit.
    fn keep_wraps(&mut self, channel: ChannelId, change: &CtlChange, wraps: Vec<Wrap>) {
        if let (CtlChange::EpochStarted(e), false) = (change, wraps.is_empty()) {
            let (e, holders) = (*e, wraps.iter().map(|wrap| wrap.to).collect());
            let put = PutWraps {
                answer: None,
                channel,
                e,
                holders,
            };
            self.put(Write::Wraps { channel, e, wraps }, Pending::Wraps(put));
        }
    }

    /// Keeps the box beside a new invite, and drops the boxes of such that are over.
    fn keep_boxes(&mut self, channel: &ChannelId, change: &CtlChange, sealed: Option<Blob>) {
        match change {
            CtlChange::InviteAdded(invite) => {
                if let Some(sealed) = sealed {
                    self.boxes.insert(*invite, sealed.clone());
                    let (invite, sealed) = (*invite, Some(sealed));
                    self.write(Write::InviteBox { invite, sealed });
                }
            }
            CtlChange::InviteRevoked(invite) => self.drop_box(*invite),
            CtlChange::MemberAdded { .. } | CtlChange::MemberRemoved { .. } => {
                let spent =
                    |i: &conclave_proto::channel_log::Invite| i.revoked || i.uses >= i.max_uses;
                let channel = self.dir.channel(channel).map(|c| &c.log);
                let invites = channel.into_iter().flat_map(|c| c.invites());
                let spent: Vec<InviteId> = invites
                    .filter(|(_, invite)| spent(invite))
                    .map(|(id, _)| *id)
                    .collect();
                for invite in spent {
                    self.drop_box(invite);
                }
            }
            _ => {}
        }
    }

    fn drop_box(&mut self, invite: InviteId) {
        if self.boxes.remove(&invite).is_some() {
            let sealed = None;
            self.write(Write::InviteBox { invite, sealed });
        }
    }

    fn audit_ctl(&mut self, now: Now, session: &Session, rec: &VerifiedCtl, change: &CtlChange) {
        let action = match change {
            CtlChange::MemberRemoved { kind, .. } => match kind {
                RemoveKind::Leave => return,
                RemoveKind::Kick => "kick",
                RemoveKind::Ban => "ban",
            },
            CtlChange::Unbanned(_) => "unban",
            CtlChange::Frozen(_) => "freeze",
            CtlChange::Confidential(_) => "confidential",
            CtlChange::Closed => "close",
            CtlChange::RoleChanged { .. } => "role",
            _ => return,
        };
        let target: Option<UserId> = match change {
            CtlChange::MemberRemoved { user, .. }
            | CtlChange::Unbanned(user)
            | CtlChange::RoleChanged { user, .. } => Some(*user),
            _ => None,
        };
        let target = target.map_or_else(
            || rec.channel.to_string(),
            |user| format!("{user} in {}", rec.channel),
        );
        self.audit(&Act {
            at: now.wall,
            user: Some(session.user),
            machine: Some(session.key),
            action,
            target,
            digest: Some(rec.record().hash()),
            request: None,
        });
    }
}
