//! Dialling: origins, plain text, TLS with and without an authority, proxies and refusals.

use conclave_client::dial::{CertTrust, DialError, Dialled, Proxies, dial};
use conclave_client::origin::{BadOrigin, Origin};
use conclave_proto::codec::Encoding;
use conclave_proto::handshake::{BINDING_EXPORTER, BINDING_NONE, Binding, EXPORTER_LABEL};
use conclave_proto::reject::Code;
use rustls::pki_types::PrivateKeyDer;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

fn origin(text: &str) -> Origin {
    text.parse().unwrap()
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Answers the upgrade as a server does.
#[expect(
    clippy::result_large_err,
    reason = "the type of the callback is tungstenite's"
)]
async fn upgrade(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let choose = |request: &Request, mut response: Response| {
        let wanted = Encoding::Cbor.subprotocol();
        assert_eq!(request.headers()["sec-websocket-protocol"], wanted);
        let headers = response.headers_mut();
        headers.insert("sec-websocket-protocol", wanted.parse().unwrap());
        Ok(response)
    };
    tokio_tungstenite::accept_hdr_async(stream, choose)
        .await
        .unwrap();
}

fn acceptor(host: &str) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Serves one connection by TLS; returns the exporter's output, or `None` if there was no handshake.
async fn serve_tls(tcp: TcpStream, acceptor: TlsAcceptor) -> Option<[u8; 32]> {
    let stream = acceptor.accept(tcp).await.ok()?;
    let exporter = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, None);
    upgrade(stream).await;
    Some(exporter.unwrap())
}

fn assert_bound(dialled: &Dialled, exporter: [u8; 32]) {
    assert_eq!(dialled.binding, BINDING_EXPORTER);
    assert_eq!(dialled.binding_data, exporter);
    assert!(dialled.unknown_cert);
    assert_eq!(dialled.bindings(), vec![Binding::Exporter(exporter)]);
}

#[test]
fn origins_are_normalised() {
    for (typed, want) in [
        ("wss://Chat.Example.ORG/", "https://chat.example.org:443"),
        (
            "https://chat.example.org:7420",
            "https://chat.example.org:7420",
        ),
        ("ws://127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://[::1]:9/", "http://[::1]:9"),
        ("localhost", "http://localhost:7420"),
        ("127.0.0.1:81", "http://127.0.0.1:81"),
        ("[::1]", "http://[::1]:7420"),
        (" chat.example.org ", "https://chat.example.org:7420"),
        ("10.0.0.1:81", "https://10.0.0.1:81"),
    ] {
        assert_eq!(origin(typed).to_string(), want, "{typed}");
    }
}

#[test]
fn what_is_no_origin_is_refused() {
    for (typed, want) in [
        ("ftp://a", BadOrigin::Scheme("ftp".into())),
        ("https://", BadOrigin::Host),
        ("https://a b", BadOrigin::Host),
        ("[::1", BadOrigin::Host),
        ("::1", BadOrigin::Host),
        ("a:0", BadOrigin::Port),
        ("a:65536", BadOrigin::Port),
        ("https://a/i/x", BadOrigin::Extra),
        ("https://me@a", BadOrigin::Extra),
    ] {
        assert_eq!(typed.parse::<Origin>().unwrap_err(), want, "{typed}");
    }
}

#[tokio::test]
async fn plain_text_goes_to_loopback_only() {
    let (listener, port) = listen().await;
    let here = origin(&format!("http://127.0.0.1:{port}"));
    let proxies = Proxies::default();
    let serve = async { upgrade(listener.accept().await.unwrap().0).await };
    let (dialled, ()) = tokio::join!(dial(&here, CertTrust::WebPki, &proxies), serve);
    let dialled = dialled.unwrap();
    assert_eq!(
        (dialled.binding, dialled.origin.as_str()),
        (BINDING_NONE, here.to_string().as_str())
    );
    assert_eq!(dialled.bindings(), vec![Binding::None]);
    let far = dial(&origin("http://192.0.2.1:80"), CertTrust::Pinned, &proxies).await;
    assert!(matches!(far, Err(DialError::Plain(_))));
}

#[tokio::test]
async fn a_self_signed_certificate_is_accepted_only_where_the_key_is_pinned() {
    let (listener, port) = listen().await;
    let here = origin(&format!("https://127.0.0.1:{port}"));
    let acceptor = acceptor("127.0.0.1");
    let proxies = Proxies::default();
    let serve = || async { serve_tls(listener.accept().await.unwrap().0, acceptor.clone()).await };

    let (refused, none) = tokio::join!(dial(&here, CertTrust::WebPki, &proxies), serve());
    let error = refused.map(|_| ()).unwrap_err();
    assert!(matches!(error, DialError::Certificate { .. }), "{error}");
    assert!(none.is_none());

    let (dialled, exporter) = tokio::join!(dial(&here, CertTrust::Pinned, &proxies), serve());
    assert_bound(&dialled.unwrap(), exporter.unwrap());
}

/// Answers one CONNECT with `status` and returns its head.
async fn fake_proxy(listener: &TcpListener, status: &str) -> (String, TcpStream) {
    let (mut tcp, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    let answer = format!("HTTP/1.1 {status}\r\nVia: test\r\n\r\n");
    tcp.write_all(answer.as_bytes()).await.unwrap();
    (String::from_utf8(head).unwrap(), tcp)
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel_and_tls_ends_at_the_server() {
    let (listener, port) = listen().await;
    let acceptor = acceptor("chat.test");
    let proxies = Proxies::new(
        &format!("http://ada:s%40cret@127.0.0.1:{port}"),
        "other.test",
    );
    let far = origin("https://chat.test:7420");
    let serve = async {
        let (head, tcp) = fake_proxy(&listener, "200 OK").await;
        (head, serve_tls(tcp, acceptor).await)
    };
    let (dialled, (head, exporter)) = tokio::join!(dial(&far, CertTrust::Pinned, &proxies), serve);
    assert_bound(&dialled.unwrap(), exporter.unwrap());
    assert!(head.starts_with("CONNECT chat.test:7420 HTTP/1.1\r\nHost: chat.test:7420\r\n"));
    // ada:s@cret
    assert!(
        head.contains("Proxy-Authorization: Basic YWRhOnNAY3JldA==\r\n"),
        "{head}"
    );
    assert!(!format!("{proxies:?}").contains("cret"));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let (listener, port) = listen().await;
    let proxies = Proxies::new(&format!("http://ada:secret@127.0.0.1:{port}"), "");
    let far = origin("https://chat.test");
    for (status, told) in [
        ("407 Proxy Authentication Required", "credentials"),
        ("502 \u{1b}[2J", "502 ?"),
    ] {
        let (dialled, _) = tokio::join!(
            dial(&far, CertTrust::Pinned, &proxies),
            fake_proxy(&listener, status)
        );
        let error = dialled.map(|_| ()).unwrap_err();
        assert!(matches!(error, DialError::Proxy { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(told) && !text.contains("secret"), "{text}");
    }
    let bad = Proxies::new("socks5://ada:secret@127.0.0.1:1", "");
    let error = dial(&far, CertTrust::Pinned, &bad)
        .await
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, DialError::BadProxy), "{error}");
    assert!(!error.to_string().contains("secret"));
}

#[tokio::test]
async fn loopback_never_takes_a_proxy() {
    let (listener, port) = listen().await;
    // A proxy setting that cannot work shows whether it was looked at.
    let proxies = Proxies::new("socks5://nowhere", "");
    let here = origin(&format!("http://127.0.0.1:{port}"));
    let serve = async { upgrade(listener.accept().await.unwrap().0).await };
    let (dialled, ()) = tokio::join!(dial(&here, CertTrust::WebPki, &proxies), serve);
    dialled.unwrap();
}

async fn refused_with(status: &str, body: &str) -> DialError {
    let (listener, port) = listen().await;
    let here = origin(&format!("http://127.0.0.1:{port}"));
    let serve = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        let len = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n\r\n{body}");
        tcp.write_all(answer.as_bytes()).await.unwrap();
        tcp
    };
    let proxies = Proxies::default();
    let (dialled, _tcp) = tokio::join!(dial(&here, CertTrust::WebPki, &proxies), serve);
    dialled.map(|_| ()).unwrap_err()
}

#[tokio::test]
async fn a_refusal_carries_the_servers_code_and_a_printable_message() {
    let body =
        r#"{"error":"origin","message":"not\u001b[31m here\u202e","hint":"x","retry_after_ms":5}"#;
    let error = refused_with("421 Misdirected Request", body).await;
    let DialError::Refused { status, reject } = error else {
        panic!("{error}");
    };
    assert_eq!((status, reject.code), (421, Code::Origin));
    assert_eq!(reject.message, "not?[31m here?");
    assert_eq!(reject.retry_after_ms, Some(5));
}

#[tokio::test]
async fn an_answer_of_a_stranger_is_told_by_its_status_alone() {
    for body in ["<html>", "", r#"{"error":"Evil\nCode","message":"x"}"#] {
        let error = refused_with("404 Not Found", body).await;
        assert!(
            matches!(error, DialError::Status { status: 404, .. }),
            "{error}"
        );
    }
}
