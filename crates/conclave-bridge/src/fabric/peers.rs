//! What a session needs of a server to know its peers: who is there, and what they say of themselves.

/// See the module.
pub trait Peers: Send {}
