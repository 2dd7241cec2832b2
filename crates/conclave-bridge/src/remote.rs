//! A real server behind [`Fabric`]: the client's handle, the policy's files, and a snapshot of what is
//! known, which the tasks in `watch` keep.

mod delivery;
mod desk;
mod host;
mod items;
mod moderate;
mod notice;
mod peers;
mod say;
mod senders;
mod watch;

use crate::fabric::{ChannelView, Draft, Event, Fabric, Later, PeerView, Sent, ServerView};
use crate::files;
use crate::labels::{Change, Labels};
use crate::policy::{Lowered, Policy};
use crate::senders::Senders;
use crate::state::{HomeId, Message, Place, UNREAD_MAX, Why};
use crate::tool::args::Object;
use crate::trust::Sender;
use conclave_client::client::{Channel, Client, History, NewChannel};
use conclave_client::error::ClientError;
use conclave_client::event::{Event as Told, Scope, VerifiedMessage};
use conclave_client::home::Home;
use conclave_client::instance::Claim;
use conclave_proto::body::Priority;
use conclave_proto::channel_log::{self, Mode, Role, Visibility};
use conclave_proto::frame::reply::ChannelInfo;
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::profile::Wake;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
pub use peers::Given;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Sender as Shared;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long the host's first call waits for a connection: without one it is answered with what this
/// machine knows.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// One server this session is connected with. When it goes, its tasks end and its handle is free.
#[derive(Debug)]
pub struct Remote {
    site: Site,
    _tasks: DropGuard,
    _claim: Claim,
}

/// What a [`Remote`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its place in the session's list.
    pub home: HomeId,
    /// The session on the server.
    pub client: Client,
    /// Its events.
    pub events: mpsc::Receiver<Told>,
    /// The right to its handle.
    pub claim: Claim,
    /// What to call the server.
    pub name: String,
    /// The state directory.
    pub files: Home,
    /// The channels to follow; empty: every channel the user is a member of.
    pub channels: Vec<Name>,
    /// What the user gave the session at its start.
    pub given: Given,
}

/// What the tasks of a server share.
#[derive(Clone, Debug)]
struct Site {
    home: HomeId,
    client: Client,
    files: Home,
    handle: Name,
    known: Arc<Shared<Known>>,
    wanted: Arc<[Name]>,
    looks: mpsc::Sender<()>,
    marks: mpsc::Sender<Mark>,
}

/// What is known of a server now.
#[derive(Debug)]
struct Known {
    view: ServerView,
    /// Channels that this session left, or was taken off: not followed again unless asked for.
    left: BTreeSet<ChannelId>,
    /// What the user gave at the start, until the channel it is for is known.
    given: Option<Given>,
    /// What the host calls its session, if it said so since the start.
    host: Option<String>,
    /// Where this session said something of itself.
    said: BTreeSet<ChannelId>,
    /// When and how its agent was last woken for certain.
    wake: Option<Wake>,
}

/// Something for the task that keeps shown marks, in order.
#[derive(Debug)]
enum Mark {
    Made(LogId, MsgId, Why),
    /// Everything before this is kept.
    Flush(oneshot::Sender<()>),
}

impl Remote {
    /// Takes a session over: reads what is known locally, follows its channels when it is connected, and
    /// tells `sender` what happens. Waits a moment for the connection, but does not need it.
    pub async fn start(parts: Parts, sender: mpsc::Sender<(HomeId, Event)>) -> Self {
        let id = parts.client.server();
        let view = ServerView {
            id,
            name: parts.name,
            url: parts.client.origin().to_owned(),
            path: None,
            online: false,
            policy: Policy::absent(id, UnixMs(0)),
            lowered: Lowered::default(),
            senders: Senders::default(),
            labels: Labels::default(),
            channels: Vec::new(),
        };
        let known = Known {
            view,
            left: BTreeSet::new(),
            given: Some(parts.given),
            host: None,
            said: BTreeSet::new(),
            wake: None,
        };
        let (looks, looked) = mpsc::channel(1);
        let (marks, marked) = mpsc::channel(2 * UNREAD_MAX);
        let site = Site {
            home: parts.home,
            client: parts.client,
            files: parts.files,
            handle: parts.claim.handle.clone(),
            known: Arc::new(Shared::new(known)),
            wanted: parts.channels.into(),
            looks,
            marks,
        };
        site.load_senders().await;
        site.look().await;
        if let Err(error) = site.change_labels(Change::Started) {
            tracing::warn!(%error, "the labels are as the last session left them");
        }
        site.take_given();
        let ended = CancellationToken::new();
        let (settle, settled) = oneshot::channel();
        tokio::spawn(watch::keep_marks(site.client.clone(), marked));
        let watcher = site.clone().watch(looked, sender.clone(), settle);
        tokio::spawn(ended.clone().run_until_cancelled_owned(watcher));
        let labels = site.clone().watch_labels(sender.clone());
        tokio::spawn(ended.clone().run_until_cancelled_owned(labels));
        let pump = site.clone().pump(parts.events, sender);
        tokio::spawn(ended.clone().run_until_cancelled_owned(pump));
        if tokio::time::timeout(FIRST_LOOK, settled).await.is_err() {
            tracing::debug!("the server did not answer yet; going on without");
        }
        Self {
            site,
            _tasks: ended.drop_guard(),
            _claim: parts.claim,
        }
    }

    /// Runs calls of the client on a clone of what is shared.
    fn later<T, F>(&self, work: impl FnOnce(Site) -> F) -> Later<T>
    where
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        let work = work(self.site.clone());
        Box::pin(async move { work.await.map_err(|error| error.to_reject()) })
    }
}

impl Fabric for Remote {
    fn view(&self) -> ServerView {
        self.site.known.borrow().view.clone()
    }

    fn directory(&self) -> Later<Vec<ChannelView>> {
        self.later(|site| async move {
            // Nobody waits for a server that is away to hear what this machine knows.
            if site.client.live().is_none() {
                return Ok(Vec::new());
            }
            let all = site.client.channels().await?;
            let views = all.into_iter().filter_map(channel_view);
            let (joined, open): (Vec<_>, Vec<_>) = views.partition(|c| c.role.is_some());
            let ids = |list: &[ChannelView]| list.iter().map(|c| c.id).collect::<BTreeSet<_>>();
            let known = ids(&site.known.borrow().view.channels);
            // Another process of this machine joined or left.
            if ids(&joined) != known {
                site.look().await;
                site.follow_all().await;
            }
            Ok(open)
        })
    }

    fn join(&self, name: Name) -> Later<ChannelView> {
        self.later(|site| async move {
            let found = site.client.resolve(name.as_str()).await?;
            let joined = site.client.join(found.channel).await?;
            site.entered(&joined).await
        })
    }

    fn follow(&self, channel: ChannelId) -> Later<()> {
        self.later(move |site| async move { site.follow(channel).await })
    }

    fn unfollow(&self, channel: ChannelId) -> Later<()> {
        self.later(move |site| async move {
            site.client.unfollow(channel).await?;
            site.set_followed(channel, false);
            Ok(())
        })
    }

    fn create(
        &self,
        name: Name,
        visibility: Visibility,
        topic: Option<String>,
    ) -> Later<ChannelView> {
        self.later(move |site| async move {
            let created = site.client.create_channel(NewChannel {
                name,
                visibility,
                mode: None,
                history: channel_log::History::Full,
                topic,
            });
            site.entered(&created.await?).await
        })
    }

    fn send(&self, draft: Draft) -> Later<Sent> {
        self.later(|site| site.say(draft))
    }

    fn who(&self, channel: Option<ChannelId>) -> Later<Vec<PeerView>> {
        self.later(move |site| async move {
            let sessions = site.client.who(channel).await?.into_iter();
            let peers = sessions.map(|s| PeerView {
                path: s.path,
                online: s.online,
            });
            Ok(peers.collect())
        })
    }

    fn history(&self, channel: ChannelId, after: Option<u64>, max: usize) -> Later<Vec<Message>> {
        let part = after.map_or(History::Last, History::After);
        self.later(move |site| async move {
            let messages = site.client.history(channel, part, count(max)).await?;
            Ok(site.messages(messages).await)
        })
    }

    fn whispers(&self, peer: SessionPath, max: usize) -> Later<Vec<Message>> {
        self.later(move |site| async move {
            let messages = site.client.whispers(&peer, count(max)).await?;
            Ok(site.messages(messages).await)
        })
    }

    fn messages(&self, id: MsgId) -> Later<Vec<Message>> {
        self.later(move |site| async move {
            let found = site.client.said_under(id).await?;
            Ok(site.messages(found).await)
        })
    }

    fn unshown(&self, max: usize) -> Later<Vec<Message>> {
        self.later(move |site| async move {
            // What is marked by now does not come again.
            site.flush_marks().await;
            let messages = site.client.unshown(count(max)).await?;
            Ok(site.messages(messages).await)
        })
    }

    fn mark(&self, log: LogId, id: MsgId, why: Why) {
        if self.site.marks.try_send(Mark::Made(log, id, why)).is_err() {
            tracing::warn!("a shown mark was lost: the message may come again");
        }
    }

    fn keep_lowered(&self, lowered: &Lowered) -> Result<(), Reject> {
        let dir = self.site.files.server_dir(&self.site.client.server());
        files::keep_lowered(&dir, lowered).map_err(|error| {
            tracing::error!(%error, "the lowered level was not kept");
            let text = "the level could not be kept on this machine's disk";
            Reject::new(Code::Internal, text)
        })?;
        let kept = lowered.clone();
        self.site
            .known
            .send_modify(|known| known.view.lowered = kept);
        Ok(())
    }

    fn act(&self, channel: ChannelId, act: crate::fabric::Act) -> Later<Object> {
        self.later(move |site| moderate::act(site, channel, act))
    }

    fn close(&self) -> Later<()> {
        self.later(|site| async move {
            site.flush_marks().await;
            site.release_claims().await;
            site.forget_host();
            site.client.stop().await;
            Ok(())
        })
    }
}

impl Site {
    /// Waits until every mark made so far is kept.
    async fn flush_marks(&self) {
        let (flush, flushed) = oneshot::channel();
        if self.marks.send(Mark::Flush(flush)).await.is_ok() && flushed.await.is_err() {
            tracing::warn!("shown marks were lost: some messages may come again");
        }
    }

    /// Follows a channel because the agent said so.
    async fn follow(&self, channel: ChannelId) -> Result<(), ClientError> {
        self.client.follow(channel).await?;
        self.set_followed(channel, true);
        self.publish().await;
        Ok(())
    }

    /// Follows a channel that the user has just become a member of.
    async fn entered(&self, channel: &Channel) -> Result<ChannelView, ClientError> {
        let id = *channel.id();
        self.follow(id).await?;
        self.look().await;
        let view = known_view(channel, &self.client.account().user_id);
        Ok(ChannelView {
            followed: true,
            ..view
        })
    }

    fn set_followed(&self, id: ChannelId, followed: bool) {
        self.known.send_modify(|known| {
            match followed {
                true => known.left.remove(&id),
                false => known.left.insert(id),
            };
            if let Some(channel) = known.view.channels.iter_mut().find(|c| c.id == id) {
                channel.followed = followed;
            }
        });
    }
}

/// Turns a verified message into what a session works with.
fn message(home: HomeId, m: VerifiedMessage) -> Message {
    let place = match m.scope {
        Scope::Whisper => Place::Whisper,
        Scope::Channel { id, name } => Place::Channel(id, label(id, name).to_string()),
    };
    let sender = Sender {
        user: m.user,
        own: m.facts.own,
        key_changed: m.facts.key_changed,
        member_ms: m.facts.member_since.map(|since| m.at.since(since)),
        vouched: m.facts.vouched,
    };
    Message {
        home,
        log: m.log,
        seq: m.seq,
        id: m.id,
        at: m.at,
        from: m.sender,
        sender,
        place,
        text: m.body.text.unwrap_or_default(),
        reply_to: m.body.reply_to,
        question: None,
        to: m.body.to,
        priority: m.body.priority.unwrap_or(Priority::Next),
        mentions: m.body.mentions,
        expects_reply: m.body.expects_reply,
        root: m.body.root,
        hop: m.hop,
        human: m.human,
    }
}

/// Returns a channel as the server lists it; none of a newer version's kind.
fn channel_view(info: ChannelInfo) -> Option<ChannelView> {
    Some(ChannelView {
        id: info.channel,
        name: label(info.channel, info.name),
        visibility: Visibility::from_word(&info.visibility)?,
        mode: Mode::from_word(&info.mode)?,
        role: info.role.as_deref().and_then(Role::from_word),
        confidential: false,
        followed: false,
    })
}

/// Returns a channel as this machine verified it.
fn known_view(channel: &Channel, me: &conclave_proto::id::UserId) -> ChannelView {
    ChannelView {
        id: *channel.id(),
        name: label(*channel.id(), channel.name().cloned()),
        visibility: channel.visibility(),
        mode: channel.mode(),
        role: channel.role(me),
        confidential: channel.is_confidential(),
        followed: false,
    }
}

/// Returns a channel's name, or one made of its id.
fn label(id: ChannelId, name: Option<Name>) -> Name {
    name.unwrap_or_else(|| Name::slug(&id.to_string()))
}

fn count(max: usize) -> u32 {
    u32::try_from(max).unwrap_or(u32::MAX)
}
