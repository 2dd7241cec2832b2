//! `conclave doctor`: looks at every layer and says what is wrong and what to do. It changes nothing unless told
//! to, and then only what cannot do harm.

mod checks;
mod clients;
mod files;
mod scene;
mod wake;

use super::Context;
use crate::error::{CliError, Exit};
use conclave_bridge::launched;
use scene::Scene;
use serde_json::{Value, json};
use std::fmt;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Repair what is safe: modes, and what crashed sessions left behind
    #[arg(long)]
    fix: bool,
    #[command(subcommand)]
    what: Option<What>,
}

/// What can be looked at alone.
#[derive(Debug, clap::Subcommand)]
enum What {
    /// Wake every session that runs here, and see whether it woke
    Wake,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// It works, but somebody should know.
    Warn,
    /// It does not work.
    Fail,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Which check.
    check: &'static str,
    state: State,
    /// What there is: of which server or session, and how it is.
    what: String,
    /// What to do about it.
    todo: Option<String>,
}

impl Finding {
    fn new(check: &'static str, state: State, what: impl fmt::Display) -> Self {
        Self {
            check,
            state,
            what: what.to_string(),
            todo: None,
        }
    }

    fn ok(check: &'static str, what: impl fmt::Display) -> Self {
        Self::new(check, State::Ok, what)
    }

    fn warn(check: &'static str, what: impl fmt::Display, todo: impl Into<String>) -> Self {
        Self::new(check, State::Warn, what).todo(todo)
    }

    fn fail(check: &'static str, what: impl fmt::Display, todo: impl Into<String>) -> Self {
        Self::new(check, State::Fail, what).todo(todo)
    }

    fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo = Some(todo.into());
        self
    }

    fn object(&self) -> Value {
        let mut object =
            json!({"check": self.check, "state": self.state.as_str(), "what": self.what});
        if let (Some(todo), Some(map)) = (&self.todo, object.as_object_mut()) {
            map.insert("todo".to_owned(), json!(todo));
        }
        object
    }
}

/// Looks.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    if let Some(What::Wake) = args.what {
        return wake::run(cx);
    }
    let dir = cx.config_dir()?;
    let fixed = match args.fix {
        true => fix(&dir),
        false => Vec::new(),
    };
    let scene = super::block_on(Scene::look(dir))?;
    let findings: Vec<_> = checks::ALL.iter().flat_map(|check| check(&scene)).collect();
    let worst = findings.iter().map(|found| found.state).max();
    let objects: Vec<_> = findings.iter().map(Finding::object).collect();
    let state = worst.unwrap_or(State::Ok);
    let object = json!({"state": state.as_str(), "version": env!("CARGO_PKG_VERSION"), "fixed": fixed, "findings": objects});
    cx.out.result(page(&findings, &fixed), &object);
    if state == State::Fail {
        cx.ends_with(Exit::Failure);
    }
    Ok(())
}

/// Repairs what may be repaired; says what it did.
fn fix(dir: &std::path::Path) -> Vec<String> {
    let mut fixed = files::close(dir);
    let swept = launched::sweep(dir).into_iter();
    fixed.extend(swept.map(|path| format!("removed {}", path.display())));
    fixed
}

fn page(findings: &[Finding], fixed: &[String]) -> String {
    let mut lines: Vec<_> = fixed.iter().map(|did| format!("fixed {did}")).collect();
    for found in findings {
        let (state, check) = (found.state.as_str(), found.check);
        lines.push(format!("{state:<5} {check:<12} {}", found.what));
        if let Some(todo) = &found.todo {
            lines.push(format!("{:<18} → {todo}", ""));
        }
    }
    let of = |state| findings.iter().filter(|found| found.state == state).count();
    lines.push(match (of(State::Fail), of(State::Warn)) {
        (0, 0) => "\nAll is well.".to_owned(),
        (fails, warns) => format!("\n{fails} of {} checks fail, {warns} warn.", findings.len()),
    });
    lines.join("\n")
}
