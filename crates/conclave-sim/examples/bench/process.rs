//! Servers as child processes of this program, and what the kernel says of them.

use crate::say;
use conclave_server::Config;
use conclave_server::config::Registration;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// A server in a process of its own; killed on drop.
pub(crate) struct Served {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Served {
    /// Starts this program again in another role and reads the port it prints.
    pub(crate) async fn start(role: &[&str]) -> Self {
        let program = std::env::current_exe().expect("a running program has a path");
        let mut child = Command::new(program)
            .args(role)
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program starts again");
        let out = child.stdout.take().expect("stdout is piped");
        let mut line = String::new();
        BufReader::new(out)
            .read_line(&mut line)
            .await
            .expect("the child speaks");
        let addr = line.trim().parse().expect("the child prints its address");
        Self { child, addr }
    }

    pub(crate) async fn conclave(data: &Path) -> Self {
        Self::start(&["serve", &data.to_string_lossy()]).await
    }

    /// Resident memory, in KB.
    pub(crate) fn resident_kb(&self) -> u64 {
        resident_kb(self.child.id().unwrap_or(0))
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.ok();
    }
}

pub(crate) fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

/// The role `serve DIR`: a server without rates, for one user with many sessions.
pub(crate) async fn serve(args: &[String]) {
    let Some(dir) = args.get(1) else { return };
    let mut config = Config::in_dir(dir);
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.registration = Registration::Open;
    config.limits.registrations_per_hour = 0;
    config.limits.sends_per_second = 0;
    config.limits.sends_per_channel_minute = 0;
    config.limits.send_mb_per_day = 0;
    config.limits.joins_per_minute = 0;
    config.limits.connections_per_user = 0;
    config.limits.machines_per_channel = 0;
    config.limits.sessions_per_machine = 20_000;
    config.limits.connections = 20_000;
    config.limits.unauthenticated = 1_000;
    let server = match config.build().await {
        Ok(server) => server,
        Err(error) => return say(&format!("{error}")),
    };
    say(&server.local_addr().to_string());
    let parent = std::os::unix::process::parent_id();
    let orphaned = async {
        while std::os::unix::process::parent_id() == parent {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    server.run(orphaned).await.ok();
}

/// From spawn to `/readyz`, over databases of several sizes; and stored bytes a message.
pub(crate) async fn starts() {
    for messages in [0_u64, 20_000, 240_000] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let served = Served::conclave(dir.path()).await;
        if messages > 0 {
            crate::fan::fill(served.addr, messages).await;
        }
        served.kill().await;
        let bytes = std::fs::metadata(dir.path().join("conclave.db")).map_or(0, |m| m.len());
        // Once to fold the write-ahead log in, then what counts.
        for counts in [false, true] {
            let start = Instant::now();
            let served = Served::conclave(dir.path()).await;
            ready(served.addr).await;
            let ms = start.elapsed().as_secs_f64() * 1000.0;
            if counts {
                let rss = served.resident_kb() / 1024;
                let each = bytes.checked_div(messages).unwrap_or(0);
                say(&format!(
                    "start, {messages} messages: ready after {ms:.0} ms, {rss} MB resident, {each} B stored a message"
                ));
            }
            served.kill().await;
        }
    }
}

async fn ready(addr: SocketAddr) {
    for _ in 0..1000 {
        if let Ok(mut stream) = TcpStream::connect(addr).await {
            let request = format!("GET /readyz HTTP/1.1\r\nHost: {addr}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok();
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
