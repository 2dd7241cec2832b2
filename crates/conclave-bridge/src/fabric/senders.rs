//! What a session needs of a server to keep what its human decided about who writes.

use crate::senders::Sender;
use conclave_proto::id::UserId;
use conclave_proto::reject::Reject;

/// See the module.
pub trait Contacts: Send {
    /// Keeps what the human decided of a user.
    fn keep_sender(&self, user: UserId, sender: Sender) -> Result<(), Reject>;
    /// Takes the right to ask about a user; no other session of this machine has it then.
    fn ask_once(&self, user: &UserId) -> bool;
    /// Gives that right back.
    fn not_asked(&self, user: &UserId);
}
