//! A real server behind [`Fabric`]: the client's handle, the policy's files, and a snapshot of what is
//! known, kept by one task that reads the client's events.

mod moderate;
mod watch;

use crate::fabric::{ChannelView, Draft, Event, Fabric, Later, PeerView, Sent, ServerView, Target};
use crate::files;
use crate::policy::{Lowered, Policy};
use crate::state::{Age, HomeId, Message, Place};
use crate::tool::args::Object;
use crate::trust::Sender;
use conclave_client::client::channel::ChannelView as ClientChannel;
use conclave_client::client::read::Span;
use conclave_client::client::send::{self, SendStatus};
use conclave_client::client::{Client, Events};
use conclave_client::error::ClientError;
use conclave_client::event::{self, VerifiedMessage};
use conclave_proto::body::Body;
use conclave_proto::channel_log::Visibility;
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch::Sender as Shared;

/// How long the first look may take.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// One server this session is connected with.
#[derive(Clone, Debug)]
pub struct Remote {
    home: HomeId,
    client: Client,
    dir: PathBuf,
    view: Arc<Shared<ServerView>>,
}

/// What a [`Remote`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its place in the session's list.
    pub home: HomeId,
    /// The session on the server.
    pub client: Client,
    /// Its events.
    pub events: Events,
    /// What to call the server.
    pub name: String,
    /// Under which URL it is dialled.
    pub url: String,
    /// The server's directory, with the policy's files.
    pub dir: PathBuf,
    /// The channels to follow; empty: every channel the user is a member of.
    pub channels: Vec<Name>,
}

impl Remote {
    /// Takes a session over: reads what is known locally, follows its channels, and tells `sender`
    /// what happens from then on. Needs no connection.
    pub async fn start(parts: Parts, sender: mpsc::Sender<(HomeId, Event)>) -> Self {
        let Parts {
            home,
            client,
            events,
            name,
            url,
            dir,
            channels,
        } = parts;
        let id = client.server_id();
        let view = ServerView {
            id,
            name,
            url,
            path: client.path(),
            online: false,
            policy: Policy::absent(id, UnixMs(0)),
            lowered: Lowered::default(),
            channels: Vec::new(),
        };
        let view = Arc::new(Shared::new(view));
        let remote = Self {
            home,
            client,
            dir,
            view,
        };
        // The host waits for its tools: what takes longer is looked at again once the session is up.
        let first = async {
            remote.look().await;
            remote.follow_all(&channels).await;
        };
        if tokio::time::timeout(FIRST_LOOK, first).await.is_err() {
            tracing::debug!("the server is not known yet; going on without");
        }
        tokio::spawn(remote.clone().pump(events, channels, sender));
        remote
    }

    fn set_followed(&self, ids: &[ChannelId], followed: bool) {
        self.view.send_modify(|view| {
            for channel in view
                .channels
                .iter_mut()
                .filter(|channel| ids.contains(&channel.id))
            {
                channel.followed = followed;
            }
        });
    }

    fn set_online(&self, online: bool) {
        self.view.send_modify(|view| view.online = online);
    }

    /// Turns a verified message into what a session works with.
    fn message_of(&self, message: VerifiedMessage) -> Message {
        let VerifiedMessage {
            log,
            scope,
            seq,
            at,
            id,
            sender,
            user,
            facts,
            hop,
            human,
            body,
            ..
        } = message;
        let place = match scope {
            event::Scope::Whisper => Place::Whisper,
            event::Scope::Channel { id, name } => Place::Channel(id, label(id, name).to_string()),
        };
        let sender_facts = Sender {
            user,
            own: facts.own,
            key_changed: facts.key_changed,
            member_ms: facts.member_since.map(|since| at.since(since)),
            vouched: facts.vouched,
        };
        Message {
            home: self.home,
            log,
            seq,
            id,
            at,
            from: sender,
            sender: sender_facts,
            place,
            text: body.text.unwrap_or_default(),
            reply_to: body.reply_to,
            root: body.root,
            hop,
            human,
        }
    }

    /// Runs a call of the client on a clone of this.
    fn later<T, F>(&self, work: impl FnOnce(Self) -> F) -> Later<T>
    where
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        let work = work(self.clone());
        Box::pin(async move { work.await.map_err(|error| error.to_reject()) })
    }
}

impl Fabric for Remote {
    fn view(&self) -> ServerView {
        self.view.borrow().clone()
    }

    fn directory(&self) -> Later<Vec<ChannelView>> {
        self.later(|this| async move {
            let all = this.client.channels().await?;
            Ok(all
                .iter()
                .filter(|c| c.role.is_none())
                .map(channel_view)
                .collect())
        })
    }

    fn join(&self, name: Name) -> Later<ChannelView> {
        self.later(|this| async move {
            let joined = this.client.join(&name).await?;
            this.entered(joined.id).await?;
            Ok(channel_view(&joined))
        })
    }

    fn follow(&self, channel: ChannelId) -> Later<()> {
        self.later(move |this| async move {
            this.client.follow(channel).await?;
            this.set_followed(&[channel], true);
            Ok(())
        })
    }

    fn unfollow(&self, channel: ChannelId) -> Later<()> {
        self.later(move |this| async move {
            this.client.unfollow(channel).await?;
            this.set_followed(&[channel], false);
            Ok(())
        })
    }

    fn create(
        &self,
        name: Name,
        visibility: Visibility,
        topic: Option<String>,
    ) -> Later<ChannelView> {
        self.later(move |this| async move {
            let created = this.client.create_channel(name, visibility, topic).await?;
            this.entered(created.id).await?;
            Ok(channel_view(&created))
        })
    }

    fn send(&self, draft: Draft) -> Later<Sent> {
        self.later(|this| async move {
            let Draft {
                target,
                text,
                reply_to,
                root,
                hop,
            } = draft;
            let target = match target {
                Target::Channel(id) => send::Target::Channel(id),
                Target::Session(path) => send::Target::Whisper(path),
            };
            let body = Body {
                reply_to,
                root,
                ..Body::text(text)
            };
            let report = this.client.send(target, body, hop, false).await?;
            let seq = match report.status {
                SendStatus::Stored { seq, .. } => Some(seq),
                SendStatus::Queued => None,
            };
            Ok(Sent { id: report.id, seq })
        })
    }

    fn who(&self, channel: Option<ChannelId>) -> Later<Vec<PeerView>> {
        self.later(move |this| async move {
            let sessions = this.client.who(channel).await?.into_iter();
            Ok(sessions
                .map(|s| PeerView {
                    path: s.path,
                    online: s.online,
                })
                .collect())
        })
    }

    fn history(&self, channel: ChannelId, after: Option<u64>, max: usize) -> Later<Vec<Message>> {
        let span = after.map_or(Span::Last, Span::After);
        self.later(move |this| async move {
            let messages = this.client.history(channel, span, max).await?;
            Ok(messages
                .into_iter()
                .map(|message| this.message_of(message))
                .collect())
        })
    }

    fn message(&self, id: MsgId) -> Later<Option<Message>> {
        self.later(move |this| async move {
            let message = this.client.message(id).await?;
            Ok(message.map(|message| this.message_of(message)))
        })
    }

    fn unshown(&self, max: usize) -> Later<Vec<Message>> {
        self.later(move |this| async move {
            let messages = this.client.unshown(max).await?;
            Ok(messages
                .into_iter()
                .map(|message| this.message_of(message))
                .collect())
        })
    }

    fn mark_shown(&self, log: LogId, id: MsgId) {
        let client = self.client.clone();
        tokio::spawn(async move {
            if let Err(error) = client.mark_shown(vec![(log, id)]).await {
                tracing::warn!(%error, "a shown mark was lost: the message may come again");
            }
        });
    }

    fn keep_lowered(&self, lowered: &Lowered) -> Result<(), Reject> {
        files::keep_lowered(&self.dir, lowered).map_err(|error| {
            tracing::error!(%error, "the lowered level was not kept");
            Reject::new(
                Code::Internal,
                "the level could not be kept on this machine's disk",
            )
        })?;
        self.view.send_modify(|view| view.lowered = lowered.clone());
        Ok(())
    }

    fn act(&self, channel: ChannelId, act: crate::fabric::Act) -> Later<Object> {
        self.later(move |this| moderate::act(this, channel, act))
    }

    fn close(&self) -> Later<()> {
        let client = self.client.clone();
        Box::pin(async move {
            client.close().await;
            Ok(())
        })
    }
}

impl Remote {
    /// Follows a channel the user has just become a member of.
    async fn entered(&self, channel: ChannelId) -> Result<(), ClientError> {
        self.client.follow(channel).await?;
        self.look().await;
        self.set_followed(&[channel], true);
        Ok(())
    }
}

fn age(age: event::Age) -> Age {
    match age {
        event::Age::Live => Age::Live,
        event::Age::History => Age::History,
    }
}

fn channel_view(channel: &ClientChannel) -> ChannelView {
    ChannelView {
        id: channel.id,
        name: label(channel.id, channel.name.clone()),
        visibility: channel.visibility,
        mode: channel.mode,
        role: channel.role,
        followed: channel.followed,
    }
}

/// Returns a channel's name, or one made of its id.
fn label(id: ChannelId, name: Option<Name>) -> Name {
    name.unwrap_or_else(|| Name::slug(&id.to_string()))
}
