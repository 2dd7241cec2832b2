//! The server: one ordered log per channel and mailbox, behind a bounded edge.

pub mod audit;
pub mod clock;
pub mod config;
mod conn;
mod edge;
mod files;
mod http;
pub mod hub;
pub mod identity;
mod rate;
mod server;
pub mod store;
mod tls;

pub use conclave_proto::origin;
pub use config::{Config, ConfigError};
pub use hub::HubHandle;
pub use server::{BuildError, RunError, Running, Server};
