//! What a connection says before it is a WebSocket: one HTTP/1.1 request, and where it goes.
//!
//! hyper parses; nothing here touches the store or the hub's state. Errors are JSON with a code that
//! programs can act on. Pages have no scripts, and every answer but the upgrade ends the connection.

pub(crate) mod health;
pub(crate) mod landing;
pub(crate) mod metrics;
pub(crate) mod ws;

use crate::edge::{Peer, Shared};
use bytes::Bytes;
use conclave_proto::reject::{Code, Reject};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

/// The most bytes of a request's header.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The most header lines of a request.
const HEADERS_MAX: usize = 64;
/// How long a client may take to read an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer with its whole body.
pub(crate) type Answer = Response<Full<Bytes>>;

/// A socket that became a WebSocket.
#[derive(Debug)]
pub(crate) struct Upgraded<S> {
    /// The stream itself, without hyper.
    pub(crate) io: S,
    /// What hyper had read beyond the request.
    pub(crate) read: Bytes,
    /// What was agreed.
    pub(crate) offer: ws::Offer,
}

/// Answers one request; returns the socket if it is a WebSocket now.
pub(crate) async fn serve<S>(io: S, peer: Peer, shared: Arc<Shared>) -> Option<Upgraded<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let header_timeout = Duration::from_millis(shared.config.limits.header_timeout_ms);
    let service = Service {
        peer,
        shared,
        offer: OnceLock::new(),
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(io), service)
        .without_shutdown();
    let parts = match tokio::time::timeout(header_timeout + ANSWER_TIMEOUT, connection).await {
        Ok(Ok(parts)) => parts,
        Ok(Err(e)) => {
            tracing::debug!(error = %e, "a request did not arrive whole");
            return None;
        }
        Err(_) => return None,
    };
    let mut io = parts.io.into_inner();
    match parts.service.offer.into_inner() {
        Some(offer) => Some(Upgraded {
            io,
            read: parts.read_buf,
            offer,
        }),
        None => {
            // The peer may be gone already; there is nobody to tell.
            tokio::time::timeout(ANSWER_TIMEOUT, io.shutdown())
                .await
                .ok();
            None
        }
    }
}

struct Service {
    peer: Peer,
    shared: Arc<Shared>,
    offer: OnceLock<ws::Offer>,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let answer = match route(&request, self.peer, &self.shared) {
            Route::Now(answer) => answer,
            Route::Upgrade(answer, offer) => {
                let first = self.offer.set(offer).is_ok();
                let answer = if first { answer } else { not_found() };
                return Box::pin(std::future::ready(Ok(answer)));
            }
            Route::Ready => return Box::pin(health::ready(Arc::clone(&self.shared))),
            Route::Metrics => return Box::pin(metrics::page(Arc::clone(&self.shared))),
        };
        Box::pin(std::future::ready(Ok(finish(answer))))
    }
}

/// Where a request goes.
enum Route {
    Now(Answer),
    Upgrade(Answer, ws::Offer),
    Ready,
    Metrics,
}

fn route(request: &Request<Incoming>, peer: Peer, shared: &Shared) -> Route {
    let path = request.uri().path();
    // Probes dial by address: these two tell nothing, and need no known name.
    match path {
        "/healthz" => return Route::Now(health::alive()),
        "/readyz" => return Route::Ready,
        _ => {}
    }
    let origin = match dialled(request, shared) {
        Ok(origin) => origin,
        Err(answer) => return Route::Now(*answer),
    };
    if request.method() != Method::GET {
        let reject = Reject::new(Code::Malformed, "this server answers GET alone");
        return Route::Now(refuse(StatusCode::METHOD_NOT_ALLOWED, &reject));
    }
    match path {
        "/" => match ws::negotiate(request.headers(), origin, &shared.config) {
            Ok((answer, mut offer)) => {
                offer.client_ip = shared.client_ip(peer, request.headers());
                Route::Upgrade(answer, offer)
            }
            Err(answer) => Route::Now(*answer),
        },
        "/metrics" if metrics::may_read(&shared.config, peer, request.headers()) => Route::Metrics,
        _ => Route::Now(landing::page(path, &shared.config).unwrap_or_else(not_found)),
    }
}

/// Returns the public origin that the request names, as it is signed in the handshake.
fn dialled(request: &Request<Incoming>, shared: &Shared) -> Result<Arc<str>, Box<Answer>> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => "",
    };
    let named = shared.origins.iter().find(|origin| origin.is_host(host));
    named
        .map(|origin| origin.to_string().into())
        .ok_or_else(|| {
            let known: Vec<String> = shared.origins.iter().map(ToString::to_string).collect();
            let message = format!(
                "this server is not known by the name that was dialled, only as {}",
                known.join(", ")
            );
            let reject = Reject::new(Code::Origin, message);
            Box::new(refuse(StatusCode::MISDIRECTED_REQUEST, &reject))
        })
}

/// Makes a refusal: a JSON object like those of tools and command line.
pub(crate) fn refuse(status: StatusCode, reject: &Reject) -> Answer {
    let mut body = serde_json::json!({
        "error": reject.code,
        "message": reject.message,
        "hint": reject.code.hint(),
    });
    if let (Some(ms), Some(map)) = (reject.retry_after_ms, body.as_object_mut()) {
        map.insert("retry_after_ms".into(), ms.into());
    }
    answer(status, "application/json", body.to_string())
}

/// Makes an answer.
pub(crate) fn answer(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    set(answer.headers_mut(), "content-type", content_type);
    answer
}

fn not_found() -> Answer {
    let reject = Reject::new(Code::NotFound, "there is nothing under this path");
    refuse(StatusCode::NOT_FOUND, &reject)
}

/// Adds what every answer but the upgrade carries.
pub(crate) fn finish(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    set(headers, "connection", "close");
    set(headers, "cache-control", "no-store");
    set(headers, "x-content-type-options", "nosniff");
    set(headers, "referrer-policy", "no-referrer");
    answer
}

pub(crate) fn set(headers: &mut HeaderMap, name: &'static str, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
