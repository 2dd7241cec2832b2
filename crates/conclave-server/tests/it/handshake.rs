//! The handshake and a session's life against the real server, over real sockets.

use crate::rig::{Person, Raw, open_config, serve, soon, texts};
use conclave_proto::body::Head;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::op::{FindName, IdentAppend, Nothing};
use conclave_proto::frame::{ClientFrame, Event, Op, Reply};
use conclave_proto::handshake::{EXPORTER_LABEL, Mode, Transcript};
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::identity_log::build;
use conclave_proto::key::Secret;
use conclave_proto::record::Record;
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;
use conclave_server::Config;
use futures_util::SinkExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const OPS: ChannelId = ChannelId::new([7; 16]);

#[tokio::test]
async fn two_clients_exchange_an_entry_in_either_encoding() {
    let site = serve(open_config()).await;
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
    let mut a = site.register(&alice, Encoding::Cbor).await;
    let mut b = site.register(&bob, Encoding::Json).await;
    let rec = a.create(&alice, OPS, "ops").await;
    let hash = Record::parse(&rec).unwrap().hash();
    b.join(&bob, OPS, Head { n: 0, hash }).await;
    b.subscribe(OPS, 0).await;
    let said = a.say(&alice, OPS, 1, "hello from alice").await;
    assert!(!said.dup);
    let heard = b.event(|e| texts(e).into_iter().next()).await;
    assert_eq!(heard, "hello from alice");
    // The same again: the first place, and nothing is delivered twice.
    let again = a.say(&alice, OPS, 1, "hello from alice").await;
    assert_eq!((again.seq, again.dup), (said.seq, true));
    a.say(&alice, OPS, 2, "second").await;
    let heard = b.event(|e| texts(e).into_iter().next()).await;
    assert_eq!(heard, "second");
}

#[tokio::test]
async fn s1_a_relayed_challenge_names_another_origin_and_its_answer_is_worthless() {
    let honest = serve(open_config()).await;
    let victim = Person::new("victim", 1);
    honest.register(&victim, Encoding::Cbor).await;
    // The attacker forwards the victim's hello to the honest server, and its challenge back.
    let mut relay = honest.connect(Encoding::Cbor).await;
    let hello = victim.hello();
    let challenge = relay.challenge(&hello).await;
    // What saves the victim first: the origin is not the one it dialled.
    assert_eq!(challenge.origin, format!("http://{}", honest.addr));
    assert_ne!(challenge.origin, "http://attacker.example:80");
    // The attacker cannot rename it: the server's signature covers the origin.
    let mut renamed = challenge.clone();
    renamed.origin = "http://attacker.example:80".into();
    let seen = Transcript::new(&hello, &renamed, &[]);
    assert!(seen.verify_server(&challenge.key, &challenge.sig).is_err());
    // And if the victim signed what the attacker showed it, the honest server refuses that.
    let auth = seen.sign_client(&Mode::Auth, &victim.machine);
    relay.send(&ClientFrame::Auth(auth)).await;
    let (reason, code) = relay.goodbye().await;
    assert_eq!(reason.unwrap().code, Code::Unauthorized);
    assert_eq!(code, Some(4001));
}

#[tokio::test]
async fn s1_an_answer_to_one_challenge_does_not_fit_another() {
    let site = serve(open_config()).await;
    let victim = Person::new("victim", 1);
    site.register(&victim, Encoding::Cbor).await;
    let hello = victim.hello();
    let mut first = site.connect(Encoding::Cbor).await;
    let mut second = site.connect(Encoding::Cbor).await;
    let challenge = first.challenge(&hello).await;
    let other = second.challenge(&hello).await;
    assert_ne!(challenge.nonce, other.nonce);
    let auth = Transcript::new(&hello, &challenge, &[]).sign_client(&Mode::Auth, &victim.machine);
    second.send(&ClientFrame::Auth(auth)).await;
    let (reason, _) = second.goodbye().await;
    assert_eq!(reason.unwrap().code, Code::Unauthorized);
}

#[tokio::test]
async fn s2_nobody_registers_anothers_key_under_a_name_of_his_own() {
    let site = serve(open_config()).await;
    let (victim, attacker) = (Person::new("victim", 1), Person::new("mallory", 9));
    // The victim signs its own genesis; the attacker swaps in one of his that lists the same key.
    let mut relay = site.connect(Encoding::Cbor).await;
    let hello = victim.hello();
    let challenge = relay.challenge(&hello).await;
    let transcript = Transcript::new(&hello, &challenge, &[]);
    let genesis = victim.genesis(site.server_id);
    let mut auth = transcript.sign_client(&Mode::Register { genesis }, &victim.machine);
    auth.body = attacker.genesis(site.server_id);
    relay.send(&ClientFrame::Auth(auth)).await;
    let (reason, _) = relay.goodbye().await;
    assert_eq!(reason.unwrap().code, Code::Unauthorized);
    // Nor does a genesis register a machine key that did not sign the handshake.
    let mut raw = site.connect(Encoding::Cbor).await;
    let stolen = Mode::Register {
        genesis: victim.genesis(site.server_id),
    };
    let reject = raw.enter(&attacker, &stolen, &[]).await.unwrap_err();
    assert_eq!(reject.code, Code::Unauthorized);
    site.register(&victim, Encoding::Cbor).await;
}

#[tokio::test]
async fn an_unknown_key_and_a_closed_registration_say_what_they_are() {
    let mut config = open_config();
    config.registration = conclave_server::config::Registration::Invite;
    let site = serve(config).await;
    let alice = Person::new("alice", 1);
    let mut raw = site.connect(Encoding::Cbor).await;
    let reject = raw.enter(&alice, &Mode::Auth, &[]).await.unwrap_err();
    assert_eq!(reject.code, Code::UnknownKey);
    let mut raw = site.connect(Encoding::Cbor).await;
    let genesis = alice.genesis(site.server_id);
    let reject = raw
        .enter(&alice, &Mode::Register { genesis }, &[])
        .await
        .unwrap_err();
    assert_eq!(reject.code, Code::RegistrationClosed);
}

#[tokio::test]
async fn the_bootstrap_link_makes_the_first_admin_once() {
    let server = Config::ephemeral().build().await.unwrap();
    let link = server.bootstrap_link().unwrap();
    assert_eq!(link.fingerprint, server.fingerprint());
    assert_eq!(link.to_string().parse(), Ok(link.clone()));
    let (addr, id) = (server.local_addr(), server.server_id());
    let running = server.spawn();
    let redeem = async |person: &Person| {
        let key = link.secret.signing_key();
        let genesis = person.genesis(id);
        let log = person.log(id);
        let user = log.user_id();
        let invite = key.invite_key();
        let mode = Mode::Redeem {
            invite,
            sig: key.sign(conclave_proto::handshake::redeem_message(
                &id, &invite, user,
            )),
            genesis,
        };
        let stream = TcpStream::connect(addr).await.unwrap();
        let mut raw = Raw::upgrade(Box::new(stream), &addr.to_string(), Encoding::Cbor).await;
        raw.enter(person, &mode, &[]).await.map(|()| raw)
    };
    let raw = redeem(&Person::new("alice", 1)).await.unwrap();
    assert!(raw.ready.unwrap().admin);
    let second = redeem(&Person::new("mallory", 9)).await;
    assert_eq!(second.err().unwrap().code, Code::InviteInvalid);
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_handshake_is_bound_to_the_tls_session() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        ephemeral: false,
        data_dir: Some(dir.path().to_owned()),
        self_signed: true,
        ..open_config()
    };
    let site = serve(config).await;
    let dial = async || {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(dir.path().join("tls.crt")).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let stream = TcpStream::connect(site.addr).await.unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let tls = soon(connector.connect(name, stream)).await.unwrap();
        let session = tls.get_ref().1;
        let data = session
            .export_keying_material([0; 32], EXPORTER_LABEL, None)
            .unwrap();
        let raw = Raw::upgrade(Box::new(tls), &site.addr.to_string(), Encoding::Cbor).await;
        (raw, data)
    };
    let alice = Person::new("alice", 1);
    let (mut raw, data) = dial().await;
    let genesis = alice.genesis(site.server_id);
    raw.enter(&alice, &Mode::Register { genesis }, &data)
        .await
        .unwrap();
    // The same client through another TLS session, as a middle man would have it.
    let (mut raw, other) = dial().await;
    assert_ne!(data, other);
    let hello = alice.hello();
    let challenge = raw.challenge(&hello).await;
    assert_eq!(challenge.binding, "tls-exporter");
    assert_eq!(challenge.origin, format!("https://{}", site.addr));
    let wrong = Transcript::new(&hello, &challenge, &data);
    assert!(wrong.verify_server(&challenge.key, &challenge.sig).is_err());
    let auth = wrong.sign_client(&Mode::Auth, &alice.machine);
    raw.send(&ClientFrame::Auth(auth)).await;
    let (reason, _) = raw.goodbye().await;
    assert_eq!(reason.unwrap().code, Code::Unauthorized);
    // A client that offers no binding is not let in without one.
    let (mut raw, _) = dial().await;
    let mut stripped = alice.hello();
    stripped.bindings = vec!["none".into()];
    raw.send(&ClientFrame::Hello(stripped)).await;
    let (reason, _) = raw.goodbye().await;
    assert_eq!(reason.unwrap().code, Code::Unauthorized);
}

#[tokio::test]
async fn a_revoked_machine_is_dropped_within_a_second() {
    let site = serve(open_config()).await;
    let alice = Person::new("alice", 1);
    let mut raw = site.register(&alice, Encoding::Cbor).await;
    let log = alice.log(site.server_id);
    let key = alice.machine.machine_key();
    let rec = build::revoke_machine(&log, key, "lost", &alice.owner, UnixMs(5));
    let started = Instant::now();
    raw.ask(Op::IdentAppend(IdentAppend {
        rec: rec.bytes().clone(),
    }))
    .await;
    let (reason, code) = raw.goodbye().await;
    assert!(started.elapsed() < Duration::from_secs(1));
    assert!(reason.is_some());
    assert_eq!(code, Some(4003));
    let mut back = site.connect(Encoding::Cbor).await;
    assert!(back.enter(&alice, &Mode::Auth, &[]).await.is_err());
}

#[tokio::test]
async fn lesson_12_s9_a_slow_reader_is_bounded_and_catches_up_from_the_log() {
    const MESSAGES: u64 = 400;
    let site = serve(open_config()).await;
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
    let mut a = site.register(&alice, Encoding::Cbor).await;
    let mut b = site.register(&bob, Encoding::Cbor).await;
    let rec = a.create(&alice, OPS, "ops").await;
    let hash = Record::parse(&rec).unwrap().hash();
    b.join(&bob, OPS, Head { n: 0, hash }).await;
    b.subscribe(OPS, 0).await;
    // 25 MB for a reader that does not read: far more than sockets and outbox hold.
    let text = "x".repeat(60_000);
    for ctr in 1..=MESSAGES {
        a.say(&alice, OPS, ctr, &text).await;
    }
    let stats = site.running.hub().stats().await.unwrap();
    assert_eq!(stats.stalled, 1, "the reader was not held back");
    // Now it reads: everything is there, once and in order.
    let mut seqs = Vec::new();
    while seqs.len() < usize::try_from(MESSAGES).unwrap() + 2 {
        let batch = b
            .event(|e| match e {
                Event::Entries(batch) => Some(batch.clone()),
                _ => None,
            })
            .await;
        assert_eq!(batch.log, LogId::Channel(OPS));
        assert!(batch.gap.is_none());
        let next = seqs.last().map_or(1, |last| last + 1);
        seqs.extend(batch.entries.iter().map(|e| e.seq).filter(|s| *s >= next));
    }
    let expected: Vec<u64> = (1..=MESSAGES + 2).collect();
    assert_eq!(seqs, expected);
}

#[tokio::test]
async fn s9_a_client_that_reads_nothing_is_dropped_at_the_deadline() {
    let mut config = open_config();
    config.limits.write_timeout_ms = 200;
    let site = serve(config).await;
    let mut raw = site
        .register(&Person::new("alice", 1), Encoding::Json)
        .await;
    // Each question has a short answer nobody reads; the peer's buffers fill, then ours.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut id = 1_000;
    loop {
        id += 1;
        let request = conclave_proto::frame::Request {
            id,
            op: Op::Unknown("x".repeat(60).into()),
        };
        let message = raw.encode(&ClientFrame::Request(request));
        let sent = tokio::time::timeout(Duration::from_secs(5), raw.ws.feed(message)).await;
        if !matches!(sent, Ok(Ok(()))) {
            break;
        }
        assert!(Instant::now() < deadline, "the server took everything");
    }
    let stats = site.running.hub();
    soon(async {
        while stats.stats().await.unwrap().connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn lesson_08_s10_answers_carry_the_id_of_their_question() {
    let site = serve(open_config()).await;
    let mut raw = site
        .register(&Person::new("alice", 1), Encoding::Json)
        .await;
    // A refusal made at the edge overtakes answers of the hub; ids keep them apart.
    let find = |name: &str| {
        Op::FindUser(FindName {
            name: name.parse().unwrap(),
        })
    };
    let known = raw.ask(find("alice")).await;
    let unknown_op = raw.ask(Op::Unknown("dance".into())).await;
    let missing = raw.ask(find("nobody")).await;
    let list = raw.ask(Op::Channels(Nothing {})).await;
    let mut answers = std::collections::BTreeMap::new();
    while answers.len() < 4 {
        let Ok(conclave_proto::frame::ServerFrame::Response(response)) = raw.next().await else {
            panic!("no answer");
        };
        assert!(answers.insert(response.id, response.result).is_none());
    }
    use conclave_proto::frame::Outcome;
    let code = |id: &u64| match &answers[id] {
        Outcome::Err(reject) => Some(reject.code.clone()),
        _ => None,
    };
    assert!(
        matches!(&answers[&known], Outcome::Ok(Reply::User(user)) if user.name.as_str() == "alice")
    );
    assert_eq!(code(&unknown_op), Some(Code::UnknownOp));
    assert_eq!(code(&missing), Some(Code::NotFound));
    assert!(matches!(&answers[&list], Outcome::Ok(Reply::Channels(_))));
}

#[tokio::test]
async fn too_many_failed_authentications_of_an_address_close_the_door() {
    let mut config = open_config();
    config.behind_proxy = true;
    config.limits.auth_failures_per_minute = 2;
    let site = serve(config).await;
    let stranger = Person::new("stranger", 3);
    for _ in 0..2 {
        let mut raw = site.connect(Encoding::Cbor).await;
        let reject = raw.enter(&stranger, &Mode::Auth, &[]).await.unwrap_err();
        assert_eq!(reject.code, Code::UnknownKey);
        raw.goodbye().await;
    }
    let mut raw = site.connect(Encoding::Cbor).await;
    raw.ws
        .send(raw.encode(&ClientFrame::Hello(stranger.hello())))
        .await
        .ok();
    assert!(raw.next().await.is_err(), "it was let in again");
}

#[tokio::test]
async fn secrets_do_not_print() {
    let server = Config::ephemeral().build().await.unwrap();
    let link = server.bootstrap_link().unwrap();
    let printed = format!("{server:?} {link:?}");
    let secret = conclave_proto::id::to_text(link.secret.as_bytes());
    assert!(!printed.contains(&secret));
    let seed = Secret::from_seed(link.secret.as_bytes()).seed();
    assert!(!printed.contains(&conclave_proto::id::to_text(&*seed)));
}
