//! Claims: leases on resources, as members of a channel agree on them. Pure.
//!
//! A claim is a state item; what it is worth is decided here, by every client alike. The server knows
//! slots and versions only, and its clock is the one that counts.

pub mod glob;
pub mod resource;
pub mod rule;

pub use resource::{BadResource, Resource};
pub use rule::Standing;
