//! Ada and bob in a sealed channel, as several tests need them.

use crate::talk::{Machine, World, name};
use conclave_client::client::{Client, NewChannel, Signer};
use conclave_client::event::Event;
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::id::ChannelId;
use tokio::sync::mpsc;

/// A machine with a live session and its events.
pub(crate) type Side = (Machine, Client, mpsc::Receiver<Event>);

/// Returns ada, who made the sealed channel `ops`, and bob, whom she added to it.
pub(crate) async fn two(world: &World) -> (Side, Side, ChannelId) {
    let new = NewChannel::new(name("ops"), Visibility::Private);
    let (ada, bob, ops) = beside(world, new).await;
    let user = name("bob");
    let added = ada.1.add_member(ops, &user, Role::Member, Signer::Machine);
    added.await.unwrap();
    (ada, bob, ops)
}

/// Returns ada, who made a channel, and bob, who is not in it.
pub(crate) async fn beside(world: &World, new: NewChannel) -> (Side, Side, ChannelId) {
    let (ada, bob) = (Machine::new(), Machine::new());
    drop(ada.register(world, "ada").await);
    drop(bob.register(world, "bob").await);
    let (a, a_events) = ada.session("api", 1).await;
    let (b, b_events) = bob.session("web", 2).await;
    let made = *a.create_channel(new).await.unwrap().id();
    ((ada, a, a_events), (bob, b, b_events), made)
}

/// Returns ten sessions of both, to race with.
pub(crate) async fn ten(world: &World) -> (Vec<Client>, ChannelId, [Machine; 2]) {
    let ((ada, a, _), (bob, b, _), ops) = two(world).await;
    let mut clients = vec![a, b];
    for n in 0..8_u8 {
        let machine = if n % 2 == 0 { &ada } else { &bob };
        clients.push(machine.session(&format!("s{n}"), 20 + n).await.0);
    }
    (clients, ops, [ada, bob])
}
