//! Integration tests of this crate: one binary, one module a topic.

#![cfg(test)]

mod drain;
mod edge;
mod handshake;
mod rig;
mod store;
mod hub;
mod world;
mod rules;
