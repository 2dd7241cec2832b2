//! Invite links, and what their secret gives: a signing key and the proof of a join (SECURITY 2.7).
//!
//! The secret stands behind `#` and never reaches a server; the server stores a public key. The key
//! that opens the box beside an invite is derived elsewhere: the server must not have the code.

use crate::body::Head;
use crate::bytes::Builder;
use crate::id::{ChannelId, InviteId, UserId, from_text, to_text};
use crate::key::{Secret, ServerKey, label};
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// The id in the link that makes the first admin of a server.
pub const BOOTSTRAP_ID: &str = "boot";

const LINK_BYTES_MAX: usize = 512;

/// The secret of a link. Wiped on drop, never printed but as part of its link.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkSecret(Zeroizing<[u8; 32]>);

impl LinkSecret {
    /// Wraps 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the bytes, for further derivations.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the invite's signing key.
    #[must_use]
    pub fn signing_key(&self) -> Secret {
        let mut seed = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.as_bytes())
            .expand(b"conclave/v1/invite-sign", seed.as_mut())
            .expect("32 bytes are within HKDF's bound");
        Secret::from_seed(&seed)
    }
}

impl fmt::Debug for LinkSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkSecret(…)")
    }
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// `/i/<id>`: into a channel, or only an account; the server knows which.
    Invite(InviteId),
    /// `/i/boot`: the first admin's account.
    Bootstrap,
    /// `/m/<id>`: another machine of this user, whom a fourth part of the fragment names.
    Machine(InviteId, UserId),
}

/// A link: `ORIGIN/i/ID#1.SECRET.FINGERPRINT`, for a machine `…/m/ID#1.SECRET.FINGERPRINT.USER`. `Display` prints it whole; `Debug` does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// `scheme://host[:port]`, as it was dialled.
    pub origin: String,
    /// What it is for.
    pub kind: LinkKind,
    /// What never leaves the client.
    pub secret: LinkSecret,
    /// [`ServerKey::fingerprint`] of the server.
    pub fingerprint: String,
}

/// A text that is no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a complete conclave link (https://HOST/i/…#1.….…)")]
pub struct BadLink;

impl Link {
    /// Makes the link of an invite to a channel or server.
    #[must_use]
    pub fn invite(origin: impl Into<String>, secret: LinkSecret, server: &ServerKey) -> Self {
        let kind = LinkKind::Invite(secret.signing_key().invite_key().invite_id());
        Self::new(kind, origin.into(), secret, server)
    }

    /// Makes the link for the first admin.
    #[must_use]
    pub fn bootstrap(origin: impl Into<String>, secret: LinkSecret, server: &ServerKey) -> Self {
        Self::new(LinkKind::Bootstrap, origin.into(), secret, server)
    }

    /// Makes the link that enrols a machine.
    #[must_use]
    pub fn machine(
        origin: impl Into<String>,
        secret: LinkSecret,
        server: &ServerKey,
        user: UserId,
    ) -> Self {
        let kind = LinkKind::Machine(secret.signing_key().invite_key().invite_id(), user);
        Self::new(kind, origin.into(), secret, server)
    }

    fn new(kind: LinkKind, origin: String, secret: LinkSecret, server: &ServerKey) -> Self {
        let fingerprint = server.fingerprint();
        Self {
            origin,
            kind,
            secret,
            fingerprint,
        }
    }

    /// Returns the id the server knows the link by.
    #[must_use]
    pub fn id(&self) -> InviteId {
        match self.kind {
            LinkKind::Invite(id) | LinkKind::Machine(id, _) => id,
            LinkKind::Bootstrap => self.secret.signing_key().invite_key().invite_id(),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (door, id) = match &self.kind {
            LinkKind::Invite(id) => ('i', id.to_string()),
            LinkKind::Bootstrap => ('i', BOOTSTRAP_ID.to_owned()),
            LinkKind::Machine(id, _) => ('m', id.to_string()),
        };
        let secret = Zeroizing::new(to_text(self.secret.as_bytes()));
        write!(
            f,
            "{}/{door}/{id}#1.{}.{}",
            self.origin, *secret, self.fingerprint
        )?;
        match &self.kind {
            LinkKind::Machine(_, user) => write!(f, ".{user}"),
            LinkKind::Invite(_) | LinkKind::Bootstrap => Ok(()),
        }
    }
}

impl FromStr for Link {
    type Err = BadLink;

    /// Reads a link. Its id must be that of its secret, so that a damaged link is noticed here.
    fn from_str(text: &str) -> Result<Self, BadLink> {
        parse(text.trim()).ok_or(BadLink)
    }
}

fn parse(text: &str) -> Option<Link> {
    if text.len() > LINK_BYTES_MAX {
        return None;
    }
    let (address, fragment) = text.split_once('#')?;
    let (rest, id) = address.rsplit_once('/')?;
    let (origin, door) = rest.rsplit_once('/')?;
    let (scheme, host) = origin.split_once("://")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]_".contains(c);
    if !matches!(scheme, "https" | "http") || host.is_empty() || !host.chars().all(plain) {
        return None;
    }
    let mut parts = fragment.split('.');
    let (Some("1"), Some(secret), Some(fingerprint)) = (parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let user = parts.next().map(str::parse::<UserId>).transpose().ok()?;
    if parts.next().is_some() {
        return None;
    }
    let bytes = Zeroizing::new(from_text(secret)?);
    let secret = LinkSecret::new(bytes.as_slice().try_into().ok()?);
    if from_text(fingerprint)?.len() != 16 {
        return None;
    }
    let kind = match (door, id, user) {
        ("i", BOOTSTRAP_ID, None) => LinkKind::Bootstrap,
        ("i", id, None) => LinkKind::Invite(id.parse().ok()?),
        ("m", id, Some(user)) => LinkKind::Machine(id.parse().ok()?, user),
        _ => return None,
    };
    let link = Link {
        origin: origin.to_owned(),
        kind,
        secret,
        fingerprint: fingerprint.to_owned(),
    };
    let derived = link.secret.signing_key().invite_key().invite_id();
    (link.id() == derived).then_some(link)
}

/// What an invite's key signs to join: it names the channel, the user with its identity head, and
/// the control record it follows, so that it is good for one join only.
#[must_use]
pub fn join_message(
    channel: &ChannelId,
    invite: &InviteId,
    user: &UserId,
    ident: &Head,
    ctl_head: &Head,
) -> Builder {
    Builder::labelled(label::JOIN)
        .raw(channel.as_bytes())
        .raw(invite.as_bytes())
        .raw(user.as_bytes())
        .u64(ident.n)
        .raw(ident.hash.as_bytes())
        .u64(ctl_head.n)
        .raw(ctl_head.hash.as_bytes())
}
