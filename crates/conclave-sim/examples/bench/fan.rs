//! Fan-out, sends, latency, idle memory, the reconnect storm.

use crate::nats::{self, Nats};
use crate::peer::{self, Account, Socket, Voice};
use crate::process::Served;
use crate::{give_up, say};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{EntryBody, Header};
use conclave_proto::frame::reply::Appended;
use conclave_proto::frame::{Event, Outcome, Reply, ServerFrame};
use conclave_proto::limit::FRAME_BYTES_MAX;
use futures_util::{SinkExt as _, StreamExt as _};
use minicbor::Decoder;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::oneshot::{self, Receiver};
use tokio_tungstenite::tungstenite::Message;

pub(crate) const SENDERS: u8 = 8;
pub(crate) const WINDOW: usize = 64;
pub(crate) const SECONDS: f64 = 3.0;
/// As many bytes as one of our entries has on the wire.
pub(crate) const PLAIN_BYTES: usize = 512;

/// What the receivers of one run saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) deliveries: AtomicU64,
    holes: AtomicU64,
}

/// When each message of each sender was sent, in microseconds since the start; for latency.
struct Stamps {
    start: Instant,
    sent: Vec<Vec<AtomicU64>>,
}

impl Stamps {
    fn new(count: u64) -> Self {
        let one = || (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            start: Instant::now(),
            sent: (0..SENDERS).map(|_| one()).collect(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(0)
    }
}

/// Reads `(first seq, count)` off an entries frame without decoding the entries.
fn count(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut d = Decoder::new(bytes);
    d.map().ok()?;
    (d.str().ok()? == "event").then_some(())?;
    d.map().ok()?;
    (d.str().ok()? == "entries").then_some(())?;
    let fields = d.map().ok()??;
    for _ in 0..fields {
        if d.str().ok()? == "entries" {
            let n = d.array().ok()??;
            d.map().ok()?;
            (d.str().ok()? == "seq").then_some(())?;
            return Some((d.u64().ok()?, n));
        }
        d.skip().ok()?;
    }
    None
}

async fn receive(mut socket: Socket, seen: Arc<Seen>, mut reached: u64, ear: Option<Account>) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(bytes) = message else {
            continue;
        };
        let Some((first, n)) = count(&bytes) else {
            continue;
        };
        if first > reached + 1 {
            seen.holes.fetch_add(first - reached - 1, Ordering::Relaxed);
        }
        if let Some(user) = &ear {
            listen(user, &bytes);
        }
        let end = first + n - 1;
        let fresh = end.saturating_sub(reached.max(first - 1));
        reached = reached.max(end);
        seen.deliveries.fetch_add(fresh, Ordering::Relaxed);
    }
}

/// Verifies and opens what a frame brings.
fn listen(user: &Account, bytes: &[u8]) {
    let Ok(ServerFrame::Event(Event::Entries(batch))) =
        Encoding::Cbor.decode(bytes, FRAME_BYTES_MAX)
    else {
        return;
    };
    for entry in batch.entries {
        if let EntryBody::Env(env) = entry.body {
            let parsed = env.parse().expect("well-formed");
            parsed.check().expect("signed");
            if let Some(key) = &user.key {
                key.open(&parsed).expect("sealed");
            }
        }
    }
}

/// Receives like the others, and notes how long each message took, until it is told to stop.
async fn clocked(mut socket: Socket, stamps: Arc<Stamps>, mut stop: Receiver<()>) -> Vec<u64> {
    let mut taken = Vec::new();
    loop {
        let next = tokio::select! {
            _ = &mut stop => return taken,
            next = socket.next() => next,
        };
        let Some(Ok(message)) = next else {
            return taken;
        };
        let now = stamps.now();
        let Ok(ServerFrame::Event(Event::Entries(batch))) =
            Encoding::Cbor.decode(&message.into_data(), FRAME_BYTES_MAX)
        else {
            continue;
        };
        for entry in batch.entries {
            let EntryBody::Env(env) = entry.body else {
                continue;
            };
            let Some(header) = Header::parse(&env.header) else {
                continue;
            };
            let (sender, n) = number(header.msg_id.as_bytes());
            if let Some(sent) = stamps.sent.get(sender).and_then(|all| all.get(n)) {
                taken.push(now.saturating_sub(sent.load(Ordering::Relaxed)));
            }
        }
    }
}

/// Which message of which sender an id names.
fn number(id: &[u8; 16]) -> (usize, usize) {
    let n = id[8..]
        .iter()
        .fold(0, |n, byte| n << 8 | usize::from(*byte));
    (usize::from(id[0]), n)
}

/// How a sender paces itself.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// At most so many unanswered.
    Window(usize),
    /// So many a second, answered or not.
    Rate(f64),
}

/// What a sender has to say.
pub(crate) enum Words {
    /// Made ahead.
    Ready(Vec<Message>),
    /// So many, each made as it goes.
    Fresh(Voice, u64),
}

impl Words {
    fn len(&self) -> usize {
        match self {
            Self::Ready(all) => all.len(),
            Self::Fresh(_, most) => usize::try_from(*most).unwrap_or(0),
        }
    }

    fn message(&self, n: usize) -> Message {
        match self {
            Self::Ready(all) => all[n].clone(),
            Self::Fresh(voice, _) => voice.message(u64::try_from(n).unwrap_or(0)),
        }
    }
}

/// Sends until the time is over or the messages are; returns how many were acknowledged.
async fn send(
    mut socket: Socket,
    words: Words,
    sender: u8,
    pace: Pace,
    until: Instant,
    stamps: Arc<Stamps>,
) -> u64 {
    let (mut sent, mut done) = (0_usize, 0_u64);
    let start = Instant::now();
    loop {
        let due = match pace {
            _ if Instant::now() >= until => sent,
            Pace::Window(window) => usize::try_from(done).unwrap_or(0) + window,
            Pace::Rate(rate) => to_count(start.elapsed().as_secs_f64() * rate),
        };
        while sent < due.min(words.len()) {
            stamps.sent[usize::from(sender)][sent].store(stamps.now(), Ordering::Relaxed);
            socket
                .feed(words.message(sent))
                .await
                .expect("the server takes it");
            sent += 1;
        }
        socket.flush().await.expect("the server takes it");
        if u64::try_from(sent).unwrap_or(0) == done {
            if Instant::now() >= until || sent == words.len() {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let wait = match pace {
            Pace::Window(_) => Duration::from_secs(30),
            Pace::Rate(_) => Duration::from_millis(2),
        };
        let Ok(next) = tokio::time::timeout(wait, socket.next()).await else {
            continue;
        };
        let Some(Ok(message)) = next else {
            give_up("the server closed")
        };
        if let Message::Binary(bytes) = message
            && let Ok(ServerFrame::Response(r)) = Encoding::Cbor.decode(&bytes, FRAME_BYTES_MAX)
        {
            match r.result {
                Outcome::Ok(Reply::Appended(Appended { .. })) => done += 1,
                other => give_up(&format!("refused: {other:?}")),
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small positive counts"
)]
fn to_count(value: f64) -> usize {
    value as usize
}

#[expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
pub(crate) fn ratio(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

fn percentile(sorted: &[u64], of_hundred: usize) -> f64 {
    let at = (sorted.len() * of_hundred / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |us| ratio(*us, 1000.0))
}

/// What one run came to.
pub(crate) struct Figures {
    pub(crate) sends: f64,
    pub(crate) deliveries: f64,
    pub(crate) lost: u64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// What peers do with messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Senders made them ahead, receivers count them: what a run takes is the server's.
    Carry,
    /// Senders seal and sign each as it goes, receivers verify and open each.
    Whole,
}

/// Lets 8 senders speak to `receivers` for a while.
pub(crate) async fn conclave(user: &Account, receivers: usize, pace: Pace, work: Work) -> Figures {
    let most = match pace {
        Pace::Window(_) => 30_000,
        Pace::Rate(rate) => u64::try_from(to_count(rate * SECONDS)).unwrap_or(0) + 16,
    };
    let stamps = Arc::new(Stamps::new(most));
    let head = head(user).await;
    let seen = Arc::new(Seen::default());
    let mut readers = Vec::new();
    for n in 1..receivers {
        let socket = user.follower(&format!("r{n}"), head).await;
        let ear = (work == Work::Whole).then(|| user.clone());
        readers.push(tokio::spawn(receive(socket, Arc::clone(&seen), head, ear)));
    }
    let (stop, stopped) = oneshot::channel();
    let clock = user.follower("clock", head).await;
    let clock = tokio::spawn(clocked(clock, Arc::clone(&stamps), stopped));
    let mut ready = Vec::new();
    for sender in 0..SENDERS {
        let (socket, who) = user.session(&format!("s{sender}")).await;
        let words = match work {
            Work::Whole => Words::Fresh(Voice::new(user, &who, sender, peer::TEXT_BYTES), most),
            Work::Carry => {
                let account = user.clone();
                let signing = move || account.messages(&who, sender, most);
                let signing = tokio::task::spawn_blocking(signing);
                Words::Ready(signing.await.expect("signing does not fail"))
            }
        };
        ready.push((sender, socket, words));
    }
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(SECONDS);
    let mut senders = Vec::new();
    for (sender, socket, words) in ready {
        let stamps = Arc::clone(&stamps);
        senders.push(tokio::spawn(send(
            socket, words, sender, pace, until, stamps,
        )));
    }
    let mut done = 0;
    for sender in senders {
        done += sender.await.expect("a sender ends");
    }
    let sending = start.elapsed().as_secs_f64();
    // Everything acknowledged must arrive everywhere.
    let others = u64::try_from(receivers - 1).unwrap_or(0);
    let delivered = settle(&seen, done * others).await;
    let all = start.elapsed().as_secs_f64();
    stop.send(()).ok();
    let mut taken = clock.await.expect("the clock ends");
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    taken.sort_unstable();
    Figures {
        sends: ratio(done, sending),
        deliveries: ratio(delivered + done, all),
        lost: done * others - delivered + seen.holes.load(Ordering::Relaxed),
        p50: percentile(&taken, 50),
        p99: percentile(&taken, 99),
    }
}

/// Waits until so many deliveries were seen, or none came for a while; returns how many were.
pub(crate) async fn settle(seen: &Seen, expected: u64) -> u64 {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = seen.deliveries.load(Ordering::Relaxed);
        if now >= expected || since.elapsed() > Duration::from_secs(10) {
            return now;
        }
        if now != last {
            (last, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The same load through the plain broadcast; returns sends and deliveries a second.
async fn plain(addr: SocketAddr, receivers: usize) -> (f64, f64) {
    let seen = Arc::new(Seen::default());
    let mut readers = Vec::new();
    for _ in 0..receivers {
        let mut socket = peer::open(addr, None).await;
        socket.send(Message::text("r")).await.expect("sent");
        socket.next().await;
        let seen = Arc::clone(&seen);
        readers.push(tokio::spawn(async move {
            while let Some(Ok(_)) = socket.next().await {
                seen.deliveries.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(SECONDS);
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        let mut socket = peer::open(addr, None).await;
        senders.push(tokio::spawn(async move {
            let message = Message::binary(vec![b'x'; PLAIN_BYTES]);
            let (mut sent, mut done) = (0_usize, 0_usize);
            while Instant::now() < until {
                while sent < done + WINDOW {
                    socket.feed(message.clone()).await.expect("sent");
                    sent += 1;
                }
                socket.flush().await.expect("sent");
                socket.next().await;
                done += 1;
            }
            u64::try_from(done).unwrap_or(0)
        }));
    }
    let mut done = 0;
    for sender in senders {
        done += sender.await.expect("a sender ends");
    }
    let sending = start.elapsed().as_secs_f64();
    let delivered = settle(&seen, done * u64::try_from(receivers).unwrap_or(0)).await;
    let all = start.elapsed().as_secs_f64();
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    (ratio(done, sending), ratio(delivered, all))
}

/// Part `fan`.
pub(crate) async fn fan_out() {
    for receivers in [10, 100, 500] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let served = Served::conclave(dir.path()).await;
        let user = Account::register(served.addr).await;
        let f = conclave(&user, receivers, Pace::Window(WINDOW), Work::Carry).await;
        let yard = Served::start(&["broadcast"]).await;
        let (plain_sends, plain) = plain(yard.addr, receivers).await;
        yard.kill().await;
        say(&format!(
            "{receivers} receivers x {SENDERS} senders, window {WINDOW}: {:.0} deliveries/s, {:.0} sends/s, p99 {:.0} ms, lost {}; plain broadcast {plain:.0} deliveries/s, {plain_sends:.0} sends/s; ratio {:.2}",
            f.deliveries,
            f.sends,
            f.p99,
            f.lost,
            f.deliveries / plain.max(1.0)
        ));
        let dir = tempfile::tempdir().expect("a temporary directory");
        match Nats::start(dir.path()).await {
            None => say("NATS JetStream: skipped, for nats-server is not on PATH"),
            Some(nats) => {
                let (sends, deliveries) = nats::fan(&nats, receivers).await;
                say(&format!(
                    "  NATS JetStream, acknowledged before fsync: {deliveries:.0} deliveries/s, {sends:.0} sends/s"
                ));
            }
        }
        if receivers == 100 {
            let rate = f.sends / 2.0 / f64::from(SENDERS);
            let open = conclave(&user, receivers, Pace::Rate(rate), Work::Carry).await;
            say(&format!(
                "{receivers} x {SENDERS}, open loop at half that rate: {:.0} sends/s, p50 {:.1} ms, p99 {:.1} ms, lost {}",
                open.sends, open.p50, open.p99, open.lost
            ));
        }
        served.kill().await;
    }
}

/// Part `sends`: one message of each sender in flight.
pub(crate) async fn window_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::conclave(dir.path()).await;
    let user = Account::register(served.addr).await;
    let f = conclave(&user, 10, Pace::Window(1), Work::Carry).await;
    say(&format!(
        "10 x {SENDERS}, window 1: {:.0} sends/s, p50 {:.1} ms, p99 {:.1} ms, lost {}",
        f.sends, f.p50, f.p99, f.lost
    ));
    served.kill().await;
}

/// Part `idle`: memory of sessions that do nothing.
pub(crate) async fn idle() {
    const SESSIONS: u64 = 1_000;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::conclave(dir.path()).await;
    let user = Account::register(served.addr).await;
    let before = served.resident_kb();
    let mut sockets = Vec::new();
    for n in 0..SESSIONS {
        sockets.push(user.follower(&format!("i{n}"), 0).await);
    }
    let after = served.resident_kb();
    let each = ratio((after - before) * 10, 1.0) / ratio(SESSIONS, 1.0) / 10.0;
    say(&format!(
        "{SESSIONS} idle sessions: {each:.1} KB each ({before} KB -> {after} KB)"
    ));
    served.kill().await;
}

/// Part `storm`: 500 sessions lose their sockets at once and come back.
pub(crate) async fn storm() {
    const SESSIONS: usize = 500;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::conclave(dir.path()).await;
    let user = Account::register(served.addr).await;
    let mut sockets = Vec::new();
    for n in 0..SESSIONS {
        sockets.push(user.follower(&format!("i{n}"), 0).await);
    }
    drop(sockets);
    let start = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..SESSIONS {
        let user = user.clone();
        tasks.push(tokio::spawn(async move {
            user.follower(&format!("i{n}"), 0).await
        }));
    }
    let mut back = Vec::new();
    for task in tasks {
        back.push(task.await.expect("a session comes back"));
    }
    let ms = start.elapsed().as_secs_f64() * 1000.0;
    say(&format!(
        "{SESSIONS} sessions dropped and back, following again: {ms:.0} ms"
    ));
    served.kill().await;
}

/// Puts messages into a fresh server.
pub(crate) async fn fill(addr: SocketAddr, messages: u64) {
    let user = Account::register(addr).await;
    let each = messages / u64::from(SENDERS);
    let make = |voice: &Voice| Words::Ready((0..each).map(|n| voice.message(n)).collect());
    pour(&user, each, peer::TEXT_BYTES, make).await;
}

/// Lets every sender say what `make` gives it, `each` messages, and waits until all are acknowledged.
pub(crate) async fn pour(
    user: &Account,
    each: u64,
    text_bytes: usize,
    mut make: impl FnMut(&Voice) -> Words,
) {
    let stamps = Arc::new(Stamps::new(each));
    let mut senders = Vec::new();
    for sender in 0..SENDERS {
        let (socket, who) = user.session(&format!("s{sender}")).await;
        let words = make(&Voice::new(user, &who, sender, text_bytes));
        let until = Instant::now() + Duration::from_secs(600);
        let pace = Pace::Window(WINDOW);
        let stamps = Arc::clone(&stamps);
        senders.push(tokio::spawn(send(
            socket, words, sender, pace, until, stamps,
        )));
    }
    for sender in senders {
        sender.await.expect("a sender ends");
    }
}

async fn head(user: &Account) -> u64 {
    use conclave_proto::frame::Op;
    use conclave_proto::frame::op::Read;
    use conclave_proto::id::LogId;
    let (mut socket, _) = user.session("head").await;
    let log = LogId::Channel(user.channel);
    let op = Op::Read(Read {
        log,
        after: u64::from(u32::MAX),
        limit: 1,
    });
    match peer::ask(&mut socket, op).await {
        Outcome::Ok(Reply::Page(page)) => page.head,
        other => give_up(&format!("{other:?}")),
    }
}
