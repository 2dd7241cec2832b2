//! How far sessions have received a log: by their own word, kept by the store once a second.
//!
//! Who may read a channel may know how far its members are, and who may whisper to a session how far
//! that one is with its mailbox: it is what tells a sender that a message has arrived.

use super::access::not_found;
use super::presence::State;
use super::state::{HubState, Session};
use super::{ConnId, Effect, Load, Purpose};
use crate::store::{CursorRow, PageQuery, Write};
use conclave_proto::frame::client::Cursor;
use conclave_proto::frame::reply::{Cursors, Reader, Reply};
use conclave_proto::id::{LogId, MailboxId, UserId};
use conclave_proto::limit::CURSORS_MAX;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::Reject;
use std::collections::BTreeMap;

impl HubState {
    /// Takes how far a session has received logs that it follows.
    pub(super) fn ack(&mut self, conn: ConnId, cursors: Vec<Cursor>) {
        let Some((conn, session)) = self
            .conns
            .get(&conn)
            .and_then(|c| Some((c, c.session.as_ref()?)))
        else {
            return;
        };
        let Some(reader) = session.mailbox else {
            return;
        };
        for Cursor { log, seq } in cursors {
            if let (true, Some(state)) = (conn.subs.contains_key(&log), self.logs.get(&log)) {
                let cursor = self.cursors.entry((log, reader)).or_default();
                *cursor = (*cursor).max(seq.min(state.head));
            }
        }
    }

    pub(super) fn flush_cursors(&mut self) {
        for ((log, reader), seq) in std::mem::take(&mut self.cursors) {
            self.write(Write::Cursor { log, reader, seq });
        }
    }

    /// Asks the store how far readers of a log are, for who may know.
    pub(super) fn cursors(
        &mut self,
        conn: ConnId,
        id: u64,
        me: &Session,
        log: LogId,
    ) -> Result<(), Reject> {
        match &log {
            LogId::Channel(channel) => drop(self.dir.joined(channel, &me.user)?),
            LogId::Mailbox(_) => {
                let owner = self.logs.get(&log).and_then(|state| state.owner.as_ref());
                let (user, _) = owner.ok_or_else(|| not_found("log"))?;
                if !self.may_reach(&me.user, user) {
                    return Err(not_found("log"));
                }
            }
        }
        // They may be in the store by the time that it is read, and after that nowhere else.
        let all = (log, MailboxId::new([0; MailboxId::LEN]))
            ..=(log, MailboxId::new([u8::MAX; MailboxId::LEN]));
        let fresh = self.cursors.range(all).filter_map(|((_, reader), seq)| {
            let mailbox = self.logs.get(&LogId::Mailbox(*reader))?;
            let (user, path) = mailbox.owner.clone()?;
            let seq = *seq;
            Some(CursorRow { user, path, seq })
        });
        let purpose = Purpose::Cursors(id, fresh.collect());
        let query = PageQuery::Cursors { log };
        self.effect(Effect::Load(Load {
            conn,
            purpose,
            query,
        }));
        Ok(())
    }

    /// Returns whether one user may whisper to sessions of another: they share a channel, or it is an
    /// answer.
    pub(super) fn may_reach(&self, from: &UserId, to: &UserId) -> bool {
        let account = self.dir.users.get(to);
        let sender = self.dir.users.get(from);
        account.is_some_and(|account| !account.standing.removed)
            && (self.dir.users.share(from, to)
                || sender.is_some_and(|sender| sender.correspondents.contains(to)))
    }

    /// Answers with the cursors that the store had, and those that were newer.
    pub(super) fn tell_cursors(
        &mut self,
        conn: ConnId,
        id: u64,
        log: LogId,
        fresh: Vec<CursorRow>,
        rows: Vec<CursorRow>,
    ) {
        let Some(state) = self.logs.get(&log).filter(|state| !state.deleted) else {
            return self.refuse(conn, id, not_found("log"));
        };
        let (head, oldest) = (state.head, state.oldest);
        let asks = self.conns.get(&conn).and_then(|c| c.session.as_ref());
        let own = asks.and_then(|session| session.mailbox).map(LogId::Mailbox);
        let mut known: BTreeMap<SessionPath, u64> = BTreeMap::new();
        for row in rows.into_iter().chain(fresh) {
            let counts = match &log {
                LogId::Channel(channel) => self.dir.joined(channel, &row.user).is_ok(),
                LogId::Mailbox(mailbox) => MailboxId::of(&row.user, &row.path) == *mailbox,
            };
            if counts {
                let seq = known.entry(row.path).or_default();
                *seq = (*seq).max(row.seq);
            }
        }
        // How much somebody else ever got is between that one and its senders.
        let head = match log {
            LogId::Mailbox(_) if own != Some(log) => known.values().copied().max().unwrap_or(0),
            LogId::Mailbox(_) | LogId::Channel(_) => head,
        };
        let online = |path: &SessionPath| {
            let there = self.roster.get(path);
            there.is_some_and(|there| matches!(there.state, State::Online(_)))
        };
        let (mut readers, rest): (Vec<_>, Vec<_>) = known
            .into_iter()
            .map(|(path, seq)| Reader { path, seq })
            .partition(|reader| online(&reader.path));
        readers.extend(rest);
        readers.truncate(CURSORS_MAX);
        let cursors = Cursors {
            head,
            oldest,
            readers,
        };
        self.reply(conn, id, Reply::Cursors(cursors));
    }
}
