//! How the store finds what it looks for: by an index, however much there is.

use rusqlite::Connection;
use std::path::Path;

/// Tables that grow with what is said.
const GROWING: &[&str] = &["entry", "counter", "cursor", "slot", "wrap"];

/// What looks at everything, once: the snapshot that the hub starts from.
const AT_START: &[&str] = &[
    "SELECT at FROM entry ORDER BY pos DESC LIMIT 1",
    "SELECT place, at, data FROM entry INDEXED BY entry_ctl WHERE mid IS NULL ORDER BY place",
    "SELECT log, e, holder FROM wrap",
];

/// Returns the statements that stand in the store's sources.
fn statements() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let mut found = Vec::new();
    for file in [
        "sqlite.rs",
        "sqlite/read.rs",
        "sqlite/write.rs",
        "sqlite/keys.rs",
    ] {
        let source = std::fs::read_to_string(dir.join(file)).unwrap();
        let words = ["SELECT ", "INSERT ", "UPDATE ", "DELETE "];
        let literals = source.split('"').skip(1).step_by(2);
        let sql = literals.filter(|text| words.iter().any(|word| text.starts_with(word)));
        found.extend(sql.map(str::to_owned));
    }
    found
}

#[test]
fn lesson_13_nothing_that_grows_is_searched_from_end_to_end() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let db = Connection::open_in_memory().unwrap();
    for file in ["schema.sql", "keys.sql"] {
        let sql = std::fs::read_to_string(dir.join(file)).unwrap();
        // The second file is what an older layout lacks of the first.
        drop(db.execute_batch(&sql));
    }
    let statements = statements();
    assert!(statements.len() > 40, "{} found", statements.len());
    let mut scans = Vec::new();
    for sql in &statements {
        if AT_START.iter().any(|whole| sql.starts_with(whole)) {
            continue;
        }
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        // The plan does not depend on what is bound: null does.
        let mut rows = plan.raw_query();
        while let Some(row) = rows.next().unwrap() {
            let step: String = row.get(3).unwrap();
            let scans_it = |table: &&&str| step.split(' ').take(2).eq(["SCAN", **table]);
            if GROWING.iter().find(scans_it).is_some() {
                scans.push(format!("{step}: {sql}"));
            }
        }
    }
    assert!(scans.is_empty(), "{scans:#?}");
}
