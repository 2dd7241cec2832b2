//! Pages of a log: what fits into one answer, and how what is missing is named.

use super::{Select, row};
use conclave_proto::entry::Entry;
use conclave_proto::frame::reply::{EntryPage, Gap};
use conclave_proto::limit::{PAGE_BYTES_MAX, PAGE_ENTRIES_MAX};

/// Builds one page: entries come in ascending order, holes become one gap.
#[derive(Debug)]
pub struct PageBuilder {
    entries: Vec<Entry>,
    bytes: usize,
    limit: usize,
    full: bool,
    lapsed: u64,
}

impl PageBuilder {
    /// Starts a page of at most `limit` entries.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(PAGE_ENTRIES_MAX);
        Self {
            entries: Vec::new(),
            bytes: 0,
            limit: limit.clamp(1, PAGE_ENTRIES_MAX),
            full: false,
            lapsed: 0,
        }
    }

    /// Tells which is the newest message that retention has removed: a hole above it lacks only
    /// replaced state and memory.
    #[must_use]
    pub const fn lapsed(mut self, seq: u64) -> Self {
        self.lapsed = seq;
        self
    }

    /// Adds the next entry; `false` if it does not fit and the page is complete.
    pub fn push(&mut self, entry: Entry) -> bool {
        let size = row::size(&entry.body);
        let fits = self.entries.is_empty() || self.bytes + size <= PAGE_BYTES_MAX;
        if self.entries.len() >= self.limit || !fits {
            self.full = true;
            return false;
        }
        self.bytes += size;
        self.entries.push(entry);
        true
    }

    /// Finishes the page that starts after `after` in a log whose newest entry is `head`.
    #[must_use]
    pub fn finish(self, after: u64, head: u64, select: Select) -> EntryPage {
        let last = self.entries.last().map_or(after, |e| e.seq);
        let next = if self.full { last } else { head.max(after) };
        let gap = match select {
            Select::All => gap(after, next, &self.entries, self.lapsed),
            Select::Ctl | Select::Items => None,
        };
        EntryPage {
            entries: self.entries,
            gap,
            next,
            head,
        }
    }
}

/// Names the holes among `entries`, which are all there is in `after+1..=last`.
fn gap(after: u64, last: u64, entries: &[Entry], lapsed: u64) -> Option<Gap> {
    let present = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    let missing = last.saturating_sub(after).saturating_sub(present);
    if missing == 0 {
        return None;
    }
    let mut from = after + 1;
    for entry in entries.iter().take_while(|e| e.seq <= last) {
        if entry.seq != from {
            break;
        }
        from += 1;
    }
    let mut to = last;
    for entry in entries.iter().rev() {
        if entry.seq != to {
            break;
        }
        to -= 1;
    }
    Some(Gap {
        from,
        to,
        missing,
        reason: if from > lapsed {
            "compacted"
        } else {
            "retention"
        }
        .to_owned(),
    })
}
