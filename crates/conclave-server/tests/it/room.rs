//! A private room of two, as several tests need it.

use crate::rig::{self, Raw, Site};
use crate::world::{Peer, Person, World};
use conclave_proto::body::Head;
use conclave_proto::channel_log::Visibility;
use conclave_proto::codec::Encoding;
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::record::Record;

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

/// Ana made a public room that Bob has joined, over real sockets and in both encodings.
pub(crate) async fn square(site: &Site) -> ((rig::Person, Raw), (rig::Person, Raw)) {
    let (ana, bob) = (rig::Person::new("ana", 1), rig::Person::new("bob", 2));
    let mut at = site.register(&ana, Encoding::Cbor).await;
    let mut bt = site.register(&bob, Encoding::Json).await;
    let rec = at.create(&ana, ROOM, "square").await;
    let hash = Record::parse(&rec).unwrap().hash();
    bt.join(&bob, ROOM, Head { n: 0, hash }).await;
    ((ana, at), (bob, bt))
}
