//! `conclave user`: the accounts of a server, for its admins.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use conclave_client::client::Signer;
use conclave_proto::admin::AdminBody;
use conclave_proto::name::Name;
use serde_json::json;

/// What can be done with accounts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the accounts
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Remove an account; its name is never given out again
    Remove {
        /// The user's name
        user: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List { target } => {
            let users = open::with(cx, &target, async |client| Ok(client.users().await?)).await?;
            let standing = |admin| if admin { "admin" } else { "user" };
            let objects: Vec<_> = users
                .iter()
                .map(|u| json!({"user": u.name, "user_id": u.user_id, "admin": u.admin}))
                .collect();
            let rows: Vec<_> = users
                .iter()
                .map(|u| {
                    [
                        u.name.to_string(),
                        standing(u.admin).to_owned(),
                        u.user_id.to_string(),
                    ]
                })
                .collect();
            cx.out.table(
                ["user", "standing", "id"],
                &rows,
                &json!({"users": objects}),
            );
        }
        Command::Remove { user, target } => {
            let name = Name::new(&user)?;
            open::with(cx, &target, async |client| {
                let user = client.find_user(&name).await?;
                Ok(client
                    .administer(AdminBody::UserRemove { user }, Signer::Machine)
                    .await?)
            })
            .await?;
            cx.out
                .result(format_args!("removed {name}"), &json!({"removed": name}));
        }
    }
    Ok(())
}
