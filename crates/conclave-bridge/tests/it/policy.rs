//! Levels, trust tiers and the loop guard, as tables.

use conclave_bridge::policy::{BadPolicy, Grant, Level, Levels, Lowered, Policy, Scope};
use conclave_bridge::trust::{ACT_AGE_MS_MAX, HOP_MAX, Sender, Tier, assess};
use conclave_proto::id::{Blob, ChannelId, ServerId, UserId};
use conclave_proto::key::Secret;
use conclave_proto::time::UnixMs;

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
