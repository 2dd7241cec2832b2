//! What the session knows of itself, for the status line, `status` and `doctor`: one method an area.

use super::{Done, Session};
use crate::control::Event;
use serde_json::{Map, Value, json};

/// How long it counts who is there, in milliseconds.
const CROWD_MS: u64 = 10_000;

impl Session {
    /// Returns the facts.
    pub(super) fn facts(&mut self) -> Value {
        self.count_crowd();
        let mut facts = Map::new();
        self.own_facts(&mut facts);
        self.server_facts(&mut facts);
        self.hook_facts(&mut facts);
        facts.insert("wake".to_owned(), self.wake_facts());
        facts.insert("desk".to_owned(), self.desk_facts());
        self.stopped_facts(&mut facts);
        Value::Object(facts)
    }

    /// Who it is, where, and what waits.
    fn own_facts(&self, facts: &mut Map<String, Value>) {
        let mut add = |key: &str, value: Value| facts.insert(key.to_owned(), value);
        if let Some((_, view, channel)) = self.home_place() {
            let status = self.agent.activity.status(view.labels.status);
            add("path", view.path.as_ref().map(ToString::to_string).into());
            add(
                "handle",
                view.path.map(|path| path.handle.to_string()).into(),
            );
            add("channel", channel.name.to_string().into());
            add("status", status.map(|status| status.as_str()).into());
            add("role", view.labels.role.map(|role| role.to_string()).into());
        }
        add("peers", self.agent.crowd.into());
        add("unread", self.state.unread().into());
        add("pid", std::process::id().into());
    }

    /// The servers.
    fn server_facts(&self, facts: &mut Map<String, Value>) {
        let servers = self.homes.iter().map(|fabric| {
            let view = fabric.view();
            json!({
                "name": view.name,
                "online": view.online,
                "path": view.path.map(|path| path.to_string()),
            })
        });
        facts.insert("servers".to_owned(), servers.collect());
    }

    /// Whether the host's hooks come here.
    fn hook_facts(&self, facts: &mut Map<String, Value>) {
        let hooks = match self.agent.hook {
            Some((event, at)) => json!({"last": word(event), "at": at.0}),
            None => Value::Null,
        };
        facts.insert("hooks".to_owned(), hooks);
        let session = self
            .seat
            .as_ref()
            .and_then(|seat| seat.note().session.clone());
        facts.insert("session".to_owned(), session.into());
    }

    /// What the guards stop now.
    fn stopped_facts(&mut self, facts: &mut Map<String, Value>) {
        let guard = self.guard_facts(self.now());
        let parted = guard.get("parted").and_then(Value::as_array);
        let parted = parted.is_some_and(|pairs| !pairs.is_empty());
        let quiet = guard.get("quiet").and_then(Value::as_bool) == Some(true);
        let trips = [("loop", parted), ("quiet hours", quiet)].into_iter();
        let trips: Vec<&str> = trips.filter_map(|(kind, is)| is.then_some(kind)).collect();
        facts.insert("trips".to_owned(), trips.into());
        let paused = guard.get("paused").cloned().unwrap_or_default();
        facts.insert("paused".to_owned(), paused);
        facts.insert("guard".to_owned(), guard);
    }

    /// Has it counted who is there, if that was not done lately; the next facts have it.
    fn count_crowd(&mut self) {
        let now = self.now().mono;
        if self
            .agent
            .crowd_at
            .is_some_and(|at| now.since(at) < CROWD_MS)
        {
            return;
        }
        let Some((home, view, channel)) = self.home_place().filter(|(_, view, _)| view.online)
        else {
            return;
        };
        let Some(fabric) = self.homes.get(home.0) else {
            return;
        };
        self.agent.crowd_at = Some(now);
        let roster = fabric.roster(channel.id);
        self.tasks.spawn(async move {
            let peers = tokio::time::timeout(super::CALL, roster).await;
            Done::Then(Box::new(move |session| {
                if let Ok(Ok(peers)) = peers {
                    let me = view.path.as_ref();
                    let others = peers.iter().filter(|p| p.online && Some(&p.path) != me);
                    session.agent.crowd = Some(others.count());
                }
            }))
        });
    }
}

const fn word(event: Event) -> &'static str {
    match event {
        Event::SessionStart => "session_start",
        Event::Prompt => "prompt",
        Event::ToolStart => "tool_start",
        Event::ToolEnd => "tool_end",
        Event::Stop => "stop",
        Event::Waiting => "waiting",
        Event::SessionEnd => "session_end",
    }
}
