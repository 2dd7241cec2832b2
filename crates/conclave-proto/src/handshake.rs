//! The mutual handshake: what is signed, and what each side checks (SECURITY D.1, DECISIONS 10).
//!
//! Both sides build the same [`Transcript`]; a relayed, replayed or stripped handshake gives another
//! one, and the signatures do not verify. Pure: nonces come in as arguments.

use crate::bytes::{Builder, Reader};
use crate::frame::{Auth, Challenge, Hello};
use crate::id::{Blob, Hash, InviteId, ServerId, UserId};
use crate::key::{
    BadSignature, EncryptionKey, InviteKey, MachineKey, OwnerKey, Secret, ServerKey, Signature,
    Verify as _, label, labelled_hash,
};
use crate::name::Name;

/// The channel binding when TLS ends in our own process (RFC 9266).
pub const BINDING_EXPORTER: &str = "tls-exporter";
/// No channel binding: loopback, or a proxy that the server's configuration names.
pub const BINDING_NONE: &str = "none";
/// The exporter's label (RFC 9266); the output has 32 bytes, the context is empty.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// What ties a handshake to the transport under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `none`.
    None,
    /// `tls-exporter`, with the exporter's output.
    Exporter([u8; 32]),
}

impl Binding {
    /// Returns the word on the wire.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::None => BINDING_NONE,
            Self::Exporter(_) => BINDING_EXPORTER,
        }
    }

    /// Returns what goes into the transcript.
    #[must_use]
    pub const fn data(&self) -> &[u8] {
        match self {
            Self::None => &[],
            Self::Exporter(bytes) => bytes,
        }
    }
}

/// Everything both sides saw, hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript(Hash);

impl Transcript {
    /// Builds the transcript of a hello and its challenge (whose `sig` is not part of it).
    /// `binding_data` is the exporter's 32 bytes, or empty.
    #[must_use]
    pub fn new(hello: &Hello, challenge: &Challenge, binding_data: &[u8]) -> Self {
        let versions: Vec<u8> = hello
            .versions
            .iter()
            .flat_map(|v| v.to_be_bytes())
            .collect();
        let hash = Builder::labelled("conclave/v1/hs")
            .lp(&versions)
            .u16(challenge.version)
            .lp(challenge.origin.as_bytes())
            .lp(challenge.key.as_bytes())
            .lp(hello.nonce.as_bytes())
            .lp(challenge.nonce.as_bytes())
            .lp(hello.key.as_bytes())
            .lp(hello.handle.as_str().as_bytes())
            .lp(hello.instance.as_bytes())
            .u8(u8::from(hello.pinned))
            .lp(challenge.binding.as_bytes())
            .lp(binding_data)
            .sha256();
        Self(hash)
    }

    /// Signs as the server.
    #[must_use]
    pub fn sign_server(&self, secret: &Secret) -> Signature {
        secret.sign(labelled_hash(label::HANDSHAKE_SERVER, &self.0))
    }

    /// Checks the server's signature.
    ///
    /// # Errors
    /// [`BadSignature`].
    pub fn verify_server(&self, key: &ServerKey, sig: &Signature) -> Result<(), BadSignature> {
        key.verify(labelled_hash(label::HANDSHAKE_SERVER, &self.0), sig)
    }

    /// Signs as the client and returns the `auth` frame.
    #[must_use]
    pub fn sign_client(&self, mode: &Mode, secret: &Secret) -> Auth {
        let body = mode.body();
        let sig = secret.sign(labelled_hash(
            label::HANDSHAKE_CLIENT,
            &self.client(mode.word(), &body),
        ));
        Auth {
            mode: mode.word().to_owned(),
            body,
            sig,
        }
    }

    /// Checks the client's signature and reads its mode.
    ///
    /// # Errors
    /// [`BadAuth`].
    pub fn verify_client(&self, key: &MachineKey, auth: &Auth) -> Result<Mode, BadAuth> {
        let hash = self.client(&auth.mode, &auth.body);
        key.verify(labelled_hash(label::HANDSHAKE_CLIENT, &hash), &auth.sig)?;
        Mode::parse(&auth.mode, &auth.body).ok_or(BadAuth::Mode)
    }

    fn client(&self, mode: &str, body: &[u8]) -> Hash {
        Builder::default()
            .raw(self.0.as_bytes())
            .lp(mode.as_bytes())
            .raw(crate::bytes::sha256(body).as_bytes())
            .sha256()
    }
}

/// Why an `auth` frame is refused before anything is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAuth {
    /// The signature does not fit the transcript.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The mode is unknown or its body is not well-formed.
    #[error("the mode is not known or its body is not well-formed")]
    Mode,
}

/// What a client wants of the handshake. The body is part of what it signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `auth`, empty body: an enrolled machine.
    Auth,
    /// `register`, body: the genesis record. A new account on a server with open registration.
    Register {
        /// The first record of the new identity log.
        genesis: Blob,
    },
    /// `redeem`, body: `invite_key[32] ‖ invite_sig[64] ‖ genesis`. A new account by invite link.
    Redeem {
        /// The invite's public key.
        invite: InviteKey,
        /// By that key: [`redeem_message`].
        sig: Signature,
        /// The first record of the new identity log.
        genesis: Blob,
    },
    /// `enrol`, body: `enrolment_id[16] ‖ lp(name) ‖ ek[32] ‖ consent[64] ‖ proof[64]`. A new machine
    /// of an existing account; `ready` comes when the owner has signed it in.
    Enrol {
        /// The enrolment the link names.
        enrolment: InviteId,
        /// The machine name it wants.
        name: Name,
        /// Its encryption key.
        encryption_key: EncryptionKey,
        /// By the machine key: [`enrolment_message`].
        consent: Signature,
        /// By the link's key: [`enrolment_message`].
        proof: Signature,
    },
    /// `recover`, body: `lp(username) ‖ lp(machine name) ‖ owner_key[32] ‖ sig[64]`. An account whose
    /// machines are all lost. The session may only read and extend its own identity log.
    Recover {
        /// Whose account.
        username: Name,
        /// The machine name it wants.
        machine: Name,
        /// An active owner key of the account.
        owner: OwnerKey,
        /// By that key: [`recover_message`].
        sig: Signature,
    },
}

impl Mode {
    /// Returns the word on the wire.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Register { .. } => "register",
            Self::Redeem { .. } => "redeem",
            Self::Enrol { .. } => "enrol",
            Self::Recover { .. } => "recover",
        }
    }

    fn body(&self) -> Blob {
        match self {
            Self::Auth => Blob::default(),
            Self::Register { genesis } => genesis.clone(),
            Self::Redeem {
                invite,
                sig,
                genesis,
            } => Builder::default()
                .raw(invite.as_bytes())
                .raw(sig.as_bytes())
                .raw(genesis)
                .into_vec()
                .into(),
            Self::Enrol {
                enrolment,
                name,
                encryption_key,
                consent,
                proof,
            } => Builder::default()
                .raw(enrolment.as_bytes())
                .lp(name.as_str().as_bytes())
                .raw(encryption_key.as_bytes())
                .raw(consent.as_bytes())
                .raw(proof.as_bytes())
                .into_vec()
                .into(),
            Self::Recover {
                username,
                machine,
                owner,
                sig,
            } => Builder::default()
                .lp(username.as_str().as_bytes())
                .lp(machine.as_str().as_bytes())
                .raw(owner.as_bytes())
                .raw(sig.as_bytes())
                .into_vec()
                .into(),
        }
    }

    fn parse(word: &str, body: &Blob) -> Option<Self> {
        let mut r = Reader::new(body);
        match word {
            "auth" => body.is_empty().then_some(Self::Auth),
            "register" => Some(Self::Register {
                genesis: body.clone(),
            }),
            "redeem" => Some(Self::Redeem {
                invite: InviteKey::new(r.array()?),
                sig: Signature::new(r.array()?),
                genesis: r.rest().into(),
            }),
            "enrol" => {
                let mode = Self::Enrol {
                    enrolment: InviteId::new(r.array()?),
                    name: name(r.lp()?)?,
                    encryption_key: EncryptionKey::new(r.array()?),
                    consent: Signature::new(r.array()?),
                    proof: Signature::new(r.array()?),
                };
                r.is_empty().then_some(mode)
            }
            "recover" => {
                let mode = Self::Recover {
                    username: name(r.lp()?)?,
                    machine: name(r.lp()?)?,
                    owner: OwnerKey::new(r.array()?),
                    sig: Signature::new(r.array()?),
                };
                r.is_empty().then_some(mode)
            }
            _ => None,
        }
    }
}

fn name(bytes: &[u8]) -> Option<Name> {
    Name::new(std::str::from_utf8(bytes).ok()?).ok()
}

/// What an invite's key signs to make an account: it names the server, the invite and the user, so
/// that nobody can use the signature for anybody else.
#[must_use]
pub fn redeem_message(server: &ServerId, invite: &InviteKey, user: &UserId) -> Builder {
    Builder::labelled(label::REDEEM)
        .raw(server.as_bytes())
        .raw(invite.as_bytes())
        .raw(user.as_bytes())
}

/// What an owner key signs to come back without any machine. The machine key's own signature, over the
/// transcript, makes it good for one connection only.
#[must_use]
pub fn recover_message(
    server: &ServerId,
    key: &MachineKey,
    username: &Name,
    machine: &Name,
) -> Builder {
    Builder::labelled(label::RECOVER)
        .raw(server.as_bytes())
        .raw(key.as_bytes())
        .lp(username.as_str().as_bytes())
        .lp(machine.as_str().as_bytes())
}

/// What a new machine's key and the enrolment link's key sign.
#[must_use]
pub fn enrolment_message(
    user: &UserId,
    name: &Name,
    key: &MachineKey,
    encryption_key: &EncryptionKey,
) -> Builder {
    Builder::labelled(label::ENROLMENT)
        .raw(user.as_bytes())
        .lp(name.as_str().as_bytes())
        .raw(key.as_bytes())
        .raw(encryption_key.as_bytes())
}

/// What the enrolment link's key signs to open it: that it is for this user.
#[must_use]
pub fn enrol_open_message(user: &UserId) -> Builder {
    Builder::labelled(label::ENROLMENT).raw(user.as_bytes())
}
