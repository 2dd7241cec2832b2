//! Asking: the answer in the same call if it comes in time, else a message that names the question.

use crate::town::Town;
use crate::wire::outcome;
use crate::world::{Desk, OPS, message, whisper, world};
use conclave_bridge::policy::Levels;
use conclave_bridge::state::{Age, Audience, Home, HomeId, Input, Message, Output, State};
use conclave_bridge::tool::Sets;
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_proto::time::Now;
use serde_json::{Value, json};

use std::collections::BTreeMap;
const BOB: &str = "bob/laptop/main";

/// The id of whatever the fake server is given.
const ASKED: MsgId = MsgId::new([200; 16]);

fn answer(n: u8, from: &str, text: &str) -> Message {
    Message {
        from: from.parse().unwrap(),
        reply_to: Some(ASKED),
        ..whisper(n, text)
    }
}

/// Asks bob, and waits until that was said.
async fn asks(desk: &mut Desk, more: Value) -> u64 {
    let mut arguments = json!({"to": BOB, "question": "is it done?"});
    arguments
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let call = json!({"name": "ask", "arguments": arguments});
    let id = desk.ask("tools/call", call).await;
    let world = desk.fake.until(|world| !world.sent.is_empty()).await;
    assert!(world.sent[0].expects_reply);
    id
}

async fn marked(desk: &Desk, id: MsgId) {
    desk.fake.until(|world| world.shown.contains(&id)).await;
}

#[tokio::test]
async fn an_answer_in_time_ends_the_call_and_counts_as_shown() {
    let mut desk = Desk::open(world()).await;
    let call = asks(&mut desk, json!({})).await;
    desk.arrives(message(1, "something else")).await;
    desk.arrives(answer(2, BOB, "it is")).await;
    let (facts, text, failed) = outcome(&desk.answer(call).await);
    assert!(!failed, "{facts}");
    assert_eq!(
        (&facts["status"], &facts["answers"]),
        (&json!("answered"), &json!(1))
    );
    assert_eq!(facts["id"], ASKED.to_string());
    assert!(text.contains("| it is") && !text.contains("something else"));
    assert_eq!(facts["unread"], 1, "what others said waits");
    marked(&desk, MsgId::new([2; 16])).await;
    let (_, text, _) = desk.call("check_messages", json!({})).await;
    assert!(text.contains("something else") && !text.contains("| it is"));
}

#[tokio::test]
async fn without_an_answer_in_time_the_question_is_pending_and_the_answer_a_message() {
    let mut desk = Desk::open(world()).await;
    let call = asks(&mut desk, json!({"timeout_s": 1})).await;
    let (facts, ..) = outcome(&desk.answer(call).await);
    assert_eq!(
        (&facts["status"], &facts["answers"]),
        (&json!("pending"), &json!(0))
    );
    desk.arrives(Message {
        question: Some("is it\n[conclave] done?".into()),
        ..answer(2, BOB, "now it is")
    })
    .await;
    let push = desk.push().await;
    assert_eq!(push["params"]["meta"]["answers"], ASKED.to_string());
    let content = push["params"]["content"].as_str().unwrap();
    let named = content.lines().nth(1).unwrap();
    assert!(
        named.ends_with("] it answers your question: is it [conclave] done?"),
        "{named}"
    );
    assert!(content.contains("| now it is"));
}

/// The host may give a call up: then nobody has read the answers.
#[tokio::test]
async fn a_call_that_was_given_up_keeps_no_answer() {
    let mut desk = Desk::open(world()).await;
    let call = asks(&mut desk, json!({})).await;
    let gone = json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": {"requestId": call, "reason": "esc"}});
    desk.line(&gone.to_string()).await;
    // The host reads lines in order: when this is answered, the call is cancelled.
    desk.call("list_channels", json!({})).await;
    desk.arrives(answer(2, BOB, "late")).await;
    let push = desk.push().await;
    let content = push["params"]["content"].as_str().unwrap();
    assert!(content.contains("| late"), "{content}");
    assert!(desk.fake.0.borrow().shown.is_empty(), "nothing was shown");
}

fn of(home: usize, sessions: &[&str], channels: &[ChannelId]) -> Audience {
    Audience {
        home: HomeId(home),
        sessions: sessions.iter().map(|path| path.parse().unwrap()).collect(),
        channels: channels.to_vec(),
    }
}

#[test]
fn only_who_was_asked_answers_and_others_say_something_of_their_own() {
    let now = Now::default();
    let eve = "eve/box/x";
    let in_ops = |n, from| Message {
        reply_to: Some(ASKED),
        from: str::parse(from).unwrap(),
        ..message(n, "yes")
    };
    // By whom, where; whether it counts if bob was asked, if #ops was, or bob on another server.
    let table = [
        (answer(2, BOB, "yes"), [true, false, false]),
        (answer(3, eve, "yes"), [false, false, false]),
        (in_ops(4, eve), [false, true, false]),
        (in_ops(5, BOB), [true, true, false]),
    ];
    for (at, audience) in [
        of(0, &[BOB], &[]),
        of(0, &[], &[OPS]),
        of(1, &[BOB], &[OPS]),
    ]
    .into_iter()
    .enumerate()
    {
        for (said, counts) in &table {
            let mut state = State::new(now, [1; 32], Sets::default());
            state.handle(now, Input::Home(HomeId(0), Box::new(home())));
            let mut early = State::new(now, [1; 32], Sets::default());
            let said = || Input::Arrived(Box::new(said.clone()), Age::Live);
            state.ask(ASKED, audience.clone());
            state.handle(now, said());
            // It may come before the server's word that the question is stored.
            early.handle(now, said());
            early.ask(ASKED, audience.clone());
            let counted = usize::from(counts[at]);
            for state in [&state, &early] {
                let got = (state.answered(ASKED), state.unread());
                assert_eq!(got, (counted, 1 - counted), "{audience:?}");
            }
        }
    }
}

#[test]
fn answers_that_nobody_heard_are_messages_again() {
    let now = Now::default();
    let mut state = State::new(now, [1; 32], Sets::default());
    state.handle(now, Input::HostReady);
    state.handle(now, Input::Home(HomeId(0), Box::new(home())));
    state.ask(ASKED, of(0, &[BOB, "carol/desk/x"], &[]));
    for (n, from) in [(2, BOB), (2, BOB), (3, BOB), (4, "carol/desk/x")] {
        let answer = Box::new(answer(n, from, "yes"));
        state.handle(now, Input::Arrived(answer, Age::Live));
    }
    assert_eq!(
        (state.answered(ASKED), state.unread()),
        (2, 0),
        "by session"
    );
    state.drop_ask(now, ASKED);
    assert_eq!(state.unread(), 3, "each once");
    let outputs: Vec<Output> = std::iter::from_fn(|| state.poll_output()).collect();
    assert!(
        !outputs.iter().any(|o| matches!(o, Output::Mark(..))),
        "{outputs:?}"
    );
    let pushed = outputs.iter().filter(|o| matches!(o, Output::Push(_)));
    assert_eq!(pushed.count(), 3);

    state.ask(ASKED, of(0, &[BOB, "carol/desk/x"], &[]));
    let frames = state.take_answers(now, ASKED, 250);
    assert_eq!(
        (frames.len(), state.unread()),
        (1, 2),
        "what does not fit is unread"
    );
}

fn home() -> Home {
    let view = world().view;
    Home {
        name: view.name,
        levels: Levels::new(view.policy, view.lowered),
        senders: view.senders,
        channels: [(OPS, false)].into(),
        me: Some("alice/desk/main".parse().unwrap()),
        carries: BTreeMap::new(),
        status: None,
    }
}

#[tokio::test]
async fn an_answer_that_was_here_before_the_question_was_known_to_be_sent_counts() {
    let mut desk = Desk::open(world()).await;
    desk.arrives(answer(2, BOB, "I knew")).await;
    desk.push().await;
    let call = asks(&mut desk, json!({})).await;
    let (facts, text, _) = outcome(&desk.answer(call).await);
    assert_eq!(facts["status"], "answered");
    assert!(text.contains("| I knew"));
}

/// One session that answers twice is one answer, and its mailbox or channel does not matter.
#[tokio::test]
async fn a_muted_peer_answers_nobody() {
    let mut desk = Desk::open(world()).await;
    let mute = json!({"channel": "ops", "level": "mute"});
    desk.call("set_perm", mute).await;
    let call = asks(&mut desk, json!({"timeout_s": 1})).await;
    desk.arrives(Message {
        log: LogId::Channel(OPS),
        reply_to: Some(ASKED),
        ..message(4, "from a muted place")
    })
    .await;
    let (facts, text, _) = outcome(&desk.answer(call).await);
    assert_eq!(
        (&facts["status"], &facts["answers"]),
        (&json!("pending"), &json!(0))
    );
    assert!(!text.contains("muted place"));
}

#[tokio::test]
async fn a_question_is_answered_within_the_call_and_after_it_also_after_a_restart() {
    let town = Town::new().await;
    let (alice, _bob, mut a, mut b) = town.pair().await;
    let ask = |timeout_s: u64| {
        let arguments =
            json!({"to": "bob/box/web", "question": "is it done?", "timeout_s": timeout_s});
        json!({"name": "ask", "arguments": arguments})
    };
    let call = a.ask("tools/call", ask(60)).await;
    let (asked, _) = b.hear().await;
    let reply =
        |text: &str, id: &Value| json!({"to": "alice/box/api", "text": text, "reply_to": id});
    b.done("whisper", reply("it is", &asked["msg_id"])).await;
    let (facts, text, _) = outcome(&a.answer(call).await);
    assert_eq!(facts["status"], "answered", "{facts}");
    assert!(text.contains("| it is"));

    let call = a.ask("tools/call", ask(1)).await;
    let (asked, _) = b.hear().await;
    let (facts, ..) = outcome(&a.answer(call).await);
    assert_eq!(
        (&facts["status"], &facts["id"]),
        (&json!("pending"), &asked["msg_id"])
    );
    b.done("whisper", reply("now it is", &asked["msg_id"]))
        .await;
    for restarted in [false, true] {
        if restarted {
            a.end().await;
            a = alice.bridge("api").await;
        }
        let (meta, content) = a.hear().await;
        assert_eq!(meta["answers"], asked["msg_id"]);
        assert!(
            content.contains("it answers your question: is it done?"),
            "{content}"
        );
    }
    let (facts, text) = a.done("check_messages", json!({})).await;
    assert_eq!(facts["messages"], 1);
    assert!(
        text.contains("answers=") && text.contains("| now it is"),
        "{text}"
    );
}

/// Who has seen this? Everybody in a group is asked, and each answers on its own way.
#[tokio::test]
async fn a_group_is_asked_and_its_answers_are_collected() {
    let town = Town::new().await;
    let (_alice, _bob, mut a, mut b) = town.pair().await;
    let carol = town.person("carol").await;
    let mut c = carol.bridge("ci").await;
    c.done("join_channel", json!({"channel": "#ops"})).await;
    for bridge in [&mut b, &mut c] {
        bridge
            .done("join_group", json!({"name": "reviewers"}))
            .await;
    }
    a.until("list_peers", |facts| {
        let carry = |peer: &&Value| !peer["groups"].as_array().is_none_or(Vec::is_empty);
        let peers = facts["peers"].as_array().into_iter().flatten();
        peers.filter(carry).count() == 2
    })
    .await;
    let question = json!({"to": "@reviewers", "question": "who has seen this?"});
    let call = json!({"name": "ask", "arguments": question});
    let call = a.ask("tools/call", call).await;
    let (asked, _) = b.hear().await;
    let id = &asked["msg_id"];
    let whisper = json!({"to": "alice/box/api", "text": "I have", "reply_to": id});
    b.done("whisper", whisper).await;
    let (asked, _) = c.hear().await;
    assert_eq!(&asked["msg_id"], id);
    let aloud = json!({"channel": "ops", "text": "so have I", "reply_to": id});
    c.done("send_channel", aloud).await;
    let (facts, text, failed) = outcome(&a.answer(call).await);
    assert!(!failed, "{facts}");
    assert_eq!(
        (&facts["status"], &facts["answers"]),
        (&json!("answered"), &json!(2))
    );
    assert!(
        text.contains("| I have") && text.contains("| so have I"),
        "{text}"
    );
    let (facts, _) = a.done("message_status", json!({"id": id})).await;
    assert_eq!(facts["counts"], json!({"answered": 2}), "{facts}");
}

/// A world with so many sessions besides bob's.
fn crowd(count: usize) -> crate::world::World {
    let mut world = world();
    let peer = |n| (format!("bob/laptop/s{n}"), Default::default());
    world.peers = (0..count).map(peer).collect();
    world
}

#[tokio::test]
async fn where_nobody_is_there_a_question_waits_for_nobody() {
    let mut desk = Desk::open(crowd(0)).await;
    let args = json!({"to": "#ops", "question": "anybody?", "timeout_s": 600});
    let (facts, _, failed) = desk.call("ask", args).await;
    assert!(!failed, "{facts}");
    assert_eq!(
        (&facts["status"], &facts["answers"]),
        (&json!("pending"), &json!(0))
    );
    assert!(
        facts["hint"]
            .as_str()
            .unwrap()
            .starts_with("nobody is there")
    );
}

#[tokio::test]
async fn who_could_not_be_asked_is_not_waited_for() {
    let mut some = crowd(2);
    some.refuse_to = Some("bob/laptop/s1".parse().unwrap());
    let mut desk = Desk::open(some).await;
    let to = json!(["bob/laptop/s0", "bob/laptop/s1"]);
    let call = asks(&mut desk, json!({"to": to, "timeout_s": 600})).await;
    desk.arrives(answer(1, "bob/laptop/s0", "here")).await;
    let (facts, text, _) = outcome(&desk.answer(call).await);
    assert_eq!(
        (&facts["status"], &facts["error"]),
        (&json!("answered"), &json!("partial"))
    );
    assert!(text.contains("| here"));
}

#[tokio::test]
async fn all_of_many_can_answer_whatever_one_talker_says() {
    let mut desk = Desk::open(crowd(70)).await;
    let call = asks(&mut desk, json!({"to": "#ops", "timeout_s": 600})).await;
    for n in 0..64 {
        desk.arrives(answer(n, "bob/laptop/s0", "and another thing"))
            .await;
    }
    for n in 1..70 {
        desk.arrives(answer(100 + n, &format!("bob/laptop/s{n}"), "here"))
            .await;
    }
    let (facts, ..) = outcome(&desk.answer(call).await);
    assert_eq!(
        (&facts["status"], &facts["answers"]),
        (&json!("answered"), &json!(70))
    );
}
