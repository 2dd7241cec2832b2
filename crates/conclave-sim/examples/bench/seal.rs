//! Sealing and opening of one message or whisper, against the bare primitives.

use crate::bare::{self, Bare, Sealed, median, seconds, verdict};
use crate::say;
use conclave_client::book::keys::KeyRing;
use conclave_client::book::opened::{Content, Opened};
use conclave_e2ee::encryption_secret::key_id;
use conclave_e2ee::{ChannelKey, EncryptionSecret, Place, whisper};
use conclave_proto::body::Body;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::id::{Blob, ChannelId, MsgId, RecipientKeyId, SenderSid};
use conclave_proto::key::Secret;
use conclave_proto::time::UnixMs;
use std::hint::black_box;

/// Rounds; ours and bare take turns, and the middle ratio counts.
const ROUNDS: usize = 401;
/// Operations of one round: so few that most rounds are over before another process has its turn.
const EACH: usize = 20;
/// [`EACH`], to divide by.
const OPS: f64 = 20.0;
const TARGET: f64 = 1.5;
const CHANNEL: ChannelId = ChannelId::new([7; 16]);

struct Stage {
    signer: Secret,
    bare: Bare,
    key: ChannelKey,
    own: EncryptionSecret,
    body: Blob,
}

impl Stage {
    /// A stage whose bodies have so many bytes.
    fn new(bytes: usize) -> Self {
        let frame = body("").len() + 2;
        Self {
            signer: Secret::from_seed(&[3; 32]),
            bare: Bare::new(&[3; 32]),
            key: ChannelKey::new(
                Place {
                    channel: CHANNEL,
                    e: 1,
                },
                &[4; 32],
            ),
            own: EncryptionSecret::from_seed(&[5; 32]),
            body: body(&"x".repeat(bytes - frame)),
        }
    }

    fn header(&self, route: Route, epoch: u32, recipient_key: RecipientKeyId) -> Header {
        Header {
            suite: Suite::One,
            channel: CHANNEL,
            epoch,
            sender: "bench/box/api".parse().expect("a path"),
            sender_key: self.signer.machine_key(),
            sid: SenderSid::new([1; 8]),
            ctr: 1,
            msg_id: MsgId::new([2; 16]),
            ts: UnixMs(1),
            route,
            recipient_key,
            hop: 0,
            flags: 0,
        }
    }

    fn message(&self) -> Header {
        self.header(Route::Everyone, 1, RecipientKeyId::new([0; 8]))
    }

    fn whisper(&self) -> Header {
        let to = "bench/box/web".parse().expect("a path");
        self.header(Route::Whisper(to), 0, self.own.id())
    }
}

fn body(text: &str) -> Blob {
    Body::text(text).to_bytes().expect("a small body")
}

fn nonce(n: usize) -> [u8; 24] {
    let mut nonce = [9; 24];
    nonce[..8].copy_from_slice(&n.to_be_bytes());
    nonce
}

fn ephemeral(n: usize) -> [u8; 32] {
    let mut drawn = [9; 32];
    drawn[..8].copy_from_slice(&n.to_be_bytes());
    drawn
}

/// Ours and bare by turns: microseconds of each, and the middle of the ratios.
fn race(ours: impl Fn(usize), bare: impl Fn(usize)) -> (f64, f64, f64) {
    let (mut took, mut floor, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let range = round * EACH..(round + 1) * EACH;
        let a = seconds(|| range.clone().for_each(&ours));
        let b = seconds(|| range.for_each(&bare));
        took.push(a * 1e6 / OPS);
        floor.push(b * 1e6 / OPS);
        ratios.push(a / b);
    }
    (median(took), median(floor), median(ratios))
}

fn tell(what: &str, (ours, bare, ratio): (f64, f64, f64), beside: &str) {
    let verdict = verdict(ratio, TARGET);
    say(&format!(
        "{what}: {ours:.1} us; {beside}: {bare:.1} us; {verdict}"
    ));
}

/// Part `seal`.
pub(crate) fn figures() {
    // Bodies of 1,024 bytes need four more for their length, and so the next step of the padding.
    for bytes in [1000, 1024] {
        messages(&Stage::new(bytes));
    }
    whispers(&Stage::new(1000));
}

fn messages(stage: &Stage) {
    let Stage {
        signer,
        bare,
        key,
        body,
        ..
    } = stage;
    let (header, len) = (stage.message(), body.len());
    let aad = header.to_bytes();
    let ours = |n| {
        black_box(key.seal(&header, body, nonce(n), signer).expect("it fits"));
    };
    let floor = |n| {
        black_box(bare.seal(&aad, body, nonce(n)));
    };
    let name = format!("seal a message of {len} B");
    tell(
        &name,
        race(ours, floor),
        "XChaCha20-Poly1305 + SHA-256 + Ed25519",
    );

    let mut ring = KeyRing::default();
    ring.add_channel(key.clone());
    let envs: Vec<Envelope> = (0..EACH)
        .map(|n| key.seal(&header, body, nonce(n), signer).expect("it fits"))
        .collect();
    let sealed: Vec<Sealed> = (0..EACH).map(|n| bare.seal(&aad, body, nonce(n))).collect();
    let parts = |n: usize| {
        let parsed = envs[n % EACH].clone().parse().expect("well-formed");
        parsed.check().expect("signed");
        black_box(key.open(&parsed).expect("sealed"));
    };
    let whole = |n: usize| open(&envs[n % EACH], &ring);
    let floor = |n: usize| {
        black_box(bare.open(&aad, &sealed[n % EACH]));
    };
    let beside = "verify_strict + SHA-256 + XChaCha20-Poly1305";
    let name = format!("parse, verify and open it ({len} B)");
    tell(&name, race(parts, floor), beside);
    let name = format!("the same with its hash and its body read, as clients do ({len} B)");
    tell(&name, race(whole, floor), beside);
}

fn open(env: &Envelope, ring: &KeyRing) {
    let opened = Opened::new(env, ring);
    assert!(matches!(opened.content, Content::Body(_)), "it opens");
    black_box(opened);
}

fn whispers(stage: &Stage) {
    let Stage {
        signer,
        bare,
        own,
        body,
        ..
    } = stage;
    let (header, len, to) = (stage.whisper(), body.len(), own.public());
    let (aad, secret) = (header.to_bytes(), own.seed());
    assert_eq!(
        header.recipient_key,
        key_id(&to),
        "a whisper names the key it is sealed to"
    );
    let seal = |n| whisper::seal(&header, body, &to, ephemeral(n), signer).expect("it fits");
    let ours = |n| {
        black_box(seal(n));
    };
    let name = format!("seal a whisper of {len} B");
    let alone = |_| {
        black_box(bare::hpke_seal(&to, &aad, body));
    };
    tell(&name, race(ours, alone), "HPKE alone, unsigned");
    let signed = |_| {
        black_box(bare.whisper(&to, &aad, body));
    };
    tell(&name, race(ours, signed), "HPKE + SHA-256 + Ed25519");

    let envs: Vec<Envelope> = (0..EACH).map(seal).collect();
    let sealed: Vec<_> = (0..EACH)
        .map(|_| bare::hpke_seal(&to, &aad, body))
        .collect();
    let signed = bare.whisper(&to, &aad, body);
    let parts = |n: usize| {
        let parsed = envs[n % EACH].clone().parse().expect("well-formed");
        parsed.check().expect("signed");
        black_box(whisper::open(&parsed, own).expect("sealed"));
    };
    let alone = |n: usize| {
        black_box(bare::hpke_open(&secret, &aad, &sealed[n % EACH]));
    };
    let checked = |n: usize| {
        bare.check(&aad, &signed);
        alone(n);
    };
    let name = format!("parse, verify and open it ({len} B)");
    tell(&name, race(parts, alone), "HPKE alone, unsigned");
    tell(
        &name,
        race(parts, checked),
        "verify_strict + SHA-256 + HPKE",
    );
    for generations in [1, 4] {
        let mut ring = KeyRing::default();
        let old = |n| {
            (
                n,
                EncryptionSecret::from_seed(&[u8::try_from(100 + n).unwrap_or(0); 32]),
            )
        };
        let mut keys: Vec<_> = (0..generations - 1).map(old).collect();
        keys.push((generations - 1, own.clone()));
        ring.set_own(keys);
        let whole = |n: usize| open(&envs[n % EACH], &ring);
        let name = format!("the same as clients do, {generations} keys of its own kept ({len} B)");
        tell(
            &name,
            race(whole, checked),
            "verify_strict + SHA-256 + HPKE",
        );
    }
}
