//! Links of invites that were made on this machine: secrets, kept so that a person can see them again.

use crate::home::{Home, HomeError};
use conclave_proto::id::{InviteId, ServerId};
use conclave_proto::invite::Link;
use std::path::PathBuf;

const LINKS_DIR: &str = "links";

impl Home {
    /// Keeps the link of an invite made here.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn keep_link(&self, server: &ServerId, link: &Link) -> Result<(), HomeError> {
        self.write_private(
            &self.link_path(server, &link.id()),
            link.to_string().as_bytes(),
        )
    }

    /// Returns the link of an invite made here; `None` if it was made elsewhere.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn kept_link(&self, server: &ServerId, id: &InviteId) -> Result<Option<Link>, HomeError> {
        let path = self.link_path(server, id);
        let Some(bytes) = self.read_private(&path)? else {
            return Ok(None);
        };
        let link = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse().ok());
        link.map(Some).ok_or_else(|| HomeError::Damaged {
            path,
            why: "it is no link".to_owned(),
        })
    }

    fn link_path(&self, server: &ServerId, id: &InviteId) -> PathBuf {
        self.server_dir(server).join(LINKS_DIR).join(id.to_string())
    }
}
