//! The network of the simulation: sockets that are slow, half-open or cut, and keep their order.
//!
//! Items of one direction arrive in order, as TCP has it; between sockets and directions anything
//! goes. A cut loses what is under way; a hole lets both ends believe that all is well.

use conclave_proto::backoff::Jitter;
use conclave_proto::close::Close;
use conclave_server::hub::ConnId;
use std::collections::{BTreeMap, VecDeque};

/// Names a socket for the length of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// What travels on a socket.
#[derive(Debug)]
pub enum Item {
    /// A message, and whether it is an event of the hub, whose writing is reported.
    Frame(Vec<u8>, Origin),
    /// A WebSocket ping.
    Ping,
    /// The answer to one.
    Pong,
    /// The last item.
    Close(Close),
}

/// Who made a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One of the two machines.
    Machine,
    /// The hub, for many connections.
    Hub,
}

/// One direction of a socket.
#[derive(Debug, Default)]
pub struct Pipe {
    items: VecDeque<(u64, Item)>,
    last: u64,
}

impl Pipe {
    /// Puts an item in; it arrives after `delay` and never before an earlier one. Returns when.
    pub fn put(&mut self, now: u64, delay: u64, item: Item) -> u64 {
        let at = self.last.max(now + delay);
        self.last = at;
        self.items.push_back((at, item));
        at
    }

    /// Takes the next item that has arrived.
    pub fn take(&mut self, now: u64) -> Option<Item> {
        self.items
            .pop_front_if(|(at, _)| *at <= now)
            .map(|(_, item)| item)
    }

    /// Returns how many items are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether nothing is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// A connection between a client and the server.
#[derive(Debug)]
pub struct Socket {
    /// Which client.
    pub client: usize,
    /// Which connection of the server.
    pub conn: ConnId,
    /// Towards the server.
    pub up: Pipe,
    /// Towards the client.
    pub down: Pipe,
    /// Nothing arrives any more, and nobody is told.
    pub hole: bool,
    /// The client reads nothing before this time.
    pub paused_until: u64,
}

/// All sockets there are.
#[derive(Debug, Default)]
pub struct Net {
    /// By name.
    pub sockets: BTreeMap<SocketId, Socket>,
    next: u64,
    /// While false, nothing bad happens.
    pub hostile: bool,
}

impl Net {
    /// Makes a socket.
    pub fn connect(&mut self, client: usize, conn: ConnId) -> SocketId {
        self.next += 1;
        let socket = Socket {
            client,
            conn,
            up: Pipe::default(),
            down: Pipe::default(),
            hole: false,
            paused_until: 0,
        };
        self.sockets.insert(SocketId(self.next), socket);
        SocketId(self.next)
    }

    /// Draws how long an item takes.
    pub fn delay(&self, rng: &mut Jitter) -> u64 {
        match rng.up_to(99) {
            0 if self.hostile => rng.up_to(5_000),
            1..20 if self.hostile => rng.up_to(300),
            _ => rng.up_to(20),
        }
    }

    /// Draws one of the sockets.
    pub fn any(&self, rng: &mut Jitter) -> Option<SocketId> {
        let last = self.sockets.len().checked_sub(1)?;
        let n = usize::try_from(rng.up_to(u64::try_from(last).unwrap_or(0))).unwrap_or(0);
        self.sockets.keys().nth(n).copied()
    }
}
