//! Nothing that the server still has is lost on the way here, or hides what comes after it.

use crate::scene::{CHANNEL, LOG, Scene, adds, gap, session};
use conclave_proto::channel_log::Role;
use conclave_proto::frame::Outcome;
use conclave_proto::frame::event::{Entries, Event as Told};
use conclave_proto::frame::op::Op;
use conclave_sim::hostile::{Script, ctl};

#[tokio::test]
async fn what_is_kept_inside_a_gap_is_not_passed_by_before_it_is_here() {
    let mut scene = Scene::following().await;
    // Eve's identity is not shown: the record that adds her must wait.
    scene
        .liar
        .tell(|script| {
            script.lie(|asked| match asked.op {
                Op::IdentFetch(_) => Some(Outcome::Unknown("".into())),
                _ => None,
            });
        })
        .await;
    let eve = scene.eve.log.clone();
    let add = adds(&scene.ada, CHANNEL, scene.head, &eve, Role::Member);
    let entries = Entries {
        log: LOG,
        entries: vec![ctl(5, &add)],
        gap: Some(gap(3, 10)),
    };
    scene.liar.event(Told::Entries(entries)).await;
    let asks = |script: &Script| matches!(script.asked.last(), Some((_, Op::IdentFetch(_))));
    scene.liar.until("eve is asked for", asks).await;
    // The process ends before she is shown: the next one must get the record again.
    let Scene {
        bob,
        mut liar,
        home,
        ..
    } = scene;
    bob.stop().await;
    liar.tell(|script| script.asked.clear()).await;
    let (bob, _events) = session(&home).await;
    bob.follow(CHANNEL).await.unwrap();
    let after = |script: &Script| {
        script.asked.iter().find_map(|(_, op)| match op {
            Op::Subscribe(op) if op.log == LOG => Some(op.after),
            _ => None,
        })
    };
    liar.until("it follows", move |script| after(script).is_some())
        .await;
    assert_eq!(liar.ask(move |script| after(script)).await, Some(2));
}
