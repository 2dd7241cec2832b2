//! What a sender learns of what it said, between whole bridges; and what an agent can afford to read.

use crate::town::{Bridge, Town};
use crate::wire::TIMEOUT;
use crate::world::{Desk, message, world};
use conclave_bridge::fabric::Event;
use conclave_proto::id::MsgId;
use conclave_proto::time::UnixMs;
use conclave_server::config::Span;
use serde_json::{Value, json};
use std::time::Duration;

const BOB: &str = "bob/box/web";

impl Bridge {
    /// Whispers to bob; returns the message's id.
    async fn whisper(&mut self, text: &str) -> Value {
        let (facts, _) = self.done("whisper", json!({"to": BOB, "text": text})).await;
        assert_eq!(facts["status"], "stored", "{facts}");
        facts["id"].clone()
    }

    /// Returns what became of a message for a peer.
    async fn step(&mut self, id: &Value, peer: &str) -> Value {
        let (facts, _) = self.done("message_status", json!({"id": id})).await;
        let rows = facts["recipients"].as_array().unwrap();
        let row = rows.iter().find(|row| row["peer"] == peer);
        row.map_or(Value::Null, |row| row["step"].clone())
    }

    /// Waits until a message has come so far with a peer.
    async fn reaches(&mut self, id: &Value, peer: &str, wanted: &str) {
        let mut last = Value::Null;
        let asked = async {
            loop {
                last = self.step(id, peer).await;
                if last == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(TIMEOUT, asked).await.is_err() {
            panic!("{id} does not reach {wanted}; it is {last}");
        }
    }

    /// Waits for a notice of a kind.
    async fn noticed(&mut self, word: &str) -> String {
        loop {
            let push = self.push().await;
            let params = &push["params"];
            if params["meta"]["notice"] == word {
                return params["content"].as_str().unwrap().to_owned();
            }
        }
    }
}

#[tokio::test]
async fn a_whisper_to_who_is_away_walks_the_ladder_when_it_comes_back() {
    let town = Town::new().await;
    let (_alice, bob, mut a, b) = town.pair().await;
    b.end().await;
    let id = a.whisper("when you are back").await;
    assert_eq!(a.step(&id, BOB).await, "stored");
    let mut b = bob.bridge("web").await;
    let (meta, _) = b.hear().await;
    assert_eq!(meta["msg_id"], id);
    // It is on bob's machine, and was pushed: that proves nothing.
    a.reaches(&id, BOB, "offered").await;
    b.done("check_messages", json!({})).await;
    a.reaches(&id, BOB, "in_context").await;
    let answer = json!({"to": "alice/box/api", "text": "I am", "reply_to": id});
    b.done("whisper", answer).await;
    a.reaches(&id, BOB, "answered").await;
    let (facts, _) = a.done("message_status", json!({"id": id})).await;
    assert_eq!(facts["counts"], json!({"answered": 1}));

    let unknown = MsgId::new([9; 16]).to_string();
    let (facts, _, failed) = a.call("message_status", json!({"id": unknown})).await;
    assert_eq!((failed, &facts["error"]), (true, &json!("not_found")));
}

#[tokio::test]
async fn a_message_whose_recipients_nobody_named_says_that_it_is_not_followed() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, _b) = town.pair().await;
    let args = json!({"channel": "ops", "text": "to whom it may concern"});
    let (sent, _) = a.done("send_channel", args).await;
    let (facts, _) = a.done("message_status", json!({"id": sent["id"]})).await;
    let hint = facts["hint"].as_str().unwrap();
    assert!(hint.contains("send_message"), "{hint}");
    assert!(!hint.contains("more than"), "two are there: {hint}");
}

#[tokio::test]
async fn a_whisper_to_a_muted_session_is_blocked() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    let mute = json!({"level": "mute", "whisper": true});
    b.done("set_perm", mute).await;
    let id = a.whisper("psst").await;
    a.reaches(&id, BOB, "blocked").await;
    let (facts, _) = b.done("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 0);
}

#[tokio::test]
async fn a_whisper_that_nobody_comes_for_bounces_once_also_after_a_restart() {
    for restarted in [false, true] {
        let town = Town::keeping(Span::seconds(1)).await;
        let (alice, _bob, mut a, b) = town.pair().await;
        b.end().await;
        let id = a.whisper("in vain").await;
        if restarted {
            a.end().await;
            a = alice.bridge("api").await;
        }
        let told = a.noticed("bounced").await;
        let id = id.as_str().unwrap();
        assert!(told.contains(id) && told.contains(BOB), "{told}");
        let (facts, _) = a.done("check_messages", json!({})).await;
        assert_eq!(facts["expired"][0]["id"], id, "{facts}");
        assert_eq!(a.step(&json!(id), BOB).await, "expired");
        let (facts, _) = a.done("check_messages", json!({})).await;
        assert_eq!(facts.get("expired"), None, "told once: {facts}");
        a.end().await;
        let mut a = alice.bridge("api").await;
        let (facts, _) = a.done("check_messages", json!({})).await;
        assert_eq!(facts.get("expired"), None, "and no session later: {facts}");
    }
}

#[tokio::test]
async fn what_expired_is_told_in_our_words_and_bounded() {
    let mut desk = Desk::open(world()).await;
    for n in 0..40 {
        let expired = Event::Bounced {
            id: MsgId::new([n; 16]),
            peer: BOB.parse().unwrap(),
            at: UnixMs(1),
        };
        desk.event(expired).await;
    }
    // The last event is taken before the call after it is.
    desk.arrives(message(1, "hi")).await;
    desk.until_unread(1).await;
    let (facts, ..) = desk.call("check_messages", json!({})).await;
    assert_eq!(facts["expired"].as_array().unwrap().len(), 32);
    assert_eq!(facts["expired"][0]["to"], BOB);
}

impl Desk {
    pub(crate) async fn until_unread(&mut self, count: u64) {
        let asked = async {
            loop {
                let (facts, ..) = self.call("list_channels", json!({})).await;
                if facts["unread"] == count {
                    return;
                }
            }
        };
        tokio::time::timeout(TIMEOUT, asked).await.unwrap();
    }
}

/// An agent that says what it can spend gets the newest whole, and learns what else there is; only
/// what it got is read.
#[tokio::test]
async fn what_does_not_fit_is_named_and_stays_unread() {
    let mut desk = Desk::open(world()).await;
    for n in 1..=5 {
        desk.arrives(message(n, &"word ".repeat(100))).await;
    }
    desk.until_unread(5).await;
    let args = json!({"max_tokens": 500});
    let (facts, text, _) = desk.call("check_messages", args.clone()).await;
    let line = facts.to_string();
    assert!(line.len() + text.len() < 500 * 4 + 100, "{line}\n{text}");
    let whole = facts["messages"].as_u64().unwrap();
    let named = facts["digest"].as_array().unwrap();
    assert!(whole >= 1 && whole + named.len() as u64 == 5, "{facts}");
    assert_eq!(facts["unread"], 5 - whole);
    let oldest = MsgId::new([1; 16]).to_string();
    assert_eq!(named[0]["id"], oldest, "{facts}");
    assert_eq!(
        (&named[0]["bytes"], &named[0]["in"]),
        (&json!(500), &json!("#ops"))
    );
    assert!(!text.contains(&oldest), "it is named, not shown");
    let newest = MsgId::new([5; 16]).to_string();
    assert!(text.contains(&newest));
    // The history can be read by the same means, and marks nothing.
    desk.fake.0.send_modify(|world| {
        world.history = (1..=5).map(|n| message(n, &"word ".repeat(100))).collect();
    });
    let (again, text, _) = desk.call("catch_up", args).await;
    assert_eq!(again["messages"], facts["messages"]);
    assert!(text.contains(&newest) && again["unread"] == facts["unread"]);
}
