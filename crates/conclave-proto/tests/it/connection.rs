//! The server's half alone: what it refuses, and its bounds.

use crate::pair::{append, at, machine_secret, ready, server_config};
use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::frame::client::{Auth, Hello, Request};
use conclave_proto::frame::op::Nothing;
use conclave_proto::frame::server::{Challenge, Outcome, Response};
use conclave_proto::frame::{ClientFrame, Op, Reply, ServerFrame};
use conclave_proto::handshake::{Binding, Mode, Transcript, recover_message};
use conclave_proto::id::{HandshakeNonce, Instance, InviteId};
use conclave_proto::key::{EncryptionKey, Secret, Signature};
use conclave_proto::limit::*;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::server_connection::{ConnectionConfig, Input, Output, ServerConnection};
use proptest::prelude::*;

/// A scripted client in front of the machine.
struct Client {
    server: ServerConnection,
    encoding: Encoding,
    hello: Hello,
    ms: u64,
}

impl Client {
    fn new(config: ConnectionConfig) -> Self {
        Self {
            encoding: config.encoding,
            server: ServerConnection::new(config, at(0)),
            hello: Hello {
                versions: vec![2],
                nonce: HandshakeNonce::new([6; 32]),
                key: machine_secret().machine_key(),
                handle: "api".parse().unwrap(),
                pinned: false,
                instance: Instance::new([5; 16]),
                bindings: vec!["none".to_owned()],
                agent: String::new(),
            },
            ms: 0,
        }
    }

    fn opened() -> Self {
        let mut client = Self::new(server_config());
        let (_, auth) = client.challenged(&Mode::Auth);
        client.send(ClientFrame::Auth(auth));
        client.input(Input::Entered(Ok(ready())));
        assert!(client.server.is_open());
        client
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.server.handle(at(self.ms), input);
        std::iter::from_fn(|| self.server.poll_output()).collect()
    }

    fn send(&mut self, frame: ClientFrame) -> Vec<Output> {
        let bytes = self.encoding.encode(&frame, usize::MAX).unwrap();
        self.input(Input::Frame(bytes))
    }

    /// Says hello, and returns the challenge and a valid answer.
    fn challenged(&mut self, mode: &Mode) -> (Challenge, Auth) {
        let outputs = self.send(ClientFrame::Hello(self.hello.clone()));
        let [Output::Send(bytes)] = outputs.as_slice() else {
            panic!("{outputs:?}")
        };
        let frame = self.encoding.decode(bytes, HANDSHAKE_FRAME_BYTES_MAX);
        let Ok(ServerFrame::Challenge(challenge)) = frame else {
            panic!("{frame:?}")
        };
        let auth =
            Transcript::new(&self.hello, &challenge, &[]).sign_client(mode, &machine_secret());
        (challenge, auth)
    }

    fn request(&mut self, id: u64) -> Vec<Output> {
        let op = append(id);
        self.send(ClientFrame::Request(Request { id, op }))
    }

    /// Advances to `ms` and fires what is due.
    fn until(&mut self, ms: u64) -> Vec<Output> {
        self.ms = ms;
        self.input(Input::Timer)
    }
}

/// The connection said goodbye with this code and closed with that one.
#[track_caller]
fn assert_closed(outputs: &[Output], close: Close, code: Code) {
    let [Output::Send(bye), Output::Close(was, Some(reject))] = outputs else {
        panic!("expected a goodbye and a close: {outputs:?}")
    };
    assert_eq!((*was, &reject.code), (close, &code));
    let frame = Encoding::Cbor.decode(bye, FRAME_BYTES_MAX);
    assert!(matches!(frame, Ok(ServerFrame::Goodbye(bye)) if bye.reason == *reject));
}

fn responses(outputs: &[Output]) -> Vec<Response> {
    let response = |output: &Output| match output {
        Output::Send(bytes) => match Encoding::Cbor.decode(bytes, FRAME_BYTES_MAX) {
            Ok(ServerFrame::Response(response)) => Some(response),
            _ => None,
        },
        _ => None,
    };
    outputs.iter().filter_map(response).collect()
}

#[test]
fn frames_out_of_order_close_the_connection() {
    let hello = |c: &Client| ClientFrame::Hello(c.hello.clone());
    let auth = || {
        ClientFrame::Auth(Auth {
            mode: "auth".to_owned(),
            body: Default::default(),
            sig: Signature::new([0; 64]),
        })
    };
    let request = || {
        let op = append(1);
        ClientFrame::Request(Request { id: 1, op })
    };
    for frame in [auth(), request()] {
        let outputs = Client::new(server_config()).send(frame);
        assert_closed(&outputs, Close::Malformed, Code::Malformed);
    }
    let mut twice = Client::new(server_config());
    twice.challenged(&Mode::Auth);
    let outputs = twice.send(hello(&twice));
    assert_closed(&outputs, Close::Malformed, Code::Malformed);
    let mut open = Client::opened();
    let outputs = open.send(auth());
    assert_closed(&outputs, Close::Malformed, Code::Malformed);
    assert!(
        open.request(1).is_empty(),
        "a closed connection does nothing"
    );
}

#[test]
fn a_second_auth_is_refused_while_the_hub_decides() {
    let mut client = Client::new(server_config());
    let (_, auth) = client.challenged(&Mode::Auth);
    let outputs = client.send(ClientFrame::Auth(auth.clone()));
    assert!(matches!(outputs.as_slice(), [Output::Enter { .. }]));
    let outputs = client.send(ClientFrame::Auth(auth));
    assert_closed(&outputs, Close::Malformed, Code::Malformed);
    assert!(client.input(Input::Entered(Ok(ready()))).is_empty());
}

#[test]
fn an_auth_of_another_connection_or_with_another_body_is_refused() {
    let mut first = Client::new(server_config());
    let (_, auth) = first.challenged(&Mode::Auth);
    let mut second = Client::new(ConnectionConfig {
        nonce: HandshakeNonce::new([10; 32]),
        ..server_config()
    });
    second.challenged(&Mode::Auth);
    let outputs = second.send(ClientFrame::Auth(auth.clone()));
    assert_closed(&outputs, Close::Unauthorized, Code::Unauthorized);
    let outputs = first.send(ClientFrame::Auth(Auth {
        mode: "register".to_owned(),
        body: vec![1].into(),
        sig: auth.sig,
    }));
    assert_closed(&outputs, Close::Unauthorized, Code::Unauthorized);
}

#[test]
fn an_auth_over_another_binding_is_refused() {
    let mut client = Client::new(ConnectionConfig {
        binding: Binding::Exporter([4; 32]),
        ..server_config()
    });
    client.hello.bindings = vec!["tls-exporter".to_owned()];
    // Its transcript has no exporter data: somebody else ends the TLS of this client.
    let (_, auth) = client.challenged(&Mode::Auth);
    let outputs = client.send(ClientFrame::Auth(auth));
    assert_closed(&outputs, Close::Unauthorized, Code::Unauthorized);
}

#[test]
fn offers_the_server_cannot_take_are_refused() {
    type Edit = fn(&mut Hello);
    let cases: [(Edit, Close, Code); 6] = [
        (|h| h.versions = vec![1], Close::Unauthorized, Code::Version),
        (|h| h.versions.clear(), Close::Unauthorized, Code::Version),
        (
            |h| h.bindings.clear(),
            Close::Unauthorized,
            Code::Unauthorized,
        ),
        (
            |h| h.handle = "admin".parse().unwrap(),
            Close::Unauthorized,
            Code::NameInvalid,
        ),
        (
            |h| h.versions = vec![2; 9],
            Close::Malformed,
            Code::Malformed,
        ),
        (
            |h| h.agent = "x".repeat(65),
            Close::Malformed,
            Code::Malformed,
        ),
    ];
    for (edit, close, code) in cases {
        let mut client = Client::new(server_config());
        edit(&mut client.hello);
        let outputs = client.send(ClientFrame::Hello(client.hello.clone()));
        assert_closed(&outputs, close, code);
    }
    let mut stripped = Client::new(ConnectionConfig {
        binding: Binding::Exporter([4; 32]),
        ..server_config()
    });
    let outputs = stripped.send(ClientFrame::Hello(stripped.hello.clone()));
    assert_closed(&outputs, Close::Unauthorized, Code::Unauthorized);
}

#[test]
fn newer_versions_and_reserved_handles_of_one_shots_are_taken() {
    let mut client = Client::new(server_config());
    client.hello.versions = vec![9, 2, 1];
    client.hello.handle = "cli".parse().unwrap();
    let (challenge, _) = client.challenged(&Mode::Auth);
    assert_eq!(challenge.version, 2);
}

#[test]
fn nonces_of_another_length_are_malformed() {
    for length in [0, 1, 31, 33, 4096] {
        let mut client = Client::new(ConnectionConfig {
            encoding: Encoding::Json,
            ..server_config()
        });
        let hello = ClientFrame::Hello(client.hello.clone());
        let json = String::from_utf8(Encoding::Json.encode(&hello, usize::MAX).unwrap()).unwrap();
        let nonce = conclave_proto::id::to_text(&vec![6; length]);
        let json = json.replace(&client.hello.nonce.to_string(), &nonce);
        let outputs = client.input(Input::Frame(json.into_bytes()));
        let Some(Output::Close(close, Some(reject))) = outputs.last() else {
            panic!("{outputs:?}")
        };
        assert_eq!((*close, &reject.code), (Close::Malformed, &Code::Malformed));
    }
}

#[test]
fn frames_are_bounded_before_and_after_the_handshake() {
    let mut client = Client::new(server_config());
    let outputs = client.input(Input::Frame(vec![0; HANDSHAKE_FRAME_BYTES_MAX + 1]));
    assert_closed(&outputs, Close::Malformed, Code::TooLarge);
    let mut client = Client::new(server_config());
    let outputs = client.input(Input::Frame(vec![0; HANDSHAKE_FRAME_BYTES_MAX]));
    assert_closed(&outputs, Close::Malformed, Code::Malformed);
    let outputs = Client::opened().input(Input::Frame(vec![0; FRAME_BYTES_MAX + 1]));
    assert_closed(&outputs, Close::Malformed, Code::TooLarge);
}

#[test]
fn the_handshake_has_ten_seconds_and_an_enrolment_ten_minutes() {
    let mut client = Client::new(server_config());
    assert!(client.until(HANDSHAKE_MS - 1).is_empty());
    assert_closed(
        &client.until(HANDSHAKE_MS),
        Close::Unauthorized,
        Code::Timeout,
    );

    let mut client = Client::new(server_config());
    let (_, auth) = client.challenged(&Mode::Enrol {
        enrolment: InviteId::new([1; 16]),
        name: "laptop".parse().unwrap(),
        encryption_key: EncryptionKey::new([2; 32]),
        consent: Signature::new([3; 64]),
        proof: Signature::new([4; 64]),
    });
    client.send(ClientFrame::Auth(auth));
    while client.ms < ENROLMENT_MS - 1 {
        client.input(Input::Alive);
        let next = (client.ms + 30_000).min(ENROLMENT_MS - 1);
        assert_eq!(client.until(next), [Output::Ping]);
    }
    let outputs = client.until(ENROLMENT_MS);
    let end = outputs.len() - 2;
    assert_closed(&outputs[end..], Close::Unauthorized, Code::Timeout);
}

#[test]
fn a_recovery_reads_as_it_was_signed_and_any_bit_flipped_in_it_is_refused() {
    let owner = Secret::from_seed(&[8; 32]);
    let (username, machine) = ("alice".parse().unwrap(), "tower".parse().unwrap());
    let key = machine_secret().machine_key();
    let message = recover_message(&server_config().server_id, &key, &username, &machine);
    let said = Mode::Recover {
        sig: owner.sign(message),
        owner: owner.owner_key(),
        username,
        machine,
    };
    let mut client = Client::new(server_config());
    let (_, auth) = client.challenged(&said);
    assert_eq!(auth.mode, "recover");
    let outputs = client.send(ClientFrame::Auth(auth.clone()));
    assert!(matches!(&outputs[..], [Output::Enter { mode, .. }] if *mode == said));
    for at_bit in 0..auth.body.len() * 8 {
        let mut client = Client::new(server_config());
        client.challenged(&Mode::Auth);
        let mut body = auth.body.to_vec();
        body[at_bit / 8] ^= 1 << (at_bit % 8);
        let body = body.into();
        let outputs = client.send(ClientFrame::Auth(Auth {
            body,
            ..auth.clone()
        }));
        assert_closed(&outputs, Close::Unauthorized, Code::Unauthorized);
    }
}

#[test]
fn the_hubs_refusal_reaches_the_client() {
    let mut client = Client::new(server_config());
    let (_, auth) = client.challenged(&Mode::Auth);
    client.send(ClientFrame::Auth(auth));
    let reject = Reject::new(Code::UnknownKey, "no such machine");
    let outputs = client.input(Input::Entered(Err(reject)));
    assert_closed(&outputs, Close::Unauthorized, Code::UnknownKey);
    let mut open = Client::opened();
    let outputs = open.input(Input::Close(Close::Superseded, None));
    assert_eq!(outputs, [Output::Close(Close::Superseded, None)]);
}

#[test]
fn unknown_operations_are_answered_and_unknown_frames_ignored() {
    let mut client = Client::opened();
    let op = Op::Unknown("teleport".into());
    let outputs = client.send(ClientFrame::Request(Request { id: 3, op }));
    let answers = responses(&outputs);
    let [
        Response {
            id: 3,
            result: Outcome::Err(reject),
        },
    ] = answers.as_slice()
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(reject.code, Code::UnknownOp);
    assert!(
        client
            .send(ClientFrame::Unknown("sparkle".into()))
            .is_empty()
    );
    assert!(client.server.is_open());
}

#[test]
fn reading_stops_at_the_bound_of_requests_in_flight() {
    let mut client = Client::opened();
    let max = REQUESTS_IN_FLIGHT_MAX as u64;
    for id in 0..max {
        assert!(client.server.can_read());
        assert!(matches!(
            client.request(id).as_slice(),
            [Output::Request { .. }]
        ));
    }
    assert!(!client.server.can_read());
    let refused = responses(&client.request(max));
    assert!(matches!(&refused[0].result, Outcome::Err(r) if r.code == Code::RateLimited));
    // Silence is no fault of a client that is not read.
    assert_eq!(client.until(SILENCE_MS + 1), [Output::Ping]);
    let outcome = Outcome::Ok(Reply::Done(Nothing {}));
    let outputs = client.input(Input::Reply { id: 5, outcome });
    assert_eq!(responses(&outputs)[0].id, 5);
    assert!(client.server.can_read());
    let outputs = client.request(6);
    assert_closed(&outputs, Close::Malformed, Code::Malformed);
}

#[test]
fn an_answer_that_fits_no_frame_becomes_a_refusal() {
    let mut client = Client::opened();
    client.request(1);
    let reject = Reject::new(Code::Internal, "x".repeat(FRAME_BYTES_MAX));
    let outcome = Outcome::Err(reject);
    let outputs = client.input(Input::Reply { id: 1, outcome });
    assert!(matches!(&responses(&outputs)[0].result, Outcome::Err(r) if r.code == Code::TooLarge));
    let outcome = Outcome::Ok(Reply::Done(Nothing {}));
    let outputs = client.input(Input::Reply { id: 1, outcome });
    assert!(outputs.is_empty(), "an answer goes out once");
}

#[test]
fn lesson_19_pings_keep_their_rhythm_and_silence_closes() {
    let mut client = Client::opened();
    let first = client.server.next_timeout().unwrap().0;
    assert!((18_000..=22_000).contains(&first), "{first}");
    assert!(client.until(first - 1).is_empty());
    assert_eq!(client.until(first), [Output::Ping]);
    client.input(Input::Alive);
    client.until(first + SILENCE_MS - 1);
    assert!(client.server.is_open());
    let outputs = client.until(first + SILENCE_MS);
    assert_closed(&outputs, Close::Silent, Code::Timeout);
    assert_eq!(client.server.next_timeout(), None);
}

proptest! {
    #[test]
    fn garbage_never_panics_and_never_opens(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..4)) {
        for encoding in Encoding::ALL {
            let mut client = Client::new(ConnectionConfig { encoding, ..server_config() });
            for bytes in &frames {
                client.input(Input::Frame(bytes.clone()));
            }
            prop_assert!(!client.server.is_open());
        }
    }

    #[test]
    fn a_bit_flipped_anywhere_in_the_proof_never_enters(at_byte in 0usize..200, bit in 0u8..8) {
        let mut client = Client::new(server_config());
        let (_, auth) = client.challenged(&Mode::Auth);
        let mut bytes = Encoding::Cbor.encode(&ClientFrame::Auth(auth), usize::MAX).unwrap();
        let index = at_byte % bytes.len();
        bytes[index] ^= 1 << bit;
        let outputs = client.input(Input::Frame(bytes));
        let entered = outputs.iter().any(|o| matches!(o, Output::Enter { .. }));
        prop_assert!(!entered);
    }
}
