//! Full-text search over memories and messages, and which parts of the past are here to be searched.

use super::history::{COLUMNS, read};
use super::{Replica, ReplicaError, int, uint, user};
use crate::book::Verified;
use conclave_proto::body::Body;
use conclave_proto::id::{LogId, MsgId, UserId};
use conclave_proto::name::CLI_HANDLE;
use conclave_proto::time::UnixMs;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

/// How many messages are indexed in one transaction: feeds wait for no more.
const INDEX_BATCH: u32 = 1_000;
/// How many words of a query count.
const WORDS_MAX: usize = 32;
/// How many rows are ranked: more take longer than anybody waits.
const RANKED_MAX: u32 = 4_000;
/// The order of what is too much to be ranked.
const NEWEST: &str = "t.rowid DESC";

/// A memory as it lies here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRow {
    /// In which log.
    pub log: LogId,
    /// Its id.
    pub item: MsgId,
    /// Its place.
    pub seq: u64,
    /// When the server stored it.
    pub at: UnixMs,
    /// Which session wrote it.
    pub sender: String,
    /// Whose that is.
    pub user: UserId,
    /// Its words.
    pub text: String,
    /// Its tags.
    pub tags: Vec<String>,
}

/// Whose whispers a search may find.
#[derive(Clone, Debug)]
pub enum Whispers {
    /// None: only a channel is searched.
    None,
    /// Those to and from one session: its path and mailbox.
    Of(String, LogId),
    /// All of this machine.
    All,
}

/// Returns the words of a query, quoted: no syntax of the search's own comes from outside.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(WORDS_MAX)
        .map(|word| format!("\"{word}\""))
        .collect()
}

/// Decides what to look for: any of the words. Ranking costs time for each row, and a word that nearly
/// every row has tells nothing: such words count only where no rarer ones are found.
fn plan(
    db: &Connection,
    table: &str,
    words: &[String],
    enough: u32,
) -> Result<Plan, rusqlite::Error> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {table} MATCH ?1 LIMIT {})",
        RANKED_MAX + 1
    );
    let mut count = db.prepare_cached(&sql)?;
    let mut counted = Vec::new();
    for word in words {
        let rows: u32 = count.query_row([word], |r| r.get(0))?;
        if rows > 0 {
            counted.push((rows, word.as_str()));
        }
    }
    counted.sort_unstable();
    let found = counted.len();
    let (mut chosen, mut rows) = (Vec::new(), 0);
    for (more, word) in counted {
        if rows >= enough && rows + more > RANKED_MAX {
            break;
        }
        rows += more;
        chosen.push(word);
    }
    let order = if rows > RANKED_MAX { NEWEST } else { "t.rank" };
    let all = words.join(" OR ");
    Ok(match chosen.is_empty() {
        true => Plan {
            query: all,
            order,
            rest: None,
        },
        false => Plan {
            query: chosen.join(" OR "),
            order,
            rest: (chosen.len() < found).then_some(all),
        },
    })
}

/// What to look for, and in which order.
struct Plan {
    query: String,
    /// Ranked, or the newest first.
    order: &'static str,
    /// All the words, if some were left out: the rarer ones may be in other logs only.
    rest: Option<String>,
}

impl Plan {
    /// Finds what is planned by `find`; where that is not enough, also what has any of the words.
    fn run<T>(
        self,
        enough: u32,
        mut find: impl FnMut(String, &str) -> Result<Vec<T>, rusqlite::Error>,
        is_same: impl Fn(&T, &T) -> bool,
    ) -> Result<Vec<T>, rusqlite::Error> {
        let enough = usize::try_from(enough).unwrap_or(usize::MAX);
        let mut found = find(self.query, self.order)?;
        if let Some(all) = self.rest.filter(|_| found.len() < enough) {
            for row in find(all, NEWEST)? {
                if found.len() < enough && !found.iter().any(|known| is_same(known, &row)) {
                    found.push(row);
                }
            }
        }
        Ok(found)
    }
}

fn memory(r: &Row<'_>) -> Result<Option<MemoryRow>, rusqlite::Error> {
    let Some(log) = LogId::from_slice(r.get_ref(0)?.as_blob()?) else {
        return Ok(None);
    };
    Ok(Some(MemoryRow {
        log,
        item: MsgId::new(r.get(1)?),
        seq: uint(r.get(2)?),
        at: UnixMs(uint(r.get(3)?)),
        sender: r.get(4)?,
        user: user(r.get(5)?),
        text: r.get(6)?,
        tags: serde_json::from_str(r.get_ref(7)?.as_str()?).unwrap_or_default(),
    }))
}

const MEMORY: &str = "m.log, m.item, m.seq, m.at, m.sender, m.user, m.text, m.tags";

/// Returns `n` places for values, from the one with number `from` on.
fn places(from: usize, n: usize) -> String {
    let places: Vec<String> = (from..from + n).map(|n| format!("?{n}")).collect();
    places.join(", ")
}

impl Replica {
    /// Returns memories of these logs that have all of these tags: the best fits of [`words`], without any
    /// the newest.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn recall(
        &self,
        logs: Vec<LogId>,
        words: Vec<String>,
        tags: Vec<String>,
        limit: u32,
    ) -> Result<Vec<MemoryRow>, ReplicaError> {
        self.call(move |db| {
            let within = places(2, logs.len());
            let tagged: String = (0..tags.len())
                .map(|n| {
                    let n = 2 + logs.len() + n;
                    format!(" AND EXISTS (SELECT 1 FROM json_each(m.tags) WHERE value = ?{n})")
                })
                .collect();
            let find = |words: Value, sql: &str| -> Result<Vec<MemoryRow>, rusqlite::Error> {
                let logs = logs.iter().map(|log| Value::Blob(log.to_bytes().to_vec()));
                let values = std::iter::once(words).chain(logs);
                let values = values.chain(tags.iter().cloned().map(Value::Text));
                let mut query = db.prepare_cached(sql)?;
                let rows = query.query_map(params_from_iter(values), memory)?;
                rows.filter_map(Result::transpose).collect()
            };
            if words.is_empty() {
                let sql = format!(
                    "SELECT {MEMORY} FROM memory m
                     WHERE ?1 IS NULL AND m.log IN ({within}){tagged}
                     ORDER BY m.at DESC, m.seq DESC LIMIT {limit}"
                );
                return find(Value::Null, &sql);
            }
            let by_words = |words, order: &str| {
                let sql = format!(
                    "SELECT {MEMORY} FROM memory_text t JOIN memory m ON m.n = t.rowid
                     WHERE memory_text MATCH ?1 AND m.log IN ({within}){tagged}
                     ORDER BY {order} LIMIT {limit}"
                );
                find(Value::Text(words), &sql)
            };
            let plan = plan(db, "memory_text", &words, limit)?;
            plan.run(limit, by_words, |a, b| (a.log, a.item) == (b.log, b.item))
        })
        .await
    }

    /// Returns a memory.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn memory(&self, log: LogId, item: MsgId) -> Result<Option<MemoryRow>, ReplicaError> {
        self.call(move |db| {
            let sql = format!("SELECT {MEMORY} FROM memory m WHERE m.log = ?1 AND m.item = ?2");
            db.prepare_cached(&sql)?
                .query_row(params![log.to_bytes(), item.as_bytes()], memory)
                .optional()
                .map(Option::flatten)
        })
        .await
    }

    /// Makes every message that is here findable.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn index_messages(&self) -> Result<(), ReplicaError> {
        while self.call(index_batch).await? {}
        Ok(())
    }

    /// Finds messages by [`words`], the best first: of one log or of any channel, and of
    /// whispers as far as they may be found.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn find_messages(
        &self,
        words: Vec<String>,
        log: Option<LogId>,
        whispers: Whispers,
        limit: u32,
    ) -> Result<Vec<Verified>, ReplicaError> {
        self.call(move |db| {
            let (all, path, mailbox) = match whispers {
                Whispers::None => (false, None, None),
                Whispers::All => (true, None, None),
                Whispers::Of(path, mailbox) => (false, Some(path), Some(mailbox.to_bytes())),
            };
            let log = log.map(|log| log.to_bytes());
            let by_words = |words: String, order: &str| {
                let sql = format!(
                    "SELECT m.{} FROM message_text t JOIN message m ON m.rowid = t.rowid
                     WHERE message_text MATCH ?1 AND (?2 IS NULL OR m.log = ?2)
                       AND (m.kind = 1 OR m.kind = 2 AND (?3 OR m.log = ?5 OR m.sender = ?4))
                     ORDER BY {order} LIMIT {limit}",
                    COLUMNS.replace(", ", ", m.")
                );
                let mut query = db.prepare_cached(&sql)?;
                let rows = query.query_map(params![words, log, all, path, mailbox], read)?;
                rows.filter_map(Result::transpose).collect()
            };
            let plan = plan(db, "message_text", &words, limit)?;
            plan.run(limit, by_words, |a, b| (a.log, a.seq) == (b.log, b.seq))
        })
        .await
    }

    /// Returns which parts of a log's past are here without holes, ascending: what was read for searches,
    /// and what feeds have brought.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn filled(&self, log: LogId) -> Result<Vec<(u64, u64)>, ReplicaError> {
        self.call(move |db| filled(db, log)).await
    }

    /// Notes that a part of a log's past is here.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn fill(&self, log: LogId, first: u64, last: u64) -> Result<(), ReplicaError> {
        self.call(move |db| {
            let tx = db.transaction()?;
            let mut query = tx.prepare_cached("SELECT first, last FROM filled WHERE log = ?1")?;
            let rows =
                query.query_map([log.to_bytes()], |r| Ok((uint(r.get(0)?), uint(r.get(1)?))))?;
            let mut parts = rows.collect::<Result<Vec<_>, _>>()?;
            drop(query);
            parts.push((first, last));
            tx.prepare_cached("DELETE FROM filled WHERE log = ?1")?
                .execute([log.to_bytes()])?;
            for (first, last) in joined(parts) {
                tx.prepare_cached("INSERT INTO filled VALUES (?1, ?2, ?3)")?
                    .execute(params![log.to_bytes(), int(first), int(last)])?;
            }
            tx.commit()
        })
        .await
    }

    /// Returns when the oldest message at or after a place was stored.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub async fn at_of(&self, log: LogId, seq: u64) -> Result<Option<UnixMs>, ReplicaError> {
        self.call(move |db| {
            db.prepare_cached("SELECT at FROM message WHERE log = ?1 AND seq >= ?2 ORDER BY seq")?
                .query_row(params![log.to_bytes(), int(seq)], |r| r.get(0))
                .optional()
                .map(|at| at.map(|at| UnixMs(uint(at))))
        })
        .await
    }
}

/// Whether a one-shot of the command line asks: a person, who may find every whisper of the machine.
#[must_use]
pub fn is_person(handle: &str) -> bool {
    handle == CLI_HANDLE
}

fn filled(db: &Connection, log: LogId) -> Result<Vec<(u64, u64)>, rusqlite::Error> {
    let mut query = db.prepare_cached(
        "SELECT first, last FROM filled WHERE log = ?1
         UNION ALL SELECT h.first, max(f.cursor) FROM held h JOIN feed f ON f.log = h.log
         WHERE h.log = ?1 GROUP BY h.first HAVING max(f.cursor) >= h.first",
    )?;
    let rows = query.query_map([log.to_bytes()], |r| Ok((uint(r.get(0)?), uint(r.get(1)?))))?;
    Ok(joined(rows.collect::<Result<_, _>>()?))
}

/// Joins parts that touch, ascending.
#[must_use]
pub fn joined(mut parts: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    parts.retain(|(first, last)| first <= last);
    parts.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in parts {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

/// Returns the newest hole in `1..=head` beside these parts, which are joined.
#[must_use]
pub fn newest_hole(parts: &[(u64, u64)], head: u64) -> Option<(u64, u64)> {
    let mut end = head;
    for (first, last) in parts.iter().rev() {
        if *last < end {
            return Some((last + 1, end));
        }
        end = end.min(first.saturating_sub(1));
    }
    (end > 0).then_some((1, end))
}

/// Indexes messages that came since the last search; returns whether there may be more.
fn index_batch(db: &mut Connection) -> Result<bool, rusqlite::Error> {
    let tx = db.transaction()?;
    let upto: i64 = tx
        .prepare_cached("SELECT upto FROM indexed")?
        .query_row([], |r| r.get(0))
        .optional()?
        .unwrap_or(0);
    let (mut reached, mut count) = (upto, 0);
    {
        let mut query = tx.prepare_cached(
            "SELECT rowid, kind, body FROM message WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
        )?;
        let mut rows = query.query(params![upto, INDEX_BATCH])?;
        let mut put =
            tx.prepare_cached("INSERT INTO message_text (rowid, text) VALUES (?1, ?2)")?;
        while let Some(r) = rows.next()? {
            (reached, count) = (r.get(0)?, count + 1);
            let kind: u8 = r.get(1)?;
            let body = Body::parse(r.get_ref(2)?.as_blob()?).ok();
            if let Some(text) = body.filter(|_| kind <= 2).and_then(|body| body.text) {
                put.execute(params![reached, text])?;
            }
        }
    }
    if reached > upto {
        tx.prepare_cached("INSERT OR REPLACE INTO indexed VALUES (1, ?1)")?
            .execute([reached])?;
    }
    tx.commit()?;
    Ok(count == INDEX_BATCH)
}
