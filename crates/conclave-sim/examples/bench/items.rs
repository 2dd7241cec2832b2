//! State and memory: a fresh machine's first sync of 10,000 memories, recall over them, writes of state
//! until they are acknowledged, and what receipts cost the sender, each beside its yardstick.

use crate::bare::{median, verdict};
use crate::process::Served;
use crate::room::Room;
use crate::{give_up, say};
use conclave_client::client::{Client, Signer, Target};
use conclave_client::home::Home;
use conclave_client::item::Recall;
use conclave_client::onboard;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::id::ChannelId;
use conclave_proto::name::{Name, SessionPath};
use rusqlite::Connection;
use std::path::Path;
use std::time::{Duration, Instant};

const MEMORIES: usize = 10_000;
const WRITERS: u8 = 8;
/// Of 4,096 different words; a word's frequency falls with its rank, as in real text.
const WORDS_LOG2: u64 = 12;
const WORDS_EACH: usize = 40;
const RECALLS: usize = 1_000;
const WRITES: usize = 1_000;
const ROUNDS: usize = 3;

/// Part `items`.
pub(crate) async fn figures() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let served = Served::conclave(dir.path()).await;
    for (mode, visibility) in [("e2e", Visibility::Private), ("signed", Visibility::Public)] {
        measure(&served, mode, visibility, dir.path()).await;
    }
    served.kill().await;
}

async fn measure(served: &Served, mode: &str, visibility: Visibility, dir: &Path) {
    let room = Room::make(served.addr, &format!("ada-{mode}"), visibility).await;
    fill(&room).await;
    let (ada, _events) = room.session("home", "main", 1).await;
    ada.follow(room.channel).await.expect("it is followed");
    let mut firsts = Vec::new();
    let mut reader = None;
    for round in 0..ROUNDS {
        let (joined, took) = first_sync(&room, &ada, &format!("bob-{mode}-{round}")).await;
        firsts.push(took);
        reader = Some(joined);
    }
    say(&format!(
        "{mode}: {MEMORIES} memories of about 300 B, a machine that just joined has them all: {:.0} ms; target 2,000 ms: {}",
        median(firsts.clone()) * 1000.0,
        met(median(firsts) * 1000.0, 2_000.0)
    ));
    let Some((_machine, bob)) = reader else {
        give_up("nobody joined")
    };
    recalls(&bob, room.channel, mode, dir).await;
    writes(&ada, room.channel, mode, dir).await;
    receipts(&room, &ada, mode).await;
    bob.stop().await;
    ada.stop().await;
}

const fn met(figure: f64, target: f64) -> &'static str {
    if figure <= target { "met" } else { "missed" }
}

/// A small generator, so that every run has the same texts.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A word: the lower its rank, the more often.
    fn word(&mut self) -> String {
        let magnitude = self.roll() % WORDS_LOG2;
        let rank = (1 << magnitude) + self.roll() % (1 << magnitude);
        format!("w{rank}x")
    }

    fn text(&mut self, words: usize) -> String {
        let words: Vec<String> = (0..words).map(|_| self.word()).collect();
        words.join(" ")
    }
}

/// Lets several sessions of one machine remember everything.
async fn fill(room: &Room) {
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        let (client, events) = room.session("home", &format!("writer{n}"), 20 + n).await;
        let channel = room.channel;
        writers.push(tokio::spawn(async move {
            let _events = events;
            let mut dice = Dice(0x9E37_79B9 + u64::from(n));
            for _ in 0..MEMORIES / usize::from(WRITERS) {
                let text = dice.text(WORDS_EACH);
                let tags = [format!("tag{}", dice.roll() % 50)];
                let kept = client.remember(channel, &text, &tags).await;
                assert!(kept.expect("it is remembered").version.is_some());
            }
            client.stop().await;
        }));
    }
    for writer in writers {
        writer.await.expect("it ends");
    }
}

/// Joins by link on a fresh machine and has everything; seconds after the join.
async fn first_sync(room: &Room, ada: &Client, user: &str) -> ((tempfile::TempDir, Client), f64) {
    let name = |text: &str| text.parse::<Name>().expect("a plain name");
    let signer = Signer::Machine;
    let link = ada
        .invite(room.channel, Role::Member, 1, 600_000, signer)
        .await;
    let link = link.expect("a link");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let home = Home::open(&dir.path().join("home")).expect("a home");
    let welcome = onboard::redeem(&home, &link, name(user), name("box"), "bench").await;
    let client = welcome.expect("the link is good").client;
    let start = Instant::now();
    client.sync_items(room.channel).await.expect("it syncs");
    let took = start.elapsed().as_secs_f64();
    let all = Recall {
        limit: 200,
        ..Recall::default()
    };
    let newest = client.recall(&[room.channel], &all).await;
    assert_eq!(newest.expect("they are there").len(), 200);
    ((dir, client), took)
}

/// Percentiles of seconds, in milliseconds.
fn spread(mut all: Vec<f64>) -> (f64, f64) {
    all.sort_by(f64::total_cmp);
    let at = |part: usize| all.get(all.len() * part / 100).copied().unwrap_or_default() * 1000.0;
    (at(50), at(99))
}

async fn recalls(client: &Client, channel: ChannelId, mode: &str, dir: &Path) {
    let mut dice = Dice(42);
    let queries: Vec<String> = (0..RECALLS)
        .map(|_| {
            let words = 1 + (dice.roll() % 3) as usize;
            dice.text(words)
        })
        .collect();
    let mut took = Vec::new();
    let mut found = 0;
    for query in &queries {
        let what = Recall {
            query: query.clone(),
            limit: 10,
            ..Recall::default()
        };
        let start = Instant::now();
        let memories = client.recall(&[channel], &what).await.expect("it recalls");
        took.push(start.elapsed().as_secs_f64());
        found += memories.len();
    }
    let bare = bare_search(dir, mode, &queries);
    let ((p50, p99), (b50, b99)) = (spread(took), spread(bare));
    say(&format!(
        "{mode}: recall of 10 of {MEMORIES}, {RECALLS} queries of 1 to 3 words, {found} found: p50 {p50:.2} ms, p99 {p99:.2} ms; target p99 20 ms: {}; bare FTS5 in memory: p50 {b50:.2} ms, p99 {b99:.2} ms",
        met(p99, 20.0)
    ));
}

/// The same texts and queries in nothing but SQLite.
fn bare_search(dir: &Path, mode: &str, queries: &[String]) -> Vec<f64> {
    let db = Connection::open(dir.join(format!("bare-{mode}.sqlite"))).expect("a database");
    let made = "CREATE VIRTUAL TABLE bare USING fts5(text, tokenize = 'porter unicode61'); BEGIN";
    db.execute_batch(made).expect("a table");
    for n in 0..WRITERS {
        let mut dice = Dice(0x9E37_79B9 + u64::from(n));
        for _ in 0..MEMORIES / usize::from(WRITERS) {
            let text = dice.text(WORDS_EACH);
            dice.roll();
            db.execute("INSERT INTO bare VALUES (?1)", [text])
                .expect("a row");
        }
    }
    db.execute_batch("COMMIT").expect("a commit");
    let sql = "SELECT text FROM bare WHERE bare MATCH ?1 ORDER BY rank LIMIT 10";
    let mut search = db.prepare(sql).expect("a search");
    let mut one = |query: &String| {
        let words: Vec<String> = query.split(' ').map(|word| format!("\"{word}\"")).collect();
        let start = Instant::now();
        let mut rows = search.query([words.join(" OR ")]).expect("rows");
        while let Ok(Some(row)) = rows.next() {
            std::hint::black_box(row.get::<_, String>(0).ok());
        }
        start.elapsed().as_secs_f64()
    };
    queries.iter().map(&mut one).collect()
}

async fn writes(client: &Client, channel: ChannelId, mode: &str, dir: &Path) {
    let mut took = Vec::new();
    for n in 0..WRITES {
        let (key, value) = (format!("key{}", n % 100), n.to_string());
        let start = Instant::now();
        let put = client.set_state(channel, &key, Some(&value), None).await;
        took.push(start.elapsed().as_secs_f64());
        assert!(put.expect("it is set").version.is_some());
    }
    let mut bare = Vec::new();
    let file = std::fs::File::create(dir.join("bare-write")).expect("a file");
    for _ in 0..WRITES {
        use std::os::unix::fs::FileExt as _;
        let start = Instant::now();
        file.write_all_at(&[7; 3_000], 0).expect("written");
        file.sync_data().expect("on disk");
        bare.push(start.elapsed().as_secs_f64());
    }
    let ((p50, p99), (b50, _)) = (spread(took), spread(bare));
    say(&format!(
        "{mode}: set_state until acknowledged: p50 {p50:.2} ms, p99 {p99:.2} ms; target p50 10 ms: {}; a write and fdatasync of 3 kB: p50 {b50:.2} ms",
        met(p50, 10.0)
    ));
}

/// Whispers that ask for receipts beside whispers that do not.
async fn receipts(room: &Room, sender: &Client, mode: &str) {
    let (reader, mut events) = room.session("home", "reader", 60).await;
    reader.follow_mailbox().await.expect("its mailbox");
    let drain = tokio::spawn(async move { while events.recv().await.is_some() {} });
    let ready = reader
        .ready(Duration::from_secs(5))
        .await
        .expect("it is up");
    let path: SessionPath = ready.path.clone();
    let mut took = [Vec::new(), Vec::new()];
    for n in 0..200 {
        for (asked, took) in took.iter_mut().enumerate() {
            let mut body = Body::text(format!("whisper {n}"));
            body.receipt = asked == 1;
            let start = Instant::now();
            let sent = sender
                .send(Target::Session(path.clone()), &body, 0, false)
                .await;
            took.push(start.elapsed().as_secs_f64());
            assert!(sent.expect("it is sent").stored.is_some());
        }
    }
    let [(without, _), (with, _)] = took.map(spread);
    say(&format!(
        "{mode}: whisper until stored, without and with a receipt asked for: p50 {without:.2} and {with:.2} ms: {}",
        verdict(with / without, 1.1)
    ));
    reader.stop().await;
    drop(drain.await);
}
