//! Claims: the rules by table, and leases between real sessions of a real server.

use crate::pair::{ten, two};
use crate::talk::SOON;
use crate::talk::{World, name};
use conclave_client::claim::resource::{remote_name, tidy_path};
use conclave_client::claim::rule::{Bid, CLAIMS_MAX, ClaimValue, count, in_the_way, succeed};
use conclave_client::claim::{BadResource, Resource, Standing, glob};
use conclave_client::client::claim::Whose;
use conclave_client::item::{Claim, ClaimError};
use conclave_proto::channel_log::RemoveKind;
use conclave_proto::id::UserId;
use conclave_proto::time::UnixMs;

const ADA: UserId = UserId::new([1; 32]);
const BOB: UserId = UserId::new([2; 32]);
const HOUR: u64 = 60 * 60 * 1000;

fn value(ttl_ms: u64, token: Option<u64>) -> ClaimValue {
    ClaimValue {
        ttl_ms,
        note: None,
        token,
    }
}

fn held(holder: &str, user: UserId, token: u64, at: u64, ttl_ms: u64) -> Standing {
    Standing {
        resource: "db".into(),
        holder: holder.into(),
        user,
        token,
        version: token,
        at: UnixMs(at),
        ttl_ms,
        note: None,
    }
}

#[test]
fn an_entry_counts_only_when_the_claim_before_it_is_over() {
    let api = || held("ada/box/api", ADA, 5, 1_000, 100);
    // What stood, what the bid says (at, expected, sender, user, token or release), who stands, token.
    type Row<'a> = (
        Option<Standing>,
        (u64, u64, &'a str, UserId, Option<Option<u64>>),
        Option<(&'a str, u64)>,
    );
    let table: &[Row<'_>] = &[
        // Free: the first one has it.
        (
            None,
            (1_000, 5, "bob/box/web", BOB, Some(None)),
            Some(("bob/box/web", 9)),
        ),
        // Held to the last millisecond, free with the next.
        (
            Some(api()),
            (1_099, 5, "bob/box/web", BOB, Some(None)),
            Some(("ada/box/api", 5)),
        ),
        (
            Some(api()),
            (1_100, 5, "bob/box/web", BOB, Some(None)),
            Some(("bob/box/web", 9)),
        ),
        // Another's release, and a renewal with another's token, change nothing.
        (
            Some(api()),
            (1_050, 5, "bob/box/web", BOB, None),
            Some(("ada/box/api", 5)),
        ),
        (
            Some(api()),
            (1_050, 5, "bob/box/web", BOB, Some(Some(5))),
            Some(("ada/box/api", 5)),
        ),
        // A renewal keeps the token; without one, or after the end, it is a new claim.
        (
            Some(api()),
            (1_050, 5, "ada/box/api", ADA, Some(Some(5))),
            Some(("ada/box/api", 5)),
        ),
        (
            Some(api()),
            (1_050, 5, "ada/box/api", ADA, Some(None)),
            Some(("ada/box/api", 9)),
        ),
        (
            Some(api()),
            (1_050, 5, "ada/box/api", ADA, Some(Some(4))),
            Some(("ada/box/api", 9)),
        ),
        (
            Some(api()),
            (1_100, 5, "ada/box/api", ADA, Some(Some(5))),
            Some(("ada/box/api", 9)),
        ),
        // The user's other session may take it, but not its token; and may release it.
        (
            Some(api()),
            (1_050, 5, "ada/box/cli", ADA, Some(Some(5))),
            Some(("ada/box/cli", 9)),
        ),
        (Some(api()), (1_050, 5, "ada/box/cli", ADA, None), None),
        // Who does not say what it replaces wins nothing, even what is free.
        (
            Some(api()),
            (9_000, u64::MAX, "bob/box/web", BOB, Some(None)),
            Some(("ada/box/api", 5)),
        ),
        (
            None,
            (9_000, u64::MAX, "bob/box/web", BOB, Some(None)),
            None,
        ),
        // What builds on entries that were not seen here frees nothing that was, whatever token it names.
        (
            Some(api()),
            (1_050, 7, "bob/box/web", BOB, Some(Some(6))),
            Some(("ada/box/api", 5)),
        ),
        (
            Some(api()),
            (1_050, 7, "bob/box/web", BOB, None),
            Some(("ada/box/api", 5)),
        ),
        (
            Some(api()),
            (1_100, 7, "bob/box/web", BOB, Some(Some(6))),
            Some(("bob/box/web", 9)),
        ),
        // The holder itself goes on with the token it is known to have.
        (
            Some(api()),
            (1_050, 7, "ada/box/api", ADA, Some(Some(5))),
            Some(("ada/box/api", 5)),
        ),
        // Where no claim was seen it may be a renewal, of what began after what was seen.
        (
            None,
            (1_050, 7, "bob/box/web", BOB, Some(Some(6))),
            Some(("bob/box/web", 6)),
        ),
        (
            None,
            (1_050, 7, "bob/box/web", BOB, Some(Some(5))),
            Some(("bob/box/web", 9)),
        ),
        (
            None,
            (1_050, 7, "bob/box/web", BOB, Some(Some(9))),
            Some(("bob/box/web", 9)),
        ),
        (
            None,
            (1_050, 5, "bob/box/web", BOB, Some(Some(6))),
            Some(("bob/box/web", 9)),
        ),
    ];
    for (n, (before, (at, expected, sender, user, bid), stands)) in table.iter().enumerate() {
        let value = bid.map(|token| value(100, token));
        let bid = Bid {
            resource: "db",
            seq: 9,
            at: UnixMs(*at),
            expected: *expected,
            sender,
            user: *user,
            value: value.as_ref(),
            left: false,
        };
        let free = Bid { left: true, ..bid };
        if *expected != u64::MAX
            && let Some(next) = succeed(before.clone(), 5, free)
        {
            assert_eq!(next.holder, *sender, "row {n}: the holder left");
        }
        let after = succeed(before.clone(), 5, bid);
        let after = after.as_ref().map(|c| (c.holder.as_str(), c.token));
        assert_eq!(after, *stands, "row {n}");
    }
}

#[test]
fn only_the_servers_times_decide_when_a_claim_lapses() {
    let claim = held("ada/box/api", ADA, 5, 10 * HOUR, HOUR);
    assert!(!claim.is_lapsed(UnixMs(11 * HOUR - 1)));
    assert!(claim.is_lapsed(UnixMs(11 * HOUR)));
    let resource = Resource::parse("db").unwrap();
    let claims = [claim];
    let blocked =
        |before, holder, now| in_the_way(&claims, &resource, holder, before, UnixMs(now)).is_some();
    assert!(blocked(6, "bob/box/web", 10 * HOUR));
    assert!(!blocked(5, "bob/box/web", 10 * HOUR), "won later");
    assert!(!blocked(6, "ada/box/api", 10 * HOUR), "its own");
    assert!(!blocked(6, "bob/box/web", 11 * HOUR), "lapsed");
}

#[test]
fn of_one_user_the_oldest_claims_count_and_no_more_than_there_may_be() {
    let most = u64::try_from(CLAIMS_MAX).unwrap();
    // The newest ones first, and one that has lapsed.
    let mut claims: Vec<_> = (1..=most + 2)
        .rev()
        .map(|token| held("ada/box/api", ADA, token, 1_000, HOUR))
        .collect();
    claims.push(held("ada/box/api", ADA, 1_000, 1_000, 1));
    claims.push(held("bob/box/web", BOB, 2_000, 1_000, HOUR));
    count(&mut claims, UnixMs(2_000));
    let tokens: Vec<_> = claims.iter().map(|claim| claim.token).collect();
    let expected: Vec<_> = (1..=most).rev().chain([1_000, 2_000]).collect();
    assert_eq!(tokens, expected);
}

#[test]
fn two_patterns_overlap_exactly_when_a_path_fits_both() {
    let table = [
        ("src/main.rs", "src/main.rs", true),
        ("src/main.rs", "src/lib.rs", false),
        ("src", "src/main.rs", true),
        ("src", "srcs/main.rs", false),
        ("src/*.rs", "src/main.rs", true),
        ("src/*.rs", "src/main.c", false),
        ("src/*.rs", "src/a/main.rs", false),
        ("src/**/*.rs", "src/a/b/main.rs", true),
        ("src/**/*.rs", "src/main.rs", true),
        ("**/test_*", "src/test_*.py", true),
        ("**", "x", true),
        ("a*c", "ab*", true),
        ("a*c", "*b", false),
        ("a*c", "*bc", true),
        ("a*c", "b*", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("?", "*", true),
        ("a/**/z", "a/b/**", true),
        ("a/*/z", "a/b/c", false),
        ("*.rs", "*.toml", false),
        ("x/*", "*/y", true),
        ("**/a", "b/**", true),
        ("é*", "?a", true),
    ];
    for (a, b, overlap) in table {
        assert_eq!(glob::overlaps(a, b), overlap, "{a} and {b}");
        assert_eq!(glob::overlaps(b, a), overlap, "{b} and {a}");
        let one = Resource::path("h/r", a).unwrap();
        let other = Resource::path("h/r", b).unwrap();
        let quick = one.may_overlap(&other.to_string());
        assert!(quick || !overlap, "{a} and {b} at a glance");
    }
    let main = Resource::parse("repo:h/r//src/main.rs").unwrap();
    for apart in [
        "repo:h/r//src/lib.rs",
        "repo:h/r2//src/main.rs",
        "src/main.rs",
    ] {
        assert!(!main.may_overlap(apart), "{apart}");
    }
    // Stars cost no more than the product of both lengths.
    let many = "**/*a*a*a*a*b/".repeat(12);
    assert!(many.len() < 200 && glob::overlaps(&many, &many));
}

#[test]
fn a_repository_has_one_name_however_its_remote_is_written() {
    let same = [
        "git@github.com:Org/tool.git",
        "ssh://git@github.com/Org/tool.git",
        "ssh://git@GitHub.com:22/Org/tool",
        "https://github.com/Org/tool",
        "https://user:token@github.com:443/Org/tool.git/",
        "github.com:Org//tool.git",
        "github.com/Org/tool",
    ];
    for remote in same {
        let named = remote_name(remote);
        assert_eq!(named.as_deref(), Some("github.com/Org/tool"), "{remote}");
    }
    let other = [
        ("ssh://git@host:2222/x.git", "host:2222/x"),
        ("host:2222/x", "host:2222/x"),
        ("/srv/git/x.git", "file/srv/git/x"),
        ("file:///srv/git/x.git", "file/srv/git/x"),
    ];
    for (remote, named) in other {
        assert_eq!(remote_name(remote).as_deref(), Some(named), "{remote}");
        assert_eq!(remote_name(named).as_deref(), Some(named), "{named} again");
    }
    assert_eq!(remote_name(""), None);
    assert_eq!(remote_name("https:///x"), None);
}

#[test]
fn a_resource_has_one_form_and_stays_inside_its_repository() {
    let text = |text: &str| Resource::parse(text).map(|r| r.to_string());
    assert_eq!(text(" deploy to prod ").as_deref(), Ok("deploy to prod"));
    let path = text("repo:git@h.org:a/b.git//./src//x/").unwrap();
    assert_eq!(path, "repo:h.org/a/b//src/x");
    assert_eq!(text(&path).as_deref(), Ok(path.as_str()));
    assert_eq!(
        text("repo:https://h.org/a/b.git//"),
        Ok("repo:h.org/a/b//**".into())
    );
    assert_eq!(text(""), Err(BadResource::Empty));
    assert_eq!(text("a\nb"), Err(BadResource::Control));
    assert_eq!(text("repo:h/a//../x"), Err(BadResource::Outside));
    assert_eq!(text("repo:h/a"), Err(BadResource::Form));
    assert!(text(&"x".repeat(200)).is_ok());
    assert_eq!(text(&"x".repeat(201)), Err(BadResource::TooLong));
    assert_eq!(tidy_path("/a/./b").as_deref(), Ok("a/b"));
    let one = Resource::parse("repo:h/a//src").unwrap();
    let two = Resource::parse("repo:h/b//src/x").unwrap();
    assert!(!one.overlaps(&two), "another repository");
    assert!(!one.overlaps(&Resource::parse("src").unwrap()));
}

fn holder(result: Result<Claim, ClaimError>) -> String {
    match result {
        Err(ClaimError::Held(claim)) => claim.holder.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_claim_keeps_others_out_until_it_is_released_and_tokens_rise() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    let first = a.claim(ops, "db", HOUR, Some("migrating")).await.unwrap();
    assert_eq!(first.note.as_deref(), Some("migrating"));
    assert_eq!(holder(b.claim(ops, "db", HOUR, None).await), "ada/box/api");
    let seen = b.claims(ops).await.unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].token, seen[0].holder.to_string()),
        (first.token, "ada/box/api".into())
    );
    let renewed = a.renew(ops, "db", 2 * HOUR, None).await.unwrap();
    assert_eq!(renewed.token, first.token);
    assert_eq!(renewed.note, first.note, "a renewal keeps the note");
    assert!(renewed.until > first.until);
    assert!(matches!(
        b.renew(ops, "db", HOUR, None).await,
        Err(ClaimError::Held(_))
    ));
    assert!(matches!(
        b.release(ops, "db", Whose::Users).await,
        Err(ClaimError::Held(_))
    ));
    a.release(ops, "db", Whose::Own).await.unwrap();
    assert!(matches!(
        a.release(ops, "db", Whose::Own).await,
        Err(ClaimError::NotHeld)
    ));
    let second = b.claim(ops, "db", HOUR, None).await.unwrap();
    assert!(second.token > first.token);
    assert!(matches!(
        a.renew(ops, "db", HOUR, None).await,
        Err(ClaimError::Held(_))
    ));
    b.release_all().await.unwrap();
    assert!(a.claims(ops).await.unwrap().is_empty());
}

#[tokio::test]
async fn two_sessions_of_one_user_are_two_holders_and_force_frees_ones_own() {
    let world = World::start().await;
    let ((ada, a, _), _bob, ops) = two(&world).await;
    let (other, _events) = ada.session("web", 9).await;
    a.claim(ops, "db", HOUR, None).await.unwrap();
    assert_eq!(
        holder(other.claim(ops, "db", HOUR, None).await),
        "ada/box/api"
    );
    assert!(matches!(
        other.release(ops, "db", Whose::Own).await,
        Err(ClaimError::Held(_))
    ));
    other.release(ops, "db", Whose::Users).await.unwrap();
    other.claim(ops, "db", HOUR, None).await.unwrap();
}

#[tokio::test]
async fn overlapping_paths_keep_each_other_out_whichever_way_they_are_written() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    a.claim(ops, "repo:git@h.org:o/r.git//src/**/*.rs", HOUR, None)
        .await
        .unwrap();
    let taken = b.claim(ops, "repo:https://h.org/o/r//src/a/main.rs", HOUR, None);
    assert_eq!(holder(taken.await), "ada/box/api");
    b.claim(ops, "repo:https://h.org/o/r//docs", HOUR, None)
        .await
        .unwrap();
    b.claim(ops, "repo:https://h.org/o/other//src", HOUR, None)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_claimants_at_once_exactly_one_wins_and_the_others_name_it() {
    let world = World::start().await;
    let ((ada, a, _), (bob, b, _), ops) = two(&world).await;
    let mut clients = vec![a, b];
    for n in 0..8_u8 {
        let machine = if n % 2 == 0 { &ada } else { &bob };
        let (client, _events) = machine.session(&format!("s{n}"), 20 + n).await;
        clients.push(client);
    }
    // Half of them name the same, half something that overlaps it in a slot of its own.
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..50_usize {
        let client = clients[n % clients.len()].clone();
        let who = n % clients.len();
        tries.spawn(async move {
            let resource = match who % 2 {
                0 => "repo:h/r//src/*.rs".to_owned(),
                _ => format!("repo:h/r//src/{who}?*"),
            };
            let resource = if who == 1 {
                "repo:h/r//src".into()
            } else {
                resource
            };
            (who, client.claim(ops, &resource, HOUR, None).await)
        });
    }
    let mut results = Vec::new();
    while let Some(result) = tries.join_next().await {
        results.push(result.unwrap());
    }
    let held = clients[0].claims(ops).await.unwrap();
    let all: Vec<_> = held
        .iter()
        .map(|c| Resource::parse(&c.resource).unwrap())
        .collect();
    for (i, one) in all.iter().enumerate() {
        for (j, two) in all.iter().enumerate().skip(i + 1) {
            let both = (&held[i].holder, &held[j].holder);
            assert!(
                both.0 == both.1 || !one.overlaps(two),
                "two hold the same: {one} {two} {both:?}"
            );
        }
    }
    assert!(!held.is_empty(), "somebody has it");
    for (who, result) in results {
        match result {
            Ok(claim) => assert!(
                held.iter().any(|c| c.holder == claim.holder),
                "{who} was told that it has it"
            ),
            Err(ClaimError::Held(claim)) => assert!(claim.token > 0),
            Err(other) => panic!("{who}: {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_claims_on_one_name_exactly_one_session_wins() {
    let world = World::start().await;
    let (clients, ops, _machines) = ten(&world).await;
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..50_usize {
        let client = clients[n % clients.len()].clone();
        tries.spawn(async move { client.claim(ops, "the lock", HOUR, None).await });
    }
    let (mut winners, mut named) = (Vec::new(), Vec::new());
    while let Some(result) = tries.join_next().await {
        match result.unwrap() {
            Ok(claim) => winners.push(claim.holder.to_string()),
            Err(ClaimError::Held(claim)) => named.push(claim.holder.to_string()),
            Err(other) => panic!("{other}"),
        }
    }
    winners.dedup();
    assert_eq!(winners.len(), 1, "one session, however often it asked");
    assert!(named.len() >= 45 && named.iter().all(|name| *name == winners[0]));
}

#[tokio::test]
async fn the_claim_of_a_session_that_died_lapses_by_the_servers_clock() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    let claim = a.claim(ops, "db", 1_500, None).await.unwrap();
    drop(a);
    assert_eq!(holder(b.claim(ops, "db", HOUR, None).await), "ada/box/api");
    let wait = async {
        loop {
            match b.claim(ops, "db", HOUR, None).await {
                Ok(next) => return next,
                Err(ClaimError::Held(_)) => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
    };
    let next = tokio::time::timeout(SOON, wait).await.expect("it lapses");
    assert!(next.at >= claim.until && next.token > claim.token);
}

#[tokio::test]
async fn a_renewal_after_the_end_fails_even_if_nobody_took_it() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    a.claim(ops, "db", 1_000, None).await.unwrap();
    let wait = async {
        while !b.claims(ops).await.unwrap().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it lapses");
    assert!(matches!(
        a.renew(ops, "db", HOUR, None).await,
        Err(ClaimError::NotHeld)
    ));
    assert!(b.claims(ops).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_removed_member_holds_nothing_any_more() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    a.follow(ops).await.unwrap();
    b.claim(ops, "db", HOUR, None).await.unwrap();
    assert_eq!(holder(a.claim(ops, "db", HOUR, None).await), "bob/box/web");
    a.remove_member(ops, &name("bob"), RemoveKind::Kick)
        .await
        .unwrap();
    let mine = a.claim(ops, "db", HOUR, None).await.unwrap();
    assert_eq!(mine.holder.to_string(), "ada/box/api");
}

#[test]
fn a_file_is_covered_however_long_its_path_is() {
    let path = format!("src/{}x.rs", "deep/".repeat(60));
    let remote = "https://example.com/team/shop.git";
    let claim = Resource::parse("repo:example.com/team/shop//src/**").unwrap();
    let file = Resource::file(remote, &path).unwrap();
    assert!(claim.overlaps(&file));
    assert!(
        matches!(Resource::path(remote, &path), Err(BadResource::TooLong)),
        "what is claimed is bounded"
    );
    let other = Resource::file("https://example.com/team/other.git", &path).unwrap();
    assert!(!claim.overlaps(&other));
}
