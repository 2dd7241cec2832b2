//! Whether a hook is of this bridge's host. Pure.
//!
//! What an agent starts inherits the agent's environment: another agent below it must not be taken for it
//! (lesson 33). The host's name of its session decides; it changes only where the host says so.

use crate::control::find::Note;
use crate::control::{Event, Hook};

/// Whose a hook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of this bridge's host.
    Own,
    /// Of this bridge's host, which calls its session by this name from now on.
    Renamed(String),
    /// Of another one.
    Other,
}

/// How a session starts that had another name before.
const RENAMES: [&str; 4] = ["clear", "resume", "compact", "fork"];

/// Decides whose a hook is. `above` are the processes above the bridge.
pub(super) fn whose(note: &Note, above: &[u32], hook: &Hook) -> Whose {
    let Some(session) = &hook.session else {
        return Whose::Other;
    };
    if note.session.as_ref() == Some(session) {
        return Whose::Own;
    }
    let may_rename = match (hook.event, hook.source.as_deref()) {
        (Event::SessionStart, Some(source)) if RENAMES.contains(&source) => true,
        (_, _) if note.session.is_none() => true,
        // A host of several sessions, or one that told its name only now: the one that a human talks to.
        (Event::SessionStart | Event::Prompt, _) => note.nameless,
        (_, _) => false,
    };
    match may_rename && is_host(note, above, hook) {
        true => Whose::Renamed(session.clone()),
        false => Whose::Other,
    }
}

/// Returns whether the process that a hook names is the one that started the bridge, if need be by a wrapper.
fn is_host(note: &Note, above: &[u32], hook: &Hook) -> bool {
    let Some(pid) = hook.host_pid else {
        return false;
    };
    let same_inbox = note.inbox.is_some() && note.inbox == hook.inbox;
    pid == note.host_pid || (same_inbox && above.contains(&pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(session: Option<&str>) -> Note {
        Note {
            pid: 30,
            host_pid: 20,
            session: session.map(str::to_owned),
            inbox: Some("/socks/20".into()),
            nameless: session.is_none(),
            ..Note::default()
        }
    }

    fn hook(event: Event, session: &str, source: &str, pid: u32) -> Hook {
        Hook {
            event,
            session: Some(session.into()),
            source: Some(source.into()),
            prompt: None,
            tool: None,
            transcript: None,
            continued: false,
            deaf: false,
            host_pid: Some(pid),
            inbox: Some("/socks/20".into()),
        }
    }

    #[test]
    fn a_session_is_own_by_its_name_and_renamed_by_its_own_host_alone() {
        let own = note(Some("a"));
        let ask = |hook: &Hook| whose(&own, &[20, 10], hook);
        let renamed = || Whose::Renamed("b".into());
        for event in [Event::Prompt, Event::ToolEnd, Event::Stop] {
            assert_eq!(ask(&hook(event, "a", "", 20)), Whose::Own);
            assert_eq!(ask(&hook(event, "b", "", 20)), Whose::Other);
            assert_eq!(ask(&hook(event, "b", "clear", 20)), Whose::Other);
        }
        for source in RENAMES {
            assert_eq!(ask(&hook(Event::SessionStart, "b", source, 20)), renamed());
            // An agent below: it inherits the inbox, and has a process of its own.
            assert_eq!(
                ask(&hook(Event::SessionStart, "b", source, 77)),
                Whose::Other
            );
        }
        assert_eq!(
            ask(&hook(Event::SessionStart, "b", "startup", 20)),
            Whose::Other
        );
        let mut unnamed = hook(Event::SessionStart, "b", "clear", 20);
        unnamed.session = None;
        assert_eq!(ask(&unnamed), Whose::Other);
    }

    #[test]
    fn a_host_behind_a_wrapper_is_known_by_its_inbox_and_its_place_above() {
        let mut wrapped = note(Some("a"));
        wrapped.host_pid = 25;
        let clear = hook(Event::SessionStart, "b", "clear", 20);
        assert_eq!(
            whose(&wrapped, &[25, 20], &clear),
            Whose::Renamed("b".into())
        );
        assert_eq!(whose(&wrapped, &[25], &clear), Whose::Other);
        let mut elsewhere = clear;
        elsewhere.inbox = Some("/socks/40".into());
        assert_eq!(whose(&wrapped, &[25, 20], &elsewhere), Whose::Other);
    }

    #[test]
    fn a_host_that_gave_no_name_is_named_by_its_hooks() {
        let first = note(None);
        let tool = hook(Event::ToolEnd, "c", "", 20);
        assert_eq!(whose(&first, &[20], &tool), Whose::Renamed("c".into()));
        assert_eq!(
            whose(&first, &[20], &hook(Event::ToolEnd, "c", "", 21)),
            Whose::Other
        );
        let mut named = first;
        named.session = Some("c".into());
        assert_eq!(
            whose(&named, &[20], &hook(Event::ToolEnd, "d", "", 20)),
            Whose::Other
        );
        let prompt = hook(Event::Prompt, "d", "", 20);
        assert_eq!(whose(&named, &[20], &prompt), Whose::Renamed("d".into()));
    }
}
