//! What a session needs of a server to know what became of what it said. Here it comes from the client.

use super::Remote;
use crate::fabric::{Delivery, Later};
use conclave_client::replica::delivery::MessageStatus;
use conclave_proto::id::MsgId;

impl Delivery for Remote {
    fn message_status(&self, id: MsgId) -> Later<Option<MessageStatus>> {
        self.later(move |site| async move { site.client.message_status(id).await })
    }
}
