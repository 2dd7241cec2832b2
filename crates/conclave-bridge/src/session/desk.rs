//! Calls that wait for a verdict: asked for by the host, sent to approvers, decided by the first answer.
//!
//! The rules are in [`crate::desk`]. Whatever goes wrong here, the host asks its own human as always.

use super::{Done, Session};
use crate::control::{Answer, Permit};
use crate::desk::{Call, Decided, Desk, Given, OPEN_MS, Rules, rule};
use crate::fabric::{Part, Reach, Target};
use crate::guard::{Bucket, Budget};
use crate::mcp::Push;
use crate::state::{Age, HomeId, Input, Message};
use conclave_proto::desk::Request;
use conclave_proto::id::RequestId;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::Reject;
use conclave_proto::time::{Mono, Now};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;

/// The most requests of others that wait for this agent.
const OFFERED_MAX: usize = 16;
/// How long who was told something does not decide, in milliseconds.
const PROMPTED_MS: u64 = 60 * 60 * 1000;
/// So many verdicts and requests of others that do not count are noted: anybody can send them.
const STRAYS: Budget = Budget::new(30, 10 * 60 * 1000);
/// How many that were told something are remembered.
const PROMPTED_MAX: usize = 256;

/// What the session keeps of calls that wait.
#[derive(Debug)]
pub(super) struct Desks {
    machine: Desk,
    asks: BTreeMap<u64, Asker>,
    offered: VecDeque<Offered>,
    prompted: VecDeque<(HomeId, SessionPath, Mono)>,
    strays: Bucket,
}

/// Who of the host waits for a verdict, and who may still give it.
#[derive(Debug, Default)]
struct Asker {
    /// The hook.
    hooks: Vec<mpsc::Sender<Answer>>,
    /// The dialogs, by the host's ids.
    dialogs: Vec<String>,
    /// Servers that have not said yet whom they reach.
    waits: usize,
    /// How many are asked.
    reached: usize,
}

/// A request of another session, which this agent may decide.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    pub(crate) home: HomeId,
    pub(crate) request: Request,
    until: Mono,
}

impl Desks {
    pub(super) const fn new(now: Mono) -> Self {
        Self {
            machine: Desk::new(now),
            asks: BTreeMap::new(),
            offered: VecDeque::new(),
            prompted: VecDeque::new(),
            strays: Bucket::full(STRAYS, now),
        }
    }
}

impl Session {
    /// Takes a call from the host's hook.
    pub(super) fn permit(&mut self, permit: Permit, answers: mpsc::Sender<Answer>) {
        let call = Call {
            tool: permit.tool,
            arguments: permit.input.to_string(),
            whole: true,
            description: permit.description.unwrap_or_default(),
        };
        match self.desk.machine.same(&call) {
            Some(key) => {
                let asker = self.desk.asks.entry(key).or_default();
                asker.hooks.push(answers);
            }
            None => {
                let asker = Asker {
                    hooks: vec![answers],
                    ..Asker::default()
                };
                self.ask_desks(call, asker);
            }
        }
    }

    /// Takes a call whose dialog the host has opened.
    pub(super) fn relayed(&mut self, _: Now, id: String, call: Call) {
        if let Some(key) = self.desk.machine.same(&call) {
            let asker = self.desk.asks.entry(key).or_default();
            asker.dialogs.push(id);
        } else if self.desk.machine.covers(&call).is_none() {
            // Where the hook asks for it already, its answer closes the dialog.
            let asker = Asker {
                dialogs: vec![id],
                ..Asker::default()
            };
            self.ask_desks(call, asker);
        }
    }

    /// Asks on every server whose policy names somebody to ask.
    fn ask_desks(&mut self, call: Call, asker: Asker) {
        self.forget_given_up();
        let homes = (0..self.homes.len()).map(HomeId);
        let homes: Vec<HomeId> = homes
            .filter(|home| self.has_approvers(*home, &call))
            .collect();
        if homes.is_empty() {
            return asker.leave();
        }
        let now = self.now();
        let key = match self.desk.machine.open(now.mono, call) {
            Ok(key) => key,
            Err(why) => {
                for home in homes {
                    self.journal(
                        home,
                        "permission",
                        &format!("nobody was asked: {why}"),
                        None,
                    );
                }
                return asker.leave();
            }
        };
        let asker = self.desk.asks.entry(key).or_insert(asker);
        asker.waits = homes.len();
        for home in homes {
            let users = self.view(home).map(|view| view.policy.approvers);
            let Some(fabric) = self.homes.get(home.0) else {
                continue;
            };
            let found = fabric.desks(users.unwrap_or_default());
            self.then(async move {
                let found = found.await;
                move |session: &mut Self| session.found_desks(key, home, found)
            });
        }
        self.then(async move {
            tokio::time::sleep(Duration::from_millis(OPEN_MS)).await;
            move |session: &mut Self| session.nobody_decided(key)
        });
    }

    fn has_approvers(&self, home: HomeId, call: &Call) -> bool {
        let Some(view) = self.view(home) else {
            return false;
        };
        let agents = view.policy.agents.values();
        let mut agents = agents.filter(|tools| rule::agent_may(tools, &call.tool));
        view.online && (!view.policy.approvers.is_empty() || agents.next().is_some())
    }

    /// Sends the request to whom a server reaches.
    fn found_desks(&mut self, key: u64, home: HomeId, found: Result<Reach, Reject>) {
        let mut nonce = [0; RequestId::LEN];
        let drawn = getrandom::fill(&mut nonce).is_ok();
        let (Ok(reach), Some(call), true) = (found, self.desk.machine.call(key), drawn) else {
            return self.was_asked(key, home, 0);
        };
        let expires = reach.now.plus(OPEN_MS);
        let request = call.request(RequestId::new(nonce), &reach.me, expires);
        let mut to = reach.desks;
        if let Some(view) = self.view(home) {
            let agents = view.policy.agents.iter();
            let may = agents.filter(|(_, tools)| rule::agent_may(tools, &request.tool));
            to.extend(may.map(|(path, _)| path.clone()));
        }
        to.retain(|path| *path != reach.me);
        self.desk.machine.asked(key, home, request.clone());
        let Some(fabric) = self.homes.get(home.0) else {
            return;
        };
        let asked = fabric.ask_desks(request, to);
        self.then(async move {
            let reached = asked.await.unwrap_or_default();
            move |session: &mut Self| session.was_asked(key, home, reached)
        });
    }

    /// Notes how many are asked on a server; if nobody is on any, the host asks alone.
    fn was_asked(&mut self, key: u64, home: HomeId, reached: usize) {
        let Some(asker) = self.desk.asks.get_mut(&key) else {
            return;
        };
        asker.waits = asker.waits.saturating_sub(1);
        asker.reached += reached;
        let nobody = asker.waits == 0 && asker.reached == 0;
        if let Some(tool) = self.tool_of(key) {
            let text = match reached {
                0 => format!("{tool}: no approver was reached"),
                n => format!("{tool}: {n} desks and agents were asked"),
            };
            let hint = (reached > 0).then_some("see `conclave approve`");
            self.journal(home, "permission", &text, hint);
        }
        if nobody {
            self.end_ask(key);
        }
    }

    fn nobody_decided(&mut self, key: u64) {
        if let Some(tool) = self.tool_of(key) {
            let text = format!("{tool}: nobody decided in time");
            self.journal_all("permission", &text);
        }
        self.end_ask(key);
    }

    fn end_ask(&mut self, key: u64) {
        self.desk.machine.close(key);
        if let Some(asker) = self.desk.asks.remove(&key) {
            asker.leave();
        }
    }

    /// Ends what the host does not wait for any more: its human was faster.
    fn forget_given_up(&mut self) {
        let gone = |asker: &Asker| {
            asker.dialogs.is_empty() && asker.hooks.iter().all(mpsc::Sender::is_closed)
        };
        let next = |asks: &BTreeMap<u64, Asker>| {
            let mut gone = asks.iter().filter(|(_, asker)| gone(asker));
            gone.next().map(|(key, _)| *key)
        };
        while let Some(key) = next(&self.desk.asks) {
            self.end_ask(key);
        }
    }

    /// Takes a verdict.
    pub(super) fn verdict(&mut self, now: Now, given: &Given) {
        let Some(view) = self.view(given.home) else {
            return;
        };
        let rules = Rules {
            policy: &view.policy,
            prompted: self.was_prompted(now.mono, given),
        };
        let by = &given.from;
        match self.desk.machine.decide(now.mono, &rules, given) {
            Ok(decided) => {
                let word = if decided.allow { "allowed" } else { "denied" };
                let text = format!("{}: {word} by {by}", printable_tool(&decided.tool));
                self.journal(given.home, "permission", &text, None);
                self.tell_verdict(&decided);
            }
            Err(why) => {
                tracing::warn!(%by, %why, "a verdict was refused");
                let text = format!("a verdict of {by} does not count: {why}");
                let hint = "if you did not expect one from there, see who your approvers are: `conclave perm approver list`";
                self.stray(given.home, text, Some(hint));
            }
        }
    }

    /// Tells the host.
    fn tell_verdict(&mut self, decided: &Decided) {
        let Some(asker) = self.desk.asks.remove(&decided.key) else {
            return;
        };
        let message = (!decided.allow).then(|| format!("denied by {}", decided.by));
        for hook in asker.hooks {
            let answer = Answer::Permit {
                allow: Some(decided.allow),
                message: message.clone(),
            };
            if hook.try_send(answer).is_err() {
                tracing::debug!("the host's own human was faster");
            }
        }
        for id in asker.dialogs {
            let push = Push::Permission(id, decided.allow);
            if self.pushes.try_send(push).is_err() {
                tracing::warn!("the host does not take a verdict");
            }
        }
    }

    /// Takes a request of another session: for the agent, if its own user lets it decide such calls.
    pub(super) fn requested(&mut self, now: Now, message: Message, request: Request) {
        let home = message.home;
        let Some(view) = self.view(home) else { return };
        let tools = view.path.as_ref().and_then(|me| view.policy.agents.get(me));
        if !tools.is_some_and(|tools| rule::agent_may(tools, &request.tool)) {
            let text = format!(
                "{} asked this session for a verdict; it may give none",
                request.session
            );
            return self.stray(home, text, None);
        }
        self.desk.offered.retain(|offered| now.mono < offered.until);
        if self.desk.offered.len() >= OFFERED_MAX {
            return;
        }
        self.desk.offered.push_back(Offered {
            home,
            request,
            until: now.mono.plus(OPEN_MS),
        });
        self.state
            .handle(now, Input::Arrived(Box::new(message), Age::Live));
    }

    /// Takes a request that this agent decides now; none if there is no such one.
    pub(crate) fn take_offered(&mut self, now: Now, id: &RequestId) -> Option<Offered> {
        let open = |offered: &Offered| offered.request.nonce == *id && now.mono < offered.until;
        let at = self.desk.offered.iter().position(open)?;
        self.desk.offered.remove(at)
    }

    /// Notes whom this session tells something, alone or by name or group: they do not decide its calls for a
    /// while.
    pub(crate) fn note_prompted(&mut self, home: HomeId, parts: &[Part], text: &str) {
        let now = self.now().mono;
        let told = &mut self.desk.prompted;
        let named = |part: &Part, path: &&SessionPath| {
            !part.to.is_empty() || text.contains(&format!("@{}", path.handle))
        };
        for part in parts {
            let alone = match &part.target {
                Target::Session(path) => Some(path),
                Target::Channel(_) => None,
            };
            let meant = part.recipients.iter().filter(|path| named(part, path));
            for path in meant.chain(alone) {
                told.retain(|(at, known, _)| (*at, known) != (home, path));
                if told.len() >= PROMPTED_MAX {
                    told.pop_front();
                }
                told.push_back((home, path.clone(), now));
            }
        }
    }

    fn was_prompted(&self, now: Mono, given: &Given) -> bool {
        let told = |(home, path, at): &(HomeId, SessionPath, Mono)| {
            *home == given.home && *path == given.from && now.since(*at) < PROMPTED_MS
        };
        self.desk.prompted.iter().any(told)
    }

    /// How many calls wait for a verdict.
    pub(super) fn desk_facts(&self) -> serde_json::Value {
        serde_json::json!({"pending": self.desk.asks.len()})
    }

    fn tool_of(&self, key: u64) -> Option<String> {
        let call = self.desk.machine.call(key)?;
        Some(printable_tool(&call.tool))
    }

    /// Goes on with something when a future is over.
    pub(super) fn then<F>(&mut self, work: impl Future<Output = F> + Send + 'static)
    where
        F: FnOnce(&mut Self) + Send + 'static,
    {
        self.tasks
            .spawn(async move { Done::Then(Box::new(work.await)) });
    }

    fn journal_all(&self, kind: &str, text: &str) {
        for home in (0..self.homes.len()).map(HomeId) {
            self.journal(home, kind, text, None);
        }
    }

    /// Notes what somebody sent that does not count, if that does not write everything else out of the journal.
    fn stray(&mut self, home: HomeId, text: String, hint: Option<&str>) {
        let now = self.now().mono;
        if self.desk.strays.wait_ms(now) > 0 {
            return tracing::warn!(text, "too many of these to note them all");
        }
        self.desk.strays.take(1);
        self.journal(home, "verdict", &text, hint);
    }
}

impl Asker {
    /// Leaves the call to the host's own human.
    fn leave(self) {
        for hook in self.hooks {
            let (allow, message) = (None, None);
            if hook.try_send(Answer::Permit { allow, message }).is_err() {
                tracing::debug!("who asked has gone");
            }
        }
    }
}

/// A tool's name in our own words: the host's, but who knows which server's it is.
fn printable_tool(tool: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    tool.chars()
        .map(|c| if plain(c) { c } else { '?' })
        .collect()
}
