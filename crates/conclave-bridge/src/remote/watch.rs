//! The tasks of a server: one passes the client's events on and never waits for the client, for the
//! client waits for it; one looks again at what changed; one keeps shown marks.

use super::{Mark, Site, channel_view, known_view, message, notice};
use crate::fabric::{ChannelView, Event};
use crate::files;
use crate::policy::Levels;
use crate::state::{Age, HomeId, Why};
use conclave_client::client::Client;
use conclave_client::error::ClientError;
use conclave_client::event::{self, Event as Told};
use conclave_proto::body::Fate;
use conclave_proto::id::LogId;
use conclave_proto::key::OwnerKey;
use conclave_proto::reject::Reject;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How often a session looks, unasked, for channels that another process of this user joined.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How many shown marks are kept in one transaction.
const MARKS: usize = 512;

/// Keeps shown marks until nobody makes any more: those that wait, all at once.
pub(super) async fn keep_marks(client: Client, mut marks: mpsc::Receiver<Mark>) {
    let mut waiting = Vec::with_capacity(MARKS);
    while marks.recv_many(&mut waiting, MARKS).await > 0 {
        let (mut made, mut flushed) = (Vec::with_capacity(waiting.len()), Vec::new());
        for mark in waiting.drain(..) {
            match mark {
                Mark::Made(log, id, Why::Shown) => made.push((log, id, Some(Fate::InContext))),
                Mark::Made(log, id, Why::Blocked) => made.push((log, id, Some(Fate::Blocked))),
                Mark::Made(log, id, Why::Passed) => made.push((log, id, None)),
                Mark::Flush(done) => flushed.push(done),
            }
        }
        let count = made.len();
        if count > 0
            && let Err(error) = client.mark(made).await
        {
            tracing::warn!(%error, count, "shown marks were lost: the messages may come again");
        }
        // Who waits for what it marked may wait for what came after that, too.
        for done in flushed {
            done.send(()).unwrap_or_default();
        }
    }
}

impl Site {
    /// Passes the client's events on until the session or the client ends.
    pub(super) async fn pump(
        self,
        mut events: mpsc::Receiver<Told>,
        sender: mpsc::Sender<(HomeId, Event)>,
    ) {
        while let Some(told) = events.recv().await {
            if let Told::Desk(paper) = told {
                self.hear_paper(*paper, sender.clone());
                continue;
            }
            let mut event = self.event(told);
            if let Some(Event::Message(message, _)) = &mut event {
                self.find_question(message).await;
            }
            if let Some(event) = event
                && sender.send((self.home, event)).await.is_err()
            {
                return;
            }
        }
    }

    /// Turns what the client tells into what the session is told; what needs the server is left to
    /// [`Self::watch`].
    fn event(&self, told: Told) -> Option<Event> {
        Some(match told {
            Told::Message(said) => {
                let age = match said.age {
                    event::Age::Live => Age::Live,
                    event::Age::History => Age::History,
                };
                Event::Message(Box::new(message(self.home, *said)), age)
            }
            Told::Up(ready) => {
                self.known.send_modify(|known| {
                    known.view.online = true;
                    known.view.path = Some(ready.path.clone());
                });
                self.keep_host(&ready.path);
                self.look_soon();
                return None;
            }
            Told::Down {
                reason,
                retry_in_ms,
            } => {
                self.known.send_modify(|known| known.view.online = false);
                self.look_soon();
                if retry_in_ms.is_some() {
                    return None;
                }
                tracing::error!(%reason, "the session on this server is over");
                let text = "The connection to the server is over for good. Your human can see why with `conclave status`.";
                Event::Notice("connection", text.into())
            }
            Told::ChannelChanged(_) => {
                self.look_soon();
                return None;
            }
            Told::Dropped { log, reason } => self.dropped(log, &reason),
            Told::Gap { gap, .. } => {
                let text = format!("{} older messages are not kept any more.", gap.missing);
                Event::Notice("gap", text)
            }
            Told::Notice(notice) => {
                let place = self.place(notice.log);
                Event::Notice(notice.kind.as_str(), notice::text(&notice, &place))
            }
            Told::State(item) => Event::State(item),
            Told::Presence(_)
            | Told::Standing { .. }
            | Told::Enrol(_)
            | Told::Desk(_)
            | Told::Delivery { .. } => {
                return None;
            }
            Told::Bounced { id, peer, at } => Event::Bounced { id, peer, at },
        })
    }

    /// What to call a log, in a sentence.
    fn place(&self, log: Option<LogId>) -> String {
        match log {
            Some(LogId::Channel(id)) => {
                let known = self.known.borrow();
                let found = known.view.channels.iter().find(|channel| channel.id == id);
                found.map_or_else(|| "a channel".to_owned(), |c| format!("#{}", c.name))
            }
            Some(LogId::Mailbox(_)) => "the whispers to this session".to_owned(),
            None => "this server".to_owned(),
        }
    }

    fn dropped(&self, log: LogId, reason: &Reject) -> Event {
        let place = self.place(Some(log));
        if let LogId::Channel(id) = log {
            self.set_followed(id, false);
        }
        self.look_soon();
        let text = format!(
            "This session does not receive {place} any more: {}.",
            reason.code
        );
        Event::Notice("dropped", text)
    }

    /// Has everything looked at again, once however often this is called meanwhile.
    fn look_soon(&self) {
        // A full queue means that a look is due already.
        let _due = self.looks.try_send(());
    }

    /// Looks again when something changed, follows what is to be followed, and tells the session.
    /// `settle` hears of the first attempt to connect, however it ended.
    pub(super) async fn watch(
        self,
        mut looks: mpsc::Receiver<()>,
        sender: mpsc::Sender<(HomeId, Event)>,
        settle: oneshot::Sender<()>,
    ) {
        let mut settle = Some(settle);
        loop {
            match tokio::time::timeout(LOOK_AGAIN, looks.recv()).await {
                Ok(Some(())) => {}
                Ok(None) => return,
                Err(_) if self.client.live().is_none() => continue,
                Err(_) => {}
            }
            if self.client.live().is_some() {
                self.look().await;
                // Levels and names first, so that what comes by following is shown by them.
                if sender.send((self.home, Event::Changed)).await.is_err() {
                    return;
                }
                self.follow_all().await;
            }
            if let Some(settle) = settle.take() {
                settle.send(()).unwrap_or_default();
            }
            if sender.send((self.home, Event::Changed)).await.is_err() {
                return;
            }
        }
    }

    /// Looks at everything again: address, levels, channels. Without a connection: what this machine
    /// knows.
    pub(super) async fn look(&self) {
        let live = self.client.live();
        // A person may have compared numbers, or accepted a change, at the command line.
        if let Err(error) = self.client.reread_pins().await {
            tracing::warn!(%error, "the pins were not read again");
        }
        let levels = self.levels(live.is_some()).await;
        let channels = self.channels(live.is_some()).await;
        if let Err(error) = &channels {
            tracing::warn!(%error, "the channels are not known");
        }
        self.known.send_modify(|known| {
            if let Some(ready) = live {
                known.view.path = Some(ready.path.clone());
            }
            known.view.policy = levels.policy().clone();
            known.view.lowered = levels.lowered().clone();
            if let Ok(channels) = channels {
                // Who comes back to a channel follows it again.
                known
                    .left
                    .retain(|id| channels.iter().any(|channel| channel.id == *id));
                known.view.channels = channels;
            }
        });
    }

    async fn channels(&self, live: bool) -> Result<Vec<ChannelView>, ClientError> {
        let mut channels: Vec<ChannelView> = if live {
            let all = self.client.channels().await?;
            all.into_iter()
                .filter_map(channel_view)
                .filter(|c| c.role.is_some())
                .collect()
        } else {
            let me = self.client.account().user_id;
            let known = self.client.known_channels().await?;
            known
                .iter()
                .map(|channel| known_view(channel, &me))
                .collect()
        };
        // The server does not say this: the channel's own records do.
        let known = self.client.known_channels().await?;
        for channel in &mut channels {
            let log = known.iter().find(|log| *log.id() == channel.id);
            channel.confidential = log.is_some_and(|log| log.is_confidential());
            channel.followed = self.client.followed(channel.id).await?;
        }
        Ok(channels)
    }

    /// Reads the policy, checked against the owner keys of this account.
    async fn levels(&self, live: bool) -> Levels {
        let me = self.client.account().user_id;
        if live && let Err(error) = self.client.own_identity().await {
            tracing::warn!(%error, "the account's newest owner keys are not known");
        }
        let identity = self.client.known_identity(me).await.ok().flatten();
        let owners: Vec<OwnerKey> = identity
            .iter()
            .flat_map(|log| log.owners().copied())
            .collect();
        let server = self.client.server();
        let (levels, fault) = files::load(&self.files.server_dir(&server), &server, &owners);
        if let Some(fault) = fault {
            tracing::warn!(%fault, "the policy does not count: every level is at most notify");
        }
        levels
    }

    /// Follows the mailbox and the channels of this session, those that are known by now.
    pub(super) async fn follow_all(&self) {
        if let Err(error) = self.client.follow_mailbox().await {
            tracing::warn!(%error, "the mailbox is not followed");
        }
        let due: Vec<ChannelView> = {
            let known = self.known.borrow();
            let channels = known.view.channels.iter();
            channels
                .filter(|c| !c.followed && !known.left.contains(&c.id) && self.wants(c))
                .cloned()
                .collect()
        };
        for channel in due {
            match self.client.follow(channel.id).await {
                Ok(()) => self.set_followed(channel.id, true),
                Err(error) => tracing::warn!(channel = %channel.id, %error, "not followed"),
            }
        }
        self.take_given();
        self.publish().await;
    }

    fn wants(&self, channel: &ChannelView) -> bool {
        let named = |name| channel.is_called(name);
        self.wanted.is_empty() || self.wanted.iter().any(named)
    }
}
