//! What holds at every step, and what holds when the world has come to rest.

use crate::world::World;
use conclave_proto::entry::Entry;
use conclave_proto::id::LogId;
use conclave_server::store::{Page, PageQuery, Read as _, Select};

/// A promise was not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

/// Returns [`Broken`] unless `holds`.
///
/// # Errors
/// [`Broken`].
pub fn ensure(holds: bool, why: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(why())) }
}

/// Checks a world in which everything has been healed and has had time to settle.
///
/// # Errors
/// [`Broken`].
pub fn at_rest(world: &mut World) -> Result<(), Broken> {
    let logs: Vec<LogId> = world.model.logs.keys().copied().collect();
    for log in logs {
        let stored = stored(world, log)?;
        let same =
            stored
                .iter()
                .map(|e| &e.body)
                .eq(world.model.logs.get(&log).into_iter().flatten());
        ensure(same, || {
            format!("the store of {log} is not what was committed")
        })?;
    }
    for session in &world.sessions {
        let who = &session.person.path;
        ensure(session.is_up(), || format!("{who} is not connected"))?;
        let left = session.unanswered();
        ensure(left == 0, || format!("{who} waits for {left} answers"))?;
        for (log, entries) in &world.model.logs {
            if !session.reads(*log, &world.model) {
                continue;
            }
            let has = session.replica(*log);
            ensure(has == entries.len(), || {
                format!("{who} has {has} of {} entries of {log}", entries.len())
            })?;
        }
    }
    Ok(())
}

/// Reads a log page by page.
fn stored(world: &mut World, log: LogId) -> Result<Vec<Entry>, Broken> {
    let (mut entries, mut after): (Vec<Entry>, _) = (Vec::new(), 0);
    loop {
        let query = PageQuery::Log {
            log,
            after,
            limit: 100,
            select: Select::All,
        };
        let Ok(Page::Entries(page)) = world.server.disk.page(&query) else {
            return Err(Broken(format!("{log} cannot be read")));
        };
        entries.extend(page.entries);
        if page.next <= after || page.next >= page.head {
            return Ok(entries);
        }
        after = page.next;
    }
}
