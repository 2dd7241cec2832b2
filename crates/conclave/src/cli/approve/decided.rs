//! What this machine decided, so that it is not listed again: a private file in the server's directory, of what
//! the mailbox may still hold.

use conclave_client::home::{Home, HomeError, Profile};
use conclave_proto::desk::{REQUEST_MS_MAX, Request};
use conclave_proto::id::RequestId;
use conclave_proto::name::SessionPath;
use conclave_proto::time::UnixMs;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const FILE: &str = "decided";
const LOCK: &str = "decided.lock";
/// How long after it was decided a request could still be listed, in milliseconds: whatever it says of itself.
const LISTED_MS: u64 = 2 * REQUEST_MS_MAX;

/// A request that has its verdict.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Decided {
    /// Who asked: another session's request of the same nonce is another one.
    session: SessionPath,
    nonce: RequestId,
    /// Until when it is worth knowing, by the server's clock.
    until: UnixMs,
}

impl Decided {
    /// Returns whether it is this one.
    pub(super) fn is(&self, request: &Request) -> bool {
        self.session == request.session && self.nonce == request.nonce
    }
}

fn file(home: &Home, server: &Profile, name: &str) -> PathBuf {
    home.server_dir(&server.id).join(name)
}

/// Returns what was decided lately; nothing where that cannot be read.
pub(super) fn all(home: &Home, server: &Profile) -> Vec<Decided> {
    let bytes = match home.read_private(&file(home, server, FILE)) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "what was decided is not known");
            return Vec::new();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, "what was decided is not known");
        Vec::new()
    })
}

/// Notes that this was decided, and forgets what is over.
pub(super) fn note(
    home: &Home,
    server: &Profile,
    request: &Request,
    now: UnixMs,
) -> Result<(), HomeError> {
    let _alone = home.lock(&file(home, server, LOCK))?;
    let mut known = all(home, server);
    known.retain(|one| now < one.until && !one.is(request));
    known.push(Decided {
        session: request.session.clone(),
        nonce: request.nonce,
        until: now.plus(LISTED_MS),
    });
    // Words, ids and numbers always have a form.
    let text = serde_json::to_vec(&known).unwrap_or_default();
    home.write_private(&file(home, server, FILE), &text)
}
