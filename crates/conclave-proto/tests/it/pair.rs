//! A pair of real machines with virtual time, a tiny hub, and a transport that can be cut anywhere.

use conclave_proto::close::Close;
use conclave_proto::codec::Encoding;
use conclave_proto::entry::{Entry, EntryBody, Envelope};
use conclave_proto::frame::event::Entries;
use conclave_proto::frame::op::Append;
use conclave_proto::frame::reply::{Appended, Subscribed};
use conclave_proto::frame::server::{Limits, Outcome, Ready};
use conclave_proto::frame::{Event, Op, Reply, ServerFrame};
use conclave_proto::handshake::{Binding, Mode};
use conclave_proto::id::*;
use conclave_proto::key::{Secret, Signature};
use conclave_proto::limit::*;
use conclave_proto::link::{self, Disconnect, DownReason, Link, LinkConfig, Pin};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::server_connection::{self as server, ConnectionConfig, ServerConnection};
use conclave_proto::time::{Mono, Now, UnixMs};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(crate) const ORIGIN: &str = "https://chat.example:443";
pub(crate) const LOG: LogId = LogId::Channel(ChannelId::new([3; 16]));
pub(crate) const WINDOW: u32 = 4;

pub(crate) fn server_secret() -> Arc<Secret> {
    Arc::new(Secret::from_seed(&[1; 32]))
}

pub(crate) fn machine_secret() -> Arc<Secret> {
    Arc::new(Secret::from_seed(&[2; 32]))
}

pub(crate) fn at(ms: u64) -> Now {
    Now {
        mono: Mono(ms),
        wall: UnixMs(1_700_000_000_000 + ms),
    }
}

pub(crate) fn link_config() -> LinkConfig {
    let key = server_secret().server_key();
    LinkConfig {
        secret: machine_secret(),
        pin: Pin::Known {
            key,
            server_id: key.server_id(),
        },
        handle: "api".parse().unwrap(),
        pinned: false,
        instance: Instance::new([5; 16]),
        agent: "test".to_owned(),
        encoding: Encoding::Cbor,
        mode: Mode::Auth,
        seed: 7,
    }
}

pub(crate) fn server_config() -> ConnectionConfig {
    ConnectionConfig {
        secret: server_secret(),
        server_id: server_secret().server_key().server_id(),
        rotations: Vec::new(),
        origin: ORIGIN.to_owned(),
        binding: Binding::None,
        encoding: Encoding::Cbor,
        nonce: HandshakeNonce::new([9; 32]),
        seed: 8,
    }
}

pub(crate) fn ready() -> Box<Ready> {
    Box::new(Ready {
        user_id: UserId::new([7; 32]),
        path: "alice/laptop/api".parse().unwrap(),
        session: SessionId::new([1; 16]),
        mailbox: None,
        admin: false,
        ident: conclave_proto::body::Head {
            n: 0,
            hash: Hash::new([0; 32]),
        },
        at: UnixMs(0),
        limits: Limits {
            frame_bytes: FRAME_BYTES_MAX as u64,
            requests_in_flight: WINDOW,
            heartbeat_ms: HEARTBEAT_MS,
            message_retention_ms: 0,
            whisper_retention_ms: 0,
        },
        checkpoint: None,
    })
}

/// An append whose header stands for its message id.
pub(crate) fn append(n: u64) -> Op {
    Op::Append(Append {
        log: LOG,
        env: Envelope {
            header: n.to_be_bytes().to_vec().into(),
            nonce: EnvelopeNonce::new([0; 24]),
            ct: vec![1].into(),
            sig: Signature::new([0; 64]),
        },
    })
}

pub(crate) fn entry(seq: u64) -> Entry {
    Entry {
        seq,
        at: UnixMs(seq),
        body: EntryBody::Ctl(vec![1].into()),
    }
}

/// One log with idempotent append, kept across connections.
#[derive(Default)]
pub(crate) struct Hub {
    pub(crate) log: Vec<Entry>,
    following: Option<u64>,
    pub(crate) acked: u64,
    pub(crate) modes: Vec<Mode>,
    /// Verdicts for the next handshakes; then everybody is let in.
    pub(crate) verdicts: VecDeque<Reject>,
}

impl Hub {
    fn answer(&mut self, op: Op) -> Outcome {
        match op {
            Op::Append(Append { env, .. }) => {
                let known = |e: &&Entry| matches!(&e.body, EntryBody::Env(old) if *old == env);
                let (seq, dup) = match self.log.iter().find(known) {
                    Some(old) => (old.seq, true),
                    None => (self.post(EntryBody::Env(env)), false),
                };
                let at = UnixMs(0);
                Outcome::Ok(Reply::Appended(Appended { seq, at, dup }))
            }
            Op::Subscribe(subscribe) => {
                self.following = Some(subscribe.after);
                Outcome::Ok(Reply::Subscribed(Subscribed {
                    head: self.log.len() as u64,
                    oldest: 1,
                }))
            }
            _ => Outcome::Ok(Reply::Done(Default::default())),
        }
    }

    pub(crate) fn post(&mut self, body: EntryBody) -> u64 {
        let seq = self.log.len() as u64 + 1;
        let at = UnixMs(seq);
        self.log.push(Entry { seq, at, body });
        seq
    }

    /// The next page for the follower, which may overlap with what it has.
    fn page(&mut self) -> Option<Event> {
        let after = self.following.filter(|a| *a < self.log.len() as u64)?;
        let from = usize::try_from(after.saturating_sub(1)).unwrap();
        let entries: Vec<_> = self.log.iter().skip(from).take(3).cloned().collect();
        self.following = entries.last().map(|e| e.seq);
        Some(Event::Entries(Entries {
            log: LOG,
            entries,
            gap: None,
        }))
    }
}

enum Wire {
    Frame(Vec<u8>),
    Ping,
    Close(Close),
}

/// Both ends, and everything between and behind them.
pub(crate) struct Pair {
    pub(crate) now: u64,
    pub(crate) link: Link,
    pub(crate) server: Option<ServerConnection>,
    pub(crate) hub: Hub,
    up: VecDeque<Wire>,
    down: VecDeque<Wire>,
    dials: u8,
    encoding: Encoding,
    binding: Binding,
    /// How many wire items still pass before the next cut.
    pub(crate) cuts: VecDeque<usize>,
    /// While true, nothing passes and nothing ends.
    pub(crate) frozen: bool,
    pub(crate) received: Vec<u64>,
    pub(crate) responses: BTreeMap<u64, Vec<Result<Reply, Reject>>>,
    pub(crate) downs: Vec<(u64, DownReason, Option<u64>)>,
    pub(crate) ups: Vec<u64>,
    pub(crate) closes: Vec<Close>,
    pub(crate) pings: [u64; 2],
}

impl Pair {
    pub(crate) fn new(config: LinkConfig) -> Self {
        let encoding = config.encoding;
        Self {
            now: 0,
            link: Link::new(config, at(0)),
            server: None,
            hub: Hub::default(),
            up: VecDeque::new(),
            down: VecDeque::new(),
            dials: 0,
            encoding,
            binding: Binding::None,
            cuts: VecDeque::new(),
            frozen: false,
            received: Vec::new(),
            responses: BTreeMap::new(),
            downs: Vec::new(),
            ups: Vec::new(),
            closes: Vec::new(),
            pings: [0; 2],
        }
    }

    pub(crate) fn give(&mut self, input: link::Input) {
        self.link.handle(at(self.now), input);
    }

    /// Runs both machines for so long, jumping from deadline to deadline.
    pub(crate) fn run_ms(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            self.settle();
            let server = self
                .server
                .as_ref()
                .and_then(ServerConnection::next_timeout);
            let next = self.link.next_timeout().into_iter().chain(server).min();
            match next {
                Some(Mono(next)) if next <= end => self.now = self.now.max(next),
                _ => break,
            }
            let now = at(self.now);
            if self.link.next_timeout().is_some_and(|t| t <= now.mono) {
                self.link.handle(now, link::Input::Timer);
            }
            if let Some(server) = &mut self.server
                && server.next_timeout().is_some_and(|t| t <= now.mono)
            {
                server.handle(now, server::Input::Timer);
            }
        }
        self.now = end;
    }

    fn settle(&mut self) {
        loop {
            self.drain_link();
            self.drain_server();
            if self.frozen || !self.pass() {
                if self.link_idle() {
                    return;
                }
                continue;
            }
        }
    }

    fn link_idle(&mut self) -> bool {
        match self.hub.page() {
            Some(event) if self.server.as_ref().is_some_and(ServerConnection::is_open) => {
                let frame = ServerFrame::Event(event);
                let bytes = self.encoding.encode(&frame, FRAME_BYTES_MAX).unwrap();
                self.down.push_back(Wire::Frame(bytes));
                self.frozen
            }
            _ => true,
        }
    }

    /// Carries one item; false if there is none.
    fn pass(&mut self) -> bool {
        if self.up.is_empty() && self.down.is_empty() {
            return false;
        }
        match self.cuts.front_mut() {
            Some(0) => {
                self.cuts.pop_front();
                self.cut();
                return true;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        let now = at(self.now);
        if let Some(wire) = self.up.pop_front() {
            let server = self.server.as_mut().unwrap();
            match wire {
                Wire::Frame(bytes) => server.handle(now, server::Input::Frame(bytes)),
                Wire::Ping => server.handle(now, server::Input::Alive),
                Wire::Close(_) => {}
            }
        } else if let Some(wire) = self.down.pop_front() {
            match wire {
                Wire::Frame(bytes) => self.link.handle(now, link::Input::Frame(bytes)),
                Wire::Ping => self.link.handle(now, link::Input::Alive),
                Wire::Close(close) => {
                    self.hang_up();
                    let reason = Disconnect::Closed(close);
                    self.give(link::Input::Disconnected { reason });
                }
            }
        }
        true
    }

    fn hang_up(&mut self) {
        self.up.clear();
        self.down.clear();
        self.server = None;
        self.hub.following = None;
    }

    pub(crate) fn cut(&mut self) {
        self.hang_up();
        let reason = Disconnect::Failed("cut".to_owned());
        self.give(link::Input::Disconnected { reason });
    }

    fn drain_link(&mut self) {
        while let Some(output) = self.link.poll_output() {
            match output {
                link::Output::Dial => self.dial(),
                link::Output::Send(bytes) => self.up.push_back(Wire::Frame(bytes)),
                link::Output::Ping => {
                    self.pings[0] += 1;
                    self.up.push_back(Wire::Ping);
                }
                link::Output::HangUp => self.hang_up(),
                link::Output::Up(_) => self.ups.push(self.now),
                link::Output::Down {
                    reason,
                    retry_in_ms,
                } => self.downs.push((self.now, reason, retry_in_ms)),
                link::Output::Response { token, result } => {
                    self.responses.entry(token).or_default().push(result);
                }
                link::Output::Entries { log, entries, .. } => {
                    self.received.extend(entries.iter().map(|e| e.seq));
                    let seq = *self.received.last().unwrap();
                    self.give(link::Input::Stored { log, seq });
                }
                link::Output::FirstContact { .. } | link::Output::Event(_) => {}
            }
        }
    }

    fn dial(&mut self) {
        self.dials = self.dials.wrapping_add(1);
        let config = ConnectionConfig {
            encoding: self.encoding,
            binding: self.binding.clone(),
            nonce: HandshakeNonce::new([self.dials; 32]),
            ..server_config()
        };
        self.server = Some(ServerConnection::new(config, at(self.now)));
        self.give(link::Input::Connected {
            origin: ORIGIN.to_owned(),
            bindings: vec![self.binding.clone()],
            nonce: HandshakeNonce::new([self.dials ^ 0xFF; 32]),
        });
    }

    fn drain_server(&mut self) {
        let now = at(self.now);
        while let Some(server) = &mut self.server
            && let Some(output) = server.poll_output()
        {
            match output {
                server::Output::Send(bytes) => self.down.push_back(Wire::Frame(bytes)),
                server::Output::Ping => {
                    self.pings[1] += 1;
                    self.down.push_back(Wire::Ping);
                }
                server::Output::Enter { mode, .. } => {
                    self.hub.modes.push(mode);
                    let verdict = self
                        .hub
                        .verdicts
                        .pop_front()
                        .map_or_else(|| Ok(ready()), Err);
                    server.handle(now, server::Input::Entered(verdict));
                }
                server::Output::Request { id, op } => {
                    let outcome = self.hub.answer(op);
                    server.handle(now, server::Input::Reply { id, outcome });
                }
                server::Output::Ack(cursors) => {
                    self.hub.acked = cursors.first().map_or(0, |c| c.seq);
                }
                server::Output::Close(close, _) => {
                    self.closes.push(close);
                    self.down.push_back(Wire::Close(close));
                }
            }
        }
    }

    fn follow(&mut self) {
        self.give(link::Input::Follow { log: LOG, after: 0 });
    }

    fn append(&mut self, token: u64) {
        self.give(link::Input::Request {
            token,
            op: append(token),
            deadline: None,
        });
    }

    /// Every entry came once and in order, every append was answered once and stored once.
    #[track_caller]
    fn check(&self, appends: u64) {
        let all: Vec<u64> = (1..=self.hub.log.len() as u64).collect();
        assert_eq!(self.received, all, "each entry once, in order");
        assert_eq!(all.len() as u64, appends, "each append stored once");
        for token in 0..appends {
            let answers = &self.responses[&token];
            assert_eq!(answers.len(), 1, "request {token} is answered once");
            assert!(matches!(answers[0], Ok(Reply::Appended(_))));
        }
        let order = self.hub.log.iter().map(|e| match &e.body {
            EntryBody::Env(env) => u64::from_be_bytes(env.header.as_slice().try_into().unwrap()),
            other => panic!("{other:?}"),
        });
        assert!(order.is_sorted(), "appends of one sender keep their order");
    }
}

#[test]
fn the_handshake_opens_the_session_in_both_encodings_and_with_a_binding() {
    for encoding in Encoding::ALL {
        for binding in [Binding::None, Binding::Exporter([4; 32])] {
            let mut pair = Pair::new(LinkConfig {
                encoding,
                ..link_config()
            });
            pair.binding = binding;
            pair.run_ms(0);
            assert!(pair.link.is_up() && pair.server.as_ref().unwrap().is_open());
            assert_eq!(pair.hub.modes, [Mode::Auth]);
            assert!(pair.downs.is_empty());
        }
    }
}

#[test]
fn a_cut_at_every_frame_loses_and_repeats_nothing() {
    for encoding in Encoding::ALL {
        for cut in 0.. {
            let mut pair = Pair::new(LinkConfig {
                encoding,
                ..link_config()
            });
            pair.cuts.push_back(cut);
            pair.follow();
            for token in 0..10 {
                pair.append(token);
            }
            pair.run_ms(15_000);
            pair.check(10);
            assert_eq!(pair.hub.acked, 10, "the cursor reaches the server");
            if pair.downs.is_empty() {
                assert!(cut > 25, "the session has many frames");
                break;
            }
            assert_eq!(pair.downs.len(), 1);
        }
    }
}

#[test]
fn many_cuts_lose_and_repeat_nothing() {
    for seed in 0..100 {
        let mut jitter = conclave_proto::backoff::Jitter::new(seed);
        let mut pair = Pair::new(link_config());
        pair.follow();
        pair.cuts
            .extend((0..20).map(|_| usize::try_from(jitter.up_to(15)).unwrap()));
        for token in 0..40 {
            pair.append(token);
            let pause = jitter.up_to(3_000);
            pair.run_ms(pause);
        }
        pair.run_ms(1_200_000);
        pair.check(40);
    }
}

#[test]
fn silence_ends_both_sides_and_the_link_comes_back() {
    let mut pair = Pair::new(link_config());
    pair.follow();
    pair.run_ms(0);
    pair.frozen = true;
    pair.run_ms(SILENCE_MS - 1);
    assert!(pair.downs.is_empty(), "not before its time");
    pair.run_ms(1);
    assert_eq!(pair.downs.len(), 1);
    assert_eq!(pair.downs[0].1, DownReason::Silent);
    pair.frozen = false;
    pair.append(0);
    pair.run_ms(BACKOFF_MAX_MS);
    assert_eq!(pair.ups.len(), 2);
    pair.check(1);
}

#[test]
fn heartbeats_keep_an_idle_session_for_an_hour() {
    let mut pair = Pair::new(link_config());
    pair.run_ms(3_600_000);
    assert_eq!(pair.ups.len(), 1);
    assert!(pair.downs.is_empty() && pair.closes.is_empty());
    for pings in pair.pings {
        assert!(
            (163..=200).contains(&pings),
            "20 s, a tenth more or less: {pings}"
        );
    }
}

#[test]
fn a_refused_handshake_ends_the_link_and_answers_what_waits() {
    let mut pair = Pair::new(link_config());
    let reject = Reject::new(Code::HandleTaken, "live already");
    pair.hub.verdicts.push_back(reject.clone());
    pair.append(0);
    pair.run_ms(60_000);
    assert_eq!(pair.downs, [(0, DownReason::Refused(reject), None)]);
    assert_eq!(pair.closes, [Close::Unauthorized]);
    assert!(pair.link.is_ended());
    pair.append(1);
    pair.run_ms(0);
    for token in [0, 1] {
        let answer = pair.responses[&token].as_slice();
        assert!(matches!(
            answer,
            [Err(Reject {
                code: Code::Offline,
                ..
            })]
        ));
    }
}

#[test]
fn the_server_says_when_to_come_back() {
    let mut pair = Pair::new(link_config());
    let reject = Reject::new(Code::Draining, "restarting").retry_after(20_000);
    pair.hub.verdicts.push_back(reject);
    pair.run_ms(19_999);
    assert!(pair.ups.is_empty());
    assert_eq!(pair.closes, [Close::Draining]);
    pair.run_ms(501);
    assert_eq!(pair.ups.len(), 1);
}

#[test]
fn an_act_whose_verdict_was_lost_is_checked_before_it_is_asked_for_again() {
    let register = Mode::Register {
        genesis: vec![1, 2, 3].into(),
    };
    // Items on the wire: hello, challenge, auth, ready. The verdict is cut off.
    for (verdict, modes) in [
        (None, vec![register.clone(), Mode::Auth]),
        (
            Some(Reject::new(Code::UnknownKey, "who?")),
            vec![register.clone(), Mode::Auth, register.clone()],
        ),
    ] {
        let mut pair = Pair::new(LinkConfig {
            mode: register.clone(),
            ..link_config()
        });
        pair.cuts.push_back(3);
        pair.run_ms(0);
        pair.hub.verdicts.extend(verdict);
        pair.run_ms(60_000);
        assert_eq!(pair.hub.modes, modes);
        assert_eq!(pair.ups.len(), 1);
        pair.cut();
        pair.run_ms(60_000);
        assert_eq!(pair.hub.modes.last(), Some(&Mode::Auth), "once is enough");
    }
}
