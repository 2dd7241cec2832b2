//! A real server on a free loopback port, and a raw client that speaks the protocol by hand.

use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{Author, Ctl, CtlBody, History, Mode as ChannelMode, Visibility};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::op::{Append, CtlAppend, Subscribe};
use conclave_proto::frame::reply::Appended;
use conclave_proto::frame::{
    Challenge, ClientFrame, Event, Hello, Op, Outcome, Ready, Reply, Request, ServerFrame,
};
use conclave_proto::handshake::{Mode, Transcript};
use conclave_proto::id::{
    Blob, ChannelId, HandshakeNonce, Instance, LogId, MsgId, RecipientKeyId, SenderSid, ServerId,
};
use conclave_proto::identity_log::build;
use conclave_proto::identity_log::{IdentityLog, MachineClaim};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::name::Name;
use conclave_proto::reject::Reject;
use conclave_proto::time::UnixMs;
use conclave_server::config::Registration;
use conclave_server::{Config, Running, Server};
use futures_util::{SinkExt as _, StreamExt as _};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::Request as HttpRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long anything in these tests may take before it counts as a hang.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it did not happen in time")
}

/// An ephemeral server that lets anybody register, without rates.
pub(crate) fn open_config() -> Config {
    let mut config = Config::ephemeral();
    config.registration = Registration::Open;
    config.limits.sends_per_second = 0;
    config.limits.sends_per_channel_minute = 0;
    config.limits.send_mb_per_day = 0;
    config
}

pub(crate) struct Site {
    pub(crate) addr: SocketAddr,
    pub(crate) server_id: ServerId,
    pub(crate) running: Running,
}

pub(crate) async fn serve(config: Config) -> Site {
    let server: Server = config.build().await.unwrap();
    let (addr, server_id) = (server.local_addr(), server.server_id());
    Site {
        addr,
        server_id,
        running: server.spawn(),
    }
}

impl Site {
    /// Sends bytes as they are and reads until the server closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        soon(stream.read_to_end(&mut answer)).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let host = self.addr;
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await
    }

    pub(crate) async fn connect(&self, encoding: Encoding) -> Raw {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw::upgrade(Box::new(stream), &self.addr.to_string(), encoding).await
    }

    /// A registered, live session.
    pub(crate) async fn register(&self, person: &Person, encoding: Encoding) -> Raw {
        let mut raw = self.connect(encoding).await;
        let genesis = person.genesis(self.server_id);
        raw.enter(person, &Mode::Register { genesis }, &[])
            .await
            .unwrap();
        raw
    }

    /// A live session of who is registered already.
    pub(crate) async fn login(&self, person: &Person, encoding: Encoding) -> Raw {
        let mut raw = self.connect(encoding).await;
        raw.enter(person, &Mode::Auth, &[]).await.unwrap();
        raw
    }
}

/// The upgrade request of a client that dialled `host`.
pub(crate) fn upgrade_request(host: &str, subprotocol: &str) -> HttpRequest<()> {
    let mut request = format!("ws://{host}/").into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", subprotocol.parse().unwrap());
    request
}

/// One user with one machine; the seed makes the keys.
pub(crate) struct Person {
    pub(crate) name: Name,
    pub(crate) handle: Name,
    pub(crate) machine: Secret,
    pub(crate) owner: Secret,
    pub(crate) instance: Instance,
    seed: u8,
}

impl Person {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        Self {
            name: name.parse().unwrap(),
            handle: "main".parse().unwrap(),
            machine: Secret::from_seed(&[seed; 32]),
            owner: Secret::from_seed(&[seed.wrapping_add(100); 32]),
            instance: Instance::new([seed; 16]),
            seed,
        }
    }

    pub(crate) fn genesis(&self, server: ServerId) -> Blob {
        let owners = vec![self.owner.owner_key()];
        let claim = MachineClaim::found(
            &server,
            &self.name,
            &owners,
            "box".parse().unwrap(),
            EncryptionKey::new([self.seed; 32]),
            &self.machine,
        );
        let name = self.name.clone();
        build::genesis(server, name, owners, claim, &self.owner, UnixMs(1))
            .bytes()
            .clone()
    }

    pub(crate) fn log(&self, server: ServerId) -> IdentityLog {
        IdentityLog::genesis(&self.genesis(server), &server).unwrap()
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            versions: vec![2],
            nonce: HandshakeNonce::new([self.seed; 32]),
            key: self.machine.machine_key(),
            handle: self.handle.clone(),
            pinned: false,
            instance: self.instance,
            bindings: vec!["tls-exporter".into(), "none".into()],
            agent: "test".into(),
        }
    }
}

/// A WebSocket, by hand.
pub(crate) struct Raw {
    pub(crate) ws: WebSocketStream<Box<dyn Io>>,
    pub(crate) encoding: Encoding,
    pub(crate) ready: Option<Box<Ready>>,
    pub(crate) events: Vec<Event>,
    next_id: u64,
}

impl Raw {
    pub(crate) async fn upgrade(io: Box<dyn Io>, host: &str, encoding: Encoding) -> Self {
        let request = upgrade_request(host, encoding.subprotocol());
        let (ws, answer) = soon(tokio_tungstenite::client_async(request, io))
            .await
            .unwrap();
        let chosen = answer.headers().get("sec-websocket-protocol").unwrap();
        assert_eq!(chosen, encoding.subprotocol());
        Self {
            ws,
            encoding,
            ready: None,
            events: Vec::new(),
            next_id: 1,
        }
    }

    pub(crate) fn encode(&self, frame: &ClientFrame) -> Message {
        let bytes = self.encoding.encode(frame, FRAME_BYTES_MAX).unwrap();
        match self.encoding {
            Encoding::Cbor => Message::Binary(bytes.into()),
            Encoding::Json => Message::text(String::from_utf8(bytes).unwrap()),
        }
    }

    pub(crate) async fn send(&mut self, frame: &ClientFrame) {
        let message = self.encode(frame);
        soon(self.ws.send(message)).await.unwrap();
    }

    /// The next frame, or the code the server closed with (`None`: without one).
    pub(crate) async fn next(&mut self) -> Result<ServerFrame, Option<u16>> {
        loop {
            let bytes = match soon(self.ws.next()).await {
                None | Some(Err(Error::ConnectionClosed | Error::Io(_) | Error::Protocol(_))) => {
                    return Err(None);
                }
                Some(Err(e)) => panic!("{e}"),
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|f| f.code.into())),
                Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
                Some(Ok(Message::Text(text))) => text.as_bytes().to_vec(),
                Some(Ok(_)) => continue,
            };
            return Ok(self.encoding.decode(&bytes, FRAME_BYTES_MAX).unwrap());
        }
    }

    /// Reads on to the goodbye and the close.
    pub(crate) async fn goodbye(&mut self) -> (Option<Reject>, Option<u16>) {
        let mut reason = None;
        loop {
            match self.next().await {
                Ok(ServerFrame::Goodbye(bye)) => reason = Some(bye.reason),
                Ok(_) => {}
                Err(code) => return (reason, code),
            }
        }
    }

    pub(crate) async fn challenge(&mut self, hello: &Hello) -> Challenge {
        self.send(&ClientFrame::Hello(hello.clone())).await;
        match self.next().await {
            Ok(ServerFrame::Challenge(challenge)) => challenge,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn enter(
        &mut self,
        person: &Person,
        mode: &Mode,
        binding: &[u8],
    ) -> Result<(), Reject> {
        let hello = person.hello();
        let challenge = self.challenge(&hello).await;
        let transcript = Transcript::new(&hello, &challenge, binding);
        transcript
            .verify_server(&challenge.key, &challenge.sig)
            .unwrap();
        let auth = transcript.sign_client(mode, &person.machine);
        self.send(&ClientFrame::Auth(auth)).await;
        match self.next().await {
            Ok(ServerFrame::Ready(ready)) => {
                self.ready = Some(ready);
                Ok(())
            }
            Ok(ServerFrame::Goodbye(bye)) => Err(bye.reason),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn ask(&mut self, op: Op) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&ClientFrame::Request(Request { id, op })).await;
        id
    }

    /// Waits for one answer; events meanwhile are kept.
    pub(crate) async fn answer(&mut self, id: u64) -> Result<Reply, Reject> {
        loop {
            match self.next().await {
                Ok(ServerFrame::Response(response)) if response.id == id => {
                    return match response.result {
                        Outcome::Ok(reply) => Ok(reply),
                        Outcome::Err(reject) => Err(reject),
                        Outcome::Unknown(word) => panic!("{word}"),
                    };
                }
                Ok(ServerFrame::Event(event)) => self.events.push(event),
                other => panic!("waiting for {id}: {other:?}"),
            }
        }
    }

    pub(crate) async fn call(&mut self, op: Op) -> Result<Reply, Reject> {
        let id = self.ask(op).await;
        self.answer(id).await
    }

    /// Makes a public channel and follows it.
    pub(crate) async fn create(&mut self, person: &Person, channel: ChannelId, name: &str) -> Blob {
        let body = CtlBody::Create {
            mode: ChannelMode::Signed,
            visibility: Visibility::Public,
            history: History::Full,
            name: Some(name.parse().unwrap()),
            topic: None,
            limits: None,
        };
        self.control(person, channel, None, body).await
    }

    /// Joins a public channel right after the record `after`.
    pub(crate) async fn join(&mut self, person: &Person, channel: ChannelId, after: Head) -> Blob {
        let body = CtlBody::Join { ticket: None };
        self.control(person, channel, Some(after), body).await
    }

    async fn control(
        &mut self,
        person: &Person,
        channel: ChannelId,
        after: Option<Head>,
        body: CtlBody,
    ) -> Blob {
        let ready = self.ready.as_ref().unwrap();
        let ctl = Ctl {
            channel,
            after,
            body,
            author: Author {
                user: ready.user_id,
                path: ready.path.clone(),
                ident: ready.ident,
            },
            ts: UnixMs(2),
        };
        let rec = ctl.sign_machine(&person.machine).bytes().clone();
        let op = Op::CtlAppend(CtlAppend {
            channel,
            rec: rec.clone(),
            wraps: Vec::new(),
            invite_box: None,
        });
        self.call(op).await.unwrap();
        rec
    }

    pub(crate) async fn subscribe(&mut self, channel: ChannelId, after: u64) {
        let log = LogId::Channel(channel);
        self.call(Op::Subscribe(Subscribe { log, after }))
            .await
            .unwrap();
    }

    /// The append of a text as this process's message number `ctr`.
    pub(crate) fn message(&self, person: &Person, channel: ChannelId, ctr: u64, text: &str) -> Op {
        let mut msg_id = [person.seed; 16];
        msg_id[..8].copy_from_slice(&ctr.to_be_bytes());
        let header = Header {
            suite: Suite::Clear,
            channel,
            epoch: 0,
            sender: self.ready.as_ref().unwrap().path.clone(),
            sender_key: person.machine.machine_key(),
            sid: SenderSid::new([person.seed; 8]),
            ctr,
            msg_id: MsgId::new(msg_id),
            ts: UnixMs(3),
            route: Route::Everyone,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        };
        let body = Body::text(text).to_bytes().unwrap();
        Op::Append(Append {
            log: LogId::Channel(channel),
            env: Envelope::clear(&header, body, &person.machine),
        })
    }

    pub(crate) async fn say(
        &mut self,
        person: &Person,
        channel: ChannelId,
        ctr: u64,
        text: &str,
    ) -> Appended {
        let op = self.message(person, channel, ctr, text);
        match self.call(op).await {
            Ok(Reply::Appended(appended)) => appended,
            other => panic!("{other:?}"),
        }
    }

    /// Reads events until one satisfies `pick`.
    pub(crate) async fn event<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> T {
        if let Some(found) = self.events.drain(..).find_map(|e| pick(&e)) {
            return found;
        }
        loop {
            match self.next().await {
                Ok(ServerFrame::Event(event)) => {
                    if let Some(found) = pick(&event) {
                        return found;
                    }
                }
                other => panic!("waiting for an event: {other:?}"),
            }
        }
    }
}

/// The texts among the entries of an event.
pub(crate) fn texts(event: &Event) -> Vec<String> {
    use conclave_proto::entry::EntryBody;
    let Event::Entries(batch) = event else {
        return Vec::new();
    };
    let env = |body: &EntryBody| match body {
        EntryBody::Env(env) => Body::parse(&env.ct).ok()?.text,
        _ => None,
    };
    batch.entries.iter().filter_map(|e| env(&e.body)).collect()
}
