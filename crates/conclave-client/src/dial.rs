//! Opens one WebSocket to a server: TCP, perhaps a proxy, TLS 1.3, the upgrade; all within bounds.
//!
//! Who the server is and whether to try again is for the link to say. What this vouches for is the
//! transport: no plain text beyond this machine, and a channel binding whenever there is TLS.

mod proxy;
mod tls;

pub use proxy::Proxies;

use crate::origin::Origin;
use conclave_proto::codec::Encoding;
use conclave_proto::handshake::{BINDING_EXPORTER, BINDING_NONE, Binding};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::reject::{Code, Reject};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// How long TCP, with the proxy if there is one, may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the TLS handshake may take.
const TLS: Duration = Duration::from_secs(5);
/// How long the server may take to answer the upgrade.
const UPGRADE: Duration = Duration::from_secs(10);
const BUFFER_BYTES: usize = 16 * 1024;
/// The most characters of a server's message that are passed on.
const MESSAGE_CHARS_MAX: usize = 300;

/// What makes a certificate acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertTrust {
    /// An authority that this machine trusts.
    WebPki,
    /// Any certificate will do, for the server's own key is pinned: [`Dialled::bindings`] then makes
    /// the handshake prove that key on this very connection.
    Pinned,
}

/// An open socket, and what the handshake needs to know of it.
#[derive(Debug)]
pub struct Dialled {
    /// The socket; its subprotocol is `conclave.v2.cbor`.
    pub socket: WebSocketStream<Stream>,
    /// The origin that was dialled, as it goes into the transcript.
    pub origin: String,
    /// The strongest binding: `tls-exporter`, or `none` without TLS.
    pub binding: &'static str,
    /// The exporter's output, or nothing.
    pub binding_data: Vec<u8>,
    /// No authority that this machine trusts vouches for the certificate.
    pub unknown_cert: bool,
}

impl Dialled {
    /// Returns the bindings to accept, best first. TLS may end in a proxy before the server (`none`),
    /// but only under a certificate that is good by itself.
    #[must_use]
    pub fn bindings(&self) -> Vec<Binding> {
        let exporter = self.binding_data.as_slice().try_into();
        let none = (!self.unknown_cert).then_some(Binding::None);
        exporter
            .ok()
            .map(Binding::Exporter)
            .into_iter()
            .chain(none)
            .collect()
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Plain text beyond this machine.
    #[error(
        "{0} is not on this machine, and a plain connection would show everything to the network; dial https://"
    )]
    Plain(String),
    /// TCP failed.
    #[error("cannot connect to {to}: {source}; check the address, and that the server runs")]
    Connect {
        /// The host and port.
        to: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A step took too long.
    #[error("{step} with {to} took longer than {} s", limit.as_secs())]
    Timeout {
        /// What took too long.
        step: &'static str,
        /// The other side.
        to: String,
        /// How long it might have taken.
        limit: Duration,
    },
    /// The proxy setting is no proxy's URL. The text is not shown: it may hold a password.
    #[error("HTTPS_PROXY is not of the form http://[USER:PASSWORD@]HOST[:PORT]")]
    BadProxy,
    /// The proxy did not connect.
    #[error("the proxy {proxy} (HTTPS_PROXY) did not connect: {why}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What it said.
        why: String,
    },
    /// Nobody vouches for the certificate.
    #[error(
        "the certificate of {to} is not trusted here ({why}); use an invite link, which pins the server's key, or `conclave server trust`"
    )]
    Certificate {
        /// The host.
        to: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS failed otherwise.
    #[error("TLS with {to} failed: {why}; the server must speak TLS 1.3 on this port")]
    Tls {
        /// The host.
        to: String,
        /// Why.
        why: String,
    },
    /// The server refused, and said why.
    #[error("the server refused the connection: {reject}; {}", reject.code.hint())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The code and message it gave.
        reject: Reject,
    },
    /// An answer that is none of a server of ours.
    #[error("{to} answered with HTTP status {status}; it may not be a conclave server")]
    Status {
        /// The origin.
        to: String,
        /// The HTTP status.
        status: u16,
    },
    /// The upgrade failed otherwise.
    #[error("{to} did not become a WebSocket: {why}; it may not be a conclave server")]
    Upgrade {
        /// The origin.
        to: String,
        /// Why.
        why: String,
    },
}

/// Opens a socket to a server.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    origin: &Origin,
    trust: CertTrust,
    proxies: &Proxies,
) -> Result<Dialled, DialError> {
    if !origin.is_tls() && !origin.is_loopback() {
        return Err(DialError::Plain(origin.to_string()));
    }
    let tcp = within(CONNECT, "connecting", origin, connect(origin, proxies)).await?;
    let (stream, exporter, unknown_cert) = if origin.is_tls() {
        let secured = tls::secure(origin, trust, tcp);
        let secured = within(TLS, "the TLS handshake", origin, secured).await?;
        (
            Stream::Tls(Box::new(secured.stream)),
            Some(secured.exporter),
            secured.unknown_cert,
        )
    } else {
        (Stream::Plain(tcp), None, false)
    };
    let upgraded = Box::pin(upgrade(origin, stream));
    let socket = within(UPGRADE, "the upgrade", origin, upgraded).await?;
    Ok(Dialled {
        socket,
        origin: origin.to_string(),
        binding: exporter.map_or(BINDING_NONE, |_| BINDING_EXPORTER),
        binding_data: exporter.map_or_else(Vec::new, Vec::from),
        unknown_cert,
    })
}

async fn within<T>(
    limit: Duration,
    step: &'static str,
    origin: &Origin,
    work: impl Future<Output = Result<T, DialError>>,
) -> Result<T, DialError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(DialError::Timeout {
            step,
            to: origin.to_string(),
            limit,
        }),
    }
}

async fn connect(origin: &Origin, proxies: &Proxies) -> Result<TcpStream, DialError> {
    if let Some(proxy) = proxies.of(origin)? {
        return proxy.connect(origin).await;
    }
    let tcp = connect_tcp(origin.bare_host(), origin.port()).await?;
    // A name that stands for this machine may still resolve to another one.
    let here = tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    if !origin.is_tls() && !here {
        return Err(DialError::Plain(origin.to_string()));
    }
    Ok(tcp)
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let connected = async {
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    };
    connected.await.map_err(|source| DialError::Connect {
        to: format!("{host}:{port}"),
        source,
    })
}

async fn upgrade(origin: &Origin, stream: Stream) -> Result<WebSocketStream<Stream>, DialError> {
    let (scheme, default) = if origin.is_tls() {
        ("wss", 443)
    } else {
        ("ws", 80)
    };
    let port = match origin.port() {
        port if port == default => String::new(),
        port => format!(":{port}"),
    };
    let failed = |why: String| DialError::Upgrade {
        to: origin.to_string(),
        why,
    };
    let uri: Uri = format!("{scheme}://{}{port}/", origin.host())
        .parse()
        .map_err(|_| failed("the address is no URL".to_owned()))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(Encoding::Cbor.subprotocol());
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(4 * FRAME_BYTES_MAX)
        .max_message_size(Some(FRAME_BYTES_MAX))
        .max_frame_size(Some(FRAME_BYTES_MAX));
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(answer)) => {
            let status = answer.status().as_u16();
            let body = answer.body().as_deref().unwrap_or_default();
            Err(match refusal(body) {
                Some(reject) => DialError::Refused { status, reject },
                None => DialError::Status {
                    to: origin.to_string(),
                    status,
                },
            })
        }
        Err(e) => Err(failed(safe(&e.to_string()))),
    }
}

/// Reads the JSON of a refusal; what comes from a stranger is made safe to print.
fn refusal(body: &[u8]) -> Option<Reject> {
    #[derive(serde::Deserialize)]
    struct Body {
        error: String,
        message: String,
        retry_after_ms: Option<u64>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    body.error.bytes().all(plain).then_some(())?;
    let mut reject = Reject::new(Code::from(body.error.as_str()), safe(&body.message));
    reject.retry_after_ms = body.retry_after_ms;
    Some(reject)
}

/// Returns a text of the other side without controls, bidi marks and such, cut to length.
fn safe(text: &str) -> String {
    let keep = |c: char| c == ' ' || c.is_alphanumeric() || c.is_ascii_punctuation();
    text.chars()
        .take(MESSAGE_CHARS_MAX)
        .map(|c| if keep(c) { c } else { '?' })
        .collect()
}

/// What a socket runs over.
#[derive(Debug)]
pub enum Stream {
    /// TCP, on this machine only.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
