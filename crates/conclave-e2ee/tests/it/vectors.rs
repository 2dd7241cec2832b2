//! Everything that is sealed or derived, frozen in `vectors/e2ee.json`.
//!
//! Keys and random bytes are arguments, so that the file is the same in every run; `examples/python`
//! makes and opens each vector with another implementation. To add one, add it here and run with
//! `CONCLAVE_BLESS=1`; what is released never changes.

use crate::kit::{
    CHANNEL, bundle, channel_key, channel_routes, encryption, header, hex, key_of, secret,
};
use crate::published::k;
use conclave_e2ee::encryption_secret::key_id;
use conclave_e2ee::invite_box::{self, BoxedKey, InviteBox};
use conclave_e2ee::pad::pad;
use conclave_e2ee::{ChannelKey, EncryptionSecret, IndexKey, number, whisper, wrap};
use conclave_proto::body::Head;
use conclave_proto::bytes::sha256;
use conclave_proto::codec::to_cbor;
use conclave_proto::encryption_key::Announcement;
use conclave_proto::entry::{Envelope, Header, Kind, Route};
use conclave_proto::id::{ChannelId, Hash, ServerId, UserId};
use conclave_proto::invite::LinkSecret;
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;
use serde_json::{Value, json};

const SERVER: ServerId = ServerId::new([42; 32]);

/// Bytes that are all different: what is taken from the wrong place shows.
fn bytes<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first.wrapping_add(u8::try_from(i).unwrap()))
}

fn keys(key: &ChannelKey) -> Value {
    let labels = [
        "msg", "state", "memory", "profile", "bundle", "prev", "commit",
    ];
    let derived = labels.map(|label| {
        (
            label.to_owned(),
            json!(hex(&k(key.bytes(), key.place(), label))),
        )
    });
    json!({
        "channel": hex(CHANNEL.as_bytes()), "e": key.place().e, "key": hex(key.bytes()),
        "derived": Value::Object(derived.into_iter().collect()),
    })
}

fn kind(header: &Header) -> u8 {
    match header.route.kind() {
        Kind::Message => 1,
        Kind::Whisper => 2,
        Kind::State => 3,
        Kind::Memory => 4,
        Kind::Receipt => 5,
        Kind::Profile => 6,
    }
}

fn parts(header: &Header, env: &Envelope) -> Value {
    let route = match &header.route {
        Route::Everyone | Route::Profile => Vec::new(),
        Route::Whisper(path) | Route::Receipt(path) => path.to_string().into_bytes(),
        Route::State(slot, version) => [&slot.as_bytes()[..], &version.to_be_bytes()].concat(),
        Route::Memory(item, op) => [&item.as_bytes()[..], &[*op]].concat(),
    };
    json!({
        "kind": kind(header), "scope": hex(header.channel.as_bytes()), "epoch": header.epoch,
        "sender": header.sender.to_string(), "sid": hex(header.sid.as_bytes()), "ctr": header.ctr,
        "msg_id": hex(header.msg_id.as_bytes()), "ts": header.ts.0, "route": hex(&route),
        "rkid": hex(header.recipient_key.as_bytes()), "hop": header.hop, "flags": header.flags,
        "header": hex(&env.header), "nonce": hex(env.nonce.as_bytes()), "ct": hex(&env.ct),
        "sig": hex(env.sig.as_bytes()), "hash": hex(env.hash().as_bytes()),
    })
}

fn with(mut value: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    value.as_object_mut().unwrap().extend(more);
    value
}

fn envelopes() -> Vec<Value> {
    let sealed = |(header, nonce): (Header, [u8; 24])| {
        let body = b"hello";
        let env = channel_key()
            .seal(&header, body, nonce, &secret(1))
            .unwrap();
        let key = hex(channel_key().bytes());
        with(
            parts(&header, &env),
            json!({ "key": key, "signer_seed": hex(&[1; 32]), "body": hex(body) }),
        )
    };
    let published = (header(Route::Everyone), [6; 24]);
    let others = channel_routes().map(|route| {
        let header = Header {
            hop: 3,
            flags: 2,
            ctr: 258,
            ..header(route)
        };
        (header, bytes(100))
    });
    [vec![published], others.to_vec()]
        .concat()
        .into_iter()
        .map(sealed)
        .collect()
}

fn whispers() -> Vec<Value> {
    let to = encryption(21).public();
    let mut scope = [0; 16];
    scope.copy_from_slice(&SERVER.as_bytes()[..16]);
    let path = || "bob/desk/web".parse().unwrap();
    [Route::Whisper(path()), Route::Receipt(path())]
        .map(|route| {
            let header = Header {
                channel: ChannelId::new(scope),
                epoch: 0,
                recipient_key: key_id(&to),
                ..header(route)
            };
            let body = b"between us";
            let env = whisper::seal(&header, body, &to, bytes(13), &secret(1)).unwrap();
            let keys = json!({
                "encryption_seed": hex(&[21; 32]), "encryption_key": hex(to.as_bytes()),
                "ephemeral": hex(&bytes::<32>(13)), "signer_seed": hex(&[1; 32]), "body": hex(body),
            });
            with(parts(&header, &env), keys)
        })
        .to_vec()
}

fn wraps() -> Vec<Value> {
    let key = channel_key();
    let owner = secret(31);
    let machine = (secret(11).machine_key().into(), 3, encryption(21));
    let owner = (
        owner.owner_key().into(),
        0,
        EncryptionSecret::of_owner(&owner),
    );
    [machine, owner]
        .map(|(to, generation, with)| {
            let wrap = wrap::seal(&key, to, generation, &with.public(), bytes(13)).unwrap();
            json!({
                "channel": hex(CHANNEL.as_bytes()), "e": key.place().e, "key": hex(key.bytes()),
                "commit": hex(key.commit().as_bytes()), "to": hex(wrap.to.as_bytes()),
                "gen": wrap.generation, "encryption_seed": hex(&*with.seed()),
                "encryption_key": hex(with.public().as_bytes()),
                "ephemeral": hex(&bytes::<32>(13)), "sealed": hex(wrap.sealed.as_bytes()),
            })
        })
        .to_vec()
}

fn boxes() -> Vec<Value> {
    let (older, newer) = (key_of(1, 2), key_of(2, 9));
    let nonce = bytes(100);
    let entry = |what: &str, plain: &[u8], sealed: &[u8]| {
        json!({
            "box": what, "channel": hex(CHANNEL.as_bytes()), "e": newer.place().e,
            "key": hex(newer.bytes()), "nonce": hex(&nonce), "plain": hex(plain), "sealed": hex(sealed),
        })
    };
    let plain = to_cbor(&bundle()).unwrap();
    let facts = json!({
        "index_key": hex(bundle().index_key.as_bytes()), "name": bundle().name, "topic": bundle().topic,
    });
    let prev = newer.seal_previous(&older, nonce);
    let in_epoch = newer.seal_bundle(&bundle(), nonce);
    let in_meta = newer.seal_name(&bundle(), nonce);
    vec![
        entry("prev", older.bytes(), &prev),
        with(
            entry("bundle", &plain, &in_epoch),
            json!({ "facts": facts }),
        ),
        with(entry("name", &plain, &in_meta), json!({ "facts": facts })),
    ]
}

fn invites() -> Vec<Value> {
    let full = InviteBox {
        genesis: Hash::new(bytes(52)),
        name: bundle().name,
        topic: bundle().topic,
        index_key: Some(bundle().index_key),
        key: Some(BoxedKey::new(&channel_key())),
    };
    let signed = InviteBox {
        index_key: None,
        key: None,
        topic: None,
        ..full.clone()
    };
    [full, signed]
        .map(|content| {
            let link = LinkSecret::new(bytes(51));
            let id = link.signing_key().invite_key().invite_id();
            let sealed = invite_box::seal(&content, &link, &CHANNEL, &id, bytes(100));
            let mut facts = json!({ "genesis": hex(content.genesis.as_bytes()), "name": content.name });
            if let Some(key) = &content.index_key {
                facts["index_key"] = json!(hex(key.as_bytes()));
                facts["topic"] = json!(content.topic);
                facts["key"] = json!({ "e": 1, "key": hex(channel_key().bytes()) });
            }
            json!({
                "channel": hex(CHANNEL.as_bytes()), "invite": hex(id.as_bytes()), "secret": hex(link.as_bytes()),
                "nonce": hex(&bytes::<24>(100)), "plain": hex(&to_cbor(&content).unwrap()),
                "facts": facts, "sealed": hex(&sealed),
            })
        })
        .to_vec()
}

fn owners() -> Vec<Value> {
    let owner = secret(31);
    let derived = EncryptionSecret::of_owner(&owner);
    vec![json!({
        "owner_seed": hex(&*owner.seed()), "owner_key": hex(owner.owner_key().as_bytes()),
        "encryption_seed": hex(&*derived.seed()), "encryption_key": hex(derived.public().as_bytes()),
        "rkid": hex(derived.id().as_bytes()),
    })]
}

fn slots() -> Vec<Value> {
    let slot = |key: &IndexKey, name: &str| json!({ "index_key": hex(key.as_bytes()), "name": name, "slot": hex(key.slot(name).as_bytes()) });
    let public = IndexKey::public(&CHANNEL);
    let channel = json!({ "public": hex(CHANNEL.as_bytes()) });
    vec![
        slot(&bundle().index_key, "claims/api"),
        with(slot(&public, "claims/api"), channel),
    ]
}

fn numbers() -> Vec<Value> {
    let (a, b) = (UserId::new(bytes(7)), UserId::new(bytes(77)));
    let head = Head {
        n: 4,
        hash: Hash::new(bytes(5)),
    };
    vec![json!({
        "server": hex(SERVER.as_bytes()), "users": [hex(a.as_bytes()), hex(b.as_bytes())],
        "fingerprints": [number::fingerprint(&SERVER, &a), number::fingerprint(&SERVER, &b)],
        "safety_number": number::safety_number(&SERVER, &a, &b),
        "channel": hex(CHANNEL.as_bytes()), "n": head.n, "hash": hex(head.hash.as_bytes()),
        "authenticator": number::authenticator(&CHANNEL, &head),
    })]
}

fn announcements() -> Vec<Value> {
    let entry = |holder: &str, rec: &Record| {
        let read = Announcement::read(rec.bytes()).unwrap();
        json!({
            "holder": holder, "server": hex(read.server.as_bytes()), "gen": read.generation,
            "key": hex(read.key.as_bytes()), "not_after": read.not_after.0, "record": hex(rec.bytes()),
        })
    };
    let not_after = UnixMs(1_702_000_000_000);
    let machine =
        Announcement::sign_machine(SERVER, &secret(11), 3, encryption(21).public(), not_after);
    let key = EncryptionSecret::of_owner(&secret(31)).public();
    let owner = Announcement::sign_owner(SERVER, &secret(31), key);
    vec![
        with(
            entry("machine", &machine),
            json!({ "seed": hex(&[11; 32]) }),
        ),
        with(entry("owner", &owner), json!({ "seed": hex(&[31; 32]) })),
    ]
}

fn padding() -> Vec<Value> {
    let lengths = [
        0, 1, 252, 253, 508, 509, 1020, 1021, 2044, 2045, 4092, 4093, 8188, 8189, 69_628,
    ];
    let sample = |len| {
        let padded = pad(&vec![7; len]);
        json!({ "length": len, "padded": padded.len(), "sha256": hex(sha256(&padded).as_bytes()) })
    };
    lengths.map(sample).to_vec()
}

#[test]
fn everything_that_is_sealed_or_derived_is_frozen() {
    let made = json!({
        "keys": [keys(&channel_key()), keys(&key_of(2, 9))],
        "envelopes": envelopes(), "whispers": whispers(), "wraps": wraps(), "boxes": boxes(),
        "invite_boxes": invites(), "owner_keys": owners(), "slots": slots(), "numbers": numbers(),
        "announcements": announcements(), "padding": padding(),
    });
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/e2ee.json");
    if std::env::var_os("CONCLAVE_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
    }
    let frozen: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(frozen, made, "the bytes of something sealed changed");
}
