//! `conclave skill`: the guide for agents, printed or installed where Claude Code looks for skills.

use super::Context;
use crate::error::CliError;
use serde_json::json;
use std::path::{Path, PathBuf};

/// The guide; it travels inside the binary, so that it always fits the commands.
const GUIDE: &str = include_str!("../skill/SKILL.md");

/// Arguments of `skill`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What else can be done with it.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write the guide to .claude/skills/conclave/SKILL.md below a directory
    Install {
        /// The directory [default: your home directory]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Prints or installs the guide.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    let Some(Command::Install { dir }) = &args.command else {
        cx.out.result(GUIDE, &json!({"guide": GUIDE}));
        return Ok(());
    };
    let base = dir
        .clone()
        .or_else(crate::config::user_home)
        .ok_or_else(|| {
            CliError::local("no home directory is set").hint("say where with --dir DIR")
        })?;
    let path = base.join(".claude/skills/conclave/SKILL.md");
    install(&path).map_err(|e| CliError::local(format!("{}: {e}", path.display())))?;
    let place = path.display().to_string();
    cx.out.result(
        format_args!("installed {place}"),
        &json!({"installed": place}),
    );
    Ok(())
}

/// Writes the guide; what stood there and differs is kept beside it.
fn install(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if std::fs::read_to_string(path).is_ok_and(|old| old != GUIDE) {
        std::fs::rename(path, path.with_extension("md.bak"))?;
    }
    std::fs::write(path, GUIDE)
}
