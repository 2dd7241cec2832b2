//! Why an identity record is refused.

use crate::reject::Code;

/// Why an identity record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// Not the canonical form of an identity record this version knows.
    #[error("the identity record is not well-formed")]
    Malformed,
    /// The owner's signature is not valid.
    #[error("the identity record's signature is not valid")]
    Signature,
    /// The new machine's signature is not valid.
    #[error("the machine's consent is not valid")]
    Consent,
    /// The signer is no owner of this identity now.
    #[error("the signer is not an owner of this identity")]
    NotOwner,
    /// Made for another server.
    #[error("the identity is for another server")]
    Server,
    /// Part of another user's log, or no genesis where one must be.
    #[error("the record is not of this identity")]
    User,
    /// Not the next record.
    #[error("the record does not follow record {0} of the identity")]
    Chain(u64),
    /// A reserved username.
    #[error("the name is reserved")]
    Reserved,
    /// Another active machine has the name, or a rotation changes it.
    #[error("the machine name is taken, or not the machine's own")]
    MachineName,
    /// The key is or was in use already.
    #[error("the key was used before")]
    KeyUsed,
    /// No such active machine or owner.
    #[error("no such machine or owner key")]
    NoSuchKey,
    /// The last owner key cannot be revoked.
    #[error("the last owner key cannot be revoked")]
    LastOwner,
    /// Too many machines or owners.
    #[error("too many machines or owner keys")]
    Limit,
}

impl BadIdentity {
    /// Returns the code to refuse the record with.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::Malformed | Self::Server | Self::User => Code::Malformed,
            Self::Signature | Self::Consent | Self::NotOwner => Code::Unauthorized,
            Self::Chain(_) => Code::CtlConflict,
            Self::Reserved => Code::NameInvalid,
            Self::MachineName => Code::NameTaken,
            Self::KeyUsed | Self::LastOwner => Code::Forbidden,
            Self::NoSuchKey => Code::NotFound,
            Self::Limit => Code::LimitReached,
        }
    }
}
