//! What a session needs of a server to know what became of what it said. Here it comes from the client.

use super::{Remote, Site, message};
use crate::fabric::{Delivery, Later};
use crate::state::Message;
use conclave_client::event::VerifiedMessage;
use conclave_client::replica::delivery::MessageStatus;
use conclave_proto::id::MsgId;

impl Delivery for Remote {
    fn message_status(&self, id: MsgId) -> Later<Option<MessageStatus>> {
        self.later(move |site| async move { site.client.message_status(id).await })
    }
}

impl Site {
    /// Turns verified messages into what a session works with.
    pub(super) async fn messages(&self, found: Vec<VerifiedMessage>) -> Vec<Message> {
        let mut messages = Vec::with_capacity(found.len());
        for m in found {
            let mut message = message(self.home, m);
            self.find_question(&mut message).await;
            messages.push(message);
        }
        messages
    }

    /// Adds to an answer what was asked.
    pub(super) async fn find_question(&self, message: &mut Message) {
        if let Some(id) = message.reply_to {
            message.question = self.client.question(id).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what was asked is not known");
                None
            });
        }
    }
}
