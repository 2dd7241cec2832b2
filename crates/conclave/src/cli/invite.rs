//! `conclave invite`: one-time links.

use super::Context;
use super::open::{self, Target};
use super::owner::{self, OwnerArgs};
use crate::error::CliError;
use crate::text::{Span, moment, now};
use conclave_client::client::Signer;
use conclave_proto::admin::AdminBody;
use conclave_proto::channel_log::History;
use conclave_proto::frame::reply::ServerInvite;
use conclave_proto::id::InviteId;
use conclave_proto::invite::Link;
use conclave_proto::reject::Code;
use serde_json::json;

/// What can be done with invites.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a link; who opens it gets an account if needed, and joins the channel
    Create {
        /// The channel; without it the link makes an account only (server admins)
        channel: Option<String>,
        /// How many people may use it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        uses: u32,
        /// How long it is good for, for example 30m, 48h or 7d
        #[arg(long, default_value = "48h", value_name = "SPAN")]
        expires: Span,
        /// What the new member may do
        #[arg(long, value_parser = ["reader", "member"], default_value = "member")]
        role: String,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        owner: OwnerArgs,
    },
    /// List the invites of a channel, or of the server
    List {
        /// The channel
        channel: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Print the link of an invite that this machine made
    Show {
        /// The invite's id
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        target: Target,
    },
    /// Make a link worthless
    Revoke {
        /// The invite's id
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Create {
            channel,
            uses,
            expires,
            role,
            target,
            owner,
        } => {
            let role = open::role(&role)?;
            let (link, past) =
                owner::if_needed(cx, &target, &owner, async |client, signer| match &channel {
                    Some(name) => {
                        let channel = client.resolve(name).await?.channel;
                        let link = client.invite(channel, role, uses, expires.ms, signer);
                        let link = link.await?;
                        Ok((link, Some(client.channel(channel).await?.history())))
                    }
                    None => Ok((client.invite_to_server(uses, expires.ms).await?, None)),
                })
                .await?;
            let (home, server) = open::server(cx, &target)?;
            home.keep_link(&server.id, &link)?;
            say_link(cx, &link);
            if !cx.out.is_json() && past == Some(History::Full) {
                cx.out.talk(
                    "It hands over everything the channel has said so far and that is still kept.",
                );
            }
            Ok(())
        }
        Command::List {
            channel: Some(name),
            target,
        } => list(cx, &target, &name).await,
        Command::List {
            channel: None,
            target,
        } => list_server(cx, &target).await,
        Command::Show { id, target } => {
            let id = invite_id(&id)?;
            let (home, server) = open::server(cx, &target)?;
            let link = home.kept_link(&server.id, &id)?.ok_or_else(|| {
                CliError::coded(&Code::NotFound, "this machine made no invite of that id")
                    .hint("links exist only on the machine that made them")
            })?;
            say_link(cx, &link);
            Ok(())
        }
        Command::Revoke { id, target } => revoke(cx, &target, &id).await,
    }
}

fn say_link(cx: &Context, link: &Link) {
    let object = json!({"id": link.id(), "link": link.to_string()});
    cx.out.result(link, &object);
    if !cx.out.is_json() {
        cx.out
            .talk("Whoever has this link can use it: hand it over privately, for `conclave join`.");
    }
}

fn invite_id(text: &str) -> Result<InviteId, CliError> {
    text.parse().map_err(|_| {
        CliError::usage("this is not an invite's id").hint("see `conclave invite list CHANNEL`")
    })
}

async fn list(cx: &Context, target: &Target, name: &str) -> Result<(), CliError> {
    let log = open::with(cx, target, async |client| open::channel(client, name).await).await?;
    let (invites, now) = (log.invites(), now());
    let objects: Vec<_> = invites
        .iter()
        .map(|(id, i)| {
            json!({"id": id, "role": i.role.as_str(), "uses_left": i.max_uses.saturating_sub(i.uses),
                "expires": moment(i.expires), "live": i.is_live(now)})
        })
        .collect();
    let rows: Vec<_> = invites
        .iter()
        .map(|(id, i)| {
            let state = if i.is_live(now) { "live" } else { "over" };
            let left = i.max_uses.saturating_sub(i.uses).to_string();
            [
                id.to_string(),
                i.role.as_str().to_owned(),
                left,
                moment(i.expires),
                state.to_owned(),
            ]
        })
        .collect();
    cx.out.table(
        ["id", "role", "uses left", "expires", "state"],
        &rows,
        &json!({"invites": objects}),
    );
    Ok(())
}

async fn list_server(cx: &Context, target: &Target) -> Result<(), CliError> {
    let invites = open::with(cx, target, async |client| {
        Ok(client.server_invites().await?)
    })
    .await?;
    let row = |i: &ServerInvite| {
        [
            i.invite.to_string(),
            i.uses_left.to_string(),
            moment(i.expires),
        ]
    };
    let rows: Vec<_> = invites.iter().map(row).collect();
    let objects: Vec<_> = invites
        .iter()
        .map(|i| json!({"id": i.invite, "uses_left": i.uses_left, "expires": moment(i.expires)}))
        .collect();
    cx.out.table(
        ["id", "uses left", "expires"],
        &rows,
        &json!({"invites": objects}),
    );
    Ok(())
}

/// Revokes an invite of one of the user's channels, or of the server.
async fn revoke(cx: &Context, target: &Target, id: &str) -> Result<(), CliError> {
    let id = invite_id(id)?;
    open::with(cx, target, async |client| {
        for info in open::joined(client).await? {
            if client
                .channel(info.channel)
                .await?
                .invites()
                .contains_key(&id)
            {
                return Ok(client.revoke_invite(info.channel, id).await?);
            }
        }
        let act = AdminBody::ServerInviteRevoke { invite: id };
        Ok(client.administer(act, Signer::Machine).await?)
    })
    .await?;
    cx.out
        .result(format_args!("revoked {id}"), &json!({"revoked": id}));
    Ok(())
}
