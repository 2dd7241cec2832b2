//! What an operator can set, with its defaults, and the checks that make a configuration safe to run.
//!
//! A `Config` is plain data (TOML); nothing is opened or bound here. [`crate::Config::build`] does
//! that. Every rate of `[limits]` may be 0, which switches that limit off.

mod span;

use crate::origin::{BadOrigin, Origin};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use conclave_proto::origin::DEFAULT_PORT;
pub use span::{BadSpan, Span};

/// The configuration of one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything durable lives. Required unless `ephemeral`.
    pub data_dir: Option<PathBuf>,
    /// Keep everything in memory: gone with the process.
    pub ephemeral: bool,
    /// Where to listen. Wider than loopback needs a certificate, `self_signed` or `behind_proxy`.
    pub listen: SocketAddr,
    /// PEM file with the certificate chain, leaf first.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    pub tls_key: Option<PathBuf>,
    /// Make a self-signed certificate, kept in the data directory; clients pin the server key.
    pub self_signed: bool,
    /// A proxy in front of this server ends TLS.
    pub behind_proxy: bool,
    /// Addresses whose `X-Forwarded-For` counts, besides loopback, with `behind_proxy`.
    pub proxies: Vec<IpAddr>,
    /// URLs by which clients reach this server, besides the loopback names.
    pub public_urls: Vec<String>,
    /// Web origins whose browsers may open the WebSocket. None by default.
    pub browser_origins: Vec<String>,
    /// Who may make an account.
    pub registration: Registration,
    /// Whose channel invites may also make accounts.
    pub invite: Who,
    /// Who may create channels.
    pub create: Who,
    /// How long messages are kept: `"30d"`, `"12h"`, `"15m"` or `"90s"`; `"0d"` keeps them for ever. The
    /// older name `message_retention_days` is taken too, and a number is days.
    #[serde(alias = "message_retention_days")]
    pub message_retention: Span,
    /// How long whispers and receipts wait for their recipient; the older name is
    /// `whisper_retention_days`.
    #[serde(alias = "whisper_retention_days")]
    pub whisper_retention: Span,
    /// With less free disk than so many MiB nothing is appended, and reads go on; 0 switches it off.
    pub disk_floor_mib: u64,
    /// Who may read `/metrics`.
    pub metrics: Metrics,
    /// Bounds and rates.
    pub limits: Limits,
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    /// Holders of an invite link.
    #[default]
    Invite,
    /// Anybody, under any free name.
    Open,
    /// Nobody.
    Closed,
}

/// Whom a permission extends to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// Every user of the server.
    #[default]
    Members,
    /// Server admins only.
    Admins,
}

/// Who may read `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metrics {
    /// Nobody.
    Off,
    /// Direct connections from loopback addresses.
    #[default]
    Loopback,
    /// Everybody who reaches the port.
    Anyone,
}

/// Bounds and rates; 0 switches a rate off. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections in total.
    pub connections: usize,
    /// Connections that have not authenticated yet.
    pub unauthenticated: usize,
    /// Connections of one address (IPv6: one /64) that have not authenticated yet.
    pub unauthenticated_per_ip: usize,
    /// Connections of one user.
    pub connections_per_user: usize,
    /// Sessions of one machine.
    pub sessions_per_machine: usize,
    /// Failed authentications a minute from one address.
    pub auth_failures_per_minute: u32,
    /// Failed authentications a minute of one machine key; each one after doubles the wait, up to an hour.
    pub key_failures_per_minute: u32,
    /// Attempts a minute to join: with an invite of one address before it has an account, then of one user.
    pub joins_per_minute: u32,
    /// New accounts an hour from one address, with open registration.
    pub registrations_per_hour: u32,
    /// Appends a second of one session, after the burst.
    pub sends_per_second: u32,
    /// Appends of one session that may come at once.
    pub sends_burst: u32,
    /// Appends a minute of one user to one channel.
    pub sends_per_channel_minute: u32,
    /// Megabytes a day that one user may append, wraps of channel keys included.
    pub send_mb_per_day: u64,
    /// Machines of all members of one channel together.
    pub machines_per_channel: usize,
    /// Channels one user may be a member of.
    pub channels_per_user: usize,
    /// Whispers and receipts one mailbox holds; receipts are taken while it is not half full.
    pub mailbox_items: u32,
    /// Bytes one mailbox holds, in KiB.
    pub mailbox_kib: u32,
    /// From accept to the end of the TLS handshake.
    pub tls_timeout_ms: u64,
    /// From there to the end of the HTTP header.
    pub header_timeout_ms: u64,
    /// How long a client may leave the server's bytes unread before it is dropped.
    pub write_timeout_ms: u64,
    /// How long the drain at shutdown may take.
    pub drain_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            unauthenticated: 64,
            unauthenticated_per_ip: 8,
            connections_per_user: 50,
            sessions_per_machine: 32,
            auth_failures_per_minute: 10,
            key_failures_per_minute: 5,
            joins_per_minute: 10,
            registrations_per_hour: 3,
            sends_per_second: 10,
            sends_burst: 50,
            sends_per_channel_minute: 120,
            send_mb_per_day: 50,
            machines_per_channel: 1_000,
            channels_per_user: 200,
            mailbox_items: 1_000,
            mailbox_kib: 16 * 1024,
            tls_timeout_ms: 5_000,
            header_timeout_ms: 5_000,
            write_timeout_ms: 10_000,
            drain_timeout_ms: 5_000,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: None,
            ephemeral: false,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            tls_cert: None,
            tls_key: None,
            self_signed: false,
            behind_proxy: false,
            proxies: Vec::new(),
            public_urls: Vec::new(),
            browser_origins: Vec::new(),
            registration: Registration::default(),
            invite: Who::default(),
            create: Who::default(),
            message_retention: Span::days(30),
            whisper_retention: Span::days(14),
            disk_floor_mib: 512,
            metrics: Metrics::default(),
            limits: Limits::default(),
        }
    }
}

/// Why a configuration is not run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, or not of the expected shape.
    #[error("the configuration does not parse")]
    Parse(#[source] toml::de::Error),
    /// Neither a data directory nor `ephemeral`.
    #[error("no data directory is set, and the server was not told to be ephemeral")]
    NoDataDir,
    /// Both.
    #[error("a data directory is set, and the server was told to be ephemeral")]
    Both,
    /// Listening wider than loopback in clear text.
    #[error(
        "{0} can be reached from other machines, and nothing protects the connection: \
         give a certificate, ask for a self-signed one, or say that a proxy in front ends TLS"
    )]
    Unprotected(SocketAddr),
    /// Only one of certificate and key.
    #[error("a certificate needs its key file and the reverse")]
    HalfCertificate,
    /// TLS would end twice.
    #[error("a server behind a proxy that ends TLS has no certificate of its own")]
    CertificateBehindProxy,
    /// A public URL is no origin.
    #[error("the public URL \"{url}\" is not usable")]
    PublicUrl {
        /// As configured.
        url: String,
        /// Why.
        #[source]
        source: BadOrigin,
    },
    /// A connection bound of zero would let nobody in.
    #[error("limits.{0} must be at least 1")]
    Zero(&'static str),
}

/// How connections are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Clear text: loopback, or behind a proxy.
    Clear,
    /// A certificate from files.
    Files {
        /// The chain.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// A self-signed certificate.
    SelfSigned,
}

impl Config {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// [`ConfigError::Parse`].
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(ConfigError::Parse)
    }

    /// Returns a configuration that keeps everything in memory, on a free loopback port.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self {
            ephemeral: true,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            ..Self::default()
        }
    }

    /// Returns a configuration with this data directory.
    #[must_use]
    pub fn in_dir(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: Some(data_dir.into()),
            ..Self::default()
        }
    }

    /// Returns the data directory, or `None` for an ephemeral server.
    pub(crate) fn storage(&self) -> Result<Option<&Path>, ConfigError> {
        match (self.data_dir.as_deref(), self.ephemeral) {
            (Some(dir), false) => Ok(Some(dir)),
            (None, true) => Ok(None),
            (None, false) => Err(ConfigError::NoDataDir),
            (Some(_), true) => Err(ConfigError::Both),
        }
    }

    /// Returns how connections are protected; refuses clear text on anything but loopback.
    pub(crate) fn protection(&self) -> Result<Protection, ConfigError> {
        let own = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Protection::Files {
                cert: cert.clone(),
                key: key.clone(),
            },
            (None, None) if self.self_signed => Protection::SelfSigned,
            (None, None) => Protection::Clear,
            _ => return Err(ConfigError::HalfCertificate),
        };
        if own == Protection::Clear {
            if !self.listen.ip().is_loopback() && !self.behind_proxy {
                return Err(ConfigError::Unprotected(self.listen));
            }
        } else if self.behind_proxy {
            return Err(ConfigError::CertificateBehindProxy);
        }
        Ok(own)
    }

    /// Returns every origin clients may dial, the preferred one first, once the port is known.
    pub(crate) fn origins(&self, bound: SocketAddr) -> Result<Vec<Origin>, ConfigError> {
        let tls = match self.protection()? {
            Protection::Clear => false,
            Protection::Files { .. } | Protection::SelfSigned => true,
        };
        let mut origins = Vec::new();
        for url in &self.public_urls {
            let origin = Origin::from_url(url).map_err(|source| ConfigError::PublicUrl {
                url: url.clone(),
                source,
            })?;
            origins.push(origin);
        }
        let ip = bound.ip();
        if !ip.is_unspecified() {
            origins.push(Origin::of_ip(tls, ip, bound.port()));
        }
        for name in ["127.0.0.1", "localhost", "[::1]"] {
            origins.push(Origin::new(tls, name, bound.port()));
        }
        let mut seen = std::collections::HashSet::new();
        origins.retain(|origin| seen.insert(origin.clone()));
        Ok(origins)
    }

    /// Checks everything that can be checked before anything is opened.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        self.storage()?;
        self.origins(self.listen)?;
        let limits = [
            ("connections", self.limits.connections),
            ("unauthenticated", self.limits.unauthenticated),
        ];
        match limits.into_iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(ConfigError::Zero(name)),
            None => Ok(()),
        }
    }
}
