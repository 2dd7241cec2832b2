//! Saying something to a channel or a session.

use super::{Client, random};
use crate::core::Command;
use crate::core::sending::Order;
use crate::error::ClientError;
use crate::home::Account;
use crate::outbox::{Draft, KEEP_MS};
use crate::replica::delivery::Sent;
use conclave_proto::body::Body;
use conclave_proto::entry::{FLAG_HUMAN, Route};
use conclave_proto::id::{Blob, ChannelId, LogId, MailboxId, MsgId};
use conclave_proto::name::{CLI_HANDLE, SessionPath};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a caller waits for the server's disk; then the outbox goes on alone.
const WAIT: Duration = Duration::from_secs(10);

/// How many recipients of a message to a channel are followed up without being asked to.
pub const RECIPIENTS_MAX: usize = 20;

/// How many are if the sender asks for it.
pub const ASKED_MAX: usize = 256;

/// Where to say something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To everybody in a channel.
    Channel(ChannelId),
    /// To one session.
    Session(SessionPath),
}

/// What became of what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendReport {
    /// The message's id.
    pub id: MsgId,
    /// In which log.
    pub log: LogId,
    /// Its place and time, once it is on the server's disk; else it waits in the outbox.
    pub stored: Option<(u64, UnixMs)>,
}

/// An entry to be said.
pub(crate) struct Post {
    pub(crate) id: MsgId,
    pub(crate) log: LogId,
    pub(crate) route: Route,
    pub(crate) body: Blob,
    pub(crate) hop: u8,
    pub(crate) flags: u8,
    /// How long it may wait in the outbox.
    pub(crate) keep_ms: u64,
    /// Of a message or whisper: who says it to whom, to note what becomes of it.
    pub(crate) sent: Option<Sent>,
}

impl Post {
    /// Makes one that nobody else caused and that may wait for a day.
    ///
    /// # Errors
    /// [`Code::TooLarge`] if a part of the body is beyond its bound.
    pub(crate) fn new(
        id: MsgId,
        log: LogId,
        route: Route,
        body: &Body,
    ) -> Result<Self, ClientError> {
        let body = body
            .to_bytes()
            .map_err(|e| Reject::new(Code::TooLarge, e.to_string()))?;
        Ok(Self {
            id,
            log,
            route,
            body,
            hop: 0,
            flags: 0,
            keep_ms: KEEP_MS,
            sent: None,
        })
    }
}

impl Client {
    /// Says something. It is on this machine's disk before it is sent, and stays there until the
    /// server has it on its own; after ten seconds this returns all the same.
    ///
    /// # Errors
    /// The server's refusal; then nothing was sent and nothing waits.
    pub async fn send(
        &self,
        target: Target,
        body: &Body,
        hop: u8,
        human: bool,
    ) -> Result<SendReport, ClientError> {
        let id = MsgId::new(random()?);
        self.send_as(id, target, &[], body, hop, human).await
    }

    /// Says something under an id that the caller drew: the same words to several places have the same.
    /// Of a message to a channel `recipients` names the sessions that it is meant for, without this one;
    /// what becomes of it is noted for each, and each is asked to tell, if they are at most
    /// [`RECIPIENTS_MAX`], or at most [`ASKED_MAX`] and the body asks for receipts. A whisper's recipient
    /// is its target.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_as(
        &self,
        id: MsgId,
        target: Target,
        recipients: &[SessionPath],
        body: &Body,
        hop: u8,
        human: bool,
    ) -> Result<SendReport, ClientError> {
        let (log, route, peers) = match target {
            Target::Channel(id) => (LogId::Channel(id), Route::Everyone, recipients.to_vec()),
            Target::Session(path) => {
                let log = self.mailbox_of(&path).await?;
                (log, Route::Whisper(path.clone()), vec![path])
            }
        };
        let most = if body.receipt {
            ASKED_MAX
        } else {
            RECIPIENTS_MAX
        };
        let peers = if peers.len() <= most {
            peers
        } else {
            Vec::new()
        };
        // Who has no mailbox is told nothing.
        let receipt = !peers.is_empty() && self.info.handle.as_str() != CLI_HANDLE;
        let body = Body {
            receipt,
            ..body.clone()
        };
        let mut post = Post::new(id, log, route, &body)?;
        post.hop = hop;
        post.flags = if human { FLAG_HUMAN } else { 0 };
        let sender = self.own_path().await?;
        post.sent = Some(Sent { sender, peers });
        self.post(post).await
    }

    /// Returns this session's path; before the server has said it, what it will most probably be.
    pub(crate) async fn own_path(&self) -> Result<String, ClientError> {
        let said = self
            .with(|core| core.ready.as_ref().map(|ready| ready.path.to_string()))
            .await?;
        let Account { user, machine, .. } = &self.info.account;
        Ok(said.unwrap_or_else(|| format!("{user}/{machine}/{}", self.info.handle)))
    }

    /// Returns the mailbox of a session.
    pub(crate) async fn mailbox_of(&self, path: &SessionPath) -> Result<LogId, ClientError> {
        let user = self.find_user(&path.user).await?;
        Ok(LogId::Mailbox(MailboxId::of(&user, path)))
    }

    /// Hands an entry to the outbox and waits for what becomes of it. What is worth nothing later fails
    /// with [`Code::Timeout`] instead of waiting in the outbox.
    pub(crate) async fn post(&self, post: Post) -> Result<SendReport, ClientError> {
        let Post { id, log, .. } = post;
        let created = crate::link::wall();
        let draft = Draft {
            n: 0,
            id,
            log,
            route: post.route,
            body: post.body,
            hop: post.hop,
            flags: post.flags,
            created,
            until: created.plus(post.keep_ms),
            sealed: None,
        };
        let brief = draft.is_brief();
        let (told, answer) = oneshot::channel();
        let sent = post.sent;
        self.command(Command::Send(Box::new(Order { draft, sent, told })))
            .await?;
        let answer = tokio::time::timeout(WAIT, answer).await;
        let stored = match answer {
            Ok(Ok(Ok(done))) => Some((done.seq, done.at)),
            Ok(Ok(Err(reject))) => return Err(reject.into()),
            // The session ended, or another process of this handle took it over: nothing is lost.
            Ok(Err(_)) if !self.replica().is_drafted(id, log).await? => {
                return Err(ClientError::Closed);
            }
            Ok(Err(_)) | Err(_) if brief => {
                let text = "the server did not answer in time; whether it was written is not known";
                return Err(Reject::new(Code::Timeout, text).into());
            }
            Ok(Err(_)) | Err(_) => None,
        };
        Ok(SendReport { id, log, stored })
    }

    /// Returns which handles of this machine have something left to send here, and how much.
    ///
    /// # Errors
    /// [`ClientError::Replica`].
    pub async fn waiting(&self) -> Result<Vec<(String, u64)>, ClientError> {
        Ok(self.replica().waiting().await?)
    }
}
