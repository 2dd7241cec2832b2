//! Origins: the scheme, host and port by which a client dials a server.
//!
//! The origin is part of what both sides sign, so both must write it the same way: lower case, and
//! always with the port. It is also what the `Host` header is checked against.

use std::fmt;
use std::net::IpAddr;

/// `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: &'static str,
    host: Box<str>,
    port: u16,
}

/// Why a text is no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// Not `http://` or `https://`.
    #[error("it must start with https:// or http://")]
    Scheme,
    /// Something besides host and port.
    #[error("it must name a host and may name a port, nothing else")]
    Host,
    /// Not a port.
    #[error("its port is not a number from 1 to 65535")]
    Port,
}

impl Origin {
    pub(crate) fn new(scheme: &'static str, host: &str, port: u16) -> Self {
        Self {
            scheme,
            host: host.to_ascii_lowercase().into(),
            port,
        }
    }

    pub(crate) fn of_ip(scheme: &'static str, ip: IpAddr, port: u16) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::new(scheme, &ip.to_string(), port),
            IpAddr::V6(ip) => Self::new(scheme, &format!("[{ip}]"), port),
        }
    }

    /// Reads an origin; a trailing slash is allowed, a missing port is the scheme's.
    ///
    /// # Errors
    /// [`BadOrigin`].
    pub fn parse(text: &str) -> Result<Self, BadOrigin> {
        let (scheme, rest, default) = if let Some(rest) = text.strip_prefix("https://") {
            ("https", rest, 443)
        } else if let Some(rest) = text.strip_prefix("http://") {
            ("http", rest, 80)
        } else {
            return Err(BadOrigin::Scheme);
        };
        let (host, port) = split_authority(rest.strip_suffix('/').unwrap_or(rest))?;
        Ok(Self::new(scheme, host, port.unwrap_or(default)))
    }

    /// Returns whether a `Host` header names this origin.
    pub(crate) fn is_host(&self, header: &str) -> bool {
        let default = if self.is_https() { 443 } else { 80 };
        split_authority(header).is_ok_and(|(host, port)| {
            host.eq_ignore_ascii_case(&self.host) && port.unwrap_or(default) == self.port
        })
    }

    /// Returns whether connections to it are protected by TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    /// Returns the form for links: without the port where it is the scheme's.
    #[must_use]
    pub fn short(&self) -> String {
        let default = if self.is_https() { 443 } else { 80 };
        if self.port == default {
            format!("{}://{}", self.scheme, self.host)
        } else {
            self.to_string()
        }
    }

    /// Returns the host, IPv6 addresses in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

fn split_authority(text: &str) -> Result<(&str, Option<u16>), BadOrigin> {
    let end = if text.starts_with('[') {
        text.find(']').map(|at| at + 1).ok_or(BadOrigin::Host)?
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, port) = text.split_at_checked(end).ok_or(BadOrigin::Host)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    if host.is_empty() || !host.bytes().all(plain) {
        return Err(BadOrigin::Host);
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        None => Err(BadOrigin::Host),
        Some(digits) => match digits.parse() {
            Ok(0) | Err(_) => Err(BadOrigin::Port),
            Ok(port) => Ok((host, Some(port))),
        },
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}
