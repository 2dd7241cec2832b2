//! Who may hold a connection: bounds in total, before authentication, and by address.
//!
//! Permits travel with the connection and free themselves. What is remembered by address is owned
//! by the accept loop's task; connections ask it. Loopback addresses are exempt unless a proxy is
//! in front, in which case the address is the one the proxy names.

use crate::config::{Config, Limits};
use crate::rate::{Bucket, HOUR_MS, MINUTE_MS};
use conclave_proto::time::Mono;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Questions that may wait for the accept loop.
const ASKS_MAX: usize = 256;
/// Addresses remembered before those with nothing to remember are forgotten.
const PEERS_MAX: usize = 4096;

/// The right to be connected; gives everything back when dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    _total: OwnedSemaphorePermit,
    unauthenticated: Vec<OwnedSemaphorePermit>,
}

impl Pass {
    pub(super) fn new(total: OwnedSemaphorePermit, unauthenticated: OwnedSemaphorePermit) -> Self {
        Self {
            _total: total,
            unauthenticated: vec![unauthenticated],
        }
    }

    /// Adds the place among the unauthenticated connections of one address.
    pub(crate) fn add(&mut self, place: Option<OwnedSemaphorePermit>) {
        self.unauthenticated.extend(place);
    }

    /// Makes room for the next unauthenticated connection.
    pub(crate) fn authenticated(&mut self) {
        self.unauthenticated = Vec::new();
    }
}

/// Why an address is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Too many of its connections have not authenticated.
    TooMany,
    /// Too many of its authentications failed; try again after so many milliseconds.
    Failures(u64),
    /// It made too many accounts; try again after so many milliseconds.
    Registrations(u64),
    /// It tried to join too often; try again after so many milliseconds.
    Joins(u64),
}

/// What the accept loop is asked or told about an address.
#[derive(Debug)]
pub(crate) enum Ask {
    Enter(
        IpAddr,
        oneshot::Sender<Result<Option<OwnedSemaphorePermit>, Refusal>>,
    ),
    MayRegister(IpAddr, oneshot::Sender<Result<(), Refusal>>),
    Join(IpAddr, oneshot::Sender<Result<(), Refusal>>),
    Failed(IpAddr),
    Registered(IpAddr),
}

/// A connection's line to the accept loop.
#[derive(Clone, Debug)]
pub(crate) struct Gate(mpsc::Sender<Ask>);

impl Gate {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, receiver) = mpsc::channel(ASKS_MAX);
        (Self(asks), receiver)
    }

    /// Asks for a place among an address's unauthenticated connections.
    pub(crate) async fn enter(&self, ip: IpAddr) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let (reply, answer) = oneshot::channel();
        // A closed gate means that the server is going away, which ends the connection anyway.
        match self.0.send(Ask::Enter(ip, reply)).await {
            Ok(()) => answer.await.unwrap_or(Ok(None)),
            Err(_) => Ok(None),
        }
    }

    /// Asks whether an address may make another account.
    pub(crate) async fn may_register(&self, ip: IpAddr) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::MayRegister(ip, reply), answer).await
    }

    /// Takes an attempt to join with an invite from what an address has.
    pub(crate) async fn join(&self, ip: IpAddr) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Join(ip, reply), answer).await
    }

    async fn ask(
        &self,
        ask: Ask,
        answer: oneshot::Receiver<Result<(), Refusal>>,
    ) -> Result<(), Refusal> {
        match self.0.send(ask).await {
            Ok(()) => answer.await.unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Tells that an authentication failed.
    pub(crate) async fn failed(&self, ip: IpAddr) {
        self.0.send(Ask::Failed(ip)).await.ok();
    }

    /// Tells that an account was made.
    pub(crate) async fn registered(&self, ip: IpAddr) {
        self.0.send(Ask::Registered(ip)).await.ok();
    }
}

/// What is remembered by address.
#[derive(Debug)]
pub(super) struct Peers {
    limits: Limits,
    behind_proxy: bool,
    peers: HashMap<IpAddr, Peer>,
}

#[derive(Debug)]
struct Peer {
    places: Arc<Semaphore>,
    failures: Bucket,
    registrations: Bucket,
    joins: Bucket,
}

impl Peers {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            limits: config.limits,
            behind_proxy: config.behind_proxy,
            peers: HashMap::new(),
        }
    }

    pub(super) fn handle(&mut self, ask: Ask, now: Mono) {
        // An asker that is gone does not need the answer.
        match ask {
            Ask::Enter(ip, reply) => drop(reply.send(self.enter(ip, now))),
            Ask::MayRegister(ip, reply) => drop(
                reply.send(match self.peer(ip, now) {
                    Some(peer) => peer
                        .registrations
                        .check(now, 1)
                        .map_err(Refusal::Registrations),
                    None => Ok(()),
                }),
            ),
            Ask::Join(ip, reply) => drop(reply.send(self.join(ip, now))),
            Ask::Failed(ip) => {
                if let Some(peer) = self.peer(ip, now) {
                    peer.failures.take(now, 1);
                }
            }
            Ask::Registered(ip) => {
                if let Some(peer) = self.peer(ip, now) {
                    peer.registrations.take(now, 1);
                }
            }
        }
    }

    pub(super) fn enter(
        &mut self,
        ip: IpAddr,
        now: Mono,
    ) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let bounded = self.limits.unauthenticated_per_ip > 0;
        let Some(peer) = self.peer(ip, now) else {
            return Ok(None);
        };
        peer.failures.check(now, 1).map_err(Refusal::Failures)?;
        if !bounded {
            return Ok(None);
        }
        let place = Arc::clone(&peer.places).try_acquire_owned();
        place.map(Some).map_err(|_| Refusal::TooMany)
    }

    fn join(&mut self, ip: IpAddr, now: Mono) -> Result<(), Refusal> {
        let Some(peer) = self.peer(ip, now) else {
            return Ok(());
        };
        peer.joins.check(now, 1).map_err(Refusal::Joins)?;
        peer.joins.take(now, 1);
        Ok(())
    }

    /// Returns what is remembered of an address; `None` if it is exempt.
    fn peer(&mut self, ip: IpAddr, now: Mono) -> Option<&mut Peer> {
        let ip = ip.to_canonical();
        if ip.is_loopback() && !self.behind_proxy {
            return None;
        }
        let places = self.limits.unauthenticated_per_ip;
        if self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, peer| {
                peer.places.available_permits() < places
                    || !peer.failures.is_full(now)
                    || !peer.registrations.is_full(now)
                    || !peer.joins.is_full(now)
            });
        }
        let limits = self.limits;
        Some(self.peers.entry(network(ip)).or_insert_with(|| Peer {
            places: Arc::new(Semaphore::new(places)),
            failures: Bucket::new(limits.auth_failures_per_minute.into(), MINUTE_MS),
            registrations: Bucket::new(limits.registrations_per_hour.into(), HOUR_MS),
            joins: Bucket::new(limits.joins_per_minute.into(), MINUTE_MS),
        }))
    }
}

/// Returns what counts as one address: an IPv4 address, or an IPv6 /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & (u128::MAX << 64)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, Peers, Refusal};
    use crate::config::Config;
    use conclave_proto::time::Mono;
    use std::net::IpAddr;

    fn peers(behind_proxy: bool) -> Peers {
        let mut config = Config {
            behind_proxy,
            ..Config::ephemeral()
        };
        config.limits.unauthenticated_per_ip = 2;
        Peers::new(&config)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let mut peers = peers(false);
        let now = Mono(0);
        let first = peers.enter(ip("192.0.2.1"), now).unwrap();
        let _second = peers.enter(ip("192.0.2.1"), now).unwrap();
        assert_eq!(
            peers.enter(ip("::ffff:192.0.2.1"), now).unwrap_err(),
            Refusal::TooMany
        );
        assert!(peers.enter(ip("192.0.2.2"), now).unwrap().is_some());
        drop(first);
        assert!(peers.enter(ip("192.0.2.1"), now).unwrap().is_some());
    }

    #[test]
    fn a_whole_ipv6_network_counts_as_one_address() {
        let mut peers = peers(false);
        let _a = peers.enter(ip("2001:db8::1"), Mono(0)).unwrap();
        let _b = peers.enter(ip("2001:db8::2"), Mono(0)).unwrap();
        assert!(peers.enter(ip("2001:db8::3"), Mono(0)).is_err());
        assert!(peers.enter(ip("2001:db8:0:1::3"), Mono(0)).is_ok());
    }

    #[test]
    fn loopback_is_exempt_unless_a_proxy_is_in_front() {
        assert!(
            peers(false)
                .enter(ip("127.0.0.1"), Mono(0))
                .unwrap()
                .is_none()
        );
        assert!(
            peers(true)
                .enter(ip("127.0.0.1"), Mono(0))
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn an_address_tries_invites_so_often_and_is_told_when_to_go_on() {
        let mut peers = peers(false);
        let mut join = |from: &str, at| {
            let (reply, mut answer) = tokio::sync::oneshot::channel();
            peers.handle(Ask::Join(ip(from), reply), Mono(at));
            answer.try_recv().unwrap()
        };
        for _ in 0..10 {
            assert_eq!(join("192.0.2.1", 0), Ok(()));
            assert_eq!(join("127.0.0.1", 0), Ok(()));
        }
        assert_eq!(join("192.0.2.1", 0), Err(Refusal::Joins(6_000)));
        assert_eq!(join("192.0.2.2", 0), Ok(()));
        assert_eq!(join("127.0.0.1", 0), Ok(()), "loopback is exempt");
        assert_eq!(join("192.0.2.1", 6_000), Ok(()));
    }
}
