//! `conclave perm approver`: who may decide tool calls of agents here instead of the human at their terminal.

use super::levels;
use crate::cli::Context;
use crate::cli::open::{self, Target};
use crate::cli::owner::{self, OwnerArgs};
use crate::error::CliError;
use crate::text;
use conclave_bridge::desk::rule;
use conclave_bridge::files;
use conclave_bridge::policy::Policy;
use conclave_client::Client;
use conclave_proto::name::{Name, SessionPath};
use serde_json::json;

/// What can be done with approvers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List who may decide tool calls of agents here
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Let a user's owner key decide them (needs your owner key)
    Add(Person),
    /// Let a user decide no more (needs your owner key)
    Remove(Person),
    /// Let an agent's session decide calls of some tools, or no more (needs your owner key)
    #[command(subcommand)]
    Agent(Agent),
}

/// What can be done with agents that decide.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Agent {
    /// Let the agent of a session decide calls of these tools
    Add {
        /// The session: user/machine/session
        session: SessionPath,
        /// A tool, or the start of its name and a *; repeatable
        #[arg(long = "tool", value_name = "PATTERN", required = true)]
        tools: Vec<String>,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        owner: OwnerArgs,
    },
    /// Let it decide nothing more
    Remove {
        /// The session: user/machine/session
        session: SessionPath,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        owner: OwnerArgs,
    },
}

/// Arguments of `add` and `remove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Person {
    /// The user; your own name lets your other machines decide
    user: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    owner: OwnerArgs,
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::List { target } => list(cx, &target).await,
        Command::Add(Person {
            user,
            target,
            owner,
        }) => {
            let user = Name::new(&user)?;
            change(cx, &target, &owner, async |client, policy| {
                policy.approvers.insert(client.find_user(&user).await?);
                Ok(format!("{user} may decide tool calls of agents here"))
            })
            .await
        }
        Command::Remove(Person {
            user,
            target,
            owner,
        }) => {
            let user = Name::new(&user)?;
            change(cx, &target, &owner, async |client, policy| {
                policy.approvers.remove(&client.find_user(&user).await?);
                Ok(format!("{user} decides no more"))
            })
            .await
        }
        Command::Agent(Agent::Add {
            session,
            tools,
            target,
            owner,
        }) => {
            for tool in &tools {
                rule::check_pattern(tool).map_err(|e| {
                    CliError::usage(format!("--tool {}: {e}", text::printable(tool)))
                })?;
            }
            change(cx, &target, &owner, async |_, policy| {
                let known = policy.agents.entry(session.clone()).or_default();
                known.extend(tools.iter().cloned());
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                Ok(format!(
                    "{session} may decide calls of {}",
                    known.join(", ")
                ))
            })
            .await
        }
        Command::Agent(Agent::Remove {
            session,
            target,
            owner,
        }) => {
            change(cx, &target, &owner, async |_, policy| {
                policy.agents.remove(&session);
                Ok(format!("{session} decides no more"))
            })
            .await
        }
    }
}

/// Changes the policy, and signs it anew. What agents lowered stays lowered.
async fn change(
    cx: &Context,
    target: &Target,
    args: &OwnerArgs,
    act: impl AsyncFn(&Client, &mut Policy) -> Result<String, CliError>,
) -> Result<(), CliError> {
    let (home, server) = open::server(cx, target)?;
    let owner = owner::unlock(cx, args, &home, &server)?;
    let client = open::connect(&home, &server).await?;
    let owners = owner::keys(&client).await?;
    if !owners.contains(&owner.secret().owner_key()) {
        return Err(owner::not_yours());
    }
    let known = levels(cx, &home, &server, &owners);
    let mut policy = known.policy().clone();
    policy.at = text::now();
    let done = act(&client, &mut policy).await?;
    client.stop().await;
    owner::keep_policy(&home, &server, &policy, &owner)?;
    let dir = home.server_dir(&server.id);
    files::keep_lowered(&dir, known.lowered())
        .map_err(|e| CliError::local(format!("{}: {e}", dir.display())))?;
    cx.out.result(
        format_args!("{done}; sessions that run know it within a minute"),
        &json!({"ok": true}),
    );
    Ok(())
}

async fn list(cx: &Context, target: &Target) -> Result<(), CliError> {
    let (home, server) = open::server(cx, target)?;
    let client = open::connect(&home, &server).await?;
    let owners = owner::keys(&client).await?;
    let known = levels(cx, &home, &server, &owners);
    let (mut rows, mut users, mut agents) = (Vec::new(), Vec::new(), Vec::new());
    for id in &known.policy().approvers {
        let name = client.name_of(*id).await?;
        let name = name.map_or_else(|| id.to_string(), |name| name.to_string());
        users.push(json!({"user": name, "user_id": id}));
        rows.push([name, "any tool, by owner key".to_owned()]);
    }
    client.stop().await;
    for (path, tools) in &known.policy().agents {
        let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
        agents.push(json!({"session": path.to_string(), "tools": tools}));
        rows.push([path.to_string(), text::printable(&tools.join(", "))]);
    }
    let object = json!({"approvers": users, "agents": agents});
    cx.out.table(["who", "may decide"], &rows, &object);
    Ok(())
}
