//! Origins: the scheme, host and port by which a client dials a server, in the one form that is signed.
//!
//! Both sides put the origin into the handshake's transcript, so both read and write it here: lower
//! case, always with the port. It is also what the `Host` header is checked against.

use core::net::{IpAddr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

/// The port of a server when only a host is given.
pub const DEFAULT_PORT: u16 = 7420;

/// `http://host:port` or `https://host:port`; lower case, IPv6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    tls: bool,
    host: Box<str>,
    port: u16,
}

/// Why a text is no server address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrigin {
    /// Another scheme.
    #[error("\"{0}\" is no scheme of a server; write https://HOST, http://HOST or HOST:PORT")]
    Scheme(String),
    /// The host is missing or has impossible characters.
    #[error("a server address is a host and perhaps a port, like chat.example.org:7420")]
    Host,
    /// Not a port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A path, a query or a user stands in it.
    #[error("a server address has no path, query or user; write only https://HOST:PORT")]
    Extra,
}

impl Origin {
    /// Makes the origin of a known host name.
    #[must_use]
    pub fn new(tls: bool, host: &str, port: u16) -> Self {
        let host = host.to_ascii_lowercase().into();
        Self { tls, host, port }
    }

    /// Makes the origin of an address.
    #[must_use]
    pub fn of_ip(tls: bool, ip: IpAddr, port: u16) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::new(tls, &ip.to_string(), port),
            IpAddr::V6(ip) => Self::new(tls, &format!("[{ip}]"), port),
        }
    }

    /// Reads a URL, whose scheme must be there: `https://host[:port]`.
    ///
    /// # Errors
    /// [`BadOrigin`].
    pub fn from_url(text: &str) -> Result<Self, BadOrigin> {
        match text.split_once("://") {
            Some(_) => text.parse(),
            None => Err(BadOrigin::Scheme(String::new())),
        }
    }

    /// Returns whether a `Host` header names this origin.
    #[must_use]
    pub fn is_host(&self, header: &str) -> bool {
        split_authority(header).is_ok_and(|(host, port)| {
            host.eq_ignore_ascii_case(&self.host)
                && port.unwrap_or_else(|| self.usual_port()) == self.port
        })
    }

    /// Returns the form for links: without the port where it is the scheme's.
    #[must_use]
    pub fn short(&self) -> String {
        if self.port == self.usual_port() {
            format!("{}://{}", self.scheme(), self.host)
        } else {
            self.to_string()
        }
    }

    /// Returns the scheme's word.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    const fn usual_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }

    /// Returns whether the host is this machine, by address or as `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Returns whether connections use TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// Returns the host, IPv6 addresses in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host without brackets, for resolvers and certificates.
    #[must_use]
    pub fn bare_host(&self) -> &str {
        bare(&self.host)
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    /// Reads `ws|wss|http|https://host[:port][/]` (port 80 or 443) or `host[:port]` (port 7420; TLS
    /// unless the host is this machine).
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let text = text.trim();
        let (tls, rest) = match text.split_once("://") {
            None => (None, text),
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "https" | "wss" => (Some(true), rest),
                "http" | "ws" => (Some(false), rest),
                _ => return Err(BadOrigin::Scheme(scheme.chars().take(16).collect())),
            },
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(BadOrigin::Extra);
        }
        let (host, port) = split_authority(rest)?;
        let host = host.to_ascii_lowercase();
        let default = match tls {
            Some(true) => 443,
            Some(false) => 80,
            None => DEFAULT_PORT,
        };
        Ok(Self {
            tls: tls.unwrap_or_else(|| !is_loopback(&host)),
            host: host.into(),
            port: port.unwrap_or(default),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme(), self.host, self.port)
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || bare(host).parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Splits `host[:port]`; an IPv6 host keeps its brackets.
///
/// # Errors
/// [`BadOrigin::Host`], [`BadOrigin::Port`].
pub fn split_authority(text: &str) -> Result<(&str, Option<u16>), BadOrigin> {
    let end = if text.starts_with('[') {
        text.find(']').map(|at| at + 1).ok_or(BadOrigin::Host)?
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, port) = text.split_at_checked(end).ok_or(BadOrigin::Host)?;
    let valid = if host.starts_with('[') {
        bare(host).parse::<Ipv6Addr>().is_ok()
    } else {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        !host.is_empty() && host.bytes().all(plain)
    };
    if !valid {
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
