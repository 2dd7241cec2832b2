//! Tests of the real executable.

#![cfg(test)]

mod accounts;
mod asking;
mod bridges;
mod claims;
mod clients;
mod demo;
mod desk;
mod doctor;
mod flow;
mod groups;
mod help;
mod hooks;
mod install;
mod items;
mod launch;
mod loops;
mod machines;
mod members;
mod offline;
mod plugin;
mod python;
mod refusals;
mod sealed;
mod senders;
mod talk;
mod team;
mod tls;
mod verify;
mod waking;
mod world;
