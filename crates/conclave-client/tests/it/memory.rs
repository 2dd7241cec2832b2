//! Memories: found by words and tags, taken back by who may, and poisoned ones are nothing special.

use crate::pair::two;
use crate::talk::{Machine, World, name};
use conclave_client::ClientError;
use conclave_client::client::Signer;
use conclave_client::item::{Memory, Recall};
use conclave_proto::channel_log::Role;
use conclave_proto::reject::Code;

fn ask(query: &str) -> Recall {
    Recall {
        query: query.into(),
        limit: 10,
        ..Recall::default()
    }
}

fn texts(found: &[Memory]) -> Vec<&str> {
    found.iter().map(|memory| memory.text.as_str()).collect()
}

#[tokio::test]
async fn memories_are_found_by_words_best_first_and_by_all_their_tags() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    let tags = |tags: &[&str]| tags.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    a.remember(
        ops,
        "The staging database is restored nightly",
        &tags(&["db", "ops"]),
    )
    .await
    .unwrap();
    a.remember(ops, "Deploys need two approvals", &tags(&["ops"]))
        .await
        .unwrap();
    a.remember(
        ops,
        "Restoring a database: restore, then migrate the database",
        &tags(&["db"]),
    )
    .await
    .unwrap();
    let found = b.recall(&[ops], &ask("DATABASE, restored?")).await.unwrap();
    assert_eq!(found.len(), 2, "{:?}", texts(&found));
    assert!(found[0].text.starts_with("Restoring"), "the best one first");
    assert_eq!(found[0].sender.to_string(), "ada/box/api");
    assert_eq!(found[0].tags, ["db"]);
    let newest = b.recall(&[ops], &ask("")).await.unwrap();
    assert!(newest[0].text.starts_with("Restoring") && newest.len() == 3);
    let tagged = Recall {
        tags: tags(&["db", "ops"]),
        ..ask("")
    };
    let tagged = b.recall(&[ops], &tagged).await.unwrap();
    assert_eq!(texts(&tagged), ["The staging database is restored nightly"]);
    // Nothing that a query says is the search's own language.
    for odd in [
        "\"",
        "a AND (",
        "text:database NEAR/2 x",
        "* -",
        "db\" OR \"x",
    ] {
        b.recall(&[ops], &ask(odd)).await.unwrap();
    }
    assert!(b.recall(&[ops], &ask("zebra")).await.unwrap().is_empty());
    assert!(b.recall(&[ops], &ask("?!")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_memory_is_taken_back_by_its_author_or_an_admin_and_nobody_else() {
    let world = World::start().await;
    let ((_ada, a, _), (_bob, b, _), ops) = two(&world).await;
    let eve = Machine::new();
    drop(eve.register(&world, "eve").await);
    let (e, _events) = eve.session("spy", 3).await;
    a.add_member(ops, &name("eve"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    a.follow(ops).await.unwrap();
    let by_bob = b.remember(ops, "bob knows the zebra", &[]).await.unwrap();
    let by_ada = a.remember(ops, "ada knows the zebra", &[]).await.unwrap();
    let refused = e.forget(ops, by_bob.id).await;
    assert!(matches!(&refused, Err(ClientError::Reject(r)) if r.code == Code::Forbidden));
    // Bob may not take ada's back, ada is the channel's admin and may take his.
    assert!(b.forget(ops, by_ada.id).await.is_err());
    a.forget(ops, by_bob.id).await.unwrap();
    for client in [&a, &b, &e] {
        let left = client.recall(&[ops], &ask("zebra")).await.unwrap();
        assert_eq!(texts(&left), ["ada knows the zebra"]);
    }
    a.forget(ops, by_ada.id).await.unwrap();
    assert!(matches!(
        b.forget(ops, by_ada.id).await,
        Err(ClientError::NotFound { .. })
    ));
    assert!(e.recall(&[ops], &ask("zebra")).await.unwrap().is_empty());
    assert_eq!(a.said_under(by_bob.id).await.unwrap(), []);
}

#[tokio::test]
async fn a_fresh_machine_reads_state_claims_memory_and_history_of_before_it_came() {
    let world = World::start().await;
    let ((_ada, a, _), (bob, b, _), ops) = two(&world).await;
    for n in 0..300 {
        a.remember(ops, &format!("fact number {n} about walruses"), &[])
            .await
            .unwrap();
    }
    for n in 0..20 {
        let value = n.to_string();
        a.set_state(ops, "counter", Some(&value), None)
            .await
            .unwrap();
    }
    crate::scene::say(&a, ops, "the walrus was painted").await;
    a.claim(ops, "db", 3_600_000, None).await.unwrap();
    let gone = a
        .remember(ops, "a wrong fact about walruses", &[])
        .await
        .unwrap();
    a.forget(ops, gone.id).await.unwrap();
    drop((b, bob));

    let eve = Machine::new();
    drop(eve.register(&world, "eve").await);
    let (e, _events) = eve.session("web", 3).await;
    a.add_member(ops, &name("eve"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    let all = Recall {
        limit: 200,
        ..ask("walrus fact")
    };
    let found = e.recall(&[ops], &all).await.unwrap();
    assert_eq!(found.len(), 200);
    assert!(!texts(&found).contains(&"a wrong fact about walruses"));
    let item = e.state(ops, "counter").await.unwrap().unwrap();
    assert_eq!(item.value.as_deref(), Some("19"));
    let claims = e.claims(ops).await.unwrap();
    assert_eq!(claims[0].holder.to_string(), "ada/box/api");
    let found = e
        .search_history(Some(ops), "painted walruses", 10)
        .await
        .unwrap();
    assert!(found.complete);
    assert_eq!(
        crate::scene::texts(&found.messages),
        ["the walrus was painted"]
    );
}
