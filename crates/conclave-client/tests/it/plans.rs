//! How the replica finds what it looks for: by an index, however much there is.

use conclave_client::replica::Replica;
use std::collections::HashMap;
use std::path::Path;

/// Tables that grow with what is said.
const GROWING: &[&str] = &[
    "message",
    "shown",
    "passed",
    "feed",
    "held",
    "sent",
    "delivery",
    "delivery_more",
    "receipt",
    "state",
    "claim",
    "memory",
    "memory_gone",
    "filled",
];

/// What the statements start with that look at everything, and why they may.
const WHOLE: &[(&str, &str)] = &[
    (
        "SELECT f.handle, f.log, f.cursor,",
        "a person asks for every feed of the machine",
    ),
    (
        "SELECT *, log FROM claim ORDER BY",
        "a hook looks at every claim for one that overlaps",
    ),
];

/// Returns the literals of a source file that are statements.
fn statements(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut chars = source.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next().is_some_and(|c| c != '\n') {},
            '"' if before != '\'' => {
                let mut text = String::new();
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    text.push(match c {
                        '\\' => chars.next().unwrap(),
                        c => c,
                    });
                }
                found.push(text);
            }
            _ => {}
        }
        before = c;
    }
    let words = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "];
    found.retain(|text| words.iter().any(|word| text.starts_with(word)));
    found
}

/// Puts something into the places that are filled in when a statement is run.
fn filled_in(sql: &str) -> String {
    [
        ("{COLUMNS}", "*"),
        ("{MEMORY}", "m.*"),
        ("{CLAIM}", "*"),
        ("{STATE}", "*"),
        ("m.{}", "m.*"),
        ("SELECT {}", "SELECT *"),
        ("{table}", "memory_text"),
        ("{within}", "?2"),
        ("{tagged}", ""),
        ("{order}", "t.rank"),
        ("{limit}", "10"),
        ("{}", "10"),
    ]
    .iter()
    .fold(sql.to_owned(), |sql, (place, with)| {
        sql.replace(place, with)
    })
}

fn sources(dir: &Path, all: &mut Vec<String>) {
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        match path.is_dir() {
            true => sources(&path, all),
            false if path.extension().is_some_and(|ext| ext == "rs") => {
                all.extend(statements(&std::fs::read_to_string(path).unwrap()));
            }
            false => {}
        }
    }
}

/// Returns the tables that a plan's steps name, by the names that the statement gives them.
fn names(sql: &str) -> HashMap<&str, &str> {
    let words: Vec<&str> = sql
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let from = words
        .windows(3)
        .filter(|w| ["FROM", "JOIN"].contains(&w[0]));
    from.map(|w| (w[2], w[1])).collect()
}

#[tokio::test]
async fn lesson_13_nothing_of_the_replica_that_grows_is_searched_from_end_to_end() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = statements(&std::fs::read_to_string(src.join("replica.rs")).unwrap());
    sources(&src.join("replica"), &mut all);
    // What an older replica is brought here from is not in this one.
    all.retain(|sql| !sql.contains(" FROM outbox "));
    assert!(all.len() > 100, "{} found", all.len());
    let dir = tempfile::tempdir().unwrap();
    let replica = Replica::open(&dir.path().join("r.sqlite")).await.unwrap();
    let plans = replica.call(move |db| {
        let mut plans = Vec::new();
        for sql in all.iter().map(|sql| filled_in(sql)) {
            // The plan does not depend on what is bound: null does.
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
            let mut rows = plan.raw_query();
            while let Some(row) = rows.next()? {
                plans.push((row.get::<_, String>(3)?, sql.clone()));
            }
        }
        Ok(plans)
    });
    let mut scans = Vec::new();
    for (step, sql) in plans.await.unwrap() {
        // All marks of a session are as much as the whole table.
        let marks = step
            .strip_prefix("SEARCH ")
            .filter(|step| step.ends_with("(handle=?)"));
        let Some(what) = step.strip_prefix("SCAN ").or(marks) else {
            continue;
        };
        let what = what.split(' ').next().unwrap();
        let table = *names(&sql).get(what).unwrap_or(&what);
        if marks.is_some() && !["shown", "passed"].contains(&table) {
            continue;
        }
        let may = WHOLE.iter().any(|(start, _)| sql.starts_with(start));
        if GROWING.contains(&table) && !may {
            scans.push(format!("{step}: {sql}"));
        }
    }
    assert!(scans.is_empty(), "{scans:#?}");
}
