//! From configuration to a running server and back: build binds and opens everything, run serves,
//! the end drains.
//!
//! Composition only: no rule of the protocol or of the edge is here.

use crate::clock::Clock;
use crate::config::{Config, ConfigError, Protection, Registration, Who};
use crate::edge::gate::Gate;
use crate::edge::{Edge, Shared};
use crate::http::metrics::Counters;
use crate::hub::{self, HubHandle, OpenStore};
use crate::identity::{DataDir, IdentityError, ServerIdentity};
use crate::origin::Origin;
use crate::store::memory::MemoryStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, StoreError};
use crate::tls::{self, TlsError};
use conclave_proto::id::ServerId;
use conclave_proto::invite::{Link, LinkSecret};
use conclave_proto::key::ServerKey;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const DATABASE_FILE: &str = "conclave.db";
/// How long the link for the first admin is good.
const BOOTSTRAP_MS: u64 = 3_600_000;

/// Why a server cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration is not safe or not complete.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory or the server key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Bind {
        /// Which.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
}

/// Why a server stopped on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The hub stopped: the store failed for good.
    #[error("the store failed; see the log")]
    Hub,
}

/// A server that is bound and open, and serves nobody yet.
pub struct Server {
    edge: Edge,
    shared: Arc<Shared>,
    hub_tasks: TaskTracker,
    store_closed: CancellationToken,
    tasks: TaskTracker,
    local_addr: SocketAddr,
    bootstrap: Option<LinkSecret>,
    data_dir: Option<DataDir>,
}

/// A server at work.
#[derive(Debug)]
pub struct Running {
    task: tokio::task::JoinHandle<Result<(), RunError>>,
    stop: CancellationToken,
    hub: HubHandle,
    local_addr: SocketAddr,
}

/// Connections that wait to be accepted: a whole office may come back at once (SECURITY C.4).
const BACKLOG: u32 = 1024;

/// Binds with an address that a restart finds free again, and a backlog of our own.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

impl Config {
    /// Binds the listener, opens the store, loads or makes the keys, and starts the hub.
    ///
    /// # Errors
    /// [`BuildError`].
    pub async fn build(self) -> Result<Server, BuildError> {
        self.check()?;
        let data_dir = self.storage()?.map(DataDir::claim).transpose()?;
        let identity = match &data_dir {
            Some(dir) => dir.identity()?,
            None => ServerIdentity::random()?,
        };
        crate::files::make_room_for(self.limits.connections);
        let addr = self.listen;
        let bind = |source| BuildError::Bind { addr, source };
        let listener = listen(addr).map_err(bind)?;
        let local_addr = listener.local_addr().map_err(bind)?;
        let origins = self.origins(local_addr)?;
        let tls = self.tls(data_dir.as_ref(), &origins)?;
        let clock = Clock::start();
        let bootstrap = LinkSecret::new(random()?);
        let mut settings = self.hub_settings(&identity);
        settings.bootstrap = Some(hub::Bootstrap {
            key: bootstrap.signing_key().invite_key(),
            expires: clock.now().wall.plus(BOOTSTRAP_MS),
        });
        let hub_tasks = TaskTracker::new();
        let store_closed = CancellationToken::new();
        let open = opener(data_dir.as_ref(), store_closed.clone());
        let hub = hub::start(settings, open, clock, &hub_tasks).await?;
        let admins = hub.stats().await.map_err(|_| StoreError::Gone)?.admins;
        let (gate, asks) = Gate::new();
        let shared = Arc::new(Shared {
            config: self,
            origins,
            secret: Arc::new(identity.secret.clone()),
            identity,
            hub,
            clock,
            gate,
            counters: Counters::default(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        });
        let tasks = TaskTracker::new();
        let edge = Edge::new(listener, tls, Arc::clone(&shared), asks, tasks.clone());
        Ok(Server {
            edge,
            shared,
            hub_tasks,
            store_closed,
            tasks,
            local_addr,
            bootstrap: (admins == 0).then_some(bootstrap),
            data_dir,
        })
    }

    fn tls(
        &self,
        data_dir: Option<&DataDir>,
        origins: &[Origin],
    ) -> Result<Option<TlsAcceptor>, BuildError> {
        Ok(match self.protection()? {
            Protection::Clear => None,
            Protection::Files { cert, key } => Some(tls::from_files(&cert, &key)?),
            Protection::SelfSigned => Some(tls::self_signed(data_dir, origins)?),
        })
    }

    fn hub_settings(&self, identity: &ServerIdentity) -> hub::Settings {
        let who = |who| match who {
            Who::Members => hub::Who::Members,
            Who::Admins => hub::Who::Admins,
        };
        hub::Settings {
            registration: match self.registration {
                Registration::Invite => hub::Registration::Invite,
                Registration::Open => hub::Registration::Open,
                Registration::Closed => hub::Registration::Closed,
            },
            account_invites: who(self.invite),
            create_channels: who(self.create),
            message_retention_ms: self.message_retention.ms(),
            whisper_retention_ms: self.whisper_retention.ms(),
            appends_per_s: self.limits.sends_per_second,
            append_burst: self.limits.sends_burst,
            appends_per_channel_minute: self.limits.sends_per_channel_minute,
            bytes_per_day: self.limits.send_mb_per_day.saturating_mul(1_000_000),
            joins_per_minute: self.limits.joins_per_minute,
            key_failures_per_minute: self.limits.key_failures_per_minute,
            connections_per_user_max: self.limits.connections_per_user,
            machines_per_channel_max: self.limits.machines_per_channel,
            mailbox_items_max: self.limits.mailbox_items,
            mailbox_bytes_max: u64::from(self.limits.mailbox_kib) * 1024,
            sessions_per_machine_max: self.limits.sessions_per_machine,
            channels_per_user_max: self.limits.channels_per_user,
            disk_floor_bytes: self.disk_floor_mib.saturating_mul(1024 * 1024),
            ..hub::Settings::new(identity.server_id, identity.secret.clone())
        }
    }
}

/// Returns what opens the store; `closed` is cancelled when it is closed for good.
fn opener(data_dir: Option<&DataDir>, closed: CancellationToken) -> OpenStore {
    let guard = closed.drop_guard();
    match data_dir.map(|dir| dir.path().join(DATABASE_FILE)) {
        Some(path) => Box::new(move || {
            let _kept = &guard;
            Ok(Box::new(SqliteStore::open(&path)?) as Box<dyn Store>)
        }),
        None => Box::new(move || {
            let _kept = &guard;
            Ok(Box::new(MemoryStore::new()) as Box<dyn Store>)
        }),
    }
}

fn random() -> Result<[u8; 32], IdentityError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| IdentityError::Random)?;
    Ok(bytes)
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("local_addr", &self.local_addr)
            .field("server_id", &self.shared.identity.server_id)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Returns the address it listens on.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns the server's key.
    #[must_use]
    pub fn server_key(&self) -> ServerKey {
        self.shared.secret.server_key()
    }

    /// Returns the server's id.
    #[must_use]
    pub fn server_id(&self) -> ServerId {
        self.shared.identity.server_id
    }

    /// Returns the fingerprint that links carry.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.server_key().fingerprint()
    }

    /// Returns every origin it answers to, the preferred one first.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.shared.origins
    }

    /// Returns the origin that links should name, as text.
    #[must_use]
    pub fn origin(&self) -> String {
        let first = self.shared.origins.first();
        first.map(Origin::short).unwrap_or_default()
    }

    /// Returns the hub's address.
    #[must_use]
    pub fn hub(&self) -> HubHandle {
        self.shared.hub.clone()
    }

    /// Returns the one-time link that makes the first admin; `None` once there is one. Its secret is
    /// what an embedding program redeems in-process.
    #[must_use]
    pub fn bootstrap_link(&self) -> Option<Link> {
        let secret = self.bootstrap.clone()?;
        Some(Link::bootstrap(self.origin(), secret, &self.server_key()))
    }

    /// Serves in a task of its own.
    #[must_use]
    pub fn spawn(self) -> Running {
        let stop = CancellationToken::new();
        let (hub, local_addr) = (self.hub(), self.local_addr);
        let shutdown = stop.clone().cancelled_owned();
        Running {
            task: tokio::spawn(self.run(shutdown)),
            stop,
            hub,
            local_addr,
        }
    }

    /// Serves until `shutdown`, then drains: says goodbye, lets everybody finish for a few seconds,
    /// makes everything durable.
    ///
    /// # Errors
    /// [`RunError::Hub`].
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self {
            edge,
            shared,
            hub_tasks,
            store_closed,
            tasks,
            local_addr,
            bootstrap,
            data_dir,
        } = self;
        drop(bootstrap);
        tracing::info!(%local_addr, server = %shared.identity.server_id, "serving");
        let accepting = tokio::spawn(edge.run());
        let result = tokio::select! {
            () = shutdown => Ok(()),
            () = shared.hub.closed() => Err(RunError::Hub),
        };
        tracing::info!("draining");
        shared.stop.cancel();
        let limit = Duration::from_millis(shared.config.limits.drain_timeout_ms);
        tasks.close();
        let drained = async {
            // A hub that is gone has nobody left to say goodbye to.
            shared.hub.drain().await.ok();
            tasks.wait().await;
        };
        if tokio::time::timeout(limit, drained).await.is_err() {
            tracing::warn!(left = tasks.len(), "some connections did not leave in time");
        }
        shared.abort.cancel();
        tasks.wait().await;
        // Cancelled above; it has nothing to report.
        accepting.await.ok();
        // The hub stops with its last handle, and the store with the hub.
        drop(shared);
        hub_tasks.close();
        hub_tasks.wait().await;
        store_closed.cancelled().await;
        drop(data_dir);
        tracing::info!("stopped");
        result
    }
}

impl Running {
    /// Returns the address it listens on.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Returns the hub's address.
    #[must_use]
    pub fn hub(&self) -> HubHandle {
        self.hub.clone()
    }

    /// Drains and stops.
    ///
    /// # Errors
    /// [`RunError::Hub`].
    pub async fn shutdown(self) -> Result<(), RunError> {
        let Self {
            task, stop, hub, ..
        } = self;
        drop(hub);
        stop.cancel();
        task.await.unwrap_or(Err(RunError::Hub))
    }
}
