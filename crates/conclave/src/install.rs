//! Registers this program with agent hosts, and takes it out again.
//!
//! Touches only what it owns, keeps the bytes that were there before, and leaves nothing behind. What a host
//! is given is for [`clients`]; every file is planned before the first is written.

mod clients;
mod edit;
mod file;
pub(crate) mod hooks;
mod json;
mod ledger;
mod section;

use crate::error::CliError;
use clients::{Part, Syntax};
pub(crate) use edit::Edit;
use edit::{Broken, Edited};
use file::{Target, digest};
use ledger::{Ledger, Record, Share};
use std::fmt;
use std::path::{Path, PathBuf};

/// An agent host that this program can be registered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Client {
    /// Claude Code
    Claude,
    /// Codex CLI
    Codex,
    /// Gemini CLI
    Gemini,
    /// Cursor
    Cursor,
    /// `OpenCode`
    Opencode,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Cursor => "cursor",
            Self::Opencode => "opencode",
        })
    }
}

/// For whom a client is told of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scope {
    /// Sessions in this project
    Local,
    /// Every session of yours on this machine
    User,
}

/// Where things are on this machine.
#[derive(Debug)]
pub(crate) struct Ground {
    /// This program.
    pub(crate) exe: PathBuf,
    /// Our configuration directory.
    pub(crate) config_dir: PathBuf,
    /// Whether the directory is not the default one, so that commands must be told.
    pub(crate) config_named: bool,
    /// The user's home.
    pub(crate) user_home: PathBuf,
    /// Where programs keep their configuration.
    pub(crate) xdg_config: PathBuf,
    /// Where Claude Code keeps its own, if it was told.
    pub(crate) claude_dir: Option<PathBuf>,
    /// Where Codex keeps its own, if it was told.
    pub(crate) codex_home: Option<PathBuf>,
    /// What Gemini CLI takes for the user's home, if it was told.
    pub(crate) gemini_home: Option<PathBuf>,
    /// The working directory.
    pub(crate) cwd: PathBuf,
    /// The work tree around it, else itself.
    pub(crate) tree: PathBuf,
    /// The repository's main work tree, else itself: what Claude Code files a project under.
    pub(crate) project: PathBuf,
}

/// What the user wants of an install.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The handle.
    pub(crate) name: Option<String>,
    /// The role.
    pub(crate) role: Option<String>,
    /// The groups.
    pub(crate) groups: Vec<String>,
    /// The channels.
    pub(crate) channels: Vec<String>,
    /// Whether to register hooks.
    pub(crate) hooks: bool,
    /// Whether our own tools may run without a question each time.
    pub(crate) allow: bool,
    /// Whether to set the status line where there is none.
    pub(crate) statusline: bool,
    /// Whether another's entry of our name is replaced.
    pub(crate) force: bool,
}

/// Whether to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Do it.
    Write,
    /// Say what would be done.
    Dry,
}

/// What became of a file.
#[derive(Debug)]
pub(crate) struct Change {
    /// The file.
    pub(crate) path: PathBuf,
    /// One word: created, updated, unchanged, restored, cleaned, removed, absent.
    pub(crate) word: &'static str,
    /// What was put in.
    pub(crate) added: Vec<Edit>,
    /// What was taken out.
    pub(crate) taken: Vec<Edit>,
    /// What was left alone, and why.
    pub(crate) notes: Vec<String>,
}

/// A file that was planned and not yet written.
#[derive(Debug)]
struct Step {
    target: Target,
    text: Option<String>,
    record: Option<Record>,
    change: Change,
}

/// Registers with a client.
pub(crate) fn install(
    ground: &Ground,
    client: Client,
    scope: Scope,
    wish: &Wish,
    mode: Mode,
) -> Result<Vec<Change>, CliError> {
    let holder = holder(ground, client, scope);
    let parts = clients::parts(ground, client, scope, wish);
    if scope == Scope::Local {
        parts
            .iter()
            .try_for_each(|part| stays_inside(ground, part))?;
    }
    carry_out(ground, mode, |ledger| {
        let plan = |part| plan_install(ledger, &holder, part, wish.force);
        let mut steps: Vec<Step> = parts.iter().map(plan).collect::<Result<_, _>>()?;
        // What an earlier install put elsewhere is not wanted any more.
        for record in ledger.records()? {
            let again = steps.iter().any(|step| step.target.path == record.path);
            if !again && record.shares.iter().any(|share| share.holder == holder) {
                steps.push(plan_uninstall(record, &holder)?);
            }
        }
        Ok(steps)
    })
}

/// Refuses a project whose file is a link out of it: whoever made the project would choose what is changed.
fn stays_inside(ground: &Ground, part: &Part) -> Result<(), CliError> {
    let bases = [&ground.tree, &ground.cwd].into_iter();
    let mut bases = bases.filter(|base| **base != ground.user_home);
    let Some(base) = bases.find(|base| part.path.starts_with(base)) else {
        return Ok(());
    };
    let real = Target::read(&part.path)?.path;
    let inside = base.canonicalize().is_ok_and(|base| real.starts_with(base));
    if inside {
        return Ok(());
    }
    let (named, real) = (part.path.display(), real.display());
    Err(
        CliError::local(format!("{named} leads out of this project, to {real}"))
            .hint("nothing was written; remove the link, or choose --scope user"),
    )
}

/// Takes a registration out again.
pub(crate) fn uninstall(
    ground: &Ground,
    client: Client,
    scope: Scope,
    mode: Mode,
) -> Result<Vec<Change>, CliError> {
    let holder = holder(ground, client, scope);
    carry_out(ground, mode, |ledger| {
        let held = |record: &Record| record.shares.iter().any(|share| share.holder == holder);
        let records = ledger.records()?.into_iter().filter(held);
        records
            .map(|record| plan_uninstall(record, &holder))
            .collect()
    })
}

/// Plans under the lock, checks that every file can be written, then writes.
fn carry_out(
    ground: &Ground,
    mode: Mode,
    plan: impl FnOnce(&Ledger) -> Result<Vec<Step>, CliError>,
) -> Result<Vec<Change>, CliError> {
    if mode == Mode::Dry {
        let steps = plan(&Ledger::look(&ground.config_dir))?;
        return Ok(steps.into_iter().map(|step| step.change).collect());
    }
    let mut ledger = Ledger::open(&ground.config_dir)?;
    let done = plan(&ledger).and_then(|steps| {
        for step in &steps {
            step.target.check_writable()?;
        }
        let write = |step| write(&mut ledger, step);
        steps.into_iter().map(write).collect()
    });
    let closed = ledger.close();
    let changes = done?;
    closed?;
    Ok(changes)
}

fn holder(ground: &Ground, client: Client, scope: Scope) -> String {
    match scope {
        // Where the files are decides, not what the host files the project under.
        Scope::Local if client == Client::Gemini => {
            format!("{client} local {}", ground.cwd.display())
        }
        Scope::Local => format!("{client} local {}", ground.tree.display()),
        Scope::User => format!("{client} user"),
    }
}

fn plan_install(ledger: &Ledger, holder: &str, part: &Part, force: bool) -> Result<Step, CliError> {
    let target = Target::read(&part.path)?;
    let broken = |error: Broken| error.of(&target.path);
    let record = ledger.record(&target.path)?;
    let share = record.iter().flat_map(|record| &record.shares);
    let old = share.clone().find(|share| share.holder == holder).cloned();
    let (text, known) = (target.text.clone().unwrap_or_default(), record.is_some());
    let own = old
        .as_ref()
        .map(|share| share.edits.clone())
        .unwrap_or_default();
    let gone: Vec<Edit> = own
        .iter()
        .filter(|old| !part.edits.iter().any(|new| stays(old, new)))
        .cloned()
        .collect();
    let mut made = old.map(|share| share.made).unwrap_or_default();
    let empties: &[Vec<String>] = if gone.is_empty() { &[] } else { &made };
    let (base, _) = take(part.syntax, &text, &gone, empties).map_err(broken)?;
    let edited = put(part.syntax, &base, &part.edits, &own, force).map_err(broken)?;
    let whole = known && target.text.is_some();
    if edited.text == text && whole && same_edits(&edited.done, &own)
        || edited.done.is_empty() && gone.is_empty()
    {
        return Ok(Step::nothing(target, edited.notes));
    }
    let before = before(&target, record.as_ref(), part.syntax).map_err(broken)?;
    let mut shares = record
        .as_ref()
        .map(|r| r.shares.clone())
        .unwrap_or_default();
    shares.retain(|share| share.holder != holder);
    made.extend(edited.made);
    made.sort();
    made.dedup();
    let added = |edit: &&Edit| !own.iter().any(|old| old.same(edit));
    let change = Change {
        path: target.path.clone(),
        word: if target.text.is_none() {
            "created"
        } else {
            "updated"
        },
        added: edited.done.iter().filter(added).cloned().collect(),
        taken: gone,
        notes: edited.notes,
    };
    shares.push(Share {
        holder: holder.to_owned(),
        edits: edited.done,
        made,
    });
    let record = Record {
        path: target.path.clone(),
        created: target.text.is_none() || record.as_ref().is_some_and(|r| r.created),
        dirs: record.map(|record| record.dirs).unwrap_or_default(),
        after: digest(edited.text.as_bytes()),
        shares,
        before,
    };
    Ok(Step {
        target,
        text: Some(edited.text),
        record: Some(record),
        change,
    })
}

/// Returns what the file would say without us.
fn before(
    target: &Target,
    record: Option<&Record>,
    syntax: Syntax,
) -> Result<Option<String>, Broken> {
    let (Some(text), Some(record)) = (&target.text, record) else {
        return Ok(target.text.clone());
    };
    if digest(text.as_bytes()) == record.after {
        return Ok(record.before.clone());
    }
    let mut rest = text.clone();
    for share in &record.shares {
        rest = take(syntax, &rest, &share.edits, &share.made)?.0;
    }
    Ok(Some(rest).filter(|rest| !(record.created && json::is_empty(rest))))
}

fn plan_uninstall(mut record: Record, holder: &str) -> Result<Step, CliError> {
    let target = Target::read(&record.path)?;
    let broken = |error: Broken| error.of(&target.path);
    let at = record
        .shares
        .iter()
        .position(|share| share.holder == holder);
    let Some(share) = at.map(|at| record.shares.remove(at)) else {
        return Ok(Step::nothing(target, Vec::new()));
    };
    let (last, created) = (record.shares.is_empty(), record.created);
    let untouched = |text: &String| digest(text.as_bytes()) == record.after;
    let (text, word, notes) = match &target.text {
        None => (None, "absent", Vec::new()),
        Some(text) if last && untouched(text) => {
            let word = if record.before.is_some() {
                "restored"
            } else {
                "removed"
            };
            (record.before.clone(), word, Vec::new())
        }
        Some(text) => {
            let syntax = Syntax::of(&target.path);
            let taken = take(syntax, text, &share.edits, &share.made).map_err(broken)?;
            if untouched(text) {
                record.after = digest(taken.0.as_bytes());
            }
            match last && created && json::is_empty(&taken.0) {
                true => (None, "removed", taken.1),
                false => (Some(taken.0), "cleaned", taken.1),
            }
        }
    };
    let change = Change {
        path: target.path.clone(),
        word,
        added: Vec::new(),
        taken: share.edits,
        notes,
    };
    Ok(Step {
        target,
        text,
        record: Some(record),
        change,
    })
}

impl Step {
    fn nothing(target: Target, notes: Vec<String>) -> Self {
        let change = Change {
            path: target.path.clone(),
            word: "unchanged",
            added: Vec::new(),
            taken: Vec::new(),
            notes,
        };
        Self {
            target,
            text: None,
            record: None,
            change,
        }
    }
}

/// Writes one file. The record of what will be there comes first: what was not written is not found later,
/// and then nothing is taken out.
fn write(ledger: &mut Ledger, step: Step) -> Result<Change, CliError> {
    let Some(mut record) = step.record else {
        return Ok(step.change);
    };
    let ends = record.shares.is_empty();
    if !ends {
        ledger.keep(&mut record)?;
    }
    match &step.text {
        Some(text) if step.target.text.as_ref() != Some(text) => {
            let made = step.target.replace(text)?;
            if !made.is_empty() {
                record.dirs.extend(made);
                ledger.keep(&mut record)?;
            }
        }
        None if step.target.text.is_some() => step.target.remove()?,
        Some(_) | None => {}
    }
    if ends {
        ledger.drop_record(record)?;
    }
    Ok(step.change)
}

impl Syntax {
    fn of(path: &Path) -> Self {
        match path.extension().is_some_and(|ext| ext == "toml") {
            true => Self::Toml,
            false => Self::Json,
        }
    }
}

/// Returns whether an old edit is the place of a new one.
fn stays(old: &Edit, new: &Edit) -> bool {
    match new.kind {
        edit::Kind::Element => old.same(new),
        edit::Kind::Member | edit::Kind::Default => old.at == new.at,
    }
}

fn same_edits(a: &[Edit], b: &[Edit]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
}

fn put(
    syntax: Syntax,
    text: &str,
    edits: &[Edit],
    own: &[Edit],
    force: bool,
) -> Result<Edited, Broken> {
    match syntax {
        Syntax::Json => json::apply(text, edits, own, force),
        Syntax::Toml => section::apply(text, edits, own, force),
    }
}

fn take(
    syntax: Syntax,
    text: &str,
    edits: &[Edit],
    made: &[Vec<String>],
) -> Result<(String, Vec<String>), Broken> {
    match syntax {
        Syntax::Json => json::remove(text, edits, made),
        Syntax::Toml => section::remove(text, edits),
    }
}
