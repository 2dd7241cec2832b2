//! Permission requests and verdicts: what a session asks its user's approvers, and what they answer.
//!
//! A request shows at most [`PREVIEW_CHARS_MAX`] characters of the arguments, but its digest is over all of
//! them: a verdict is good for one call, once, until it expires. Nothing here decides who may approve.

use crate::bytes::Builder;
use crate::id::{Hash, RequestId};
use crate::key::{BadSignature, OwnerKey, Secret, Signature, Verify as _, label};
use crate::name::SessionPath;
use crate::time::UnixMs;
use serde::{Deserialize, Serialize};

/// The most characters of a call's arguments that travel.
pub const PREVIEW_CHARS_MAX: usize = 200;
/// The longest description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 200;
/// The longest name of a tool, in bytes.
pub const TOOL_BYTES_MAX: usize = 128;
/// How long a request lives at most, in milliseconds.
pub const REQUEST_MS_MAX: u64 = 120_000;

/// A tool call that waits for a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which request.
    pub nonce: RequestId,
    /// The session whose agent makes the call.
    pub session: SessionPath,
    /// The tool, as the host names it.
    pub tool: String,
    /// What the host says it does.
    pub description: String,
    /// The start of its arguments.
    pub preview: String,
    /// The arguments go on.
    pub truncated: bool,
    /// [`digest`] of the whole call.
    pub digest: Hash,
    /// Until when a verdict counts, by the server's clock.
    pub expires: UnixMs,
}

impl Request {
    /// Returns whether every part is within its bound.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.tool.len() <= TOOL_BYTES_MAX
            && self.description.chars().count() <= DESCRIPTION_CHARS_MAX
            && self.preview.chars().count() <= PREVIEW_CHARS_MAX
    }

    /// Returns whether the digest is that of what is shown, where all of it is: else an approver would sign
    /// another call than the one before him.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        let (tool, arguments, said) = (&self.tool, &self.preview, &self.description);
        self.truncated || self.digest == digest(tool, arguments, said, &self.session, &self.nonce)
    }
}

/// Returns what a verdict is bound to: the tool, all of its arguments, the description, the session and the
/// request.
#[must_use]
pub fn digest(
    tool: &str,
    arguments: &str,
    description: &str,
    session: &SessionPath,
    nonce: &RequestId,
) -> Hash {
    Builder::labelled(label::REQUEST)
        .lp(tool.as_bytes())
        .lp(arguments.as_bytes())
        .lp(description.as_bytes())
        .lp(session.to_string().as_bytes())
        .raw(nonce.as_bytes())
        .sha256()
}

/// What an approver says of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which request.
    pub nonce: RequestId,
    /// The digest that the approver was shown.
    pub digest: Hash,
    /// Whether the call may be made.
    pub allow: bool,
    /// Until when this counts, by the server's clock.
    pub expires: UnixMs,
    /// Who signed it: a human's owner key. An agent that its user lets approve signs nothing here; the
    /// envelope says which session it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Signed>,
}

/// An owner key, and its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The key.
    pub key: OwnerKey,
    /// Its signature.
    pub sig: Signature,
}

impl Verdict {
    /// Decides a request without a signature, as an agent does.
    #[must_use]
    pub const fn of(request: &Request, allow: bool) -> Self {
        Self {
            nonce: request.nonce,
            digest: request.digest,
            allow,
            expires: request.expires,
            owner: None,
        }
    }

    /// Decides a request with an owner key.
    #[must_use]
    pub fn sign(request: &Request, allow: bool, owner: &Secret) -> Self {
        let verdict = Self::of(request, allow);
        let sig = owner.sign(verdict.message());
        let key = owner.owner_key();
        Self {
            owner: Some(Signed { key, sig }),
            ..verdict
        }
    }

    /// Checks the signature; whose key it is, is the caller's question.
    ///
    /// # Errors
    /// [`BadSignature`], also if there is none.
    pub fn verify(&self) -> Result<&OwnerKey, BadSignature> {
        let signed = self.owner.as_ref().ok_or(BadSignature)?;
        signed.key.verify(self.message(), &signed.sig)?;
        Ok(&signed.key)
    }

    /// `lp("conclave/v1/perm") ‖ nonce ‖ digest ‖ allow ‖ expires`.
    fn message(&self) -> Builder {
        Builder::labelled(label::VERDICT)
            .raw(self.nonce.as_bytes())
            .raw(self.digest.as_bytes())
            .u8(u8::from(self.allow))
            .u64(self.expires.0)
    }
}

/// Signs that what was held back under a digest may be sent once.
#[must_use]
pub fn release(digest: &Hash, owner: &Secret) -> Signed {
    Signed {
        key: owner.owner_key(),
        sig: owner.sign(crate::key::labelled_hash(label::HOLD, digest)),
    }
}

/// Checks [`release`]; whose key it is, is the caller's question.
///
/// # Errors
/// [`BadSignature`].
pub fn verify_release(digest: &Hash, signed: &Signed) -> Result<(), BadSignature> {
    let message = crate::key::labelled_hash(label::HOLD, digest);
    signed.key.verify(message, &signed.sig)
}
