//! What sessions of this machine hold back until a human allows it once: seen and released through their own
//! sockets, by owner key.

use super::show::visible;
use crate::cli::Context;
use crate::cli::open::{self, Target};
use crate::cli::owner::{self, OwnerArgs};
use crate::error::CliError;
use conclave_bridge::control::{Answer, Ask, Waiting, find};
use conclave_proto::desk::release;
use conclave_proto::reject::Code;
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long a session has to answer.
const WITHIN: Duration = Duration::from_secs(3);

/// Something that is held, and by which session.
pub(super) struct Held {
    socket: PathBuf,
    what: Waiting,
}

impl Held {
    pub(super) fn block(&self) -> String {
        let what = &self.what;
        let mut text = format!(
            "{}  {} wants to send something to {}, {} s ago\n  held: {}",
            visible(&what.id),
            visible(&what.session),
            visible(&what.place),
            what.age_s,
            visible(&what.rule)
        );
        if let Some(excerpt) = &what.excerpt {
            text.push_str("\n  it begins: ");
            text.push_str(&visible(excerpt));
        }
        text
    }

    pub(super) fn object(&self) -> Value {
        let what = &self.what;
        json!({
            "id": what.id, "session": visible(&what.session), "place": visible(&what.place),
            "rule": visible(&what.rule), "excerpt": what.excerpt.as_deref().map(visible), "age_s": what.age_s,
        })
    }
}

/// Returns everything that sessions of this machine hold back.
pub(super) fn all(cx: &Context) -> Result<Vec<Held>, CliError> {
    let home = cx.config_dir()?;
    let mut held = Vec::new();
    for (socket, _) in find::notes(&home) {
        if let Some(Answer::Holds { holds }) = ask(&socket, &Ask::Holds) {
            held.extend(holds.into_iter().map(|what| Held {
                socket: socket.clone(),
                what,
            }));
        }
    }
    Ok(held)
}

/// Finds one by its id.
pub(super) fn find(cx: &Context, id: &str) -> Result<Option<Held>, CliError> {
    if !id.starts_with("h-") {
        return Ok(None);
    }
    Ok(all(cx)?.into_iter().find(|held| held.what.id == id))
}

/// Lets it be sent once; to deny it nothing is to be done.
pub(super) async fn decide(
    cx: &Context,
    held: &Held,
    target: &Target,
    args: &OwnerArgs,
    allow: bool,
) -> Result<(), CliError> {
    let id = &held.what.id;
    if !allow {
        cx.out.result(
            "nothing is sent; it is forgotten in ten minutes",
            &json!({"id": id, "decision": "deny"}),
        );
        return Ok(());
    }
    if !cx.out.is_json() {
        cx.out.talk(held.block());
    }
    let (home, server) = open::server(cx, target)?;
    let owner = owner::unlock(cx, args, &home, &server)?;
    let signed = release(&held.what.digest, owner.secret());
    let (id, digest) = (id.clone(), held.what.digest);
    let (socket, ask_it) = (
        held.socket.clone(),
        Ask::Release {
            id: id.clone(),
            digest,
            signed,
        },
    );
    let answer = tokio::task::spawn_blocking(move || ask(&socket, &ask_it)).await;
    match answer {
        Ok(Some(Answer::Released { allowed: true, .. })) => {
            cx.out.result(
                "allowed once: the agent can send it again now",
                &json!({"id": id, "decision": "allow"}),
            );
            Ok(())
        }
        Ok(Some(Answer::Released { why, .. })) => Err(CliError::coded(&Code::Unauthorized, why)
            .hint("use an owner key of the account that the session belongs to")),
        _ => Err(
            CliError::coded(&Code::NotFound, "the session does not answer, or has gone")
                .hint("see `conclave approve list`"),
        ),
    }
}

fn ask(socket: &std::path::Path, ask: &Ask) -> Option<Answer> {
    let stream = UnixStream::connect(socket).ok()?;
    let mut asked = find::ask_on(stream, ask, WITHIN).ok()?;
    asked.next().ok()?
}
