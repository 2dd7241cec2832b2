//! A scripted host on a duplex stream, and a server that lives in a variable.

mod delivery;
mod items;
mod peers;
mod senders;

use crate::wire::{TIMEOUT, Wire};
use conclave_bridge::fabric::*;
use conclave_bridge::labels::Labels;
use conclave_bridge::mcp;
use conclave_bridge::policy::{Level, Lowered, Policy, Scope};
use conclave_bridge::senders::{Senders, Standing};
use conclave_bridge::session;
use conclave_bridge::state::{Age, HomeId, Message, Place, Why};
use conclave_bridge::tool::args::Object;
use conclave_bridge::trust::Sender;
use conclave_client::replica::delivery::MessageStatus;
use conclave_proto::body::Priority;
use conclave_proto::channel_log::{Mode, Role, Visibility};
use conclave_proto::id::{ChannelId, LogId, MailboxId, MsgId, ServerId, UserId};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::profile::{Profile, Wake};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) const OPS: ChannelId = ChannelId::new([2; 16]);

pub(crate) fn wall() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    UnixMs(since.as_millis().try_into().unwrap())
}

pub(crate) fn channel(id: ChannelId, name: &str) -> ChannelView {
    ChannelView {
        id,
        name: Name::new(name).unwrap(),
        visibility: Visibility::Private,
        mode: Mode::Signed,
        role: Some(Role::Member),
        confidential: false,
        followed: true,
    }
}

/// A message of bob in #ops, just now.
pub(crate) fn message(n: u8, text: &str) -> Message {
    Message {
        home: HomeId(0),
        log: LogId::Channel(OPS),
        seq: n.into(),
        id: MsgId::new([n; 16]),
        at: wall(),
        from: "bob/laptop/main".parse().unwrap(),
        sender: Sender {
            user: UserId::new([9; 32]),
            own: false,
            key_changed: false,
            member_ms: None,
            vouched: false,
        },
        place: Place::Channel(OPS, "ops".into()),
        text: text.into(),
        reply_to: None,
        question: None,
        to: Vec::new(),
        priority: Priority::Next,
        mentions: Vec::new(),
        expects_reply: false,
        root: None,
        hop: 0,
        human: false,
    }
}

pub(crate) fn whisper(n: u8, text: &str) -> Message {
    let mailbox = LogId::Mailbox(MailboxId::new([7; 16]));
    Message {
        log: mailbox,
        place: Place::Whisper,
        ..message(n, text)
    }
}

/// What the fake server is like.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) view: ServerView,
    pub(crate) history: Vec<Message>,
    pub(crate) keys_pending: bool,
    pub(crate) unshown: Vec<Message>,
    /// What comes before the session has its servers.
    pub(crate) early: Option<Message>,
    /// What became of every message.
    pub(crate) status: Option<MessageStatus>,
    pub(crate) shown: Vec<MsgId>,
    /// Who is in every channel, and what they say of themselves.
    pub(crate) peers: Vec<(String, Profile)>,
    /// The members of every channel, besides those who are there.
    pub(crate) members: Vec<&'static str>,
    /// When it was said that the agent was woken.
    pub(crate) wakes: Vec<Wake>,
    pub(crate) sent: Vec<Draft>,
    pub(crate) acts: Vec<Act>,
    pub(crate) refuse: Option<Reject>,
    /// What is said to this one alone is refused.
    pub(crate) refuse_to: Option<SessionPath>,
    pub(crate) silent: bool,
    pub(crate) opened: usize,
    pub(crate) refuse_open: Option<Reject>,
    /// Whom the human was asked about.
    pub(crate) asked: BTreeSet<UserId>,
}

/// Bob, who was here before.
pub(crate) fn known() -> Senders {
    let mut senders = Senders::default();
    let bob = conclave_bridge::senders::Sender {
        name: Name::new("bob").unwrap(),
        standing: Standing::Accepted,
        at: UnixMs(1),
    };
    senders.set(UserId::new([9; 32]), bob);
    senders
}

pub(crate) fn world() -> World {
    let server = ServerId::new([1; 32]);
    World {
        view: ServerView {
            id: server,
            name: "local".into(),
            url: "http://127.0.0.1:1".into(),
            path: Some("alice/desk/main".parse().unwrap()),
            online: true,
            policy: Policy::first(server, UnixMs(1)),
            lowered: Lowered::default(),
            senders: known(),
            labels: Labels::default(),
            channels: vec![channel(OPS, "ops")],
        },
        history: Vec::new(),
        keys_pending: false,
        unshown: Vec::new(),
        early: None,
        status: None,
        shown: Vec::new(),
        peers: Vec::new(),
        members: Vec::new(),
        wakes: Vec::new(),
        sent: Vec::new(),
        acts: Vec::new(),
        refuse: None,
        refuse_to: None,
        silent: false,
        opened: 0,
        refuse_open: None,
        asked: BTreeSet::new(),
    }
}

/// Handle on a fake server: a watch cell serves as its memory.
#[derive(Clone)]
pub(crate) struct Fake(pub Arc<watch::Sender<World>>);

impl Fake {
    fn reply<T: Send + 'static>(&self, value: impl FnOnce(&mut World) -> T) -> Later<T> {
        let mut result = None;
        let mut silent = false;
        self.0.send_modify(|world| {
            silent = world.silent;
            result = Some(match &world.refuse {
                Some(reject) => Err(reject.clone()),
                None => Ok(value(world)),
            });
        });
        let result = result.unwrap();
        Box::pin(async move {
            if silent {
                std::future::pending::<()>().await;
            }
            result
        })
    }

    /// Waits until the world fits.
    pub(crate) async fn until(&self, fits: impl FnMut(&World) -> bool) -> World {
        let mut seen = self.0.subscribe();
        let world = tokio::time::timeout(TIMEOUT, seen.wait_for(fits)).await;
        world.expect("the world changes in time").unwrap().clone()
    }
}

impl conclave_bridge::fabric::Desk for Fake {}

impl Fabric for Fake {
    fn view(&self) -> ServerView {
        self.0.borrow().view.clone()
    }
    fn directory(&self) -> Later<Vec<ChannelView>> {
        self.reply(|_| {
            vec![ChannelView {
                role: None,
                ..channel(ChannelId::new([5; 16]), "lobby")
            }]
        })
    }
    fn join(&self, name: Name) -> Later<ChannelView> {
        let missing = Reject::new(Code::NotFound, "no such channel");
        let known = name.as_str() == "lobby";
        let joined = self.reply(move |world| {
            let view = channel(ChannelId::new([5; 16]), name.as_str());
            if known {
                world.view.channels.push(view.clone());
            }
            view
        });
        Box::pin(async move { if known { joined.await } else { Err(missing) } })
    }
    fn follow(&self, id: ChannelId) -> Later<()> {
        self.reply(move |world| set_followed(world, id, true))
    }
    fn unfollow(&self, id: ChannelId) -> Later<()> {
        self.reply(move |world| set_followed(world, id, false))
    }
    fn create(&self, name: Name, _: Visibility, _: Option<String>) -> Later<ChannelView> {
        self.reply(move |world| {
            let view = channel(ChannelId::new([6; 16]), name.as_str());
            world.view.channels.push(ChannelView {
                role: Some(Role::Owner),
                ..view.clone()
            });
            view
        })
    }
    fn send(&self, draft: Draft) -> Later<Sent> {
        self.reply(move |world| {
            world.sent.push(draft);
            let state = match (world.keys_pending, world.view.online) {
                (true, _) => SentState::KeysPending,
                (false, true) => SentState::Stored(world.sent.len() as u64),
                (false, false) => SentState::Queued,
            };
            let refused = world.refuse_to.clone().map(Target::Session);
            let parts = world.sent.last();
            let parts = parts.into_iter().flat_map(|draft| &draft.parts);
            let end = |part: &Part| match Some(&part.target) == refused.as_ref() {
                true => Err(Reject::new(Code::Forbidden, "not to this one")),
                false => Ok(state),
            };
            Sent {
                id: MsgId::new([200; 16]),
                parts: parts.map(end).collect(),
            }
        })
    }
    fn who(&self, _: Option<ChannelId>) -> Later<Vec<PeerView>> {
        self.reply(|_| {
            vec![PeerView {
                path: "bob/laptop/main".parse().unwrap(),
                online: true,
            }]
        })
    }
    fn history(&self, _: ChannelId, after: Option<u64>, max: usize) -> Later<Vec<Message>> {
        self.reply(move |world| {
            let after = after.unwrap_or_default();
            let kept = world.history.iter().filter(|message| message.seq > after);
            kept.take(max).cloned().collect()
        })
    }
    fn whispers(&self, peer: SessionPath, max: usize) -> Later<Vec<Message>> {
        self.reply(move |world| {
            let with = |m: &&Message| m.place == Place::Whisper && m.from == peer;
            world
                .history
                .iter()
                .filter(with)
                .take(max)
                .cloned()
                .collect()
        })
    }
    fn messages(&self, id: MsgId) -> Later<Vec<Message>> {
        self.reply(move |world| {
            let all = world.history.iter();
            all.filter(|message| message.id == id).cloned().collect()
        })
    }
    fn unshown(&self, max: usize) -> Later<Vec<Message>> {
        self.reply(move |world| {
            let shown = world.shown.clone();
            let open = world
                .unshown
                .iter()
                .filter(|message| !shown.contains(&message.id));
            open.take(max).cloned().collect()
        })
    }
    fn mark(&self, _: LogId, id: MsgId, _: Why) {
        self.0.send_modify(|world| world.shown.push(id));
    }
    fn keep_lowered(&self, lowered: &Lowered) -> Result<(), Reject> {
        self.0
            .send_modify(|world| world.view.lowered = lowered.clone());
        Ok(())
    }
    fn act(&self, _: ChannelId, act: Act) -> Later<Object> {
        self.reply(move |world| {
            world.acts.push(act);
            Object::new()
        })
    }
    fn close(&self) -> Later<()> {
        self.reply(|_| ())
    }
}

fn set_followed(world: &mut World, id: ChannelId, followed: bool) {
    for channel in world
        .view
        .channels
        .iter_mut()
        .filter(|channel| channel.id == id)
    {
        channel.followed = followed;
    }
}

/// A host, the session it started, and the server behind.
pub(crate) struct Desk {
    host: Wire,
    pub(crate) fake: Fake,
    pub(crate) fakes: Vec<Fake>,
    pub(crate) events: mpsc::Receiver<mpsc::Sender<(HomeId, Event)>>,
    pub(crate) session: tokio::task::JoinHandle<()>,
    sender: Option<mpsc::Sender<(HomeId, Event)>>,
}

impl Deref for Desk {
    type Target = Wire;
    fn deref(&self) -> &Wire {
        &self.host
    }
}

impl DerefMut for Desk {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.host
    }
}

impl Desk {
    /// Starts a session that has said nothing yet.
    pub(crate) fn new(world: World) -> Self {
        Self::start(vec![world])
    }

    fn start(worlds: Vec<World>) -> Self {
        let (wire, theirs_in, theirs_out) = Wire::new();
        let fake = |world| Fake(Arc::new(watch::Sender::new(world)));
        let fakes: Vec<Fake> = worlds.into_iter().map(fake).collect();
        let (tell, events) = mpsc::channel(1);
        let opened = fakes.clone();
        let opener: session::Opener = Box::new(move |sender| {
            opened[0].0.send_modify(|world| world.opened += 1);
            let (tell, opened) = (tell.clone(), opened.clone());
            let refuse = opened[0].0.borrow().refuse_open.clone();
            Box::pin(async move {
                if let Some(reject) = refuse {
                    return Err(reject);
                }
                let early = opened[0].0.borrow().early.clone();
                if let Some(early) = early {
                    let event = Event::Message(Box::new(early), Age::History);
                    sender.send((HomeId(0), event)).await.unwrap();
                    while sender.capacity() < sender.max_capacity() {
                        tokio::task::yield_now().await;
                    }
                }
                tell.send(sender).await.unwrap();
                let boxed = |fake| -> Box<dyn Fabric> { Box::new(fake) };
                Ok(opened.into_iter().map(boxed).collect())
            })
        });
        let host = mcp::serve(theirs_in, theirs_out, CancellationToken::new(), false);
        let session = tokio::spawn(session::run(
            host,
            session::Setup::default(),
            opener,
            [3; 32],
        ));
        Self {
            host: wire,
            fake: fakes[0].clone(),
            fakes,
            events,
            session,
            sender: None,
        }
    }

    /// Starts a session and opens it as the host does.
    pub(crate) async fn open(world: World) -> Self {
        Self::open_all(vec![world]).await
    }

    /// Starts a session on several servers and opens it.
    pub(crate) async fn open_all(worlds: Vec<World>) -> Self {
        let mut desk = Self::start(worlds);
        desk.greet().await;
        desk.sender = desk.events.recv().await;
        desk
    }

    /// Waits until the session has its servers.
    pub(crate) async fn opened(&mut self) {
        self.sender = self.events.recv().await;
    }

    pub(crate) async fn event(&mut self, event: Event) {
        self.sender
            .as_ref()
            .unwrap()
            .send((HomeId(0), event))
            .await
            .unwrap();
    }

    pub(crate) async fn arrives(&mut self, message: Message) {
        self.event(Event::Message(Box::new(message), Age::Live))
            .await;
    }
}

/// A world where #ops has this level.
pub(crate) fn at_level(level: Level) -> World {
    let mut world = world();
    world.view.policy.levels = [(Scope::Default, level)].into();
    world
}
