//! What this session says of itself, by channel: when it is said, and what was heard of others.
//!
//! The newest word counts, and it lives as long as the session: it is said again after a reconnect and
//! under each new key. A caller never waits for it.

use super::errand::{Errand, is_pending};
use super::lane::is_passing;
use super::{Core, Waiting};
use crate::client::random;
use conclave_proto::body::Body;
use conclave_proto::channel_log::Mode;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::Op;
use conclave_proto::frame::op::ProfilePut;
use conclave_proto::frame::{Ready, Reply};
use conclave_proto::id::{ChannelId, LogId, MsgId, RecipientKeyId};
use conclave_proto::name::SessionPath;
use conclave_proto::profile::Profile;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::{Mono, UnixMs};
use std::collections::HashMap;

/// How long there is at least between two profiles of one channel, in milliseconds.
const PACE_MS: u64 = 1_000;
/// How long one rests that was refused for the moment, in milliseconds.
const REST_MS: u64 = 5_000;
/// How long one rests whose key is not here, in milliseconds; it is woken when it comes.
const PENDING_MS: u64 = 30_000;
/// How many sessions' newest words are remembered.
const SEEN_MAX: usize = 4_096;

/// See the module.
#[derive(Default)]
pub(crate) struct Profiles {
    sayings: HashMap<ChannelId, Saying>,
    /// The counter and time of the newest one.
    ctr: u64,
    ts: UnixMs,
    seen: HashMap<(ChannelId, SessionPath), Seen>,
}

struct Saying {
    profile: Profile,
    step: Step,
    /// Not before: one a second.
    paced: Mono,
    /// How to seal was just found out, and nothing was sealed since.
    prepared: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The server has it.
    Said,
    /// It is to be said then.
    Due(Mono),
    /// It is on its way; with `again` it is to be said once more after that.
    Busy { again: bool },
    /// For something that is told: a connection, a key.
    Waits,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Said,
    Later(u64),
    Waits,
}

/// The newest word of a session that was heard: by the same process counters order them, else when the
/// server says that it came, or their times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) sid: [u8; 8],
    pub(crate) ctr: u64,
    pub(crate) ts: UnixMs,
    /// When the session came, by the server's clock.
    pub(crate) since: UnixMs,
}

impl Seen {
    /// Returns whether `self` was said before `other`.
    fn precedes(&self, other: &Self) -> bool {
        match self.sid == other.sid {
            true => self.ctr < other.ctr,
            // The machine's clock may have been set back in between: then the server's tells.
            false => self.ts < other.ts && self.since <= other.since,
        }
    }
}

impl Saying {
    /// Has it said, once more if it is on its way.
    fn renew(&mut self, now: Mono) {
        self.step = match self.step {
            Step::Busy { .. } => Step::Busy { again: true },
            Step::Said | Step::Due(_) | Step::Waits => Step::Due(self.paced.max(now)),
        };
    }
}

impl Profiles {
    /// Takes a new word for a channel.
    fn set(&mut self, channel: ChannelId, profile: Profile, now: Mono) {
        let saying = self.sayings.entry(channel).or_insert_with(|| Saying {
            profile: Profile::default(),
            step: Step::Waits,
            paced: now,
            prepared: false,
        });
        if saying.profile != profile || saying.step == Step::Waits {
            saying.profile = profile;
            saying.renew(now);
        }
    }

    /// Has the word for a channel said again: nobody can read it any more.
    pub(super) fn renew(&mut self, channel: &ChannelId, now: Mono) {
        if let Some(saying) = self.sayings.get_mut(channel) {
            saying.renew(now);
        }
    }

    /// Has every word said again: the server may have forgotten them.
    pub(super) fn renew_all(&mut self, now: Mono) {
        for saying in self.sayings.values_mut() {
            saying.renew(now);
        }
    }

    /// Has the word for a channel said now that waits or rests.
    pub(super) fn wake(&mut self, channel: &ChannelId, now: Mono) {
        if let Some(saying) = self.sayings.get_mut(channel)
            && matches!(saying.step, Step::Waits | Step::Due(_))
        {
            saying.renew(now);
        }
    }

    /// Returns when the next one is to be said.
    pub(super) fn next_due(&self) -> Option<Mono> {
        let due = self
            .sayings
            .values()
            .filter_map(|saying| match saying.step {
                Step::Due(at) => Some(at),
                Step::Said | Step::Busy { .. } | Step::Waits => None,
            });
        due.min()
    }

    /// Takes out what is to be said now.
    fn take_due(&mut self, now: Mono) -> Vec<ChannelId> {
        let due = |saying: &Saying| matches!(saying.step, Step::Due(at) if at <= now);
        let mut taken = Vec::new();
        for (channel, saying) in self.sayings.iter_mut().filter(|(_, s)| due(s)) {
            saying.step = Step::Busy { again: false };
            saying.paced = now.plus(PACE_MS);
            taken.push(*channel);
        }
        taken
    }

    fn ended(&mut self, channel: &ChannelId, end: End, now: Mono) {
        let Some(saying) = self.sayings.get_mut(channel) else {
            return;
        };
        saying.step = match (saying.step, end) {
            (Step::Busy { again: true }, End::Said) => Step::Due(saying.paced.max(now)),
            (Step::Busy { .. }, End::Said) => Step::Said,
            (Step::Busy { .. }, End::Later(ms)) => Step::Due(saying.paced.max(now.plus(ms))),
            (Step::Busy { .. }, End::Waits) => Step::Waits,
            // It is another attempt's end.
            (step @ (Step::Said | Step::Due(_) | Step::Waits), _) => step,
        };
    }

    /// Takes what was heard of a session; `false` if something newer was heard of it before.
    pub(crate) fn hear(&mut self, channel: ChannelId, path: &SessionPath, mut seen: Seen) -> bool {
        let known = self.seen.get(&(channel, path.clone()));
        if known.is_some_and(|known| seen.precedes(known)) {
            return false;
        }
        if let Some(known) = known.filter(|known| known.sid == seen.sid) {
            // What a process that is gone left there is no newer than that process.
            seen.since = known.since;
        }
        if self.seen.len() >= SEEN_MAX && known.is_none() {
            // Who makes up sessions makes this forget, and gains the past of a session that is there.
            self.seen.clear();
        }
        self.seen.insert((channel, path.clone()), seen);
        true
    }
}

impl Core {
    /// Takes what this session says of itself in a channel from now on.
    pub(crate) fn set_profile(&mut self, channel: ChannelId, profile: Profile) {
        let now = self.driver.now().mono;
        self.profiles.set(channel, profile, now);
    }

    /// Says what is to be said now.
    pub(super) fn publish_due(&mut self) {
        let now = self.driver.now().mono;
        for channel in self.profiles.take_due(now) {
            if let Some(end) = self.publish(channel) {
                self.profiles.ended(&channel, end, now);
            }
        }
    }

    /// Says one; `None` if its end comes later.
    fn publish(&mut self, channel: ChannelId) -> Option<End> {
        let ready = self.ready.clone().filter(|_| self.driver.is_up());
        let Some(ready) = ready.filter(|_| self.follows(&LogId::Channel(channel))) else {
            return Some(End::Waits);
        };
        let Some(env) = self.seal_profile(&ready, channel) else {
            let saying = self.profiles.sayings.get_mut(&channel)?;
            if std::mem::take(&mut saying.prepared) {
                // It was found out, and did not do: whatever that is, it is no matter of haste.
                return Some(End::Later(REST_MS));
            }
            self.errand(Errand::Profile(channel));
            return None;
        };
        if let Some(saying) = self.profiles.sayings.get_mut(&channel) {
            saying.prepared = false;
        }
        let put = ProfilePut { channel, env };
        let deadline = self.deadline();
        self.ask(Op::Profile(put), deadline, Waiting::Profile(channel));
        None
    }

    /// Seals the word for a channel; `None` if it is not known well enough how.
    fn seal_profile(&mut self, ready: &Ready, channel: ChannelId) -> Option<Envelope> {
        let profile = self.profiles.sayings.get(&channel)?.profile.clone();
        let mode = self.book.tip(&channel)?.mode();
        let key = match mode {
            Mode::Signed => None,
            Mode::E2e if self.book.must_rotate(&channel) => return None,
            Mode::E2e => Some(self.book.current_key(&channel)?.clone()),
        };
        let body = Body {
            profile: Some(profile),
            ..Body::default()
        };
        let (body, id) = (body.to_bytes().ok()?, random().ok()?);
        let (ctr, ts) = (self.profiles.ctr + 1, self.driver.now().wall);
        self.profiles.ctr = ctr;
        // A clock that was set back makes nothing look older than what it replaces.
        self.profiles.ts = ts.max(self.profiles.ts.plus(1));
        let header = Header {
            suite: key.as_ref().map_or(Suite::Clear, |_| Suite::One),
            channel,
            epoch: key.as_ref().map_or(0, |key| key.place().e),
            sender: ready.path.clone(),
            sender_key: self.secret.machine_key(),
            sid: self.sid,
            ctr,
            msg_id: MsgId::new(id),
            ts: self.profiles.ts,
            route: Route::Profile,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        };
        match key {
            None => Some(Envelope::clear(&header, body, &self.secret)),
            Some(key) => {
                let sealed = key.seal(&header, &body, random().ok()?, &self.secret);
                sealed.ok()
            }
        }
    }

    /// Takes the server's answer to a profile.
    pub(super) fn published(&mut self, channel: ChannelId, result: &Result<Reply, Reject>) {
        let end = match result {
            Ok(_) => End::Said,
            Err(reject) if reject.code == Code::StaleEpoch => {
                return self.errand(Errand::Profile(channel));
            }
            Err(reject) if is_passing(&reject.code) => {
                End::Later(reject.retry_after_ms.unwrap_or(REST_MS))
            }
            Err(reject) => {
                tracing::debug!(%reject, %channel, "the server does not take the profile");
                End::Waits
            }
        };
        let now = self.driver.now().mono;
        self.profiles.ended(&channel, end, now);
    }

    /// Takes the end of finding out how to seal for a channel's profile.
    pub(super) fn profile_prepared(&mut self, channel: ChannelId, result: Result<(), Reject>) {
        let now = self.driver.now().mono;
        let end = match result {
            Ok(()) => {
                if let Some(saying) = self.profiles.sayings.get_mut(&channel) {
                    saying.prepared = true;
                }
                End::Later(0)
            }
            Err(reject) if is_pending(&reject) => End::Later(PENDING_MS),
            Err(reject) if is_passing(&reject.code) => End::Later(REST_MS),
            Err(reject) => {
                tracing::debug!(%reject, %channel, "the profile is not said");
                End::Waits
            }
        };
        self.profiles.ended(&channel, end, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: ChannelId = ChannelId::new([1; 16]);

    fn says(summary: &str) -> Profile {
        Profile {
            summary: Some(summary.into()),
            ..Profile::default()
        }
    }

    #[test]
    fn the_newest_word_is_said_at_most_once_a_second() {
        let mut profiles = Profiles::default();
        profiles.set(OPS, says("a"), Mono(10));
        assert_eq!(profiles.next_due(), Some(Mono(10)));
        assert_eq!(profiles.take_due(Mono(10)), [OPS]);
        // While one is on its way, two more words are one.
        profiles.set(OPS, says("b"), Mono(20));
        profiles.set(OPS, says("c"), Mono(30));
        assert_eq!(profiles.next_due(), None);
        profiles.ended(&OPS, End::Said, Mono(40));
        assert_eq!(profiles.next_due(), Some(Mono(1_010)));
        assert_eq!(profiles.take_due(Mono(1_009)), []);
        assert_eq!(profiles.take_due(Mono(1_010)), [OPS]);
        assert_eq!(profiles.sayings[&OPS].profile, says("c"));
        profiles.ended(&OPS, End::Said, Mono(1_020));
        // The same word again is no news; a new key or connection is.
        profiles.set(OPS, says("c"), Mono(3_000));
        assert_eq!(profiles.next_due(), None);
        profiles.renew_all(Mono(3_000));
        assert_eq!(profiles.take_due(Mono(3_000)), [OPS]);
    }

    #[test]
    fn a_refusal_of_the_moment_is_followed_by_another_attempt_and_a_key_wakes_it() {
        let mut profiles = Profiles::default();
        profiles.set(OPS, says("a"), Mono(0));
        profiles.take_due(Mono(0));
        profiles.ended(&OPS, End::Later(5_000), Mono(10));
        assert_eq!(profiles.next_due(), Some(Mono(5_010)));
        profiles.wake(&OPS, Mono(2_000));
        assert_eq!(profiles.take_due(Mono(2_000)), [OPS]);
        profiles.ended(&OPS, End::Waits, Mono(2_010));
        assert_eq!(profiles.next_due(), None);
        profiles.renew(&OPS, Mono(2_020));
        assert_eq!(profiles.next_due(), Some(Mono(3_000)));
        // The end of what was not begun is nothing.
        profiles.ended(&OPS, End::Said, Mono(2_030));
        assert_eq!(profiles.next_due(), Some(Mono(3_000)));
    }

    #[test]
    fn what_was_said_before_is_not_heard_after() {
        let mut profiles = Profiles::default();
        let path: SessionPath = "ada/box/api".parse().unwrap();
        let seen = |sid, ctr, ts| Seen {
            sid: [sid; 8],
            ctr,
            ts: UnixMs(ts),
            since: UnixMs(7),
        };
        for (word, heard) in [
            (seen(1, 2, 100), true),
            (seen(1, 2, 100), true),
            (seen(1, 1, 200), false),
            // The process' clock was set back: its counter tells.
            (seen(1, 3, 50), true),
            (seen(2, 1, 49), false),
            (seen(2, 1, 51), true),
            (seen(1, 4, 50), false),
        ] {
            assert_eq!(profiles.hear(OPS, &path, word), heard, "{word:?}");
        }
    }

    #[test]
    fn a_clock_that_was_corrected_hides_nobody() {
        let mut profiles = Profiles::default();
        let path: SessionPath = "ada/box/api".parse().unwrap();
        let seen = |sid, ts, since| Seen {
            sid: [sid; 8],
            ctr: 1,
            ts: UnixMs(ts),
            since: UnixMs(since),
        };
        for (word, heard) in [
            (seen(1, 9_000, 10), true),
            // The next process is there and has said nothing yet.
            (seen(1, 9_000, 20), true),
            (seen(2, 100, 20), true),
            (seen(1, 99, 20), false),
            (seen(3, 99, 20), false),
        ] {
            assert_eq!(profiles.hear(OPS, &path, word), heard, "{word:?}");
        }
    }
}
