//! More rules of the hub: failing commits, invites that make accounts, server admins, rates, audit.

use crate::world::{Peer, Person, SERVER, World, code, hello, name, settings};
use conclave_proto::admin::{Act, AdminBody};
use conclave_proto::body::Head;
use conclave_proto::channel_log::{Ctl, CtlBody, Role, Visibility};
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::op::{AdminAct, IdentFetch, Op, Page as AuditQuery, ShowInvite};
use conclave_proto::frame::reply::Reply;
use conclave_proto::handshake::{Mode, redeem_message};
use conclave_proto::id::{ChannelId, LogId, SessionId};
use conclave_proto::key::Secret;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use conclave_server::audit;
use conclave_server::clock::Clock;
use conclave_server::hub::{self, Bootstrap, Checked, Command, Enter, Outgoing, Registration, Who};
use conclave_server::store::memory::MemoryStore;
use conclave_server::store::sqlite::SqliteStore;
use conclave_server::store::{
    CommitError, Outcome, Page, PageQuery, Read, Snapshot, Store, StoreError, Write,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const ROOM: ChannelId = ChannelId::new([5; 16]);
const LOG: LogId = LogId::Channel(ROOM);

/// A store whose disk can be full.
struct Full {
    inner: MemoryStore,
    full: Arc<AtomicBool>,
}

impl Read for Full {
    fn page(&mut self, query: &PageQuery) -> Result<Page, StoreError> {
        self.inner.page(query)
    }
}

impl Store for Full {
    fn commit(&mut self, at: UnixMs, writes: &[Write]) -> Result<Vec<Outcome>, CommitError> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(CommitError::Full),
            false => self.inner.commit(at, writes),
        }
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.inner.load()
    }

    fn reader(&self) -> Result<Option<Box<dyn Read>>, StoreError> {
        Ok(None)
    }
}

#[test]
fn on_a_full_disk_appends_are_refused_and_reads_go_on() {
    let full = Arc::new(AtomicBool::new(false));
    let store = Full {
        inner: MemoryStore::new(),
        full: Arc::clone(&full),
    };
    let mut world = World::with(settings(), Box::new(store));
    let ana = Person::new("ana", 10);
    let mut at = world.register(&ana, "work");
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    full.store(true, Ordering::Relaxed);
    let env = at.message(ROOM, "kept for later");
    let refused = world.append(&mut at, LOG, env.clone());
    assert_eq!(code(refused), Code::StorageFull);
    assert!(world.subscribe(&at, LOG, 0).is_ok());
    assert_eq!(world.entries(at.conn).len(), 1);
    full.store(false, Ordering::Relaxed);
    assert!(matches!(world.append(&mut at, LOG, env), Ok(Reply::Appended(a)) if a.seq == 2));
    // A change that was not stored did not happen: the hub forgets it by starting again.
    full.store(true, Ordering::Relaxed);
    let freeze = CtlBody::Freeze { on: true };
    let rec = Ctl {
        channel: ROOM,
        after: Some(head),
        body: freeze,
        author: ana.author(&at),
        ts: UnixMs(1),
    };
    let op = Op::CtlAppend(conclave_proto::frame::op::CtlAppend {
        channel: ROOM,
        rec: rec.sign_machine(&ana.machine).bytes().clone(),
        wraps: Vec::new(),
        invite_box: None,
    });
    let op = Checked::new(op).unwrap();
    let (conn, id) = (at.conn, 5);
    world.step(Command::Request { conn, id, op });
    full.store(false, Ordering::Relaxed);
    let mut back = world.join_session(&ana, "work", 1);
    assert!(world.say(&mut back, ROOM, "not frozen").is_ok());
}

/// Ana's room with an invite for one.
fn invited(world: &mut World, ana: &Person, at: &Peer, link: &Secret) -> Head {
    let head = world.create(ana, at, ROOM, Visibility::Private, "room");
    let body = CtlBody::Invite {
        key: link.invite_key(),
        role: Role::Member,
        max_uses: 1,
        expires: world.now.wall.plus(60_000),
    };
    world.ctl(ana, at, ROOM, Some(head), body).unwrap()
}

fn redeem(person: &Person, link: &Secret) -> Mode {
    let invite = link.invite_key();
    Mode::Redeem {
        invite,
        sig: link.sign(redeem_message(&SERVER, &invite, &person.id())),
        genesis: person.genesis.clone(),
    }
}

#[test]
fn a_channel_invite_makes_one_account_and_joins_the_channel() {
    let mut world = World::new();
    let (ana, bob, eve) = (
        Person::new("ana", 10),
        Person::new("bob", 20),
        Person::new("eve", 30),
    );
    let at = world.register(&ana, "work");
    let link = Secret::from_seed(&[90; 32]);
    let head = invited(&mut world, &ana, &at, &link);
    let bob_hello = hello(&bob.machine, "work", false, 1);
    world.try_enter(bob_hello, redeem(&bob, &link)).unwrap();
    let spent = world.try_enter(hello(&eve.machine, "work", false, 1), redeem(&eve, &link));
    assert_eq!(spent.unwrap_err().code, Code::InviteInvalid);
    let bt = world.join_session(&bob, "work", 1);
    let fetch = |user| Op::IdentFetch(IdentFetch { user, from: 0 });
    assert_eq!(
        code(world.request(bt.conn, fetch(ana.id()))),
        Code::NotFound
    );
    let invite = link.invite_key().invite_id();
    let shown = world
        .request(bt.conn, Op::Invite(ShowInvite { invite }))
        .unwrap();
    let Reply::Invite(shown) = shown else {
        panic!("{shown:?}");
    };
    assert_eq!(shown.ctl.len(), 2);
    // Who verifies the control records needs the identities in them.
    assert!(world.request(bt.conn, fetch(ana.id())).is_ok());
    let ticket = Ctl::ticket(&ROOM, &head, &bob.author(&bt), &link);
    let join = CtlBody::Join {
        ticket: Some(ticket),
    };
    world.ctl(&bob, &bt, ROOM, Some(head), join).unwrap();
    assert_eq!(world.channels(&bt), [ROOM]);
}

#[test]
fn minters_who_may_not_make_accounts_do_not() {
    let mut rules = settings();
    rules.account_invites = Who::Admins;
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
    let at = world.register(&ana, "work");
    let link = Secret::from_seed(&[90; 32]);
    invited(&mut world, &ana, &at, &link);
    let refused = world.try_enter(hello(&bob.machine, "work", false, 1), redeem(&bob, &link));
    assert_eq!(refused.unwrap_err().code, Code::RegistrationClosed);
}

pub(crate) fn act(
    world: &mut World,
    admin: &Person,
    peer: &Peer,
    body: AdminBody,
    n: u8,
) -> Result<Reply, Reject> {
    let act = Act {
        server: SERVER,
        request: [n; 16],
        body,
        user: admin.id(),
        ts: world.now.wall,
    };
    let rec = act.sign_machine(&admin.machine).bytes().clone();
    world.request(peer.conn, Op::Admin(AdminAct { rec }))
}

/// A server whose first admin is Ana.
pub(crate) fn administered() -> (World, Person, Peer) {
    let link = Secret::from_seed(&[99; 32]);
    let mut rules = settings();
    let (key, expires) = (link.invite_key(), UnixMs(u64::MAX));
    rules.bootstrap = Some(Bootstrap { key, expires });
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let first = hello(&ana.machine, "work", false, 1);
    world.try_enter(first, redeem(&ana, &link)).unwrap();
    let at = world.join_session(&ana, "work", 1);
    (world, ana, at)
}

#[test]
fn a_removed_user_is_closed_at_once_and_its_name_stays_taken() {
    let (mut world, ana, at) = administered();
    let bob = Person::new("bob", 20);
    let bt = world.register(&bob, "work");
    let remove = |user| AdminBody::UserRemove { user };
    assert_eq!(
        code(act(&mut world, &bob, &bt, remove(ana.id()), 1)),
        Code::Forbidden
    );
    assert_eq!(world.closed(at.conn), None);
    act(&mut world, &ana, &at, remove(bob.id()), 2).unwrap();
    assert_eq!(world.closed(bt.conn), Some(Close::Revoked));
    let back = world.try_enter(hello(&bob.machine, "work", false, 1), Mode::Auth);
    assert_eq!(back.unwrap_err().code, Code::Unauthorized);
    let twin = Person::new("bob", 40);
    let genesis = twin.genesis.clone();
    let taken = world.try_enter(
        hello(&twin.machine, "x", false, 1),
        Mode::Register { genesis },
    );
    assert_eq!(taken.unwrap_err().code, Code::NameTaken);
}

#[test]
fn every_act_is_in_the_audit_log_and_only_admins_read_it() {
    let (mut world, ana, at) = administered();
    let bob = Person::new("bob", 20);
    let bt = world.register(&bob, "work");
    let key = Secret::from_seed(&[91; 32]).invite_key();
    let body = AdminBody::ServerInvite {
        key,
        max_uses: 2,
        expires: world.now.wall.plus(1_000),
    };
    act(&mut world, &ana, &at, body, 1).unwrap();
    let query = || {
        Op::Audit(AuditQuery {
            after: 0,
            limit: 100,
        })
    };
    assert_eq!(code(world.request(bt.conn, query())), Code::Forbidden);
    let Ok(Reply::Audit(page)) = world.request(at.conn, query()) else {
        panic!("no audit page");
    };
    assert_eq!(audit::verify(None, &page.rows), None);
    let actions = page
        .rows
        .iter()
        .map(|row| row.entry.contains("account_create"));
    assert_eq!(actions.filter(|is| *is).count(), 2);
    assert!(page.rows.last().unwrap().entry.contains("server_invite"));
    world.step(Command::Drain);
    let rec = world.store.load().unwrap().checkpoint.unwrap();
    let server = Secret::from_seed(&[1; 32]).server_key();
    let (head, _) = audit::open_checkpoint(&rec, &server).unwrap();
    assert_eq!(head.n, page.head);
    assert_eq!(world.closed(at.conn), Some(Close::Draining));
}

#[test]
fn a_frozen_log_refuses_and_a_deleted_one_is_gone() {
    let (mut world, ana, mut at) = administered();
    world.create(&ana, &at, ROOM, Visibility::Public, "square");
    let freeze = |on| AdminBody::LogFreeze { channel: ROOM, on };
    act(&mut world, &ana, &at, freeze(true), 1).unwrap();
    let env = at.message(ROOM, "x");
    assert_eq!(code(world.append(&mut at, LOG, env.clone())), Code::Frozen);
    act(&mut world, &ana, &at, freeze(false), 2).unwrap();
    world.append(&mut at, LOG, env).unwrap();
    act(
        &mut world,
        &ana,
        &at,
        AdminBody::LogDelete { channel: ROOM },
        3,
    )
    .unwrap();
    assert_eq!(code(world.subscribe(&at, LOG, 0)), Code::NotFound);
    world.restart();
    let back = world.join_session(&ana, "work", 1);
    assert!(world.channels(&back).is_empty());
}

#[test]
fn a_session_that_sends_too_fast_is_told_when_to_go_on() {
    let mut rules = settings();
    (rules.appends_per_s, rules.append_burst) = (10, 2);
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let mut at = world.register(&ana, "work");
    world.create(&ana, &at, ROOM, Visibility::Private, "room");
    world.pass(60_000);
    world.say(&mut at, ROOM, "1").unwrap();
    world.say(&mut at, ROOM, "2").unwrap();
    let env = at.message(ROOM, "3");
    let refused = world.append(&mut at, LOG, env.clone()).unwrap_err();
    assert_eq!(refused.code, Code::RateLimited);
    world.pass(refused.retry_after_ms.unwrap());
    assert!(world.append(&mut at, LOG, env).is_ok());
}

#[test]
fn closed_registration_and_reserved_names_are_refused() {
    let mut rules = settings();
    rules.registration = Registration::Closed;
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let genesis = ana.genesis.clone();
    let closed = world.try_enter(
        hello(&ana.machine, "x", false, 1),
        Mode::Register { genesis },
    );
    assert_eq!(closed.unwrap_err().code, Code::RegistrationClosed);
    let mut world = World::new();
    world.register(&ana, "work");
    let reserved = world.join_session(&ana, "admin", 7);
    assert_eq!(reserved.ready.path.handle, name("admin-1"));
    let pinned = world.try_enter(hello(&ana.machine, "admin", true, 8), Mode::Auth);
    assert_eq!(pinned.unwrap_err().code, Code::NameInvalid);
}

/// A store whose next commit is done without saying so.
struct Silent {
    inner: SqliteStore,
    next: Arc<AtomicBool>,
}

impl Read for Silent {
    fn page(&mut self, query: &PageQuery) -> Result<Page, StoreError> {
        self.inner.page(query)
    }
}

impl Store for Silent {
    fn commit(&mut self, at: UnixMs, writes: &[Write]) -> Result<Vec<Outcome>, CommitError> {
        let outcomes = self.inner.commit(at, writes)?;
        match self.next.swap(false, Ordering::Relaxed) {
            true => Err(CommitError::Unknown(StoreError::Injected)),
            false => Ok(outcomes),
        }
    }

    fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.inner.load()
    }

    fn reader(&self) -> Result<Option<Box<dyn Read>>, StoreError> {
        self.inner.reader()
    }
}

#[tokio::test]
async fn an_unknown_commit_closes_everybody_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let next = Arc::new(AtomicBool::new(true));
    let open = Box::new(move || {
        let (inner, next) = (SqliteStore::open(&file)?, Arc::clone(&next));
        Ok(Box::new(Silent { inner, next }) as Box<dyn Store>)
    });
    let tasks = tokio_util::task::TaskTracker::new();
    let hub = hub::start(settings(), open, Clock::start(), &tasks)
        .await
        .unwrap();
    let ana = Person::new("ana", 10);
    let genesis = ana.genesis.clone();
    let enter = |mode| {
        Box::new(Enter {
            hello: hello(&ana.machine, "work", false, 1),
            mode,
            session: SessionId::new([4; 16]),
        })
    };
    let mut line = hub.connect(Encoding::Cbor).await.unwrap();
    let (conn, entry) = (line.conn, enter(Mode::Register { genesis }));
    hub.send(Command::Enter { conn, entry }).await.unwrap();
    let last = line.outbox.recv().await;
    assert!(
        matches!(last, Some(Outgoing::Close(Close::Restarted, _))),
        "{last:?}"
    );
    let mut line = hub.connect(Encoding::Cbor).await.unwrap();
    let (conn, entry) = (line.conn, enter(Mode::Auth));
    hub.send(Command::Enter { conn, entry }).await.unwrap();
    let entered = line.outbox.recv().await;
    assert!(
        matches!(entered, Some(Outgoing::Entered(Ok(_)))),
        "{entered:?}"
    );
    assert_eq!(hub.stats().await.unwrap().restarts, 1);
    drop(hub);
    tasks.close();
    tasks.wait().await;
}
