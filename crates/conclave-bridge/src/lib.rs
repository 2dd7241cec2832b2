//! One agent session: an MCP server on stdio over the client.

pub mod fabric;
pub mod guard;
pub mod mcp;
pub mod policy;
pub mod render;
pub mod session;
pub mod state;
pub mod tool;
pub mod trust;
