//! Requests, verdicts and releases: the bytes that are hashed and signed, frozen in `vectors/desk.json`.
//!
//! Keys are Ed25519 seeds of 32 equal bytes. The messages are put together here by hand, not by what is tested.
//! To add a case, add it here and run with `CONCLAVE_BLESS=1`; what is released never changes.

use crate::people::{TS, bit_flips, hex, secret};
use conclave_proto::desk::{Request, Signed, Verdict, digest, release, verify_release};
use conclave_proto::id::{Blob, Hash, RequestId};
use conclave_proto::key::{OwnerKey, Signature};
use conclave_proto::name::SessionPath;
use conclave_proto::time::UnixMs;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const OWNER: u8 = 10;
const NONCE: RequestId = RequestId::new([6; 16]);
const HELD: Hash = Hash::new([7; 32]);

/// A call: the tool, its arguments and its description.
const CALLS: [(&str, &str, &str); 3] = [
    ("Bash", r#"{"command":"ls"}"#, "List files"),
    ("Write", r#"{"file_path":"/srv/ü"}"#, ""),
    // The same bytes as the first, cut elsewhere.
    ("Bash{", r#""command":"ls"}"#, "List files"),
];

fn session() -> SessionPath {
    "alice/laptop/api".parse().unwrap()
}

fn lp(fields: &[&str]) -> Vec<u8> {
    let field = |text: &&str| {
        let len = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&len[..], text.as_bytes()].concat()
    };
    fields.iter().flat_map(field).collect()
}

fn request((tool, arguments, description): (&str, &str, &str)) -> Request {
    Request {
        nonce: NONCE,
        session: session(),
        tool: tool.to_owned(),
        description: description.to_owned(),
        preview: arguments.to_owned(),
        truncated: false,
        digest: digest(tool, arguments, description, &session(), &NONCE),
        expires: TS,
    }
}

fn asked(call: (&str, &str, &str)) -> Value {
    let (tool, arguments, description) = call;
    let label = "conclave/v1/perm-request";
    let fields = [label, tool, arguments, description, "alice/laptop/api"];
    let hashed = [&lp(&fields)[..], NONCE.as_bytes()].concat();
    let request = request(call);
    assert_eq!(
        request.digest.as_bytes()[..],
        Sha256::digest(&hashed)[..],
        "{call:?}"
    );
    assert!(request.fits() && request.is_shown());
    json!({
        "tool": tool, "arguments": arguments, "description": description, "session": session(),
        "nonce": hex(NONCE.as_bytes()), "hashed": hex(&hashed), "digest": hex(request.digest.as_bytes()),
    })
}

fn decided(allow: bool) -> Value {
    let request = request(CALLS[0]);
    let verdict = Verdict::sign(&request, allow, &secret(OWNER));
    assert_eq!(verdict.verify(), Ok(&secret(OWNER).owner_key()));
    let message = [
        &lp(&["conclave/v1/perm"])[..],
        NONCE.as_bytes(),
        request.digest.as_bytes(),
        &[u8::from(allow)],
        &TS.0.to_be_bytes(),
    ];
    signed(&verdict.owner.unwrap(), &message.concat(), allow)
}

fn released() -> Value {
    let signed_ = release(&HELD, &secret(OWNER));
    assert_eq!(verify_release(&HELD, &signed_), Ok(()));
    let message = [&lp(&["conclave/v1/hold"])[..], HELD.as_bytes()].concat();
    signed(&signed_, &message, true)
}

/// What was signed, checked with the plain algorithm.
fn signed(signed: &Signed, message: &[u8], allow: bool) -> Value {
    let key = ed25519_dalek::VerifyingKey::from_bytes(signed.key.as_bytes()).unwrap();
    let sig = ed25519_dalek::Signature::from_bytes(signed.sig.as_bytes());
    key.verify_strict(message, &sig).unwrap();
    json!({
        "signer_seed": hex(&[OWNER; 32]), "allow": allow, "message": hex(message),
        "key": hex(signed.key.as_bytes()), "sig": hex(signed.sig.as_bytes()),
    })
}

#[test]
fn the_bytes_of_requests_verdicts_and_releases_are_frozen() {
    let made = json!({
        "requests": CALLS.map(asked),
        "verdicts": ([true, false].map(decided)),
        "release": released(),
    });
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/desk.json");
    if std::env::var_os("CONCLAVE_BLESS").is_some() {
        let text = serde_json::to_string_pretty(&made).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
    }
    let frozen: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(frozen, made, "what is signed at the desk changed");
}

#[test]
fn a_call_that_differs_anywhere_has_another_digest() {
    let (tool, arguments, description) = CALLS[0];
    let of = |t, a, d| digest(t, a, d, &session(), &NONCE);
    let mut all = vec![
        of(tool, arguments, description),
        of("Write", arguments, description),
        of(tool, "{}", description),
        of(tool, arguments, ""),
        // The same bytes in all, cut elsewhere.
        of("Bas", &format!("h{arguments}"), description),
        of(tool, &format!("{arguments}L"), "ist files"),
    ];
    let other: SessionPath = "alice/laptop/web".parse().unwrap();
    all.push(digest(tool, arguments, description, &other, &NONCE));
    for flipped in bit_flips(&NONCE.as_bytes().to_vec().into()) {
        let nonce = RequestId::new(flipped[..].try_into().unwrap());
        all.push(digest(tool, arguments, description, &session(), &nonce));
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

/// Reads what was written one after the other.
fn part<const N: usize>(bytes: &Blob, at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

fn signed_at(bytes: &Blob, at: usize) -> Signed {
    Signed {
        key: OwnerKey::new(part(bytes, at)),
        sig: Signature::new(part(bytes, at + 32)),
    }
}

#[test]
fn every_flipped_bit_of_a_verdict_is_refused() {
    for allow in [true, false] {
        let real = Verdict::sign(&request(CALLS[0]), allow, &secret(OWNER));
        let owner = real.owner.unwrap();
        let bytes: Blob = [
            &real.nonce.as_bytes()[..],
            real.digest.as_bytes(),
            &real.expires.0.to_be_bytes(),
            owner.key.as_bytes(),
            owner.sig.as_bytes(),
        ]
        .concat()
        .into();
        let read = |bytes: &Blob| Verdict {
            nonce: RequestId::new(part(bytes, 0)),
            digest: Hash::new(part(bytes, 16)),
            allow,
            expires: UnixMs(u64::from_be_bytes(part(bytes, 48))),
            owner: Some(signed_at(bytes, 56)),
        };
        assert_eq!(read(&bytes), real);
        assert!(read(&bytes).verify().is_ok());
        for flipped in bit_flips(&bytes) {
            assert!(read(&flipped).verify().is_err(), "{:?}", read(&flipped));
        }
        let turned = Verdict {
            allow: !allow,
            ..real
        };
        assert!(turned.verify().is_err());
    }
}

#[test]
fn every_flipped_bit_of_a_release_is_refused() {
    let real = release(&HELD, &secret(OWNER));
    let parts = [
        &HELD.as_bytes()[..],
        real.key.as_bytes(),
        real.sig.as_bytes(),
    ];
    let bytes: Blob = parts.concat().into();
    let check = |bytes: &Blob| verify_release(&Hash::new(part(bytes, 0)), &signed_at(bytes, 32));
    assert!(check(&bytes).is_ok());
    for flipped in bit_flips(&bytes) {
        assert!(check(&flipped).is_err(), "{}", hex(&flipped));
    }
}

#[test]
fn a_verdict_is_no_release_and_none_is_unsigned() {
    let asked = request(CALLS[0]);
    let verdict = Verdict::sign(&asked, true, &secret(OWNER));
    assert!(verify_release(&asked.digest, &verdict.owner.unwrap()).is_err());
    let owner = Some(release(&asked.digest, &secret(OWNER)));
    let unsigned = Verdict::of(&asked, true);
    assert!(unsigned.verify().is_err());
    assert!(Verdict { owner, ..unsigned }.verify().is_err());
}
