//! Work that takes several questions to the server: asked for here, done by the keeper beside the task.
//!
//! The task goes on meanwhile. What waits for an errand waits in its feed or lane, and is looked at
//! again when the errand is done, however it ended.

use super::Core;
use crate::book::Need;
use crate::client::random;
use crate::event::{Event, Notice, NoticeKind};
use conclave_proto::channel_log::{CtlChange, Mode};
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use std::collections::{HashMap, HashSet, VecDeque};
use tokio::sync::mpsc;

/// How long the first look for a key that was not there waits, in milliseconds; then twice as long…
const RETRY_FIRST_MS: u64 = 1_000;
/// …and at most this long.
const RETRY_MAX_MS: u64 = 30_000;
/// How often it is looked whether this machine's encryption key must be renewed, in milliseconds.
const ANNOUNCE_MS: u64 = 24 * 60 * 60 * 1000;
/// Among how many milliseconds holders choose when to bring a key, so that one is first.
const SPREAD_MS: u64 = 1_000;

/// Something to be done beside the task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Errand {
    /// Find out how to seal for a log: its mode and newest key, or the recipient's.
    Prepare(LogId, Option<SessionPath>),
    /// Fetch the keys of a channel.
    Keys(ChannelId),
    /// The same, at once: one of them has come.
    KeyCame(ChannelId),
    /// Find out how to seal what this session says of itself in a channel.
    Profile(ChannelId),
    /// Bring a channel's key to members that lack it.
    Repair(ChannelId),
    /// Read this machine's own encryption keys anew.
    Reload,
    /// Renew and announce this machine's encryption key.
    Announce,
    /// Tell senders that their messages were shown.
    Receipts,
    /// Look whether whispers were had.
    Look,
}

/// An errand, and how long it waits before it starts.
pub(crate) type Sent = (Errand, u64);

/// Which errands are under way, and how often keys were looked for.
pub(crate) struct Errands {
    keeper: mpsc::Sender<Sent>,
    /// What the keeper had no room for; each errand is asked for once, so this is bounded, too.
    waiting: VecDeque<Sent>,
    asked: HashSet<Errand>,
    /// Asked for once more while it was under way.
    again: HashSet<Errand>,
    tries: HashMap<ChannelId, u32>,
    told: HashSet<ChannelId>,
}

impl Errands {
    pub(crate) const QUEUE: usize = 64;

    pub(crate) fn new(keeper: mpsc::Sender<Sent>) -> Self {
        Self {
            keeper,
            waiting: VecDeque::new(),
            asked: HashSet::new(),
            again: HashSet::new(),
            tries: HashMap::new(),
            told: HashSet::new(),
        }
    }

    /// Hands the keeper what it has room for. Without a keeper the task is ending, too.
    fn send(&mut self) {
        while let Some(sent) = self.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(sent)) = self.keeper.try_send(sent) {
                return self.waiting.push_front(sent);
            }
        }
    }
}

impl Core {
    pub(super) fn errand(&mut self, errand: Errand) {
        self.errand_after(errand, 0);
    }

    fn errand_after(&mut self, errand: Errand, wait_ms: u64) {
        if self.errands.asked.insert(errand.clone()) {
            self.errands.waiting.push_back((errand, wait_ms));
            self.errands.send();
        } else {
            self.errands.again.insert(errand);
        }
    }

    /// Asks for a channel's key to be brought to who lacks it, a random moment from now.
    pub(super) fn repair_soon(&mut self, channel: ChannelId) {
        if self.book.current_key(&channel).is_some() {
            let drawn = random::<2>().map_or(0, u16::from_be_bytes);
            self.errand_after(Errand::Repair(channel), u64::from(drawn) % SPREAD_MS);
        }
    }

    /// Returns whether a channel needs another key before anything is said in it.
    pub(crate) fn needs_rotation(&self, channel: &ChannelId) -> bool {
        let now = self.server_now();
        let newest = self.newest.get(&LogId::Channel(*channel));
        let newest = newest.map_or(0, |head| head.n);
        self.book.needs_rotation(channel, now, newest)
    }

    /// Reacts to a control record of a followed channel.
    pub(super) fn channel_changed(&mut self, channel: ChannelId, change: &CtlChange) {
        let sealed = self
            .book
            .tip(&channel)
            .is_some_and(|tip| tip.mode() == Mode::E2e);
        if !sealed {
            return;
        }
        match change {
            CtlChange::EpochStarted(_) => {
                self.errand(Errand::Keys(channel));
                // Who came since can open only what is sealed under the newest key.
                self.profiles.renew(&channel, self.driver.now().mono);
            }
            CtlChange::Meta => self.errand(Errand::Keys(channel)),
            CtlChange::MemberAdded { .. } | CtlChange::IdentAdvanced { .. } => {
                self.repair_soon(channel);
            }
            _ => {}
        }
    }

    /// Takes the end of an errand.
    pub(super) async fn errand_done(&mut self, errand: Errand, result: Result<(), Reject>) {
        self.errands.asked.remove(&errand);
        self.errands.send();
        let again = self.errands.again.remove(&errand);
        if again {
            match &errand {
                // Somebody else may lack the key since, or another one have come.
                Errand::Repair(channel) => self.repair_soon(*channel),
                Errand::KeyCame(_) => self.errand(errand.clone()),
                _ => {}
            }
        }
        match errand {
            Errand::Prepare(log, _) => self.prepared(log, result).await,
            Errand::Keys(channel) | Errand::KeyCame(channel) => {
                self.keys_done(channel, result.is_ok()).await;
            }
            Errand::Profile(channel) => self.profile_prepared(channel, result),
            Errand::Reload => self.own_reloaded(),
            Errand::Receipts => self.receipts_told(result.is_ok(), again),
            Errand::Look => {
                if let Err(error) = result {
                    tracing::debug!(%error, "whispers were not looked after");
                }
            }
            Errand::Repair(_) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "no key was brought");
                }
            }
            Errand::Announce => {
                let wait = match result {
                    Ok(()) => ANNOUNCE_MS,
                    Err(error) => {
                        tracing::warn!(%error, "this machine's encryption key was not announced");
                        RETRY_MAX_MS
                    }
                };
                self.errand_after(Errand::Announce, wait);
            }
        }
    }

    async fn keys_done(&mut self, channel: ChannelId, heard: bool) {
        let readable = self.book.can_read(&channel);
        if let Some(place) = self.awaited(&channel) {
            let is = |need: &Need| *need == Need::Key(place);
            if self.book.keys.channel(place).is_some() {
                self.release(is, false);
            } else if heard && readable {
                // Everything the newest key leads to was opened: this one never will be.
                self.release(is, true);
            }
        }
        let waits = self.awaited(&channel).is_some();
        if waits || !readable && self.waits(&LogId::Channel(channel)) {
            self.keys_pending(channel);
        } else if readable {
            self.errands.tries.remove(&channel);
            self.errands.told.remove(&channel);
        }
        if readable {
            self.profiles.wake(&channel, self.driver.now().mono);
            self.wake(LogId::Channel(channel)).await;
        }
    }

    /// Looks again at whispers whose key was not here.
    fn own_reloaded(&mut self) {
        let keys = &self.book.keys;
        let held = |need: &Need| matches!(need, Need::Own(id) if keys.own_named(id).is_some());
        let came: Vec<Need> = self.needs().filter(held).collect();
        for need in came {
            self.release(|waits| *waits == need, false);
        }
        // What is not here now was forgotten.
        self.release(|need| matches!(need, Need::Own(_)), true);
    }

    /// Says once that a channel's key is missing, and looks for it again later.
    pub(super) fn keys_pending(&mut self, channel: ChannelId) {
        if self.errands.told.insert(channel) {
            let name = self.book.channel_name(&channel);
            let name = name.map_or_else(|| channel.to_string(), |name| format!("#{name}"));
            self.tell(Event::Notice(Notice {
                kind: NoticeKind::KeysPending,
                log: Some(LogId::Channel(channel)),
                seq: None,
                text: format!("the key of {name} is not on this machine yet"),
            }));
        }
        let tries = self.errands.tries.entry(channel).or_default();
        let wait = RETRY_FIRST_MS << (*tries).min(5);
        *tries += 1;
        self.errand_after(Errand::Keys(channel), wait.min(RETRY_MAX_MS));
    }

    /// Asks again at once for keys that are waited for: one has come.
    pub(super) fn key_came(&mut self, channel: ChannelId) {
        // Of channels nobody here knows, a server may say what it likes.
        if self.book.tip(&channel).is_some() {
            self.errand(Errand::KeyCame(channel));
        }
    }
}

/// Returns whether an errand's failure only means that the key has not come yet.
pub(super) fn is_pending(reject: &Reject) -> bool {
    reject.code == Code::KeysPending
}
