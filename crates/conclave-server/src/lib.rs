//! The server: one ordered log per channel and mailbox, behind a bounded edge.
