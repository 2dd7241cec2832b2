//! `conclave approve`: decides tool calls of agents from another terminal or machine, with the owner key.
//!
//! It shows what a session asks, as it came and made visible; it signs only what it showed. What a peer wrote
//! is printed for the person, never run and never put into a prompt.

mod decided;
mod hold;
mod show;

use super::Context;
use super::open::{self, AGENT, Target};
use super::owner::{self, OwnerArgs};
use super::serve;
use crate::error::{CliError, Own};
use crate::output;
use crate::prompt;
use crate::text;
use conclave_bridge::desk::rule;
use conclave_bridge::journal;
use conclave_client::client::desk::{Paper, Says};
use conclave_client::home::{Home, Profile};
use conclave_client::owner::Owner;
use conclave_client::{Client, Event, Session};
use conclave_proto::desk::{Request, Verdict};
use conclave_proto::key::OwnerKey;
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long the mailbox may take.
const MAILBOX: Duration = Duration::from_secs(8);
/// How long `--watch` keeps an unlocked owner key that nobody uses.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// Arguments of `approve`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Allow this one, after it was shown [default: list what waits]
    id: Option<String>,
    /// Stay, and ask about each request as it comes
    #[arg(long, conflicts_with = "id")]
    watch: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What can be done with what waits.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List what waits for a verdict
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show one in full
    Show {
        /// Its id
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Allow one, once (needs your owner key)
    Allow(Decision),
    /// Deny one (needs your owner key)
    Deny(Decision),
}

/// Arguments of `allow` and `deny`.
#[derive(Debug, clap::Args)]
struct Decision {
    /// Its id
    id: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let Args {
        id,
        watch: stays,
        target,
        owner,
        command,
    } = args;
    match (command, id) {
        (Some(Command::List { target }), _) => list(cx, &target).await,
        (Some(Command::Show { id, target }), _) => show(cx, &id, &target).await,
        (Some(Command::Allow(args)), _) => decide(cx, args, true).await,
        (Some(Command::Deny(args)), _) => decide(cx, args, false).await,
        (None, Some(id)) => decide(cx, Decision { id, target, owner }, true).await,
        (None, None) if stays => watch(cx, &target, &owner).await,
        (None, None) => list(cx, &target).await,
    }
}

/// A session at this machine's desk.
struct Seat {
    home: Home,
    server: Profile,
    client: Client,
    events: mpsc::Receiver<Event>,
    now: UnixMs,
}

impl Seat {
    async fn take(cx: &Context, target: &Target) -> Result<Self, CliError> {
        let (home, server) = open::server(cx, target)?;
        let (client, mut events) = Client::connect(&home, &server, Session::desk(AGENT)?).await?;
        open::up(&mut events, MAILBOX).await?;
        client.empty_mailbox(MAILBOX).await?;
        let now = client.server_time().await?;
        Ok(Self {
            home,
            server,
            client,
            events,
            now,
        })
    }

    /// Returns what waits, without what this machine decided.
    async fn open(&self) -> Result<Vec<Paper>, CliError> {
        let decided = decided::all(&self.home, &self.server);
        let mut open = self.client.open_requests().await?;
        open.retain(|paper| match &paper.says {
            Says::Request(request) => !decided.iter().any(|one| one.is(request)),
            Says::Verdict(_) => false,
        });
        Ok(open)
    }

    /// Finds the request that is meant.
    async fn find(&self, id: &str) -> Result<Request, CliError> {
        let meant = |request: &Request| show::is_called(request, id);
        let open = self.open().await?;
        let mut found = open.into_iter().filter_map(request).filter(meant);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(CliError::own(Own::Ambiguous, "several requests are meant")
                .hint("give the whole id: `conclave approve list --json`")),
            (None, _) => Err(CliError::coded(
                &Code::NotFound,
                "no such request waits: it was decided, or is over",
            )
            .hint("see `conclave approve list`; a request lives for two minutes at most")),
        }
    }

    /// Gives a verdict, and notes it.
    async fn give(&self, request: &Request, allow: bool, owner: &Owner) -> Result<(), CliError> {
        let verdict = Verdict::sign(request, allow, owner.secret());
        self.client.give_verdict(&request.session, verdict).await?;
        let now = self.client.server_time().await?;
        if let Err(error) = decided::note(&self.home, &self.server, request, now) {
            tracing::warn!(%error, "what was decided is listed until it is over");
        }
        let word = word(allow);
        let entry = journal::Entry {
            at: text::now(),
            session: "desk".to_owned(),
            kind: "verdict".to_owned(),
            text: format!("{word} given to {} by owner key", request.session),
            hint: None,
        };
        if let Err(error) = journal::note(&self.home.server_dir(&self.server.id), &entry) {
            tracing::warn!(%error, "the journal was not written");
        }
        Ok(())
    }

    /// Gets an owner key of this account.
    fn unlock(&self, cx: &Context, args: &OwnerArgs, own: &[OwnerKey]) -> Result<Owner, CliError> {
        let owner = owner::unlock(cx, args, &self.home, &self.server)?;
        match own.contains(&owner.secret().owner_key()) {
            true => Ok(owner),
            false => Err(owner::not_yours()),
        }
    }
}

const fn word(allow: bool) -> &'static str {
    if allow { "allow" } else { "deny" }
}

fn request(paper: Paper) -> Option<Request> {
    match paper.says {
        Says::Request(request) => Some(request),
        Says::Verdict(_) => None,
    }
}

async fn list(cx: &Context, target: &Target) -> Result<(), CliError> {
    let held = hold::all(cx)?;
    let seat = Seat::take(cx, target).await?;
    let open = seat.open().await?;
    seat.client.stop().await;
    let objects: Vec<_> = open
        .iter()
        .filter_map(|p| show::object(p, seat.now))
        .collect();
    let mut lines: Vec<_> = open
        .iter()
        .filter_map(|p| show::block(p, seat.now))
        .collect();
    lines.extend(held.iter().map(hold::Held::block));
    if lines.is_empty() {
        lines.push("(none)".to_owned());
    }
    let holds: Vec<_> = held.iter().map(hold::Held::object).collect();
    let object = json!({"requests": objects, "holds": holds});
    cx.out.result(lines.join("\n"), &object);
    Ok(())
}

async fn show(cx: &Context, id: &str, target: &Target) -> Result<(), CliError> {
    if let Some(held) = hold::find(cx, id)? {
        cx.out.result(held.block(), &held.object());
        return Ok(());
    }
    let seat = Seat::take(cx, target).await?;
    let meant = seat.find(id).await;
    let open = seat.open().await?;
    seat.client.stop().await;
    let meant = meant?;
    let is = |p: &&Paper| matches!(&p.says, Says::Request(request) if *request == meant);
    if let Some(paper) = open.iter().find(is) {
        let text = show::block(paper, seat.now).unwrap_or_default();
        let object = show::object(paper, seat.now).unwrap_or_default();
        cx.out.result(text, &object);
    }
    Ok(())
}

async fn decide(cx: &Context, args: Decision, allow: bool) -> Result<(), CliError> {
    if let Some(held) = hold::find(cx, &args.id)? {
        return hold::decide(cx, &held, &args.target, &args.owner, allow).await;
    }
    let seat = Seat::take(cx, &args.target).await?;
    let decided = decide_at(cx, &seat, &args, allow).await;
    seat.client.stop().await;
    let request = decided?;
    let (tool, session) = (show::visible(&request.tool), &request.session);
    cx.out.result(
        format_args!("{}: {tool} of {session}", word(allow)),
        &json!({"id": show::whole_id(&request), "decision": word(allow), "session": session.to_string()}),
    );
    Ok(())
}

async fn decide_at(
    cx: &Context,
    seat: &Seat,
    args: &Decision,
    allow: bool,
) -> Result<Request, CliError> {
    let request = seat.find(&args.id).await?;
    if !cx.out.is_json() {
        cx.out.talk(show::request(&request, seat.now));
    }
    if allow {
        was_shown(&request)?;
    }
    let own = owner::keys(&seat.client).await?;
    let owner = seat.unlock(cx, &args.owner, &own)?;
    seat.give(&request, allow, &owner).await?;
    Ok(request)
}

/// Fails where somebody would allow what nobody showed.
fn was_shown(request: &Request) -> Result<(), CliError> {
    if !request.truncated || rule::is_low_risk(&request.tool) {
        return Ok(());
    }
    let text =
        "its arguments are longer than what is shown: it can be allowed at its own terminal only";
    Err(CliError::coded(&Code::Forbidden, text).hint("answer locally, or `conclave approve deny`"))
}

/// Asks about each request as it comes; without a terminal it only prints them.
async fn watch(cx: &Context, target: &Target, args: &OwnerArgs) -> Result<(), CliError> {
    let mut seat = Seat::take(cx, target).await?;
    let own = owner::keys(&seat.client).await?;
    let mut unlocked: Option<(Owner, Instant)> = None;
    let waiting = seat.open().await?;
    let mut seen: Vec<_> = waiting.iter().map(|paper| paper.id).collect();
    let mut due: Vec<Paper> = waiting;
    let ended = serve::ended()?;
    tokio::pin!(ended);
    if !cx.out.is_json() {
        cx.out.talk("waiting for requests; end with Ctrl-C");
    }
    loop {
        while let Some(paper) = due.pop() {
            ask(cx, &mut seat, args, &own, &mut unlocked, &paper).await?;
        }
        if unlocked
            .as_ref()
            .is_some_and(|(_, used)| used.elapsed() >= IDLE)
        {
            unlocked = None;
        }
        tokio::select! {
            () = &mut ended => break,
            () = tokio::time::sleep(IDLE), if unlocked.is_some() => {}
            event = seat.events.recv() => match event {
                Some(Event::Desk(paper)) if !seen.contains(&paper.id) => {
                    seen.push(paper.id);
                    due.push(*paper);
                }
                Some(_) => {}
                None => break,
            },
        }
    }
    seat.client.stop().await;
    Ok(())
}

async fn ask(
    cx: &Context,
    seat: &mut Seat,
    args: &OwnerArgs,
    own: &[OwnerKey],
    unlocked: &mut Option<(Owner, Instant)>,
    paper: &Paper,
) -> Result<(), CliError> {
    let decided = decided::all(&seat.home, &seat.server);
    if matches!(&paper.says, Says::Request(request) if decided.iter().any(|one| one.is(request))) {
        return Ok(());
    }
    let now = seat.client.server_time().await?;
    let (Some(block), Some(object)) = (show::block(paper, now), show::object(paper, now)) else {
        return Ok(());
    };
    cx.out.result(block, &object);
    let (Says::Request(request), true) = (&paper.says, output::interactive()) else {
        return Ok(());
    };
    let may = was_shown(request).is_ok();
    let question = if may {
        "allow, deny or skip? [a/d/S]"
    } else {
        "deny or skip? [d/S]"
    };
    let out = cx.out;
    // The connection lives on while the person thinks.
    let answer = tokio::task::spawn_blocking(move || prompt::line(out, question));
    let answer = answer.await.map_err(|e| CliError::local(e.to_string()))??;
    let allow = match answer.as_str() {
        "a" | "allow" if may => true,
        "d" | "deny" => false,
        _ => return Ok(()),
    };
    let (owner, _) = match unlocked.take() {
        Some((owner, used)) if used.elapsed() < IDLE => (owner, used),
        _ => (seat.unlock(cx, args, own)?, Instant::now()),
    };
    if seat.client.server_time().await? < request.expires {
        seat.give(request, allow, &owner).await?;
        cx.out.talk(format_args!("{}: sent", word(allow)));
    } else {
        cx.out.talk("too late: it is over");
    }
    *unlocked = Some((owner, Instant::now()));
    Ok(())
}
