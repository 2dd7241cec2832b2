//! Tests of the whole: the simulation, and the rules of the house.

#![cfg(test)]

mod sim;
mod tidy;
