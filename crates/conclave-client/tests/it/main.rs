//! Integration tests of this crate: one binary, one module a topic.

#![cfg(test)]

mod chains;
mod delivery;
mod dial;
mod home;
mod hostile;
mod keys;
mod lessons;
mod lies;
mod owner;
mod peers;
mod recovery;
mod scene;
mod sealed;
mod secrets;
mod talk;
mod wire;
