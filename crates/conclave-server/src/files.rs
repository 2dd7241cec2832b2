//! How many files the process may have open: one a connection, and some for everything else.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Files besides connections: the database, its reader, the log, the listener.
const OTHERS: u64 = 64;

/// Raises the soft limit to the hard one, and warns if not even that is enough for `connections`.
pub(crate) fn make_room_for(connections: usize) {
    let wanted = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHERS);
    let limit = getrlimit(Resource::Nofile);
    let is_short = |limit: Option<u64>| limit.is_some_and(|files| files < wanted);
    if !is_short(limit.current) {
        return;
    }
    let mut raised = limit;
    raised.current = limit.maximum;
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            limit.current
        }
    };
    if is_short(now) {
        tracing::warn!(
            files = now,
            connections,
            "the limit of open files is below that of connections"
        );
    }
}
