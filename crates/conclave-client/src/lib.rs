//! Everything that dials out: keys, pins, the link to a server, the replica, the outbox.
//!
//! A library for the bridge and the command line: it never prints and never reads the home directory
//! by itself. What comes out of it was verified; what goes in is on disk before it is sent.

pub mod account;
pub mod address;
pub mod book;
pub mod checkup;
pub mod claim;
pub mod client;
mod core;
pub mod dial;
pub mod error;
pub mod event;
pub mod home;
pub mod instance;
pub mod item;
mod keeper;
pub mod keystore;
mod link;
mod links;
pub mod onboard;
mod outbox;
pub mod owner;
pub mod pace;
pub mod replica;
pub mod repo;

pub use client::{Client, Session};
pub use conclave_proto::origin;
pub use error::ClientError;
pub use event::Event;
