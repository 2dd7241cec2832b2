//! `conclave admin`: who administers a server.

use super::Context;
use super::open::{self, Target};
use super::owner::{self, OwnerArgs};
use crate::error::CliError;
use conclave_client::client::Signer;
use conclave_proto::admin::AdminBody;
use conclave_proto::id::UserId;
use conclave_proto::name::Name;
use serde_json::json;

/// What can be done with server admins.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the server's admins
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Make a user admin (needs your owner key)
    Add {
        /// The user's name
        user: String,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        owner: OwnerArgs,
    },
    /// Take the standing away (needs your owner key)
    Remove {
        /// The user's name
        user: String,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        owner: OwnerArgs,
    },
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List { target } => list(cx, &target).await,
        Command::Add {
            user,
            target,
            owner,
        } => {
            act(cx, &target, &owner, &user, |user| AdminBody::AdminAdd {
                user,
            })
            .await?;
            cx.out.result(
                format_args!("{user} is an admin now"),
                &json!({"added": user}),
            );
            Ok(())
        }
        Command::Remove {
            user,
            target,
            owner,
        } => {
            act(cx, &target, &owner, &user, |user| AdminBody::AdminRemove {
                user,
            })
            .await?;
            cx.out.result(
                format_args!("{user} is no admin any more"),
                &json!({"removed": user}),
            );
            Ok(())
        }
    }
}

async fn act(
    cx: &Context,
    target: &Target,
    args: &OwnerArgs,
    user: &str,
    body: impl FnOnce(UserId) -> AdminBody,
) -> Result<(), CliError> {
    let name = Name::new(user)?;
    let (home, server) = open::server(cx, target)?;
    let owner = owner::unlock(cx, args, &home, &server)?;
    let client = open::connect(&home, &server).await?;
    let user = client.find_user(&name).await?;
    let done = client.administer(body(user), Signer::Owner(&owner)).await;
    client.stop().await;
    done?;
    Ok(())
}

async fn list(cx: &Context, target: &Target) -> Result<(), CliError> {
    let users = open::with(cx, target, async |client| Ok(client.users().await?)).await?;
    let admins: Vec<_> = users.iter().filter(|user| user.admin).collect();
    let object: Vec<_> = admins
        .iter()
        .map(|u| json!({"user": u.name, "user_id": u.user_id}))
        .collect();
    let rows: Vec<_> = admins
        .iter()
        .map(|u| [u.name.to_string(), u.user_id.to_string()])
        .collect();
    cx.out
        .table(["admin", "id"], &rows, &json!({"admins": object}));
    Ok(())
}
