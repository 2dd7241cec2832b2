//! Tests of the whole: the simulation, and the rules of the house.

#![cfg(test)]

mod attacks;
mod sim;
mod tidy;
