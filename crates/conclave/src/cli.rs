//! The command tree: what can be typed, and which module carries it out.
//!
//! A command's module maps its arguments to a library call and the answer to [`Output`]. It calls
//! no other command and decides nothing about the protocol.

mod acl;
mod address;
mod admin;
mod approve;
mod ask;
mod audit;
mod ban;
mod bridge;
mod channel;
mod claim;
mod completions;
mod doctor;
mod forget;
mod freeze;
mod group;
mod guard;
mod held;
mod history;
mod hook;
mod install;
mod invite;
mod item;
mod join;
mod journal;
mod key;
mod kick;
mod launch;
mod leave;
mod list;
mod live;
mod local;
mod machine;
mod man;
mod message;
mod monitor;
mod open;
mod owner;
mod pause;
mod peers;
mod perm;
mod recall;
#[cfg(test)]
mod reference;
mod register;
mod remember;
mod resume;
mod send;
mod senders;
mod serve;
mod server;
mod skill;
mod state;
mod status;
mod statusline;
mod tail;
mod uninstall;
mod up;
mod user;
mod verify;
mod who;

use crate::config;
use crate::error::{CliError, Exit};
use crate::output::{Format, Output};
use crate::telemetry::{self, Shape, Voice};
use clap::{CommandFactory as _, Parser, Subcommand};
use std::cell::Cell;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Let coding agents talk to each other: shared channels and whispers over a server of your own
#[derive(Debug, Parser)]
#[command(
    name = "conclave",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Start with `conclave up --demo`, then `conclave up`. Guide: `conclave skill`."
)]
pub(crate) struct Cli {
    /// Keep keys and configuration in DIR [default: $CONCLAVE_HOME, else ~/.config/conclave]
    #[arg(long, global = true, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Answer with one JSON object on standard output
    #[arg(long, global = true)]
    json: bool,
    /// Log more to standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Everything that can be typed.
#[derive(Debug, Subcommand)]
enum Command {
    /// Start a server here, make your keys and #general, and print how to invite and connect
    Up(up::Args),
    /// Run a server
    Serve(serve::Args),
    /// Start an agent as a session: asks who it is to be, and becomes it
    Launch(Box<launch::Args>),
    /// Run the MCP server of one agent session, on standard input and output
    #[command(visible_alias = "mcp")]
    Bridge(bridge::Args),
    /// Print your digits and this machine's public keys
    Key(key::Args),
    /// Compare numbers with a person, or with the members of a channel
    Verify(verify::Args),
    /// Make an account on a server with open registration
    Register(register::Args),
    /// Enrol, list and remove machines of your account
    #[command(subcommand)]
    Machine(machine::Command),
    /// Join a channel by name, or whatever an invite link leads to
    Join(join::Args),
    /// Give up membership of a channel
    Leave(leave::Args),
    /// Show or set how much incoming messages may drive the agent
    #[command(subcommand)]
    Perm(perm::Command),
    /// Decide tool calls of agents from another terminal or machine
    Approve(approve::Args),
    /// Create, delete, rename and list channels
    #[command(subcommand)]
    Channel(channel::Command),
    /// List, add and remove members of a channel
    #[command(subcommand)]
    Acl(acl::Command),
    /// Make, show, list and revoke invite links
    #[command(subcommand)]
    Invite(invite::Command),
    /// List the sessions that are there
    Who(who::Args),
    /// List who is in your channels, and what each session says of itself
    Peers(peers::Args),
    /// List the groups of a channel; carry one, or not any more
    #[command(subcommand)]
    Group(group::Command),
    /// End a session's subscription to a channel, or remove a user from it
    Kick(kick::Args),
    /// Ban a user from a channel
    Ban(ban::BanArgs),
    /// Lift a ban
    Unban(ban::UnbanArgs),
    /// List the bans of a channel
    Bans(ban::ListArgs),
    /// List and remove users of a server (server admins)
    #[command(subcommand)]
    User(user::Command),
    /// List, add and remove server admins
    #[command(subcommand)]
    Admin(admin::Command),
    /// List, forget and trust servers
    #[command(subcommand)]
    Server(server::Command),
    /// List the channels this machine has joined
    List(list::Args),
    /// Show this machine's accounts, servers and queues
    Status,
    /// Look at every layer, from the files here to the agents, and say what is wrong
    Doctor(doctor::Args),
    /// Stop everybody from saying anything in a channel (its admins)
    Freeze(freeze::Args),
    /// Let the members of a frozen channel go on (its admins)
    Thaw(freeze::Args),
    /// Stop every agent of this machine: nothing is sent, nothing wakes
    Pause(pause::Args),
    /// Let agents go on, and allow more than the budgets (at a terminal, or with your owner key)
    Resume(resume::Args),
    /// Show what was stopped, asked and decided here, and what to do
    Journal(journal::Args),
    /// Send a message to channels, groups or sessions
    Send(send::Args),
    /// List who may write to this machine's agents; accept, mute or block somebody
    Senders(senders::Args),
    /// Ask a session or group, and print the answers that come in time
    Ask(ask::Args),
    /// Show what became of a message that this machine sent
    Message(message::Args),
    /// Print the messages of a channel
    Tail(tail::Args),
    /// Search what was said, or print the newest of a channel
    History(history::Args),
    /// Read and write shared facts of a channel
    #[command(subcommand)]
    State(state::Command),
    /// Reserve things and files, and see who has
    #[command(subcommand)]
    Claim(claim::Command),
    /// Keep something for every member of a channel to find later
    Remember(remember::Args),
    /// Search what members of a channel kept
    Recall(recall::Args),
    /// Take back what was kept
    Forget(forget::Args),
    /// Answer an agent host's hooks: tell the session's bridge, and the model what came for it
    Hook(hook::Args),
    /// Print a line whenever there is something to fetch; for a plugin's monitor
    Monitor,
    /// Print one line about this session, for the agent host's status line
    Statusline,
    /// Refuse a commit of files that others have claimed; for a pre-commit hook
    Guard(guard::Args),
    /// Register with an agent host: Claude Code, Codex, Gemini CLI, Cursor, OpenCode
    Install(install::Args),
    /// Take a registration out again, to the byte
    Uninstall(uninstall::Args),
    /// Print or install the guide for agents
    Skill(skill::Args),
    /// Check the server's audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Print a completion script
    Completions(completions::Args),
    /// Print the manual page, or write all pages to a directory
    Man(man::Args),
}

/// What every command is handed.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Where the result goes.
    pub(crate) out: Output,
    /// `--config-dir` as given; resolved only by commands that need it.
    config_flag: Option<PathBuf>,
    /// How the process ends although the command did what it was to do.
    verdict: Cell<Option<Exit>>,
}

impl Context {
    /// Has the process end so, once the command is over: what it found is bad, and it has been told.
    pub(crate) fn ends_with(&self, exit: Exit) {
        self.verdict.set(Some(exit));
    }

    /// Returns the configuration directory.
    pub(crate) fn config_dir(&self) -> Result<PathBuf, CliError> {
        config::config_dir(self.config_flag.clone())
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let out = Output::new(if cli.json { Format::Json } else { Format::Text });
    start_logs(&cli);
    let context = Context {
        out,
        config_flag: cli.config_dir,
        verdict: Cell::new(None),
    };
    if let Some(Command::Hook(args)) = &cli.command {
        return hook::run(&context, *args);
    }
    match dispatch(&context, cli.command) {
        Ok(()) => context
            .verdict
            .get()
            .map_or(ExitCode::SUCCESS, |exit| ExitCode::from(exit as u8)),
        Err(error) => {
            out.error(&error);
            ExitCode::from(error.exit as u8)
        }
    }
}

/// Prints help and version as asked, and mistakes as errors.
fn refuse(error: &clap::Error) -> ExitCode {
    let is_hook = std::env::args_os().nth(1).is_some_and(|arg| arg == "hook");
    if is_hook && error.use_stderr() && !std::io::stdin().is_terminal() {
        // A host takes a failed hook for a refusal: one that is newer than this program must not stop it.
        return ExitCode::SUCCESS;
    }
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if wants_json && error.use_stderr() {
        let text = error.render().to_string();
        let first = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let usage = CliError::usage(first).hint("see `conclave --help`");
        Output::new(Format::Json).error(&usage);
        return ExitCode::from(Exit::Usage as u8);
    }
    // A closed pipe is all that can go wrong here.
    let _closed = error.print();
    if error.use_stderr() {
        ExitCode::from(Exit::Usage as u8)
    } else {
        ExitCode::SUCCESS
    }
}

fn start_logs(cli: &Cli) {
    let (voice, shape) = match &cli.command {
        Some(Command::Serve(args)) if args.log_json => (Voice::Server, Shape::Json),
        Some(Command::Serve(_)) => (Voice::Server, Shape::Text),
        _ => (Voice::Command, Shape::Text),
    };
    telemetry::start(voice, cli.verbose, shape);
}

/// Runs one command, with a runtime where it needs one.
fn dispatch(cx: &Context, command: Option<Command>) -> Result<(), CliError> {
    let Some(command) = command else {
        block_on(status::run(cx))?;
        if !cx.out.is_json() {
            cx.out
                .talk(format_args!("\n{}", Cli::command().render_help()));
        }
        return Ok(());
    };
    match command {
        Command::Up(args) => block_on_many(up::run(cx, args)),
        Command::Serve(args) => block_on_many(serve::run(cx, args)),
        Command::Launch(args) => launch::run(cx, *args),
        Command::Bridge(args) => block_on_stdio(bridge::run(cx, args)),
        Command::Key(args) => key::run(cx, &args),
        Command::Verify(args) => block_on(verify::run(cx, args)),
        Command::Register(args) => block_on(register::run(cx, args)),
        Command::Machine(command) => block_on(machine::run(cx, command)),
        Command::Join(args) => block_on(join::run(cx, args)),
        Command::Leave(args) => block_on(leave::run(cx, args)),
        Command::Perm(command) => block_on(perm::run(cx, command)),
        Command::Approve(args) => block_on(approve::run(cx, args)),
        Command::Channel(command) => block_on(channel::run(cx, command)),
        Command::Acl(command) => block_on(acl::run(cx, command)),
        Command::Invite(command) => block_on(invite::run(cx, command)),
        Command::Who(args) => block_on(who::run(cx, args)),
        Command::Peers(args) => block_on(peers::run(cx, args)),
        Command::Group(command) => block_on(group::run(cx, command)),
        Command::Kick(args) => block_on(kick::run(cx, args)),
        Command::Ban(args) => block_on(ban::ban(cx, args)),
        Command::Unban(args) => block_on(ban::unban(cx, args)),
        Command::Bans(args) => block_on(ban::list(cx, args)),
        Command::User(command) => block_on(user::run(cx, command)),
        Command::Admin(command) => block_on(admin::run(cx, command)),
        Command::Server(command) => block_on(server::run(cx, command)),
        Command::List(args) => block_on(list::run(cx, args)),
        Command::Status => block_on(status::run(cx)),
        Command::Doctor(args) => doctor::run(cx, &args),
        Command::Freeze(args) => block_on(freeze::run(cx, args, true)),
        Command::Thaw(args) => block_on(freeze::run(cx, args, false)),
        Command::Pause(args) => pause::run(cx, &args),
        Command::Resume(args) => block_on(resume::run(cx, args)),
        Command::Journal(args) => journal::run(cx, &args),
        Command::Send(args) => pause::refuse(cx).and_then(|()| block_on(send::run(cx, args))),
        Command::Ask(args) => pause::refuse(cx).and_then(|()| block_on(ask::run(cx, args))),
        Command::Senders(args) => block_on(senders::run(cx, args)),
        Command::Message(args) => block_on(message::run(cx, args)),
        Command::Tail(args) => block_on(tail::run(cx, args)),
        Command::History(args) => block_on(history::run(cx, args)),
        Command::State(command) => {
            pause::refuse_if(cx, command.says()).and_then(|()| block_on(state::run(cx, command)))
        }
        Command::Claim(command) => {
            pause::refuse_if(cx, command.says()).and_then(|()| block_on(claim::run(cx, command)))
        }
        Command::Remember(args) => {
            pause::refuse(cx).and_then(|()| block_on(remember::run(cx, args)))
        }
        Command::Recall(args) => block_on(recall::run(cx, args)),
        Command::Forget(args) => block_on(forget::run(cx, args)),
        // Its host hears more than whether it failed: see `main`.
        Command::Hook(_) => Ok(()),
        Command::Statusline => {
            statusline::run(cx);
            Ok(())
        }
        Command::Monitor => block_on(monitor::run(cx)),
        Command::Guard(args) => guard::run(cx, &args),
        Command::Install(args) => install::run(cx, args),
        Command::Uninstall(args) => uninstall::run(cx, &args),
        Command::Skill(args) => skill::run(cx, &args),
        Command::Audit(command) => block_on(audit::run(cx, command)),
        Command::Completions(args) => completions::run(cx, &args),
        Command::Man(args) => man::run(cx, &args),
    }
}

/// One thread is enough for a command that talks to one server.
fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(no_runtime)?.block_on(work)
}

/// As [`block_on`], for who reads standard input: a blocked read must not hold the end up.
fn block_on_stdio(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(no_runtime)?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// A server uses every core.
fn block_on_many(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(no_runtime)?.block_on(work)
}

fn no_runtime(error: std::io::Error) -> CliError {
    CliError::local(format!("the runtime does not start: {error}"))
}
