//! Tests of the whole: the simulation, and the rules of the house.

mod tidy;
