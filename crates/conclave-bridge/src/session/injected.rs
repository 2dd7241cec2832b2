//! Which prompts a human typed. A host that is woken runs its prompt hook as if somebody had typed what woke it:
//! what this program put there is remembered, and what hosts wrap is told by its wrapping. Pure.

use conclave_proto::bytes::Builder;
use std::collections::VecDeque;

/// How many lines are remembered.
const LINES_MAX: usize = 256;

/// How many lines of one text are remembered: its first tell it well enough.
const TEXT_LINES_MAX: usize = 4;

/// How prompts begin, or go on, that hosts make of what is no human's.
const WRAPPED: [&str; 9] = [
    "<task-notification>",
    "<system-reminder>",
    "[SYSTEM NOTIFICATION",
    "Another Claude session sent a message",
    "<cross-session-message",
    "<channel source=",
    "Stop hook feedback",
    "Monitor event:",
    "[conclave ",
];

/// The lines that were put before the agent.
#[derive(Debug, Default)]
pub(super) struct Injected(VecDeque<[u8; 8]>);

impl Injected {
    /// Remembers a text.
    pub(super) fn note(&mut self, text: &str) {
        for line in lines(text).take(TEXT_LINES_MAX) {
            if self.0.len() >= LINES_MAX {
                self.0.pop_front();
            }
            self.0.push_back(mark(line));
        }
    }

    /// Returns whether a human typed this: nothing in it is of this program, or of the host.
    pub(super) fn is_human(&self, prompt: &str) -> bool {
        let foreign = |line: &str| {
            WRAPPED.iter().any(|start| line.starts_with(start)) || self.0.contains(&mark(line))
        };
        let mut any = false;
        for line in lines(prompt) {
            any = true;
            if foreign(line) {
                return false;
            }
        }
        any
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn mark(line: &str) -> [u8; 8] {
    let hash = Builder::labelled("conclave/injected")
        .raw(line.as_bytes())
        .sha256();
    let mut short = [0; 8];
    short.copy_from_slice(&hash.as_bytes()[..8]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_human_if_nothing_in_it_was_put_there() {
        let mut injected = Injected::default();
        let line = "conclave: 2 unread, newest from bob/box/web. Call check_messages. (k7f2q9)";
        injected.note(line);
        for prompt in ["fix the login", "two\n\nlines", "conclave: 2 unread"] {
            assert!(injected.is_human(prompt), "{prompt}");
        }
        let wrapped = format!("something\n  {line}\n");
        let notification = "<task-notification>\n<task-id>b</task-id>";
        for prompt in [line, wrapped.as_str(), notification, "", " \n"] {
            assert!(!injected.is_human(prompt), "{prompt}");
        }
        for start in WRAPPED {
            assert!(!injected.is_human(&format!("{start} x")), "{start}");
        }
    }

    #[test]
    fn what_was_put_there_long_ago_is_forgotten_first() {
        let mut injected = Injected::default();
        for n in 0..=LINES_MAX {
            injected.note(&format!("line {n}"));
        }
        assert!(injected.is_human("line 0"));
        assert!(!injected.is_human("line 1"));
        assert_eq!(injected.0.len(), LINES_MAX);
    }
}
