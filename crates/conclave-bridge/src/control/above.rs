//! Which processes a process was started by, where the system tells (Linux): a host that names its session to
//! nobody is found above its hooks.

use super::find::Note;
use std::fs;
use std::path::PathBuf;

/// The most processes that are looked at.
const ABOVE_MAX: usize = 24;

/// A process above this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Above {
    /// Its id.
    pub pid: u32,
    /// What program it is.
    pub program: String,
}

/// Returns the processes above this one, the nearest first; without a process table the nearest alone.
#[must_use]
pub fn above() -> Vec<Above> {
    let mut found = Vec::new();
    let mut next = Some(std::os::unix::process::parent_id());
    while let Some(pid) = next.filter(|pid| *pid > 1 && found.len() < ABOVE_MAX) {
        let (program, parent) = look(pid).map_or_else(Default::default, |(p, up)| (p, Some(up)));
        found.push(Above { pid, program });
        next = parent;
    }
    found
}

/// Reads a process's program and parent.
fn look(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses, and may have some of its own.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, program) = before.split_once('(')?;
    let parent = after.split_whitespace().nth(1)?.parse().ok()?;
    Some((program.to_owned(), parent))
}

/// Returns the nearest process of these that started a bridge. An agent that another agent started is not that
/// one: below a host there is no process of the same program.
#[must_use]
pub fn host_among(above: &[Above], notes: &[(PathBuf, Note)]) -> Option<u32> {
    let started = |up: &Above| notes.iter().any(|(_, note)| note.host_pid == up.pid);
    let at = above.iter().position(started)?;
    let (below, host) = (above.get(..at)?, above.get(at)?);
    let nested = !host.program.is_empty() && below.iter().any(|up| up.program == host.program);
    (!nested).then_some(host.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(pid: u32, program: &str) -> Above {
        Above {
            pid,
            program: program.into(),
        }
    }

    fn started_by(host_pid: u32) -> (PathBuf, Note) {
        let note = Note {
            host_pid,
            ..Note::default()
        };
        (PathBuf::new(), note)
    }

    #[test]
    fn the_nearest_process_that_started_a_bridge_is_the_host() {
        let above = [up(9, "sh"), up(8, "codex"), up(7, "bash"), up(6, "codex")];
        let among = |hosts: &[u32]| {
            let notes: Vec<_> = hosts.iter().map(|pid| started_by(*pid)).collect();
            host_among(&above, &notes)
        };
        assert_eq!(among(&[8]), Some(8));
        assert_eq!(among(&[6, 8]), Some(8));
        assert_eq!(among(&[]), None);
        // The nearer agent has no bridge; it is not the farther one.
        assert_eq!(among(&[6]), None);
        assert_eq!(among(&[7]), Some(7));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_some_above_it() {
        let above = above();
        assert_eq!(above[0].pid, std::os::unix::process::parent_id());
        assert!(!above[0].program.is_empty());
    }
}
