//! Every machine is lost; the recovery key on paper is not.

use crate::talk::{Machine, World, name, text};
use conclave_client::client::{History, NewChannel, Target};
use conclave_client::onboard;
use conclave_client::owner::Owner;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{Mode, Visibility};
use conclave_proto::link::Pin;
use conclave_proto::reject::Code;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_recovery_key_brings_an_account_back_when_every_machine_is_lost() {
    let world = World::start().await;
    let lost = Machine::new();
    let made = lost.register(&world, "ada").await;
    let paper = made.owner.as_ref().unwrap().recovery();
    let (a, _events) = lost.session("api", 1).await;
    let ops = a
        .create_channel(NewChannel::new(name("ops"), Visibility::Private))
        .await
        .unwrap();
    let to = Target::Channel(*ops.id());
    for said in ["one", "two"] {
        a.send(to.clone(), &Body::text(said), 0, false)
            .await
            .unwrap();
    }
    let old = a.machines().await.unwrap().pop().unwrap();
    a.stop().await;
    made.client.stop().await;
    drop((a, made, lost));

    let fresh = Machine::new();
    let recover = |machine: &'static str, key: Owner| {
        let (home, origin) = (fresh.home.clone(), world.origin());
        async move {
            let (ada, machine) = (name("ada"), name(machine));
            onboard::recover(&home, &origin, Pin::FirstContact, ada, machine, key, "test").await
        }
    };
    let key = || Owner::from_recovery(&paper).unwrap();
    let wrong = recover("new", Owner::create().unwrap()).await;
    assert_eq!(wrong.unwrap_err().code(), Code::Unauthorized);
    let taken = recover("box", key()).await;
    assert_eq!(taken.unwrap_err().code(), Code::NameTaken);
    let back = recover("new", key()).await.unwrap();
    assert_eq!(back.profile.user.as_ref().unwrap().machine, name("new"));

    let past = back
        .client
        .history(*ops.id(), History::Last, 10)
        .await
        .unwrap();
    assert_eq!(past.iter().map(text).collect::<Vec<_>>(), ["one", "two"]);
    let (b, _events) = fresh.session("api", 2).await;
    b.send(to, &Body::text("three"), 0, false).await.unwrap();
    b.revoke_machine(old.key, "lost", &key()).await.unwrap();
    let machines = b.machines().await.unwrap();
    assert!(machines.iter().all(|m| m.name == name("new")));
    let tip = b.channel(*ops.id()).await.unwrap();
    let me = b.account().user_id;
    assert_eq!(
        tip.member(&me).unwrap().ident,
        b.identity_head(me).await.unwrap()
    );
    assert!(b.ready(SOON).await.is_ok());
    // Nobody else was ever in this sealed channel: the paper key brought its key back, and what is
    // said now is sealed under one that the lost machine never had.
    assert_eq!((tip.mode(), tip.epoch().unwrap().e), (Mode::E2e, 2));
    assert!(!tip.needs_epoch());
}
