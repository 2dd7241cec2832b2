//! Which verdicts count: the pure part of the permission desk.

use conclave_bridge::desk::{Call, Desk, Given, NotAsked, OPEN_MAX, OPEN_MS, Refused, Rules};
use conclave_bridge::policy::Policy;
use conclave_bridge::state::HomeId;
use conclave_proto::desk::{Request, Verdict};
use conclave_proto::id::{RequestId, ServerId, UserId};
use conclave_proto::key::Secret;
use conclave_proto::time::{Mono, UnixMs};

const BOB: UserId = UserId::new([2; 32]);

fn call(tool: &str, arguments: &str) -> Call {
    Call {
        tool: tool.into(),
        arguments: arguments.into(),
        whole: true,
        description: String::new(),
    }
}

fn owner() -> Secret {
    Secret::from_seed(&[5; 32])
}

/// A desk with one open call, which was asked about at home.
fn open(now: Mono, call: &Call) -> (Desk, Request) {
    let mut desk = Desk::new(now);
    let key = desk.open(now, call.clone()).unwrap();
    let me = "alice/desk/api".parse().unwrap();
    let request = call.request(RequestId::new([1; 16]), &me, UnixMs(100_000));
    desk.asked(key, HomeId(0), request.clone());
    (desk, request)
}

fn given(verdict: Verdict) -> Given {
    Given {
        home: HomeId(0),
        from: "bob/lap/desk".parse().unwrap(),
        user: BOB,
        at: UnixMs(1_000),
        owners: vec![owner().owner_key()],
        verdict,
    }
}

fn policy() -> Policy {
    let mut policy = Policy::first(ServerId::new([1; 32]), UnixMs(0));
    policy.approvers.insert(BOB);
    policy
}

fn decide(desk: &mut Desk, now: Mono, given: &Given) -> Result<bool, Refused> {
    let policy = policy();
    let rules = Rules {
        policy: &policy,
        prompted: false,
    };
    Ok(desk.decide(now, &rules, given)?.allow)
}

#[test]
fn b8_12_no_session_decides_its_own_call_even_with_an_owner_key() {
    let now = Mono(0);
    let (mut desk, request) = open(now, &call("Bash", "{}"));
    let signed = Verdict::sign(&request, true, &owner());
    let own = Given {
        from: request.session,
        ..given(signed.clone())
    };
    assert_eq!(decide(&mut desk, now, &own), Err(Refused::Own));
    // On another server than it was asked by, it is no request.
    let elsewhere = Given {
        home: HomeId(1),
        ..given(signed.clone())
    };
    assert_eq!(decide(&mut desk, now, &elsewhere), Err(Refused::Unknown));
    assert_eq!(decide(&mut desk, now, &given(signed.clone())), Ok(true));
    assert_eq!(
        decide(&mut desk, now, &given(signed)),
        Err(Refused::Replayed)
    );
}

#[test]
fn b8_12_time_is_over_by_either_clock() {
    let (mut desk, request) = open(Mono(0), &call("Bash", "{}"));
    let signed = Verdict::sign(&request, true, &owner());
    let late = Given {
        at: request.expires,
        ..given(signed.clone())
    };
    assert_eq!(decide(&mut desk, Mono(0), &late), Err(Refused::Late));
    // A server that keeps its clock back gains nothing.
    let early = given(signed);
    assert_eq!(decide(&mut desk, Mono(OPEN_MS), &early), Err(Refused::Late));
    assert_eq!(decide(&mut desk, Mono(OPEN_MS - 1), &early), Ok(true));
}

#[test]
fn a_verdict_is_about_every_byte_of_the_call_though_only_its_start_is_shown() {
    let me = "alice/desk/api".parse().unwrap();
    let (nonce, expires) = (RequestId::new([1; 16]), UnixMs(9));
    let start = "x".repeat(300);
    let one = call("Bash", &format!("{start}1")).request(nonce, &me, expires);
    let two = call("Bash", &format!("{start}2")).request(nonce, &me, expires);
    assert!(one.truncated && one.fits() && one.preview == two.preview);
    assert_ne!(one.digest, two.digest);
}

#[test]
fn few_calls_wait_and_few_are_asked_about_in_a_minute() {
    let mut desk = Desk::new(Mono(0));
    for n in 0..OPEN_MAX {
        desk.open(Mono(0), call("Bash", &n.to_string())).unwrap();
    }
    let more = |desk: &mut Desk, now| desk.open(now, call("Bash", "more"));
    assert_eq!(more(&mut desk, Mono(0)), Err(NotAsked::TooMany));
    (1..=4).for_each(|key| desk.close(key));
    assert!(more(&mut desk, Mono(0)).is_ok() && more(&mut desk, Mono(0)).is_ok());
    assert_eq!(more(&mut desk, Mono(0)), Err(NotAsked::TooOften));
    assert!(more(&mut desk, Mono(6_000)).is_ok());
    assert_eq!(
        desk.open(Mono(6_000), call("", "{}")),
        Err(NotAsked::Unnamed)
    );
}

#[test]
fn two_calls_that_begin_alike_are_never_taken_for_one() {
    let (desk, _) = open(Mono(0), &call("Bash", r#"{"command":"ls; a"}"#));
    assert!(desk.same(&call("Bash", r#"{"command":"ls; a"}"#)).is_some());
    assert!(desk.same(&call("Bash", r#"{"command":"ls; b"}"#)).is_none());
    assert!(desk.same(&call("Read", r#"{"command":"ls; a"}"#)).is_none());
    let cut = Call {
        whole: false,
        ..call("Bash", r#"{"command":"ls…"#)
    };
    assert!(desk.same(&cut).is_none() && desk.covers(&cut).is_some());
}
