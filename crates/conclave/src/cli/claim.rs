//! `conclave claim`: who works on what. The command line holds claims as `user/machine/cli`.

use super::Context;
use super::item::{Place, cell, claim_error, path};
use super::open;
use crate::error::CliError;
use crate::text::{Span, moment};
use conclave_client::client::claim::Whose;
use conclave_client::item::{Claim, ClaimError};
use conclave_client::repo;
use serde_json::{Value, json};

/// What can be done with claims.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Reserve something until it is released or lapses
    Take(Hold),
    /// Keep a claim for longer
    Renew(Hold),
    /// Give a claim back; also one of another session of yours
    Release {
        /// What was claimed
        resource: String,
        #[command(flatten)]
        place: Place,
    },
    /// List who has claimed what
    List {
        #[command(flatten)]
        place: Place,
    },
}

impl Command {
    /// Returns whether others get something to read by it; what is given back may always be.
    pub(crate) const fn says(&self) -> bool {
        matches!(self, Self::Take(_) | Self::Renew(_))
    }
}

/// What to claim.
#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    /// Free text, or path:src/** for files of the repository here
    resource: String,
    /// How long it holds without a renewal
    #[arg(long, default_value = "15m", value_name = "SPAN")]
    ttl: Span,
    /// What you do with it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Carries one out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Take(hold) => {
            let resource = named(&hold.resource)?;
            let held = open::with(cx, &hold.place.target, async |client| {
                let channel = hold.place.find(client).await?;
                let note = hold.note.as_deref();
                let taken = client.claim(channel, &resource, hold.ttl.ms, note).await;
                taken.map_err(claim_error)
            });
            show(cx, &held.await?);
        }
        Command::Renew(hold) => {
            let resource = named(&hold.resource)?;
            let held = open::with(cx, &hold.place.target, async |client| {
                let channel = hold.place.find(client).await?;
                let note = hold.note.as_deref();
                let renewed = client.renew(channel, &resource, hold.ttl.ms, note).await;
                renewed.map_err(claim_error)
            });
            show(cx, &held.await?);
        }
        Command::Release { resource, place } => {
            let resource = named(&resource)?;
            open::with(cx, &place.target, async |client| {
                let channel = place.find(client).await?;
                let released = client.release(channel, &resource, Whose::Users).await;
                released.map_err(claim_error)
            })
            .await?;
            cx.out.result("released", &json!({"released": resource}));
        }
        Command::List { place } => list(cx, &place).await?,
    }
    Ok(())
}

fn named(text: &str) -> Result<String, CliError> {
    let dir = std::env::current_dir().unwrap_or_default();
    let resource = repo::resource(&dir, text).map_err(|e| claim_error(ClaimError::from(e)))?;
    Ok(resource.to_string())
}

fn show(cx: &Context, claim: &Claim) {
    let text = format!(
        "held until {} with token {}",
        moment(claim.until),
        claim.token
    );
    cx.out.result(text, &object(claim));
}

async fn list(cx: &Context, place: &Place) -> Result<(), CliError> {
    let claims = open::with(cx, &place.target, async |client| {
        let channel = place.find(client).await?;
        Ok(client.claims(channel).await?)
    })
    .await?;
    let row = |claim: &Claim| {
        [
            cell(&claim.resource),
            path(&claim.holder),
            moment(claim.until),
            claim.token.to_string(),
            cell(claim.note.as_deref().unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = claims.iter().map(row).collect();
    let objects: Vec<_> = claims.iter().map(object).collect();
    let head = ["resource", "holder", "until", "token", "note"];
    cx.out.table(head, &rows, &json!({"claims": objects}));
    Ok(())
}

fn object(claim: &Claim) -> Value {
    json!({
        "resource": claim.resource, "holder": path(&claim.holder), "user_id": claim.user,
        "token": claim.token, "at": moment(claim.at), "until": moment(claim.until),
        "left_ms": claim.left_ms, "note": claim.note,
    })
}
