//! The permission desk: requests for verdicts, and verdicts, sealed to one session's mailbox each.
//!
//! They travel as entries of kind 5, which are never a message: nothing shows them to a model, counts them as
//! unread or searches them. Who may decide what is the receiver's question, not this module's.

use super::Client;
use super::send::Post;
use crate::book::Verified;
use crate::error::ClientError;
use conclave_proto::body::Body;
use conclave_proto::desk::{REQUEST_MS_MAX, Request, Verdict};
use conclave_proto::entry::Route;
use conclave_proto::frame::op::Read;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{LogId, MailboxId, MsgId, UserId};
use conclave_proto::key::OwnerKey;
use conclave_proto::name::{DESK_HANDLE, Name, SessionPath};
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long between two looks at how far the mailbox was read.
const LOOK: Duration = Duration::from_millis(20);

/// The most open requests that are listed, and of one user: who asks for ever must not hide the others.
pub const OPEN_MAX: usize = 64;
const OF_USER_MAX: usize = 16;

/// A request or a verdict that came: signed by a machine of its user, never seen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paper {
    /// In which log it stands.
    pub log: LogId,
    /// Its place there.
    pub seq: u64,
    /// Its id.
    pub id: MsgId,
    /// When the server stored it.
    pub at: UnixMs,
    /// Which session sent it.
    pub from: SessionPath,
    /// Whose that is.
    pub user: UserId,
    /// That user's name stood for another one before.
    pub key_changed: bool,
    /// What it says.
    pub says: Says,
}

/// What a paper says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// A call waits for a verdict.
    Request(Request),
    /// A verdict.
    Verdict(Verdict),
}

impl Paper {
    /// Reads one. Only an entry of kind 5 can be one, and a request is of its sender's own session and about
    /// the call that it shows.
    pub(crate) fn of(m: &Verified) -> Option<Self> {
        let Route::Receipt(_) = m.route else {
            return None;
        };
        let says = match (&m.body.request, &m.body.verdict) {
            (Some(request), None) if request.session == m.sender && request.is_shown() => {
                Says::Request(Request::clone(request))
            }
            (None, Some(verdict)) => Says::Verdict(Verdict::clone(verdict)),
            _ => return None,
        };
        Some(Self {
            log: m.log,
            seq: m.seq,
            id: m.id,
            at: m.at,
            from: m.sender.clone(),
            user: m.user,
            key_changed: false,
            says,
        })
    }
}

impl Client {
    /// Returns the server's time now, as far as it is known.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn server_time(&self) -> Result<UnixMs, ClientError> {
        self.with(|core| core.server_now()).await
    }

    /// Returns the owner keys of a user that count now; the server is asked for newer ones if it can be.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn owners_of(&self, user: UserId) -> Result<Vec<OwnerKey>, ClientError> {
        self.refreshed(user).await?;
        let log = self.known_identity(user).await?;
        let owners = log.iter().flat_map(|log| log.owners().copied());
        Ok(owners.collect())
    }

    /// Returns the desks of a user's machines.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn desks_of(&self, user: UserId) -> Result<Vec<SessionPath>, ClientError> {
        self.refreshed(user).await?;
        let (log, desk) = (self.known_identity(user).await?, Name::new(DESK_HANDLE));
        let (Some(log), Ok(desk)) = (log, desk) else {
            return Ok(Vec::new());
        };
        let at = |machine: &Name| SessionPath {
            user: log.username().clone(),
            machine: machine.clone(),
            handle: desk.clone(),
        };
        Ok(log.machines().map(|machine| at(&machine.name)).collect())
    }

    async fn refreshed(&self, user: UserId) -> Result<(), ClientError> {
        match self.learn(user).await {
            Err(ClientError::Closed) => Err(ClientError::Closed),
            Err(error) => {
                tracing::debug!(%error, "an identity was not renewed");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Asks everybody in `to` for a verdict, all at once; returns how many the server has it for.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn ask_desks(
        &self,
        request: &Request,
        to: &[SessionPath],
    ) -> Result<usize, ClientError> {
        let body = Body {
            request: Some(Box::new(request.clone())),
            ..Body::default()
        };
        if self.live().is_none() {
            return Ok(0);
        }
        let posts = to.iter().map(|path| self.post_paper(path, &body));
        let mut reached = 0;
        for (path, posted) in to.iter().zip(join_all(posts).await) {
            match posted {
                Ok(()) => reached += 1,
                Err(ClientError::Closed) => return Err(ClientError::Closed),
                Err(error) => tracing::info!(%path, %error, "an approver was not reached"),
            }
        }
        Ok(reached)
    }

    /// Gives a verdict to the session that asked.
    ///
    /// # Errors
    /// [`ClientError`]; then the session may not have it.
    pub async fn give_verdict(
        &self,
        to: &SessionPath,
        verdict: Verdict,
    ) -> Result<(), ClientError> {
        let body = Body {
            verdict: Some(Box::new(verdict)),
            ..Body::default()
        };
        self.post_paper(to, &body).await
    }

    async fn post_paper(&self, to: &SessionPath, body: &Body) -> Result<(), ClientError> {
        let log = self.mailbox_of(to).await?;
        let id = MsgId::new(super::random()?);
        let mut post = Post::new(id, log, Route::Receipt(to.clone()), body)?;
        // What comes later is worth nothing.
        post.keep_ms = REQUEST_MS_MAX;
        self.post(post).await.map(drop)
    }

    /// Takes everything that waits in this session's mailbox, for at most `within`: what comes later comes as an
    /// event.
    ///
    /// # Errors
    /// [`ClientError`]; [`Code::Timeout`] if it is not here in time.
    pub async fn empty_mailbox(&self, within: Duration) -> Result<(), ClientError> {
        self.follow_mailbox().await?;
        let Some(log) = self.live().and_then(|ready| ready.mailbox) else {
            return Ok(());
        };
        let (after, limit) = (0, 1);
        let Reply::Page(page) = self.request(Op::Read(Read { log, after, limit })).await? else {
            return Err(ClientError::Answer);
        };
        let reach = async {
            loop {
                match self.with(move |core| core.stored(&log)).await {
                    Ok(stored) if stored < Some(page.head) => tokio::time::sleep(LOOK).await,
                    done => return done.map(drop),
                }
            }
        };
        let late = |_| Reject::new(Code::Timeout, "the mailbox was not read in time");
        tokio::time::timeout(within, reach).await.map_err(late)?
    }

    /// Returns the requests to this session that a verdict still counts for, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_requests(&self) -> Result<Vec<Paper>, ClientError> {
        let own: Option<SessionPath> = self.own_path().await?.parse().ok();
        let Some(path) = own else {
            return Ok(Vec::new());
        };
        let log = LogId::Mailbox(MailboxId::of(&self.info.account.user_id, &path));
        let now = self.server_time().await?;
        let since = UnixMs(now.0.saturating_sub(2 * REQUEST_MS_MAX));
        let found = self.replica().papers(log, since).await?;
        let papers = found.iter().filter_map(Paper::of);
        let open = papers
            .filter(|paper| matches!(&paper.says, Says::Request(request) if now < request.expires));
        let mut asked: BTreeMap<UserId, usize> = BTreeMap::new();
        let few = |paper: &Paper| {
            let count = asked.entry(paper.user).or_default();
            *count += 1;
            *count <= OF_USER_MAX
        };
        Ok(open.filter(few).take(OPEN_MAX).collect())
    }
}
