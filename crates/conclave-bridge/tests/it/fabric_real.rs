//! Whole bridges over a real server and real sockets, driven as the host does.

use crate::wire::{TIMEOUT, Wire, outcome};
use conclave_bridge::policy::Policy;
use conclave_bridge::{BridgeConfig, StartError, files, run_with};
use conclave_client::client::{Client, Session, Signer};
use conclave_client::home::Home;
use conclave_client::onboard::{self, Welcome};
use conclave_client::origin::Origin;
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::name::Name;
use conclave_proto::time::UnixMs;
use conclave_server::Config;
use conclave_server::config::Registration;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A server whose data outlives it.
struct Town {
    dir: TempDir,
    running: Option<conclave_server::Running>,
    addr: SocketAddr,
}

impl Town {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let addr = "127.0.0.1:0".parse().unwrap();
        let mut town = Self {
            dir,
            running: None,
            addr,
        };
        town.up().await;
        town
    }

    async fn up(&mut self) {
        let mut config = Config::in_dir(self.dir.path().join("data"));
        config.listen = self.addr;
        config.registration = Registration::Open;
        config.limits.registrations_per_hour = 0;
        config.limits.sends_per_second = 0;
        let server = config.build().await.unwrap();
        self.addr = server.local_addr();
        self.running = Some(server.spawn());
    }

    async fn down(&mut self) {
        let running = self.running.take().unwrap();
        running.shutdown().await.unwrap();
    }

    fn origin(&self) -> Origin {
        format!("http://{}", self.addr).parse().unwrap()
    }

    /// A machine with an account, and the policy that a human signs first.
    async fn person(&self, user: &str) -> Person {
        let person = Person::nobody();
        person.register(self, user).await;
        person
    }

    /// Alice and bob, both in #ops, each with a bridge.
    async fn pair(&self) -> (Person, Person, Bridge, Bridge) {
        let (alice, bob) = (self.person("alice").await, self.person("bob").await);
        let (mut a, mut b) = (alice.bridge("api").await, bob.bridge("web").await);
        let ops = json!({"name": "ops", "visibility": "public"});
        a.done("create_channel", ops).await;
        b.done("join_channel", json!({"channel": "#ops"})).await;
        (alice, bob, a, b)
    }
}

/// One machine of one user.
struct Person {
    dir: TempDir,
    home: Home,
}

impl Person {
    fn nobody() -> Self {
        let dir = TempDir::new().unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        Self { dir, home }
    }

    async fn register(&self, town: &Town, user: &str) {
        let origin = town.origin();
        let made = onboard::register(&self.home, &origin, name(user), name("box"), "test").await;
        self.settle(made.unwrap()).await;
    }

    async fn settle(&self, welcome: Welcome) {
        let id = welcome.profile.id;
        let policy = Policy::first(id, UnixMs(1));
        let signed = policy.sign(welcome.owner.unwrap().secret()).unwrap();
        files::keep_policy(&self.home.server_dir(&id), &signed).unwrap();
        welcome.client.stop().await;
    }

    /// A session of the command line.
    async fn one_shot(&self) -> Client {
        let profile = self.home.servers().unwrap().pop().unwrap();
        let session = Session::one_shot("test").unwrap();
        let (client, _events) = Client::connect(&self.home, &profile, session)
            .await
            .unwrap();
        client.ready(TIMEOUT).await.unwrap();
        client
    }

    async fn bridge(&self, handle: &str) -> Bridge {
        self.bridge_at(handle, &[]).await
    }

    async fn bridge_at(&self, handle: &str, servers: &[String]) -> Bridge {
        let config = BridgeConfig {
            home: self.dir.path().join("home"),
            servers: servers.to_vec(),
            channels: Vec::new(),
            handle: name(handle),
            pinned: false,
            agent: "test".into(),
        };
        let (mut wire, input, output) = Wire::new();
        let closed = CancellationToken::new();
        let task = tokio::spawn(run_with(None, config.opener(), input, output, closed));
        wire.greet().await;
        Bridge { wire, task }
    }
}

/// A running bridge, and its host.
struct Bridge {
    wire: Wire,
    task: JoinHandle<Result<(), StartError>>,
}

impl Deref for Bridge {
    type Target = Wire;
    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Bridge {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Bridge {
    /// Calls a tool that must succeed.
    async fn done(&mut self, tool: &str, args: Value) -> (Value, String) {
        let (facts, text, failed) = self.call(tool, args).await;
        assert!(!failed, "{tool}: {facts}");
        (facts, text)
    }

    /// Says something in #ops; it must be stored.
    async fn say(&mut self, text: &str) {
        let args = json!({"channel": "ops", "text": text});
        let (facts, _) = self.done("send_channel", args).await;
        assert_eq!(facts["status"], "stored", "{facts}");
    }

    /// Waits for the next message that is pushed: its attributes and its content.
    async fn hear(&mut self) -> (Value, String) {
        loop {
            let push = self.push().await;
            let params = &push["params"];
            if push["method"] == "notifications/claude/channel"
                && params["meta"]["kind"] != "system"
            {
                let content = params["content"].as_str().unwrap().to_owned();
                return (params["meta"].clone(), content);
            }
        }
    }

    /// Asks until the facts fit.
    async fn until(&mut self, tool: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let asked = async {
            loop {
                let (facts, ..) = self.call(tool, json!({})).await;
                if fits(&facts) {
                    return facts;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, asked).await.unwrap()
    }

    async fn you(&mut self) -> String {
        let (facts, _) = self.done("list_channels", json!({})).await;
        facts["servers"][0]["you"].as_str().unwrap().to_owned()
    }

    /// The host goes.
    async fn end(mut self) {
        self.hang_up().await;
        let ended = tokio::time::timeout(TIMEOUT, self.task).await;
        ended.unwrap().unwrap().unwrap();
    }
}

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
        .create_channel(name("den"), Visibility::Private, None)
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
async fn a_server_is_one_however_it_is_named() {
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
