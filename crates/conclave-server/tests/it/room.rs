//! A private room of two, as several tests need it.

use crate::world::{Peer, Person, World};
use conclave_proto::body::Head;
use conclave_proto::channel_log::Visibility;
use conclave_proto::id::{ChannelId, LogId};

pub(crate) const ROOM: ChannelId = ChannelId::new([5; 16]);
pub(crate) const NOWHERE: ChannelId = ChannelId::new([6; 16]);
pub(crate) const LOG: LogId = LogId::Channel(ROOM);

/// Ana owns a private room that Bob is a member of; both follow it.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) ana: (Person, Peer),
    pub(crate) bob: (Person, Peer),
    /// The newest control record of the room.
    pub(crate) head: Head,
}

impl Scene {
    pub(crate) fn new(mut world: World) -> Self {
        let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
        let (at, bt) = (world.register(&ana, "work"), world.register(&bob, "work"));
        let head = world.create(&ana, &at, ROOM, Visibility::Private, "room");
        let head = world.add((&ana, &at), ROOM, head, &bob);
        for peer in [&at, &bt] {
            world.subscribe(peer, LOG, 0).unwrap();
            world.events(peer.conn);
        }
        Self {
            world,
            ana: (ana, at),
            bob: (bob, bt),
            head,
        }
    }
}
