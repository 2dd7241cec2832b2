//! The fake server's part for who writes: what was decided is in its view.

use super::Fake;
use conclave_bridge::fabric::Contacts;
use conclave_bridge::senders::Sender;
use conclave_proto::id::UserId;
use conclave_proto::reject::Reject;

impl Contacts for Fake {
    fn keep_sender(&self, user: UserId, sender: Sender) -> Result<(), Reject> {
        self.0
            .send_modify(|world| world.view.senders.set(user, sender));
        Ok(())
    }

    fn ask_once(&self, user: &UserId) -> bool {
        let mut free = false;
        self.0.send_modify(|world| free = world.asked.insert(*user));
        free
    }

    fn not_asked(&self, user: &UserId) {
        self.0
            .send_modify(|world| world.asked.retain(|asked| asked != user));
    }
}
