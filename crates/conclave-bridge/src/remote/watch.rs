//! The task that reads a client's events and keeps the snapshot of what is known.

use super::{Remote, age, channel_view};
use crate::fabric::{ChannelView, Event};
use crate::files;
use crate::policy::{BadPolicy, Levels};
use crate::state::HomeId;
use conclave_client::client::Events;
use conclave_client::event;
use conclave_proto::key::OwnerKey;
use conclave_proto::name::Name;
use tokio::sync::mpsc;

impl Remote {
    /// Passes the client's events on until the session or the client ends.
    pub(super) async fn pump(
        self,
        mut events: Events,
        channels: Vec<Name>,
        sender: mpsc::Sender<(HomeId, Event)>,
    ) {
        while let Some(event) = events.next().await {
            let passed = match event {
                event::Event::Message(message) => {
                    let age = age(message.age);
                    Event::Message(Box::new(self.message_of(*message)), age)
                }
                event::Event::Up(_) => {
                    self.set_online(true);
                    self.look().await;
                    self.follow_all(&channels).await;
                    Event::Changed
                }
                event::Event::Down {
                    reason,
                    retry_in_ms,
                } => {
                    self.set_online(false);
                    match retry_in_ms {
                        Some(_) => Event::Changed,
                        None => {
                            tracing::error!(%reason, "the session on this server is over");
                            let text = "The connection to the server is over for good. Your human can see why with `conclave status`.";
                            Event::Notice("connection", text.into())
                        }
                    }
                }
                event::Event::ChannelChanged(_) => {
                    self.look().await;
                    Event::Changed
                }
                event::Event::Dropped { reason, .. } => {
                    self.look().await;
                    let text = format!("This session was taken off a channel: {}.", reason.code);
                    Event::Notice("dropped", text)
                }
                event::Event::Gap { gap, .. } => {
                    let text = format!("{} older messages are not kept any more.", gap.missing);
                    Event::Notice("gap", text)
                }
                event::Event::Notice(notice) => {
                    Event::Notice(notice.kind.as_str(), format!("{}.", notice.text))
                }
                event::Event::Presence(_)
                | event::Event::Standing { .. }
                | event::Event::Enrol(_) => continue,
            };
            if sender.send((self.home, passed)).await.is_err() {
                return;
            }
        }
    }

    /// Looks at everything again: address, channels, policy.
    pub(super) async fn look(&self) {
        let (levels, fault) = self.levels().await;
        if let Some(fault) = fault {
            tracing::warn!(%fault, "the policy does not count: every level is at most notify");
        }
        let channels = match self.client.joined().await {
            Ok(joined) => Some(joined.iter().map(channel_view).collect()),
            Err(error) => {
                tracing::warn!(%error, "the channels are not known");
                None
            }
        };
        let path = self.client.path();
        self.view.send_modify(|view| {
            view.path = path.or_else(|| view.path.take());
            view.policy = levels.policy().clone();
            view.lowered = levels.lowered().clone();
            view.channels = channels.unwrap_or_else(|| std::mem::take(&mut view.channels));
        });
    }

    /// Reads the policy, checked against the owner keys of this account.
    async fn levels(&self) -> (Levels, Option<BadPolicy>) {
        let account = self.client.account().user_id;
        let owners: Vec<OwnerKey> = match self.client.identity(account).await {
            Ok(identity) => identity.owners().copied().collect(),
            Err(error) => {
                tracing::warn!(%error, "the account's owner keys are not known");
                Vec::new()
            }
        };
        files::load(&self.dir, &self.client.server_id(), &owners)
    }

    /// Follows the channels of this session, those that are known by now.
    pub(super) async fn follow_all(&self, wanted: &[Name]) {
        let known = self.view.borrow().channels.clone();
        let is_wanted =
            |channel: &&ChannelView| wanted.is_empty() || wanted.contains(&channel.name);
        let mut followed = Vec::new();
        for channel in known
            .iter()
            .filter(is_wanted)
            .filter(|channel| !channel.followed)
        {
            match self.client.follow(channel.id).await {
                Ok(()) => followed.push(channel.id),
                Err(error) => tracing::warn!(channel = %channel.id, %error, "not followed"),
            }
        }
        self.set_followed(&followed, true);
    }
}
