//! What the host's hooks tell of the agent: what it is doing, what its human typed, which session it is.

use super::Session;
use super::activity::Activity;
use super::brief::Form;
use super::injected::Injected;
use super::own::{Whose, whose};
use crate::control::above::above;
use crate::control::{Event, Hook};
use crate::labels::Change;
use crate::state::HomeId;
use conclave_proto::profile::Status;
use conclave_proto::time::{Mono, UnixMs};

/// What is known of the agent.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) activity: Activity,
    injected: Injected,
    /// The last hook that was this session's.
    pub(super) hook: Option<(Event, UnixMs)>,
    /// It is yet to be told where it is: when it started, there was no bridge, or no server.
    pub(super) brief_due: Option<Form>,
    /// How many others were in the home channel, and when that was asked.
    pub(super) crowd: Option<usize>,
    pub(super) crowd_at: Option<Mono>,
    /// The host named its session since the start.
    named: bool,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            activity: Activity::default(),
            injected: Injected::default(),
            hook: None,
            brief_due: Some(Form::Short),
            crowd: None,
            crowd_at: None,
            named: false,
        }
    }
}

impl Session {
    /// Returns whether a hook is of this session, and follows the host to the name it gives it.
    pub(super) fn is_own(&mut self, hook: &Hook) -> bool {
        let Some(seat) = &mut self.seat else {
            return false;
        };
        if hook.session.is_some() && seat.note().session == hook.session {
            return true;
        }
        let above: Vec<u32> = match seat.note().inbox {
            Some(_) => above().iter().map(|up| up.pid).collect(),
            None => Vec::new(),
        };
        match whose(seat.note(), &above, hook) {
            Whose::Own => true,
            Whose::Other => {
                tracing::debug!(event = ?hook.event, "a hook of another session");
                false
            }
            Whose::Renamed(session) => {
                if let Err(error) = seat.rename(session) {
                    tracing::warn!(%error, "the session's new name was not noted: its hooks are silent");
                }
                self.agent.named = true;
                self.tell_name();
                true
            }
        }
    }

    /// Notes on each server what the host calls its session, if it said so since the start.
    pub(super) fn tell_name(&self) {
        let name = self
            .seat
            .as_ref()
            .and_then(|seat| seat.note().session.as_ref());
        if let Some(name) = name.filter(|_| self.agent.named) {
            self.homes.iter().for_each(|fabric| fabric.host_is(name));
        }
    }

    /// Returns whether the host calls its session so.
    pub(super) fn is_called(&self, session: Option<&String>) -> bool {
        let name = self
            .seat
            .as_ref()
            .and_then(|seat| seat.note().session.as_ref());
        name.is_some() && name == session
    }

    /// Remembers what was put before the agent otherwise than by a tool's result: it is nothing a human typed.
    pub(crate) fn injected(&mut self, text: &str) {
        self.agent.injected.note(text);
    }

    /// Returns whether a human typed a prompt.
    pub(super) fn is_human(&self, prompt: &str) -> bool {
        self.agent.injected.is_human(prompt)
    }

    /// Notes what the agent is doing: here at once, for peers when it is due.
    pub(super) fn does(&mut self, event: Event, source: Option<&str>) {
        if self.agent.activity.take(event, source) {
            (0..self.homes.len()).for_each(|home| self.refresh(HomeId(home)));
        }
        if let Some(view) = self.view(HomeId(0)) {
            self.agent.activity.heard(view.labels.status);
        }
        self.tell_doing();
    }

    /// Tells peers what the agent is doing, if that is due.
    pub(super) fn tell_doing(&mut self) {
        let now = self.now();
        // Before there is a server nobody can be told.
        if self.homes.is_empty() {
            return;
        }
        let Some(doing) = self.agent.activity.poll(now.mono) else {
            return;
        };
        for fabric in &self.homes {
            if fabric.view().labels.status == Some(Status::Dnd) {
                continue;
            }
            if let Err(error) = fabric.change_labels(Change::Doing(doing)) {
                tracing::warn!(%error, "peers were not told what this session is doing");
            }
        }
    }

    /// Returns when something of this is due.
    pub(super) fn agent_timeout(&self) -> Option<Mono> {
        let due = self.agent.activity.next_timeout();
        due.filter(|_| !self.homes.is_empty())
    }
}
