//! What a command can fail with: a code, a message, a hint, and the exit code of the process.
//!
//! Codes are those of the wire (`conclave_proto::reject::Code`) plus the few that only exist on this
//! machine; the table of exit codes is in docs/cli.md and never changes its meaning.

use conclave_client::ClientError;
use conclave_client::home::HomeError;
use conclave_client::owner::OwnerError;
use conclave_proto::link::DownReason;
use conclave_proto::name::BadName;
use conclave_proto::reject::{Code, Reject};
use std::borrow::Cow;
use std::fmt;

/// The exit code of the process. Values are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something failed that no other code names.
    Failure = 1,
    /// The command line or an argument is wrong.
    Usage = 2,
    /// It does not exist, or this user may not know that it does.
    NotFound = 3,
    /// The server understood and refused.
    Refused = 4,
    /// A key is not accepted or not the pinned one, or compared digits differ.
    Unauthorised = 5,
    /// No connection, or no answer in time.
    Offline = 6,
    /// Something else has taken the name, the handle or the place.
    Conflict = 7,
    /// Keys, configuration or disk of this machine.
    Local = 8,
}

/// What only exists on this machine; every other code is the wire's ([`Code`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// The command line or an argument is wrong.
    Usage,
    /// Several things are meant by one name.
    Ambiguous,
    /// The server's key, or a user's id, is not the pinned one.
    Pin,
    /// The server's address is taken.
    Listen,
    /// Keys, configuration or disk.
    Local,
    /// No such server is known.
    NoServer,
    /// The server's audit log was changed.
    Audit,
    /// The demo did not get through.
    Demo,
    /// Digits that two people compared are not the same.
    Mismatch,
    /// A human paused this machine.
    Paused,
}

impl Own {
    /// Every one.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 10] = [
        Self::Usage,
        Self::Ambiguous,
        Self::Pin,
        Self::Listen,
        Self::Local,
        Self::NoServer,
        Self::Audit,
        Self::Demo,
        Self::Mismatch,
        Self::Paused,
    ];

    /// Returns the word that programs see.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Ambiguous => "ambiguous",
            Self::Pin => "pin",
            Self::Listen => "listen",
            Self::Local => "local",
            Self::NoServer => "no_server",
            Self::Audit => "audit",
            Self::Demo => "demo",
            Self::Mismatch => "mismatch",
            Self::Paused => "paused",
        }
    }

    /// Returns how the process ends.
    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Usage | Self::Ambiguous => Exit::Usage,
            Self::Pin | Self::Mismatch => Exit::Unauthorised,
            Self::Listen => Exit::Conflict,
            Self::Local | Self::NoServer | Self::Paused => Exit::Local,
            Self::Audit | Self::Demo => Exit::Failure,
        }
    }
}

/// A command's failure, as people and programs see it.
#[derive(Debug)]
pub(crate) struct CliError {
    /// A stable word.
    pub(crate) code: Cow<'static, str>,
    /// What happened: lower case, no full stop.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// When trying again makes sense.
    pub(crate) retry_after_ms: Option<u64>,
    /// How the process ends.
    pub(crate) exit: Exit,
}

impl CliError {
    /// Makes an error of this machine's.
    pub(crate) fn own(own: Own, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(own.as_str()),
            message: message.into(),
            hint: None,
            retry_after_ms: None,
            exit: own.exit(),
        }
    }

    /// An argument that parses and yet makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::own(Own::Usage, message).hint("add --help to the command to see what it takes")
    }

    /// Keys, configuration or disk of this machine.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        Self::own(Own::Local, message)
            .hint("check this machine: owner, permissions and free space of what is named")
    }

    /// A code of the wire's table, with its hint.
    pub(crate) fn coded(code: &Code, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Owned(code.as_str().to_owned()),
            message: message.into(),
            hint: Some(code.hint().to_owned()),
            retry_after_ms: None,
            exit: exit_of(code),
        }
    }

    /// Says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<Reject> for CliError {
    fn from(reject: Reject) -> Self {
        let retry_after_ms = reject.retry_after_ms;
        Self {
            retry_after_ms,
            ..Self::coded(&reject.code, reject.message)
        }
    }
}

impl From<BadName> for CliError {
    fn from(bad: BadName) -> Self {
        Self::coded(&Code::NameInvalid, bad.to_string())
    }
}

/// Joins an error and its causes: "a: b: c".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Maps every code of the wire to an exit code.
pub(crate) fn exit_of(code: &Code) -> Exit {
    match code {
        Code::NameInvalid => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::Forbidden
        | Code::InviteInvalid
        | Code::RegistrationClosed
        | Code::TooLarge
        | Code::Frozen
        | Code::Mode
        | Code::RateLimited
        | Code::LimitReached
        | Code::InboxFull
        | Code::HopLimit
        | Code::StorageFull => Exit::Refused,
        Code::Unauthorized | Code::UnknownKey | Code::Origin => Exit::Unauthorised,
        Code::Offline | Code::Timeout | Code::Draining => Exit::Offline,
        Code::NameTaken
        | Code::HandleTaken
        | Code::CtlConflict
        | Code::StaleEpoch
        | Code::KeysPending
        | Code::CounterGap
        | Code::IdReuse
        | Code::VersionMismatch
        | Code::Claimed => Exit::Conflict,
        Code::Malformed | Code::UnknownOp | Code::Version | Code::Internal | Code::Unknown(_) => {
            Exit::Failure
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let own = match &error {
            ClientError::Home(_) | ClientError::Replica(_) => Some(Own::Local),
            ClientError::Down(DownReason::PinMismatch { .. }) | ClientError::PinChanged { .. } => {
                Some(Own::Pin)
            }
            ClientError::Ambiguous { .. } => Some(Own::Ambiguous),
            _ => None,
        };
        let exit = own.map_or_else(|| exit_of(&error.code()), Own::exit);
        let reject = error.to_reject();
        let hint = match error.hint() {
            none if none.is_empty() => "do what the message says, then try again".to_owned(),
            hint => hint,
        };
        Self {
            code: own.map_or_else(
                || Cow::Owned(error.code().as_str().to_owned()),
                |own| Cow::Borrowed(own.as_str()),
            ),
            message: own.map_or(reject.message, |_| chain(&error)),
            hint: Some(hint),
            retry_after_ms: reject.retry_after_ms,
            exit,
        }
    }
}

impl From<HomeError> for CliError {
    fn from(error: HomeError) -> Self {
        ClientError::from(error).into()
    }
}

impl From<OwnerError> for CliError {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Home(error) => error.into(),
            other => Self::coded(&Code::Unauthorized, other.to_string()).hint(
                "type the passphrase, or the recovery key that was shown when the account was made",
            ),
        }
    }
}
