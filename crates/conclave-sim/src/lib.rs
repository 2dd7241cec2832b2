//! Whole-system simulation: the real machines under a seeded, hostile network.
//!
//! Real are the links, the connections, the hub and the memory store; simulated are time, sockets,
//! crashes and failing commits. `world` runs a seed, `model` knows what must be true, `invariant`
//! compares. `hostile` is a server over real sockets that lies to real clients.

pub mod hostile;
pub mod invariant;
pub mod model;
pub mod net;
pub mod person;
pub mod server;
pub mod session;
pub mod world;
