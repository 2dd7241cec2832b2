//! Bridges that go and come, and servers that do: nothing is lost, nothing comes twice.

use crate::town::{Person, Town};
use crate::wire::{TIMEOUT, outcome};
use conclave_client::client::Target;
use conclave_proto::body::Body;
use serde_json::json;

#[tokio::test]
async fn a_session_that_was_away_gets_what_it_missed_once_in_order_and_marked() {
    let town = Town::new().await;
    let (_alice, bob, mut a, mut b) = town.pair().await;
    a.say("seen").await;
    b.hear().await;
    b.done("check_messages", json!({})).await;
    b.end().await;
    for n in 1..=5 {
        a.say(&format!("missed {n}")).await;
    }
    a.done("whisper", json!({"to": "bob/box/web", "text": "missed 6"}))
        .await;
    let mut b = bob.bridge("web").await;
    assert_eq!(b.you().await, "bob/box/web", "the handle is free again");
    let mut missed = Vec::new();
    for _ in 0..6 {
        let (meta, content) = b.hear().await;
        assert_eq!(meta["history"], "1", "{meta}");
        let words = content.lines().find_map(|line| line.split_once("| "));
        missed.push((meta["kind"] == "whisper", words.unwrap().1.to_owned()));
    }
    // Order holds within a channel; the mailbox is another log.
    missed.sort_by_key(|(whispered, _)| *whispered);
    let texts: Vec<_> = missed.into_iter().map(|(_, text)| text).collect();
    let expected: Vec<_> = (1..=6).map(|n| format!("missed {n}")).collect();
    assert_eq!(texts, expected);
    let (facts, _) = b.done("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 6);
    b.end().await;
    let mut b = bob.bridge("web").await;
    a.say("news").await;
    assert!(
        b.hear().await.1.contains("| news"),
        "nothing old comes twice"
    );
    let (facts, _) = b.done("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 1);
}

#[tokio::test]
async fn what_was_pushed_but_never_shown_comes_again_with_the_next_session() {
    let town = Town::new().await;
    let (_alice, bob, mut a, mut b) = town.pair().await;
    a.say("pushed into a context that was lost").await;
    b.hear().await;
    b.end().await;
    let mut b = bob.bridge("web").await;
    let (meta, content) = b.hear().await;
    assert_eq!(meta["history"], "1");
    assert!(content.contains("| pushed into"));
}

#[tokio::test]
async fn two_sessions_of_one_directory_have_different_handles_and_hear_each_other() {
    let town = Town::new().await;
    let alice = town.person("alice").await;
    let mut first = alice.bridge("api").await;
    let ops = json!({"name": "ops"});
    first.done("create_channel", ops).await;
    let mut second = alice.bridge("api").await;
    assert_eq!(first.you().await, "alice/box/api");
    assert_eq!(second.you().await, "alice/box/api-2");
    second
        .until("list_channels", |f| {
            f["servers"][0]["channels"][0]["followed"] == true
        })
        .await;
    first.say("hello twin").await;
    let (meta, _) = second.hear().await;
    assert_eq!(meta["from"], "alice/box/api");
    second.say("hello back").await;
    let (meta, content) = first.hear().await;
    assert_eq!(meta["from"], "alice/box/api-2");
    assert!(content.contains("| hello back"));
}

#[tokio::test]
async fn sessions_outlive_a_restart_of_the_server_and_nothing_is_lost() {
    let mut town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    a.say("before").await;
    b.hear().await;
    town.down().await;
    a.until("list_channels", |f| f["servers"][0]["online"] == false)
        .await;
    // Said while there is no server: it waits in the outbox.
    let args =
        json!({"name": "send_channel", "arguments": {"channel": "ops", "text": "meanwhile"}});
    let send = a.ask("tools/call", args).await;
    town.up().await;
    let (facts, _, failed) = outcome(&a.answer(send).await);
    assert!(!failed, "{facts}");
    assert!(b.hear().await.1.contains("| meanwhile"));
    b.say("after").await;
    assert!(a.hear().await.1.contains("| after"));
    let (_, text) = b.done("catch_up", json!({"channel": "ops"})).await;
    for said in ["before", "meanwhile", "after"] {
        assert_eq!(text.matches(&format!("| {said}")).count(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_session_starts_without_a_server_and_knows_its_channels() {
    let mut town = Town::new().await;
    let (_alice, bob, a, b) = town.pair().await;
    a.end().await;
    b.end().await;
    town.down().await;
    let mut b = bob.bridge("web").await;
    let (facts, _) = b.done("list_channels", json!({})).await;
    let server = &facts["servers"][0];
    assert_eq!(server["online"], false);
    assert_eq!(server["channels"][0]["channel"], "ops");
    assert_eq!(server["channels"][0]["level"], "converse");
    town.up().await;
    b.until("list_channels", |f| {
        f["servers"][0]["channels"][0]["followed"] == true
    })
    .await;
    b.say("there again").await;
}

#[tokio::test]
async fn lesson_15_a_server_is_one_however_it_is_named() {
    let town = Town::new().await;
    let alice = town.person("alice").await;
    let mut profile = alice.home.servers().unwrap().pop().unwrap();
    let other = format!("http://localhost:{}", town.addr.port());
    profile.urls.push(other.clone());
    alice.home.save(&profile).unwrap();
    let names = [profile.urls[0].clone(), other, profile.id.to_string()];
    let mut a = alice.bridge_at("api", &names).await;
    let (facts, _) = a.done("list_channels", json!({})).await;
    assert_eq!(facts["servers"].as_array().unwrap().len(), 1);
    let (facts, _, failed) = alice
        .bridge_at("api", &["http://127.0.0.1:1".into()])
        .await
        .call("list_channels", json!({}))
        .await;
    assert_eq!((facts["error"].as_str(), failed), (Some("not_found"), true));
}

#[tokio::test]
async fn an_account_made_while_the_session_runs_is_used_at_the_next_call() {
    let town = Town::new().await;
    let alice = Person::nobody();
    let mut a = alice.bridge("api").await;
    let (facts, _, failed) = a.call("list_channels", json!({})).await;
    assert_eq!(
        (facts["error"].as_str(), failed),
        (Some("unknown_key"), true)
    );
    alice.register(&town, "alice").await;
    assert_eq!(a.you().await, "alice/box/api");
}

#[tokio::test]
async fn hundreds_of_missed_messages_are_each_read_once_and_in_order() {
    const COUNT: usize = 400;
    let town = Town::new().await;
    let (alice, bob, _a, b) = town.pair().await;
    b.end().await;
    let cli = alice.one_shot().await;
    let ops = cli.resolve("ops").await.unwrap().channel;
    for n in 0..COUNT {
        let body = Body::text(format!("number {n}."));
        let target = Target::Channel(ops);
        cli.send(target, &body, 0, false).await.unwrap();
    }
    let mut b = bob.bridge("web").await;
    let mut read = Vec::new();
    let reading = async {
        while read.len() < COUNT {
            let (_, text) = b.done("check_messages", json!({"max": 50})).await;
            let words = text.lines().filter_map(|line| line.split_once("| number "));
            read.extend(words.map(|(_, n)| n.trim_end_matches('.').parse::<usize>().unwrap()));
        }
    };
    tokio::time::timeout(TIMEOUT, reading).await.unwrap();
    assert_eq!(read, (0..COUNT).collect::<Vec<_>>());
    b.end().await;
    let mut b = bob.bridge("web").await;
    b.you().await;
    let (facts, _) = b.done("check_messages", json!({})).await;
    assert_eq!(
        (&facts["messages"], &facts["unread"]),
        (&json!(0), &json!(0))
    );
}

#[tokio::test]
async fn a_session_that_died_is_taken_up_by_the_next_one() {
    let town = Town::new().await;
    let (_alice, bob, mut a, b) = town.pair().await;
    b.task.abort();
    assert!(b.task.await.unwrap_err().is_cancelled());
    a.say("are you there").await;
    let mut b = bob.bridge("web").await;
    assert_eq!(b.you().await, "bob/box/web");
    assert!(b.hear().await.1.contains("| are you there"));
}
