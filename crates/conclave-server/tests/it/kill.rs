//! `kill -9` at any moment under load: what was acknowledged is there once, in order, without a hole.
//!
//! The server is this test binary again, as a child process. `CONCLAVE_KILL_ROUNDS` says how often it
//! is killed.

use crate::rig::{Person, Raw, open_config, soon, upgrade_request};
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, EntryBody, Envelope, Header, Route, Suite};
use conclave_proto::frame::op::{Append, Op, Read, Subscribe};
use conclave_proto::frame::{ClientFrame, reply::EntryPage};
use conclave_proto::frame::{
    Cursor, Event, Hello, Outcome, Reply, Request, ServerFrame, client::Ack,
};
use conclave_proto::handshake::{Mode, Transcript};
use conclave_proto::id::{ChannelId, Instance, LogId, MsgId, RecipientKeyId, SenderSid};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::time::UnixMs;
use conclave_server::Config;
use futures_util::{SinkExt as _, StreamExt as _};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const DATA_DIR: &str = "CONCLAVE_KILL_DATA_DIR";
const ROUNDS: &str = "CONCLAVE_KILL_ROUNDS";
const OPS: ChannelId = ChannelId::new([7; 16]);
const LOG: LogId = LogId::Channel(OPS);
const WRITERS: u8 = 8;
/// How many entries a writer has under way.
const WINDOW: usize = 8;
/// A round ends after at most so many acknowledgements.
const ACKS_MAX: u64 = 300;

/// The child: serves until it is killed, or its parent is gone.
#[tokio::test]
async fn the_server_that_is_killed() {
    let Some(dir) = std::env::var_os(DATA_DIR) else {
        return;
    };
    let config = Config {
        ephemeral: false,
        data_dir: Some(dir.into()),
        disk_floor_mib: 0,
        ..open_config()
    };
    let server = config.build().await.unwrap();
    writeln!(std::io::stdout(), "\nlistening {}", server.local_addr()).unwrap();
    let parent = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]).ok());
    server.run(async { drop(parent.await) }).await.unwrap();
}

/// A running child; killed at the end in any case.
struct Victim {
    child: Child,
    addr: SocketAddr,
}

impl Victim {
    async fn start(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["kill::the_server_that_is_killed", "--exact", "--nocapture"])
            .env(DATA_DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = child.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = tokio::task::spawn_blocking(move || {
            let said = lines.map_while(Result::ok);
            let mut said = said.filter_map(|l| l.strip_prefix("listening ")?.parse().ok());
            said.next()
        });
        let addr = soon(addr).await.unwrap();
        let mut victim = Self {
            child,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        victim.addr = addr.expect("the child listens");
        victim
    }

    /// SIGKILL, and until the kernel is done with it.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A connection that may break at any moment.
struct Line {
    ws: WebSocketStream<TcpStream>,
    next_id: u64,
}

impl Line {
    /// Comes in; `None` if the server is not there, or dies meanwhile.
    async fn open(addr: SocketAddr, person: &Person, writer: u8) -> Option<Self> {
        let stream = TcpStream::connect(addr).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let request = upgrade_request(&addr.to_string(), Encoding::Cbor.subprotocol());
        let (ws, _) = tokio_tungstenite::client_async(request, stream)
            .await
            .ok()?;
        let mut line = Self { ws, next_id: 1 };
        let hello = Hello {
            handle: format!("w{writer}").parse().unwrap(),
            pinned: true,
            instance: Instance::new([writer; 16]),
            ..person.hello()
        };
        line.send(ClientFrame::Hello(hello.clone())).await?;
        let ServerFrame::Challenge(challenge) = line.next().await? else {
            panic!("no challenge");
        };
        let transcript = Transcript::new(&hello, &challenge, &[]);
        let auth = transcript.sign_client(&Mode::Auth, &person.machine);
        line.send(ClientFrame::Auth(auth)).await?;
        match line.next().await? {
            ServerFrame::Ready(_) => Some(line),
            other => panic!("{other:?}"),
        }
    }

    async fn send(&mut self, frame: ClientFrame) -> Option<()> {
        let bytes = Encoding::Cbor.encode(&frame, FRAME_BYTES_MAX).unwrap();
        self.ws.send(Message::Binary(bytes.into())).await.ok()
    }

    async fn next(&mut self) -> Option<ServerFrame> {
        loop {
            match self.ws.next().await?.ok()? {
                Message::Binary(bytes) => {
                    return Some(Encoding::Cbor.decode(&bytes, FRAME_BYTES_MAX).unwrap());
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    async fn ask(&mut self, op: Op) -> Option<u64> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(ClientFrame::Request(Request { id, op })).await?;
        Some(id)
    }

    async fn page(&mut self, after: u64) -> Option<EntryPage> {
        let limit = u32::MAX;
        let id = self
            .ask(Op::Read(Read {
                log: LOG,
                after,
                limit,
            }))
            .await?;
        loop {
            if let ServerFrame::Response(response) = self.next().await? {
                assert_eq!(response.id, id);
                match response.result {
                    Outcome::Ok(Reply::Page(page)) => return Some(page),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// An entry of the log: which writer's, and its counter.
type Said = (u8, u64);

fn said(entry: &Entry) -> Option<Said> {
    let EntryBody::Env(env) = &entry.body else {
        return None;
    };
    let header = Header::parse(&env.header).unwrap();
    Some((header.sid.as_bytes()[0], header.ctr))
}

/// One session that appends as fast as it may and follows the same channel, across all deaths.
struct Writer {
    me: u8,
    person: Person,
    addr: watch::Receiver<Option<SocketAddr>>,
    acks: mpsc::Sender<(Said, u64)>,
    /// Everything up to here was received.
    cursor: u64,
    /// The next counter to be acknowledged.
    next: u64,
}

impl Writer {
    async fn run(mut self) {
        loop {
            let addr = *self.addr.borrow_and_update();
            if let Some(addr) = addr
                && let Some(line) = Line::open(addr, &self.person, self.me).await
            {
                self.talk(line).await;
            }
            // Wherever the line broke: the next address is where to go on.
            let came = self.addr.wait_for(|now| now.is_some() && *now != addr);
            if came.await.is_err() {
                return;
            }
        }
    }

    async fn talk(&mut self, mut line: Line) -> Option<()> {
        let after = self.cursor;
        let follow = line
            .ask(Op::Subscribe(Subscribe { log: LOG, after }))
            .await?;
        let mut under_way: VecDeque<(u64, u64)> = VecDeque::new();
        loop {
            while under_way.len() < WINDOW {
                let ctr = under_way.back().map_or(self.next, |(_, ctr)| ctr + 1);
                let op = self.entry(ctr);
                under_way.push_back((line.ask(op).await?, ctr));
            }
            match line.next().await? {
                ServerFrame::Event(Event::Entries(batch)) => {
                    assert_eq!(batch.gap, None);
                    for entry in batch.entries {
                        assert_eq!(entry.seq, self.cursor + 1, "writer {}", self.me);
                        self.cursor = entry.seq;
                    }
                    let (log, seq) = (LOG, self.cursor);
                    let cursors = vec![Cursor { log, seq }];
                    line.send(ClientFrame::Ack(Ack { cursors })).await?;
                }
                ServerFrame::Response(response) if response.id == follow => {
                    assert!(matches!(response.result, Outcome::Ok(_)), "{response:?}");
                }
                ServerFrame::Response(response) => {
                    let (id, ctr) = under_way.pop_front().unwrap();
                    let Outcome::Ok(Reply::Appended(done)) = response.result else {
                        panic!("writer {} at {ctr}: {:?}", self.me, response.result);
                    };
                    assert_eq!((response.id, ctr), (id, self.next));
                    self.next += 1;
                    self.acks.send(((self.me, ctr), done.seq)).await.ok()?;
                }
                ServerFrame::Event(_) => {}
                ServerFrame::Goodbye(_) => return None,
                other => panic!("{other:?}"),
            }
        }
    }

    fn entry(&self, ctr: u64) -> Op {
        let mut msg_id = [self.me; 16];
        msg_id[..8].copy_from_slice(&ctr.to_be_bytes());
        let header = Header {
            suite: Suite::Clear,
            channel: OPS,
            epoch: 0,
            sender: format!("ana/box/w{}", self.me).parse().unwrap(),
            sender_key: self.person.machine.machine_key(),
            sid: SenderSid::new([self.me; 8]),
            ctr,
            msg_id: MsgId::new(msg_id),
            ts: UnixMs(3),
            route: Route::Everyone,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        };
        let body = conclave_proto::body::Body::text(format!("{ctr} of {}", self.me));
        let env = Envelope::clear(&header, body.to_bytes().unwrap(), &self.person.machine);
        Op::Append(Append { log: LOG, env })
    }
}

/// Everything that was read of the log, and everything that was acknowledged.
#[derive(Default)]
struct Ledger {
    /// By seq, from 1.
    log: Vec<Option<Said>>,
    counters: BTreeMap<u8, u64>,
    acked: u64,
}

impl Ledger {
    /// Reads what is new; every place is taken, and every writer's counters follow one another.
    async fn read(&mut self, addr: SocketAddr, person: &Person) {
        let mut line = Line::open(addr, person, 100).await.expect("it lives");
        loop {
            let after = u64::try_from(self.log.len()).unwrap();
            let page = line.page(after).await.expect("it lives");
            assert_eq!(page.gap, None);
            for entry in &page.entries {
                let seq = u64::try_from(self.log.len()).unwrap() + 1;
                assert_eq!(entry.seq, seq, "no hole");
                let said = said(entry);
                if let Some((writer, ctr)) = said {
                    let last = self.counters.insert(writer, ctr).unwrap_or(0);
                    assert_eq!(ctr, last + 1, "writer {writer}: once and in order");
                }
                self.log.push(said);
            }
            if page.next == page.head {
                return;
            }
        }
    }

    fn check(&mut self, (said, seq): (Said, u64)) {
        let there = self.log.get(usize::try_from(seq).unwrap() - 1);
        assert_eq!(there, Some(&Some(said)), "acknowledged at {seq}");
        self.acked += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lesson_10_nothing_acknowledged_is_lost_doubled_or_moved_by_a_kill() {
    let rounds = std::env::var(ROUNDS).map_or(12, |n| n.parse().unwrap());
    let mut random = conclave_proto::backoff::Jitter::new(7);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut victim = Victim::start(&data).await;
    let ana = Person::new("ana", 1);
    let stream = TcpStream::connect(victim.addr).await.unwrap();
    let host = victim.addr.to_string();
    let mut raw = Raw::upgrade(Box::new(stream), &host, Encoding::Cbor).await;
    let genesis = ana.genesis(raw.challenge(&ana.hello()).await.server_id);
    raw = {
        let stream = TcpStream::connect(victim.addr).await.unwrap();
        Raw::upgrade(Box::new(stream), &host, Encoding::Cbor).await
    };
    raw.enter(&ana, &Mode::Register { genesis }, &[])
        .await
        .unwrap();
    raw.create(&ana, OPS, "ops").await;
    drop(raw);

    let (say, addr) = watch::channel(Some(victim.addr));
    let (acks, mut acked) = mpsc::channel(4_096);
    let writers: Vec<_> = (1..=WRITERS)
        .map(|me| Writer {
            me,
            person: Person::new("ana", 1),
            addr: addr.clone(),
            acks: acks.clone(),
            cursor: 0,
            next: 1,
        })
        .map(|writer| tokio::spawn(writer.run()))
        .collect();
    drop((acks, addr));
    let mut ledger = Ledger::default();
    for _ in 0..rounds {
        let mut open = Vec::new();
        for _ in 0..=random.up_to(ACKS_MAX) {
            open.push(soon(acked.recv()).await.expect("the writers go on"));
        }
        victim.kill();
        victim = Victim::start(&data).await;
        // What was written to a socket before the kill may be read only now.
        while let Ok(ack) = acked.try_recv() {
            open.push(ack);
        }
        ledger.read(victim.addr, &ana).await;
        open.into_iter().for_each(|ack| ledger.check(ack));
        say.send_replace(Some(victim.addr));
    }
    drop(say);
    victim.kill();
    let late = async {
        let mut late = Vec::new();
        while let Some(ack) = acked.recv().await {
            late.push(ack);
        }
        late
    };
    let late = soon(late).await;
    for writer in writers {
        soon(writer).await.expect("no writer saw a hole");
    }
    let victim = Victim::start(&data).await;
    let mut again = Ledger::default();
    again.read(victim.addr, &ana).await;
    assert_eq!(again.log[..ledger.log.len()], ledger.log, "nothing moved");
    late.into_iter().for_each(|ack| again.check(ack));
    let (acked, kept) = (ledger.acked + again.acked, again.log.len());
    writeln!(
        std::io::stderr(),
        "{rounds} kills, {acked} acknowledged, {kept} kept"
    )
    .unwrap();
    assert!(acked >= rounds);
}
