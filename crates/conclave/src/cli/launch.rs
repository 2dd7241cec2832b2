//! `conclave launch`: becomes an agent that is somebody here, with the right arguments and a clean environment.
//!
//! What is missing is asked at a terminal, a line each, and every question can be skipped. Then this process is
//! replaced: the terminal, signals and the exit code are the agent's, and nobody else reads what is typed.

mod look;

use super::Context;
use super::join;
use super::open;
use super::owner::OwnerArgs;
use crate::config;
use crate::error::{CliError, Own};
use crate::launch::agent::{self, Kind};
use crate::launch::claude::{self, Channel, Known, Places};
use crate::launch::remembered::Remembered;
use crate::launch::{Ours, Plan, codex, environment};
use crate::output;
use crate::prompt;
use crate::text;
use conclave_bridge::launched::{self, Launch};
use conclave_client::home::{Home, Profile};
use conclave_client::instance::Claim;
use conclave_proto::name::Name;
use conclave_proto::profile::Label;
use conclave_proto::reject::Code;
use look::Seen;
use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How often an answer that makes no sense is asked for again.
const TRIES: usize = 3;

/// Arguments of `launch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Be addressed by this handle, or fail if it is taken [default: the directory's name]
    #[arg(long, visible_alias = "as", value_name = "HANDLE")]
    name: Option<String>,
    /// Say that the session is this: dev, reviewer
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Carry these groups in the home channel, with commas: eng/backend:lead,reviewers
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    groups: Vec<String>,
    /// Follow this channel only, the first is home; repeatable [default: every joined channel]
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
    /// Join by this invite link first
    #[arg(long, value_name = "LINK")]
    join: Option<String>,
    /// Start this: claude, codex, gemini, opencode, or a program
    #[arg(long, value_name = "AGENT", default_value = "claude")]
    agent: String,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
    /// Say nothing before the agent starts
    #[arg(long)]
    quiet: bool,
    /// Do not ask Claude Code to show messages as they come
    #[arg(long)]
    no_channel: bool,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Arguments for the agent
    #[arg(last = true, value_name = "AGENT ARGS")]
    rest: Vec<OsString>,
}

/// Becomes the agent; returns only if that fails.
pub(crate) fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let program = agent::find(&args.agent)?;
    let kind = Kind::of(&program);
    if let Some(link) = &args.join {
        super::block_on(join::follow(cx, link, args.owner.clone()))?;
    }
    let (home, accounts) = accounts(cx)?;
    let here = here()?;
    let mut launch = given(&args)?;
    let mut remembered = Remembered::load(&home);
    let resumes = kind.resumes(&args.rest) && launch.name.is_none();
    let last = remembered.of(&here).filter(|_| resumes);
    let asks = !args.yes && output::interactive();
    let seen = match asks || !args.quiet || !launch.channels.is_empty() {
        true => super::block_on(look::all(&home, &accounts))?,
        false => Vec::new(),
    };
    match last {
        Some(last) => complete(&mut launch, last),
        None if asks => ask_missing(cx, &seen, &mut launch)?,
        None => {}
    }
    look::check(&seen, &launch.channels)?;
    let swept = launched::sweep(&home_dir(&home));
    if !swept.is_empty() {
        tracing::info!(
            files = swept.len(),
            "left-overs of crashed sessions are gone"
        );
    }
    check_name(&home, &accounts, &launch)?;
    let ours = Ours {
        program: env::current_exe().map_err(|e| CliError::local(e.to_string()))?,
        home: home_dir(&home),
    };
    let plan = plan(kind, &args, &ours, &here);
    if !args.quiet {
        let handle = launch.name.clone().unwrap_or_else(open::handle_here);
        look::announce(cx, &seen, &launch, &handle, kind, &plan.notes);
    }
    if asks && !consents(cx)? {
        return Err(CliError::usage("nothing was started").hint("say yes, or give --yes"));
    }
    launch.pid = std::process::id();
    launch.started = launched::started(launch.pid);
    launch.at = text::now();
    remembered.add(here, launch.clone());
    remembered.keep(&home)?;
    become_agent(&home, &launch, &program, &plan, &ours)
}

fn home_dir(home: &Home) -> PathBuf {
    home.root().to_owned()
}

fn here() -> Result<PathBuf, CliError> {
    let dir = env::current_dir().and_then(|dir| dir.canonicalize());
    dir.map_err(|e| CliError::local(format!("this directory cannot be used: {e}")))
}

/// Returns the accounts of this machine; without one there is nobody to be.
fn accounts(cx: &Context) -> Result<(Home, Vec<Profile>), CliError> {
    let none = || {
        CliError::own(Own::NoServer, "this machine has no account on any server")
            .hint("run `conclave up` for a server here, or give --join LINK with an invite link")
    };
    let home = open::existing_home(cx)?.ok_or_else(none)?;
    let mut servers = home.servers()?;
    servers.retain(|server| server.user.is_some());
    match servers.is_empty() {
        true => Err(none()),
        false => Ok((home, servers)),
    }
}

/// Reads what was given on the command line.
fn given(args: &Args) -> Result<Launch, CliError> {
    let name = args.name.as_deref().map(Name::claim).transpose()?;
    let role = args.role.as_deref().map(Name::new).transpose()?;
    let groups = args
        .groups
        .iter()
        .map(|text| group(text))
        .collect::<Result<_, _>>()?;
    let channels = args
        .channel
        .iter()
        .map(|text| channel(text))
        .collect::<Result<_, _>>()?;
    Ok(Launch {
        name,
        role,
        groups,
        channels,
        ..Launch::default()
    })
}

fn group(text: &str) -> Result<Label, CliError> {
    text.trim()
        .parse::<Label>()
        .map_err(|e| CliError::usage(e.to_string()))
}

fn channel(text: &str) -> Result<Name, CliError> {
    Ok(Name::new(text.trim().trim_start_matches('#'))?)
}

/// Fills in what a conversation that is taken up was, where nothing else is said now.
fn complete(launch: &mut Launch, last: &Launch) {
    launch.name = launch.name.take().or_else(|| last.name.clone());
    launch.role = launch.role.take().or_else(|| last.role.clone());
    if launch.groups.is_empty() {
        launch.groups.clone_from(&last.groups);
    }
    if launch.channels.is_empty() {
        launch.channels.clone_from(&last.channels);
    }
}

/// Asks a person for what was not given.
fn ask_missing(cx: &Context, seen: &[Seen], launch: &mut Launch) -> Result<(), CliError> {
    if launch.name.is_none() {
        let question = format!("Name of this session [{}]:", open::handle_here());
        launch.name = ask(cx, &question, |text| Ok(Name::claim(text)?))?;
    }
    if launch.role.is_none() {
        let question = "Role, for example dev or reviewer [none]:";
        launch.role = ask(cx, question, |text| Ok(Name::new(text)?))?;
    }
    if launch.groups.is_empty() {
        let groups = |text: &str| text.split(',').map(group).collect();
        let asked = ask(cx, "Groups, with commas [none]:", groups)?;
        launch.groups = asked.unwrap_or_default();
    }
    let joined = look::channels(seen);
    if launch.channels.is_empty() && joined.len() > 1 {
        let names: Vec<_> = joined.iter().map(|name| format!("#{name}")).collect();
        let question = format!("Channels, the first is home [all: {}]:", names.join(", "));
        let channels = |text: &str| {
            let channels = text
                .split(',')
                .map(channel)
                .collect::<Result<Vec<_>, _>>()?;
            look::check(seen, &channels).map(|()| channels)
        };
        launch.channels = ask(cx, &question, channels)?.unwrap_or_default();
    }
    Ok(())
}

/// Asks until the answer makes sense; Enter alone skips the question.
fn ask<T>(
    cx: &Context,
    question: &str,
    read: impl Fn(&str) -> Result<T, CliError>,
) -> Result<Option<T>, CliError> {
    for _ in 1..TRIES {
        let answer = prompt::line(cx.out, question)?;
        if answer.is_empty() {
            return Ok(None);
        }
        match read(&answer) {
            Ok(value) => return Ok(Some(value)),
            Err(error) => cx.out.talk(format_args!("  {error}")),
        }
    }
    let answer = prompt::line(cx.out, question)?;
    match answer.is_empty() {
        true => Ok(None),
        false => read(&answer).map(Some),
    }
}

fn consents(cx: &Context) -> Result<bool, CliError> {
    let answer = prompt::line(cx.out, "Start? [Y/n]")?.to_lowercase();
    Ok(matches!(answer.as_str(), "" | "y" | "yes"))
}

/// Fails if another session of this machine has the name that was chosen.
fn check_name(home: &Home, accounts: &[Profile], launch: &Launch) -> Result<(), CliError> {
    let Some(name) = &launch.name else {
        return Ok(());
    };
    let starting = launched::living(home.root())
        .iter()
        .any(|other| other.name.as_ref() == Some(name));
    let held = |account: &Profile| {
        let dir = home
            .server_dir(&account.id)
            .join(conclave_bridge::open::SESSIONS);
        Claim::take(&dir, name, true).is_ok_and(|claim| !claim.sole)
    };
    if starting || accounts.iter().any(held) {
        let text = format!("a session of this machine is called {name} already");
        return Err(CliError::coded(&Code::HandleTaken, text).hint(
            "end that session, or give another --name; without one the next number is taken",
        ));
    }
    Ok(())
}

/// Decides what the agent is started with.
fn plan(kind: Kind, args: &Args, ours: &Ours, here: &Path) -> Plan {
    let dir = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let user_home = config::user_home();
    match kind {
        Kind::Claude => {
            let places = Places::find(dir("CLAUDE_CONFIG_DIR"), user_home, here.to_owned());
            let channel = match args.no_channel {
                true => Channel::LeftOut,
                false => Channel::Asked,
            };
            claude::plan(&args.rest, &Known::read(&places), ours, channel)
        }
        Kind::Codex => {
            let codex_home = dir("CODEX_HOME");
            let codex_home = codex_home.or_else(|| Some(user_home?.join(".codex")));
            let known = codex_home.is_some_and(|dir| codex::knows_us(&dir));
            codex::plan(&args.rest, known, ours)
        }
        Kind::Gemini | Kind::Opencode | Kind::Other => Plan {
            arguments: args.rest.clone(),
            notes: kind.note().into_iter().map(str::to_owned).collect(),
        },
    }
}

/// Replaces this process.
fn become_agent(
    home: &Home,
    launch: &Launch,
    program: &Path,
    plan: &Plan,
    ours: &Ours,
) -> Result<(), CliError> {
    launched::note(home.root(), launch)
        .map_err(|e| CliError::local(format!("{}: {e}", launched::dir(home.root()).display())))?;
    let own = [(config::ENV_HOME.into(), ours.home.clone().into_os_string())];
    let error = Command::new(program)
        .args(&plan.arguments)
        .env_clear()
        .envs(environment::cleaned(env::vars_os(), &own))
        .exec();
    launched::forget(home.root(), launch.pid);
    Err(CliError::local(format!(
        "{} does not start: {error}",
        program.display()
    )))
}
