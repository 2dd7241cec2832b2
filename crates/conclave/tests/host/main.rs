//! Tests with the real Claude Code, without an account: a scripted model on loopback, a fresh home, no way out.
//!
//! They need the `claude` executable (docs/host-tests.md) and are skipped, with a line that says so, where
//! there is none.

#![cfg(test)]

mod api;
mod claude;
mod dialogs;
mod find;
mod hooks;
mod permits;
mod script;
mod terminal;
mod tools;
mod waking;
#[path = "../it/world.rs"]
#[expect(dead_code, reason = "the tests of the executable use more of it")]
mod world;
