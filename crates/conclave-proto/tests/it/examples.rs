//! One example of every frame, frozen in both encodings, and shown in `docs/protocol.md`.
//!
//! `vectors/frames.txt` has one line a frame: the JSON text, a tab, the CBOR in hex. To add a frame,
//! add its example here and run with `CONCLAVE_BLESS=1`; lines of released frames never change.

use conclave_proto::body::Head;
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, EntryBody, Envelope};
use conclave_proto::frame::client::{Ack, Auth, Cursor, Hello, Request};
use conclave_proto::frame::event::{Dropped, Entries, EpochOf, IdentHead, Presence, Standing};
use conclave_proto::frame::op::*;
use conclave_proto::frame::reply::*;
use conclave_proto::frame::server::{Challenge, Goodbye, Limits, Outcome, Ready, Response};
use conclave_proto::frame::{ClientFrame, Event, Op, Reply, ServerFrame};
use conclave_proto::id::*;
use conclave_proto::key::{EncryptionKey, HolderKey, InviteKey, MachineKey, ServerKey, Signature};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::fmt::Write as _;
use std::path::PathBuf;

enum Frame {
    Client(ClientFrame),
    Server(ServerFrame),
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

const CHANNEL: ChannelId = ChannelId::new([3; 16]);
const USER: UserId = UserId::new([7; 32]);
const AT: UnixMs = UnixMs(1_700_000_000_000);

fn log() -> LogId {
    LogId::Channel(CHANNEL)
}

fn head() -> Head {
    Head {
        n: 2,
        hash: Hash::new([8; 32]),
    }
}

fn envelope() -> Envelope {
    Envelope {
        header: vec![1; 6].into(),
        nonce: EnvelopeNonce::new([0; 24]),
        ct: vec![2; 6].into(),
        sig: Signature::new([9; 64]),
    }
}

fn entries() -> Vec<Entry> {
    vec![
        Entry {
            seq: 41,
            at: AT,
            body: EntryBody::Ctl(vec![4; 6].into()),
        },
        Entry {
            seq: 42,
            at: AT,
            body: EntryBody::Env(envelope()),
        },
    ]
}

fn gap() -> Gap {
    Gap {
        from: 1,
        to: 40,
        missing: 38,
        reason: "retention".into(),
    }
}

fn channel_info() -> ChannelInfo {
    ChannelInfo {
        channel: CHANNEL,
        name: Some(name("general")),
        visibility: "private".into(),
        mode: "signed".into(),
        role: Some("member".into()),
        members: 2,
        topic: Some("everything".into()),
        ctl: head(),
        ctl_seq: 41,
        closed: false,
    }
}

fn user_info() -> UserInfo {
    UserInfo {
        name: name("alice"),
        user_id: USER,
        ident: head(),
        admin: false,
    }
}

const HOLDER: HolderKey = HolderKey::new([1; 32]);

fn wrap() -> Wrap {
    Wrap {
        to: HOLDER,
        generation: 3,
        sealed: SealedKey::new([9; 80]),
    }
}

fn epoch() -> EpochOf {
    EpochOf {
        channel: CHANNEL,
        e: 2,
    }
}

fn enrol_request() -> EnrolRequest {
    EnrolRequest {
        enrolment: InviteId::new([5; 16]),
        name: name("desktop"),
        key: MachineKey::new([1; 32]),
        encryption_key: EncryptionKey::new([2; 32]),
        consent: Signature::new([9; 64]),
        proof: Signature::new([9; 64]),
    }
}

fn client_frames() -> Vec<ClientFrame> {
    vec![
        ClientFrame::Hello(Hello {
            versions: vec![2],
            nonce: HandshakeNonce::new([6; 32]),
            key: MachineKey::new([1; 32]),
            handle: name("api"),
            pinned: false,
            instance: Instance::new([4; 16]),
            bindings: vec!["tls-exporter".into(), "none".into()],
            agent: "conclave/0.1.0".into(),
        }),
        ClientFrame::Auth(Auth {
            mode: "auth".into(),
            body: Blob::default(),
            sig: Signature::new([9; 64]),
        }),
        ClientFrame::Ack(Ack {
            cursors: vec![Cursor {
                log: log(),
                seq: 42,
            }],
        }),
    ]
}

fn ops() -> Vec<Op> {
    let invite = InviteId::new([5; 16]);
    vec![
        Op::Append(Append {
            log: log(),
            env: envelope(),
        }),
        Op::CtlAppend(CtlAppend {
            channel: CHANNEL,
            rec: vec![4; 6].into(),
            wraps: Vec::new(),
            invite_box: Some(vec![5; 6].into()),
        }),
        Op::Subscribe(Subscribe {
            log: log(),
            after: 41,
        }),
        Op::Unsubscribe(Unsubscribe { log: log() }),
        Op::Read(Read {
            log: log(),
            after: 0,
            limit: 50,
        }),
        Op::CtlFetch(CtlFetch {
            channel: CHANNEL,
            after: 0,
        }),
        Op::IdentAppend(IdentAppend {
            rec: vec![4; 6].into(),
        }),
        Op::IdentFetch(IdentFetch {
            user: USER,
            from: 0,
        }),
        Op::Channels(Nothing {}),
        Op::FindChannel(FindName {
            name: name("general"),
        }),
        Op::FindUser(FindName {
            name: name("alice"),
        }),
        Op::Invite(ShowInvite { invite }),
        Op::Who(Who {
            channel: Some(CHANNEL),
        }),
        Op::KickSession(KickSession {
            channel: CHANNEL,
            path: "bob/desktop/api".parse().unwrap(),
        }),
        Op::EnrolOpen(EnrolOpen {
            key: InviteKey::new([2; 32]),
            sig: Signature::new([9; 64]),
            expires: AT.plus(600_000),
        }),
        Op::Admin(AdminAct {
            rec: vec![4; 6].into(),
        }),
        Op::Users(Nothing {}),
        Op::ServerInvites(Nothing {}),
        Op::Audit(Page {
            after: 0,
            limit: 50,
        }),
        Op::EkPublish(EkPublish {
            rec: vec![4; 6].into(),
        }),
        Op::EkFetch(EkFetch {
            holders: vec![HOLDER],
        }),
        Op::CtlAppend(CtlAppend {
            channel: CHANNEL,
            rec: vec![4; 6].into(),
            wraps: vec![wrap()],
            invite_box: None,
        }),
        Op::WrapPut(WrapPut {
            channel: CHANNEL,
            e: 2,
            wraps: vec![wrap()],
        }),
        Op::WrapFetch(WrapFetch {
            channel: CHANNEL,
            from: 1,
            holder: HOLDER,
            unusable: vec![2],
        }),
        Op::WrapMissing(WrapMissing { channel: CHANNEL }),
        Op::Items(Read {
            log: log(),
            after: 0,
            limit: 50,
        }),
        Op::Cursors(CursorsOf { log: log() }),
        Op::Profile(ProfilePut {
            channel: CHANNEL,
            env: envelope(),
        }),
        Op::Profiles(ProfilesOf {
            channel: CHANNEL,
            after: Some("alice/laptop/api".parse().unwrap()),
        }),
    ]
}

fn replies() -> Vec<Reply> {
    let invite = InviteId::new([5; 16]);
    vec![
        Reply::Done(Nothing {}),
        Reply::Appended(Appended {
            seq: 42,
            at: AT,
            dup: false,
        }),
        Reply::Subscribed(Subscribed {
            head: 42,
            oldest: 1,
        }),
        Reply::Page(EntryPage {
            entries: entries(),
            gap: Some(gap()),
            next: 42,
            head: 42,
        }),
        Reply::Idents(Idents {
            user: USER,
            records: vec![vec![4; 6].into()],
            head: 0,
        }),
        Reply::Channels(Channels {
            channels: vec![channel_info()],
        }),
        Reply::User(user_info()),
        Reply::Invite(InviteInfo {
            channel: Some(channel_info()),
            ctl: entries().into_iter().take(1).collect(),
            invite_box: None,
        }),
        Reply::Sessions(Sessions {
            sessions: vec![SessionInfo {
                path: "alice/laptop/api".parse().unwrap(),
                user_id: USER,
                online: true,
                since: AT,
                agent: "conclave/0.1.0".into(),
            }],
            more: false,
        }),
        Reply::Users(Users {
            users: vec![user_info()],
        }),
        Reply::ServerInvites(ServerInvites {
            invites: vec![ServerInvite {
                invite,
                minter: USER,
                uses_left: 1,
                expires: AT.plus(172_800_000),
            }],
        }),
        Reply::Audit(AuditPage {
            rows: vec![AuditRow {
                n: 1,
                prev: Hash::new([0; 32]),
                entry: "{}".into(),
                hash: Hash::new([8; 32]),
            }],
            head: 1,
            checkpoint: None,
        }),
        Reply::Eks(Eks {
            recs: vec![vec![4; 6].into()],
        }),
        Reply::Wraps(Wraps {
            wraps: vec![EpochWrap {
                e: 2,
                generation: 3,
                sealed: SealedKey::new([9; 80]),
            }],
        }),
        Reply::Missing(Missing {
            e: 2,
            holders: vec![HOLDER],
        }),
        Reply::Cursors(Cursors {
            head: 42,
            oldest: 1,
            readers: vec![Reader {
                path: "alice/laptop/api".parse().unwrap(),
                seq: 42,
            }],
        }),
        Reply::Profiles(Profiles {
            profiles: vec![ProfileOf {
                path: "bob/desktop/api".parse().unwrap(),
                env: envelope(),
            }],
            more: true,
        }),
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::Entries(Entries {
            log: log(),
            entries: entries(),
            gap: None,
        }),
        Event::Presence(Presence {
            channel: CHANNEL,
            user_id: USER,
            path: "alice/laptop/api".parse().unwrap(),
            online: true,
        }),
        Event::Dropped(Dropped {
            log: log(),
            reason: Reject::new(Code::Forbidden, "removed from the channel"),
        }),
        Event::Ident(IdentHead {
            user: USER,
            head: head(),
        }),
        Event::Enrol(Box::new(enrol_request())),
        Event::Standing(Standing { admin: true }),
        Event::Keys(epoch()),
        Event::Wanted(epoch()),
    ]
}

fn server_frames() -> Vec<ServerFrame> {
    let limits = Limits {
        frame_bytes: 262_144,
        requests_in_flight: 64,
        heartbeat_ms: 20_000,
        message_retention_ms: 2_592_000_000,
        whisper_retention_ms: 1_209_600_000,
    };
    vec![
        ServerFrame::Challenge(Challenge {
            version: 2,
            key: ServerKey::new([2; 32]),
            server_id: ServerId::new([2; 32]),
            rotations: Vec::new(),
            origin: "https://chat.example:443".into(),
            nonce: HandshakeNonce::new([5; 32]),
            binding: "tls-exporter".into(),
            sig: Signature::new([9; 64]),
        }),
        ServerFrame::Ready(Box::new(Ready {
            user_id: USER,
            path: "alice/laptop/api".parse().unwrap(),
            session: SessionId::new([4; 16]),
            mailbox: Some(LogId::Mailbox(MailboxId::new([5; 16]))),
            admin: false,
            ident: head(),
            at: AT,
            limits,
            checkpoint: None,
        })),
        ServerFrame::Response(Response {
            id: 7,
            result: Outcome::Err(
                Reject::new(Code::RateLimited, "too many messages").retry_after(250),
            ),
        }),
        ServerFrame::Goodbye(Goodbye {
            reason: Reject::new(Code::Draining, "the server is restarting").retry_after(1200),
        }),
    ]
}

fn examples() -> Vec<Frame> {
    let requests = ops().into_iter().enumerate().map(|(i, op)| {
        ClientFrame::Request(Request {
            id: u64::try_from(i).unwrap() + 1,
            op,
        })
    });
    let responses = replies().into_iter().enumerate().map(|(i, reply)| {
        ServerFrame::Response(Response {
            id: u64::try_from(i).unwrap() + 1,
            result: Outcome::Ok(reply),
        })
    });
    client_frames()
        .into_iter()
        .chain(requests)
        .map(Frame::Client)
        .chain(
            server_frames()
                .into_iter()
                .chain(responses)
                .chain(events().into_iter().map(ServerFrame::Event))
                .map(Frame::Server),
        )
        .collect()
}

fn encode(frame: &Frame, encoding: Encoding) -> Vec<u8> {
    match frame {
        Frame::Client(frame) => encoding.encode(frame, FRAME_BYTES_MAX),
        Frame::Server(frame) => encoding.encode(frame, FRAME_BYTES_MAX),
    }
    .unwrap()
}

fn json(frame: &Frame) -> String {
    String::from_utf8(encode(frame, Encoding::Json)).unwrap()
}

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_bytes_of_every_frame_are_frozen() {
    let mut lines = String::new();
    for frame in examples() {
        let cbor: String = encode(&frame, Encoding::Cbor)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        writeln!(lines, "{}\t{cbor}", json(&frame)).unwrap();
    }
    let path = file("vectors/frames.txt");
    if std::env::var_os("CONCLAVE_BLESS").is_some() {
        std::fs::write(&path, &lines).unwrap();
    }
    let frozen = std::fs::read_to_string(&path).unwrap();
    assert_eq!(frozen, lines, "the bytes of a frame changed");
}

#[test]
fn every_word_has_an_example() {
    let all: String = examples().iter().map(json).collect();
    let words = [
        ClientFrame::WORDS,
        ServerFrame::WORDS,
        Op::WORDS,
        Reply::WORDS,
        Event::WORDS,
        Outcome::WORDS,
        EntryBody::WORDS,
    ];
    for word in words.concat() {
        assert!(
            all.contains(&format!("{{\"{word}\":")),
            "no example of \"{word}\""
        );
    }
}

#[test]
fn examples_read_back_as_themselves_in_both_encodings() {
    for frame in examples() {
        for encoding in Encoding::ALL {
            let bytes = encode(&frame, encoding);
            match &frame {
                Frame::Client(f) => {
                    assert_eq!(
                        &encoding
                            .decode::<ClientFrame>(&bytes, FRAME_BYTES_MAX)
                            .unwrap(),
                        f
                    );
                }
                Frame::Server(f) => {
                    assert_eq!(
                        &encoding
                            .decode::<ServerFrame>(&bytes, FRAME_BYTES_MAX)
                            .unwrap(),
                        f
                    );
                }
            }
        }
    }
}

#[test]
fn the_protocol_document_shows_every_frame_as_it_is() {
    let doc = std::fs::read_to_string(file("../../docs/protocol.md")).unwrap();
    let shown: Vec<&str> = doc
        .split("```json\n")
        .skip(1)
        .filter_map(|block| block.split("\n```").next())
        .flat_map(str::lines)
        .collect();
    let examples: Vec<String> = examples().iter().map(json).collect();
    for example in &examples {
        assert!(
            shown.contains(&example.as_str()),
            "not in docs/protocol.md: {example}"
        );
    }
    for line in shown {
        assert!(
            examples.iter().any(|e| e == line),
            "docs/protocol.md shows another frame: {line}"
        );
    }
}

#[test]
fn the_protocol_document_lists_every_reject_code() {
    let doc = std::fs::read_to_string(file("../../docs/protocol.md")).unwrap();
    for code in Code::ALL {
        let row = format!("| `{code}` | {} |", code.hint());
        assert!(doc.contains(&row), "missing in docs/protocol.md: {row}");
    }
}
