//! `conclave machine`: the machines of one's own account.

use super::Context;
use super::join;
use super::open::{self, Target};
use super::owner::{self, OwnerArgs};
use crate::error::CliError;
use conclave_client::origin::{BadOrigin, Origin};
use conclave_client::{Event, onboard};
use conclave_proto::limit::ENROLMENT_MS;
use conclave_proto::link::Pin;
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
    /// Come back into your account with the recovery key, on a machine that has no account there
    Recover(Box<RecoverArgs>),
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

/// Arguments of `machine recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct RecoverArgs {
    /// The server's URL, for example `https://chat.example`
    #[arg(long, env = crate::config::ENV_SERVER, value_name = "URL")]
    server: String,
    /// The name of your account
    #[arg(long, value_name = "NAME")]
    user: String,
    /// What to call this machine [default: its host name]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// The fingerprint of the server's key; needed where the certificate is self-signed
    #[arg(long, value_name = "FINGERPRINT", allow_hyphen_values = true)]
    fingerprint: Option<String>,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Add { target, owner } => add(cx, &target, &owner).await,
        Command::Recover(args) => recover(cx, *args).await,
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
        CliError::coded(&Code::Timeout, "no machine came")
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

/// Comes back with the recovery key, as a new machine of the account.
async fn recover(cx: &Context, args: RecoverArgs) -> Result<(), CliError> {
    let origin: Origin = args
        .server
        .parse()
        .map_err(|e: BadOrigin| CliError::usage(e.to_string()))?;
    let user = Name::new(&args.user)?;
    let machine = join::machine_name(args.machine.as_deref())?;
    let pin = args.fingerprint.map_or(Pin::FirstContact, Pin::Fingerprint);
    let owner = owner::recovery(cx, &args.owner)?;
    let home = open::home(cx)?;
    let back = onboard::recover(
        &home,
        &origin,
        pin,
        user.clone(),
        machine.clone(),
        owner.clone(),
        open::AGENT,
    );
    let welcome = back.await?;
    welcome.client.stop().await;
    owner::settle(cx, &args.owner, &home, &welcome.profile, &owner)?;
    let server = open::name(&welcome.profile);
    cx.out.result(
        format_args!("you are {user}/{machine} on {server} again"),
        &json!({"server": server, "user": user, "machine": machine}),
    );
    cx.out.talk("Remove the machines that you lost: `conclave machine list`, `conclave machine remove NAME`.");
    Ok(())
}
