//! `conclave up --demo`: a server, two people on two machines, two real bridges, four messages.
//!
//! Everything is real but the agents: the demo plays the host of both, and prints what each of their
//! models would have been given. It leaves nothing behind.

use super::agent::Agent;
use super::{general, link};
use crate::cli::Context;
use crate::cli::{open, owner};
use crate::error::CliError;
use conclave_client::home::{Home, Profile};
use conclave_client::onboard;
use conclave_proto::invite::Link;
use conclave_proto::name::Name;
use conclave_server::Config;
use serde_json::json;
use std::path::{Path, PathBuf};

/// A directory that goes with the demo.
struct Stage(PathBuf);

impl Stage {
    fn set() -> Result<Self, CliError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| CliError::local(e.to_string()))?;
        let path = std::env::temp_dir().join(format!(
            "conclave-demo-{}",
            conclave_proto::id::to_text(&random)
        ));
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| CliError::local(format!("{}: {e}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // What the system's temporary directory keeps, it will clean.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

/// One delivery, as it is shown.
struct Shown {
    to: &'static str,
    said: String,
    tag: String,
}

/// Plays the demo.
pub(super) async fn run(cx: &Context) -> Result<(), CliError> {
    let stage = Stage::set()?;
    let server = Config::ephemeral()
        .build()
        .await
        .map_err(|e| crate::cli::serve::not_built(&e))?;
    let boot = server.bootstrap_link();
    let origin = server.origin();
    let running = server.spawn();
    let (alice, bob) = (stage.0.join("alice"), stage.0.join("bob"));
    let played = match boot {
        Some(boot) => play(&alice, &bob, &boot).await,
        None => Err(CliError::local("a new server has no bootstrap link")),
    };
    running
        .shutdown()
        .await
        .map_err(crate::cli::serve::stopped)?;
    let shown = played?;
    let deliveries: Vec<_> = shown
        .iter()
        .map(|s| json!({"to": s.to, "said": s.said, "model_receives": s.tag}))
        .collect();
    let mut text = format!(
        "Two agent sessions, two machines, one server ({origin}).\nBelow: what each says by a tool call, and what the other's model is given.\n"
    );
    for s in &shown {
        text.push_str(&format!("\n── {}\n   {} receives:\n\n", s.said, s.to));
        for line in s.tag.lines() {
            text.push_str(&format!("      {line}\n"));
        }
    }
    text.push_str("\nEvery message was sealed end to end, signed by its sender's machine, stored before it was acknowledged, and shown once.\nNow for real: `conclave up`");
    cx.out.result(text, &json!({"deliveries": deliveries}));
    Ok(())
}

/// Makes both accounts, starts both bridges, and lets them talk.
async fn play(alice: &Path, bob: &Path, boot: &Link) -> Result<Vec<Shown>, CliError> {
    let (home, server) = person(alice, boot, "alice", "desk").await?;
    let client = open::connect(&home, &server).await?;
    let channel = general(&client).await?;
    let invite = link(&home, &server, &client, &channel).await?;
    client.stop().await;
    person(bob, &invite, "bob", "laptop").await?;

    let mut api = Agent::start(alice, "api").await?;
    let mut web = Agent::start(bob, "web").await?;
    for agent in [&mut api, &mut web] {
        agent
            .call("join_channel", json!({"channel": "general"}))
            .await?;
    }
    let mut shown = Vec::new();
    let text = "The /orders endpoint is live. Can you point the checkout page at it?";
    api.call("send_channel", json!({"channel": "general", "text": text}))
        .await?;
    shown.push(Shown {
        to: "bob/laptop/web",
        said: format!("alice's session says to #general: {text}"),
        tag: web.hear().await?,
    });
    let text = "Done, all 14 checkout tests pass against it.";
    web.call("send_channel", json!({"channel": "general", "text": text}))
        .await?;
    shown.push(Shown {
        to: "alice/desk/api",
        said: format!("bob's session says to #general: {text}"),
        tag: api.hear().await?,
    });
    let text = "Between us: the total is off by one cent for JPY.";
    web.call("whisper", json!({"to": "alice/desk/api", "text": text}))
        .await?;
    shown.push(Shown {
        to: "alice/desk/api",
        said: format!("bob's session whispers to alice's: {text}"),
        tag: api.hear().await?,
    });
    let text = "Thanks, rounding fixed in 3f2a91c.";
    api.call("whisper", json!({"to": "bob/laptop/web", "text": text}))
        .await?;
    shown.push(Shown {
        to: "bob/laptop/web",
        said: format!("alice's session whispers to bob's: {text}"),
        tag: web.hear().await?,
    });
    Ok(shown)
}

/// Makes an account whose owner key is thrown away.
async fn person(
    dir: &Path,
    link: &Link,
    user: &str,
    machine: &str,
) -> Result<(Home, Profile), CliError> {
    let home = Home::open(dir)?;
    let (user, machine) = (Name::new(user)?, Name::new(machine)?);
    let welcome = onboard::redeem(&home, link, user, machine, open::AGENT).await?;
    welcome.client.stop().await;
    if let Some(owner) = &welcome.owner {
        owner::first_policy(&home, &welcome.profile, owner)?;
    }
    Ok((home, welcome.profile))
}
