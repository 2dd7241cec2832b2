//! Integration tests of the protocol crate: one binary, one module a topic.

#![cfg(test)]

mod announcement;
mod channel;
mod channel_entry;
mod channel_join;
mod connection;
mod desk;
mod entry_vector;
mod examples;
mod frames;
mod identity;
mod invite;
mod link;
mod names;
mod pair;
mod people;
mod vectors;
