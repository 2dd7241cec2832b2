//! Rules of the house that a compiler does not check: walls, sizes, forgotten files, left-overs.
//!
//! What each crate may import is ARCHITECTURE.md 2; sizes are STYLE's.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file: its path below the repository, and its text.
struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every source file of the crates themselves, without tests and examples.
fn crate_sources() -> impl Iterator<Item = Source> {
    sources("crates")
        .into_iter()
        .filter(|s| s.path.contains("/src/"))
}

fn sources(below: &str) -> Vec<Source> {
    let mut files = Vec::new();
    walk(&root().join(below), &mut files);
    files.sort();
    assert!(!files.is_empty(), "no sources below {below}");
    let strip = |path: &Path| {
        path.strip_prefix(root())
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    files
        .iter()
        .map(|path| Source {
            path: strip(path),
            text: fs::read_to_string(path).unwrap(),
        })
        .collect()
}

/// Lines of code outside `#[cfg(test)]` modules at the end of a file and outside comments.
fn code_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source
        .text
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(n, line)| (n + 1, line))
}

/// Asserts that no line below `below` contains any of `words`, except in files named in `except`.
fn forbid(below: &str, words: &[&str], except: &[&str], because: &str) {
    let mut hits = Vec::new();
    for source in sources(below) {
        if except.iter().any(|e| source.path.ends_with(e)) {
            continue;
        }
        for (n, line) in code_lines(&source) {
            for word in words.iter().filter(|w| line.contains(**w)) {
                hits.push(format!("{}:{n}: {word}", source.path));
            }
        }
    }
    assert!(hits.is_empty(), "{because}:\n{}", hits.join("\n"));
}

#[test]
fn the_protocol_does_no_io_and_reads_no_clock() {
    forbid(
        "crates/conclave-proto/src",
        &[
            "std::net",
            "std::fs",
            "std::thread",
            "std::sync::Mutex",
            "tokio",
            "Instant::now",
            "SystemTime::now",
            "getrandom",
            "rand::",
        ],
        &[],
        "conclave-proto is pure: time and randomness are arguments",
    );
}

#[test]
fn the_hub_state_knows_no_runtime_and_no_store_driver() {
    forbid(
        "crates/conclave-server/src/hub",
        &[
            "tokio",
            "rusqlite",
            "hyper",
            "crate::conn",
            "crate::http",
            "crate::edge",
        ],
        &["hub/handle.rs", "hub/threads.rs"],
        "hub/* are pure rules; hub.rs drives them, with its mailbox and threads",
    );
    forbid(
        "crates/conclave-server/src/store",
        &["crate::hub", "crate::conn", "crate::http"],
        &[],
        "the store serves the hub and knows nobody above it",
    );
    forbid(
        "crates/conclave-server/src/http",
        &["crate::store", "hub::state"],
        &[],
        "HTTP talks to connections and the hub's handle only",
    );
}

#[test]
fn the_rules_of_the_bridge_know_no_sockets_and_no_mcp_types() {
    for rule in ["state.rs", "policy.rs", "trust.rs", "render.rs", "guard.rs"] {
        let source = sources("crates/conclave-bridge/src")
            .into_iter()
            .find(|s| s.path.ends_with(&format!("src/{rule}")))
            .unwrap_or_else(|| panic!("{rule} is missing"));
        for (n, line) in code_lines(&source) {
            for word in [
                "tokio",
                "rmcp",
                "std::net",
                "Instant::now",
                "SystemTime::now",
            ] {
                assert!(!line.contains(word), "{}:{n}: {word}", source.path);
            }
        }
    }
}

#[test]
fn nothing_prints_but_through_the_output_module() {
    for source in crate_sources() {
        for (n, line) in code_lines(&source) {
            let prints = ["println!(", "eprintln!(", "print!(", "eprint!("];
            let found = prints.iter().any(|word| line.contains(word));
            assert!(
                !found,
                "stdout is data, in the bridge the MCP wire: {}:{n}",
                source.path
            );
        }
    }
}

#[test]
fn files_stay_small_enough_to_be_read() {
    let long: Vec<_> = crate_sources()
        .map(|s| (code_lines(&s).count(), s.path))
        .filter(|(lines, _)| *lines > 600)
        .collect();
    assert!(
        long.is_empty(),
        "files over 600 lines without tests: {long:?}"
    );
}

#[test]
fn every_test_file_is_part_of_its_binary() {
    let mut forgotten = Vec::new();
    for krate in fs::read_dir(root().join("crates")).unwrap() {
        let dir = krate.unwrap().path().join("tests/it");
        let Ok(main) = fs::read_to_string(dir.join("main.rs")) else {
            continue;
        };
        for file in fs::read_dir(&dir).unwrap() {
            let path = file.unwrap().path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let is_module = path.extension().is_some_and(|e| e == "rs") && stem != "main";
            if is_module && !main.contains(&format!("mod {stem};")) {
                forgotten.push(path);
            }
        }
    }
    assert!(
        forgotten.is_empty(),
        "not declared in tests/it/main.rs: {forgotten:?}"
    );
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent: Vec<_> = sources("crates")
        .into_iter()
        .filter(|s| !s.text.starts_with("//!"))
        .map(|s| s.path)
        .collect();
    assert!(silent.is_empty(), "files without a `//!` head: {silent:?}");
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "X".to_owned() + "XX",
    ];
    let marks: Vec<&str> = marks.iter().map(String::as_str).collect();
    for source in sources("crates") {
        for (n, line) in source.text.lines().enumerate() {
            assert!(
                !marks.iter().any(|m| line.contains(m)),
                "{}:{}: {line}",
                source.path,
                n + 1
            );
        }
    }
}
