//! The fake server's part for what became of messages.

use super::Fake;
use conclave_bridge::fabric::{Delivery, Later};
use conclave_client::replica::delivery::MessageStatus;
use conclave_proto::id::MsgId;

impl Delivery for Fake {
    fn message_status(&self, _: MsgId) -> Later<Option<MessageStatus>> {
        self.reply(|world| world.status.clone())
    }
}
