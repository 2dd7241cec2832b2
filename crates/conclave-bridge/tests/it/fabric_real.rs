//! Whole bridges over a real server and real sockets: what is said, heard, allowed and refused.

use crate::town::{Person, Town, name};
use crate::wire::outcome;
use conclave_client::client::{NewChannel, Signer};
use conclave_client::onboard;
use conclave_proto::channel_log::{Role, Visibility};
use serde_json::{Value, json};

#[tokio::test]
async fn what_one_session_says_is_pushed_to_the_other_as_the_host_expects_it() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    a.say("the endpoint is live <channel>").await;
    let (meta, content) = b.hear().await;
    for (key, value) in meta.as_object().unwrap() {
        assert!(value.is_string(), "{key}: {value}");
    }
    let expected = [
        ("kind", "message"),
        ("from", "alice/box/api"),
        ("channel", "ops"),
        ("level", "converse"),
        ("from_kind", "agent"),
    ];
    for (key, value) in expected {
        assert_eq!(meta[key], value, "{key} of {meta}");
    }
    assert!(
        meta.get("history").is_none() && content.contains("| the endpoint is live &lt;channel")
    );
    let reply = json!({"channel": "ops", "text": "seen", "reply_to": meta["msg_id"]});
    b.done("send_channel", reply).await;
    assert!(meta["msg_id"].is_string());
    let (answer, _) = a.hear().await;
    assert_eq!(
        (&answer["reply_to"], &answer["hop"]),
        (&meta["msg_id"], &json!("1"))
    );
}

#[tokio::test]
async fn whispers_go_both_ways_and_only_there() {
    let town = Town::new().await;
    let (_alice, bob, mut a, mut b) = town.pair().await;
    let mut other = bob.bridge("tests").await;
    other
        .until("list_channels", |f| {
            f["servers"][0]["channels"][0]["followed"] == true
        })
        .await;
    a.done(
        "whisper",
        json!({"to": "bob/box/web", "text": "between us"}),
    )
    .await;
    let (meta, content) = b.hear().await;
    assert_eq!(
        (&meta["kind"], &meta["from"]),
        (&json!("whisper"), &json!("alice/box/api"))
    );
    assert!(content.contains("| between us"));
    b.done(
        "whisper",
        json!({"to": "alice/box/api", "text": "and back"}),
    )
    .await;
    assert!(a.hear().await.1.contains("| and back"));
    a.say("to all").await;
    assert!(
        other.hear().await.1.contains("| to all"),
        "the whisper was for another session"
    );
}

#[tokio::test]
async fn who_shows_the_sessions_and_which_one_is_mine() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, _b) = town.pair().await;
    let (facts, _) = a.done("who", json!({"channel": "ops"})).await;
    let row = |s: &Value| (s["to"].clone(), s["online"].clone(), s["you"].clone());
    let rows: Vec<_> = facts["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(row)
        .collect();
    let expected = [
        (json!("alice/box/api"), json!(true), json!(true)),
        (json!("bob/box/web"), json!(true), json!(false)),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn history_is_read_again_and_unread_messages_are_checked_once() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    for text in ["one", "two", "three"] {
        a.say(text).await;
    }
    for _ in 0..3 {
        b.hear().await;
    }
    let (facts, text) = b.done("check_messages", json!({})).await;
    assert_eq!(
        (&facts["messages"], &facts["unread"]),
        (&json!(3), &json!(0))
    );
    assert!(text.contains("redelivered=1") && text.contains("| three"));
    let (facts, _) = b.done("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 0);
    let (facts, text) = b
        .done("catch_up", json!({"channel": "ops", "max": 2}))
        .await;
    assert_eq!(facts["messages"], 2);
    assert!(!text.contains("| one") && text.contains("| two") && text.contains("| three"));
    let (own, text) = a.done("catch_up", json!({"channel": "ops"})).await;
    assert_eq!(own["messages"], 3, "one's own words are history too");
    assert!(text.contains("history=1"));
}

#[tokio::test]
async fn a_wait_is_woken_by_what_a_peer_says() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    let wait = json!({"name": "wait_for_messages", "arguments": {"timeout_s": 60}});
    let wait = b.ask("tools/call", wait).await;
    b.tools().await;
    a.say("wake up").await;
    let (facts, text, failed) = outcome(&b.answer(wait).await);
    assert_eq!((&facts["messages"], failed), (&json!(1), false));
    assert!(text.contains("| wake up"));
}

#[tokio::test]
async fn who_is_kicked_hears_and_says_nothing_more() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    let (facts, _) = a
        .done("kick", json!({"channel": "ops", "target": "bob"}))
        .await;
    assert_eq!(facts["channel"], "ops");
    b.until("list_channels", |f| {
        f["servers"][0]["channels"] == json!([])
    })
    .await;
    a.say("without bob").await;
    let args = json!({"channel": "ops", "text": "let me in"});
    let (facts, _, failed) = b.call("send_channel", args).await;
    assert_eq!((facts["error"].as_str(), failed), (Some("not_found"), true));
    let (facts, _) = b.done("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 0);
    let (facts, _) = a.done("acl_list", json!({"channel": "ops"})).await;
    assert_eq!(facts["members"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_channel_that_was_left_is_quiet_until_it_is_joined_again() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    b.done("leave_channel", json!({"channel": "ops"})).await;
    a.say("while away").await;
    a.done("whisper", json!({"to": "bob/box/web", "text": "come back"}))
        .await;
    assert!(b.hear().await.1.contains("| come back"));
    b.done("join_channel", json!({"channel": "ops"})).await;
    let (meta, content) = b.hear().await;
    assert!(content.contains("| while away"), "{meta}");
}

#[tokio::test]
async fn a_lowered_level_holds_and_a_raise_is_refused() {
    let town = Town::new().await;
    let (_alice, bob, mut a, mut b) = town.pair().await;
    b.done("set_perm", json!({"channel": "ops", "level": "notify"}))
        .await;
    let args = json!({"channel": "ops", "text": "no"});
    let (facts, _, failed) = b.call("send_channel", args.clone()).await;
    assert!(failed, "{facts}");
    a.say("for your information").await;
    assert_eq!(b.hear().await.0["level"], "notify");
    let raise = json!({"channel": "ops", "level": "act"});
    let (facts, _, failed) = b.call("set_perm", raise).await;
    assert_eq!(
        (facts["error"].as_str(), failed),
        (Some("only_lower"), true)
    );
    b.end().await;
    let mut b = bob.bridge("web").await;
    let (_, _, failed) = b.call("send_channel", args).await;
    assert!(failed, "a lowered level outlives the session");
}

#[tokio::test]
async fn without_a_signed_policy_a_session_hears_and_says_nothing() {
    let town = Town::new().await;
    let (_alice, bob, mut a, b) = town.pair().await;
    b.end().await;
    let id = bob.home.servers().unwrap()[0].id;
    std::fs::remove_file(bob.home.server_dir(&id).join("policy")).unwrap();
    let mut b = bob.bridge("web").await;
    b.until("list_channels", |f| {
        f["servers"][0]["channels"][0]["followed"] == true
    })
    .await;
    a.say("hello").await;
    assert_eq!(b.hear().await.0["level"], "notify");
    assert!(!b.tools().await.contains(&"send_channel".to_owned()));
}

#[tokio::test]
async fn a_channel_that_another_process_joined_is_followed_when_channels_are_listed() {
    let town = Town::new().await;
    let (alice, bob, mut a, mut b) = town.pair().await;
    let host = alice.one_shot().await;
    let made = host
        .create_channel(NewChannel::new(name("den"), Visibility::Private))
        .await
        .unwrap();
    let den = *made.id();
    host.add_member(den, &name("bob"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    let followed = |f: &Value| {
        let channels = f["servers"][0]["channels"].as_array().unwrap();
        channels
            .iter()
            .any(|c| c["channel"] == "den" && c["followed"] == true)
    };
    b.until("list_channels", followed).await;
    a.until("list_channels", followed).await;
    a.done("send_channel", json!({"channel": "den", "text": "quietly"}))
        .await;
    let (meta, _) = b.hear().await;
    assert_eq!(meta["channel"], "den");
    drop(bob);
}

#[tokio::test]
async fn an_invited_newcomer_talks_in_the_channel_of_its_link() {
    let town = Town::new().await;
    let alice = town.person("alice").await;
    let mut a = alice.bridge("api").await;
    a.done("create_channel", json!({"name": "ops"})).await;
    let (facts, _) = a.done("invite_create", json!({"channel": "ops"})).await;
    let id = alice.home.servers().unwrap()[0].id;
    let kept = alice
        .home
        .server_dir(&id)
        .join("links")
        .join(facts["invite"].as_str().unwrap());
    let link = std::fs::read_to_string(kept).unwrap();
    assert!(
        !facts.to_string().contains(&link),
        "the link is for the human"
    );
    let bob = Person::nobody();
    let link = link.parse().unwrap();
    let came = onboard::redeem(&bob.home, &link, name("bob"), name("box"), "test").await;
    bob.settle(came.unwrap()).await;
    let mut b = bob.bridge("web").await;
    b.say("I am here").await;
    let (meta, _) = a.hear().await;
    assert_eq!(
        (&meta["from"], &meta["channel"]),
        (&json!("bob/box/web"), &json!("ops"))
    );
}

#[tokio::test]
async fn a_session_that_was_kicked_stays_out_until_its_agent_joins_again() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    let kick = json!({"channel": "ops", "target": "bob/box/web"});
    a.done("kick", kick).await;
    let followed = |f: &Value| f["servers"][0]["channels"][0]["followed"].clone();
    b.until("list_channels", |f| followed(f) == false).await;
    let facts = b.until("list_channels", |f| f["ok"] == true).await;
    assert_eq!(
        followed(&facts),
        false,
        "nothing follows it again by itself"
    );
    b.done("join_channel", json!({"channel": "ops"})).await;
    a.say("back again").await;
    assert!(b.hear().await.1.contains("| back again"));
}
