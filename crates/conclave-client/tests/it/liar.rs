//! A server that shakes hands honestly and then says whatever a test wants.

use conclave_client::client::{Client, Session};
use conclave_client::event::{Event, Notice, NoticeKind, VerifiedMessage};
use conclave_client::home::Home;
use conclave_client::onboard;
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{Author, Ctl, CtlBody, History, Mode, Role, Visibility};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, EntryBody, Envelope, Header, Route, Suite};
use conclave_proto::frame::event::{Entries, Event as Told};
use conclave_proto::frame::op::{IdentFetch, Op};
use conclave_proto::frame::reply::{EntryPage, Gap, Idents, Reply, Subscribed, UserInfo};
use conclave_proto::frame::{
    Challenge, ClientFrame, Hello, Limits, Outcome, Ready, Response, ServerFrame,
};
use conclave_proto::handshake::{Mode as Wish, Transcript};
use conclave_proto::id::{
    Blob, ChannelId, HandshakeNonce, Instance, LogId, MailboxId, MsgId, RecipientKeyId, SenderSid,
    ServerId, SessionId, UserId,
};
use conclave_proto::identity_log::{IdentityLog, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::record::Record;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::HashMap;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response as Upgraded};

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const CHANNEL: ChannelId = ChannelId::new([7; 16]);
/// Far in the future, so that everything comes live.
const AT: UnixMs = UnixMs(4_000_000_000_000);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

type Answer = Box<dyn FnMut(&Op) -> Option<Outcome> + Send>;
type Order = Box<dyn FnOnce(&mut Script) + Send>;

/// What the liar says.
pub(crate) struct Script {
    pub(crate) key: Secret,
    pub(crate) id: ServerId,
    pub(crate) idents: HashMap<UserId, Vec<Blob>>,
    pub(crate) names: HashMap<Name, UserId>,
    pub(crate) log: Vec<Entry>,
    pub(crate) mailbox: Vec<Entry>,
    /// Answers first; `None` leaves it to the honest part, an unknown outcome is none at all.
    pub(crate) lie: Answer,
    /// Changes what the session is told it is.
    pub(crate) ready: fn(&mut Ready),
    origin: String,
    say: Vec<ServerFrame>,
    held: Vec<(u64, Op)>,
    followed: watch::Sender<u32>,
    hang_up: bool,
}

/// A running liar.
pub(crate) struct Liar {
    pub(crate) origin: String,
    pub(crate) id: ServerId,
    orders: mpsc::Sender<Order>,
    followed: watch::Receiver<u32>,
}

impl Liar {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let key = Secret::from_seed(&[99; 32]);
        let id = key.server_key().server_id();
        let (count, followed) = watch::channel(0);
        let script = Script {
            key,
            id,
            idents: HashMap::new(),
            names: HashMap::new(),
            log: Vec::new(),
            mailbox: Vec::new(),
            lie: Box::new(|_| None),
            ready: |_| {},
            origin: origin.clone(),
            say: Vec::new(),
            held: Vec::new(),
            followed: count,
            hang_up: false,
        };
        let (orders, queue) = mpsc::channel(8);
        tokio::spawn(serve(listener, script, queue));
        Self {
            origin,
            id,
            orders,
            followed,
        }
    }

    /// Changes what is said from now on.
    pub(crate) async fn tell(&self, change: impl FnOnce(&mut Script) + Send + 'static) {
        assert!(self.orders.send(Box::new(change)).await.is_ok());
    }

    /// Pushes entries of the channel.
    pub(crate) async fn push(&self, entries: Vec<Entry>) {
        self.event(Told::Entries(Entries {
            log: LogId::Channel(CHANNEL),
            entries,
            gap: None,
        }))
        .await;
    }

    pub(crate) async fn event(&self, event: Told) {
        self.frame(ServerFrame::Event(event)).await;
    }

    pub(crate) async fn frame(&self, frame: ServerFrame) {
        self.tell(|script| script.say.push(frame)).await;
    }

    /// Waits until a subscription was answered that nobody waited for yet.
    pub(crate) async fn followed(&mut self) {
        let changed = tokio::time::timeout(SOON, self.followed.changed());
        changed.await.expect("it follows").unwrap();
    }

    pub(crate) async fn hang_up(&self) {
        self.tell(|script| script.hang_up = true).await;
    }
}

async fn serve(listener: TcpListener, mut script: Script, mut orders: mpsc::Receiver<Order>) {
    let mut socket: Option<WebSocketStream<TcpStream>> = None;
    let mut hello = None;
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                socket = upgrade(stream).await;
                hello = None;
            }
            order = orders.recv() => match order {
                Some(order) => order(&mut script),
                None => return,
            },
            frame = next(socket.as_mut()) => match frame {
                Some(frame) => script.hear(&mut hello, frame),
                None => socket = None,
            },
        }
        for frame in std::mem::take(&mut script.say) {
            let bytes = Encoding::Cbor.encode(&frame, FRAME_BYTES_MAX).unwrap();
            if let Some(open) = &mut socket
                && open.send(Message::Binary(bytes.into())).await.is_err()
            {
                socket = None;
            }
        }
        if std::mem::take(&mut script.hang_up) {
            socket = None;
        }
    }
}

#[expect(
    clippy::result_large_err,
    reason = "the type of the callback is tungstenite's"
)]
async fn upgrade(stream: TcpStream) -> Option<WebSocketStream<TcpStream>> {
    let choose = |_: &Request, mut response: Upgraded| {
        let headers = response.headers_mut();
        let chosen = Encoding::Cbor.subprotocol().parse().unwrap();
        headers.insert("sec-websocket-protocol", chosen);
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, choose)
        .await
        .ok()
}

async fn next(socket: Option<&mut WebSocketStream<TcpStream>>) -> Option<ClientFrame> {
    let Some(socket) = socket else {
        return std::future::pending().await;
    };
    loop {
        match socket.next().await?.ok()? {
            Message::Binary(bytes) => return Encoding::Cbor.decode(&bytes, FRAME_BYTES_MAX).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

impl Script {
    fn hear(&mut self, hello: &mut Option<(Hello, Challenge)>, frame: ClientFrame) {
        match (frame, hello.as_ref()) {
            (ClientFrame::Hello(said), _) => {
                let challenge = self.challenge(&said);
                self.say.push(ServerFrame::Challenge(challenge.clone()));
                *hello = Some((said, challenge));
            }
            (ClientFrame::Auth(auth), Some((said, challenge))) => {
                let transcript = Transcript::new(said, challenge, &[]);
                let wish = transcript.verify_client(&said.key, &auth).unwrap();
                if let Wish::Register { genesis } = wish {
                    self.learn(genesis);
                }
                let ready = self.welcome(said);
                self.say.push(ServerFrame::Ready(Box::new(ready)));
            }
            (ClientFrame::Request(request), _) => {
                let result = match (self.lie)(&request.op) {
                    Some(Outcome::Unknown(_)) => return self.held.push((request.id, request.op)),
                    Some(lie) => lie,
                    None => self.answer(&request.op),
                };
                let id = request.id;
                self.say
                    .push(ServerFrame::Response(Response { id, result }));
                if let Op::Subscribe(op) = request.op {
                    self.followed.send_modify(|n| *n += 1);
                    self.push_log(op.log, op.after);
                }
            }
            _ => {}
        }
    }

    pub(crate) const fn hang_up_now(&mut self) {
        self.hang_up = true;
    }

    /// Answers what was held back.
    pub(crate) fn release(&mut self) {
        for (id, op) in std::mem::take(&mut self.held) {
            let result = self.answer(&op);
            self.say
                .push(ServerFrame::Response(Response { id, result }));
        }
    }

    /// Pushes a log after a place, one entry a frame.
    pub(crate) fn push_log(&mut self, log: LogId, after: u64) {
        let rest = self.entries(&log).iter().filter(|e| e.seq > after);
        let frames: Vec<ServerFrame> = rest
            .map(|entry| {
                let entries = vec![entry.clone()];
                ServerFrame::Event(Told::Entries(Entries {
                    log,
                    entries,
                    gap: None,
                }))
            })
            .collect();
        self.say.extend(frames);
    }

    fn challenge(&self, hello: &Hello) -> Challenge {
        let mut challenge = Challenge {
            version: 2,
            key: self.key.server_key(),
            server_id: self.id,
            rotations: Vec::new(),
            origin: self.origin.clone(),
            nonce: HandshakeNonce::new([3; 32]),
            binding: "none".to_owned(),
            sig: conclave_proto::key::Signature::new([0; 64]),
        };
        challenge.sig = Transcript::new(hello, &challenge, &[]).sign_server(&self.key);
        challenge
    }

    pub(crate) fn learn(&mut self, genesis: Blob) -> IdentityLog {
        let log = IdentityLog::genesis(&genesis, &self.id).unwrap();
        self.names.insert(log.username().clone(), *log.user_id());
        self.idents.insert(*log.user_id(), vec![genesis]);
        log
    }

    fn welcome(&self, hello: &Hello) -> Ready {
        let logs = self.idents.values();
        let mut logs = logs.map(|records| IdentityLog::genesis(&records[0], &self.id).unwrap());
        let log = logs.find(|log| log.machine(&hello.key).is_some()).unwrap();
        let path = SessionPath {
            user: log.username().clone(),
            machine: log.machine(&hello.key).unwrap().name.clone(),
            handle: hello.handle.clone(),
        };
        let mut ready = Ready {
            user_id: *log.user_id(),
            session: SessionId::new([1; 16]),
            mailbox: Some(LogId::Mailbox(MailboxId::of(log.user_id(), &path))),
            path,
            admin: false,
            ident: log.head(),
            at: UnixMs(1),
            limits: Limits {
                frame_bytes: u64::MAX,
                requests_in_flight: u32::MAX,
                heartbeat_ms: 0,
                message_retention_ms: 0,
                whisper_retention_ms: u64::MAX,
            },
            checkpoint: None,
        };
        (self.ready)(&mut ready);
        ready
    }

    fn answer(&self, op: &Op) -> Outcome {
        let gone = || Outcome::Err(Reject::new(Code::NotFound, "no such thing"));
        let page = |entries: Vec<Entry>, next: u64, head: u64| {
            Outcome::Ok(Reply::Page(EntryPage {
                entries,
                gap: None,
                next,
                head,
            }))
        };
        match op {
            Op::Subscribe(op) => {
                let kept = u64::try_from(self.entries(&op.log).len()).unwrap();
                // What was pushed without being in the log was there, too.
                let head = kept.max(op.after);
                Outcome::Ok(Reply::Subscribed(Subscribed { head, oldest: 1 }))
            }
            Op::Read(op) => {
                let all = self.entries(&op.log);
                let head = u64::try_from(all.len()).unwrap();
                let rest = all.iter().filter(|e| e.seq > op.after).cloned();
                page(rest.collect(), head, head)
            }
            Op::CtlFetch(op) => {
                let all = self.entries(&LogId::Channel(op.channel));
                let head = u64::try_from(all.len()).unwrap();
                let is = |e: &&Entry| matches!(e.body, EntryBody::Ctl(_)) && e.seq > op.after;
                page(all.iter().filter(is).cloned().collect(), head, head)
            }
            Op::IdentFetch(IdentFetch { user, from }) => match self.idents.get(user) {
                Some(records) => {
                    let skip = usize::try_from(*from).unwrap();
                    let head = u64::try_from(records.len() - 1).unwrap();
                    let records = records.iter().skip(skip).cloned().collect();
                    Outcome::Ok(Reply::Idents(Idents {
                        user: *user,
                        records,
                        head,
                    }))
                }
                None => gone(),
            },
            Op::FindUser(op) => match self.names.get(&op.name) {
                Some(user) => Outcome::Ok(Reply::User(UserInfo {
                    name: op.name.clone(),
                    user_id: *user,
                    ident: IdentityLog::genesis(&self.idents[user][0], &self.id)
                        .unwrap()
                        .head(),
                    admin: false,
                })),
                None => gone(),
            },
            _ => gone(),
        }
    }

    fn entries(&self, log: &LogId) -> &[Entry] {
        match log {
            LogId::Channel(_) => &self.log,
            LogId::Mailbox(_) => &self.mailbox,
        }
    }
}

/// Somebody on the liar's server whose keys the test holds.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) machine: Secret,
    pub(crate) log: IdentityLog,
    pub(crate) genesis: Blob,
    pub(crate) path: SessionPath,
}

impl Person {
    pub(crate) fn new(server: ServerId, username: &str, seed: u8) -> Self {
        let (owner, machine) = (
            Secret::from_seed(&[seed; 32]),
            Secret::from_seed(&[seed + 1; 32]),
        );
        let owners = vec![owner.owner_key()];
        let (user, ek) = (name(username), EncryptionKey::new([seed; 32]));
        let claim = MachineClaim::found(&server, &user, &owners, name("box"), ek, &machine);
        let rec = build::genesis(server, user, owners, claim, &owner, UnixMs(1));
        let genesis = rec.bytes().clone();
        let log = IdentityLog::genesis(&genesis, &server).unwrap();
        let path = format!("{username}/box/api").parse().unwrap();
        Self {
            machine,
            log,
            genesis,
            path,
        }
    }

    /// A control record after `after`.
    pub(crate) fn ctl(&self, after: Option<Head>, body: CtlBody) -> Record {
        Ctl {
            channel: CHANNEL,
            after,
            body,
            author: Author {
                user: *self.log.user_id(),
                path: self.path.clone(),
                ident: self.log.head(),
            },
            ts: UnixMs(1),
        }
        .sign_machine(&self.machine)
    }

    /// The `ctr`-th thing this person says in the channel.
    pub(crate) fn says(&self, ctr: u64, text: &str) -> Envelope {
        self.seal(CHANNEL, Route::Everyone, ctr, text, |_| {})
    }

    pub(crate) fn seal(
        &self,
        channel: ChannelId,
        route: Route,
        ctr: u64,
        text: &str,
        change: impl FnOnce(&mut Header),
    ) -> Envelope {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&ctr.to_be_bytes());
        id[8] = self.machine.machine_key().as_bytes()[0];
        let mut header = Header {
            suite: Suite::Clear,
            channel,
            epoch: 0,
            sender: self.path.clone(),
            sender_key: self.machine.machine_key(),
            sid: SenderSid::new([1; 8]),
            ctr,
            msg_id: MsgId::new(id),
            ts: UnixMs(1),
            route,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        };
        change(&mut header);
        Envelope::clear(&header, Body::text(text).to_bytes().unwrap(), &self.machine)
    }
}

pub(crate) fn env(seq: u64, env: Envelope) -> Entry {
    Entry {
        seq,
        at: AT,
        body: EntryBody::Env(env),
    }
}

pub(crate) fn ctl(seq: u64, rec: &Record) -> Entry {
    Entry {
        seq,
        at: AT,
        body: EntryBody::Ctl(rec.bytes().clone()),
    }
}

/// Bob's session at the liar's, in a channel that ada made (1) and added bob to (2).
pub(crate) struct Scene {
    pub(crate) liar: Liar,
    pub(crate) ada: Person,
    pub(crate) eve: Person,
    pub(crate) head: Head,
    pub(crate) bob: Client,
    pub(crate) me: UserId,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) home: Home,
    _dir: TempDir,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let liar = Liar::start().await;
        let (ada, eve) = (
            Person::new(liar.id, "ada", 10),
            Person::new(liar.id, "eve", 20),
        );
        for known in [ada.genesis.clone(), eve.genesis.clone()] {
            liar.tell(|script| drop(script.learn(known))).await;
        }
        let dir = TempDir::new().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        let origin = liar.origin.parse().unwrap();
        let welcome = onboard::register(&home, &origin, name("bob"), name("box"), "test")
            .await
            .unwrap();
        let account = welcome.client.account().clone();
        welcome.client.stop().await;
        let create = ada.ctl(
            None,
            CtlBody::Create {
                mode: Mode::Signed,
                visibility: Visibility::Private,
                history: History::Full,
                name: Some(name("ops")),
                topic: None,
                limits: None,
            },
        );
        let head = Head {
            n: 0,
            hash: create.hash(),
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        let me = account.user_id;
        liar.tell(move |script| {
            let log = IdentityLog::genesis(&script.idents[&me][0], &script.id).unwrap();
            tell.send(log.head()).unwrap();
        })
        .await;
        let ident = told.await.unwrap();
        let add = ada.ctl(
            Some(head),
            CtlBody::Add {
                user: me,
                ident,
                role: Role::Member,
            },
        );
        let head = Head {
            n: 1,
            hash: add.hash(),
        };
        let log = vec![ctl(1, &create), ctl(2, &add)];
        liar.tell(|script| script.log = log).await;
        let (bob, events) = session(&home).await;
        bob.ready(SOON).await.unwrap();
        Self {
            liar,
            ada,
            eve,
            head,
            bob,
            me,
            events,
            home,
            _dir: dir,
        }
    }

    /// The same, following the channel.
    pub(crate) async fn following() -> Self {
        let mut scene = Self::new().await;
        scene.bob.follow(CHANNEL).await.unwrap();
        scene.liar.followed().await;
        scene
    }

    /// Pushes what must not be believed at place 3, then a good message at 4; returns what was shown
    /// before the good one, which proves that the session is alive.
    pub(crate) async fn lie(&mut self, entry: EntryBody) -> Vec<Notice> {
        let lie = Entry {
            seq: 3,
            at: AT,
            body: entry,
        };
        self.liar
            .push(vec![lie, env(4, self.ada.says(1, "good"))])
            .await;
        self.until("good").await
    }

    pub(crate) async fn until(&mut self, text: &str) -> Vec<Notice> {
        let mut notices = Vec::new();
        let wait = async {
            loop {
                match self.events.recv().await.expect("the session goes on") {
                    Event::Message(m) if said(&m) == text => return,
                    Event::Message(m) => panic!("shown: {}", said(&m)),
                    Event::Notice(notice) => notices.push(notice),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(SOON, wait)
            .await
            .expect("the good message comes");
        notices
    }
}

pub(crate) async fn session(home: &Home) -> (Client, mpsc::Receiver<Event>) {
    let profile = home.servers().unwrap().pop().unwrap();
    let session = Session {
        handle: name("web"),
        pinned: true,
        instance: Instance::new([2; 16]),
        agent: "test".into(),
    };
    Client::connect(home, &profile, session).await.unwrap()
}

pub(crate) fn said(message: &VerifiedMessage) -> &str {
    message.body.text.as_deref().unwrap_or_default()
}

pub(crate) fn kinds(notices: &[Notice]) -> Vec<NoticeKind> {
    notices.iter().map(|notice| notice.kind).collect()
}

pub(crate) fn gap(from: u64, to: u64) -> Gap {
    Gap {
        from,
        to,
        missing: to - from,
        reason: "x".repeat(1_000),
    }
}
