//! Whether a state item or memory is what its header says.

use super::opened::{Content, Opened};
use super::{Book, Need, Verdict, Verified};
use crate::event::NoticeKind;
use conclave_e2ee::{IndexKey, Place};
use conclave_proto::channel_log::{ChannelLog, Mode, Role};
use conclave_proto::entry::{Entry, Parsed, Route};
use conclave_proto::id::SlotId;
use conclave_proto::name::SessionPath;
use conclave_proto::time::UnixMs;

/// A state item that this machine cannot read, though a member signed it: for the server it is the newest
/// of its slot all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Its slot.
    pub slot: SlotId,
    /// Which version of it it was to replace.
    pub expected: u64,
    /// Its place.
    pub seq: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// Who wrote it.
    pub sender: SessionPath,
}

impl Unreadable {
    /// Takes what a header says; `None` of what is no state item, or not signed by its sender. `kind`: why
    /// it is refused; none: its key is not here.
    #[must_use]
    pub fn of(entry: &Entry, opened: &Opened, kind: Option<NoticeKind>) -> Option<Self> {
        let signed = !matches!(opened.content, Content::Unsigned);
        let judged = matches!(
            kind,
            None | Some(NoticeKind::Malformed | NoticeKind::BadSeal)
        );
        let header = &opened.parsed.as_ref().ok()?.header;
        match header.route {
            Route::State(slot, expected) if signed && judged => Some(Self {
                slot,
                expected,
                seq: entry.seq,
                at: entry.at,
                sender: header.sender.clone(),
            }),
            _ => None,
        }
    }
}

impl Book {
    /// Returns the slot of a key in a channel; `None` while the key that hides it is not here.
    #[must_use]
    pub fn slot(&self, channel: &ChannelLog, key: &str) -> Option<SlotId> {
        match channel.mode() {
            Mode::Signed => Some(IndexKey::public(channel.id()).slot(key)),
            Mode::E2e => Some(self.keys.bundle(channel.id())?.index_key.slot(key)),
        }
    }

    /// Returns whether what was asked for in vain may still come. A key that newer ones which are here do
    /// not lead back to does not.
    #[must_use]
    pub fn may_come(&self, need: &Need) -> bool {
        let Need::Key(Place { channel, e }) = *need else {
            return true;
        };
        let held = |e: u32| self.keys.channel(Place { channel, e }).is_some();
        let newer = self.tip(&channel).is_some_and(|tip| {
            tip.epochs()
                .iter()
                .any(|epoch| epoch.e > e && held(epoch.e))
        });
        !newer || self.keys.bundle(&channel).is_none()
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
