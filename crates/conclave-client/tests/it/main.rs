//! Integration tests of this crate: one binary, one module a topic.

#![cfg(test)]

mod dial;
mod home;
mod hostile;
mod owner;
mod recovery;
mod scene;
mod review_a;
mod sealed;
mod secrets;
mod talk;
