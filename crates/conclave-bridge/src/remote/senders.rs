//! What the human decided about who writes, in a file beside the policy.

use super::{Remote, Site};
use crate::fabric::Contacts;
use crate::senders::{self, Sender, Senders, Standing};
use conclave_proto::id::UserId;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::path::PathBuf;

impl Contacts for Remote {
    fn keep_sender(&self, user: UserId, sender: Sender) -> Result<(), Reject> {
        let kept = Senders::decide(&self.site.server_dir(), user, sender).map_err(|error| {
            tracing::error!(%error, "the file of senders was not written");
            Reject::new(Code::Internal, "this machine's disk did not take it")
        })?;
        self.site
            .known
            .send_modify(|known| known.view.senders = kept);
        Ok(())
    }

    fn ask_once(&self, user: &UserId) -> bool {
        senders::ask_once(&self.site.server_dir(), user)
    }

    fn not_asked(&self, user: &UserId) {
        senders::not_asked(&self.site.server_dir(), user);
    }
}

impl Site {
    pub(super) fn server_dir(&self) -> PathBuf {
        self.files.server_dir(&self.client.server())
    }

    /// Reads what was decided. Where there is no file yet, who is known here already is accepted.
    pub(super) async fn load_senders(&self) {
        let dir = self.server_dir();
        let senders = match Senders::load(&dir) {
            Some(senders) => senders,
            None => {
                let mut senders = Senders::default();
                let known = self.client.pinned_users().await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "who is known here could not be read");
                    Vec::new()
                });
                let me = self.client.account().user_id;
                for (name, user) in known.into_iter().filter(|(_, user)| *user != me) {
                    let (standing, at) = (Standing::Accepted, UnixMs(0));
                    senders.set(user, Sender { name, standing, at });
                }
                if let Err(error) = senders.keep(&dir) {
                    tracing::warn!(%error, "the file of senders was not written");
                }
                senders
            }
        };
        self.known.send_modify(|known| known.view.senders = senders);
    }
}
