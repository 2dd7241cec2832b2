//! Integration tests of the protocol crate: one binary, one module a topic.

mod connection;
mod entry_vector;
mod examples;
mod frames;
mod identity;
mod pair;
mod people;
