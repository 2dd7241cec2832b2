//! What a session needs of a server to know what became of what it said.

use super::Later;
use conclave_client::replica::delivery::MessageStatus;
use conclave_proto::id::MsgId;

/// See the module.
pub trait Delivery: Send {
    /// Returns what became of a message; `None` if this machine sent none of that id.
    fn message_status(&self, id: MsgId) -> Later<Option<MessageStatus>>;
}
