//! Integration tests of this crate: one binary, one module a topic.

#![cfg(test)]

mod acts;
mod bounds;
mod config_doc;
mod cursors;
mod disk;
mod drain;
mod edge;
mod handshake;
mod hostile;
mod hub;
mod items;
mod keys;
mod kill;
mod plans;
mod profiles;
mod quotas;
mod retry;
mod rig;
mod room;
mod rotation;
mod rules;
mod sealed;
mod seeds;
mod store;
mod world;
