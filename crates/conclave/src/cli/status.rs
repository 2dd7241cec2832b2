//! `conclave status`: what this machine is, what it has read, and what waits to be sent.
//!
//! Everything but the connection and who is live on a server comes from this machine: its disk, and what the
//! sessions that run here tell of themselves.

use super::Context;
use super::channel;
use super::live::{self, Live};
use super::open;
use super::pause;
use crate::error::CliError;
use crate::text;
use conclave_bridge::journal::{self, Entry};
use conclave_client::home::{Home, Profile};
use conclave_client::owner::Owner;
use conclave_client::replica::feed::FeedInfo;
use conclave_client::{Client, Session};
use conclave_proto::channel_log::Mode;
use conclave_proto::id::LogId;
use conclave_proto::name::CLI_HANDLE;
use conclave_proto::time::UnixMs;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How long a server may take to answer before it counts as unreachable.
const PROBE: Duration = Duration::from_secs(3);

/// How many entries of the journal are shown to a person, and from how long ago, in milliseconds.
const ENTRIES: usize = 5;
const LATELY_MS: u64 = 86_400_000;

/// What is known of a server.
struct Known {
    server: Profile,
    /// Whether a sealed copy of the owner key is on this machine.
    copy: bool,
    connection: Connection,
    sessions: BTreeMap<String, Handle>,
    /// What was stopped, asked and decided here lately, oldest first.
    journal: Vec<Entry>,
}

/// How the server answered.
enum Connection {
    Up,
    Down(CliError),
    /// It is only pinned.
    NoAccount,
}

/// What to call a log, and who can read it.
#[derive(Clone)]
struct Place {
    name: String,
    mode: Mode,
}

/// What one handle of this machine has read and has to send.
#[derive(Default)]
struct Handle {
    /// Whether the server has a session of it now; unknown without a connection.
    live: Option<&'static str>,
    feeds: Vec<(Place, FeedInfo)>,
    waiting: u64,
}

impl Handle {
    fn unread(&self) -> u64 {
        self.feeds.iter().map(|(_, feed)| feed.unread).sum()
    }

    /// Whether something waits that no running session will send.
    fn is_orphaned(&self) -> bool {
        self.waiting > 0 && self.live.is_none()
    }
}

/// Shows what this machine is.
pub(crate) async fn run(cx: &Context) -> Result<(), CliError> {
    let mut known = Vec::new();
    if let Some(home) = open::existing_home(cx)? {
        for server in home.servers()? {
            known.push(look(&home, server).await?);
        }
    }
    let dir = cx.config_dir()?;
    let live = live::all(&dir);
    let paused = pause::standing(cx)?;
    let objects: Vec<_> = known.iter().map(object).collect();
    let object = json!({
        "dir": dir, "version": env!("CARGO_PKG_VERSION"), "servers": objects,
        "live": live.iter().map(Live::object).collect::<Vec<_>>(),
        "paused": paused.is_some(),
    });
    if known.is_empty() {
        let text = "This machine knows no server yet. `conclave up` starts one, `conclave join` takes an invite link.";
        cx.out.result(text, &object);
        return Ok(());
    }
    let rows: Vec<_> = known.iter().map(row).collect();
    let head = ["server", "you are", "owner key", "connection"];
    cx.out.table(head, &rows, &object);
    if paused.is_some() {
        cx.out
            .talk("\npaused: no agent here sends anything or is woken; `conclave resume` ends it");
    }
    if !cx.out.is_json() {
        show_sessions(cx, &known);
        show_live(cx, &live);
        show_journal(cx, &known);
    }
    Ok(())
}

/// Reads what the disk says, and asks the server what only it can know.
async fn look(home: &Home, server: Profile) -> Result<Known, CliError> {
    let mut known = Known {
        copy: Owner::has_copy(home, &server.id)?,
        connection: Connection::NoAccount,
        sessions: BTreeMap::new(),
        journal: journal::newest(&home.server_dir(&server.id), ENTRIES),
        server,
    };
    let Some(account) = &known.server.user else {
        return Ok(known);
    };
    let session = Session::one_shot(open::AGENT)?;
    let (client, mut events) = Client::connect(home, &known.server, session).await?;
    let names: HashMap<_, _> = client
        .known_channels()
        .await?
        .iter()
        .map(|log| {
            let name = format!("#{}", channel::called(log.name()));
            let mode = log.mode();
            (*log.id(), Place { name, mode })
        })
        .collect();
    for feed in client.feeds().await? {
        let place = match &feed.log {
            LogId::Channel(id) => names.get(id).cloned(),
            LogId::Mailbox(_) => Some(Place {
                name: "whispers".to_owned(),
                mode: Mode::E2e,
            }),
        };
        // A channel that this user has left is of no interest any more.
        let Some(place) = place else { continue };
        let handle = known.sessions.entry(feed.handle.clone()).or_default();
        handle.feeds.push((place, feed));
    }
    for (handle, waiting) in client.waiting().await? {
        known.sessions.entry(handle).or_default().waiting = waiting;
    }
    known.connection = match open::up(&mut events, PROBE).await {
        Ok(()) => Connection::Up,
        Err(error) => Connection::Down(error),
    };
    if let Connection::Up = known.connection {
        for session in client.who(None).await? {
            if session.path.user == account.user && session.path.machine == account.machine {
                let handle = session.path.handle.to_string();
                let live = if session.online { "online" } else { "away" };
                known.sessions.entry(handle).or_default().live = Some(live);
            }
        }
    }
    client.stop().await;
    Ok(known)
}

fn row(known: &Known) -> [String; 4] {
    let account = known.server.user.as_ref();
    let you = account.map_or_else(|| "-".to_owned(), |a| format!("{}/{}", a.user, a.machine));
    let copy = match (account, known.copy) {
        (None, _) => "-",
        (_, true) => "on this machine",
        (_, false) => "recovery key",
    };
    let connection = match &known.connection {
        Connection::Up => "up".to_owned(),
        Connection::Down(error) => format!("down: {error}"),
        Connection::NoAccount => "-".to_owned(),
    };
    [open::name(&known.server), you, copy.to_owned(), connection]
}

/// Shows the handles of this machine, and what no running session will send.
fn show_sessions(cx: &Context, known: &[Known]) {
    let mut rows = Vec::new();
    for (server, (name, handle)) in known
        .iter()
        .flat_map(|k| k.sessions.iter().map(move |s| (k, s)))
    {
        let read = |(place, feed): &(Place, FeedInfo)| match place.mode {
            Mode::E2e => format!("{} {}", place.name, feed.cursor),
            Mode::Signed => format!("{} {} (server can read)", place.name, feed.cursor),
        };
        let read: Vec<_> = handle.feeds.iter().map(read).collect();
        rows.push([
            name.clone(),
            open::name(&server.server),
            state(server, handle).to_owned(),
            handle.unread().to_string(),
            handle.waiting.to_string(),
            read.join(", "),
        ]);
    }
    if rows.is_empty() {
        return;
    }
    let head = [
        "session",
        "server",
        "state",
        "unread",
        "to send",
        "received up to",
    ];
    cx.out.data("\n");
    cx.out.table(head, &rows, &Value::Null);
    for (name, handle) in known.iter().flat_map(|known| &known.sessions) {
        if handle.is_orphaned() {
            let carrier = match name.as_str() {
                CLI_HANDLE => "the next `conclave` command that reaches the server".to_owned(),
                name => format!("the next session of that name: `conclave bridge --as {name}`"),
            };
            let count = handle.waiting;
            cx.out.talk(format_args!(
                "note: {count} unsent of {name}; within a day they go out with {carrier}"
            ));
        }
    }
}

/// Shows the sessions that run here, as they tell of themselves.
fn show_live(cx: &Context, live: &[Live]) {
    if live.is_empty() {
        return;
    }
    let row = |session: &Live| {
        let or_dash = |word: Option<&str>| word.unwrap_or("-").to_owned();
        let woken = session.word("/wake/path").map(|path| {
            let at = session.fact("/wake/at").as_u64();
            at.map_or_else(
                || path.to_owned(),
                |at| format!("{path} {}", text::moment(UnixMs(at))),
            )
        });
        [
            session.name(),
            session.note.pid.to_string(),
            or_dash(session.word("/status")),
            session
                .fact("/unread")
                .as_u64()
                .map_or_else(|| "-".to_owned(), |n| n.to_string()),
            woken.unwrap_or_else(|| "never".to_owned()),
            or_dash(session.word("/wake/channel/state")),
            session.troubles().join(", "),
        ]
    };
    let rows: Vec<_> = live.iter().map(row).collect();
    let head = [
        "running here",
        "process",
        "status",
        "unread",
        "woken last by",
        "channel",
        "",
    ];
    cx.out.data("\n");
    cx.out.table(head, &rows, &Value::Null);
}

/// Shows what the guards stopped and what was decided lately.
fn show_journal(cx: &Context, known: &[Known]) {
    let lately = |entry: &&Entry| text::now().since(entry.at) < LATELY_MS;
    let entries = known.iter().flat_map(|known| &known.journal);
    for entry in entries.filter(lately) {
        let when = text::moment(entry.at);
        let (session, text) = (&entry.session, text::printable(&entry.text));
        cx.out.talk(format_args!("note: {when} {session}: {text}"));
        if let Some(hint) = &entry.hint {
            cx.out.talk(format_args!("      {}", text::printable(hint)));
        }
    }
}

/// What a session is doing, in a word.
fn state(known: &Known, handle: &Handle) -> &'static str {
    match (&known.connection, handle.live) {
        (Connection::Up, None) => "ended",
        (Connection::Up, Some(live)) => live,
        (Connection::Down(_) | Connection::NoAccount, _) => "unknown",
    }
}

fn object(known: &Known) -> Value {
    let account = known.server.user.as_ref();
    let connection = match &known.connection {
        Connection::Up => json!({"state": "up"}),
        Connection::Down(error) => {
            json!({"state": "down", "error": error.code, "message": error.message})
        }
        Connection::NoAccount => json!({"state": "no_account"}),
    };
    let feed = |(place, feed): &(Place, FeedInfo)| json!({"log": place.name, "mode": place.mode.as_str(), "cursor": feed.cursor, "unread": feed.unread});
    let session = |(name, handle): (&String, &Handle)| {
        json!({
            "handle": name, "state": state(known, handle), "unread": handle.unread(),
            "waiting": handle.waiting, "orphaned": handle.is_orphaned(),
            "feeds": handle.feeds.iter().map(feed).collect::<Vec<_>>(),
        })
    };
    json!({
        "server": open::name(&known.server), "server_id": known.server.id,
        "user": account.map(|a| &a.user), "machine": account.map(|a| &a.machine),
        "owner_key_copy": known.copy, "connection": connection,
        "sessions": known.sessions.iter().map(session).collect::<Vec<_>>(),
        "journal": known.journal,
    })
}
