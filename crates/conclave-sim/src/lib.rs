//! Whole-system simulation: the real machines under a seeded, hostile network.
