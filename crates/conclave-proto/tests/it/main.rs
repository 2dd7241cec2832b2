//! Integration tests of the protocol crate: one binary, one module a topic.

#![cfg(test)]

mod connection;
mod entry_vector;
mod examples;
mod frames;
mod identity;
mod link;
mod pair;
mod people;
