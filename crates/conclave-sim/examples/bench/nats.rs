//! The other yardstick: NATS JetStream with file storage, where `nats-server` is on PATH.
//!
//! It acknowledges before it fsyncs (every two minutes, by default); ours after. The client speaks
//! just enough of the NATS protocol: one stream, push consumers without acknowledgement.

use crate::fan::{PLAIN_BYTES, SECONDS, SENDERS, Seen, WINDOW, ratio, settle};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};

/// A server; killed on drop.
pub(crate) struct Nats {
    _child: Child,
    addr: SocketAddr,
}

impl Nats {
    /// Starts one on a free port; `None` if there is none to start.
    pub(crate) async fn start(dir: &Path) -> Option<Self> {
        let mut child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", "-1", "-js", "-sd"])
            .arg(dir)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stderr.take()?).lines();
        let mut addr = None;
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some((_, text)) = line.split_once("client connections on ") {
                addr = text.trim().parse().ok();
            }
            if line.contains("Server is ready") {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self {
            _child: child,
            addr: addr?,
        })
    }
}

struct Peer {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line: Vec<u8>,
}

impl Peer {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("it listens");
        stream.set_nodelay(true).expect("TCP has the option");
        let (reader, writer) = stream.into_split();
        let reader = BufReader::with_capacity(64 * 1024, reader);
        let mut peer = Self {
            reader,
            writer,
            line: Vec::new(),
        };
        peer.write(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")
            .await;
        peer
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.expect("it reads");
    }

    /// Waits for the next message and returns its payload's length, or `None` at the end.
    async fn message(&mut self) -> Option<usize> {
        loop {
            self.line.clear();
            self.reader
                .read_until(b'\n', &mut self.line)
                .await
                .ok()
                .filter(|n| *n > 0)?;
            if self.line.starts_with(b"PING") {
                self.write(b"PONG\r\n").await;
            } else if self.line.starts_with(b"MSG ") {
                let text = std::str::from_utf8(&self.line).ok()?;
                let bytes: usize = text.trim_end().rsplit(' ').next()?.parse().ok()?;
                let mut left = bytes + 2;
                while left > 0 {
                    let have = self.reader.fill_buf().await.ok()?.len().min(left);
                    if have == 0 {
                        return None;
                    }
                    self.reader.consume(have);
                    left -= have;
                }
                return Some(bytes);
            }
        }
    }

    /// Asks the JetStream API and waits for any answer.
    async fn ask(&mut self, subject: &str, body: &str) {
        let len = body.len();
        self.write(
            format!("SUB _INBOX.a 9\r\nPUB {subject} _INBOX.a {len}\r\n{body}\r\n").as_bytes(),
        )
        .await;
        self.message().await;
        self.write(b"UNSUB 9\r\n").await;
    }
}

/// The load of part `fan`; returns sends and deliveries a second.
pub(crate) async fn fan(nats: &Nats, receivers: usize) -> (f64, f64) {
    let mut peer = Peer::connect(nats.addr).await;
    let stream = r#"{"name":"b","subjects":["b"],"storage":"file"}"#;
    peer.ask("$JS.API.STREAM.CREATE.b", stream).await;
    let seen = Arc::new(Seen::default());
    let mut readers = Vec::new();
    for n in 0..receivers {
        let mut peer = Peer::connect(nats.addr).await;
        let body = format!(
            r#"{{"stream_name":"b","config":{{"deliver_subject":"d.{n}","ack_policy":"none","deliver_policy":"new"}}}}"#
        );
        peer.write(format!("SUB d.{n} 1\r\n").as_bytes()).await;
        peer.ask("$JS.API.CONSUMER.CREATE.b", &body).await;
        let seen = Arc::clone(&seen);
        readers.push(tokio::spawn(async move {
            while peer.message().await.is_some() {
                seen.deliveries.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(SECONDS);
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        let mut peer = Peer::connect(nats.addr).await;
        peer.write(format!("SUB acks.{n} 1\r\n").as_bytes()).await;
        senders.push(tokio::spawn(async move {
            let mut one = format!("PUB b acks.{n} {PLAIN_BYTES}\r\n").into_bytes();
            one.extend(vec![b'x'; PLAIN_BYTES]);
            one.extend(b"\r\n");
            let (mut sent, mut done) = (0_usize, 0_usize);
            while Instant::now() < until || done < sent {
                let room = if Instant::now() < until {
                    done + WINDOW - sent
                } else {
                    0
                };
                if room > 0 {
                    peer.write(&one.repeat(room)).await;
                    sent += room;
                }
                if peer.message().await.is_none() {
                    break;
                }
                done += 1;
            }
            u64::try_from(done).unwrap_or(0)
        }));
    }
    let mut done = 0;
    for sender in senders {
        done += sender.await.expect("a sender ends");
    }
    let sending = start.elapsed().as_secs_f64();
    let delivered = settle(&seen, done * u64::try_from(receivers).unwrap_or(0)).await;
    let all = start.elapsed().as_secs_f64();
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    (ratio(done, sending), ratio(delivered, all))
}
