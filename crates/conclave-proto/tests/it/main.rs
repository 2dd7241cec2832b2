//! Integration tests of the protocol crate: one binary, one module a topic.

mod entry_vector;
mod frames;
