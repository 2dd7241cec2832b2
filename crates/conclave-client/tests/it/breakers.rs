//! Members who write items without this program's rules: what others make of it.

use crate::scene::{CHANNEL, LOG, Scene, adds, kinds, says};
use conclave_client::event::{Notice, NoticeKind};
use conclave_client::item::Recall;
use conclave_e2ee::IndexKey;
use conclave_proto::body::Body;
use conclave_proto::channel_log::Role;
use conclave_proto::entry::{Envelope, Route};
use conclave_proto::id::MsgId;
use conclave_sim::hostile::{Person, ctl, env};

/// An item that somebody writes without asking this program's rules.
fn writes(who: &Person, route: Route, ctr: u64, body: &Body) -> Envelope {
    let header = who.header(CHANNEL, route, ctr);
    Envelope::clear(&header, body.to_bytes().unwrap(), &who.machine)
}

/// How many entries were refused for their form; what comes after them misses them.
fn malformed(notices: &[Notice]) -> usize {
    let kinds = kinds(notices);
    kinds
        .iter()
        .filter(|kind| **kind == NoticeKind::Malformed)
        .count()
}

fn keyed(key: &str, data: Option<&str>) -> Body {
    Body {
        key: Some(key.into()),
        data: data.map(Into::into),
        ..Body::default()
    }
}

#[tokio::test]
async fn who_breaks_the_rules_wins_no_claim_and_no_slot() {
    let mut scene = Scene::following().await;
    let slot = |key: &str| IndexKey::public(&CHANNEL).slot(key);
    let lease = "{\"ttl_ms\":3600000}";
    let (db, x) = (slot("claim:db"), slot("x"));
    let add = adds(
        &scene.ada,
        CHANNEL,
        scene.head,
        &scene.eve.log,
        Role::Member,
    );
    let eve = &scene.eve;
    // From here on bob misses nothing.
    scene.bob.sync_items(CHANNEL).await.unwrap();
    let entries = vec![
        ctl(3, &add),
        env(
            4,
            writes(
                &scene.ada,
                Route::State(db, 0),
                1,
                &keyed("claim:db", Some(lease)),
            ),
        ),
        // Over the holder's head, as the version allows; without asking for a version; another's words.
        env(
            5,
            writes(eve, Route::State(db, 4), 1, &keyed("claim:db", Some(lease))),
        ),
        env(
            6,
            writes(eve, Route::State(db, u64::MAX), 2, &keyed("claim:db", None)),
        ),
        // Into the slot of another key, and without a key.
        env(
            7,
            writes(&scene.ada, Route::State(x, 0), 2, &keyed("x", Some("1"))),
        ),
        env(
            8,
            writes(eve, Route::State(x, 7), 3, &keyed("y", Some("2"))),
        ),
        env(9, writes(eve, Route::State(x, 8), 4, &Body::default())),
        // Behind something in its slot that nobody believes.
        env(
            10,
            writes(eve, Route::State(db, 6), 5, &keyed("z", Some(lease))),
        ),
        env(
            11,
            writes(
                eve,
                Route::State(db, 10),
                6,
                &keyed("claim:db", Some(lease)),
            ),
        ),
        env(12, says(&scene.ada, 3, "good")),
    ];
    scene.liar.push(LOG, entries).await;
    let notices = scene.until("good").await;
    assert_eq!(malformed(&notices), 3);
    let held = scene.bob.claims(CHANNEL).await.unwrap();
    let held: Vec<_> = held
        .iter()
        .map(|c| (c.holder.to_string(), c.token))
        .collect();
    assert_eq!(held, [(scene.ada.path.to_string(), 4)]);
    let item = scene.bob.state(CHANNEL, "x").await.unwrap().unwrap();
    assert_eq!((item.value.as_deref(), item.version), (Some("1"), 7));
    assert_eq!(scene.bob.state(CHANNEL, "y").await.unwrap(), None);
}

#[tokio::test]
async fn a_stranger_takes_no_memory_back_and_puts_none_under_anothers_id() {
    let mut scene = Scene::following().await;
    let add = adds(
        &scene.ada,
        CHANNEL,
        scene.head,
        &scene.eve.log,
        Role::Member,
    );
    let item = |who: &Person, ctr| who.header(CHANNEL, Route::Everyone, ctr).msg_id;
    let (mine, other) = (item(&scene.ada, 1), MsgId::new([9; 16]));
    let text = |text: &str| Body::text(text);
    let eve = &scene.eve;
    let entries = vec![
        ctl(3, &add),
        env(
            4,
            writes(&scene.ada, Route::Memory(mine, 0), 1, &text("true")),
        ),
        env(5, writes(eve, Route::Memory(mine, 1), 1, &Body::default())),
        env(6, writes(eve, Route::Memory(mine, 0), 2, &text("false"))),
        env(7, writes(eve, Route::Memory(other, 0), 3, &text("forged"))),
        env(
            8,
            writes(eve, Route::Memory(item(eve, 4), 0), 4, &text("eve's own")),
        ),
        // The channel's admin may.
        env(
            9,
            writes(
                &scene.ada,
                Route::Memory(item(eve, 4), 1),
                2,
                &Body::default(),
            ),
        ),
        env(10, says(&scene.ada, 3, "good")),
    ];
    scene.liar.push(LOG, entries).await;
    let notices = scene.until("good").await;
    assert_eq!(malformed(&notices), 2);
    let all = Recall {
        limit: 10,
        ..Recall::default()
    };
    let found = scene.bob.recall(&[CHANNEL], &all).await.unwrap();
    let texts: Vec<_> = found.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(texts, ["true"]);
}
