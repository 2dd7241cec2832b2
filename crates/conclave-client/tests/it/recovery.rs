//! Every machine is lost; the recovery key on paper is not.

use crate::talk::{Machine, World, name, text};
use conclave_client::client::{History, NewChannel, Signer, Target};
use conclave_client::onboard;
use conclave_client::owner::Owner;
use conclave_proto::body::Body;
use conclave_proto::channel_log::{History as Kept, Mode, Role, Visibility};
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

#[tokio::test]
async fn a_machine_that_came_back_without_a_channels_key_does_not_wipe_its_name() {
    let world = World::start().await;
    let (lost, bob) = (Machine::new(), Machine::new());
    let made = lost.register(&world, "ada").await;
    drop(bob.register(&world, "bob").await);
    let paper = made.owner.as_ref().unwrap().recovery();
    let (a, _events) = lost.session("api", 1).await;
    let ops = *a
        .create_channel(NewChannel {
            history: Kept::SinceJoin,
            ..NewChannel::new(name("ops"), Visibility::Private)
        })
        .await
        .unwrap()
        .id();
    a.add_member(ops, &name("bob"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    let old = a.machines().await.unwrap().pop().unwrap();
    a.stop().await;
    made.client.stop().await;

    // The owner's word on the name is law, and this machine has never read it.
    let fresh = Machine::new();
    let key = || Owner::from_recovery(&paper).unwrap();
    let origin = world.origin();
    let back = onboard::recover(
        &fresh.home,
        &origin,
        Pin::FirstContact,
        name("ada"),
        name("new"),
        key(),
        "test",
    );
    let back = back.await.unwrap();
    back.client
        .revoke_machine(old.key, "lost", &key())
        .await
        .unwrap();
    let refused = back.client.rotate(ops).await.unwrap_err();
    assert_eq!(refused.code(), Code::KeysPending);
    let (b, _events) = bob.session("web", 2).await;
    let found = b.resolve("ops").await.unwrap();
    assert_eq!(found.channel, ops);
    let to = Target::Channel(ops);
    b.send(to, &Body::text("on we go"), 0, false).await.unwrap();
    // Bob, who knows it, made the next key.
    let after = b.channel(ops).await.unwrap();
    assert_eq!(after.name(), Some(&name("ops")));
    assert!(!after.needs_epoch());
}
