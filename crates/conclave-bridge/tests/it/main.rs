//! Integration tests of this crate: one binary, one module a topic.

#![cfg(test)]

mod ask;
mod cost;
mod delivery;
mod desk;
mod fabric_real;
mod flood;
mod flow;
mod guard;
mod host;
mod items;
mod lost;
mod peers;
mod policy;
mod render;
mod resume;
mod secret;
mod senders;
mod session;
mod state;
mod town;
mod wake;
mod ways;
mod wire;
mod world;
