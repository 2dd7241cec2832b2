//! Why a call of the client fails, with the code and hint that tools and the command line show.

use crate::dial::DialError;
use crate::home::{HomeError, Profile};
use crate::origin::BadOrigin;
use crate::owner::{Owner, OwnerError};
use crate::replica::ReplicaError;
use conclave_proto::channel_log::CtlError;
use conclave_proto::identity_log::BadIdentity;
use conclave_proto::link::DownReason;
use conclave_proto::reject::{Code, Reject};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server, or this client in its place, refused.
    #[error(transparent)]
    Reject(#[from] Reject),
    /// The session ended or never began.
    #[error(transparent)]
    Down(#[from] DownReason),
    /// The server cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The local directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The owner key cannot be made, sealed or opened.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The address is no server's.
    #[error(transparent)]
    Origin(#[from] BadOrigin),
    /// The local database cannot be used.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The server shows an identity that is not valid.
    #[error("the server shows an identity that is not valid: {0}")]
    Identity(#[from] BadIdentity),
    /// The channel's rules forbid it, or the server shows a chain that breaks them.
    #[error("{0}")]
    Ctl(#[from] CtlError),
    /// A name stands for several things.
    #[error("\"{name}\" can be {}", candidates.join(" or "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it can be.
        candidates: Vec<String>,
    },
    /// There is nothing of that name here.
    #[error("no such {what}: {name}")]
    NotFound {
        /// What kind of thing.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// A user's name stands for another user than before.
    #[error("{what} {name} is not who it was: pinned {pinned}, now {presented}")]
    PinChanged {
        /// What kind of name.
        what: &'static str,
        /// The name.
        name: String,
        /// The id that is pinned.
        pinned: String,
        /// The id that was presented.
        presented: String,
    },
    /// The server shows another channel than the one the link was made for, or no sealed box with it.
    #[error("the server does not show the channel this link was made for")]
    InviteBox,
    /// The server shows less of a channel than it did before.
    #[error("the server has forgotten part of the channel, or hides it")]
    RolledBack,
    /// This machine has no account on the server.
    #[error("this machine has no account on {0}")]
    NoAccount(String),
    /// The owner key is needed, and was not given or is not the account's.
    #[error("this needs the owner key of the account")]
    OwnerKey,
    /// An account was made, or may have been, and what had to follow failed. Its owner key is nowhere
    /// else: hand it over, then try again.
    #[error("{cause}")]
    Unsettled {
        /// What failed.
        cause: Box<Self>,
        /// The account's owner key.
        owner: Box<Owner>,
        /// What was kept of the server.
        profile: Box<Profile>,
    },
    /// A link of another kind is needed.
    #[error("this link is for something else")]
    LinkKind,
    /// The server answered with something else than what was asked for.
    #[error("the server's answer does not fit the question")]
    Answer,
    /// The client was closed.
    #[error("the client was closed")]
    Closed,
}

impl ClientError {
    /// Returns the code that tools and the command line show.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Reject(reject) | Self::Down(DownReason::Refused(reject)) => reject.code.clone(),
            Self::Down(DownReason::Origin { .. }) => Code::Origin,
            Self::Down(DownReason::Version(_)) => Code::Version,
            Self::Down(DownReason::PinMismatch { .. } | DownReason::Unproven(_))
            | Self::PinChanged { .. }
            | Self::OwnerKey
            | Self::Identity(_) => Code::Unauthorized,
            Self::Down(_) | Self::Dial(_) | Self::Closed => Code::Offline,
            Self::Home(_) | Self::Replica(_) | Self::Owner(_) => Code::Internal,
            Self::Origin(_) => Code::Origin,
            Self::Ctl(error) => error.code(),
            Self::Ambiguous { .. } | Self::NotFound { .. } => Code::NotFound,
            Self::NoAccount(_) => Code::UnknownKey,
            Self::Unsettled { cause, .. } => cause.code(),
            Self::LinkKind | Self::InviteBox => Code::InviteInvalid,
            Self::Answer | Self::RolledBack => Code::Malformed,
        }
    }

    /// Returns what the caller can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            // Their texts say what to do.
            Self::Home(_) | Self::Dial(_) | Self::Owner(_) | Self::Origin(_) => String::new(),
            Self::Ambiguous { candidates, .. } => format!("name one of {}", candidates.join(", ")),
            Self::OwnerKey | Self::Ctl(CtlError::NeedsOwnerKey) => {
                "unlock the owner key with its passphrase or the recovery key".to_owned()
            }
            Self::InviteBox => {
                "ask for a new link on another way; if it happens again, do not trust this server"
                    .to_owned()
            }
            Self::RolledBack => {
                "ask the server's admin whether a backup was restored; compare `conclave verify #channel` with a peer"
                    .to_owned()
            }
            Self::PinChanged { .. } => {
                "ask the person on another way; a name never moves to somebody else here".to_owned()
            }
            Self::Down(DownReason::PinMismatch { .. }) => {
                "ask the server's admin; if it was set up anew, `conclave server remove` it first"
                    .to_owned()
            }
            _ => self.code().hint().to_owned(),
        }
    }

    /// Returns it as a refusal, for a tool's answer.
    #[must_use]
    pub fn to_reject(&self) -> Reject {
        match self {
            Self::Reject(reject) | Self::Down(DownReason::Refused(reject)) => reject.clone(),
            _ => Reject::new(self.code(), self.to_string()),
        }
    }
}
