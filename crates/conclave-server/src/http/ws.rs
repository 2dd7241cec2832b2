//! The upgrade to a WebSocket: what must be in the request, and which encoding it picks.

use super::{Answer, answer, refuse, set};
use crate::config::Config;
use bytes::Bytes;
use conclave_proto::codec::Encoding;
use conclave_proto::reject::{Code, Reject};
use hyper::StatusCode;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// What an upgrade agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// How frames are encoded.
    pub(crate) encoding: Encoding,
    /// The origin the client dialled.
    pub(crate) origin: Arc<str>,
    /// Whose limits count.
    pub(crate) client_ip: IpAddr,
}

/// Checks the request for an upgrade and makes the answer to it.
pub(super) fn negotiate(
    headers: &HeaderMap,
    origin: Arc<str>,
    config: &Config,
) -> Result<(Answer, Offer), Box<Answer>> {
    if !has_token(headers, header::UPGRADE, "websocket")
        || !has_token(headers, header::CONNECTION, "upgrade")
    {
        let reject = Reject::new(Code::Malformed, "this path is for WebSockets");
        let mut refusal = refuse(StatusCode::UPGRADE_REQUIRED, &reject);
        set(refusal.headers_mut(), "upgrade", "websocket");
        return Err(Box::new(refusal));
    }
    if single(headers, header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let reject = Reject::new(Code::Malformed, "the WebSocket version must be 13");
        let mut refusal = refuse(StatusCode::UPGRADE_REQUIRED, &reject);
        set(refusal.headers_mut(), "sec-websocket-version", "13");
        return Err(Box::new(refusal));
    }
    let bad = |code, text: &str| {
        let reject = Reject::new(code, text);
        Box::new(refuse(StatusCode::BAD_REQUEST, &reject))
    };
    let key = single(headers, header::SEC_WEBSOCKET_KEY)
        .filter(|key| key.len() == 24)
        .ok_or_else(|| {
            bad(
                Code::Malformed,
                "the WebSocket key is missing or not well-formed",
            )
        })?;
    check_browser(headers, config)?;
    let encoding = Encoding::ALL
        .into_iter()
        .find(|e| has_exact(headers, header::SEC_WEBSOCKET_PROTOCOL, e.subprotocol()))
        .ok_or_else(|| {
            let known = Encoding::ALL.map(Encoding::subprotocol).join(", ");
            let text = format!("none of the subprotocols is known here; use one of {known}");
            bad(Code::Version, &text)
        })?;
    let mut switch = answer(StatusCode::SWITCHING_PROTOCOLS, "", Bytes::new());
    let out = switch.headers_mut();
    out.remove(header::CONTENT_TYPE);
    set(out, "upgrade", "websocket");
    set(out, "connection", "Upgrade");
    set(out, "sec-websocket-protocol", encoding.subprotocol());
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        out.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let offer = Offer {
        encoding,
        origin,
        client_ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    Ok((switch, offer))
}

/// Programs send no `Origin`; a page in a browser always does, and may come from anywhere.
fn check_browser(headers: &HeaderMap, config: &Config) -> Result<(), Box<Answer>> {
    let listed = |origin: &HeaderValue| {
        let text = origin.to_str().unwrap_or_default();
        let mut allowed = config.browser_origins.iter();
        allowed.any(|known| known.eq_ignore_ascii_case(text))
    };
    if headers.get_all(header::ORIGIN).iter().all(listed) {
        Ok(())
    } else {
        let reject = Reject::new(Code::Forbidden, "pages of this web origin may not connect");
        Err(Box::new(refuse(StatusCode::FORBIDDEN, &reject)))
    }
}

fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t.eq_ignore_ascii_case(token))
}

fn has_exact(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|t| t == token)
}
