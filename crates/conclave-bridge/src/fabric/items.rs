//! What a session needs of a server for shared items: state, claims, memory, search.

/// See the module.
pub trait Items: Send {}
