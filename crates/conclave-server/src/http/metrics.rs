//! `/metrics`: the hub's and the edge's numbers as Prometheus text, written by hand.
//!
//! Numbers only: no names, no addresses. For loopback alone unless the configuration says otherwise.

use super::{Answer, answer, finish, refuse};
use crate::config::{Config, Metrics};
use crate::edge::{Peer, Shared};
use crate::hub::Stats;
use conclave_proto::reject::{Code, Reject};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the edge counts. Each is a number of its own: no order among them matters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Sockets accepted.
    pub(crate) accepted: AtomicU64,
    /// Sockets turned away at a bound.
    pub(crate) turned_away: AtomicU64,
    /// Connections whose handshake failed.
    pub(crate) auth_failed: AtomicU64,
    /// Connections dropped because they did not read.
    pub(crate) slow: AtomicU64,
    /// Frames received.
    pub(crate) frames_in: AtomicU64,
    /// Frames sent.
    pub(crate) frames_out: AtomicU64,
    /// Bytes of frames sent.
    pub(crate) bytes_out: AtomicU64,
}

impl Counters {
    /// Adds to one of the numbers.
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Returns whether this request may see the numbers. A forwarded request is never from loopback.
pub(super) fn may_read(config: &Config, peer: Peer, headers: &HeaderMap) -> bool {
    let forwarded = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
    match config.metrics {
        Metrics::Off => false,
        Metrics::Loopback => peer.0.ip().to_canonical().is_loopback() && !forwarded,
        Metrics::Anyone => true,
    }
}

pub(super) async fn page(shared: Arc<Shared>) -> Result<Answer, Infallible> {
    Ok(finish(match shared.hub.stats().await {
        Ok(stats) => answer(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            render(&stats, &shared.counters),
        ),
        Err(_) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            &Reject::new(Code::Internal, "the server is not able to work"),
        ),
    }))
}

fn render(stats: &Stats, edge: &Counters) -> String {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let gauges = [
        ("connections", "Connections that exist", stats.connections),
        (
            "sessions",
            "Sessions, those in their lease included",
            stats.sessions,
        ),
        (
            "subscriptions_live",
            "Subscriptions that get pushes",
            stats.live,
        ),
        (
            "subscriptions_stalled",
            "Subscriptions of slow readers",
            stats.stalled,
        ),
        ("users", "Users that are not removed", stats.users),
        ("admins", "Server admins", stats.admins),
        ("channels", "Channels that are not closed", stats.channels),
        (
            "rated",
            "Users, channels and keys whose rates are remembered",
            stats.rated,
        ),
    ];
    let counters = [
        ("appended_total", "Entries appended", stats.appended),
        (
            "duplicates_total",
            "Appends that had been there before",
            stats.duplicates,
        ),
        ("wraps_total", "Wraps of channel keys stored", stats.wraps),
        (
            "pushed_total",
            "Entries pushed to subscribers",
            stats.pushed,
        ),
        ("commits_total", "Commits to the store", stats.commits),
        (
            "hub_restarts_total",
            "Times the hub was rebuilt from the store",
            stats.restarts,
        ),
        ("accepted_total", "Sockets accepted", of(&edge.accepted)),
        (
            "turned_away_total",
            "Sockets turned away at a bound",
            of(&edge.turned_away),
        ),
        (
            "auth_failed_total",
            "Handshakes that failed",
            of(&edge.auth_failed),
        ),
        (
            "slow_total",
            "Connections dropped for not reading",
            of(&edge.slow),
        ),
        ("frames_in_total", "Frames received", of(&edge.frames_in)),
        ("frames_out_total", "Frames sent", of(&edge.frames_out)),
        (
            "bytes_out_total",
            "Bytes of frames sent",
            of(&edge.bytes_out),
        ),
    ];
    let mut out = String::new();
    let gauges = gauges.map(|row| (row, "gauge"));
    let counters = counters.map(|row| (row, "counter"));
    for ((name, help, value), kind) in gauges.into_iter().chain(counters) {
        // Writing to a String does not fail.
        writeln!(
            out,
            "# HELP conclave_{name} {help}\n# TYPE conclave_{name} {kind}\nconclave_{name} {value}"
        )
        .ok();
    }
    labelled(&mut out, stats);
    out
}

/// Writes what has labels: refusals by code, commits by size.
fn labelled(out: &mut String, stats: &Stats) {
    let mut lines = vec![
        "# HELP conclave_refused_total Requests and entries refused".to_owned(),
        "# TYPE conclave_refused_total counter".to_owned(),
    ];
    lines.extend(
        stats
            .refused
            .by_code()
            .map(|(code, n)| format!("conclave_refused_total{{code=\"{code}\"}} {n}")),
    );
    lines.push("# HELP conclave_batch_writes Writes in one commit".to_owned());
    lines.push("# TYPE conclave_batch_writes histogram".to_owned());
    lines.extend(stats.batches.within().map(|(bound, n)| {
        let bound = match bound {
            u64::MAX => "+Inf".to_owned(),
            bound => bound.to_string(),
        };
        format!("conclave_batch_writes_bucket{{le=\"{bound}\"}} {n}")
    }));
    lines.push(format!(
        "conclave_batch_writes_sum {}",
        stats.batches.writes
    ));
    lines.push(format!("conclave_batch_writes_count {}", stats.commits));
    if let Some(free) = stats.free_bytes {
        lines.push("# HELP conclave_disk_free_bytes Disk that may still be written".to_owned());
        lines.push("# TYPE conclave_disk_free_bytes gauge".to_owned());
        lines.push(format!("conclave_disk_free_bytes {free}"));
    }
    for line in lines {
        // Writing to a String does not fail.
        writeln!(out, "{line}").ok();
    }
}
