//! What the agent is doing, as its host's hooks tell. Pure.
//!
//! What this session knows of itself changes at once; peers are told of changes only, and not more often than
//! they care: each telling is a sealed profile in every channel.

use crate::control::Event;
use conclave_proto::profile::Status;
use conclave_proto::time::Mono;

/// How long after peers were told they are told again at the earliest, in milliseconds.
const TELL_MS: u64 = 5_000;

/// A notification that says no more than that the host has nothing to do.
const IDLE: &str = "idle_prompt";

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Activity {
    doing: Option<Status>,
    told: Option<Status>,
    told_at: Option<Mono>,
}

impl Activity {
    /// Takes what a hook says; returns whether something changed.
    pub(super) fn take(&mut self, event: Event, source: Option<&str>) -> bool {
        let before = self.doing;
        self.doing = match event {
            // In the middle of a turn, too.
            Event::SessionStart if source == Some("compact") => before,
            Event::SessionStart | Event::Stop => Some(Status::Idle),
            Event::Waiting if source == Some(IDLE) => Some(Status::Idle),
            Event::Waiting => Some(Status::Waiting),
            Event::Prompt | Event::ToolStart | Event::ToolEnd => Some(Status::Working),
            Event::SessionEnd => None,
        };
        self.doing != before
    }

    /// Returns what it does, given what the agent or its human chose: who wants no disturbance has none.
    pub(super) fn status(&self, chosen: Option<Status>) -> Option<Status> {
        match chosen {
            Some(Status::Dnd) => chosen,
            Some(Status::Idle | Status::Working | Status::Waiting) | None => self.doing.or(chosen),
        }
    }

    /// Notes what peers hear now: the agent may have said something else.
    pub(super) const fn heard(&mut self, said: Option<Status>) {
        if !matches!(said, Some(Status::Dnd)) {
            self.told = said;
        }
    }

    /// Returns, once, what peers are to be told now.
    pub(super) fn poll(&mut self, now: Mono) -> Option<Option<Status>> {
        if self.next_timeout().is_none_or(|at| at > now) {
            return None;
        }
        self.told = self.doing;
        self.told_at = Some(now);
        Some(self.doing)
    }

    /// Returns when there is something to tell.
    pub(super) fn next_timeout(&self) -> Option<Mono> {
        let at = self.told_at.map_or(Mono(0), |at| at.plus(TELL_MS));
        (self.doing != self.told).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_leads_to_one_status() {
        use Event::{Prompt, SessionEnd, SessionStart, Stop, ToolEnd, ToolStart, Waiting};
        let story = [
            (SessionStart, "startup", Some(Status::Idle)),
            (Prompt, "", Some(Status::Working)),
            (ToolStart, "", Some(Status::Working)),
            (Waiting, "permission_prompt", Some(Status::Waiting)),
            (ToolEnd, "", Some(Status::Working)),
            (SessionStart, "compact", Some(Status::Working)),
            (Stop, "", Some(Status::Idle)),
            (Prompt, "", Some(Status::Working)),
            (Waiting, "idle_prompt", Some(Status::Idle)),
            (SessionEnd, "", None),
        ];
        let mut activity = Activity::default();
        for (event, source, status) in story {
            activity.take(event, Some(source));
            assert_eq!(activity.status(None), status, "{event:?} {source}");
            assert_eq!(activity.status(Some(Status::Dnd)), Some(Status::Dnd));
        }
        assert_eq!(activity.status(Some(Status::Idle)), Some(Status::Idle));
    }

    #[test]
    fn peers_are_told_of_changes_and_of_the_last_of_many() {
        let mut activity = Activity::default();
        assert_eq!(activity.next_timeout(), None);
        activity.take(Event::Prompt, None);
        assert_eq!(activity.poll(Mono(1_000)), Some(Some(Status::Working)));
        assert_eq!(activity.poll(Mono(60_000)), None, "nothing changed");
        for event in [Event::Stop, Event::Prompt, Event::Stop] {
            activity.take(event, None);
        }
        assert_eq!(activity.poll(Mono(5_999)), None);
        assert_eq!(activity.next_timeout(), Some(Mono(6_000)));
        assert_eq!(activity.poll(Mono(6_000)), Some(Some(Status::Idle)));
        activity.take(Event::Prompt, None);
        activity.take(Event::Stop, None);
        assert_eq!(activity.next_timeout(), None, "it is as it was told");
        activity.heard(Some(Status::Working));
        assert_eq!(
            activity.poll(Mono(12_000)),
            Some(Some(Status::Idle)),
            "the agent had said something else"
        );
        activity.heard(Some(Status::Dnd));
        assert_eq!(activity.poll(Mono(18_000)), None, "it wants no disturbance");
        activity.take(Event::SessionEnd, None);
        assert_eq!(activity.poll(Mono(20_000)), Some(None));
    }
}
