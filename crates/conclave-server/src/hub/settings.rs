//! What the hub can be told to do differently.

use conclave_proto::id::ServerId;
use conclave_proto::key::{InviteKey, Secret};
use conclave_proto::time::UnixMs;

/// The hub's settings; the server's configuration makes them.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This server: the hash of its first key.
    pub server_id: ServerId,
    /// The server's key, for audit checkpoints.
    pub secret: Secret,
    /// Who may make an account.
    pub registration: Registration,
    /// Whose channel invites make accounts too.
    pub account_invites: Who,
    /// Who may create channels.
    pub create_channels: Who,
    /// How long messages are kept, in milliseconds; 0 keeps them for ever.
    pub message_retention_ms: u64,
    /// How long whispers wait, in milliseconds; 0 keeps them for ever.
    pub whisper_retention_ms: u64,
    /// How many entries a session may append per second, in the long run; 0 switches the limit off.
    pub appends_per_s: u32,
    /// How many it may append at once.
    pub append_burst: u32,
    /// How many entries a user may append to one channel in a minute; 0 switches the limit off.
    pub appends_per_channel_minute: u32,
    /// How many bytes of envelopes a user may append in a day; 0 switches the limit off.
    pub bytes_per_day: u64,
    /// How often a user may try to join a channel in a minute; 0 switches the limit off.
    pub joins_per_minute: u32,
    /// How many authentications of one machine key may fail in a minute before it has to wait, twice
    /// as long each time; 0 switches the limit off.
    pub key_failures_per_minute: u32,
    /// How many whispers wait in one mailbox at most.
    pub mailbox_items_max: u32,
    /// How many bytes wait in one mailbox at most.
    pub mailbox_bytes_max: u64,
    /// How many sessions one machine can have at a time.
    pub sessions_per_machine_max: usize,
    /// How many connections one user can have at a time; 0 switches the limit off.
    pub connections_per_user_max: usize,
    /// How many machines the members of one channel can have together; 0 switches the limit off.
    pub machines_per_channel_max: usize,
    /// How many channels one user can be a member of.
    pub channels_per_user_max: usize,
    /// Below so many free bytes of disk nothing is appended; 0 switches the floor off.
    pub disk_floor_bytes: u64,
    /// The one-time link that makes the first admin, while there is none.
    pub bootstrap: Option<Bootstrap>,
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// Anybody.
    Open,
    /// Who has an invite.
    #[default]
    Invite,
    /// Nobody, apart from the bootstrap link.
    Closed,
}

/// Everybody with an account, or server admins only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Every user.
    #[default]
    Members,
    /// Server admins.
    Admins,
}

/// The link that makes the first admin.
#[derive(Clone, Copy, Debug)]
pub struct Bootstrap {
    /// Its public key.
    pub key: InviteKey,
    /// When it lapses.
    pub expires: UnixMs,
}

impl Settings {
    /// Returns the defaults for a server with this key.
    #[must_use]
    pub fn new(server_id: ServerId, secret: Secret) -> Self {
        const DAY_MS: u64 = 86_400_000;
        Self {
            server_id,
            secret,
            registration: Registration::default(),
            account_invites: Who::default(),
            create_channels: Who::default(),
            message_retention_ms: 30 * DAY_MS,
            whisper_retention_ms: 14 * DAY_MS,
            appends_per_s: 0,
            append_burst: 50,
            appends_per_channel_minute: 0,
            bytes_per_day: 0,
            joins_per_minute: 0,
            key_failures_per_minute: 0,
            mailbox_items_max: 1_000,
            mailbox_bytes_max: 16 * 1024 * 1024,
            sessions_per_machine_max: 32,
            connections_per_user_max: 0,
            machines_per_channel_max: 0,
            channels_per_user_max: 200,
            disk_floor_bytes: 0,
            bootstrap: None,
        }
    }
}
