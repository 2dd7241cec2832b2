//! Tests of the real executable.

#![cfg(test)]

mod bridges;
mod demo;
mod help;
mod machines;
mod python;
mod refusals;
mod talk;
mod world;
