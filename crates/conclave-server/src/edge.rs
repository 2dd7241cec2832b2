//! The accept loop and the first steps of every socket: bounds, TLS, one HTTP request.
//!
//! The loop owns what is remembered by address ([`gate`]); it waits for a free place among the
//! unauthenticated connections before it accepts, so a flood waits in the kernel's backlog. Each
//! socket has one task, which becomes the connection's.

pub(crate) mod gate;

use crate::clock::Clock;
use crate::config::Config;
use crate::conn;
use crate::http;
use crate::http::metrics::Counters;
use crate::hub::HubHandle;
use crate::identity::ServerIdentity;
use crate::origin::Origin;
use conclave_proto::handshake::{Binding, EXPORTER_LABEL};
use conclave_proto::key::Secret;
use gate::{Ask, Gate, Pass, Peers};
use hyper::header::HeaderMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a socket is told that is turned away, where that can be said in clear text.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
retry-after: 5\r\nconnection: close\r\ncontent-length: 97\r\n\r\n\
{\"error\":\"limit_reached\",\"message\":\"too many connections; try again later\",\"retry_after_ms\":5000}";
/// How long to wait after a failed accept: the process is out of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The other end of a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// What every connection needs and none changes.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) origins: Vec<Origin>,
    pub(crate) secret: Arc<Secret>,
    pub(crate) identity: ServerIdentity,
    pub(crate) hub: HubHandle,
    pub(crate) clock: Clock,
    pub(crate) gate: Gate,
    pub(crate) counters: Counters,
    /// Nobody comes in any more.
    pub(crate) stop: CancellationToken,
    /// Whoever is still here has to go now.
    pub(crate) abort: CancellationToken,
}

impl Shared {
    /// Returns whether a peer is a proxy of ours, so that its word about addresses counts.
    fn is_proxy(&self, peer: Peer) -> bool {
        let ip = peer.0.ip().to_canonical();
        self.config.behind_proxy && (ip.is_loopback() || self.config.proxies.contains(&ip))
    }

    /// Returns whose limits count: the peer's, or who the proxy says is behind it.
    pub(crate) fn client_ip(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let direct = peer.0.ip().to_canonical();
        if !self.is_proxy(peer) {
            return direct;
        }
        // The last one is what our own proxy added; what is before it, anybody can have written.
        let forwarded = headers.get_all("x-forwarded-for").iter().next_back();
        forwarded
            .and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok())
            .unwrap_or(direct)
    }
}

/// A bound listener and everything its connections need.
pub(crate) struct Edge {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    asks: mpsc::Receiver<Ask>,
    tasks: TaskTracker,
}

impl Edge {
    pub(crate) const fn new(
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        shared: Arc<Shared>,
        asks: mpsc::Receiver<Ask>,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            listener,
            tls,
            shared,
            asks,
            tasks,
        }
    }

    /// Accepts until told to stop.
    pub(crate) async fn run(mut self) {
        let limits = self.shared.config.limits;
        let total = Arc::new(Semaphore::new(limits.connections));
        let unauthenticated = Arc::new(Semaphore::new(limits.unauthenticated));
        let mut peers = Peers::new(&self.shared.config);
        let stop = self.shared.stop.clone();
        let mut place: Option<OwnedSemaphorePermit> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ask) = self.asks.recv() => peers.handle(ask, self.shared.clock.now().mono),
                Ok(permit) = Arc::clone(&unauthenticated).acquire_owned(), if place.is_none() => {
                    place = Some(permit);
                }
                accepted = self.listener.accept(), if place.is_some() => {
                    let (Ok(accepted), Some(permit)) = (self.accepted(accepted).await, place.take())
                    else {
                        continue;
                    };
                    self.admit(accepted, permit, &total, &mut peers);
                }
            }
        }
    }

    async fn accepted(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        if let Err(error) = &accepted {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        accepted
    }

    fn admit(
        &self,
        (stream, addr): (TcpStream, SocketAddr),
        permit: OwnedSemaphorePermit,
        total: &Arc<Semaphore>,
        peers: &mut Peers,
    ) {
        let shared = &self.shared;
        let peer = Peer(addr);
        Counters::add(&shared.counters.accepted, 1);
        let by_address = if shared.is_proxy(peer) {
            Ok(None)
        } else {
            peers.enter(addr.ip(), shared.clock.now().mono)
        };
        let (Ok(total), Ok(by_address)) = (Arc::clone(total).try_acquire_owned(), by_address)
        else {
            Counters::add(&shared.counters.turned_away, 1);
            if self.tls.is_none() {
                // A courtesy; a socket that cannot take it is closed without.
                stream.try_write(BUSY).ok();
            }
            return;
        };
        let mut pass = Pass::new(total, permit);
        pass.add(by_address);
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a socket keeps its delay");
        }
        let shared = Arc::clone(shared);
        match self.tls.clone() {
            Some(tls) => self.tasks.spawn(secure(stream, tls, peer, pass, shared)),
            None => self.tasks.spawn(clear(stream, peer, pass, shared)),
        };
    }
}

async fn clear(stream: TcpStream, peer: Peer, mut pass: Pass, shared: Arc<Shared>) {
    let binding = Binding::None;
    // Boxed, so that what only the first second needs does not stay for as long as the session.
    let opening = Box::pin(open(stream, peer, &mut pass, &shared));
    if let Some(upgraded) = opening.await {
        conn::run(upgraded, binding, pass, shared).await;
    }
}

async fn secure(
    stream: TcpStream,
    tls: TlsAcceptor,
    peer: Peer,
    mut pass: Pass,
    shared: Arc<Shared>,
) {
    let limit = Duration::from_millis(shared.config.limits.tls_timeout_ms);
    let Ok(Ok(stream)) = Box::pin(tokio::time::timeout(limit, tls.accept(stream))).await else {
        tracing::debug!("a TLS handshake failed or took too long");
        return;
    };
    let exported = stream
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, None);
    let Ok(data) = exported else {
        return;
    };
    let opening = Box::pin(open(stream, peer, &mut pass, &shared));
    if let Some(upgraded) = opening.await {
        conn::run(upgraded, Binding::Exporter(data), pass, shared).await;
    }
}

/// Answers the HTTP request; returns the socket if it became a WebSocket and may stay.
async fn open<S>(
    stream: S,
    peer: Peer,
    pass: &mut Pass,
    shared: &Arc<Shared>,
) -> Option<http::Upgraded<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let upgraded = tokio::select! {
        upgraded = http::serve(stream, peer, Arc::clone(shared)) => upgraded?,
        () = shared.stop.cancelled() => return None,
    };
    if shared.is_proxy(peer) {
        match shared.gate.enter(upgraded.offer.client_ip).await {
            Ok(place) => pass.add(place),
            Err(refusal) => {
                Counters::add(&shared.counters.turned_away, 1);
                tracing::debug!(?refusal, "a connection behind the proxy was turned away");
                return None;
            }
        }
    }
    Some(upgraded)
}
