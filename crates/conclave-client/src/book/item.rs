//! Whether a state item or memory is what its header says.

use super::{Book, Need, Verdict, Verified};
use crate::event::NoticeKind;
use conclave_e2ee::{IndexKey, Place};
use conclave_proto::channel_log::{ChannelLog, Mode, Role};
use conclave_proto::entry::{Parsed, Route};
use conclave_proto::id::SlotId;

impl Book {
    /// Returns the slot of a key in a channel; `None` while the key that hides it is not here.
    #[must_use]
    pub fn slot(&self, channel: &ChannelLog, key: &str) -> Option<SlotId> {
        match channel.mode() {
            Mode::Signed => Some(IndexKey::public(channel.id()).slot(key)),
            Mode::E2e => Some(self.keys.bundle(channel.id())?.index_key.slot(key)),
        }
    }

    /// Judges an entry that is believed and is no message: the server orders items by what stands in
    /// the header, members by what is sealed, and both must be the same.
    pub(super) fn judge_item(
        &self,
        channel: &ChannelLog,
        mut m: Box<Verified>,
        parsed: &Parsed,
    ) -> Verdict {
        let malformed = |text: &str| Verdict::Refused(NoticeKind::Malformed, text.to_owned());
        m.by_admin = channel
            .role(&m.user)
            .is_some_and(|role| role >= Role::Admin);
        match &m.route {
            Route::State(slot, _) => {
                let Some(key) = m.body.key.as_deref() else {
                    return malformed("a state item without a key");
                };
                match self.slot(channel, key) {
                    Some(own) if own == *slot => Verdict::Message(m),
                    Some(_) => malformed("a state item in another key's slot"),
                    None => Verdict::Need(Need::Key(Place {
                        channel: *channel.id(),
                        e: parsed.header.epoch,
                    })),
                }
            }
            Route::Memory(item, 0) if *item != m.id || m.body.text.is_none() => {
                malformed("a memory under another one's id")
            }
            Route::Memory(..)
            | Route::Everyone
            | Route::Whisper(_)
            | Route::Receipt(_)
            | Route::Profile => Verdict::Message(m),
        }
    }
}
