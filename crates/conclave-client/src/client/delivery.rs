//! What became of what was said: receipts of others, cursors, and receipts for others.

use super::Client;
use super::send::Post;
use crate::core::Command;
use crate::error::ClientError;
use crate::replica::delivery::MessageStatus;
use conclave_proto::body::{Body, Fate, Receipt};
use conclave_proto::entry::Route;
use conclave_proto::frame::op::CursorsOf;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{LogId, MsgId};
use conclave_proto::name::SessionPath;
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;
use futures_util::future::join_all;
use std::collections::HashMap;

/// How many senders are told at once.
const AT_ONCE: usize = 16;

impl Client {
    /// Notes that the agent has a message; its sender is told, if it asked.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mark_shown(&self, log: LogId, id: MsgId) -> Result<(), ClientError> {
        self.mark(vec![(log, id, Some(Fate::InContext))]).await
    }

    /// Notes what became of messages here, all at once: shown, blocked (its human muted the sender or the
    /// place), or without a fate passed by. Senders of the first two are told, if they asked.
    ///
    /// # Errors
    /// [`ClientError`]; then none is noted.
    pub async fn mark(&self, marks: Vec<(LogId, MsgId, Option<Fate>)>) -> Result<(), ClientError> {
        let handle = self.info.handle.clone();
        let now = crate::link::wall();
        if self.replica().mark(handle, marks, now).await? {
            let soon = Command::With(Box::new(|core| core.receipts_soon()));
            self.command(soon).await?;
        }
        Ok(())
    }

    /// Returns what became of a message that this machine sent; `None` if it sent none of that id in the
    /// last 30 days. The server is asked only for recipients that nothing newer is known of.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn message_status(&self, id: MsgId) -> Result<Option<MessageStatus>, ClientError> {
        if self.live().is_some() {
            for log in self.replica().open_logs(id).await? {
                self.look_at(log).await?;
            }
        }
        Ok(self.replica().status(id).await?)
    }

    /// Returns when peers last proved, by a receipt or an answer, that a message of this machine reached
    /// their model. Asks nobody.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn proven(&self) -> Result<HashMap<SessionPath, UnixMs>, ClientError> {
        Ok(self.replica().proven().await?)
    }

    /// Returns the words of a question that this session asked, if it waits for answers that name it.
    /// Asks nobody, not even the session's task.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn question(&self, id: MsgId) -> Result<Option<String>, ClientError> {
        let handle = self.info.handle.clone();
        Ok(self.replica().question(handle, id).await?)
    }

    /// Asks how far a log was read. Who may not be whispered to any more is not asked about.
    async fn look_at(&self, log: LogId) -> Result<(), ClientError> {
        match self.request(Op::Cursors(CursorsOf { log })).await {
            Ok(Reply::Cursors(cursors)) => {
                let now = self.with(|core| core.server_now()).await?;
                Ok(self.replica().take_cursors(log, cursors, now).await?)
            }
            Ok(_) => Err(ClientError::Answer),
            Err(error) => {
                tracing::debug!(%error, %log, "no cursors");
                Ok(())
            }
        }
    }

    /// Looks whether whispers of this session were had, or have lapsed, and plans the next look.
    pub(crate) async fn look_after_whispers(&self) -> Result<(), ClientError> {
        let Some(ready) = self.live() else {
            return Ok(());
        };
        let handle = self.info.handle.clone();
        let kept = ready.limits.whisper_retention_ms;
        let open = self.replica().open_whispers(handle.clone()).await?;
        let look = self.with(move |core| core.begin_look(&open, kept)).await?;
        for log in look.logs {
            self.look_at(log).await?;
        }
        let open = self.replica().open_whispers(handle).await?;
        self.with(move |core| core.end_look(&open, kept)).await?;
        self.command(Command::News).await
    }

    /// Tells senders what became of their messages here, an entry for each, as fast as may be. Sessions
    /// do that by themselves within a moment; who ends sooner calls this.
    ///
    /// # Errors
    /// [`ClientError`]; what was not told is told later.
    pub async fn tell_receipts(&self) -> Result<(), ClientError> {
        if self.live().is_none() {
            return Ok(());
        }
        loop {
            let due = self
                .replica()
                .receipts_due(self.info.handle.clone())
                .await?;
            if due.is_empty() {
                return Ok(());
            }
            let due = self.with(move |core| core.pace_receipts(due)).await?;
            if due.is_empty() {
                return Ok(());
            }
            for some in due.chunks(AT_ONCE) {
                let told = some.iter().map(|(to, due)| self.tell_receipt(to, due));
                for told in join_all(told).await {
                    told?;
                }
            }
        }
    }

    async fn tell_receipt(&self, to: &SessionPath, due: &[Receipt]) -> Result<(), ClientError> {
        match self.post_receipt(to, due).await {
            Ok(()) => {}
            Err(error) if is_passing(&error) => return Err(error),
            // The mailbox is gone, full or closed to this session: there is nobody to tell.
            Err(error) => tracing::debug!(%error, %to, "a receipt was not taken"),
        }
        let ids = due.iter().map(|receipt| receipt.id).collect();
        let handle = self.info.handle.clone();
        Ok(self
            .replica()
            .receipts_told(handle, to.clone(), ids)
            .await?)
    }

    async fn post_receipt(&self, to: &SessionPath, due: &[Receipt]) -> Result<(), ClientError> {
        let log = self.mailbox_of(to).await?;
        let body = Body {
            receipts: due.to_vec(),
            ..Body::default()
        };
        let id = MsgId::new(super::random()?);
        let route = Route::Receipt(to.clone());
        self.post(Post::new(id, log, route, &body)?).await.map(drop)
    }
}

/// Returns whether a failure says nothing of the recipient, only of the moment.
fn is_passing(error: &ClientError) -> bool {
    matches!(
        error.code(),
        Code::RateLimited
            | Code::StorageFull
            | Code::Draining
            | Code::Timeout
            | Code::Offline
            | Code::Internal
    )
}
