//! Integration tests of this crate: one binary, one module a topic.

mod policy;
mod render;
