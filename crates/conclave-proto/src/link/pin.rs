//! Who the server is: pins, rotation records, and the checks before anything is signed (SECURITY D.1).

use super::io::{DownReason, Pin};
use crate::frame::{Challenge, Hello};
use crate::handshake::{Binding, Transcript};
use crate::id::ServerId;
use crate::key::ServerKey;
use crate::server_rotation::ServerRotation;

/// Returns every key the server has had, the present one last; `None` if the records do not lead from
/// the key that the server's id names to the present one.
fn lineage(challenge: &Challenge) -> Option<Vec<ServerKey>> {
    let mut keys = Vec::new();
    for record in &challenge.rotations {
        let rotation = ServerRotation::read(record).ok()?;
        match keys.last() {
            None => keys.push(rotation.old),
            Some(last) => (*last == rotation.old).then_some(())?,
        }
        if rotation.server != challenge.server_id {
            return None;
        }
        keys.push(rotation.new);
    }
    if keys.is_empty() {
        keys.push(challenge.key);
    }
    (keys.first()?.server_id() == challenge.server_id && *keys.last()? == challenge.key)
        .then_some(keys)
}

impl Pin {
    /// Returns whether the challenge comes from the pinned server or a rightful successor of its key.
    fn admits(&self, challenge: &Challenge) -> bool {
        let Some(keys) = lineage(challenge) else {
            return false;
        };
        match self {
            Self::Known { key, server_id } => {
                *server_id == challenge.server_id && keys.contains(key)
            }
            Self::Fingerprint(text) => keys.iter().any(|key| key.fingerprint() == *text),
            Self::FirstContact => true,
        }
    }

    fn fingerprint(&self) -> String {
        match self {
            Self::Known { key, .. } => key.fingerprint(),
            Self::Fingerprint(text) => text.clone(),
            Self::FirstContact => "nothing".to_owned(),
        }
    }

    /// Returns this server as it should be pinned now, if that is news.
    #[must_use]
    pub(super) fn learned(&self, server_id: ServerId, key: ServerKey) -> Option<Self> {
        let known = Self::Known { key, server_id };
        (*self != known).then_some(known)
    }
}

/// Checks a challenge before anything is signed, and returns the transcript to sign.
pub(super) fn check(
    challenge: &Challenge,
    hello: &Hello,
    pin: &Pin,
    origin: &str,
    bindings: &[Binding],
) -> Result<Transcript, DownReason> {
    if challenge.origin != origin {
        return Err(DownReason::Origin {
            dialled: origin.to_owned(),
            named: challenge.origin.clone(),
        });
    }
    if !pin.admits(challenge) {
        return Err(DownReason::PinMismatch {
            pinned: pin.fingerprint(),
            presented: challenge.key.fingerprint(),
        });
    }
    if !hello.versions.contains(&challenge.version) {
        return Err(DownReason::Version(challenge.version));
    }
    let binding = bindings
        .iter()
        .find(|binding| binding.word() == challenge.binding)
        .ok_or(DownReason::Unproven("its channel binding was not offered"))?;
    let transcript = Transcript::new(hello, challenge, binding.data());
    transcript
        .verify_server(&challenge.key, &challenge.sig)
        .map_err(|_| DownReason::Unproven("its signature does not fit this connection"))?;
    Ok(transcript)
}
