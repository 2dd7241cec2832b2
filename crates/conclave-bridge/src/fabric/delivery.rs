//! What a session needs of a server to know what became of what it said.

/// See the module.
pub trait Delivery: Send {}
