//! Why a connection ends: WebSocket close codes of the private range, one meaning each.

/// A WebSocket close code of ours (4000 to 4999), or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// 1000: one side is done.
    Normal,
    /// 4000: a frame broke the protocol.
    Malformed,
    /// 4001: the handshake failed or took too long.
    Unauthorized,
    /// 4002: the same instance connected again and took this place over.
    Superseded,
    /// 4003: the machine or user was revoked.
    Revoked,
    /// 4004: no sign of life for too long.
    Silent,
    /// 4005: the peer does not read.
    Slow,
    /// 4006: the server is draining; reconnect after the delay it named.
    Draining,
    /// 4007: the server restarted its hub after a commit whose outcome is unknown.
    Restarted,
    /// Any other code.
    Other(u16),
}

impl Close {
    /// Returns the code on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::Malformed => 4000,
            Self::Unauthorized => 4001,
            Self::Superseded => 4002,
            Self::Revoked => 4003,
            Self::Silent => 4004,
            Self::Slow => 4005,
            Self::Draining => 4006,
            Self::Restarted => 4007,
            Self::Other(code) => code,
        }
    }

    /// Returns whether the client should stay away instead of reconnecting.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Superseded | Self::Revoked | Self::Unauthorized)
    }
}

impl From<u16> for Close {
    fn from(code: u16) -> Self {
        match code {
            1000 => Self::Normal,
            4000 => Self::Malformed,
            4001 => Self::Unauthorized,
            4002 => Self::Superseded,
            4003 => Self::Revoked,
            4004 => Self::Silent,
            4005 => Self::Slow,
            4006 => Self::Draining,
            4007 => Self::Restarted,
            other => Self::Other(other),
        }
    }
}
