//! The `conclave` binary: parses the command line and calls one library entry point.

fn main() {}
