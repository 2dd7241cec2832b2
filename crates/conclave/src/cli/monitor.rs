//! `conclave monitor`: prints a line whenever there is something to fetch; what the plugin's monitor runs.
//!
//! It belongs to the session whose host started it, and ends with it. It decides nothing: the session says
//! what is to be printed, each thing once.

use super::Context;
use crate::error::CliError;
use conclave_bridge::control::find::{Mark, ask};
use conclave_bridge::control::{Answer, Ask};
use std::path::Path;
use std::time::Duration;

/// How long between two looks for the session.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is looked for: the host starts both at once, and may start the bridge again.
const RETRIES: u32 = 120;
/// How long a session may have nothing to say before it is asked again.
const QUIET: Duration = Duration::from_secs(24 * 3600);

/// Why it hears no more.
enum End {
    /// There is no such session now; whether there was one.
    Gone { heard: bool },
    /// It is not wanted any more.
    Over,
}

/// Prints until the session ends.
pub(crate) async fn run(cx: &Context) -> Result<(), CliError> {
    let home = cx.config_dir()?;
    let mut tries = 0;
    while tries < RETRIES {
        let (home, out) = (home.clone(), cx.out);
        let hearing = tokio::task::spawn_blocking(move || {
            let print = |line: &str| out.line(line);
            hear(&home, &mark(), print)
        });
        match hearing.await {
            Ok(End::Gone { heard: true }) => tries = 0,
            Ok(End::Gone { heard: false }) => tries += 1,
            Ok(End::Over) | Err(_) => return Ok(()),
        }
        tokio::time::sleep(RETRY).await;
    }
    Ok(())
}

/// Prints what the session says, as long as it does.
fn hear(home: &Path, mark: &Mark, print: impl Fn(&str) -> std::io::Result<()>) -> End {
    let mut heard = false;
    let Ok(Some(mut asked)) = ask(home, mark, &Ask::Monitor, QUIET) else {
        return End::Gone { heard };
    };
    loop {
        match asked.next() {
            Ok(Some(Answer::Line { text })) if print(&text).is_err() => return End::Over,
            Ok(Some(Answer::Line { .. })) => heard = true,
            Ok(Some(_)) => return End::Over,
            Ok(None) | Err(_) => return End::Gone { heard },
        }
    }
}

/// What this process knows of the host that started it.
fn mark() -> Mark {
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    Mark {
        session: var("CLAUDE_CODE_SESSION_ID"),
        inbox: var("CLAUDE_CODE_MESSAGING_SOCKET"),
        host_pid: var("CLAUDE_PID").and_then(|pid| pid.parse().ok()),
    }
}
