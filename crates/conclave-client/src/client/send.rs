//! Saying something to a channel or a session.

use super::{Client, random};
use crate::core::Command;
use crate::core::sending::Order;
use crate::error::ClientError;
use crate::outbox::Draft;
use conclave_proto::body::Body;
use conclave_proto::entry::FLAG_HUMAN;
use conclave_proto::id::{ChannelId, LogId, MailboxId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a caller waits for the server's disk; then the outbox goes on alone.
const WAIT: Duration = Duration::from_secs(10);

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
        let bytes = body
            .to_bytes()
            .map_err(|e| Reject::new(Code::TooLarge, e.to_string()))?;
        let (log, to) = match target {
            Target::Channel(id) => (LogId::Channel(id), None),
            Target::Session(path) => {
                let user = self.find_user(&path.user).await?;
                (LogId::Mailbox(MailboxId::of(&user, &path)), Some(path))
            }
        };
        let id = MsgId::new(random()?);
        let draft = Draft {
            n: 0,
            id,
            log,
            to,
            body: bytes,
            hop,
            flags: if human { FLAG_HUMAN } else { 0 },
            created: crate::link::wall(),
            sealed: None,
        };
        let (told, answer) = oneshot::channel();
        self.command(Command::Send(Box::new(Order { draft, told })))
            .await?;
        match tokio::time::timeout(WAIT, answer).await {
            Ok(Ok(Ok(done))) => Ok(SendReport {
                id,
                log,
                stored: Some((done.seq, done.at)),
            }),
            Ok(Ok(Err(reject))) => Err(reject.into()),
            // The session ended, or another process of this handle took it over: nothing is lost.
            Ok(Err(_)) if self.replica().is_drafted(id).await? => Ok(SendReport {
                id,
                log,
                stored: None,
            }),
            Ok(Err(_)) => Err(ClientError::Closed),
            Err(_) => Ok(SendReport {
                id,
                log,
                stored: None,
            }),
        }
    }

    /// Returns which handles of this machine have something left to send here, and how much.
    ///
    /// # Errors
    /// [`ClientError::Replica`].
    pub async fn waiting(&self) -> Result<Vec<(String, u64)>, ClientError> {
        Ok(self.replica().waiting().await?)
    }
}
