//! A scripted host on a duplex stream, and a server that lives in a variable.

use conclave_bridge::fabric::*;
use conclave_bridge::mcp;
use conclave_bridge::policy::{Level, Lowered, Policy, Scope};
use conclave_bridge::session;
use conclave_bridge::state::{Age, HomeId, Message, Place};
use conclave_bridge::tool::args::Object;
use conclave_bridge::trust::Sender;
use conclave_proto::channel_log::{Mode, Role, Visibility};
use conclave_proto::id::{ChannelId, LogId, MailboxId, MsgId, ServerId, UserId};
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) const OPS: ChannelId = ChannelId::new([2; 16]);
const TIMEOUT: Duration = Duration::from_secs(5);

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
    pub(crate) unshown: Vec<Message>,
    pub(crate) shown: Vec<MsgId>,
    pub(crate) sent: Vec<Draft>,
    pub(crate) acts: Vec<Act>,
    pub(crate) refuse: Option<Reject>,
    pub(crate) silent: bool,
    pub(crate) opened: usize,
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
            channels: vec![channel(OPS, "ops")],
        },
        history: Vec::new(),
        unshown: Vec::new(),
        shown: Vec::new(),
        sent: Vec::new(),
        acts: Vec::new(),
        refuse: None,
        silent: false,
        opened: 0,
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
            let seq = world.view.online.then_some(world.sent.len() as u64);
            Sent {
                id: MsgId::new([200; 16]),
                seq,
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
    fn message(&self, id: MsgId) -> Later<Option<Message>> {
        self.reply(move |world| {
            world
                .history
                .iter()
                .find(|message| message.id == id)
                .cloned()
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
    fn mark_shown(&self, _: LogId, id: MsgId) {
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
    input: WriteHalf<DuplexStream>,
    output: BufReader<ReadHalf<DuplexStream>>,
    pub(crate) fake: Fake,
    pub(crate) fakes: Vec<Fake>,
    pub(crate) events: mpsc::Receiver<mpsc::Sender<(HomeId, Event)>>,
    pub(crate) session: tokio::task::JoinHandle<()>,
    sender: Option<mpsc::Sender<(HomeId, Event)>>,
    next_id: u64,
    /// Notifications that came while a call was waited for.
    pub(crate) pushed: Vec<Value>,
}

impl Desk {
    /// Starts a session that has said nothing yet.
    pub(crate) fn new(world: World) -> Self {
        Self::start(vec![world])
    }

    fn start(worlds: Vec<World>) -> Self {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (output, input) = tokio::io::split(near);
        let (theirs_in, theirs_out) = tokio::io::split(far);
        let fake = |world| Fake(Arc::new(watch::Sender::new(world)));
        let fakes: Vec<Fake> = worlds.into_iter().map(fake).collect();
        let (tell, events) = mpsc::channel(1);
        let opened = fakes.clone();
        let opener: session::Opener = Box::new(move |sender| {
            opened[0].0.send_modify(|world| world.opened += 1);
            Box::pin(async move {
                tell.send(sender).await.unwrap();
                let boxed = |fake| -> Box<dyn Fabric> { Box::new(fake) };
                Ok(opened.into_iter().map(boxed).collect())
            })
        });
        let host = mcp::serve(theirs_in, theirs_out, CancellationToken::new());
        let session = tokio::spawn(session::run(host, None, opener, [3; 32]));
        Self {
            input,
            output: BufReader::new(output),
            fake: fakes[0].clone(),
            fakes,
            events,
            session,
            sender: None,
            next_id: 100,
            pushed: Vec::new(),
        }
    }

    /// Starts a session and opens it as the host does.
    pub(crate) async fn open(world: World) -> Self {
        Self::open_all(vec![world]).await
    }

    /// Starts a session on several servers and opens it.
    pub(crate) async fn open_all(worlds: Vec<World>) -> Self {
        let mut desk = Self::start(worlds);
        desk.line(&initialize().to_string()).await;
        assert_eq!(desk.read().await["id"], 0);
        desk.line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
            .await;
        desk.sender = desk.events.recv().await;
        desk
    }

    pub(crate) async fn line(&mut self, line: &str) {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    pub(crate) async fn read(&mut self) -> Value {
        let mut line = String::new();
        let read = tokio::time::timeout(TIMEOUT, self.output.read_line(&mut line)).await;
        read.expect("the session answers in time").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line:?}"))
    }

    /// Returns the next notification, whether it came already or not.
    pub(crate) async fn push(&mut self) -> Value {
        match self.pushed.is_empty() {
            true => self.read().await,
            false => self.pushed.remove(0),
        }
    }

    /// Sends a request and returns its id.
    pub(crate) async fn ask(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params});
        self.line(&request.to_string()).await;
        self.next_id
    }

    /// Reads up to the answer of a request.
    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        loop {
            let value = self.read().await;
            if value["id"] == id {
                return value;
            }
            self.pushed.push(value);
        }
    }

    /// Calls a tool: the facts of its first line, the text after it, and whether it failed.
    pub(crate) async fn call(&mut self, tool: &str, args: Value) -> (Value, String, bool) {
        let id = self
            .ask("tools/call", json!({"name": tool, "arguments": args}))
            .await;
        let answer = self.answer(id).await;
        outcome(&answer)
    }

    pub(crate) async fn tools(&mut self) -> Vec<String> {
        let id = self.ask("tools/list", json!({})).await;
        let answer = self.answer(id).await;
        let tools = answer["result"]["tools"].as_array().unwrap();
        tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
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

    /// Ends the host's stream.
    pub(crate) async fn hang_up(&mut self) {
        self.input.shutdown().await.unwrap();
    }
}

pub(crate) fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"roots": {"listChanged": true}, "elicitation": {"form": {}, "url": {}}},
        "clientInfo": {"name": "claude-code", "title": "Claude Code", "version": "2.1.329"}}})
}

pub(crate) fn outcome(answer: &Value) -> (Value, String, bool) {
    let content = answer["result"]["content"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(content.len(), 1, "one text block");
    assert!(answer["result"].get("structuredContent").is_none());
    let text = content[0]["text"].as_str().unwrap();
    let (facts, rest) = text.split_once('\n').unwrap_or((text, ""));
    let is_error = answer["result"]["isError"].as_bool().unwrap_or_default();
    (
        serde_json::from_str(facts).unwrap(),
        rest.to_owned(),
        is_error,
    )
}

/// A world where #ops has this level.
pub(crate) fn at_level(level: Level) -> World {
    let mut world = world();
    world.view.policy.levels = [(Scope::Default, level)].into();
    world
}
