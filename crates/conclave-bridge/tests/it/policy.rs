//! Levels, trust tiers and the loop guard, as tables.

use conclave_bridge::guard::{Guard, Outgoing, cost};
use conclave_bridge::policy::{BadPolicy, Grant, Level, Levels, Lowered, Policy, Scope};
use conclave_bridge::trust::{ACT_AGE_MS_MAX, HOP_MAX, Sender, Tier, assess};
use conclave_proto::body::Priority;
use conclave_proto::id::{Blob, ChannelId, MsgId, ServerId, UserId};
use conclave_proto::key::Secret;
use conclave_proto::reject::Code;
use conclave_proto::time::{Mono, UnixMs};

const SERVER: ServerId = ServerId::new([1; 32]);
const OPS: Scope = Scope::Channel(ChannelId::new([2; 16]));
const BOB: UserId = UserId::new([3; 32]);

fn acting() -> Policy {
    let mut policy = Policy::first(SERVER, UnixMs(5));
    policy.levels.insert(OPS, Level::Act);
    policy.act.insert(Grant {
        user: BOB,
        scope: OPS,
    });
    policy.verified.insert(BOB);
    policy
}

fn bob() -> Sender {
    Sender {
        user: BOB,
        own: false,
        key_changed: false,
        member_ms: None,
        vouched: false,
    }
}

#[test]
fn a_signed_policy_reads_back_and_nobody_elses_does() {
    let (owner, other) = (Secret::from_seed(&[1; 32]), Secret::from_seed(&[2; 32]));
    let policy = acting();
    let file = policy.sign(&owner).unwrap().bytes().clone();
    let keys = [owner.owner_key()];
    assert_eq!(Policy::open(&file, &SERVER, &keys), Ok(policy));
    let open_by = |file: &Blob, key: &Secret| Policy::open(file, &SERVER, &[key.owner_key()]);
    assert_eq!(open_by(&file, &other), Err(BadPolicy::Unsigned));
    assert_eq!(
        Policy::open(&file, &ServerId::new([9; 32]), &keys),
        Err(BadPolicy::OtherServer)
    );
    let mut bent = file.to_vec();
    bent[20] ^= 1;
    assert!(Policy::open(&bent.into(), &SERVER, &keys).is_err());
    assert_eq!(
        Policy::open(&Blob::default(), &SERVER, &keys),
        Err(BadPolicy::Malformed)
    );
}

#[test]
fn without_a_policy_every_level_is_notify() {
    let levels = Levels::new(Policy::absent(SERVER, UnixMs(0)), Lowered::default());
    for scope in [Scope::Default, Scope::Whisper, OPS] {
        assert_eq!(levels.level(scope), Level::Notify);
    }
}

#[test]
fn s4_set_perm_can_only_lower() {
    let mut levels = Levels::new(acting(), Lowered::default());
    for from in [Level::Act, Level::Converse, Level::Notify, Level::Mute] {
        levels.lower(OPS, from).unwrap();
        assert_eq!(levels.level(OPS), from);
        for to in Level::ALL.into_iter().filter(|to| *to > from) {
            assert_eq!(levels.lower(OPS, to).unwrap_err().now, from);
            assert_eq!(levels.level(OPS), from);
        }
    }
}

#[test]
fn lowering_the_default_lowers_every_scope_and_survives_the_file() {
    let mut levels = Levels::new(acting(), Lowered::default());
    levels.lower(Scope::Default, Level::Notify).unwrap();
    assert_eq!(levels.level(OPS), Level::Notify);
    assert!(levels.lower(OPS, Level::Act).is_err());
    let kept = Lowered::parse(&levels.lowered().to_text());
    assert_eq!(&kept, levels.lowered());
    assert_eq!(Lowered::parse("nonsense\ndefault up\n"), Lowered::default());
}

#[test]
fn b8_09_a_message_that_asks_for_more_changes_nothing() {
    let levels = Levels::new(Policy::first(SERVER, UnixMs(0)), Lowered::default());
    let before = levels.clone();
    let (_, level) = assess(&levels, OPS, &bob(), 0, 0);
    assert_eq!((level, levels), (Level::Converse, before));
}

#[test]
fn tiers_cap_what_a_frame_permits() {
    let levels = Levels::new(acting(), Lowered::default());
    let stranger = Sender {
        user: UserId::new([8; 32]),
        ..bob()
    };
    let table = [
        (bob(), 0, 0, Tier::T1, Level::Act),
        (bob(), ACT_AGE_MS_MAX, 0, Tier::T1, Level::Act),
        (bob(), ACT_AGE_MS_MAX + 1, 0, Tier::T1, Level::Converse),
        (bob(), 0, HOP_MAX - 1, Tier::T1, Level::Act),
        (bob(), 0, HOP_MAX, Tier::T1, Level::Notify),
        (
            Sender {
                key_changed: true,
                ..bob()
            },
            0,
            0,
            Tier::T3,
            Level::Notify,
        ),
        (stranger, 0, 0, Tier::T2, Level::Converse),
        (
            Sender {
                own: true,
                ..stranger
            },
            0,
            0,
            Tier::T0,
            Level::Converse,
        ),
        (Sender { own: true, ..bob() }, 0, 0, Tier::T0, Level::Act),
        (
            Sender {
                member_ms: Some(1),
                ..stranger
            },
            0,
            0,
            Tier::T3,
            Level::Notify,
        ),
        (
            Sender {
                member_ms: Some(1),
                vouched: true,
                ..stranger
            },
            0,
            0,
            Tier::T2,
            Level::Converse,
        ),
        (
            Sender {
                member_ms: Some(86_400_000),
                ..stranger
            },
            0,
            0,
            Tier::T2,
            Level::Converse,
        ),
    ];
    for (sender, age, hop, tier, level) in table {
        assert_eq!(
            assess(&levels, OPS, &sender, age, hop),
            (tier, level),
            "{sender:?} {age} {hop}"
        );
    }
}

#[test]
fn a_grant_of_one_channel_says_nothing_of_another() {
    let mut policy = acting();
    policy.levels.insert(Scope::Whisper, Level::Act);
    let levels = Levels::new(policy, Lowered::default());
    assert_eq!(
        assess(&levels, Scope::Whisper, &bob(), 0, 0).1,
        Level::Converse
    );
}

fn out(text: &str) -> Outgoing<'_> {
    Outgoing {
        hop: 0,
        root: None,
        whispers: &[],
        units: 1,
        text,
    }
}

#[test]
fn budgets_refill_by_time() {
    let mut guard = Guard::new(Mono(0));
    for _ in 0..60 {
        guard.send(Mono(0), out("x")).unwrap();
    }
    let refusal = guard.send(Mono(0), out("x")).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.retry_after_ms),
        (Code::RateLimited, Some(5_000))
    );
    assert!(guard.send(Mono(4_999), out("x")).is_err());
    guard.send(Mono(5_000), out("x")).unwrap();
    assert!(guard.send(Mono(5_000), out("x")).is_err());
}

#[test]
fn a_call_costs_what_it_says_and_more_if_it_interrupts() {
    for (channels, whispers, priority, units) in [
        (1, 0, Priority::Next, 1),
        (0, 1, Priority::Low, 1),
        (3, 0, Priority::Next, 1),
        (2, 3, Priority::Next, 4),
        (1, 0, Priority::Now, 3),
        (0, 2, Priority::Now, 4),
    ] {
        assert_eq!(cost(channels, whispers, priority), units);
    }
    let mut guard = Guard::new(Mono(0));
    let dear = Outgoing {
        units: 19,
        ..out("x")
    };
    for _ in 0..3 {
        guard.send(Mono(0), dear).unwrap();
    }
    // Three are left: too few for another such call, and not taken by its refusal.
    assert_eq!(
        guard.send(Mono(0), dear).unwrap_err().retry_after_ms,
        Some(80_000)
    );
    let rest = (0..9).filter(|_| guard.send(Mono(0), out("x")).is_ok());
    assert_eq!(rest.count(), 3);
}

#[test]
fn one_conversation_cannot_use_up_the_session() {
    let mut guard = Guard::new(Mono(0));
    let in_root = Outgoing {
        root: Some(MsgId::new([1; 16])),
        ..out("x")
    };
    for _ in 0..40 {
        guard.send(Mono(0), in_root).unwrap();
    }
    assert_eq!(
        guard.send(Mono(0), in_root).unwrap_err().retry_after_ms,
        Some(90_000)
    );
    guard.send(Mono(0), out("another")).unwrap();
}

#[test]
fn b8_24_a_forged_depth_of_zero_still_meets_the_budgets() {
    let mut guard = Guard::new(Mono(0));
    let sent = (0..200)
        .filter(|_| guard.send(Mono(0), out("re")).is_ok())
        .count();
    assert_eq!(sent, 60);
}

#[test]
fn depth_counts_along_the_answers_and_ends() {
    assert_eq!(Guard::hop(None), 0);
    assert_eq!(Guard::hop(Some(4)), 5);
    let mut guard = Guard::new(Mono(0));
    guard
        .send(
            Mono(0),
            Outgoing {
                hop: HOP_MAX,
                ..out("x")
            },
        )
        .unwrap();
    let refusal = guard
        .send(
            Mono(0),
            Outgoing {
                hop: HOP_MAX + 1,
                ..out("x")
            },
        )
        .unwrap_err();
    assert_eq!(refusal.code, Code::HopLimit);
}

#[test]
fn b8_23_two_polite_agents_are_parted() {
    let (mut guard, peer) = (Guard::new(Mono(0)), "bob/laptop/main".parse().unwrap());
    let to = [&peer];
    let whisper = |text| Outgoing {
        whispers: &to,
        ..out(text)
    };
    let mut exchanged = 0;
    while guard
        .send(Mono(exchanged), whisper("Thank you so much!"))
        .is_ok()
    {
        guard.exchanged(Mono(exchanged), &peer, "👍 you're welcome");
        exchanged += 1;
        assert!(exchanged < 20, "the breaker never opened");
    }
    assert_eq!(exchanged, 4);
    let later = Mono(3 + 10 * 60_000);
    guard
        .send(later, whisper("the build of main is broken since 14:02"))
        .unwrap();
}

#[test]
fn words_with_content_keep_the_breaker_closed() {
    let (mut guard, peer) = (Guard::new(Mono(0)), "bob/laptop/main".parse().unwrap());
    for n in 0..30 {
        let text = if n % 7 == 6 {
            "the tests of proto fail"
        } else {
            "ok, thanks"
        };
        assert!(!guard.exchanged(Mono(n), &peer, text));
    }
}
