//! The checks: each looks at one layer of what was gathered, and decides.

use super::files::Fault;
use super::scene::{Scene, Server};
use super::{Finding, State};
use crate::cli::live::Live;
use crate::cli::open;
use crate::error::chain;
use crate::text;
use conclave_bridge::policy::{Policy, Quiet, Scope};
use conclave_client::error::ClientError;
use conclave_client::home::HomeError;
use conclave_proto::link::DownReason;
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;

/// A check.
pub(super) type Check = fn(&Scene) -> Vec<Finding>;

/// Every check, from the disk outwards.
pub(super) const ALL: [Check; 13] = [
    directory,
    files,
    account,
    server,
    clock,
    policy,
    approvers,
    quiet,
    replica,
    outbox,
    paused,
    registration,
    sessions,
];

/// From how much on a clock that differs is told, and fails, in milliseconds.
const CLOCK_WARN_MS: u64 = 30_000;
const CLOCK_FAIL_MS: u64 = 300_000;
/// How many files of a kind are named.
const NAMED: usize = 5;

fn directory(scene: &Scene) -> Vec<Finding> {
    let name = "directory";
    let dir = scene.dir.display();
    let none = "`conclave up` starts a server here, `conclave join` takes an invite link";
    vec![match (&scene.broken, scene.exists) {
        (Some(error), _) => Finding::fail(name, chain(error), repair(error)),
        (None, false) => Finding::warn(name, format!("{dir} does not exist yet"), none),
        (None, true) if scene.servers.is_empty() => {
            Finding::warn(name, format!("{dir}: no account on any server"), none)
        }
        (None, true) => Finding::ok(name, dir),
    }]
}

/// What to do about a state directory that cannot be used; most errors say it themselves.
fn repair(error: &HomeError) -> &'static str {
    match error {
        HomeError::Mode { .. } => "run `conclave doctor --fix`",
        _ => "do what the message says, then look again",
    }
}

fn files(scene: &Scene) -> Vec<Finding> {
    let name = "files";
    if scene.faults.is_empty() && scene.stale.is_empty() {
        return match scene.exists {
            true => vec![Finding::ok(name, "private, and nothing is left over")],
            false => Vec::new(),
        };
    }
    let mut findings = Vec::new();
    for fault in scene.faults.iter().take(NAMED) {
        findings.push(match fault {
            Fault::Open(path, mode) => Finding::fail(
                name,
                format!(
                    "{} is open to other users (mode {mode:04o})",
                    path.display()
                ),
                "run `conclave doctor --fix`",
            ),
            Fault::Owner(path, uid) => Finding::fail(
                name,
                format!("{} belongs to uid {uid}, not to you", path.display()),
                "move it away, or have its owner changed to you",
            ),
            Fault::Link(path) => Finding::fail(
                name,
                format!("{} is a symbolic link", path.display()),
                "put the file itself there: keys are not followed elsewhere",
            ),
        });
    }
    let more = scene.faults.len().saturating_sub(NAMED);
    if more > 0 {
        findings.push(Finding::fail(
            name,
            format!("{more} more like these"),
            "run `conclave doctor --fix`",
        ));
    }
    if !scene.stale.is_empty() {
        let text = format!("{} files of sessions that crashed", scene.stale.len());
        findings.push(Finding::warn(
            name,
            text,
            "run `conclave doctor --fix`; a launch does it, too",
        ));
    }
    findings
}

/// Makes findings for every server.
fn each(scene: &Scene, look: impl Fn(&Server, String) -> Vec<Finding>) -> Vec<Finding> {
    let servers = scene.servers.iter();
    servers
        .flat_map(|server| look(server, open::name(&server.profile)))
        .collect()
}

fn account(scene: &Scene) -> Vec<Finding> {
    let name = "account";
    each(scene, |server, url| {
        let Some(account) = &server.profile.user else {
            return Vec::new();
        };
        let you = format!("{}/{} on {url}", account.user, account.machine);
        let finding = match &server.greeting {
            _ if account.unsettled => Finding::fail(
                name,
                format!("{you}: the server never confirmed it"),
                "run the command again that was to make the account",
            ),
            Err(ClientError::Home(error)) => Finding::fail(name, chain(error), repair(error)),
            Err(ClientError::NoAccount(_)) => Finding::fail(
                name,
                format!("{you}: this machine's keys are missing"),
                "restore them from a backup, or enrol anew: `conclave server remove`, then `conclave machine add` elsewhere",
            ),
            Err(ClientError::Down(DownReason::Revoked)) => revoked(name, &you),
            Err(error)
                if matches!(error.code(), Code::UnknownKey | Code::Unauthorized)
                    && !is_pin(error) =>
            {
                revoked(name, &you)
            }
            Ok(_) => Finding::ok(name, you),
            Err(_) => Finding::warn(
                name,
                format!("{you}: not confirmed, the server was not reached"),
                "see `server` below",
            ),
        };
        vec![finding]
    })
}

fn revoked(name: &'static str, you: &str) -> Finding {
    Finding::fail(
        name,
        format!(
            "{you}: the server does not accept this machine; it was removed, or the account was"
        ),
        "ask whoever removed it; `conclave machine add` on another machine of yours enrols it again",
    )
}

fn is_pin(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::PinChanged { .. } | ClientError::Down(DownReason::PinMismatch { .. })
    )
}

fn server(scene: &Scene) -> Vec<Finding> {
    each(scene, |server, url| {
        vec![match &server.greeting {
            Ok(greeting) => {
                let (ms, key) = (greeting.took.as_millis(), server.profile.key.fingerprint());
                Finding::ok(
                    "server",
                    format!("{url} answers in {ms} ms; its key is the pinned one ({key})"),
                )
            }
            Err(error) if is_pin(error) => {
                Finding::fail("pin", format!("{url}: {}", chain(error)), error.hint())
            }
            // It answered; what it says is of the account.
            Err(ClientError::Down(DownReason::Revoked)) => {
                Finding::ok("server", format!("{url} answers"))
            }
            Err(error) if matches!(error.code(), Code::UnknownKey | Code::Unauthorized) => {
                Finding::ok("server", format!("{url} answers"))
            }
            Err(ClientError::Home(_) | ClientError::NoAccount(_)) => Finding::warn(
                "server",
                format!("{url} was not asked"),
                "see `account` above",
            ),
            Err(error) => {
                let why = error.to_string();
                Finding::fail(
                    "server",
                    format!("{url}: {why}"),
                    "check that the server runs, its URL, proxy and certificate",
                )
            }
        }]
    })
}

fn clock(scene: &Scene) -> Vec<Finding> {
    each(scene, |server, url| {
        let Ok(greeting) = &server.greeting else {
            return Vec::new();
        };
        vec![clock_of(&url, greeting.clock_ahead_ms)]
    })
}

fn clock_of(url: &str, ahead_ms: i64) -> Finding {
    let off = ahead_ms.unsigned_abs();
    let way = if ahead_ms > 0 { "behind" } else { "ahead of" };
    let text = format!("this machine is {} s {way} {url}", off / 1000);
    let todo = "set this machine's clock: invites, claims and quiet hours go by it";
    match off {
        0..CLOCK_WARN_MS => Finding::ok("clock", format!("within {} s of {url}", off / 1000 + 1)),
        CLOCK_WARN_MS..CLOCK_FAIL_MS => Finding::warn("clock", text, todo),
        CLOCK_FAIL_MS.. => Finding::fail("clock", text, todo),
    }
}

fn policy(scene: &Scene) -> Vec<Finding> {
    let name = "policy";
    let set = "`conclave perm set converse` signs a new one with your owner key";
    each(scene, |server, url| {
        let policy = server.levels.policy();
        let known = server
            .kept
            .as_ref()
            .is_ok_and(|kept| kept.identity.is_some());
        vec![match &server.bad_policy {
            Some(_) if !known => Finding::warn(
                name,
                format!("{url}: not checked, your owner keys are not on this disk yet"),
                "run `conclave perm show` once while the server is reachable",
            ),
            Some(fault) => Finding::fail(
                name,
                format!("{url}: {fault}; nothing is above notify"),
                set,
            ),
            None if policy.at.0 == 0 => Finding::warn(
                name,
                format!("{url}: none, so that agents may only read"),
                set,
            ),
            None => Finding::ok(name, format!("{url}: {}", levels(policy, server))),
        }]
    })
}

fn levels(policy: &Policy, server: &Server) -> String {
    let now = |scope| {
        let (signed, now) = (policy.level(scope), server.levels.level(scope));
        match now < signed {
            true => format!("{now} (lowered by the agent from {signed})"),
            false => now.to_string(),
        }
    };
    format!(
        "channels {}, whispers {}",
        now(Scope::Default),
        now(Scope::Whisper)
    )
}

fn approvers(scene: &Scene) -> Vec<Finding> {
    each(scene, |server, url| {
        let policy = server.levels.policy();
        let (people, agents) = (policy.approvers.len(), policy.agents.len());
        let text = match (people, agents) {
            (0, 0) => format!("{url}: nobody else approves tool calls of sessions here"),
            _ => format!("{url}: {people} people and {agents} sessions may approve tool calls"),
        };
        vec![Finding::ok("approvers", text)]
    })
}

fn quiet(scene: &Scene) -> Vec<Finding> {
    each(scene, |server, url| {
        let hours = server.levels.policy().quiet.map(|Quiet { from, until }| {
            let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
            Finding::ok(
                "quiet hours",
                format!(
                    "{url}: nothing wakes an agent {}-{}",
                    time(from),
                    time(until)
                ),
            )
        });
        hours.into_iter().collect()
    })
}

fn replica(scene: &Scene) -> Vec<Finding> {
    let name = "replica";
    let todo = "move replica.sqlite away while no session runs: it is fetched again, unsent messages are lost";
    each(scene, |server, url| {
        vec![match &server.kept {
            Err(error) => Finding::fail(name, format!("{url}: {error}"), todo),
            Ok(kept) => match kept.faults.first() {
                Some(fault) => Finding::fail(name, format!("{url}: {fault}"), todo),
                None => Finding::ok(name, format!("{url}: in order")),
            },
        }]
    })
}

fn outbox(scene: &Scene) -> Vec<Finding> {
    each(scene, |server, url| {
        let orphans = server.orphans(&scene.sessions);
        let orphan = |(handle, count): &(&str, u64)| {
            Finding::warn(
                "outbox",
                format!("{url}: {count} unsent of {handle}, which does not run"),
                format!("`conclave launch --name {handle}` sends them, within a day"),
            )
        };
        match orphans.is_empty() {
            true => vec![Finding::ok(
                "outbox",
                format!("{url}: nothing waits without a session"),
            )],
            false => orphans.iter().map(orphan).collect(),
        }
    })
}

fn paused(scene: &Scene) -> Vec<Finding> {
    let mut findings = Vec::new();
    if scene.paused {
        findings.push(Finding::warn(
            "paused",
            "nothing is sent by agents here, and nothing wakes them",
            "`conclave resume` ends that",
        ));
    }
    // What a guard stopped lately, newest last, is told once with what can be done.
    for server in &scene.servers {
        let day = 86_400_000;
        let lately = server.journal.iter().rev().find(|entry| {
            let trip = matches!(
                entry.kind.as_str(),
                "loop" | "flood" | "worm" | "secret" | "flow" | "path"
            );
            trip && scene.now.since(entry.at) < day
        });
        if let Some(entry) = lately {
            let text = format!(
                "{} {}: {}",
                text::moment(entry.at),
                entry.session,
                entry.text
            );
            let todo = entry.hint.clone();
            let todo = todo.unwrap_or_else(|| "`conclave journal` has the rest".to_owned());
            findings.push(Finding::warn("guard", text, todo));
        }
    }
    findings
}

fn registration(scene: &Scene) -> Vec<Finding> {
    let mut findings = Vec::new();
    for client in &scene.clients {
        let (name, known) = (client.name, &client.known);
        findings.push(
            match (&known.plugin, &known.server, client.missing_program()) {
                (_, _, Some(program)) => Finding::fail(
                    "registration",
                    format!("{name} starts {}, which is gone", program.display()),
                    "`conclave install` writes the entry anew",
                ),
                (Some(plugin), ..) => {
                    Finding::ok("registration", format!("{name} has the plugin {plugin}"))
                }
                (None, Some(command), None) => Finding::ok(
                    "registration",
                    format!("{name} starts `{}`", text::one_line(&command.join(" "))),
                ),
                (None, None, None) => Finding::warn(
                    "registration",
                    format!("{name} does not know conclave in this directory"),
                    "`conclave install` registers it; `conclave launch` does without",
                ),
            },
        );
        if let Some(command) = &known.foreign {
            findings.push(Finding::warn(
                "registration",
                format!(
                    "this project's .mcp.json starts `{}` under our name",
                    text::one_line(&command.join(" "))
                ),
                "that is not this program: refuse it when the agent asks, or take it out",
            ));
        }
        if known.plugin.is_some() || known.server.is_some() {
            findings.push(match known.hooks {
                true => Finding::ok("hooks", format!("{name} runs them")),
                false => Finding::warn(
                    "hooks",
                    format!("{name} has none of ours: status is not seen, nothing comes at the start of a turn"),
                    "`conclave install` adds them",
                ),
            });
        }
    }
    findings
}

fn sessions(scene: &Scene) -> Vec<Finding> {
    let name = "session";
    if scene.sessions.is_empty() {
        return vec![Finding::ok(name, "none runs here")];
    }
    let mut findings = Vec::new();
    for session in &scene.sessions {
        let called = session.name();
        if let Err(why) = &session.facts {
            findings.push(Finding::fail(
                name,
                format!("{called}: {why}"),
                format!(
                    "end it, process {}, and start the agent again",
                    session.note.pid
                ),
            ));
            continue;
        }
        let status = session.word("/status").unwrap_or("unknown");
        findings.push(Finding::ok(name, format!("{called}: status {status}")));
        findings.push(woken(session, &called));
        let why = session.word("/wake/channel/why");
        if let Some(state) = session.word("/wake/channel/state") {
            let why = why.map_or_else(String::new, |why| format!(" ({why})"));
            findings.push(Finding::ok("channel", format!("{called}: {state}{why}")));
        }
        findings.push(match session.fact("/hooks/at").as_u64() {
            Some(at) => {
                let event = session.word("/hooks/last").unwrap_or("a hook");
                Finding::ok(
                    "hooks",
                    format!("{called}: {event} at {}", text::moment(UnixMs(at))),
                )
            }
            None => Finding::new("hooks", State::Ok, format!("{called}: none has fired yet")),
        });
    }
    findings
}

/// How an agent was woken last, or how it might be.
fn woken(session: &Live, called: &str) -> Finding {
    let at = session.fact("/wake/at").as_u64();
    if let (Some(path), Some(at)) = (session.word("/wake/path"), at) {
        let when = text::moment(UnixMs(at));
        return Finding::ok("wake", format!("{called}: woken last by {path} at {when}"));
    }
    let ways = session.fact("/wake/paths").as_array();
    let ways = ways
        .into_iter()
        .flatten()
        .filter(|way| way["state"] != "none");
    let ways: Vec<_> = ways.filter_map(|way| way["path"].as_str()).collect();
    let ways = match ways.is_empty() {
        true => "no way to do so is known".to_owned(),
        false => format!("it may go by {}", ways.join(", ")),
    };
    Finding::warn(
        "wake",
        format!("{called}: nothing has woken it yet; {ways}"),
        "`conclave doctor wake` tries",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_is_told_and_one_that_is_far_off_fails() {
        for (ahead_ms, state, words) in [
            (0, State::Ok, "within 1 s"),
            (-29_999, State::Ok, "within 30 s"),
            (30_000, State::Warn, "30 s behind"),
            (-299_999, State::Warn, "299 s ahead of"),
            (300_000, State::Fail, "300 s behind"),
            (i64::MIN, State::Fail, "ahead of"),
        ] {
            let found = clock_of("there", ahead_ms);
            assert_eq!(found.state, state, "{ahead_ms}");
            assert!(found.what.contains(words), "{found:?}");
            assert_eq!(found.todo.is_some(), state > State::Ok, "{found:?}");
        }
    }
}
