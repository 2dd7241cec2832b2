//! One agent session: an MCP server on stdio over the client.

pub mod guard;
pub mod policy;
pub mod render;
pub mod trust;
