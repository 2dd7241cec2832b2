//! Carries errands out, beside the task of a client and only as long as that lives.
//!
//! The keeper holds no handle of its own: a client ends with its last user's handle all the same, and
//! what still waits ends with it.

use crate::client::{Client, WeakClient};
use crate::core::Command;
use crate::core::errand::{Errand, Sent};
use crate::error::ClientError;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Takes errands until the task ends.
pub(crate) async fn run(mut errands: mpsc::Receiver<Sent>, client: WeakClient) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            sent = errands.recv() => match sent {
                Some((errand, wait_ms)) => {
                    running.spawn(one(errand, wait_ms, client.clone()));
                }
                None => return,
            },
            Some(_) = running.join_next() => {}
        }
    }
}

async fn one(errand: Errand, wait_ms: u64, client: WeakClient) {
    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    let Some(client) = client.upgrade() else {
        return;
    };
    let done = carry_out(&client, &errand).await;
    let done = done.map_err(|error| error.to_reject());
    drop(client.command(Command::Done(errand, done)).await);
}

async fn carry_out(client: &Client, errand: &Errand) -> Result<(), ClientError> {
    match errand {
        Errand::Prepare(log, to) => client.prepare(*log, to.as_ref()).await,
        Errand::Keys(channel) | Errand::KeyCame(channel) => client.fetch_keys(*channel).await,
        Errand::Profile(channel) => client.prepare_profile(*channel).await,
        Errand::Repair(channel) => client.repair(*channel).await,
        Errand::Reload => client.reload_own().await,
        Errand::Announce => client.announce().await,
        Errand::Receipts => client.tell_receipts().await,
        Errand::Look => client.look_after_whispers().await,
    }
}
