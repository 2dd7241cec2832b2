//! What a session needs of a server to know its peers: who is there, and what they say of themselves.
//! Here it comes from the client, and this session's own words from their file.

use super::{Remote, Site};
use crate::fabric::{Event, Later, PeerInfo, Peers};
use crate::labels::{Change, Labels, Stamp};
use crate::senders;
use crate::state::HomeId;
use crate::trust::Sender;
use conclave_proto::id::ChannelId;
use conclave_proto::name::Name;
use conclave_proto::profile::{Label, Profile, Wake};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;

/// How often it is looked whether the file of labels was changed by somebody else.
const LOOK: Duration = Duration::from_secs(1);

/// What the user gave a session at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// What it is.
    pub role: Option<Name>,
    /// The groups it carries in its home channel.
    pub groups: Vec<Label>,
}

impl Peers for Remote {
    fn roster(&self, channel: ChannelId) -> Later<Vec<PeerInfo>> {
        self.later(move |site| async move {
            let peers = site.client.peers(channel).await?;
            let proven = site.client.proven().await?;
            let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let millis = since_epoch.unwrap_or_default().as_millis();
            let now = UnixMs(u64::try_from(millis).unwrap_or(u64::MAX));
            let info = |peer: conclave_client::client::Peer| PeerInfo {
                proven: proven.get(&peer.session.path).copied(),
                online: peer.session.online,
                since: peer.session.since,
                agent: peer.session.agent,
                sender: Sender {
                    user: peer.user,
                    own: peer.facts.own,
                    key_changed: peer.facts.key_changed,
                    member_ms: peer.facts.member_since.map(|since| now.since(since)),
                    vouched: peer.facts.vouched,
                },
                profile: peer.profile,
                path: peer.session.path,
            };
            Ok(peers.into_iter().map(info).collect())
        })
    }

    fn members(&self, channel: ChannelId) -> Later<BTreeSet<Name>> {
        self.later(move |site| async move { site.client.member_names(channel).await })
    }

    fn host_is(&self, session: &str) {
        self.site.rename_host(session);
    }

    fn change_labels(&self, change: Change) -> Result<Labels, Reject> {
        let labels = self.site.change_labels(change)?;
        let site = self.site.clone();
        tokio::spawn(async move { site.publish().await });
        Ok(labels)
    }

    fn woken(&self, wake: Wake) {
        self.site.known.send_modify(|known| known.wake = Some(wake));
        let site = self.site.clone();
        tokio::spawn(async move { site.publish().await });
    }
}

impl Site {
    /// Changes this session's labels in their file, which others write, too.
    pub(super) fn change_labels(&self, change: Change) -> Result<Labels, Reject> {
        let dir = self.files.server_dir(&self.client.server());
        let mut labels = Labels::load(&dir, &self.handle);
        let before = labels.clone();
        let refused =
            |error: crate::labels::NoChange| Reject::new(Code::LimitReached, error.to_string());
        labels.apply(change).map_err(refused)?;
        if labels != before {
            labels.keep(&dir, &self.handle).map_err(|error| {
                tracing::error!(%error, "the labels were not kept");
                let text = "the labels could not be kept on this machine's disk";
                Reject::new(Code::Internal, text)
            })?;
        }
        let kept = labels.clone();
        self.known.send_modify(|known| known.view.labels = kept);
        Ok(labels)
    }

    /// Takes what the user gave at the start, once the channel it is for is known.
    pub(super) fn take_given(&self) {
        let mut due = None;
        self.known.send_modify(|known| {
            let home = self.wanted.first();
            let joined = known.view.channels.iter();
            let meant = joined.filter(|channel| home.is_none_or(|name| channel.is_called(name)));
            let channels: Vec<ChannelId> = meant.map(|channel| channel.id).collect();
            if !channels.is_empty()
                && let Some(Given { role, groups }) = known.given.take()
            {
                due = Some(Change::Given(role, channels, groups));
            }
        });
        if let Some(Err(error)) = due.map(|change| self.change_labels(change)) {
            tracing::warn!(%error, "the labels given at the start were not taken");
        }
    }

    /// Says in each followed channel what this session is there.
    pub(super) async fn publish(&self) {
        let mut due: Vec<(ChannelId, Profile)> = Vec::new();
        self.known.send_modify(|known| {
            let followed = known
                .view
                .channels
                .iter()
                .filter(|channel| channel.followed);
            for channel in followed {
                let mut profile = known.view.labels.profile(&channel.id);
                profile.wake = known.wake;
                // Who has nothing to say says it only to take something back.
                if profile != Profile::default() || known.said.contains(&channel.id) {
                    known.said.insert(channel.id);
                    due.push((channel.id, profile));
                }
            }
        });
        for (channel, profile) in due {
            if let Err(error) = self.client.set_profile(channel, profile).await {
                tracing::warn!(%error, %channel, "nothing is said of this session");
            }
        }
    }

    /// Reads the labels again whenever somebody else changed their file.
    pub(super) async fn watch_labels(self, sender: mpsc::Sender<(HomeId, Event)>) {
        let dir = self.files.server_dir(&self.client.server());
        let mut seen = Stamp::default();
        let mut decided = senders::stamp(&dir);
        loop {
            let now = senders::stamp(&dir);
            if now != decided {
                decided = now;
                self.load_senders().await;
                if sender.send((self.home, Event::Changed)).await.is_err() {
                    return;
                }
            }
            let stamp = Stamp::of(&dir, &self.handle);
            if stamp != seen {
                seen = stamp;
                let labels = Labels::load(&dir, &self.handle);
                let changed = self.known.borrow().view.labels != labels;
                if changed {
                    self.known.send_modify(|known| known.view.labels = labels);
                    self.publish().await;
                    if sender.send((self.home, Event::Changed)).await.is_err() {
                        return;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
