//! A team: three bridges of two users as real processes, a server, the command line beside them.

use crate::world::{Home, Session, Up};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long something may take to be seen by another process.
const SOON: Duration = Duration::from_secs(20);

/// Alice's session, and two of bob's that review.
struct Team {
    up: Up,
    bob: Home,
    api: Session,
    web: Session,
    lead: Session,
}

impl Team {
    fn start() -> Self {
        let up = Up::start();
        let bob = up.guest("bob", up.link());
        let groups = |groups: &'static str| ["--groups", groups];
        let mut api = Session::start_with(&up.home, "api", &["--role", "dev"]);
        let mut web = Session::start_with(&bob, "web", &groups("reviewers,eng/backend"));
        let mut lead = Session::start_with(&bob, "lead", &groups("reviewers:lead"));
        for session in [&mut api, &mut web, &mut lead] {
            session.must("join_channel", json!({"channel": "general"}));
        }
        let mut team = Self {
            up,
            bob,
            api,
            web,
            lead,
        };
        team.peers(|text| text.matches("reviewers").count() >= 2);
        team
    }

    /// Lists peers until they are as wanted.
    fn peers(&mut self, are: impl Fn(&str) -> bool) -> String {
        until(|| {
            let listed = self.api.must("list_peers", json!({}));
            if are(&listed) {
                Ok(listed)
            } else {
                Err(listed)
            }
        })
    }
}

/// Looks again until something is there.
#[track_caller]
fn until<T>(mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if start.elapsed() > SOON => panic!("not in time; last: {last}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

/// Our own facts, the first line of a tool's answer.
fn facts(text: &str) -> Value {
    let line = text.lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn id_of(text: &str) -> String {
    facts(text)["id"].as_str().unwrap_or_default().to_owned()
}

fn words(heard: &Value) -> &str {
    heard["content"].as_str().unwrap_or_default()
}

#[test]
fn lesson_06_a_group_an_array_and_everybody_reach_whom_they_mean_once() {
    let mut team = Team::start();
    let sent = team.api.must(
        "send_message",
        json!({"to": "@reviewers", "message": "please look at the branch"}),
    );
    assert_eq!(facts(&sent)["recipients"], 2, "{sent}");
    for reviewer in [&mut team.web, &mut team.lead] {
        assert!(words(&reviewer.hear()).contains("please look at the branch"));
    }
    // A group above reaches the one below, and nobody else: its status has that one row.
    let sent = team.api.must(
        "send_message",
        json!({"to": "@eng", "message": "backend only"}),
    );
    assert!(words(&team.web.hear()).contains("backend only"));
    let status = team.api.must("message_status", json!({"id": id_of(&sent)}));
    let rows = facts(&status)["recipients"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{status}");
    assert_eq!(rows[0]["peer"], "bob/lap/web", "{status}");
    // Everybody: both sessions of one machine.
    team.api.must(
        "send_message",
        json!({"to": "*", "message": "to everybody"}),
    );
    for reviewer in [&mut team.web, &mut team.lead] {
        assert!(words(&reviewer.hear()).contains("to everybody"));
    }

    // Three names for two sessions.
    let to = json!(["@reviewers", "bob/lap/web", "lead"]);
    team.api
        .must("send_message", json!({"to": to, "message": "the overlap"}));
    team.api.must(
        "send_message",
        json!({"to": "@reviewers", "message": "the end"}),
    );
    for reviewer in [&mut team.web, &mut team.lead] {
        for expected in ["the overlap", "the end"] {
            let heard = reviewer.hear();
            assert!(words(&heard).contains(expected), "{expected}: {heard}");
        }
    }

    let unknown = team.api.call(
        "send_message",
        json!({"to": "@reviwers", "message": "nobody"}),
    );
    assert!(
        unknown.0 && unknown.1.contains("not_found") && unknown.1.contains("reviewers"),
        "{unknown:?}"
    );

    team.lead.must(
        "join_group",
        json!({"name": "reviewers", "role": "observer"}),
    );
    // What kind of machine it is on is told, too.
    team.peers(|text| {
        text.contains(std::env::consts::OS)
            && text.contains("observer")
            && !text.contains(r#""lead""#)
    });
}

#[test]
fn a_question_is_answered_within_the_call_and_after_it() {
    let mut team = Team::start();
    let answer = |session: &mut Session, text: &str| {
        let heard = session.hear();
        let id = heard["meta"]["msg_id"].as_str().unwrap().to_owned();
        assert_eq!(heard["meta"]["expects_reply"], "1", "{heard}");
        session.must(
            "send_message",
            json!({"to": "alice/desk/api", "message": text, "reply_to": id}),
        );
    };
    let asked = team.api.ask(
        "tools/call",
        json!({"name": "ask", "arguments":
            {"to": "web", "question": "is staging up?", "timeout_s": 20}}),
    );
    answer(&mut team.web, "yes, since noon");
    let result = team.api.answer(asked)["result"]["content"][0]["text"].clone();
    let text = result.as_str().unwrap();
    assert_eq!(facts(text)["status"], "answered", "{text}");
    assert!(text.contains("yes, since noon"), "{text}");

    let late = team.api.must(
        "ask",
        json!({"to": "lead", "question": "and production?", "timeout_s": 1}),
    );
    assert_eq!(facts(&late)["status"], "pending", "{late}");
    answer(&mut team.lead, "not yet");
    let heard = team.api.hear();
    assert!(words(&heard).contains("not yet"), "{heard}");
    assert!(
        words(&heard).contains("and production?"),
        "it names the question: {heard}"
    );

    let everybody = team.api.ask(
        "tools/call",
        json!({"name": "ask", "arguments":
            {"to": "@reviewers", "question": "who has seen this?", "timeout_s": 20}}),
    );
    answer(&mut team.web, "web has");
    answer(&mut team.lead, "lead has");
    let result = team.api.answer(everybody)["result"]["content"][0]["text"].clone();
    let text = result.as_str().unwrap();
    assert!(
        text.contains("web has") && text.contains("lead has"),
        "{text}"
    );
}

#[test]
fn what_became_of_a_whisper_is_known_step_by_step() {
    let Team {
        up,
        bob,
        mut api,
        web,
        ..
    } = Team::start();
    drop(web);
    let sent = api.must(
        "send_message",
        json!({"to": "bob/lap/web", "message": "when you are back"}),
    );
    let id = id_of(&sent);
    let step = |api: &mut Session| {
        let status = api.must("message_status", json!({"id": id}));
        let step = facts(&status)["recipients"][0]["step"].clone();
        step.as_str().unwrap_or(&status).to_owned()
    };
    assert_eq!(step(&mut api), "stored");
    let mut web = Session::start(&bob, "web");
    let came = web.must("wait_for_messages", json!({"timeout_s": 15}));
    assert!(came.contains("when you are back"), "{came}");
    until(|| match step(&mut api) {
        step if step == "in_context" => Ok(()),
        other => Err(other),
    });
    web.must(
        "send_message",
        json!({"to": "alice/desk/api", "message": "I am", "reply_to": id}),
    );
    until(|| match step(&mut api) {
        step if step == "answered" => Ok(()),
        other => Err(other),
    });
    // The command line of the same machine knows as well.
    let told = up.home.run(&["message", &id, "--json"]).ok();
    assert!(told.stdout.contains("answered"), "{told:?}");
}

#[test]
fn of_many_who_race_for_a_version_or_a_claim_one_wins() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let race = |args: &dyn Fn(usize) -> Vec<String>| {
        let mut running = Vec::new();
        for n in 0..10 {
            let args = args(n);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let home = if n % 2 == 0 { &up.home } else { &bob };
            running.push(home.command(&args).spawn().unwrap());
        }
        let ends = running.into_iter().map(|child| {
            let output = child.wait_with_output().unwrap();
            (
                output.status.success(),
                String::from_utf8(output.stdout).unwrap(),
            )
        });
        ends.collect::<Vec<_>>()
    };
    let own = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let ends = race(&|n| {
        let value = n.to_string();
        own(&[
            "state",
            "set",
            "leader",
            &value,
            "--if-version",
            "0",
            "--json",
        ])
    });
    let winners = ends.iter().filter(|(won, _)| *won).count();
    assert_eq!(winners, 1, "{ends:?}");
    for (_, lost) in ends.iter().filter(|(won, _)| !won) {
        assert!(lost.contains("version_mismatch"), "{lost}");
    }
}

/// Runs git in a directory, away from this machine's own settings.
fn git(dir: &Path, args: &[&str]) -> std::process::Output {
    let mut command = Command::new("git");
    command
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "test");
        command.env(format!("GIT_{who}_EMAIL"), "test@example.invalid");
    }
    command.stdin(Stdio::null()).output().expect("git runs")
}

#[test]
fn a_machine_that_just_joined_finds_state_memory_and_what_was_said() {
    let mut team = Team::start();
    team.api
        .must("set_state", json!({"key": "deploy_frozen", "value": true}));
    team.web.must(
        "remember",
        json!({"content": "The payments gateway limits to 100 requests a second since March.", "tags": ["payments"]}),
    );
    team.lead.must(
        "send_channel",
        json!({"channel": "general", "text": "the flamingo is out of the cage"}),
    );
    let link = team
        .up
        .home
        .run(&["invite", "create", "general", "--json"])
        .ok();
    let link = link.json()["link"].as_str().unwrap().to_owned();
    let eve = team.up.guest("eve", &link);
    let mut new = Session::start(&eve, "new");
    let state = new.must("get_state", json!({"key": "deploy_frozen"}));
    assert!(state.contains("true"), "{state}");
    let recalled = new.must("recall", json!({"query": "gateway limit"}));
    assert!(recalled.contains("100 requests"), "{recalled}");
    assert!(
        recalled.contains("bob/lap/web"),
        "its writer is named: {recalled}"
    );
    let found = new.must("search_history", json!({"query": "flamingos"}));
    assert!(found.contains("out of the cage"), "{found}");
    // And by the command line, without any session.
    let got = eve.run(&["state", "get", "deploy_frozen", "--json"]).ok();
    assert!(got.stdout.contains("true"), "{got:?}");
    let got = eve.run(&["recall", "gateway", "--json"]).ok();
    assert!(got.stdout.contains("100 requests"), "{got:?}");
    let got = eve.run(&["history", "flamingo", "--json"]).ok();
    assert!(got.stdout.contains("out of the cage"), "{got:?}");
}

#[test]
fn an_edit_of_what_another_session_claimed_is_denied_in_a_real_repository() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let (hers, his) = (up.home.file("shop"), bob.file("shop"));
    for dir in [&hers, &his] {
        std::fs::create_dir_all(format!("{dir}/src/auth")).unwrap();
        std::fs::write(format!("{dir}/src/auth/login.rs"), "fn login() {}\n").unwrap();
        assert!(git(Path::new(dir), &["init", "-q"]).status.success());
    }
    git(
        Path::new(&hers),
        &["remote", "add", "origin", "git@Example.com:team/shop.git"],
    );
    git(
        Path::new(&his),
        &["remote", "add", "origin", "https://example.com/team/shop"],
    );

    let mut bridge = Session::start_in(&bob, "web", Path::new(&his));
    bridge.must(
        "claim",
        json!({"resource": "path:src/auth/**", "note": "login rewrite"}),
    );
    let claims = up.home.run(&["claim", "list", "--json"]).ok();
    assert!(claims.stdout.contains("bob/lap/web"), "{claims:?}");

    let edit = |home: &Home, dir: &str, file: &str| {
        let event = json!({"session_id": "s", "cwd": dir, "hook_event_name": "PreToolUse",
            "tool_name": "Edit", "tool_input": {"file_path": format!("{dir}/{file}")}});
        home.pipe(&["hook", "--claims", "deny"], &event.to_string())
            .ok()
    };
    let denied = edit(&up.home, &hers, "src/auth/login.rs");
    let told: Value =
        serde_json::from_str(&denied.stdout).unwrap_or_else(|e| panic!("{e}: {denied:?}"));
    assert_eq!(
        told["hookSpecificOutput"]["permissionDecision"], "deny",
        "{told}"
    );
    assert!(told.to_string().contains("bob/lap/web"), "{told}");
    let deep = format!("src/auth/{}new.rs", "deep/".repeat(60));
    let denied = edit(&up.home, &hers, &deep);
    assert!(
        denied.stdout.contains(r#""permissionDecision":"deny""#),
        "{denied:?}"
    );
    let free = edit(&up.home, &hers, "src/other.rs");
    assert!(!free.stdout.contains("deny"), "{free:?}");

    // A commit by alice is stopped, too; after the release both go through.
    git(Path::new(&hers), &["add", "."]);
    let stopped = up
        .home
        .command(&["guard", "--json"])
        .current_dir(&hers)
        .output()
        .unwrap();
    assert!(!stopped.status.success(), "{stopped:?}");
    bridge.must("release", json!({"resource": "path:src/auth/**"}));
    up.home.run(&["claim", "list", "--json"]).ok();
    let free = edit(&up.home, &hers, "src/auth/login.rs");
    assert!(!free.stdout.contains("deny"), "{free:?}");
}
