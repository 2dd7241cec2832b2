//! The wake router: by which of its ways an agent hears of a message. Pure.
//!
//! The host acknowledges nothing, so a way is taken for proven only by evidence: the host's transcript has
//! what was sent that way, or the model acted on it. One message goes by one way; by another only after the
//! first was refuted or broke. Bodies go by a wait, the channel or a hook alone, always framed; by the other
//! ways goes a pointer, a line of our own words. It neither reads nor writes: [`crate::state`] asks it,
//! [`crate::session`] carries it out.

pub mod evidence;
pub mod inbox;

use crate::control::Event;
use crate::guard::{Bucket, Budget};
pub use conclave_proto::profile::WakePath;
use conclave_proto::time::{Mono, Now, UnixMs};
use std::collections::BTreeMap;

/// How long evidence of something may take, in milliseconds.
pub const PROOF_MS: u64 = 30_000;
/// How long a pointer stands for all that is unread, in milliseconds.
pub const POINTER_MS: u64 = 60_000;
/// How long after its last hook a host that was at work counts as being so, in milliseconds.
pub const HOOKS_MS: u64 = 120_000;

/// Pointers: the host's inbox drops what is more than about one in ten seconds.
const POINTERS: Budget = Budget::new(5, 50_000);
/// How often a hook's words, or the pointers of a way that was proven, may be missing from the transcript before
/// the way is given up.
const MISSING_MAX: u8 = 2;
/// How long a probe may wait for the end of a turn, in milliseconds.
const PROBE_MS: u64 = 5 * 60_000;

/// What is known of the host's channel without asking it: it never says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// The host is none that is known: its channel is the last resort, and nothing refutes it.
    #[default]
    Assumed,
    /// The host was told to listen to it; whether it does is probed.
    Possible,
    /// The host does not listen, and why.
    Impossible(&'static str),
}

/// What the host gave a session at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// What is known of its channel.
    pub channel: Channel,
    /// Whether it gave an inbox.
    pub inbox: bool,
}

/// What is known of one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Whether something takes what is sent.
    pub live: bool,
    /// Why it does not.
    pub why: &'static str,
    /// When it was last proven.
    pub proven: Option<UnixMs>,
    /// Whether what was sent did not come.
    pub refuted: bool,
}

impl Row {
    const fn is_usable(&self) -> bool {
        self.live && !self.refuted
    }
}

/// By which way something goes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// At once, by this one.
    Way(WakePath),
    /// Not yet: the next boundary of the turn carries it, or the next way after this moment.
    Boundary(Mono),
    /// Not yet: whether the channel works is known at this moment.
    Probe(Mono),
    /// Nothing carries it: it is fetched.
    Fetch,
}

/// A pointer that was sent and not followed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// By which way.
    pub path: WakePath,
    /// What it is known by; secret until it was shown.
    pub nonce: String,
    /// Which one it is.
    pub serial: u64,
    until: Mono,
    /// When it is looked for next.
    look: Mono,
    /// Whether nothing but it can have made the agent fetch.
    clean: bool,
    seen: bool,
}

/// A frame by the channel that shows whether the host listens.
#[derive(Clone, Copy, Debug)]
struct Probe {
    next: Mono,
    end: Mono,
}

/// See the module.
#[derive(Debug)]
pub struct Ways {
    channel: Channel,
    rows: BTreeMap<WakePath, Row>,
    /// When a hook last fired, and whether a turn was under way then.
    hooked: Option<Mono>,
    turn: bool,
    missing: u8,
    probe: Option<Probe>,
    pointer: Option<Pointer>,
    /// How many pointers in a row were not shown.
    missed: u8,
    sent: u64,
    bucket: Bucket,
    last: Option<(WakePath, UnixMs)>,
}

/// What came to light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// What the pointer of this number stood for goes by another way.
    Line(u64),
    /// What was pushed by the channel goes by another way.
    Channel,
}

impl Ways {
    /// Starts with what the host gave.
    #[must_use]
    pub fn new(now: Mono, given: Given) -> Self {
        let mut ways = Self {
            channel: Channel::Assumed,
            rows: BTreeMap::new(),
            hooked: None,
            turn: false,
            missing: 0,
            probe: None,
            pointer: None,
            missed: 0,
            sent: 0,
            bucket: Bucket::full(POINTERS, now),
            last: None,
        };
        ways.give(given);
        ways
    }

    /// Takes what the host gave.
    pub fn give(&mut self, given: Given) {
        self.channel = given.channel;
        let why = match given.channel {
            Channel::Assumed => "this host is not known; it may listen",
            Channel::Possible => "not proven yet",
            Channel::Impossible(why) => why,
        };
        self.set(WakePath::Channel, given.channel == Channel::Possible, why);
        self.set(WakePath::Inbox, given.inbox, "the host gave no inbox");
        self.set(WakePath::Monitor, false, "no monitor runs");
        self.set(WakePath::Rewake, false, "no hook waits");
        self.set(WakePath::Hook, false, "no hook has fired");
        self.set(WakePath::Wait, false, "no call waits");
    }

    fn set(&mut self, path: WakePath, live: bool, why: &'static str) {
        let row = self.rows.entry(path).or_default();
        (row.live, row.why) = (live, if live { "" } else { why });
    }

    /// Returns what is known of a way.
    #[must_use]
    pub fn row(&self, path: WakePath) -> Row {
        self.rows.get(&path).copied().unwrap_or_default()
    }

    /// Returns every way.
    pub fn rows(&self) -> impl Iterator<Item = (WakePath, Row)> {
        self.rows.iter().map(|(path, row)| (*path, *row))
    }

    /// Returns by which way the agent was last woken for certain, and when.
    #[must_use]
    pub const fn last(&self) -> Option<(WakePath, UnixMs)> {
        self.last
    }

    /// Returns the pointer that stands.
    #[must_use]
    pub const fn pointer(&self) -> Option<&Pointer> {
        self.pointer.as_ref()
    }

    /// Returns what is known of the channel.
    #[must_use]
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// Returns whether what goes by the channel is taken for shown: it was proven, or nothing else is known.
    #[must_use]
    pub fn is_channel_trusted(&self) -> bool {
        let proven = self.row(WakePath::Channel).proven.is_some();
        proven || (self.channel == Channel::Assumed && self.hooked.is_none())
    }

    /// Returns whether what went by the channel went nowhere, as is known by now.
    #[must_use]
    pub fn is_channel_void(&self) -> bool {
        let row = self.row(WakePath::Channel);
        let possible = self.channel == Channel::Possible && !row.refuted;
        !possible && !self.is_channel_trusted()
    }

    /// Returns whether a turn is under way, as far as hooks tell.
    #[must_use]
    pub fn is_working(&self, now: Mono) -> bool {
        self.turn && self.hooked.is_some_and(|at| now < at.plus(HOOKS_MS))
    }

    /// Returns whether the host writes what its model gets where it can be read.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        !matches!(self.channel, Channel::Assumed)
    }

    /// Returns by which way something that is due goes now.
    #[must_use]
    pub fn choose(&self, now: Mono) -> Choice {
        let usable = |path| self.row(path).is_usable();
        if usable(WakePath::Wait) {
            return Choice::Way(WakePath::Wait);
        }
        let channel = self.row(WakePath::Channel);
        if channel.proven.is_some() {
            return Choice::Way(WakePath::Channel);
        }
        if self.channel == Channel::Possible && !channel.refuted {
            return match self.probe {
                Some(probe) => Choice::Probe(probe.next),
                None => Choice::Way(WakePath::Channel),
            };
        }
        if usable(WakePath::Monitor) {
            return Choice::Way(WakePath::Monitor);
        }
        match self.hooked {
            Some(at) if usable(WakePath::Hook) && self.is_working(now) => {
                return Choice::Boundary(at.plus(HOOKS_MS));
            }
            _ => {}
        }
        let lines = [WakePath::Inbox, WakePath::Rewake];
        match lines.into_iter().find(|path| usable(*path)) {
            Some(path) => Choice::Way(path),
            // A hook will have it at the next prompt.
            None if usable(WakePath::Hook) => Choice::Fetch,
            None if channel.refuted => Choice::Fetch,
            None => Choice::Way(WakePath::Channel),
        }
    }

    /// Notes that a frame went by the channel. The first one shows whether the host listens.
    pub fn pushed(&mut self, now: Mono) {
        let proven = self.row(WakePath::Channel).proven.is_some();
        if self.channel == Channel::Possible && !proven && self.probe.is_none() {
            let (next, end) = (now.plus(PROOF_MS), now.plus(PROBE_MS));
            self.probe = Some(Probe { next, end });
        }
    }

    /// Returns when a pointer may be sent, if not now.
    pub fn pointer_at(&mut self, now: Mono) -> Option<Mono> {
        if let Some(pointer) = self.pointer.as_ref().filter(|p| p.until > now) {
            return Some(pointer.until);
        }
        match self.bucket.wait_ms(now) {
            0 => None,
            ms => Some(now.plus(ms)),
        }
    }

    /// Notes that a pointer goes; returns its number.
    pub fn point(&mut self, now: Mono, path: WakePath, nonce: String) -> u64 {
        self.bucket.take(1);
        self.sent += 1;
        self.pointer = Some(Pointer {
            path,
            nonce,
            serial: self.sent,
            until: now.plus(POINTER_MS),
            look: now.plus(POINTER_MS),
            clean: true,
            seen: false,
        });
        self.sent
    }

    /// Notes that the host is at a boundary.
    pub fn hooked(&mut self, now: Mono, event: Event) {
        self.hooked = Some(now);
        match event {
            Event::Prompt | Event::ToolStart | Event::ToolEnd => self.turn = true,
            Event::Stop | Event::Waiting | Event::SessionEnd => self.turn = false,
            Event::SessionStart => {}
        }
        self.set(WakePath::Hook, true, "");
    }

    /// Notes that a turn goes on although it was to end.
    pub const fn goes_on(&mut self) {
        self.turn = true;
    }

    /// Notes that something takes lines, or that calls wait.
    pub fn attached(&mut self, path: WakePath) {
        let row = self.rows.entry(path).or_default();
        (row.live, row.why, row.refuted) = (true, "", false);
    }

    /// Notes that nothing takes lines any more; what had gone that way and was not seen goes by another.
    pub fn detached(&mut self, path: WakePath, why: &'static str) -> Option<Lost> {
        self.set(path, false, why);
        self.lose(path)
    }

    /// Notes that what took a line takes no other.
    pub fn spent(&mut self, path: WakePath) {
        self.set(path, false, "it took its line");
    }

    fn lose(&mut self, path: WakePath) -> Option<Lost> {
        let unseen = |p: &mut Pointer| p.path == path && !p.seen;
        let pointer = self.pointer.take_if(unseen)?;
        Some(Lost::Line(pointer.serial))
    }

    /// Notes that a human gave a prompt: what the agent fetches now, it fetches for that.
    pub const fn human(&mut self) {
        if let Some(pointer) = &mut self.pointer {
            pointer.clean = false;
        }
    }

    /// Notes that the agent fetched: it followed the pointer. Returns the way that this proves.
    pub fn fetched(&mut self, now: Now) -> Option<WakePath> {
        let pointer = self.pointer.take()?;
        let proves = pointer.clean && now.mono < pointer.until;
        proves.then(|| self.prove(now, pointer.path))
    }

    /// Looks for the pointer among the words that the host's model got. Returns the way that this proves.
    pub fn saw(&mut self, now: Now, has: impl Fn(&str) -> bool) -> Option<WakePath> {
        let pointer = self.pointer.as_mut().filter(|p| !p.seen)?;
        if !has(&pointer.nonce) {
            return None;
        }
        pointer.seen = true;
        let path = pointer.path;
        Some(self.prove(now, path))
    }

    /// Notes evidence; returns its way.
    pub fn prove(&mut self, now: Now, path: WakePath) -> WakePath {
        let row = self.rows.entry(path).or_default();
        row.proven = Some(now.wall);
        row.refuted = false;
        match path {
            WakePath::Channel => {
                (row.live, row.why) = (true, "");
                self.probe = None;
            }
            WakePath::Hook => self.missing = 0,
            WakePath::Monitor | WakePath::Inbox | WakePath::Rewake => self.missed = 0,
            WakePath::Wait => {}
        }
        self.last = Some((path, now.wall));
        path
    }

    /// Returns when the transcript is to be looked at.
    #[must_use]
    pub fn look_at(&self) -> Option<Mono> {
        let unseen = self.pointer.as_ref().filter(|p| !p.seen);
        let pointer = unseen.map(|p| p.look);
        pointer.into_iter().chain(self.probe.map(|p| p.next)).min()
    }

    /// Notes that the transcript was looked at, or that there is `none` to look at; what is not in it by now
    /// did not come.
    pub fn looked(&mut self, now: Mono, none: bool) -> Vec<Lost> {
        let (mut lost, working) = (Vec::new(), self.is_working(now));
        if let Some(probe) = self.probe.as_mut().filter(|p| p.next <= now) {
            if working && now < probe.end {
                // What is pushed in the middle of a turn may come at its end.
                probe.next = now.plus(PROOF_MS);
            } else {
                self.probe = None;
                let row = self.rows.entry(WakePath::Channel).or_default();
                (row.live, row.refuted) = (false, true);
                row.why = "the host did not show what was pushed";
                lost.push(Lost::Channel);
            }
        }
        let due = |p: &&mut Pointer| p.look <= now && !p.seen;
        let Some(pointer) = self.pointer.as_mut().filter(due) else {
            return lost;
        };
        if working && !none {
            // Who is at work may not have come to it yet.
            pointer.look = now.plus(PROOF_MS);
            return lost;
        }
        let (path, serial) = (pointer.path, pointer.serial);
        self.pointer = None;
        if !none {
            self.missed(path);
            lost.push(Lost::Line(serial));
        }
        lost
    }

    /// Notes that a pointer did not come: a way that was never proven is given up, one that was, when it fails
    /// again.
    fn missed(&mut self, path: WakePath) {
        self.missed = self.missed.saturating_add(1);
        let row = self.rows.entry(path).or_default();
        if row.proven.is_none() || self.missed >= MISSING_MAX {
            (row.refuted, row.why) = (true, "the host did not show the pointer");
            self.missed = 0;
        }
    }

    /// Returns the number of the pointer that the agent may still follow.
    #[must_use]
    pub fn stands(&self, now: Mono) -> Option<u64> {
        let standing = self.pointer.as_ref().filter(|p| now < p.until);
        standing.map(|p| p.serial)
    }

    /// Notes that the transcript does not have what a hook said.
    pub fn hook_missing(&mut self) {
        self.missing = self.missing.saturating_add(1);
        if self.missing >= MISSING_MAX {
            let row = self.rows.entry(WakePath::Hook).or_default();
            (row.refuted, row.why) = (true, "the host did not show what a hook said");
        }
    }
}
