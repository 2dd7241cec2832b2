//! State items between real sessions: compare and set, what is refused, who may write.

use crate::pair::{beside, ten, two};
use crate::scene::since_join;
use crate::talk::SOON;
use crate::talk::{Machine, World, name};
use conclave_client::ClientError;
use conclave_client::client::{NewChannel, Signer};
use conclave_client::event::Event;
use conclave_client::item::StateItem;
use conclave_proto::channel_log::{RemoveKind, Role, Visibility};
use conclave_proto::reject::{Code, Reject};
use tokio::sync::mpsc;

fn reject<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Reject {
    match result {
        Err(ClientError::Reject(reject)) => reject,
        other => panic!("{other:?}"),
    }
}

async fn changed(events: &mut mpsc::Receiver<Event>) -> StateItem {
    let next = async {
        loop {
            if let Event::State(item) = events.recv().await.expect("the session lives") {
                return *item;
            }
        }
    };
    tokio::time::timeout(SOON, next).await.expect("it is told")
}

#[tokio::test]
async fn a_value_is_compared_and_set_by_its_version_and_deleted_ones_can_be_made_anew() {
    let world = World::start().await;
    let ((_ada, a, mut a_events), (_bob, b, _), ops) = two(&world).await;
    a.follow(ops).await.unwrap();
    assert_eq!(a.state(ops, "build").await.unwrap(), None);
    let first = b
        .set_state(ops, "build", Some("{\"n\": 1}"), Some(0))
        .await
        .unwrap();
    let told = changed(&mut a_events).await;
    assert_eq!(
        (told.key.as_str(), told.version),
        ("build", first.version.unwrap())
    );
    let item = a.state(ops, "build").await.unwrap().unwrap();
    assert_eq!(item.value.as_deref(), Some("{\"n\": 1}"));
    assert_eq!(item.sender.to_string(), "bob/box/web");
    assert!(item.facts.vouched && !item.facts.own);

    let stale = reject(a.set_state(ops, "build", Some("2"), Some(0)).await);
    assert_eq!(
        (stale.code, stale.expected),
        (Code::VersionMismatch, first.version)
    );
    let second = a
        .set_state(ops, "build", Some("2"), first.version)
        .await
        .unwrap();
    let stale = reject(b.set_state(ops, "build", Some("3"), first.version).await);
    assert_eq!(stale.expected, second.version);
    let own = a.state(ops, "build").await.unwrap().unwrap();
    assert_eq!(
        own.value.as_deref(),
        Some("2"),
        "a writer reads its own write"
    );

    b.set_state(ops, "build", None, second.version)
        .await
        .unwrap();
    assert_eq!(a.state(ops, "build").await.unwrap(), None);
    assert!(a.states(ops, "").await.unwrap().is_empty());
    let again = a.set_state(ops, "build", Some("4"), Some(0)).await.unwrap();
    assert!(again.version > second.version);
    // Bob has not heard of that: his "must not exist" fails, and says what there is.
    let stale = reject(b.set_state(ops, "build", Some("5"), Some(0)).await);
    assert_eq!(stale.expected, again.version);
}

#[tokio::test]
async fn keys_are_listed_by_prefix_and_claims_are_no_state() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    for key in ["ci/linux", "ci/mac", "cid", "%"] {
        a.set_state(ops, key, Some("1"), None).await.unwrap();
    }
    a.claim(ops, "ci/linux", 60_000, None).await.unwrap();
    let keys = |items: Vec<StateItem>| items.into_iter().map(|i| i.key).collect::<Vec<_>>();
    assert_eq!(
        keys(b.states(ops, "ci/").await.unwrap()),
        ["ci/linux", "ci/mac"]
    );
    assert_eq!(keys(b.states(ops, "").await.unwrap()).len(), 4);
    assert_eq!(keys(b.states(ops, "%").await.unwrap()), ["%"]);
    let refused = reject(a.set_state(ops, "claim:x", Some("1"), None).await);
    assert_eq!(refused.code, Code::NameInvalid);
}

#[tokio::test]
async fn what_is_no_key_or_value_is_refused_with_its_bound() {
    let world = World::start().await;
    let (ada, _) = (Machine::new(), ());
    drop(ada.register(&world, "ada").await);
    let (a, _events) = ada.session("api", 1).await;
    let ops = NewChannel::new(name("ops"), Visibility::Private);
    let ops = *a.create_channel(ops).await.unwrap().id();
    let long = "k".repeat(256);
    a.set_state(ops, &long, Some("1"), None).await.unwrap();
    for key in ["", "a\nb", &"k".repeat(257)] {
        let refused = reject(a.set_state(ops, key, Some("1"), None).await);
        assert_eq!(refused.code, Code::NameInvalid, "{key:?}");
    }
    let most = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
    a.set_state(ops, "k", Some(&most), None).await.unwrap();
    let more = format!("\"{}\"", "x".repeat(64 * 1024 - 1));
    let refused = reject(a.set_state(ops, "k", Some(&more), None).await);
    assert_eq!(refused.code, Code::TooLarge);
    assert!(refused.message.contains("65536"));
    let refused = reject(a.set_state(ops, "k", Some("{no json"), None).await);
    assert_eq!(refused.code, Code::Malformed);
    let kept = a.state(ops, "k").await.unwrap().unwrap();
    assert_eq!(kept.value, Some(most));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_writers_of_one_version_exactly_one_wins() {
    let world = World::start().await;
    let (clients, ops, _machines) = ten(&world).await;
    let first = clients[0]
        .set_state(ops, "leader", Some("0"), Some(0))
        .await;
    let version = first.unwrap().version;
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..50_usize {
        let client = clients[n % clients.len()].clone();
        let value = n.to_string();
        tries.spawn(async move {
            let set = client.set_state(ops, "leader", Some(&value), version).await;
            (value, set)
        });
    }
    let (mut winners, mut told) = (Vec::new(), Vec::new());
    while let Some(result) = tries.join_next().await {
        match result.unwrap() {
            (value, Ok(written)) => winners.push((value, written.version)),
            (_, other) => told.push(reject(other).expected),
        }
    }
    assert_eq!(winners.len(), 1);
    assert!(
        told.iter().all(|version| *version == winners[0].1),
        "{told:?}"
    );
    let item = clients[1].state(ops, "leader").await.unwrap().unwrap();
    assert_eq!(item.value.as_ref(), Some(&winners[0].0));
}

#[tokio::test]
async fn what_a_removed_member_wrote_stays_and_it_writes_no_more() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    b.set_state(ops, "x", Some("1"), None).await.unwrap();
    a.remove_member(ops, &name("bob"), RemoveKind::Kick)
        .await
        .unwrap();
    let item = a.state(ops, "x").await.unwrap().unwrap();
    assert_eq!(item.sender.to_string(), "bob/box/web");
    assert!(
        item.facts.member_since.is_none(),
        "one sees that it is gone"
    );
    let version = item.version;
    assert!(
        b.set_state(ops, "x", Some("2"), Some(version))
            .await
            .is_err()
    );
    assert_eq!(a.state(ops, "x").await.unwrap().unwrap().version, version);
}

#[tokio::test]
async fn what_was_read_is_here_without_a_connection_and_writes_wait_for_one() {
    let mut world = World::start().await;
    let ((ada, a, _), (_bob, b, _), ops) = two(&world).await;
    b.set_state(ops, "x", Some("1"), None).await.unwrap();
    assert!(a.state(ops, "x").await.unwrap().is_some());
    a.stop().await;
    world.down().await;
    let profile = ada.home.servers().unwrap().pop().unwrap();
    let session = conclave_client::Session {
        handle: name("api"),
        pinned: true,
        instance: conclave_proto::id::Instance::new([1; 16]),
        agent: "test".into(),
    };
    let (a, _events) = conclave_client::Client::connect(&ada.home, &profile, session)
        .await
        .unwrap();
    let item = a.state(ops, "x").await.unwrap().unwrap();
    assert_eq!(item.value.as_deref(), Some("1"));
}

#[tokio::test]
async fn the_server_sees_neither_keys_nor_values_of_a_sealed_channel() {
    let world = World::start().await;
    let ((_ada, a, _), _bob, ops) = two(&world).await;
    let (key, value) = ("launch-codeword-key", "\"tangerine-codeword\"");
    a.set_state(ops, key, Some(value), None).await.unwrap();
    a.remember(ops, "the tangerine-memory", &["tangerine-tag".into()])
        .await
        .unwrap();
    a.claim(ops, "tangerine-resource", 60_000, Some("tangerine-note"))
        .await
        .unwrap();
    let mut looked = 0;
    for file in std::fs::read_dir(world.dir().join("data")).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            let bytes = std::fs::read(&file).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            assert!(
                !text.contains("tangerine") && !text.contains(key),
                "{file:?}"
            );
            looked += bytes.len();
        }
    }
    assert!(looked > 4_096, "there is something to look at");
}

#[tokio::test]
async fn who_may_not_read_the_past_still_reads_what_is_current_after_it_joined() {
    let world = World::start().await;
    let ((_ada, a, _a), (_bob, b, _b), ops) = beside(&world, since_join("ops")).await;
    a.set_state(ops, "old", Some("1"), None).await.unwrap();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    a.set_state(ops, "new", Some("2"), None).await.unwrap();
    let seen = b.states(ops, "").await.unwrap();
    let keys: Vec<_> = seen.iter().map(|item| item.key.as_str()).collect();
    assert_eq!(keys, ["new"]);
}

/// What is current comes first and the past when it is searched: it does not bring old values back.
#[tokio::test]
async fn reading_the_past_later_does_not_bring_an_older_value_back() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    for value in ["1", "2"] {
        a.set_state(ops, "k", Some(value), None).await.unwrap();
    }
    let value = async || b.state(ops, "k").await.unwrap().unwrap().value;
    assert_eq!(value().await.as_deref(), Some("2"));
    let found = b.search_history(Some(ops), "anything", 1).await.unwrap();
    assert!(found.complete, "the whole past was read");
    assert_eq!(value().await.as_deref(), Some("2"));
}
