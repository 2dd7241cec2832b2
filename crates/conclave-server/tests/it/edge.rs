//! The edge: bounds, routes, names, and what happens to clients that misbehave before they speak.

use crate::rig::{Person, Raw, open_config, serve, soon, upgrade_request};
use conclave_proto::codec::Encoding;
use conclave_proto::frame::op::{Op, Subscribe};
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::reject::Code;
use conclave_server::config::{Limits, Metrics};
use conclave_server::{BuildError, Config, ConfigError};
use futures_util::SinkExt as _;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test]
async fn probes_answer_under_any_name() {
    let site = serve(open_config()).await;
    for path in ["/healthz", "/readyz"] {
        let answer = site
            .raw(&format!(
                "GET {path} HTTP/1.1\r\nHost: probe.example\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("{\"ok\":true}"), "{answer}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_this_servers_is_misdirected_and_told_which_are() {
    let site = serve(open_config()).await;
    let answer = site
        .raw("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    assert!(answer.contains("\"error\":\"origin\""), "{answer}");
    assert!(
        answer.contains(&format!("http://{}", site.addr)),
        "{answer}"
    );
    let nameless = site.raw("GET / HTTP/1.0\r\n\r\n").await;
    assert!(nameless.starts_with("HTTP/1.0 421"), "{nameless}");
}

#[tokio::test]
async fn a_public_url_is_a_name_of_the_server() {
    let config = Config {
        public_urls: vec!["https://chat.example".into()],
        behind_proxy: true,
        ..open_config()
    };
    let site = serve(config).await;
    let stream = TcpStream::connect(site.addr).await.unwrap();
    let mut raw = Raw::upgrade(Box::new(stream), "chat.example", Encoding::Cbor).await;
    let challenge = raw.challenge(&Person::new("alice", 1).hello()).await;
    assert_eq!(challenge.origin, "https://chat.example:443");
    assert_eq!(challenge.binding, "none");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_as_json() {
    let site = serve(open_config()).await;
    let answer = site.get("/nothing").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("\"error\":\"not_found\""), "{answer}");
    let host = site.addr;
    let post = site
        .raw(&format!(
            "POST / HTTP/1.1\r\nHost: {host}\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    let plain = site.get("/").await;
    assert!(plain.starts_with("HTTP/1.1 426"), "{plain}");
}

#[tokio::test]
async fn links_lead_to_a_page_without_scripts() {
    let site = serve(open_config()).await;
    for path in ["/i/boot", "/m/AAAA"] {
        let page = site.get(path).await;
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        assert!(page.contains("referrer-policy: no-referrer"), "{page}");
        assert!(page.contains("default-src 'none'"), "{page}");
        assert!(page.contains("conclave join"), "{page}");
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("strict-transport-security"), "{page}");
    }
}

#[tokio::test]
async fn metrics_are_numbers_and_not_for_forwarded_requests() {
    let site = serve(open_config()).await;
    let mut alice = site
        .register(&Person::new("alice", 1), Encoding::Cbor)
        .await;
    let page = site.get("/metrics").await;
    assert!(page.contains("\nconclave_sessions 1\n"), "{page}");
    assert!(page.contains("\nconclave_connections 1\n"), "{page}");
    assert!(!page.contains("alice"), "{page}");
    assert!(!page.contains("refused_total{"), "{page}");
    let log = LogId::Channel(ChannelId::new([1; 16]));
    let nowhere = Op::Subscribe(Subscribe { log, after: 0 });
    assert!(alice.call(nowhere).await.is_err());
    let page = site.get("/metrics").await;
    let counted = "\nconclave_refused_total{code=\"not_found\"} 1\n";
    assert!(page.contains(counted), "{page}");
    let commits = page
        .split("\nconclave_batch_writes_count ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let all = format!("\nconclave_batch_writes_bucket{{le=\"+Inf\"}} {commits}\n");
    assert!(commits != "0" && page.contains(&all), "{page}");
    let host = site.addr;
    let forwarded = site
        .raw(&format!(
            "GET /metrics HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
        ))
        .await;
    assert!(forwarded.starts_with("HTTP/1.1 404"), "{forwarded}");
    let silent = serve(Config {
        metrics: Metrics::Off,
        ..open_config()
    })
    .await;
    assert!(silent.get("/metrics").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_half_open_header_is_closed() {
    let mut config = open_config();
    config.limits.header_timeout_ms = 100;
    let site = serve(config).await;
    let mut stream = TcpStream::connect(site.addr).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a")
        .await
        .unwrap();
    let started = Instant::now();
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.ok();
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_header_without_end_is_refused() {
    let site = serve(open_config()).await;
    let huge = "x".repeat(64 * 1024);
    let answer = site
        .raw(&format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nA: {huge}\r\n\r\n",
            site.addr
        ))
        .await;
    assert!(
        !answer.contains(" 200 ") && !answer.contains(" 101 "),
        "{answer}"
    );
}

#[tokio::test]
async fn an_unknown_subprotocol_is_refused_with_the_known_ones() {
    let site = serve(open_config()).await;
    let stream = TcpStream::connect(site.addr).await.unwrap();
    let request = upgrade_request(&site.addr.to_string(), "conclave.v9.cbor");
    let Err(Error::Http(answer)) = tokio_tungstenite::client_async(request, stream).await else {
        panic!("it was accepted");
    };
    assert_eq!(answer.status(), 400);
    let body = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
    assert!(
        body.contains("conclave.v2.cbor, conclave.v2.json"),
        "{body}"
    );
}

#[tokio::test]
async fn pages_in_browsers_may_not_connect_unless_listed() {
    let config = Config {
        browser_origins: vec!["https://friend.example".into()],
        ..open_config()
    };
    let site = serve(config).await;
    let dial = async |origin: &str| {
        let stream = TcpStream::connect(site.addr).await.unwrap();
        let mut request = upgrade_request(&site.addr.to_string(), "conclave.v2.json");
        request
            .headers_mut()
            .insert("origin", origin.parse().unwrap());
        match tokio_tungstenite::client_async(request, stream).await {
            Ok(_) => 101,
            Err(Error::Http(answer)) => answer.status().as_u16(),
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(dial("https://evil.example").await, 403);
    assert_eq!(dial("null").await, 403);
    assert_eq!(dial("https://friend.example").await, 101);
}

#[tokio::test]
async fn a_frame_above_the_bound_ends_the_connection_with_the_reason() {
    let site = serve(open_config()).await;
    let mut raw = site
        .register(&Person::new("alice", 1), Encoding::Cbor)
        .await;
    let huge = Message::Binary(vec![0; FRAME_BYTES_MAX + 1].into());
    // The server may close while this is still being written.
    soon(raw.ws.send(huge)).await.ok();
    let (reason, code) = raw.goodbye().await;
    assert_eq!(reason.unwrap().code, Code::TooLarge);
    assert_eq!(code, Some(4000));
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    let site = serve(open_config()).await;
    let garbage = [
        Message::Binary(vec![0xff; 100].into()),
        Message::Binary(Vec::new().into()),
        Message::text("{}"),
    ];
    for message in garbage {
        let mut raw = site.connect(Encoding::Cbor).await;
        raw.ws.send(message).await.unwrap();
        let (reason, code) = raw.goodbye().await;
        assert_eq!(reason.unwrap().code, Code::Malformed);
        assert_eq!(code, Some(4000));
    }
    site.register(&Person::new("alice", 1), Encoding::Cbor)
        .await;
}

#[tokio::test]
async fn unauthenticated_connections_are_bounded_and_make_room_by_authenticating() {
    let mut config = open_config();
    config.limits.unauthenticated = 1;
    let site = serve(config).await;
    let alice = Person::new("alice", 1);
    // Only if each gives its place back when it is let in can the second and third come in at all.
    let mut first = site.register(&alice, Encoding::Cbor).await;
    let idle = site.connect(Encoding::Cbor).await;
    let mut waiting = TcpStream::connect(site.addr).await.unwrap();
    waiting
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.read_to_end(&mut answer));
    assert!(early.await.is_err(), "it was served beyond the bound");
    drop(idle);
    soon(waiting.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert!(first.call(Op::Who(Default::default())).await.is_ok());
}

#[tokio::test]
async fn connections_beyond_the_total_are_turned_away_with_the_reason() {
    let mut config = open_config();
    config.limits.connections = 1;
    let site = serve(config).await;
    let _first = site.connect(Encoding::Cbor).await;
    let mut answer = String::new();
    let mut second = TcpStream::connect(site.addr).await.unwrap();
    soon(second.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{answer}"
    );
    assert!(body.contains("\"error\":\"limit_reached\""), "{answer}");
}

#[tokio::test]
async fn clear_text_wider_than_loopback_is_refused_with_the_reason() {
    let wide = Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..open_config()
    };
    let error = wide.clone().build().await.unwrap_err();
    assert!(matches!(
        error,
        BuildError::Config(ConfigError::Unprotected(_))
    ));
    assert!(error.to_string().contains("other machines"), "{error}");
}

#[tokio::test]
async fn two_servers_do_not_share_a_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..Config::in_dir(dir.path().join("data"))
    };
    let first = config().build().await.unwrap();
    let second = config().build().await;
    assert!(second.unwrap_err().to_string().contains("another server"));
    let key = first.server_key();
    first.spawn().shutdown().await.unwrap();
    let again = config().build().await.unwrap();
    assert_eq!(again.server_key(), key);
}

#[tokio::test]
async fn a_server_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let config = || Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..Config::in_dir(dir.path())
    };
    config()
        .build()
        .await
        .unwrap()
        .spawn()
        .shutdown()
        .await
        .unwrap();
    let key = dir.path().join("server.key");
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = config().build().await.unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[test]
fn a_configuration_file_is_read_and_its_mistakes_are_named() {
    let config = Config::from_toml(
        "listen = \"127.0.0.1:9000\"\nregistration = \"open\"\n[limits]\nconnections = 5\n",
    )
    .unwrap();
    assert_eq!(config.listen.port(), 9000);
    assert_eq!(config.limits.connections, 5);
    assert_eq!(config.limits.unauthenticated, 64);
    assert!(Config::from_toml("listen = \"x\"").is_err());
}

#[tokio::test]
async fn a_server_raises_its_limit_of_open_files_to_what_it_may_have() {
    use rustix::process::{Resource, getrlimit};
    let config = Config {
        limits: Limits {
            connections: 1_000_000,
            ..Limits::default()
        },
        ..open_config()
    };
    let _server = config.build().await.unwrap();
    let limit = getrlimit(Resource::Nofile);
    assert!(limit.current == limit.maximum || limit.current.is_none_or(|files| files > 1_000_000));
}
