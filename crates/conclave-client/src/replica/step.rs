//! The ladder that a message climbs, for each recipient. Pure.

/// What became of a message for one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// It waits in this machine's outbox.
    Queued,
    /// The server has it on its disk.
    Stored,
    /// It is in the replica of the recipient's machine.
    Offered,
    /// The server does not keep it any more, and the recipient never had it.
    Expired,
    /// The server did not take it.
    Refused,
    /// The recipient's human muted the sender or the place.
    Blocked,
    /// The recipient's model has it.
    InContext,
    /// The recipient answered it.
    Answered,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Queued,
        Self::Stored,
        Self::Offered,
        Self::Expired,
        Self::Refused,
        Self::Blocked,
        Self::InContext,
        Self::Answered,
    ];

    /// Returns the word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Stored => "stored",
            Self::Offered => "offered",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
            Self::InContext => "in_context",
            Self::Answered => "answered",
        }
    }

    /// Returns its number in the replica; the schema knows these, too.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Queued => 0,
            Self::Stored => 1,
            Self::Offered => 2,
            Self::Expired => 3,
            Self::Refused => 4,
            Self::Blocked => 5,
            Self::InContext => 6,
            Self::Answered => 7,
        }
    }

    /// Reads a number of the replica.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.number() == number)
    }

    /// Returns whether evidence of `next` moves a message on from here. What the recipient itself says
    /// counts most: a cursor may pass a message that expired, and a receipt may come first.
    #[must_use]
    pub const fn leads_to(self, next: Self) -> bool {
        match next {
            Self::Queued => false,
            Self::Stored => matches!(self, Self::Queued | Self::Refused),
            Self::Offered | Self::Expired => matches!(self, Self::Queued | Self::Stored),
            Self::Refused => matches!(self, Self::Queued),
            Self::Blocked => !matches!(self, Self::Blocked | Self::InContext | Self::Answered),
            Self::InContext => !matches!(self, Self::InContext | Self::Answered),
            Self::Answered => !matches!(self, Self::Answered),
        }
    }

    /// Returns whether only the recipient's own word can move it on from here.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Queued | Self::Stored)
    }
}
