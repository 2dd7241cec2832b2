//! The defects of the older programs (threat model, S1 to S11) that belong to the hub and its store.

use crate::world::{Person, World, code, settings};
use conclave_proto::channel_log::{CtlBody, Role, Visibility};
use conclave_proto::frame::op::{CtlAppend, Op, Read};
use conclave_proto::frame::reply::Reply;
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::invite::LinkSecret;
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;
use conclave_server::store::memory::MemoryStore;
use conclave_server::store::sqlite::SqliteStore;
use conclave_server::store::{
    CommitError, Outcome, Page, PageQuery, Read as Reads, Snapshot, Store, StoreError, Write,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const ROOM: ChannelId = ChannelId::new([5; 16]);
const LOG: LogId = LogId::Channel(ROOM);

#[test]
fn s7_the_servers_database_holds_nothing_that_lets_anybody_join() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&dir.path().join("store.db")).unwrap();
    let mut world = World::with(settings(), Box::new(store));
    let ana = Person::new("ana", 10);
    let at = world.register(&ana, "work");
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let secret = LinkSecret::new(*b"the secret of the link, 32 bytes");
    let key = secret.signing_key();
    let body = CtlBody::Invite {
        key: key.invite_key(),
        role: Role::Member,
        max_uses: 1,
        expires: world.now.wall.plus(60_000),
    };
    let ctl = conclave_proto::channel_log::Ctl {
        channel: ROOM,
        after: Some(head),
        body,
        author: ana.author(&at),
        ts: UnixMs(1),
    };
    let rec = ctl.sign_machine(&ana.machine).bytes().clone();
    let op = CtlAppend {
        channel: ROOM,
        rec,
        wraps: Vec::new(),
        invite_box: None,
    };
    world.request(at.conn, Op::CtlAppend(op)).unwrap();

    let files = std::fs::read_dir(dir.path()).unwrap();
    let dump: Vec<u8> = files
        .flat_map(|f| std::fs::read(f.unwrap().path()).unwrap())
        .collect();
    let has = |bytes: &[u8]| dump.windows(bytes.len()).any(|window| window == bytes);
    assert!(
        has(key.invite_key().as_bytes()),
        "the public key is there, so the dump is whole"
    );
    let texts = |bytes: &[u8]| conclave_proto::id::Blob::from(bytes.to_vec());
    for secret in [secret.as_bytes().as_slice(), key.seed().as_slice()] {
        assert!(!has(secret));
        let text = serde_json::to_string(&texts(secret)).unwrap();
        assert!(!has(text.trim_matches('"').as_bytes()), "nor as text");
        assert!(!has(&secret[..16]) && !has(&secret[16..]), "nor half of it");
    }
}

#[test]
fn the_database_is_its_owners_alone_in_a_directory_of_others() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = SqliteStore::open(&dir.path().join("store.db")).unwrap();
    let mut world = World::with(settings(), Box::new(store));
    world.register(&Person::new("ana", 10), "work");
    let files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(files.len() > 1, "the log beside it is there");
    for file in files {
        let meta = file.unwrap().metadata().unwrap();
        assert_eq!(meta.mode() & 0o077, 0);
    }
}

/// A store whose commits fail as told: 0 not at all, 1 full, 2 failed, 3 unknown.
struct Failing {
    inner: MemoryStore,
    how: Arc<AtomicU8>,
}

impl Reads for Failing {
    fn page(&mut self, query: &PageQuery) -> Result<Page, StoreError> {
        self.inner.page(query)
    }
}

impl Store for Failing {
    fn commit(&mut self, at: UnixMs, writes: &[Write]) -> Result<Vec<Outcome>, CommitError> {
        match self.how.load(Ordering::Relaxed) {
            0 => self.inner.commit(at, writes),
            1 => Err(CommitError::Full),
            2 => Err(CommitError::Failed(StoreError::Corrupt("told so"))),
            _ => Err(CommitError::Unknown(StoreError::Corrupt("told so"))),
        }
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.inner.load()
    }

    fn reader(&self) -> Result<Option<Box<dyn Reads>>, StoreError> {
        Ok(None)
    }
}

#[test]
fn s8_an_entry_is_acknowledged_only_when_it_is_durable() {
    for (n, expected) in [
        (1, Code::StorageFull),
        (2, Code::Internal),
        (3, Code::Internal),
    ] {
        let how = Arc::new(AtomicU8::new(0));
        let store = Failing {
            inner: MemoryStore::new(),
            how: Arc::clone(&how),
        };
        let mut world = World::with(settings(), Box::new(store));
        let ana = Person::new("ana", 10);
        let mut at = world.register(&ana, "work");
        world.create(&ana, &at, ROOM, Visibility::Private, "room");
        world.subscribe(&at, LOG, 1).unwrap();
        how.store(n, Ordering::Relaxed);
        let env = at.message(ROOM, "not yet");
        assert_eq!(code(world.append(&mut at, LOG, env.clone())), expected);
        assert!(
            world.entries(at.conn).is_empty(),
            "nobody hears of it either"
        );
        how.store(0, Ordering::Relaxed);
        world.restart();
        let mut back = world.join_session(&ana, "work", 1);
        let stored = world.append(&mut back, LOG, env).unwrap();
        assert!(
            matches!(stored, Reply::Appended(a) if a.seq == 2 && !a.dup),
            "{stored:?}"
        );
    }
}

#[test]
fn s11_entries_of_one_millisecond_are_each_read_once() {
    let mut world = World::new();
    let ana = Person::new("ana", 10);
    let mut at = world.register(&ana, "work");
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    for n in 0..7 {
        world.say(&mut at, ROOM, &n.to_string()).unwrap();
    }
    let (mut after, mut seen, mut times) = (1, Vec::new(), Vec::new());
    loop {
        let op = Op::Read(Read {
            log: LOG,
            after,
            limit: 2,
        });
        let Ok(Reply::Page(page)) = world.request(at.conn, op) else {
            panic!("no page")
        };
        seen.extend(page.entries.iter().map(|e| e.seq));
        times.extend(page.entries.iter().map(|e| e.at));
        after = page.next;
        if page.next >= page.head {
            break;
        }
    }
    assert_eq!(seen, (2..9).collect::<Vec<u64>>());
    times.dedup();
    assert_eq!(times.len(), 1, "all of one millisecond");
    // The clock goes back: the order does not.
    world.now.wall = UnixMs(1);
    let back = world.say(&mut at, ROOM, "later").unwrap();
    assert!(matches!(back, Reply::Appended(a) if a.seq == 9));
}
