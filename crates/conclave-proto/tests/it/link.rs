//! The client's half alone: whom it trusts, how it comes back, and that everything is answered once.

use crate::pair::{
    LOG, ORIGIN, WINDOW, append, at, entry, link_config, machine_secret, ready, server_config,
    server_secret,
};
use conclave_proto::backoff::{Backoff, Jitter};
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::client::{Ack, Auth, Cursor, Hello};
use conclave_proto::frame::event::{Dropped, Entries};
use conclave_proto::frame::op::Nothing;
use conclave_proto::frame::reply::{Gap, Subscribed};
use conclave_proto::frame::server::{Challenge, Goodbye, Outcome, Response};
use conclave_proto::frame::{ClientFrame, Event, Op, Reply, ServerFrame};
use conclave_proto::handshake::{Binding, Transcript};
use conclave_proto::id::HandshakeNonce;
use conclave_proto::key::{Secret, Signature};
use conclave_proto::limit::*;
use conclave_proto::link::{Disconnect, DownReason, Input, Link, LinkConfig, Output, Pin};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::server_connection::{self as server, ConnectionConfig, ServerConnection};
use conclave_proto::server_rotation::ServerRotation;
use conclave_proto::time::{Mono, UnixMs};
use std::sync::Arc;

/// A scripted server behind the machine.
struct Server {
    link: Link,
    ms: u64,
}

impl Server {
    fn new(config: LinkConfig) -> Self {
        let mut link = Link::new(config, at(0));
        assert_eq!(link.poll_output(), Some(Output::Dial));
        Self { link, ms: 0 }
    }

    fn opened() -> Self {
        let mut server = Self::new(link_config());
        server.open();
        server
    }

    fn open(&mut self) {
        let hello = self.connect(vec![Binding::None]);
        let challenge = challenge(&hello, &server_secret(), &[]);
        let outputs = self.send(ServerFrame::Challenge(challenge));
        assert!(matches!(outputs.as_slice(), [Output::Send(_)]));
        let outputs = self.send(ServerFrame::Ready(ready()));
        assert!(matches!(outputs.first(), Some(Output::Up(_))));
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.link.handle(at(self.ms), input);
        std::iter::from_fn(|| self.link.poll_output()).collect()
    }

    fn send(&mut self, frame: ServerFrame) -> Vec<Output> {
        let bytes = Encoding::Cbor.encode(&frame, usize::MAX).unwrap();
        self.input(Input::Frame(bytes))
    }

    fn connect(&mut self, bindings: Vec<Binding>) -> Hello {
        let outputs = self.input(Input::Connected {
            origin: ORIGIN.to_owned(),
            bindings,
            nonce: HandshakeNonce::new([6; 32]),
        });
        match frames(&outputs).as_slice() {
            [ClientFrame::Hello(hello)] => hello.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn until(&mut self, ms: u64) -> Vec<Output> {
        self.ms = ms;
        self.input(Input::Timer)
    }

    fn lose(&mut self) -> Vec<Output> {
        let reason = Disconnect::Failed("reset".to_owned());
        self.input(Input::Disconnected { reason })
    }

    fn request(&mut self, token: u64, deadline: Option<u64>) -> Vec<Output> {
        self.input(Input::Request {
            token,
            op: append(token),
            deadline: deadline.map(Mono),
        })
    }

    fn respond(&mut self, id: u64, result: Outcome) -> Vec<Output> {
        self.send(ServerFrame::Response(Response { id, result }))
    }

    /// Follows the log from `after`, with the subscription granted.
    fn follow(&mut self, after: u64, head: u64) {
        let outputs = self.input(Input::Follow { log: LOG, after });
        let (id, op) = requests(&outputs).remove(0);
        assert!(matches!(op, Op::Subscribe(s) if s.after == after));
        let subscribed = Reply::Subscribed(Subscribed { head, oldest: 1 });
        assert!(self.respond(id, Outcome::Ok(subscribed)).is_empty());
    }

    fn entries(&mut self, seqs: &[u64], gap: Option<Gap>) -> Vec<Output> {
        self.send(ServerFrame::Event(Event::Entries(Entries {
            log: LOG,
            entries: seqs.iter().map(|seq| entry(*seq)).collect(),
            gap,
        })))
    }
}

fn challenge(hello: &Hello, secret: &Secret, binding_data: &[u8]) -> Challenge {
    let key = secret.server_key();
    let blank = Challenge {
        version: 2,
        key,
        server_id: key.server_id(),
        rotations: Vec::new(),
        origin: ORIGIN.to_owned(),
        nonce: HandshakeNonce::new([9; 32]),
        binding: "none".to_owned(),
        sig: Signature::new([0; 64]),
    };
    signed(blank, hello, secret, binding_data)
}

fn signed(mut challenge: Challenge, hello: &Hello, secret: &Secret, data: &[u8]) -> Challenge {
    challenge.sig = Transcript::new(hello, &challenge, data).sign_server(secret);
    challenge
}

fn frames(outputs: &[Output]) -> Vec<ClientFrame> {
    let frame = |output: &Output| match output {
        Output::Send(bytes) => Some(Encoding::Cbor.decode(bytes, FRAME_BYTES_MAX).unwrap()),
        _ => None,
    };
    outputs.iter().filter_map(frame).collect()
}

fn requests(outputs: &[Output]) -> Vec<(u64, Op)> {
    let request = |frame| match frame {
        ClientFrame::Request(request) => Some((request.id, request.op)),
        _ => None,
    };
    frames(outputs).into_iter().filter_map(request).collect()
}

fn acks(outputs: &[Output]) -> Vec<Cursor> {
    let ack = |frame| match frame {
        ClientFrame::Ack(Ack { cursors }) => Some(cursors),
        _ => None,
    };
    frames(outputs)
        .into_iter()
        .filter_map(ack)
        .flatten()
        .collect()
}

fn seqs(outputs: &[Output]) -> Vec<u64> {
    let seqs = |output: &Output| match output {
        Output::Entries { entries, .. } => entries.iter().map(|e| e.seq).collect(),
        _ => Vec::new(),
    };
    outputs.iter().flat_map(seqs).collect()
}

fn done() -> Outcome {
    Outcome::Ok(Reply::Done(Nothing {}))
}

fn retry(outputs: &[Output]) -> (DownReason, Option<u64>) {
    let down = |output: &Output| match output {
        Output::Down {
            reason,
            retry_in_ms,
        } => Some((reason.clone(), *retry_in_ms)),
        _ => None,
    };
    outputs.iter().find_map(down).expect("down")
}

/// The link hung up for good, for this reason, and signed nothing.
#[track_caller]
fn assert_refused(outputs: Vec<Output>, expected: &DownReason) {
    let [
        Output::HangUp,
        Output::Down {
            reason,
            retry_in_ms: None,
        },
    ] = outputs.as_slice()
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(reason, expected);
}

#[test]
fn a_challenge_with_anything_wrong_is_never_signed() {
    type Edit = fn(&mut Challenge);
    let cases: [(Edit, DownReason); 4] = [
        (
            |c| c.origin = "https://evil.example:443".to_owned(),
            DownReason::Origin {
                dialled: ORIGIN.to_owned(),
                named: "https://evil.example:443".to_owned(),
            },
        ),
        (|c| c.version = 1, DownReason::Version(1)),
        (
            |c| c.binding = "tls-exporter".to_owned(),
            DownReason::Unproven("its channel binding was not offered"),
        ),
        (
            |c| c.server_id = Secret::from_seed(&[8; 32]).server_key().server_id(),
            DownReason::PinMismatch {
                pinned: server_secret().server_key().fingerprint(),
                presented: server_secret().server_key().fingerprint(),
            },
        ),
    ];
    for (edit, reason) in cases {
        let mut server = Server::new(link_config());
        let hello = server.connect(vec![Binding::None]);
        let mut bad = challenge(&hello, &server_secret(), &[]);
        edit(&mut bad);
        let bad = signed(bad, &hello, &server_secret(), &[]);
        assert_refused(server.send(ServerFrame::Challenge(bad)), &reason);
        assert!(server.link.is_ended());
    }
}

#[test]
fn a_changed_server_key_is_refused_with_both_fingerprints() {
    let thief = Secret::from_seed(&[8; 32]);
    let pins = [
        link_config().pin,
        Pin::Fingerprint(server_secret().server_key().fingerprint()),
    ];
    for pin in pins {
        let mut server = Server::new(LinkConfig {
            pin,
            ..link_config()
        });
        let hello = server.connect(vec![Binding::None]);
        let outputs = server.send(ServerFrame::Challenge(challenge(&hello, &thief, &[])));
        let reason = DownReason::PinMismatch {
            pinned: server_secret().server_key().fingerprint(),
            presented: thief.server_key().fingerprint(),
        };
        assert_refused(outputs, &reason);
    }
}

#[test]
fn a_proof_by_another_key_or_over_another_transcript_is_refused() {
    let reason = DownReason::Unproven("its signature does not fit this connection");
    // The pinned key is named, but somebody else signs.
    let mut server = Server::new(link_config());
    let hello = server.connect(vec![Binding::None]);
    let honest = challenge(&hello, &server_secret(), &[]);
    let swapped = signed(honest.clone(), &hello, &Secret::from_seed(&[8; 32]), &[]);
    assert_refused(server.send(ServerFrame::Challenge(swapped)), &reason);
    // A proof recorded from an earlier connection.
    let mut server = Server::new(link_config());
    server.input(Input::Connected {
        origin: ORIGIN.to_owned(),
        bindings: vec![Binding::None],
        nonce: HandshakeNonce::new([7; 32]),
    });
    assert_refused(server.send(ServerFrame::Challenge(honest)), &reason);
    // A proof over the exporter of another TLS connection.
    let mut server = Server::new(link_config());
    let hello = server.connect(vec![Binding::Exporter([1; 32])]);
    let mut relayed = challenge(&hello, &server_secret(), &[]);
    relayed.binding = "tls-exporter".to_owned();
    let relayed = signed(relayed, &hello, &server_secret(), &[2; 32]);
    assert_refused(server.send(ServerFrame::Challenge(relayed)), &reason);
}

#[test]
fn a_stripped_binding_is_refused() {
    let mut server = Server::new(link_config());
    let hello = server.connect(vec![Binding::Exporter([1; 32])]);
    assert_eq!(hello.bindings, ["tls-exporter"]);
    let outputs = server.send(ServerFrame::Challenge(challenge(
        &hello,
        &server_secret(),
        &[],
    )));
    let reason = DownReason::Unproven("its channel binding was not offered");
    assert_refused(outputs, &reason);
}

#[test]
fn s1_a_relayed_challenge_is_refused() {
    // The client dials M, which passes everything on to H and hopes to enter there as the client.
    let mallory = Secret::from_seed(&[8; 32]);
    let h_origin = "https://h.example:443";
    let honest = || {
        let config = ConnectionConfig {
            origin: h_origin.to_owned(),
            ..server_config()
        };
        ServerConnection::new(config, at(0))
    };
    let ask = |h: &mut ServerConnection, frame: ClientFrame| {
        let bytes = Encoding::Cbor.encode(&frame, usize::MAX).unwrap();
        h.handle(at(0), server::Input::Frame(bytes));
        h.poll_output()
    };
    let relay = |h: &mut ServerConnection, hello: &Hello| -> Challenge {
        let Some(server::Output::Send(bytes)) = ask(h, ClientFrame::Hello(hello.clone())) else {
            panic!("no challenge")
        };
        match Encoding::Cbor.decode(&bytes, FRAME_BYTES_MAX) {
            Ok(ServerFrame::Challenge(challenge)) => challenge,
            other => panic!("{other:?}"),
        }
    };
    // H's challenge as it is: it names H's origin.
    let mut victim = Server::new(LinkConfig {
        pin: Pin::FirstContact,
        ..link_config()
    });
    let hello = victim.connect(vec![Binding::None]);
    let relayed = relay(&mut honest(), &hello);
    let reason = DownReason::Origin {
        dialled: ORIGIN.to_owned(),
        named: h_origin.to_owned(),
    };
    assert_refused(victim.send(ServerFrame::Challenge(relayed)), &reason);
    // H's nonce under M's own origin and key: the client signs for M, and H cannot use it.
    let key = mallory.server_key();
    let mut victim = Server::new(LinkConfig {
        pin: Pin::FirstContact,
        ..link_config()
    });
    let hello = victim.connect(vec![Binding::None]);
    let mut h = honest();
    let mut own = relay(&mut h, &hello);
    own.origin = ORIGIN.to_owned();
    (own.key, own.server_id) = (key, key.server_id());
    let own = signed(own, &hello, &mallory, &[]);
    let outputs = victim.send(ServerFrame::Challenge(own));
    let auth = frames(&outputs).remove(0);
    assert!(matches!(auth, ClientFrame::Auth(_)));
    ask(&mut h, auth);
    assert!(h.is_closed() && !h.is_open());
}

#[test]
fn first_contact_is_reported_before_anything_is_signed() {
    let key = server_secret().server_key();
    let pins = [Pin::FirstContact, Pin::Fingerprint(key.fingerprint())];
    for pin in pins {
        let mut server = Server::new(LinkConfig {
            pin,
            ..link_config()
        });
        let hello = server.connect(vec![Binding::None]);
        let outputs = server.send(ServerFrame::Challenge(challenge(
            &hello,
            &server_secret(),
            &[],
        )));
        let server_id = key.server_id();
        let first = Output::FirstContact { server_id, key };
        assert_eq!(outputs[0], first);
        assert!(matches!(outputs[1..], [Output::Send(_)]));
        assert_eq!(*server.link.pin(), Pin::Known { key, server_id });
    }
}

#[test]
fn a_rotated_key_is_followed_forward_and_never_back() {
    let secrets: Vec<_> = [1, 20, 21].map(|n| Secret::from_seed(&[n; 32])).into();
    let keys: Vec<_> = secrets.iter().map(Secret::server_key).collect();
    let server_id = keys[0].server_id();
    let rotate = |i: usize| {
        ServerRotation::sign(server_id, &secrets[i], keys[i + 1], UnixMs(1))
            .bytes()
            .clone()
    };
    let all = [rotate(0), rotate(1)];
    let forged = ServerRotation::sign(server_id, &secrets[2], keys[0], UnixMs(1));
    // (pinned, presented, records, admitted)
    let cases = [
        (0, 2, all.to_vec(), true),
        (1, 2, all.to_vec(), true),
        (2, 2, all.to_vec(), true),
        (0, 1, all[..1].to_vec(), true),
        (2, 1, all[..1].to_vec(), false),
        (0, 2, all[1..].to_vec(), false),
        (0, 2, vec![all[1].clone(), all[0].clone()], false),
        (0, 2, Vec::new(), false),
        (2, 0, vec![forged.bytes().clone()], false),
    ];
    for (pinned, presented, rotations, admitted) in cases {
        let key = keys[pinned];
        let mut server = Server::new(LinkConfig {
            pin: Pin::Known { key, server_id },
            ..link_config()
        });
        let hello = server.connect(vec![Binding::None]);
        let mut with = challenge(&hello, &secrets[presented], &[]);
        (with.server_id, with.rotations) = (server_id, rotations);
        let with = signed(with, &hello, &secrets[presented], &[]);
        let outputs = server.send(ServerFrame::Challenge(with));
        if admitted {
            assert!(
                matches!(outputs.last(), Some(Output::Send(_))),
                "{pinned} {presented}"
            );
            let key = keys[presented];
            assert_eq!(*server.link.pin(), Pin::Known { key, server_id });
        } else {
            let reason = DownReason::PinMismatch {
                pinned: key.fingerprint(),
                presented: keys[presented].fingerprint(),
            };
            assert_refused(outputs, &reason);
        }
    }
}

#[test]
fn a_foreign_signature_is_no_client_proof() {
    // What the machine signs elsewhere, with every other label, opens nothing.
    use conclave_proto::key::{label, labelled_hash};
    for other in [
        label::ENVELOPE,
        label::IDENTITY,
        label::CONTROL,
        label::HANDSHAKE_SERVER,
    ] {
        let mut h = ServerConnection::new(server_config(), at(0));
        let mut server = Server::new(link_config());
        let hello = server.connect(vec![Binding::None]);
        let bytes = |frame| Encoding::Cbor.encode(&frame, usize::MAX).unwrap();
        h.handle(
            at(0),
            server::Input::Frame(bytes(ClientFrame::Hello(hello))),
        );
        let sig = machine_secret().sign(labelled_hash(
            other,
            &conclave_proto::id::Hash::new([1; 32]),
        ));
        let auth = Auth {
            mode: "auth".to_owned(),
            body: Default::default(),
            sig,
        };
        h.handle(at(0), server::Input::Frame(bytes(ClientFrame::Auth(auth))));
        assert!(h.is_closed());
    }
}

#[test]
fn back_off_doubles_to_half_a_minute_with_full_jitter() {
    let mut widest = [0; 8];
    for seed in 0..500 {
        let (mut jitter, mut backoff) = (Jitter::new(seed), Backoff::default());
        for (n, widest) in widest.iter_mut().enumerate() {
            let delay = backoff.next_ms(&mut jitter);
            let ceiling = (BACKOFF_FIRST_MS << n).min(BACKOFF_MAX_MS);
            assert!(delay <= ceiling);
            *widest = delay.max(*widest);
        }
        backoff.reset();
        assert!(backoff.next_ms(&mut jitter) <= BACKOFF_FIRST_MS);
    }
    for (n, widest) in widest.into_iter().enumerate() {
        let ceiling = (BACKOFF_FIRST_MS << n).min(BACKOFF_MAX_MS);
        assert!(
            widest > ceiling * 9 / 10,
            "the jitter is full: {widest} of {ceiling}"
        );
    }
}

#[test]
fn lesson_16_the_back_off_starts_over_only_after_a_minute_up() {
    for (up_ms, expected) in [(BACKOFF_RESET_MS - 1, false), (BACKOFF_RESET_MS, true)] {
        let mut small = 0;
        for seed in 0..40 {
            let mut server = Server::new(LinkConfig {
                seed,
                ..link_config()
            });
            for _ in 0..6 {
                let (_, delay) = retry(&server.lose());
                let next = server.ms + delay.unwrap();
                assert_eq!(server.until(next), [Output::Dial]);
            }
            server.open();
            let end = server.ms + up_ms;
            while server.ms < end {
                server.input(Input::Alive);
                let next = (server.ms + 20_000).min(end);
                server.until(next);
            }
            let (_, delay) = retry(&server.lose());
            small += u32::from(delay.unwrap() <= BACKOFF_FIRST_MS);
        }
        assert_eq!(small == 40, expected, "{small} of 40 were short");
    }
}

#[test]
fn final_words_end_the_link_and_others_do_not() {
    let closes = [
        (Close::Revoked, Some(DownReason::Revoked)),
        (Close::Unauthorized, None),
        (Close::Slow, None),
        (Close::Restarted, None),
        (Close::Other(1006), None),
    ];
    for (close, ends) in closes {
        let mut server = Server::opened();
        let reason = Disconnect::Closed(close);
        let (reason, delay) = retry(&server.input(Input::Disconnected { reason }));
        assert_eq!(delay.is_none(), ends.is_some());
        assert_eq!(server.link.is_ended(), ends.is_some());
        assert!(ends.is_none_or(|ends| ends == reason));
    }
    let codes = [
        (Code::Unauthorized, true),
        (Code::UnknownKey, true),
        (Code::Version, true),
        (Code::Timeout, false),
        (Code::RateLimited, false),
        (Code::Unknown("sparkle".into()), false),
    ];
    for (code, ends) in codes {
        let mut server = Server::new(link_config());
        server.connect(vec![Binding::None]);
        let reason = Reject::new(code, "no");
        assert!(
            server
                .send(ServerFrame::Goodbye(Goodbye { reason }))
                .is_empty()
        );
        let reason = Disconnect::Closed(Close::Unauthorized);
        let (_, delay) = retry(&server.input(Input::Disconnected { reason }));
        assert_eq!(delay.is_none(), ends);
    }
}

#[test]
fn superseded_is_final_unless_a_late_socket_of_our_own_may_be_to_blame() {
    let superseded = |server: &mut Server| {
        let reason = Disconnect::Closed(Close::Superseded);
        retry(&server.input(Input::Disconnected { reason }))
    };
    let mut old = Server::opened();
    for _ in 0..3 {
        old.input(Input::Alive);
        let next = old.ms + 20_000;
        old.until(next);
    }
    assert_eq!(superseded(&mut old), (DownReason::Superseded, None));
    let mut young = Server::opened();
    for _ in 0..3 {
        let (_, delay) = superseded(&mut young);
        let next = young.ms + delay.unwrap();
        young.until(next);
        young.open();
    }
    assert_eq!(superseded(&mut young), (DownReason::Superseded, None));
}

#[test]
fn a_goodbye_without_a_close_hangs_up_after_a_moment() {
    let mut server = Server::opened();
    let reason = Reject::new(Code::Draining, "later").retry_after(5_000);
    server.send(ServerFrame::Goodbye(Goodbye { reason }));
    let outputs = server.until(5_000);
    assert_eq!(outputs[0], Output::HangUp);
    let (_, delay) = retry(&outputs);
    assert!((5_000..=5_500).contains(&delay.unwrap()));
}

#[test]
fn requests_that_wait_are_offline_and_sent_ones_time_out_each_once() {
    let mut server = Server::new(link_config());
    assert!(server.request(1, Some(10)).is_empty());
    let outputs = server.until(10);
    assert!(matches!(outputs.as_slice(),
        [Output::Response { token: 1, result: Err(r) }] if r.code == Code::Offline));
    server.open();
    assert!(server.request(9, None).len() == 1);
    let sent = requests(&server.request(2, Some(5_000)));
    let outputs = server.until(5_000);
    assert!(matches!(outputs.as_slice(),
        [Output::Response { token: 2, result: Err(r) }] if r.code == Code::Timeout));
    // A late answer, and a reconnect, answer nothing twice.
    assert!(server.respond(sent[0].0, done()).is_empty());
    let (_, delay) = retry(&server.lose());
    server.until(5_000 + delay.unwrap());
    let hello = server.connect(vec![Binding::None]);
    server.send(ServerFrame::Challenge(challenge(
        &hello,
        &server_secret(),
        &[],
    )));
    let again = requests(&server.send(ServerFrame::Ready(ready())));
    let [(id, Op::Append(_))] = again.as_slice() else {
        panic!("{again:?}")
    };
    let outputs = server.respond(*id, done());
    assert!(matches!(
        outputs.as_slice(),
        [Output::Response {
            token: 9,
            result: Ok(_)
        }]
    ));
}

#[test]
fn a_request_in_flight_at_a_cut_keeps_its_deadline() {
    let mut server = Server::opened();
    server.request(1, Some(REQUEST_TIMEOUT_MS));
    assert_eq!(
        retry(&server.lose()).0,
        DownReason::Lost("reset".to_owned())
    );
    let outputs = server.until(REQUEST_TIMEOUT_MS);
    let timeouts = outputs.iter().filter(
        |o| matches!(o, Output::Response { token: 1, result: Err(r) } if r.code == Code::Timeout),
    );
    assert_eq!(timeouts.count(), 1);
}

#[test]
fn the_window_bounds_what_is_in_flight_and_moves_on() {
    let mut server = Server::opened();
    let mut sent = Vec::new();
    for token in 0..10 {
        sent.extend(requests(&server.request(token, None)));
    }
    assert_eq!(sent.len(), WINDOW as usize);
    let outputs = server.respond(sent[0].0, done());
    assert_eq!(requests(&outputs).len(), 1);
    let outputs = server.input(Input::Stop);
    let answered = |o: &&Output| matches!(o, Output::Response { result: Err(_), .. });
    assert_eq!(outputs.iter().filter(answered).count(), 9);
    assert_eq!(retry(&outputs), (DownReason::Stopped, None));
    assert_eq!(server.link.next_timeout(), None);
}

#[test]
fn overlap_is_trimmed_and_a_named_gap_is_passed_on() {
    let mut server = Server::opened();
    server.follow(10, 100);
    assert_eq!(seqs(&server.entries(&[9, 10, 11, 12], None)), [11, 12]);
    assert!(server.entries(&[11, 12], None).is_empty());
    let gap = |from, to| Gap {
        from,
        to,
        missing: 1,
        reason: "retention".to_owned(),
    };
    // A control record inside the gap is still delivered.
    let outputs = server.entries(&[15, 21, 22], Some(gap(13, 20)));
    assert_eq!(seqs(&outputs), [15, 21, 22]);
    let outputs = server.entries(&[], Some(gap(23, 30)));
    assert!(
        matches!(outputs.as_slice(), [Output::Entries { entries, gap: Some(_), .. }] if entries.is_empty())
    );
    assert_eq!(seqs(&server.entries(&[31], None)), [31]);
    assert!(server.entries(&[], Some(gap(5, 9))).is_empty());
}

#[test]
fn a_hole_without_a_gap_starts_again_from_the_cursor() {
    let mut server = Server::opened();
    server.follow(10, 100);
    server.entries(&[11], None);
    let outputs = server.entries(&[13], None);
    assert!(seqs(&outputs).is_empty());
    assert_eq!(outputs[0], Output::HangUp);
    let (reason, delay) = retry(&outputs);
    let (expected, got) = (12, 13);
    assert_eq!(
        reason,
        DownReason::Hole {
            log: LOG,
            expected,
            got
        }
    );
    server.until(delay.unwrap());
    let hello = server.connect(vec![Binding::None]);
    server.send(ServerFrame::Challenge(challenge(
        &hello,
        &server_secret(),
        &[],
    )));
    let asked = requests(&server.send(ServerFrame::Ready(ready())));
    assert!(matches!(asked.as_slice(), [(_, Op::Subscribe(s))] if s.after == 11));
}

#[test]
fn a_log_that_lost_its_end_is_reported() {
    let mut server = Server::opened();
    let outputs = server.input(Input::Follow { log: LOG, after: 9 });
    let (id, _) = requests(&outputs).remove(0);
    let shorter = Reply::Subscribed(Subscribed { head: 5, oldest: 1 });
    let outputs = server.respond(id, Outcome::Ok(shorter));
    assert!(matches!(outputs.first(), Some(Output::Event(Event::Dropped(d))) if d.log == LOG));
}

#[test]
fn a_refused_subscription_is_dropped_or_asked_again() {
    let mut server = Server::opened();
    let outputs = server.input(Input::Follow { log: LOG, after: 0 });
    let (id, _) = requests(&outputs).remove(0);
    let busy = Reject::new(Code::RateLimited, "busy").retry_after(3_000);
    assert!(server.respond(id, Outcome::Err(busy)).is_empty());
    assert!(server.until(2_999).is_empty());
    let (id, _) = requests(&server.until(3_000)).remove(0);
    let reason = Reject::new(Code::NotFound, "no such log");
    let outputs = server.respond(id, Outcome::Err(reason.clone()));
    let dropped = Event::Dropped(Dropped { log: LOG, reason });
    assert_eq!(outputs, [Output::Event(dropped)]);
    server.until(10_000);
    assert!(
        server.entries(&[1], None).is_empty(),
        "not followed any more"
    );
}

#[test]
fn acks_go_out_by_count_and_by_time() {
    let mut server = Server::opened();
    server.follow(0, 100);
    let all: Vec<u64> = (1..=40).collect();
    server.entries(&all, None);
    let stored = |seq| Input::Stored { log: LOG, seq };
    assert!(server.input(stored(31)).is_empty());
    let outputs = server.input(stored(32));
    assert_eq!(acks(&outputs), [Cursor { log: LOG, seq: 32 }]);
    assert!(server.input(stored(33)).is_empty());
    assert!(server.until(ACK_MS - 1).is_empty());
    assert_eq!(acks(&server.until(ACK_MS)), [Cursor { log: LOG, seq: 33 }]);
    // More than was received is not believed.
    server.input(stored(99));
    assert_eq!(
        acks(&server.until(3 * ACK_MS)),
        [Cursor { log: LOG, seq: 40 }]
    );
}

#[test]
fn unknown_frames_and_events_are_ignored_and_nonsense_is_not() {
    let mut server = Server::opened();
    assert!(
        server
            .send(ServerFrame::Unknown("sparkle".into()))
            .is_empty()
    );
    assert!(
        server
            .send(ServerFrame::Event(Event::Unknown("glow".into())))
            .is_empty()
    );
    for bytes in [vec![0xFF; 9], vec![0; FRAME_BYTES_MAX + 1]] {
        let mut server = Server::opened();
        let outputs = server.input(Input::Frame(bytes));
        assert_eq!(outputs[0], Output::HangUp);
        let (reason, delay) = retry(&outputs);
        assert!(matches!(reason, DownReason::Malformed(_)) && delay.is_some());
    }
    let outputs = server.send(ServerFrame::Ready(ready()));
    assert!(matches!(retry(&outputs).0, DownReason::Malformed(_)));
}

#[test]
fn dial_and_handshake_have_bounds() {
    let mut server = Server::new(link_config());
    assert!(server.until(conclave_proto::link::DIAL_MS - 1).is_empty());
    assert_eq!(
        server.until(conclave_proto::link::DIAL_MS)[0],
        Output::HangUp
    );
    let mut server = Server::new(link_config());
    server.connect(vec![Binding::None]);
    assert!(server.until(HANDSHAKE_MS - 1).is_empty());
    assert_eq!(server.until(HANDSHAKE_MS)[0], Output::HangUp);
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", Server::opened().link);
    let seed = conclave_proto::id::to_text(&*Arc::clone(&machine_secret()).seed());
    assert!(text.contains("Secret(…)") && !text.contains(&seed));
}
