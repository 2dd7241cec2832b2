//! Carries errands out, beside the task of a client and only as long as that lives.
//!
//! The keeper holds no handle of its own: a client ends with its last user's handle all the same.

use crate::client::WeakClient;
use crate::core::Command;
use crate::core::errand::{Errand, Sent};
use std::time::Duration;
use tokio::sync::mpsc;

/// Takes errands until the task ends.
pub(crate) async fn run(mut errands: mpsc::Receiver<Sent>, client: WeakClient) {
    while let Some((errand, wait_ms)) = errands.recv().await {
        let client = client.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            let Some(client) = client.upgrade() else {
                return;
            };
            let done = match &errand {
                Errand::Prepare(log, to) => client.prepare(*log, to.as_ref()).await,
                Errand::Keys(channel) => client.fetch_keys(*channel).await,
                Errand::Repair(channel) => client.repair(*channel).await,
                Errand::Announce => client.announce().await,
            };
            let done = done.map_err(|error| error.to_reject());
            drop(client.command(Command::Done(errand, done)).await);
        });
    }
}
