//! `conclave doctor`: something is broken in each layer, and is found, explained and, where it may be, repaired.

use crate::world::{Home, Outcome, Session, Up, loosen};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// What the doctor says, and how it ended.
struct Said(Outcome);

impl Said {
    fn of(home: &Home, args: &[&str]) -> Self {
        Self(home.run(&[&["doctor", "--json"], args].concat()))
    }

    fn findings(&self) -> Vec<Value> {
        self.0.json()["findings"].as_array().unwrap().clone()
    }

    /// Returns what a check found.
    fn all(&self, check: &str) -> Vec<Value> {
        let mut found = self.findings();
        found.retain(|found| found["check"] == check);
        found
    }

    /// Asserts that a check ended so, with these words, and says what to do unless all is well.
    #[track_caller]
    fn has(&self, check: &str, state: &str, words: &str) {
        let fits = |found: &&Value| {
            found["state"] == state && found["what"].as_str().is_some_and(|w| w.contains(words))
        };
        let all = self.all(check);
        let found = all.iter().find(fits);
        let found = found.unwrap_or_else(|| panic!("{check} {state} {words}: {:?}", self.0));
        if state != "ok" {
            assert!(
                found["todo"].as_str().is_some_and(|todo| !todo.is_empty()),
                "{found}"
            );
        }
    }

    #[track_caller]
    fn fails(&self) {
        assert_eq!(self.0.code, 1, "{:?}", self.0);
        assert_eq!(self.0.json()["state"], "fail");
    }

    #[track_caller]
    fn is_well(&self) {
        assert_eq!(self.0.code, 0, "{:?}", self.0);
        assert!(
            self.findings().iter().all(|f| f["state"] != "fail"),
            "{:?}",
            self.0
        );
    }
}

/// Every file below a directory, with its mode and bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let bytes = match meta.is_file() {
            true => fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        if meta.is_dir() {
            left.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        found.insert(path, (meta.mode(), bytes));
    }
    found
}

/// The directory of the one server that a machine knows.
fn server_dir(home: &Home) -> PathBuf {
    let mut dirs = fs::read_dir(home.path().join("servers")).unwrap();
    dirs.next().unwrap().unwrap().path()
}

#[test]
fn a_healthy_machine_is_well_and_looking_leaves_nothing_behind() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let root = bob.path().parent().unwrap().to_owned();
    let before = tree(&root);
    let said = Said::of(&bob, &[]);
    said.is_well();
    said.has("account", "ok", "bob/lap");
    said.has("server", "ok", "pinned");
    said.has("clock", "ok", "within");
    said.has("policy", "ok", "channels converse");
    said.has("replica", "ok", "in order");
    said.has("outbox", "ok", "nothing waits");
    let text = bob.run(&["doctor"]).ok();
    assert!(text.stdout.contains("ok    server"), "{text:?}");
    let after = tree(&root);
    let names = |tree: &BTreeMap<PathBuf, _>| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    let changed: Vec<_> = before
        .iter()
        // The index that readers of SQLite share holds nothing but who reads.
        .filter(|(path, was)| after[*path] != **was && !path.to_string_lossy().ends_with("-shm"))
        .collect();
    assert!(
        changed.is_empty(),
        "{:?}",
        changed.iter().map(|(path, _)| path).collect::<Vec<_>>()
    );
}

#[test]
fn a_machine_that_knows_nothing_is_told_how_to_begin_and_stays_as_it_was() {
    let home = Home::new();
    let said = Said::of(&home, &["--fix"]);
    said.is_well();
    said.has("directory", "warn", "does not exist");
    assert!(!home.path().exists());
}

#[test]
fn files_that_are_open_to_others_are_found_and_closed() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let key = server_dir(&bob).join("machine.key");
    loosen(&key);
    loosen(&bob.path().join("servers"));
    let said = Said::of(&bob, &[]);
    said.fails();
    said.has("files", "fail", "machine.key is open to other users");
    said.has("directory", "fail", "open to other users");
    let fixed = Said::of(&bob, &["--fix"]);
    fixed.is_well();
    let did = fixed.0.json()["fixed"].to_string();
    assert!(did.contains("machine.key"), "{did}");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o077, 0);
    assert_eq!(Said::of(&bob, &["--fix"]).0.json()["fixed"], json!([]));
}

#[test]
fn a_server_that_is_away_or_another_one_is_told_apart() {
    let mut up = Up::start();
    let bob = up.guest("bob", up.link());
    up.stop();
    let said = Said::of(&bob, &[]);
    said.fails();
    said.has("server", "fail", "cannot connect");
    said.has("account", "warn", "not confirmed");
    said.has("policy", "ok", "channels converse");
    up.resume();

    // Another key is pinned than the server proves.
    let other = Up::start();
    let stranger = other.guest("bob", other.link());
    let key = |home: &Home| {
        let text = fs::read_to_string(server_dir(home).join("server.toml")).unwrap();
        let line = text.lines().find(|line| line.starts_with("key")).unwrap();
        (text.clone(), line.to_owned())
    };
    let ((text, own), (_, others)) = (key(&bob), key(&stranger));
    fs::write(
        server_dir(&bob).join("server.toml"),
        text.replace(&own, &others),
    )
    .unwrap();
    let said = Said::of(&bob, &[]);
    said.fails();
    said.has("pin", "fail", "is pinned");
}

#[test]
fn a_machine_that_was_removed_is_told_so() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let key = bob.file("recovery.key");
    bob.run(&["machine", "remove", "lap", "--recovery-key-file", &key]);
    let said = Said::of(&bob, &[]);
    said.fails();
    said.has("account", "fail", "does not accept this machine");
    said.has("server", "ok", "answers");
}

#[test]
fn a_policy_that_nobody_signed_and_a_replica_that_is_damaged_fail() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let dir = server_dir(&bob);
    let policy = fs::read(dir.join("policy")).unwrap();
    let mut forged = policy;
    *forged.last_mut().unwrap() ^= 1;
    fs::write(dir.join("policy"), forged).unwrap();
    let said = Said::of(&bob, &[]);
    said.fails();
    said.has("policy", "fail", "not signed");
    fs::remove_file(dir.join("policy")).unwrap();
    let said = Said::of(&bob, &[]);
    said.is_well();
    said.has("policy", "warn", "may only read");
    let replica = dir.join("replica.sqlite");
    for end in ["-wal", "-shm"] {
        let mut name = replica.clone().into_os_string();
        name.push(end);
        // There are none if whoever wrote last has closed it.
        let _none = fs::remove_file(name);
    }
    let mut bytes = fs::read(&replica).unwrap();
    bytes[100..].fill(0x5a);
    fs::write(&replica, bytes).unwrap();
    let said = Said::of(&bob, &[]);
    said.fails();
    assert!(
        said.all("replica").iter().any(|f| f["state"] == "fail"),
        "{:?}",
        said.0
    );
}

#[test]
fn what_crashed_sessions_left_is_told_and_swept() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let run = bob.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).unwrap();
    let note = run.join("4194305.json");
    fs::write(&note, "{}").unwrap();
    fs::set_permissions(&note, fs::Permissions::from_mode(0o600)).unwrap();
    let said = Said::of(&bob, &[]);
    said.is_well();
    said.has("files", "warn", "crashed");
    let fixed = Said::of(&bob, &["--fix"]);
    fixed.has("files", "ok", "nothing is left over");
    assert!(!note.exists());
}

#[test]
fn an_entry_of_ours_that_points_nowhere_fails_and_none_is_a_warning() {
    let home = Home::new();
    let config = home.file(".claude.json");
    fs::write(&config, "{}").unwrap();
    Said::of(&home, &[]).has("registration", "warn", "does not know conclave");
    let entry =
        json!({"mcpServers": {"conclave": {"command": "/nowhere/conclave", "args": ["bridge"]}}});
    fs::write(&config, entry.to_string()).unwrap();
    let said = Said::of(&home, &[]);
    said.fails();
    said.has("registration", "fail", "/nowhere/conclave, which is gone");
    said.has("hooks", "warn", "none of ours");
}

#[test]
fn what_a_session_left_unsent_is_told_until_it_runs_again() {
    let mut up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut web = Session::start(&bob, "web");
    web.must("join_channel", json!({"channel": "general"}));
    up.stop();
    web.must(
        "send_channel",
        json!({"channel": "general", "text": "later"}),
    );
    let said = Said::of(&bob, &[]);
    assert!(
        said.all("session").iter().any(|f| f["state"] != "fail"),
        "{:?}",
        said.0
    );
    drop(web);
    Said::of(&bob, &[]).has("outbox", "warn", "1 unsent of web");
}

/// A session that answers as it is told, in the place of a bridge.
fn stand_in(home: &Home, answer: &Value) {
    let run = home.path().join("run");
    fs::create_dir_all(&run).unwrap();
    for dir in [home.path(), run.clone()] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let pid = std::process::id();
    let note = json!({"pid": pid, "host_pid": 1});
    fs::write(run.join(format!("{pid}.json")), note.to_string()).unwrap();
    let listener = UnixListener::bind(run.join(format!("{pid}.sock"))).unwrap();
    let mut answer = answer.clone();
    answer["answer"] = json!("facts");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            writeln!(&stream, "{answer}").unwrap();
        }
    });
}

#[test]
fn sessions_are_woken_and_those_that_do_not_wake_fail() {
    let none = Home::new();
    Said::of(&none, &["wake"]).0.refused(8, "local");

    let awake = Home::new();
    stand_in(
        &awake,
        &json!({"handle": "web", "path": "inbox", "proven": true, "within_ms": 1200}),
    );
    let said = awake.run(&["doctor", "wake", "--json"]).ok().json();
    assert_eq!(said["sessions"][0]["path"], "inbox", "{said}");
    assert_eq!(said["proven"], true, "{said}");

    let asleep = Home::new();
    stand_in(
        &asleep,
        &json!({"proven": false, "why_not": "no path is left"}),
    );
    let said = asleep.run(&["doctor", "wake", "--json"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.json()["sessions"][0]["why_not"], "no path is left");
}

#[test]
fn a_session_that_is_there_and_does_not_answer_fails() {
    let home = Home::new();
    stand_in(
        &home,
        &json!({"handle": "web", "status": "idle", "wake": {"path": "inbox", "at": 1000},
        "hooks": {"last": "stop", "at": 2000}}),
    );
    let said = Said::of(&home, &[]);
    said.has("session", "ok", "web: status idle");
    said.has("wake", "ok", "woken last by inbox");
    said.has("hooks", "ok", "web: stop");
    let socket = home.path().join(format!("run/{}.sock", std::process::id()));
    fs::remove_file(socket).unwrap();
    let said = Said::of(&home, &[]);
    said.fails();
    said.has("session", "fail", "No such file");
}

#[test]
fn status_tells_of_sessions_that_run_here_and_of_what_was_stopped() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let mut web = Session::start(&bob, "web");
    web.must("join_channel", json!({"channel": "general"}));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let entry = json!({"at": u64::try_from(now.unwrap().as_millis()).unwrap(), "session": "web", "kind": "loop",
        "text": "two sessions thanked each other", "hint": "conclave journal"});
    fs::write(server_dir(&bob).join("journal"), format!("{entry}\n")).unwrap();
    let status = bob.run(&["status", "--json"]).ok().json();
    assert!(status["live"][0]["pid"].is_u64(), "{status}");
    assert!(status["live"][0]["facts"]["unread"].is_u64(), "{status}");
    assert_eq!(
        status["servers"][0]["journal"][0]["kind"], "loop",
        "{status}"
    );
    let said = bob.run(&["status"]).ok();
    assert!(said.stdout.contains("RUNNING HERE"), "{said:?}");
    assert!(
        said.stderr.contains("two sessions thanked each other"),
        "{said:?}"
    );
    Said::of(&bob, &[]).has("guard", "warn", "two sessions thanked each other");
    drop(web);
    let status = bob.run(&["status", "--json"]).ok().json();
    assert_eq!(status["live"], json!([]), "{status}");
}
