//! Clients that lie, flood and race: a typed refusal each, and nothing changed.

use crate::rules::{act, administered};
use crate::world::{Peer, Person, SERVER, World, code, hello, name, settings};
use conclave_proto::admin::{Act, AdminBody};
use conclave_proto::body::Head;
use conclave_proto::channel_log::{Ctl, CtlBody, RemoveKind, Role, Visibility};
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::op::{
    AdminAct, Append, CtlAppend, CtlFetch, EnrolOpen, IdentFetch, KickSession, Nothing, Op, Page,
    Read, Subscribe,
};
use conclave_proto::handshake::{Mode, enrol_open_message, enrolment_message, redeem_message};
use conclave_proto::id::{ChannelId, EnvelopeNonce, LogId, MailboxId};
use conclave_proto::key::{EncryptionKey, Secret, label};
use conclave_proto::limit::{CIPHERTEXT_BYTES_MAX, RECORD_BYTES_MAX};
use conclave_proto::record::Record;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use conclave_server::hub::{Checked, Command};
use conclave_server::store::memory::MemoryStore;

const ROOM: ChannelId = ChannelId::new([5; 16]);
const NOWHERE: ChannelId = ChannelId::new([6; 16]);
const LOG: LogId = LogId::Channel(ROOM);

struct Scene {
    world: World,
    ana: (Person, Peer),
    bob: (Person, Peer),
    /// Shares nothing with anybody.
    eve: (Person, Peer),
    head: Head,
}

/// Ana owns a private room with Bob in it; Eve is outside.
fn scene() -> Scene {
    let mut world = World::new();
    let [ana, bob, eve] = [("ana", 10), ("bob", 20), ("eve", 30)].map(|(n, s)| Person::new(n, s));
    let [at, bt, et] = [&ana, &bob, &eve].map(|person| world.register(person, "work"));
    let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let head = world.add((&ana, &at), ROOM, head, &bob);
    Scene {
        world,
        ana: (ana, at),
        bob: (bob, bt),
        eve: (eve, et),
        head,
    }
}

/// The same envelope with another header, signed by `secret`.
fn with(env: &Envelope, secret: &Secret, change: impl FnOnce(&mut Header)) -> Envelope {
    let mut header = Header::parse(&env.header).unwrap();
    change(&mut header);
    Envelope::clear(&header, env.ct.clone(), secret)
}

fn ctl_op(rec: &Record) -> Op {
    Op::CtlAppend(CtlAppend {
        channel: ROOM,
        rec: rec.bytes().clone(),
        wraps: Vec::new(),
        invite_box: None,
    })
}

fn ctl(scene: &Scene, (person, peer): (&Person, &Peer), body: CtlBody) -> Ctl {
    let author = person.author(peer);
    Ctl {
        channel: ROOM,
        after: Some(scene.head),
        body,
        author,
        ts: UnixMs(1),
    }
}

#[test]
fn a_header_that_names_something_else_than_the_session_and_log_is_refused() {
    let mut s = scene();
    let (machine, other) = (s.bob.0.machine.clone(), s.ana.0.machine.clone());
    let ana_path = s.ana.1.ready.path.clone();
    let env = s.bob.1.message(ROOM, "hello");
    let conn = s.bob.1.conn;
    let cases = [
        (
            with(&env, &machine, |h| h.sender = ana_path.clone()),
            Code::Unauthorized,
        ),
        (
            with(&env, &machine, |h| h.sender.handle = name("home")),
            Code::Unauthorized,
        ),
        (
            with(&env, &other, |h| h.sender_key = other.machine_key()),
            Code::Unauthorized,
        ),
        (
            with(&env, &machine, |h| h.channel = NOWHERE),
            Code::NotFound,
        ),
        (with(&env, &machine, |h| h.hop = 65), Code::HopLimit),
        (with(&env, &machine, |h| h.flags = 1), Code::Malformed),
        (with(&env, &machine, |h| h.ctr = 0), Code::Malformed),
        (with(&env, &machine, |h| h.epoch = 1), Code::Malformed),
        (with(&env, &machine, |h| h.ctr = u64::MAX), Code::CounterGap),
    ];
    for (env, expected) in cases {
        let refused = s.world.request(conn, Op::Append(Append { log: LOG, env }));
        assert_eq!(code(refused), expected);
    }
    // The right header, for another log than it names.
    let log = s.ana.1.ready.mailbox.unwrap();
    let refused = s.world.request(
        conn,
        Op::Append(Append {
            log,
            env: env.clone(),
        }),
    );
    assert_eq!(code(refused), Code::Malformed);
    assert!(
        s.world.append(&mut s.bob.1, LOG, env).is_ok(),
        "the honest one still goes in"
    );
}

#[test]
fn a_whisper_or_receipt_that_is_not_sealed_is_refused_and_so_is_one_with_an_epoch() {
    let mut s = scene();
    let (machine, conn) = (s.bob.0.machine.clone(), s.bob.1.conn);
    let (to, log) = (s.ana.1.ready.path.clone(), s.ana.1.ready.mailbox.unwrap());
    let server = ChannelId::from_slice(&SERVER.as_bytes()[..ChannelId::LEN]).unwrap();
    for route in [Route::Whisper(to.clone()), Route::Receipt(to)] {
        let sealed = s
            .bob
            .1
            .envelope(log, server, route, "sealed, as far as one can see");
        for (suite, epoch, expected) in [
            (Suite::Clear, 0, Code::Mode),
            (Suite::One, 1, Code::Malformed),
        ] {
            let other = with(&sealed, &machine, |h| (h.suite, h.epoch) = (suite, epoch));
            let op = Op::Append(Append { log, env: other });
            assert_eq!(code(s.world.request(conn, op)), expected);
        }
        let op = Op::Append(Append { log, env: sealed });
        assert!(s.world.request(conn, op).is_ok());
    }
}

#[test]
fn what_is_too_large_is_refused_by_its_size() {
    let mut s = scene();
    let env = s.bob.1.message(ROOM, "hello");
    let conn = s.bob.1.conn;
    let huge = vec![0; CIPHERTEXT_BYTES_MAX + 1];
    let nonce = EnvelopeNonce::new([0; 24]);
    let body = Envelope::signed(env.header.clone(), nonce, huge.into(), &s.bob.0.machine);
    let refused = s.world.request(
        conn,
        Op::Append(Append {
            log: LOG,
            env: body,
        }),
    );
    assert_eq!(code(refused), Code::Malformed);
    let long = [env.header.as_slice(), &[0; 600]].concat();
    let header = Envelope::signed(long.into(), nonce, env.ct, &s.bob.0.machine);
    let refused = s.world.request(
        conn,
        Op::Append(Append {
            log: LOG,
            env: header,
        }),
    );
    assert_eq!(code(refused), Code::Malformed);
    for rec in [
        vec![0xff; RECORD_BYTES_MAX + 1],
        Vec::new(),
        vec![0, 0, 0, 255],
    ] {
        let rec = rec.into();
        let op = CtlAppend {
            channel: ROOM,
            rec,
            wraps: Vec::new(),
            invite_box: None,
        };
        assert_eq!(
            code(s.world.request(conn, Op::CtlAppend(op.clone()))),
            Code::Malformed
        );
        let op = Op::Admin(AdminAct { rec: op.rec });
        assert_eq!(code(s.world.request(conn, op)), Code::Malformed);
    }
}

#[test]
fn a_signature_for_one_thing_is_worthless_for_another() {
    let mut s = scene();
    let freeze = CtlBody::Freeze { on: true };
    let honest = ctl(&s, (&s.ana.0, &s.ana.1), freeze).sign_machine(&s.ana.0.machine);
    let conn = s.ana.1.conn;
    for wrong in [
        label::ENVELOPE,
        label::IDENTITY,
        label::HANDSHAKE_CLIENT,
        label::REDEEM,
    ] {
        let rec = Record::sign(wrong, honest.body(), &s.ana.0.machine);
        assert_eq!(
            code(s.world.request(conn, ctl_op(&rec))),
            Code::Unauthorized
        );
    }
    let by_bob = Record::sign(label::CONTROL, honest.body(), &s.bob.0.machine);
    assert_eq!(
        code(s.world.request(conn, ctl_op(&by_bob))),
        Code::Unauthorized
    );
    // Ana's own record, in Bob's hands.
    assert_eq!(
        code(s.world.request(s.bob.1.conn, ctl_op(&honest))),
        Code::Unauthorized
    );
    assert!(s.world.request(conn, ctl_op(&honest)).is_ok());
}

#[test]
fn an_append_that_races_with_its_senders_removal_is_refused() {
    let mut s = scene();
    let body = CtlBody::Remove {
        user: s.bob.0.id(),
        kind: RemoveKind::Kick,
    };
    let rec = ctl(&s, (&s.ana.0, &s.ana.1), body).sign_machine(&s.ana.0.machine);
    let env = s.bob.1.message(ROOM, "one more");
    let request = |conn, op| {
        let op = Checked::new(op).unwrap();
        Command::Request { conn, id: 5, op }
    };
    let (at, bt) = (s.ana.1.conn, s.bob.1.conn);
    let append = Op::Append(Append { log: LOG, env });
    s.world
        .batch(vec![request(at, ctl_op(&rec)), request(bt, append)]);
    assert!(s.world.answer(at, 5).unwrap().is_ok());
    assert_eq!(code(s.world.answer(bt, 5).unwrap()), Code::NotFound);
}

#[test]
fn a_member_without_the_role_changes_nothing() {
    let mut s = scene();
    let (bob, eve) = (s.bob.0.id(), s.eve.0.id());
    let bodies = [
        CtlBody::Freeze { on: true },
        CtlBody::Close {},
        CtlBody::Remove {
            user: s.ana.0.id(),
            kind: RemoveKind::Ban,
        },
        CtlBody::Role {
            user: bob,
            role: Role::Admin,
        },
        CtlBody::Add {
            user: eve,
            ident: s.eve.0.log.head(),
            role: Role::Member,
        },
        CtlBody::Invite {
            key: Secret::from_seed(&[66; 32]).invite_key(),
            role: Role::Member,
            max_uses: 9,
            expires: s.world.now.wall.plus(60_000),
        },
    ];
    for body in bodies {
        let rec = ctl(&s, (&s.bob.0, &s.bob.1), body).sign_machine(&s.bob.0.machine);
        assert_eq!(
            code(s.world.request(s.bob.1.conn, ctl_op(&rec))),
            Code::Forbidden
        );
    }
    let kick = KickSession {
        channel: ROOM,
        path: s.ana.1.ready.path.clone(),
    };
    let kicked = s.world.request(s.bob.1.conn, Op::KickSession(kick));
    assert_eq!(code(kicked), Code::Forbidden);

    // A reader may not even speak.
    let body = CtlBody::Role {
        user: bob,
        role: Role::Reader,
    };
    s.world
        .ctl(&s.ana.0, &s.ana.1, ROOM, Some(s.head), body)
        .unwrap();
    let said = s.world.say(&mut s.bob.1, ROOM, "hello");
    assert_eq!(code(said), Code::Forbidden);
}

#[test]
fn strangers_get_the_same_answer_whether_something_exists_or_not() {
    let mut s = scene();
    let eve = s.eve.1.conn;
    let (mine, nobodys) = (s.ana.1.ready.mailbox.unwrap(), MailboxId::new([9; 16]));
    let ghost = Person::new("ghost", 70).id();
    let pairs: Vec<(Op, Op)> = [
        (LOG, LogId::Channel(NOWHERE)),
        (mine, LogId::Mailbox(nobodys)),
    ]
    .into_iter()
    .flat_map(|(there, not)| {
        let read = |log| {
            Op::Read(Read {
                log,
                after: 0,
                limit: 9,
            })
        };
        let follow = |log| Op::Subscribe(Subscribe { log, after: 0 });
        [(read(there), read(not)), (follow(there), follow(not))]
    })
    .chain([
        (
            Op::CtlFetch(CtlFetch {
                channel: ROOM,
                after: 0,
            }),
            Op::CtlFetch(CtlFetch {
                channel: NOWHERE,
                after: 0,
            }),
        ),
        (
            Op::IdentFetch(IdentFetch {
                user: s.ana.0.id(),
                from: 0,
            }),
            Op::IdentFetch(IdentFetch {
                user: ghost,
                from: 0,
            }),
        ),
    ])
    .collect();
    for (there, not) in pairs {
        let seen = s.world.request(eve, there.clone()).unwrap_err();
        assert_eq!(seen, s.world.request(eve, not).unwrap_err(), "{there:?}");
        assert_eq!(seen.code, Code::NotFound);
    }
    // A join by a guessed id, without and with a made-up invite.
    let join = |channel: ChannelId, s: &Scene| {
        let author = s.eve.0.author(&s.eve.1);
        let body = CtlBody::Join { ticket: None };
        let ctl = Ctl {
            channel,
            after: Some(s.head),
            body,
            author,
            ts: UnixMs(1),
        };
        let rec = ctl.sign_machine(&s.eve.0.machine).bytes().clone();
        Op::CtlAppend(CtlAppend {
            channel,
            rec,
            wraps: Vec::new(),
            invite_box: None,
        })
    };
    let (there, not) = (join(ROOM, &s), join(NOWHERE, &s));
    let seen = s.world.request(eve, there).unwrap_err();
    assert_eq!(seen, s.world.request(eve, not).unwrap_err());
}

#[test]
fn who_is_no_server_admin_does_nothing_of_theirs() {
    let (mut world, ana, at) = administered();
    let bob = Person::new("bob", 20);
    let bt = world.register(&bob, "work");
    let bodies = [
        AdminBody::UserRemove { user: ana.id() },
        AdminBody::LogDelete { channel: ROOM },
        AdminBody::LogFreeze {
            channel: ROOM,
            on: true,
        },
        AdminBody::AdminRemove { user: ana.id() },
    ];
    for body in bodies {
        assert_eq!(code(act(&mut world, &bob, &bt, body, 1)), Code::Forbidden);
    }
    for op in [
        Op::Users(Nothing {}),
        Op::Audit(Page {
            after: 0,
            limit: 10,
        }),
    ] {
        assert_eq!(code(world.request(bt.conn, op)), Code::Forbidden);
    }
    // An admin's own act, in another session's hands, and one for another server.
    let remove = |server| Act {
        server,
        request: [9; 16],
        body: AdminBody::UserRemove { user: bob.id() },
        user: ana.id(),
        ts: world.now.wall,
    };
    let rec = remove(SERVER).sign_machine(&ana.machine).bytes().clone();
    let elsewhere = remove(conclave_proto::id::ServerId::new([8; 32]));
    let elsewhere = elsewhere.sign_machine(&ana.machine).bytes().clone();
    let stolen = world.request(bt.conn, Op::Admin(AdminAct { rec }));
    assert_eq!(code(stolen), Code::Forbidden);
    assert!(
        world
            .request(at.conn, Op::Admin(AdminAct { rec: elsewhere }))
            .is_err()
    );
}

#[test]
fn fifty_who_race_for_a_link_for_one_are_one() {
    let mut s = scene();
    let link = Secret::from_seed(&[90; 32]);
    let body = CtlBody::Invite {
        key: link.invite_key(),
        role: Role::Member,
        max_uses: 1,
        expires: s.world.now.wall.plus(60_000),
    };
    s.world
        .ctl(&s.ana.0, &s.ana.1, ROOM, Some(s.head), body)
        .unwrap();
    let people = (0..50)
        .map(|n| Person::new(&format!("racer{n}"), 100 + n))
        .collect::<Vec<_>>();
    let won = race(&mut s.world, &people, |person| {
        let invite = link.invite_key();
        let sig = link.sign(redeem_message(&SERVER, &invite, &person.id()));
        Mode::Redeem {
            invite,
            sig,
            genesis: person.genesis.clone(),
        }
    });
    assert_eq!(won.iter().filter(|won| won.is_ok()).count(), 1);
    let refused = won.into_iter().filter_map(Result::err);
    assert!(
        refused
            .into_iter()
            .all(|reject| reject.code == Code::InviteInvalid)
    );
}

#[test]
fn fifty_who_race_for_a_name_are_one() {
    let mut world = World::new();
    let people = (0..50)
        .map(|n| Person::new("same", 100 + n))
        .collect::<Vec<_>>();
    let won = race(&mut world, &people, |person| {
        let genesis = person.genesis.clone();
        Mode::Register { genesis }
    });
    assert_eq!(won.iter().filter(|won| won.is_ok()).count(), 1);
    let refused = won.into_iter().filter_map(Result::err);
    assert!(
        refused
            .into_iter()
            .all(|reject| reject.code == Code::NameTaken)
    );
}

/// Everybody enters in one batch.
fn race(
    world: &mut World,
    people: &[Person],
    mode: impl Fn(&Person) -> Mode,
) -> Vec<Result<conclave_proto::frame::Ready, Reject>> {
    let conns: Vec<_> = people.iter().map(|_| world.connect()).collect();
    let commands = people
        .iter()
        .zip(&conns)
        .map(|(person, conn)| Command::Enter {
            conn: *conn,
            entry: Box::new(conclave_server::hub::Enter {
                hello: hello(&person.machine, "work", false, 1),
                mode: mode(person),
                session: conclave_proto::id::SessionId::new([0; 16]),
            }),
        });
    world.batch(commands.collect());
    conns
        .iter()
        .map(|conn| world.entered(*conn).expect("an answer"))
        .collect()
}

#[test]
fn a_machine_is_not_enrolled_by_a_wrong_link_or_for_somebody_else() {
    let mut s = scene();
    let link = Secret::from_seed(&[91; 32]);
    let open = |user, s: &Scene| EnrolOpen {
        key: link.invite_key(),
        expires: s.world.now.wall.plus(60_000),
        sig: link.sign(enrol_open_message(&user)),
    };
    let (for_ana, for_eve) = (open(s.ana.0.id(), &s), open(s.eve.0.id(), &s));
    // Opened for Ana, Eve cannot take it over, nor open one in Ana's name.
    s.world
        .request(s.ana.1.conn, Op::EnrolOpen(for_ana))
        .unwrap();
    assert!(
        s.world
            .request(s.eve.1.conn, Op::EnrolOpen(for_eve))
            .is_err()
    );
    assert_eq!(
        code(s.world.request(s.eve.1.conn, Op::EnrolOpen(for_ana))),
        Code::Unauthorized
    );

    let (machine, ek) = (Secret::from_seed(&[92; 32]), EncryptionKey::new([7; 32]));
    let (user, title, key) = (s.ana.0.id(), name("tablet"), machine.machine_key());
    let message = || enrolment_message(&user, &title, &key, &ek);
    let enrol = |proof: &Secret, consent: &Secret| Mode::Enrol {
        enrolment: link.invite_key().invite_id(),
        name: title.clone(),
        encryption_key: ek,
        consent: consent.sign(message()),
        proof: proof.sign(message()),
    };
    for mode in [
        enrol(&s.eve.0.machine, &machine),
        enrol(&link, &s.eve.0.machine),
    ] {
        let refused = s.world.try_enter(hello(&machine, "work", false, 1), mode);
        assert_eq!(refused.unwrap_err().code, Code::InviteInvalid);
    }
}

#[test]
fn no_user_makes_mailboxes_without_end() {
    let mut world = World::new();
    let eve = Person::new("eve", 30);
    world.register(&eve, "work");
    let mut made = 1;
    let refused = loop {
        let handle = format!("h{made}");
        match world.try_enter(hello(&eve.machine, &handle, false, 2), Mode::Auth) {
            Ok((conn, _)) => world.step(Command::Disconnected { conn }),
            Err(reject) => break reject,
        }
        made += 1;
        assert!(made < 5_000, "no bound");
        world.pass(conclave_proto::limit::LEASE_MS);
    };
    assert_eq!(refused.code, Code::LimitReached);
    // The names it has are still its own.
    assert!(
        world
            .try_enter(hello(&eve.machine, "h1", false, 2), Mode::Auth)
            .is_ok()
    );
}

#[test]
fn control_records_count_against_the_sessions_rate() {
    let mut rules = settings();
    rules.appends_per_s = 10;
    rules.append_burst = 5;
    let mut world = World::with(rules, Box::new(MemoryStore::new()));
    let ana = Person::new("ana", 10);
    let at = world.register(&ana, "work");
    let mut head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
    let refused = (0..20).find_map(|n| {
        let body = CtlBody::Freeze { on: n % 2 == 0 };
        match world.ctl(&ana, &at, ROOM, Some(head), body) {
            Ok(next) => {
                head = next;
                None
            }
            Err(reject) => Some(reject),
        }
    });
    let refused = refused.expect("a bound");
    assert_eq!(refused.code, Code::RateLimited);
    assert!(refused.retry_after_ms.is_some_and(|ms| ms > 0));
    world.pass(refused.retry_after_ms.unwrap());
    let unknown = CtlBody::Freeze { on: true };
    let again = world.ctl(&ana, &at, ROOM, Some(head), unknown);
    assert_ne!(again.err().map(|r| r.code), Some(Code::RateLimited));
}
