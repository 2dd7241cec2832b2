//! A light client: the real handshake and frames, without a replica, verification or retries.

use crate::give_up;
use conclave_e2ee::ChannelKey;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{Author, Ctl, CtlBody, History, Mode as ChannelMode, Visibility};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::op::{Append, CtlAppend, Subscribe};
use conclave_proto::frame::{ClientFrame, Hello, Op, Ready, Request, ServerFrame};
use conclave_proto::handshake::{Mode, Transcript};
use conclave_proto::id::{
    Blob, ChannelId, HandshakeNonce, Instance, LogId, MsgId, RecipientKeyId, SenderSid, ServerId,
};
use conclave_proto::identity_log::{MachineClaim, build};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::time::UnixMs;
use futures_util::{SinkExt as _, StreamExt as _};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// The text of every message: 200 bytes.
pub(crate) const TEXT_BYTES: usize = 200;

/// The one user of a bench, and the channel everybody is in.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) addr: SocketAddr,
    pub(crate) machine: Arc<Secret>,
    pub(crate) channel: ChannelId,
    /// The key of the channel's one epoch, in mode `e2e`.
    pub(crate) key: Option<Arc<ChannelKey>>,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a plain name")
}

/// Opens a WebSocket; with a subprotocol for our own servers.
pub(crate) async fn open(addr: SocketAddr, subprotocol: Option<&str>) -> Socket {
    let mut request = format!("ws://{addr}/")
        .into_client_request()
        .expect("a valid URL");
    if let Some(text) = subprotocol {
        let value = text.parse().expect("a header value");
        request
            .headers_mut()
            .insert("sec-websocket-protocol", value);
    }
    let stream = TcpStream::connect(addr).await.expect("the server listens");
    stream.set_nodelay(true).expect("TCP has the option");
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(64 * 1024)
        .max_write_buffer_size(8 * 1024 * 1024);
    let done = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
    done.expect("the upgrade succeeds").0
}

async fn frame(socket: &mut Socket) -> ServerFrame {
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                return Encoding::Cbor
                    .decode(&bytes, FRAME_BYTES_MAX)
                    .expect("a frame");
            }
            Some(Ok(_)) => {}
            other => give_up(&format!("the socket ended: {other:?}")),
        }
    }
}

pub(crate) fn encode(frame: &ClientFrame) -> Message {
    Message::Binary(
        Encoding::Cbor
            .encode(frame, FRAME_BYTES_MAX)
            .expect("it fits")
            .into(),
    )
}

pub(crate) async fn enter(
    socket: &mut Socket,
    secret: &Secret,
    handle: Name,
    mode: impl FnOnce(ServerId) -> Mode,
) -> Box<Ready> {
    let mut random = [0; 48];
    getrandom(&mut random);
    let (nonce, instance) = random.split_at(32);
    let hello = Hello {
        versions: vec![2],
        nonce: HandshakeNonce::from_slice(nonce).expect("32 bytes"),
        key: secret.machine_key(),
        handle,
        pinned: false,
        instance: Instance::from_slice(instance).expect("16 bytes"),
        bindings: vec!["none".into()],
        agent: "bench".into(),
    };
    socket
        .send(encode(&ClientFrame::Hello(hello.clone())))
        .await
        .expect("sent");
    let ServerFrame::Challenge(challenge) = frame(socket).await else {
        give_up("no challenge")
    };
    let transcript = Transcript::new(&hello, &challenge, &[]);
    let auth = transcript.sign_client(&mode(challenge.server_id), secret);
    socket
        .send(encode(&ClientFrame::Auth(auth)))
        .await
        .expect("sent");
    match frame(socket).await {
        ServerFrame::Ready(ready) => ready,
        other => give_up(&format!("{other:?}")),
    }
}

pub(crate) fn getrandom(bytes: &mut [u8]) {
    use std::io::Read as _;
    let mut source = std::fs::File::open("/dev/urandom").expect("a source of randomness");
    source.read_exact(bytes).expect("enough of it");
}

/// Asks and waits; events in between are left aside.
pub(crate) async fn ask(socket: &mut Socket, op: Op) -> conclave_proto::frame::Outcome {
    socket
        .send(encode(&ClientFrame::Request(Request { id: u64::MAX, op })))
        .await
        .expect("sent");
    loop {
        if let ServerFrame::Response(response) = frame(socket).await
            && response.id == u64::MAX
        {
            return response.result;
        }
    }
}

impl Account {
    /// Makes the user and the channel.
    pub(crate) async fn register(addr: SocketAddr) -> Self {
        let mut seed = [0; 32];
        getrandom(&mut seed);
        let machine = Secret::from_seed(&seed);
        seed[0] ^= 1;
        let owner = Secret::from_seed(&seed);
        let mut socket = open(addr, Some("conclave.v2.cbor")).await;
        let genesis = |server: ServerId| -> Blob {
            let owners = vec![owner.owner_key()];
            let ek = EncryptionKey::new([1; 32]);
            let user = name("bench");
            let claim = MachineClaim::found(&server, &user, &owners, name("box"), ek, &machine);
            build::genesis(server, user, owners, claim, &owner, UnixMs(1))
                .bytes()
                .clone()
        };
        let mode = |server| Mode::Register {
            genesis: genesis(server),
        };
        let ready = enter(&mut socket, &machine, name("maker"), mode).await;
        let channel = ChannelId::new([7; 16]);
        let body = CtlBody::Create {
            mode: ChannelMode::Signed,
            visibility: Visibility::Public,
            history: History::Full,
            name: Some(name("hall")),
            topic: None,
            limits: None,
        };
        let author = Author {
            user: ready.user_id,
            path: ready.path,
            ident: ready.ident,
        };
        let ctl = Ctl {
            channel,
            after: None,
            body,
            author,
            ts: UnixMs(1),
        };
        let rec = ctl.sign_machine(&machine).bytes().clone();
        let op = CtlAppend {
            channel,
            rec,
            wraps: Vec::new(),
            invite_box: None,
        };
        ask(&mut socket, Op::CtlAppend(op)).await;
        Self {
            addr,
            machine: Arc::new(machine),
            channel,
            key: None,
        }
    }

    /// Opens another session of the user.
    pub(crate) async fn session(&self, handle: &str) -> (Socket, Box<Ready>) {
        let mut socket = open(self.addr, Some("conclave.v2.cbor")).await;
        let ready = enter(&mut socket, &self.machine, name(handle), |_| Mode::Auth).await;
        (socket, ready)
    }

    /// Opens a session that follows the channel from its end.
    pub(crate) async fn follower(&self, handle: &str, after: u64) -> Socket {
        let (mut socket, _) = self.session(handle).await;
        let log = LogId::Channel(self.channel);
        ask(&mut socket, Op::Subscribe(Subscribe { log, after })).await;
        socket
    }

    /// Makes `count` messages of one sender ahead of time.
    pub(crate) fn messages(&self, ready: &Ready, sender: u8, count: u64) -> Vec<Message> {
        let voice = Voice::new(self, ready, sender, TEXT_BYTES);
        (0..count).map(|n| voice.message(n)).collect()
    }
}

/// One sender and what it says.
pub(crate) struct Voice {
    account: Account,
    sender: u8,
    path: SessionPath,
    sid: [u8; 8],
    body: Blob,
}

impl Voice {
    pub(crate) fn new(account: &Account, ready: &Ready, sender: u8, text_bytes: usize) -> Self {
        let mut sid = [sender; 8];
        getrandom(&mut sid);
        let body = Body::text("x".repeat(text_bytes)).to_bytes();
        Self {
            account: account.clone(),
            sender,
            path: ready.path.clone(),
            sid,
            body: body.expect("a small body"),
        }
    }

    /// Signs message `n`, whose id is `sender ‖ n`; sealed where the channel has a key.
    pub(crate) fn envelope(&self, n: u64) -> Envelope {
        let mut id = [self.sender; 16];
        id[1..8].copy_from_slice(&self.sid[..7]);
        id[8..].copy_from_slice(&n.to_be_bytes());
        let Account { machine, key, .. } = &self.account;
        let header = Header {
            suite: if key.is_some() {
                Suite::One
            } else {
                Suite::Clear
            },
            channel: self.account.channel,
            epoch: key.as_ref().map_or(0, |key| key.place().e),
            sender: self.path.clone(),
            sender_key: machine.machine_key(),
            sid: SenderSid::new(self.sid),
            ctr: n + 1,
            msg_id: MsgId::new(id),
            ts: UnixMs(1),
            route: Route::Everyone,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        };
        let Some(key) = key else {
            return Envelope::clear(&header, self.body.clone(), machine);
        };
        // The sender's random sid and the counter: never twice under one key in a bench.
        let mut nonce = [self.sender; 24];
        nonce[..8].copy_from_slice(&self.sid);
        nonce[8..16].copy_from_slice(&n.to_be_bytes());
        let sealed = key.seal(&header, &self.body, nonce, machine);
        sealed.expect("a small body is sealed")
    }

    /// Message `n` as it travels.
    pub(crate) fn message(&self, n: u64) -> Message {
        wire(self.account.channel, n, self.envelope(n))
    }
}

/// The request that appends an envelope.
pub(crate) fn wire(channel: ChannelId, id: u64, env: Envelope) -> Message {
    let log = LogId::Channel(channel);
    let op = Op::Append(Append { log, env });
    encode(&ClientFrame::Request(Request { id, op }))
}
