//! A client that was away: 10,000 messages of one channel, followed from the first, against the bare
//! verification and opening of as many.

use crate::bare::{Bare, Sealed, cores, median, on_all, seconds, verdict};
use crate::fan::{self, SENDERS, Words};
use crate::peer::{Account, Socket, wire};
use crate::process::Served;
use crate::room::Room;
use crate::{give_up, say};
use conclave_client::book::keys::KeyRing;
use conclave_client::book::opened::Opened;
use conclave_client::event::Event;
use conclave_proto::body::Body;
use conclave_proto::channel_log::Visibility;
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{EntryBody, Envelope};
use conclave_proto::frame::{Event as Told, ServerFrame};
use conclave_proto::limit::FRAME_BYTES_MAX;
use futures_util::StreamExt as _;
use std::hint::black_box;
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

const MESSAGES: u64 = 10_000;
/// With its frame, a body of 1,000 bytes.
const TEXT_BYTES: usize = 991;
const ROUNDS: u8 = 3;
const TARGET: f64 = 1.5;
/// How many envelopes the client opens at once.
const BATCH: usize = 256;

/// Part `catchup`.
pub(crate) async fn figures() {
    for visibility in [Visibility::Private, Visibility::Public] {
        let mode = match visibility {
            Visibility::Private => "e2e",
            _ => "signed",
        };
        caught_up(mode, visibility).await;
    }
}

async fn caught_up(mode: &str, visibility: Visibility) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::conclave(dir.path()).await;
    let room = Room::make(served.addr, "bench", visibility).await;
    let user = room.account().await;
    let mut envs: Vec<Envelope> = Vec::new();
    let each = MESSAGES / u64::from(SENDERS);
    fan::pour(&user, each, TEXT_BYTES, |voice| {
        let made: Vec<Envelope> = (0..each).map(|n| voice.envelope(n)).collect();
        envs.extend(made.iter().cloned());
        let frames = (0..each).zip(made);
        Words::Ready(frames.map(|(n, env)| wire(user.channel, n, env)).collect())
    })
    .await;
    let floor = Floor::new(&envs);
    let mut ring = KeyRing::default();
    if let Some(key) = &user.key {
        ring.add_channel((**key).clone());
    }
    let mut took: [Vec<f64>; 5] = Default::default();
    for round in 0..ROUNDS {
        let at = format!("copy{round}");
        room.copy(&at);
        room.start_over(&at, &format!("reader{round}")).await;
        took[0].push(client(&room, &at, round).await);
        took[1].push(seconds(|| floor.open(1)));
        took[2].push(seconds(|| floor.open(cores())));
        took[3].push(seconds(|| {
            for part in envs.chunks(BATCH) {
                black_box(Opened::all(part, &ring));
            }
        }));
        took[4].push(raw(&user, round).await);
    }
    let [client, one, all, opened, raw] = took.map(|all| median(all) * 1000.0);
    say(&format!(
        "{mode}: {MESSAGES} messages of 1,000 B, followed from the first until all are told: {client:.0} ms; bare: {one:.0} ms on one core, {all:.0} ms on {}",
        cores()
    ));
    say(&format!(
        "  to bare on all cores: {}",
        verdict(client / all, TARGET)
    ));
    say(&format!("  to bare on one core: ratio {:.2}", client / one));
    say(&format!(
        "  of it: opened by the client's own code alone {opened:.0} ms; brought by the server to a peer that only decodes {raw:.0} ms"
    ));
    served.kill().await;
}

/// Follows from the first message with a real client; seconds until the last is told.
async fn client(room: &Room, at: &str, round: u8) -> f64 {
    let (client, mut events) = room
        .session(at, &format!("reader{round}"), 10 + round)
        .await;
    let start = Instant::now();
    let follow = client.clone();
    let channel = room.channel;
    let following = tokio::spawn(async move { follow.follow(channel).await });
    let mut told = 0;
    while told < MESSAGES {
        let next = tokio::time::timeout(Duration::from_secs(60), events.recv());
        match next.await {
            Ok(Some(Event::Message(m))) => {
                assert_eq!(m.body.text.as_ref().map(String::len), Some(TEXT_BYTES));
                told += 1;
            }
            Ok(Some(Event::Notice(notice))) => give_up(&format!("{notice:?}")),
            Ok(Some(_)) => {}
            other => give_up(&format!("{told} were told, then {other:?}")),
        }
    }
    let taken = start.elapsed().as_secs_f64();
    let followed = following.await.expect("it ends");
    followed.expect("the channel can be followed");
    client.stop().await;
    taken
}

/// Follows from the first message with a peer that decodes and forgets.
async fn raw(user: &Account, round: u8) -> f64 {
    let (socket, _) = user.session(&format!("raw{round}")).await;
    let start = Instant::now();
    drain(user, socket).await;
    start.elapsed().as_secs_f64()
}

async fn drain(user: &Account, mut socket: Socket) {
    use conclave_proto::frame::op::Subscribe;
    use conclave_proto::frame::{ClientFrame, Op, Request};
    use conclave_proto::id::LogId;
    use futures_util::SinkExt as _;
    let log = LogId::Channel(user.channel);
    let op = Op::Subscribe(Subscribe { log, after: 0 });
    let request = ClientFrame::Request(Request { id: 1, op });
    let sent = socket.send(crate::peer::encode(&request)).await;
    sent.expect("the server takes it");
    let mut left = MESSAGES;
    while left > 0 {
        let Some(Ok(message)) = socket.next().await else {
            give_up("the server closed")
        };
        let Message::Binary(bytes) = message else {
            continue;
        };
        if let Ok(ServerFrame::Event(Told::Entries(batch))) =
            Encoding::Cbor.decode(&bytes, FRAME_BYTES_MAX)
        {
            let envs = batch
                .entries
                .iter()
                .filter(|entry| matches!(entry.body, EntryBody::Env(_)));
            left = left.saturating_sub(u64::try_from(envs.count()).unwrap_or(0));
        }
    }
}

/// As many bare ones of the same size, under headers of the same size.
struct Floor {
    bare: Bare,
    sealed: Vec<(Vec<u8>, Sealed)>,
}

impl Floor {
    fn new(envs: &[Envelope]) -> Self {
        let bare = Bare::new(&[8; 32]);
        let body = Body::text("x".repeat(TEXT_BYTES)).to_bytes();
        let body = body.expect("a small body");
        let seal = |(n, env): (usize, &Envelope)| {
            let mut nonce = [1; 24];
            nonce[..8].copy_from_slice(&n.to_be_bytes());
            (env.header.to_vec(), bare.seal(&env.header, &body, nonce))
        };
        let sealed = envs.iter().enumerate().map(seal).collect();
        Self { bare, sealed }
    }

    fn open(&self, threads: usize) {
        on_all(&self.sealed, threads, |(header, sealed)| {
            black_box(self.bare.open(header, sealed));
        });
    }
}
