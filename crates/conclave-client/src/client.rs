//! One session on one server, as programs use it: a cheap handle, and a stream of events.
//!
//! The handle talks to one task that owns the link and all verified state. Every call ends: with what
//! was asked for, a typed error, or a time-out.

pub mod admin;
pub mod channel;
pub mod claim;
pub mod control;
pub mod delivery;
pub mod desk;
pub mod entry;
pub mod find;
pub mod items;
pub mod keys;
pub mod machine;
pub mod memory;
mod past;
pub mod peers;
pub mod read;
pub mod rotate;
pub mod search;
pub mod send;
pub mod state;
pub mod verify;

pub use channel::{Channel, NewChannel, Signer};
pub use peers::Peer;
pub use read::History;
pub use send::{SendReport, Target};

use crate::book::{Book, NamePin};
use crate::core::errand::Errands;
use crate::core::{COMMANDS, Command, Core, EVENTS, Setup};
use crate::dial::Proxies;
use crate::error::ClientError;
use crate::event::{Event, Status};
use crate::home::{Account, Home, Profile};
use crate::keystore::MachineKeys;
use crate::link::Driver;
use crate::origin::Origin;
use crate::replica::Replica;
use conclave_proto::body::Head;
use conclave_proto::bytes::sha256;
use conclave_proto::channel_log::{CtlError, Identities as _};
use conclave_proto::codec::Encoding;
use conclave_proto::encryption_key::Announcement;
use conclave_proto::frame::op::IdentFetch;
use conclave_proto::frame::{Op, Ready, Reply};
use conclave_proto::handshake::Mode;
use conclave_proto::id::{Blob, Instance, LogId, SenderSid, ServerId, UserId};
use conclave_proto::key::Secret;
use conclave_proto::link::{LinkConfig, Pin};
use conclave_proto::name::Name;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// What a session is to be.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its handle.
    pub handle: Name,
    /// Whether the user chose the handle.
    pub pinned: bool,
    /// Its lineage: see [`crate::instance`].
    pub instance: Instance,
    /// Program and version.
    pub agent: String,
}

impl Session {
    /// Returns a command-line one-shot: hidden, without mailbox.
    ///
    /// # Errors
    /// [`Code::Internal`] without randomness.
    pub fn one_shot(agent: &str) -> Result<Self, ClientError> {
        Self::hidden(conclave_proto::name::CLI_HANDLE, agent)
    }

    /// Returns one at the desk of this machine, where permission requests come in: hidden, and any number of
    /// them at once.
    ///
    /// # Errors
    /// [`Code::Internal`] without randomness.
    pub fn desk(agent: &str) -> Result<Self, ClientError> {
        Self::hidden(conclave_proto::name::DESK_HANDLE, agent)
    }

    fn hidden(handle: &str, agent: &str) -> Result<Self, ClientError> {
        let handle = Name::new(handle);
        let handle = handle.map_err(|_| Reject::new(Code::Internal, "no handle for one-shots"))?;
        let instance = Instance::new(random()?);
        Ok(Self {
            handle,
            pinned: false,
            instance,
            agent: agent.to_owned(),
        })
    }
}

/// A session on a server. Clones share it; it ends with [`Client::stop`] or the last clone.
#[derive(Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    info: Arc<Info>,
}

/// A client that does not keep the session alive.
#[derive(Clone)]
pub(crate) struct WeakClient {
    commands: mpsc::WeakSender<Command>,
    status: watch::Receiver<Status>,
    info: Arc<Info>,
}

impl WeakClient {
    /// Returns a handle, unless the session has ended.
    pub(crate) fn upgrade(&self) -> Option<Client> {
        Some(Client {
            commands: self.commands.upgrade()?,
            status: self.status.clone(),
            info: Arc::clone(&self.info),
        })
    }
}

struct Info {
    home: Home,
    server: ServerId,
    origin: String,
    account: Account,
    handle: Name,
    secret: Arc<Secret>,
    replica: Replica,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Client({} at {})",
            self.info.account.user, self.info.origin
        )
    }
}

/// Returns fresh random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|_| Reject::new(Code::Internal, "the system has no randomness"))?;
    Ok(bytes)
}

impl Client {
    /// Starts a session of an enrolled machine; dials in the background.
    ///
    /// # Errors
    /// [`ClientError`] for local trouble only.
    pub async fn connect(
        home: &Home,
        profile: &Profile,
        session: Session,
    ) -> Result<(Self, mpsc::Receiver<Event>), ClientError> {
        let url = profile.urls.first().cloned().unwrap_or_default();
        let account = profile
            .user
            .clone()
            .ok_or_else(|| ClientError::NoAccount(url.clone()))?;
        let keys = MachineKeys::load(home, &profile.id)?;
        let keys = keys.ok_or(ClientError::NoAccount(url))?;
        Self::start(home, profile, account, &keys, session, Mode::Auth).await
    }

    /// Starts a session with any first handshake.
    pub(crate) async fn start(
        home: &Home,
        profile: &Profile,
        account: Account,
        keys: &MachineKeys,
        session: Session,
        mode: Mode,
    ) -> Result<(Self, mpsc::Receiver<Event>), ClientError> {
        let origin = profile
            .urls
            .first()
            .map_or("", String::as_str)
            .parse::<Origin>()?;
        let replica = Replica::open(&home.server_dir(&profile.id).join("replica.sqlite")).await?;
        let mut book = open_book(&replica, profile.id, account.user_id).await?;
        let own = keys.encryption.iter();
        let own = own.map(|key| (key.number, key.secret.clone()));
        book.keys.set_own(own.collect());
        let secret = Arc::new(keys.signing.clone());
        // Who enrols learns the account's name only then.
        let user = (!matches!(mode, Mode::Enrol { .. })).then(|| account.user.clone());
        let config = LinkConfig {
            secret: Arc::clone(&secret),
            pin: Pin::Known {
                key: profile.key,
                server_id: profile.id,
            },
            handle: session.handle.clone(),
            pinned: session.pinned,
            instance: session.instance,
            agent: session.agent,
            encoding: Encoding::Cbor,
            mode,
            seed: u64::from_be_bytes(random()?),
        };
        let (tell, events) = mpsc::channel(EVENTS);
        let (say, status) = watch::channel(Status::Connecting);
        let (commands, queue) = mpsc::channel(COMMANDS);
        let (keeper, errands) = mpsc::channel(Errands::QUEUE);
        let (saved_in, kept) = (home.clone(), profile.clone());
        let core = Core::new(Setup {
            driver: Driver::new(config, origin.clone(), Proxies::from_env()),
            replica: replica.clone(),
            book,
            me: account.user_id,
            user,
            handle: session.handle.clone(),
            secret: Arc::clone(&secret),
            server_key: profile.key,
            sid: SenderSid::new(random()?),
            keeper,
            events: tell,
            status: say,
            pinned: Box::new(move |_, key| {
                let renewed = Profile {
                    key,
                    ..kept.clone()
                };
                if let Err(error) = saved_in.save(&renewed) {
                    tracing::error!(%error, "the server's new key cannot be kept");
                }
            }),
        });
        tokio::spawn(core.run(queue));
        let info = Info {
            home: home.clone(),
            server: profile.id,
            origin: origin.to_string(),
            account,
            handle: session.handle,
            secret,
            replica,
        };
        let client = Self {
            commands,
            status,
            info: Arc::new(info),
        };
        tokio::spawn(crate::keeper::run(errands, client.downgrade()));
        Ok((client, events))
    }

    fn downgrade(&self) -> WeakClient {
        WeakClient {
            commands: self.commands.downgrade(),
            status: self.status.clone(),
            info: Arc::clone(&self.info),
        }
    }

    /// Returns the server's id.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.info.server
    }

    /// Returns the origin that is dialled.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.info.origin
    }

    /// Returns whose session this is.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.info.account
    }

    /// Returns the connection's status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Returns what the server said of this session, if it is live now.
    #[must_use]
    pub fn live(&self) -> Option<Arc<Ready>> {
        match &*self.status.borrow() {
            Status::Up(ready) => Some(Arc::clone(ready)),
            Status::Connecting | Status::Down { .. } => None,
        }
    }

    /// Waits until the session is live.
    ///
    /// # Errors
    /// [`ClientError::Down`] with the reason it is not, for good or by the end of `within`.
    pub async fn ready(&self, within: Duration) -> Result<Arc<Ready>, ClientError> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|status| match status {
            Status::Up(_)
            | Status::Down {
                retry_in_ms: None, ..
            } => true,
            Status::Connecting | Status::Down { .. } => false,
        });
        let last = match tokio::time::timeout(within, settled).await {
            Ok(Ok(status)) => status.clone(),
            Ok(Err(_)) => return Err(ClientError::Closed),
            Err(_) => self.status(),
        };
        match last {
            Status::Up(ready) => Ok(ready),
            Status::Down { reason, .. } => Err(ClientError::Down(reason)),
            Status::Connecting => {
                Err(Reject::new(Code::Offline, "the server does not answer").into())
            }
        }
    }

    /// Asks the server.
    ///
    /// # Errors
    /// [`ClientError::Reject`], with `timeout` or `offline` if it does not answer.
    pub async fn request(&self, op: Op) -> Result<Reply, ClientError> {
        let (tell, told) = oneshot::channel();
        self.command(Command::Request(op, tell)).await?;
        Ok(told.await.map_err(|_| ClientError::Closed)??)
    }

    /// Ends the session; what was not sent stays in the outbox.
    pub async fn stop(&self) {
        let (tell, told) = oneshot::channel();
        if self.command(Command::Stop(tell)).await.is_ok() {
            drop(told.await);
        }
    }

    /// Returns the newest record of a user's identity log, verified, asking the server if it is unknown.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn identity_head(&self, user: UserId) -> Result<Head, ClientError> {
        let known = self
            .with(move |core| core.book.identity(&user).map(|log| log.head()))
            .await?;
        match known {
            Some(head) => Ok(head),
            None => {
                self.learn(user).await?;
                self.with(move |core| core.book.identity(&user).map(|log| log.head()))
                    .await?
                    .ok_or(ClientError::Answer)
            }
        }
    }

    /// Finds a user by name: pinned at first sight, an alarm if the name moved.
    ///
    /// # Errors
    /// [`ClientError::PinChanged`], [`ClientError::NotFound`].
    pub async fn find_user(&self, name: &Name) -> Result<UserId, ClientError> {
        if let Some(pin) = self.pinned(name).await?
            && !pin.changed
        {
            return Ok(pin.user);
        }
        let user = self.user_named(name).await?;
        self.learn(user).await?;
        self.check_name(user, name).await?;
        let pinned = self.pin(name.clone(), user).await?;
        // Once it was another's, only a person lifts the alarm.
        if self.pinned(name).await?.is_none_or(|pin| pin.changed) {
            return Err(ClientError::PinChanged {
                what: "user",
                name: name.to_string(),
                pinned: pinned.to_string(),
                presented: user.to_string(),
            });
        }
        Ok(user)
    }

    /// Returns the verified name of a user that is known.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn name_of(&self, user: UserId) -> Result<Option<Name>, ClientError> {
        self.with(move |core| core.book.identity(&user).map(|log| log.username().clone()))
            .await
    }

    /// Fetches, verifies and keeps what is new of an identity log; returns whether anything was.
    pub(crate) async fn learn(&self, user: UserId) -> Result<bool, ClientError> {
        let this = self.clone();
        self.uncut(async move { this.learn_now(user).await }).await
    }

    /// Runs to its end whatever becomes of the caller: what is verified in memory is also kept on disk.
    pub(crate) async fn uncut<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
    ) -> Result<T, ClientError> {
        tokio::spawn(work).await.map_err(|_| ClientError::Closed)?
    }

    async fn learn_now(&self, user: UserId) -> Result<bool, ClientError> {
        let from = self
            .with(move |core| core.book.next_identity(&user))
            .await?;
        let reply = self
            .request(Op::IdentFetch(IdentFetch { user, from }))
            .await?;
        let Reply::Idents(idents) = reply else {
            return Err(ClientError::Answer);
        };
        if idents.user != user || idents.records.is_empty() {
            return Ok(false);
        }
        let records = idents.records.clone();
        let (name, verified) = self
            .with(move |core| {
                // A feed may have learned the same meanwhile; then these were not verified.
                let verified = core.book.next_identity(&user) == from;
                if verified {
                    core.book.add_identity(user, &records)?;
                }
                let name = core.book.identity(&user).map(|log| log.username().clone());
                Ok::<_, ClientError>((name, verified))
            })
            .await??;
        if verified {
            let replica = &self.info.replica;
            replica.keep_idents(user, from, idents.records).await?;
        }
        if let Some(name) = name {
            self.pin(name, user).await?;
        }
        Ok(true)
    }

    async fn pin(&self, name: Name, user: UserId) -> Result<UserId, ClientError> {
        let pinned = self.info.replica.pin_name(name.clone(), user).await?;
        self.with(move |core| core.book.shown(name, pinned, user))
            .await?;
        Ok(pinned)
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.info.replica
    }

    pub(crate) async fn with<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, ClientError> {
        let (tell, told) = oneshot::channel();
        let act = Box::new(move |core: &mut Core| drop(tell.send(act(core))));
        self.command(Command::With(act)).await?;
        told.await.map_err(|_| ClientError::Closed)
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| ClientError::Closed)
    }
}

/// Reads what was verified before; damaged records are left out and fetched again.
async fn open_book(replica: &Replica, server: ServerId, me: UserId) -> Result<Book, ClientError> {
    let mut book = Book::new(server, me);
    // Another process may be writing: what control records need was there before them, so it is read after.
    let mut chains = Vec::new();
    for log in replica.ctl_logs().await? {
        if let LogId::Channel(channel) = log {
            chains.push((channel, replica.ctl(log, u64::MAX).await?));
        }
    }
    let idents = replica.idents().await?;
    for chain in idents.chunk_by(|(a, _), (b, _)| a == b) {
        let Some((user, _)) = chain.first() else {
            continue;
        };
        for (_, rec) in chain {
            if let Err(error) = book.add_identity(*user, std::slice::from_ref(rec)) {
                // What verifies stays; the rest is fetched again.
                tracing::warn!(%user, %error, "an identity in the replica is damaged");
                replica.drop_idents(*user, book.next_identity(user)).await?;
                break;
            }
        }
    }
    for (log, pin) in replica.channel_pins().await? {
        if let LogId::Channel(channel) = log {
            book.hold(channel, pin);
        }
    }
    for (channel, records) in chains {
        match book.rebuild(&records) {
            Ok(Some(tip)) if *tip.id() == channel => {
                let place = |(seq, _, rec): &(u64, UnixMs, Blob)| (*seq, sha256(rec));
                book.restore(tip, records.iter().map(place).collect());
            }
            // The chain may be as it should be: it is read from the server, and nothing here is touched.
            Err(CtlError::NeedIdentity { .. }) => {
                tracing::debug!(%channel, "a channel in the replica waits for an identity");
            }
            other => {
                // It is fetched again, and held to what was pinned of it.
                let error = other.err();
                tracing::warn!(%channel, ?error, "a channel in the replica is damaged");
                replica.drop_ctl(LogId::Channel(channel)).await?;
            }
        }
    }
    for rec in replica.announcements().await? {
        if let Ok(known) = Announcement::read(&rec) {
            book.keys.announce(known, rec);
        }
    }
    for key in replica.channel_keys(None).await? {
        book.keys.add_channel(key);
    }
    for (channel, bundle) in replica.bundles().await? {
        book.keys.set_bundle(channel, bundle);
    }
    for (name, user, verified, changed) in replica.names().await? {
        book.pin(
            name,
            NamePin {
                user,
                verified,
                changed,
            },
        );
    }
    Ok(book)
}
