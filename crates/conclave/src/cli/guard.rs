//! `conclave guard`: a commit of files that other sessions have claimed is refused.
//!
//! Asks this machine's replicas only, so it works without a connection and costs no time. What this
//! machine's own sessions claimed is in nobody's way; inside an agent session only what that one did.

use super::Context;
use super::held::{Held, standing};
use crate::error::{CliError, Exit};
use conclave_client::claim::Resource;
use conclave_client::repo::Repo;
use conclave_proto::reject::Code;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arguments of `guard`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write a pre-commit hook that runs this, unless there is one
    #[arg(long)]
    install: bool,
}

/// Looks at what is about to be committed.
pub(crate) fn run(cx: &Context, args: &Args) -> Result<(), CliError> {
    let dir = std::env::current_dir()
        .map_err(|e| CliError::local(format!("this directory cannot be read: {e}")))?;
    let repo = Repo::find(&dir).ok_or_else(|| {
        CliError::usage("this directory is in no git repository").hint("run it inside one")
    })?;
    if args.install {
        return install(cx, &repo);
    }
    let session = std::env::var("CLAUDE_CODE_SESSION_ID").ok();
    let held: Vec<Held> = standing(cx, session.as_deref())
        .into_iter()
        .filter(|held| !held.own)
        .collect();
    let mut blocked = Vec::new();
    for file in staged(&repo.root)? {
        let Ok(resource) = Resource::file(&repo.remote, &file) else {
            continue;
        };
        let by = held.iter().find(|held| held.covers(&resource));
        blocked.extend(by.map(|held| (file.clone(), held)));
    }
    let Some((file, first)) = blocked.first() else {
        cx.out.result("", &json!({"blocked": []}));
        return Ok(());
    };
    let others = match blocked.len() {
        1 => String::new(),
        n => format!("; {} more files are claimed", n - 1),
    };
    let text = format!("{file}: {}{others}", first.sentence());
    let error = CliError::coded(&Code::Claimed, text).hint(
        "ask the holder, commit other files, or skip the check with `git commit --no-verify`",
    );
    Err(CliError {
        exit: Exit::Failure,
        ..error
    })
}

/// Returns the files of the next commit, deleted ones and old names included.
fn staged(root: &Path) -> Result<Vec<String>, CliError> {
    let args = ["diff", "--cached", "--name-only", "--no-renames", "-z"];
    let output = Command::new("git").args(args).current_dir(root).output();
    let output = output.map_err(|e| CliError::local(format!("git does not start: {e}")))?;
    if !output.status.success() {
        return Err(CliError::local(
            "git does not say what is about to be committed",
        ));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    let names = names.split('\0').filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn install(cx: &Context, repo: &Repo) -> Result<(), CliError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = hooks(repo).join("pre-commit");
    let own = std::env::current_exe()
        .map_err(|e| CliError::local(format!("this program's own path is not known: {e}")))?;
    let quoted = own.display().to_string().replace('\'', "'\\''");
    let script = format!("#!/bin/sh\nexec '{quoted}' guard\n");
    let local = |e: std::io::Error| CliError::local(format!("{}: {e}", path.display()));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(local)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o755).open(&path);
    let mut file = file.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let text = format!("there is a hook already: {}", path.display());
            let taken = CliError::coded(&Code::NameTaken, text);
            taken.hint(format!("add this line to it: '{quoted}' guard || exit 1"))
        }
        _ => local(e),
    })?;
    file.write_all(script.as_bytes()).map_err(local)?;
    let place = path.display().to_string();
    let text = format!("installed {place}");
    cx.out.result(text, &json!({"installed": place}));
    Ok(())
}

/// Returns where git looks for hooks, which can be configured.
fn hooks(repo: &Repo) -> PathBuf {
    let args = ["rev-parse", "--git-path", "hooks"];
    let output = Command::new("git")
        .args(args)
        .current_dir(&repo.root)
        .output();
    let said = output.ok().filter(|output| output.status.success());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    match said.filter(|path| !path.is_empty()) {
        Some(path) => repo.root.join(path),
        None => repo.hooks.clone(),
    }
}
