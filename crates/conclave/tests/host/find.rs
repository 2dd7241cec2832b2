//! Where the host is: named by the environment, on PATH, or of a fixed version from npm if that is wished for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The version that is installed.
const VERSION: &str = "2.1.330";

/// How long npm may take.
const INSTALL: Duration = Duration::from_secs(150);

/// The executable, or why there is none. Looked for once, whatever tests run beside each other.
static FOUND: LazyLock<Result<PathBuf, String>> = LazyLock::new(look);

/// Returns the executable; says that the test is skipped if there is none.
pub(crate) fn claude() -> Option<&'static Path> {
    match &*FOUND {
        Ok(path) => Some(path),
        Err(why) => {
            eprintln!("skipped: claude ({why})");
            None
        }
    }
}

fn look() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("CONCLAVE_TEST_CLAUDE") {
        let named = PathBuf::from(named);
        return match version(&named) {
            Some(_) => Ok(named),
            None => Err(format!(
                "CONCLAVE_TEST_CLAUDE: {} does not run",
                named.display()
            )),
        };
    }
    // Another version, or npm, is nobody's wish by running the tests of the workspace.
    if std::env::var("CONCLAVE_HOSTS").as_deref() != Ok("install") {
        return Err("CONCLAVE_HOSTS=install runs it, from npm if need be".to_owned());
    }
    let is_known = |path: &PathBuf| version(path).is_some_and(|text| text.contains(VERSION));
    if let Some(path) = on_path("claude").filter(is_known) {
        return Ok(path);
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    let dir = target.unwrap_or_else(|| Path::new(".")).join("hosts");
    let own = dir
        .join(format!("claude-{VERSION}"))
        .join("node_modules/.bin/claude");
    if version(&own).is_some() {
        return Ok(own);
    }
    let npm = on_path("npm").ok_or("neither it nor npm is on PATH")?;
    install(&npm, &dir)?;
    version(&own)
        .map(|_| own)
        .ok_or_else(|| "what npm installed does not run".to_owned())
}

/// Installs the fixed version; a half installed one is never seen, for it gets its name at the end.
fn install(npm: &Path, dir: &Path) -> Result<(), String> {
    let half = dir.join(format!("claude-{VERSION}.{}", std::process::id()));
    std::fs::create_dir_all(&half).map_err(|e| e.to_string())?;
    let mut npm = Command::new(npm);
    npm.args(["install", "--no-fund", "--no-audit", "--prefix"])
        .arg(&half)
        .arg(format!("@anthropic-ai/claude-code@{VERSION}"));
    let done = bounded(npm, INSTALL).and_then(|()| {
        let package = half.join("node_modules/@anthropic-ai/claude-code");
        // Where npm was told not to run scripts, the executable is not in its place yet.
        if version(&half.join("node_modules/.bin/claude")).is_none() {
            let mut node = Command::new("node");
            node.arg("install.cjs").current_dir(package);
            bounded(node, INSTALL)?;
        }
        std::fs::rename(&half, dir.join(format!("claude-{VERSION}"))).map_err(|e| e.to_string())
    });
    if done.is_err() {
        // What is left of it is a directory below target/.
        let _left = std::fs::remove_dir_all(&half);
    }
    done.map_err(|why| format!("npm: {why}"))
}

/// Runs something that may hang.
fn bounded(mut command: Command, within: Duration) -> Result<(), String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it failed: {status}")),
            Ok(None) if start.elapsed() < within => {
                std::thread::park_timeout(Duration::from_millis(50));
            }
            other => {
                let _gone = child.kill();
                let _reaped = child.wait();
                return Err(format!("not within {} s: {other:?}", within.as_secs()));
            }
        }
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// What it says its version is; in a home of its own, for it writes there.
fn version(claude: &Path) -> Option<String> {
    let home = tempfile::tempdir().ok()?;
    let output = Command::new(claude)
        .arg("--version")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && text.contains("Claude Code")).then_some(text)
}
