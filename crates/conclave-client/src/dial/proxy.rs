//! The way through an HTTP proxy, by CONNECT: which origins take it, and the request.
//!
//! Plain connections stay on this machine and never take a proxy, so `HTTP_PROXY` has no use here.

use super::{DialError, connect_tcp, safe};
use crate::origin::{Origin, split_authority};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// The most bytes of a proxy's answer.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const DEFAULT_PORT: u16 = 80;

/// The proxy settings of this process. Never printed: they may hold a password.
#[derive(Clone, Default)]
pub struct Proxies {
    https: Option<Zeroizing<String>>,
    no_proxy: String,
}

impl Proxies {
    /// Makes the settings that say: `https` for every origin but those in `no_proxy`.
    #[must_use]
    pub fn new(https: &str, no_proxy: &str) -> Self {
        let https = https.trim();
        Self {
            https: (!https.is_empty()).then(|| Zeroizing::new(https.to_owned())),
            no_proxy: no_proxy.to_owned(),
        }
    }

    /// Reads `HTTPS_PROXY` and `NO_PROXY`, in lower case first.
    #[must_use]
    pub fn from_env() -> Self {
        let read = |lower: &str, upper: &str| {
            std::env::var(lower)
                .or_else(|_| std::env::var(upper))
                .unwrap_or_default()
        };
        let https = Zeroizing::new(read("https_proxy", "HTTPS_PROXY"));
        Self::new(&https, &read("no_proxy", "NO_PROXY"))
    }

    /// Returns the proxy on the way to `origin`, if there is one.
    pub(super) fn of(&self, origin: &Origin) -> Result<Option<Proxy>, DialError> {
        match &self.https {
            Some(url) if origin.is_tls() && !origin.is_loopback() && !self.spares(origin) => {
                Proxy::parse(url).ok_or(DialError::BadProxy).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn spares(&self, origin: &Origin) -> bool {
        let host = origin.bare_host();
        self.no_proxy.split(',').map(str::trim).any(|entry| {
            let entry = entry.to_ascii_lowercase();
            let (name, port) = split_authority(&entry).unwrap_or((&entry, None));
            let name = name.trim_start_matches("*.").trim_start_matches('.');
            let name = name.trim_matches(['[', ']']);
            let below = || host.strip_suffix(name).is_some_and(|h| h.ends_with('.'));
            name == "*"
                || !name.is_empty()
                    && port.is_none_or(|port| port == origin.port())
                    && (host == name || below())
        })
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.https {
            Some(_) => "Proxies(set)",
            None => "Proxies(none)",
        })
    }
}

/// One HTTP proxy.
pub(super) struct Proxy {
    host: String,
    port: u16,
    /// `user:password` in base64.
    basic: Option<Zeroizing<String>>,
}

impl Proxy {
    fn parse(url: &str) -> Option<Self> {
        let rest = match url.split_once("://") {
            None => url,
            Some((scheme, rest)) => scheme.eq_ignore_ascii_case("http").then_some(rest)?,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, authority) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((user, authority)) => (Some(user), authority),
        };
        let (host, port) = split_authority(authority).ok()?;
        let basic = match user {
            None => None,
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                let mut pair = Zeroizing::new(percent_decoded(name)?);
                pair.push(b':');
                pair.extend_from_slice(&Zeroizing::new(percent_decoded(password)?));
                Some(Zeroizing::new(STANDARD.encode(&*pair)))
            }
        };
        Some(Self {
            host: host.to_owned(),
            port: port.unwrap_or(DEFAULT_PORT),
            basic,
        })
    }

    /// Opens a tunnel to `origin`.
    pub(super) async fn connect(&self, origin: &Origin) -> Result<TcpStream, DialError> {
        let failed = |why: String| DialError::Proxy {
            proxy: format!("{}:{}", self.host, self.port),
            why,
        };
        let mut tcp = connect_tcp(self.host.trim_matches(['[', ']']), self.port).await?;
        let to = format!("{}:{}", origin.host(), origin.port());
        let auth = self
            .basic
            .as_ref()
            .map_or_else(Zeroizing::default, |basic| {
                Zeroizing::new(format!("Proxy-Authorization: Basic {}\r\n", **basic))
            });
        let request = Zeroizing::new(format!(
            "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{}\r\n",
            *auth
        ));
        tcp.write_all(request.as_bytes())
            .await
            .map_err(|e| failed(e.to_string()))?;
        let head = read_head(&mut tcp).await.map_err(failed)?;
        let line = head.lines().next().unwrap_or_default();
        match line.split(' ').nth(1) {
            _ if !line.starts_with("HTTP/1.") => Err(failed("it is no HTTP proxy".to_owned())),
            Some(status) if status.len() == 3 && status.starts_with('2') => Ok(tcp),
            Some("407") => Err(failed(
                "it wants other credentials; put them into HTTPS_PROXY".to_owned(),
            )),
            _ => Err(failed(format!("it answered \"{}\"", safe(line)))),
        }
    }
}

/// Reads the head of the answer and not a byte more: what follows belongs to TLS.
async fn read_head(tcp: &mut TcpStream) -> Result<String, String> {
    let mut head = Vec::with_capacity(512);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err("its answer is too long".to_owned());
        }
        head.push(tcp.read_u8().await.map_err(|e| e.to_string())?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            let hex = std::str::from_utf8(&hex).ok()?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_spares_hosts_and_what_is_below_them() {
        let spares = |no_proxy: &str, origin: &str| {
            Proxies::new("http://proxy.test", no_proxy).spares(&origin.parse().unwrap())
        };
        for no_proxy in [
            "chat.test",
            " .Chat.test:7420, x",
            "*.chat.test",
            "test",
            "*",
        ] {
            assert!(spares(no_proxy, "https://chat.test:7420"), "{no_proxy}");
            assert!(spares(no_proxy, "https://eu.chat.test:7420"), "{no_proxy}");
        }
        assert!(spares("[2001:db8::1]", "https://[2001:db8::1]"));
        for no_proxy in ["", ",", "eu.chat.test", "hat.test", "chat.test:443"] {
            assert!(!spares(no_proxy, "https://chat.test:7420"), "{no_proxy}");
        }
    }
}
