//! Integration tests of this crate: one binary, one module a topic.

#![cfg(test)]

mod address;
mod breakers;
mod chains;
mod claims;
mod delivery;
mod dial;
mod home;
mod hostile;
mod keys;
mod lessons;
mod lies;
mod loss;
mod memory;
mod owner;
mod pair;
mod peers;
mod plans;
mod recovery;
mod scene;
mod sealed;
mod search;
mod secrets;
mod state;
mod succession;
mod talk;
mod wire;
