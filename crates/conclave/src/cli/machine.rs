//! `conclave machine`: the machines of one's own account.

use super::Context;
use super::open::{self, Target};
use super::owner::{self, OwnerArgs};
use crate::error::{CliError, Exit};
use conclave_client::Event;
use conclave_proto::limit::ENROLMENT_MS;
use conclave_proto::name::Name;
use conclave_proto::reject::Code;
use serde_json::json;
use std::time::Duration;

/// What can be done with machines.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print a link for `conclave join` on the new machine, wait for it, and sign it in
    Add {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        owner: OwnerArgs,
    },
    /// List the machines of your account
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Remove a machine; its sessions end at once
    Remove {
        /// The machine's name
        machine: String,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        owner: OwnerArgs,
    },
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Add { target, owner } => add(cx, &target, &owner).await,
        Command::List { target } => {
            let machines =
                open::with(cx, &target, async |client| Ok(client.machines().await?)).await?;
            let objects: Vec<_> = machines
                .iter()
                .map(|m| json!({"machine": m.name, "key": m.key}))
                .collect();
            let rows: Vec<_> = machines
                .iter()
                .map(|m| [m.name.to_string(), m.key.to_string()])
                .collect();
            cx.out
                .table(["machine", "key"], &rows, &json!({"machines": objects}));
            Ok(())
        }
        Command::Remove {
            machine,
            target,
            owner,
        } => {
            let name = Name::new(&machine)?;
            let (home, server) = open::server(cx, &target)?;
            let owner = owner::unlock(cx, &owner, &home, &server)?;
            let client = open::connect(&home, &server).await?;
            let log = client.own_identity().await?;
            let machine = log.machine_named(&name).ok_or_else(|| {
                CliError::coded(&Code::NotFound, format!("you have no machine {name}"))
                    .hint("see `conclave machine list`")
            })?;
            client
                .revoke_machine(machine.key, "removed", &owner)
                .await?;
            client.stop().await;
            cx.out
                .result(format_args!("removed {name}"), &json!({"removed": name}));
            Ok(())
        }
    }
}

/// Shows a link, waits for the new machine, and signs it in.
async fn add(cx: &Context, target: &Target, args: &OwnerArgs) -> Result<(), CliError> {
    let (home, server) = open::server(cx, target)?;
    let owner = owner::unlock(cx, args, &home, &server)?;
    let (client, mut events) = open::connect_hearing(&home, &server).await?;
    let link = client.open_enrolment().await?;
    if cx.out.is_json() {
        cx.out.data(&json!({"link": link.to_string()}).to_string());
    } else {
        cx.out
            .talk("On the new machine, within ten minutes, give this to `conclave join`:");
        cx.out.data(&link.to_string());
    }
    let request = async {
        loop {
            match events.recv().await {
                Some(Event::Enrol(request)) => return Some(request),
                Some(_) => {}
                None => return None,
            }
        }
    };
    let late = || {
        CliError::new(Exit::Offline, "timeout", "no machine came")
            .hint("run `conclave machine add` again and use the new link")
    };
    let request = tokio::time::timeout(Duration::from_millis(ENROLMENT_MS), request).await;
    let request = request.ok().flatten().ok_or_else(late)?;
    let key = link.secret.signing_key().invite_key();
    client.enrol(&request, &key, &owner).await?;
    client.stop().await;
    let name = &request.name;
    cx.out.result(
        format_args!("added {name}"),
        &json!({"added": name, "key": request.key}),
    );
    Ok(())
}
