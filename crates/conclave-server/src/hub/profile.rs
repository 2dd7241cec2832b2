//! What sessions say of themselves, and who is there: kept in memory, as long as the session is.
//!
//! A profile is sealed like a message of its channel; the server keeps the newest one of each session
//! and channel as it came. It is in no log and survives no restart: sessions say it again.

use super::ConnId;
use super::presence::State;
use super::state::{HubState, Session};
use conclave_proto::entry::Parsed;
use conclave_proto::frame::op::{Nothing, ProfilesOf};
use conclave_proto::frame::reply::{ProfileOf, Profiles, Reply, SessionInfo, Sessions};
use conclave_proto::id::ChannelId;
use conclave_proto::limit::{PAGE_BYTES_MAX, PROFILES_MAX, SUBSCRIPTIONS_MAX};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;

/// What an item of a list has besides its texts, in an answer.
const ITEM_BYTES: usize = 160;

impl HubState {
    /// Keeps what a session says of itself in a channel.
    pub(super) fn put_profile(
        &mut self,
        now: Now,
        conn: ConnId,
        id: u64,
        channel: ChannelId,
        env: Parsed,
    ) -> Result<(), Reject> {
        let me = self.session(conn)?;
        let header = &env.header;
        if header.sender != me.path || header.sender_key != me.key {
            let text = "the profile names another session than this one";
            return Err(Reject::new(Code::Unauthorized, text));
        }
        if me.mailbox.is_none() {
            let text = "a session for one command is not among the peers";
            return Err(Reject::new(Code::Forbidden, text));
        }
        self.take_token(now, conn)?;
        let found = self.dir.joined(&channel, &me.user)?;
        if header.channel != channel {
            let text = "the profile is for another channel";
            return Err(Reject::new(Code::Malformed, text));
        }
        let checked = found.log.check_profile(header, &self.dir.users);
        checked.map_err(|e| Reject::new(e.code(), e.to_string()))?;
        if let Some(there) = self.roster.get_mut(&me.path) {
            if there.says.len() >= SUBSCRIPTIONS_MAX && !there.says.contains_key(&channel) {
                let text =
                    format!("a session has a profile in at most {SUBSCRIPTIONS_MAX} channels");
                return Err(Reject::new(Code::LimitReached, text));
            }
            there.says.insert(channel, env.envelope);
        }
        self.reply(conn, id, Reply::Done(Nothing {}));
        Ok(())
    }

    /// Returns what the sessions of a channel say of themselves.
    pub(super) fn profiles(&self, me: &Session, op: &ProfilesOf) -> Result<Reply, Reject> {
        self.dir.joined(&op.channel, &me.user)?;
        let there = self.roster.after(op.after.as_ref());
        let said = there.filter_map(|(path, there)| Some((path, there.says.get(&op.channel)?)));
        let (mut profiles, mut bytes, mut more) = (Vec::new(), 0, false);
        for (path, env) in said {
            bytes += ITEM_BYTES + env.header.len() + env.ct.len() + path.to_string().len();
            if profiles.len() >= PROFILES_MAX || bytes > PAGE_BYTES_MAX {
                more = true;
                break;
            }
            let (path, env) = (path.clone(), env.clone());
            profiles.push(ProfileOf { path, env });
        }
        Ok(Reply::Profiles(Profiles { profiles, more }))
    }

    /// Returns who is there: in a channel, or of everybody one shares a channel with.
    pub(super) fn who(&self, me: &Session, channel: Option<ChannelId>) -> Result<Reply, Reject> {
        if let Some(channel) = &channel {
            self.dir.joined(channel, &me.user)?;
        }
        let there = self.roster.iter().filter(|(_, there)| match &channel {
            Some(channel) => there.follows.contains(channel),
            None => self.dir.users.share(&me.user, &there.user),
        });
        let (online, leased): (Vec<_>, Vec<_>) =
            there.partition(|(_, there)| matches!(there.state, State::Online(_)));
        let (mut sessions, mut bytes, mut more) = (Vec::new(), 0, false);
        for (path, there) in online.into_iter().chain(leased) {
            // Texts may grow where they are escaped.
            bytes += ITEM_BYTES + path.to_string().len() + 3 * there.agent.len();
            if bytes > PAGE_BYTES_MAX {
                more = true;
                break;
            }
            sessions.push(there.info(path));
        }
        sessions.sort_by(|a: &SessionInfo, b| a.path.cmp(&b.path));
        Ok(Reply::Sessions(Sessions { sessions, more }))
    }
}
