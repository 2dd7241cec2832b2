//! Integration tests of the encryption crate: one binary, one module a topic.

#![cfg(test)]

mod boxes;
mod envelope;
mod kit;
mod moved;
mod number;
mod padding;
mod published;
mod secrets;
mod vectors;
mod whisper;
mod wrap;
