//! Searching what was said: here after the past was brought here, once, and only what is one's own.

use crate::pair::two;
use crate::scene::{CHANNEL, Scene, gap, say, says, texts};
use crate::talk::World;
use conclave_client::client::Target;
use conclave_client::replica::Replica;
use conclave_client::replica::search::{joined, newest_hole, words};
use conclave_proto::body::Body;
use conclave_proto::frame::Outcome;
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{EntryPage, Reply};
use conclave_proto::id::{ChannelId, LogId, MsgId};
use conclave_sim::hostile::{Asked, Script, env};

#[test]
fn holes_are_found_from_the_newest_on() {
    assert_eq!(
        joined(vec![(5, 9), (1, 3), (4, 4), (20, 30), (7, 12)]),
        [(1, 12), (20, 30)]
    );
    assert_eq!(joined(vec![(3, 2)]), []);
    type Part = (u64, u64);
    let table: [(&[Part], u64, Option<Part>); 7] = [
        (&[], 0, None),
        (&[], 10, Some((1, 10))),
        (&[(1, 10)], 10, None),
        (&[(4, 10)], 10, Some((1, 3))),
        (&[(1, 4)], 10, Some((5, 10))),
        (&[(1, 4), (8, 10)], 10, Some((5, 7))),
        (&[(1, 4), (8, 20)], 10, Some((5, 7))),
    ];
    for (parts, head, hole) in table {
        assert_eq!(newest_hole(parts, head), hole, "{parts:?} of {head}");
    }
}

#[test]
fn only_words_of_a_query_count() {
    let expected = ["\"don\"", "\"t\"", "\"AND\"", "\"x\""];
    assert_eq!(words("don't  \"AND\" x*"), expected);
    assert!(words(" -*\" ").is_empty());
    assert_eq!(words(&"w ".repeat(100)).len(), 32);
}

#[tokio::test]
async fn what_was_said_before_a_session_came_is_found_and_read_only_once() {
    let world = World::start().await;
    let ((_ada, a, _), (bob, b, _), ops) = two(&world).await;
    for n in 0..600 {
        say(&a, ops, &format!("chatter {n}")).await;
    }
    say(&a, ops, "the giraffe is in the basement").await;
    let found = b.search_history(None, "giraffes", 10).await.unwrap();
    assert!(found.complete);
    assert_eq!(texts(&found.messages), ["the giraffe is in the basement"]);
    // The next search reads only what is new.
    b.stop().await;
    let (b, _events) = bob.session("web", 5).await;
    say(&a, ops, "another giraffe").await;
    let found = b.search_history(Some(ops), "giraffe", 10).await.unwrap();
    assert!(found.complete && found.messages.len() == 2);
    let found = b.search_history(Some(ops), "chatter 7", 200).await.unwrap();
    assert_eq!(found.messages.len(), 200);
    assert_eq!(found.messages[0].body.text.as_deref(), Some("chatter 7"));
}

#[tokio::test]
async fn a_search_finds_this_sessions_whispers_but_not_those_of_another_one() {
    let world = World::start().await;
    let ((_ada, a, _), (bob, b, mut b_events), ops) = two(&world).await;
    let (other, mut other_events) = bob.session("tests", 7).await;
    b.follow_mailbox().await.unwrap();
    other.follow_mailbox().await.unwrap();
    b.follow(ops).await.unwrap();
    let to = |handle: &str| Target::Session(format!("bob/box/{handle}").parse().unwrap());
    for handle in ["web", "tests"] {
        let body = Body::text(format!("an okapi for {handle}"));
        a.send(to(handle), &body, 0, false).await.unwrap();
    }
    // The same words in two logs are one message.
    let (id, body) = (MsgId::new([9; 16]), Body::text("an okapi for all"));
    a.send_as(id, Target::Channel(ops), &[], &body, 0, false)
        .await
        .unwrap();
    a.send_as(id, to("web"), &[], &body, 0, false)
        .await
        .unwrap();
    for _ in 0..3 {
        crate::scene::heard(&mut b_events).await;
    }
    crate::scene::heard(&mut other_events).await;
    let found = b.search_history(None, "okapi", 10).await.unwrap();
    let mut found = texts(&found.messages);
    found.sort_unstable();
    assert_eq!(found, ["an okapi for all", "an okapi for web"]);
    let found = other.search_history(None, "okapi", 10).await.unwrap();
    let mut found = texts(&found.messages);
    found.sort_unstable();
    assert_eq!(found, ["an okapi for all", "an okapi for tests"]);
    // Its sender finds what it whispered, too.
    let found = a.search_history(None, "okapi", 10).await.unwrap();
    assert_eq!(found.messages.len(), 3);
}

/// A gap that the server tells of is no reason not to look behind it.
#[tokio::test]
async fn a_gap_before_what_was_asked_for_hides_nothing() {
    let scene = Scene::new().await;
    let old = env(3, says(&scene.ada, 1, "the giraffe is in the basement"));
    let new = env(300, says(&scene.ada, 2, "nothing"));
    let entries = vec![old, new.clone()];
    let lie = move |asked: Asked<'_>| match asked.op {
        Op::Read(op) if (5..300).contains(&op.after) => Some(Outcome::Ok(Reply::Page(EntryPage {
            entries: vec![new.clone()],
            gap: Some(gap(1, 299)),
            next: 300,
            head: 300,
        }))),
        _ => None,
    };
    let tells = move |script: &mut Script| {
        script.channel(CHANNEL).extend(entries);
        script.lie(lie);
    };
    scene.liar.tell(tells).await;
    let found = scene.bob.search_history(Some(CHANNEL), "giraffe", 10).await;
    let found = found.unwrap();
    assert!(found.complete);
    assert_eq!(texts(&found.messages), ["the giraffe is in the basement"]);
}

#[tokio::test]
async fn what_others_keep_does_not_hide_what_is_here() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::open(&dir.path().join("r.sqlite")).await.unwrap();
    let sql = "WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 5000)
         INSERT INTO memory (log, item, seq, at, sender, user, text, tags)
         SELECT x'0101010101010101010101010101010101', randomblob(16), i, i, 'b/b/b',
           zeroblob(32), iif(i <= 20, 'zebra', 'deploy'), '[]' FROM c;
         INSERT INTO memory (log, item, seq, at, sender, user, text, tags)
         VALUES (x'0102020202020202020202020202020202', randomblob(16), 1, 1, 'b/b/b',
           zeroblob(32), 'how to deploy', '[]');";
    let fill = replica.call(move |db| db.execute_batch(sql));
    fill.await.unwrap();
    let mine = LogId::Channel(ChannelId::new([2; 16]));
    for query in ["deploy", "deploy zebra"] {
        let found = replica.recall(vec![mine], words(query), vec![], 10);
        assert_eq!(found.await.unwrap().len(), 1, "{query}");
    }
}
