//! `conclave bridge`: the MCP server of one agent session.

use super::Context;
use super::open::{self, AGENT};
use crate::error::{CliError, chain};
use conclave_bridge::BridgeConfig;
use conclave_bridge::launched::{self, Launch};
use conclave_bridge::remote::Given;
use conclave_bridge::tool::Sets;
use conclave_proto::name::Name;
use conclave_proto::profile::Label;
use std::env::consts::{ARCH, OS};

/// Arguments of `bridge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Be addressed by this handle, or fail if it is taken [default: the directory's name]
    #[arg(long = "as", visible_alias = "name", value_name = "HANDLE")]
    handle: Option<String>,
    /// Connect to this server only; repeatable [default: every server this machine knows]
    #[arg(long, value_name = "SERVER")]
    server: Vec<String>,
    /// Follow this channel only, the first is home; repeatable [default: every joined channel]
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<String>,
    /// Say that the session is this: dev, reviewer
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Carry these groups in the home channel, with commas: eng/backend:lead,reviewers
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    groups: Vec<String>,
    /// Offer these toolsets: core, groups, state, memory, claims, seed, admin, with commas
    #[arg(long, value_name = "SETS", default_value = "all")]
    tools: Sets,
}

/// Runs one session until its host goes.
pub(crate) async fn run(cx: &Context, args: Args) -> Result<(), CliError> {
    let home = cx.config_dir()?;
    // Held as long as the session lives.
    let taken = launched::take(&home);
    let launch = taken
        .as_ref()
        .map_or_else(Launch::default, |taken| taken.launch.clone());
    let given = args.handle.as_deref().map(Name::claim).transpose()?;
    let given = given.or(launch.name);
    let name = |text: &String| Name::new(text.trim_start_matches('#'));
    let channels = args
        .channel
        .iter()
        .map(name)
        .collect::<Result<Vec<_>, _>>()?;
    let channels = either(channels, launch.channels);
    let role = args.role.as_deref().map(Name::new).transpose()?;
    let role = role.or(launch.role);
    let label = |text: &String| text.parse::<Label>();
    let groups = args.groups.iter().map(label).collect::<Result<Vec<_>, _>>();
    let groups = groups.map_err(|e| CliError::usage(e.to_string()))?;
    let groups = either(groups, launch.groups);
    let config = BridgeConfig {
        home,
        servers: args.server,
        pinned: given.is_some(),
        handle: given.unwrap_or_else(open::handle_here),
        agent: format!("{AGENT}+{OS}-{ARCH}"),
        channels,
        sets: args.tools,
        given: Given { role, groups },
        minute: Some(crate::text::minute),
    };
    let ended = conclave_bridge::run(config).await;
    ended.map_err(|e| CliError::local(chain(&e)))
}

/// Returns what was given here, else what a launcher gave.
fn either<T>(here: Vec<T>, launched: Vec<T>) -> Vec<T> {
    match here.is_empty() {
        true => launched,
        false => here,
    }
}
