//! The tail of a followed log, kept in memory so that recent pages need no read.

use conclave_proto::entry::Entry;
use conclave_proto::limit::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};
use std::collections::VecDeque;

/// The most bytes of one tail.
const RING_BYTES_MAX: usize = 1024 * 1024;

/// A contiguous run of a log's newest entries.
#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Ring {
    /// Adds the newest entry; what no longer fits leaves at the front.
    pub(super) fn push(&mut self, entry: Entry) {
        if self
            .entries
            .back()
            .is_some_and(|last| last.seq + 1 != entry.seq)
        {
            self.clear();
        }
        self.bytes += crate::store::row::size(&entry.body);
        self.entries.push_back(entry);
        while self.bytes > RING_BYTES_MAX {
            let Some(old) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= crate::store::row::size(&old.body);
        }
    }

    /// Returns the page right after `after`; empty if the ring does not reach back so far.
    pub(super) fn page(&self, after: u64) -> Vec<Entry> {
        let Some(first) = self
            .entries
            .front()
            .map(|e| e.seq)
            .filter(|s| *s <= after + 1)
        else {
            return Vec::new();
        };
        let skip = usize::try_from(after + 1 - first).unwrap_or(usize::MAX);
        chunk(self.entries.iter().skip(skip))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Takes as many entries as one page holds, and at least one.
pub(super) fn chunk<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Entry> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    for entry in entries.take(PAGE_ENTRIES_MAX) {
        bytes += crate::store::row::size(&entry.body);
        if bytes > PAGE_BYTES_MAX && !page.is_empty() {
            break;
        }
        page.push(entry.clone());
    }
    page
}
