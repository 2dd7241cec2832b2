//! Control records: made on top of the newest one, and made again when somebody else was first.

use super::{Client, Signer};
use crate::error::ClientError;
use conclave_proto::channel_log::{Author, ChannelLog, Ctl, CtlBody, Identities as _};
use conclave_proto::frame::op::{CtlAppend, Wrap};
use conclave_proto::frame::reply::Appended;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::{Blob, ChannelId};
use conclave_proto::record::Record;
use conclave_proto::reject::Code;

/// How often a control record is made again because somebody else was first.
const CONFLICTS_MAX: usize = 32;

impl Client {
    /// Appends a control record, made again as often as somebody else is first.
    ///
    /// # Errors
    /// The channel's rules or the server's refusal, as [`ClientError`].
    pub async fn control(
        &self,
        channel: ChannelId,
        body: CtlBody,
        signer: Signer<'_>,
    ) -> Result<Appended, ClientError> {
        self.control_with(channel, signer, None, |_, _| Ok(body.clone()))
            .await
    }

    pub(crate) async fn control_with(
        &self,
        channel: ChannelId,
        signer: Signer<'_>,
        invite_box: Option<Blob>,
        make: impl Fn(&ChannelLog, &Author) -> Result<CtlBody, ClientError>,
    ) -> Result<Appended, ClientError> {
        let mut conflicts = 0;
        loop {
            let tip = self.tip(channel).await?;
            let author = self.author().await?;
            let body = make(&tip, &author)?;
            let rec = self.sign_ctl(&tip, body, signer).await?;
            match self
                .append_ctl(channel, &rec, Vec::new(), invite_box.clone())
                .await
            {
                Ok(done) => {
                    // Leaving ends the right to read on: nothing to catch up with then.
                    if let Err(error) = self.tip(channel).await {
                        tracing::debug!(%error, "channel not readable after the change");
                    }
                    return Ok(done);
                }
                Err(ClientError::Reject(reject))
                    if reject.code == Code::CtlConflict && conflicts < CONFLICTS_MAX =>
                {
                    conflicts += 1;
                    // Nothing newer to read means that the record itself changes nothing.
                    let head = tip.head();
                    if self.tip(channel).await?.head() == head {
                        return Err(reject.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Signs the record that follows the newest one known.
    pub(crate) async fn sign_ctl(
        &self,
        tip: &ChannelLog,
        body: CtlBody,
        signer: Signer<'_>,
    ) -> Result<Record, ClientError> {
        let ctl = Ctl {
            channel: *tip.id(),
            after: Some(tip.head()),
            body,
            author: self.author().await?,
            ts: crate::link::wall(),
        };
        Ok(match signer {
            Signer::Machine => ctl.sign_machine(&self.info.secret),
            Signer::Owner(owner) => ctl.sign_owner(owner.secret()),
        })
    }

    pub(crate) async fn append_ctl(
        &self,
        channel: ChannelId,
        rec: &Record,
        wraps: Vec<Wrap>,
        invite_box: Option<Blob>,
    ) -> Result<Appended, ClientError> {
        let rec = rec.bytes().clone();
        let op = CtlAppend {
            channel,
            rec,
            wraps,
            invite_box,
        };
        match self.request(Op::CtlAppend(op)).await? {
            Reply::Appended(done) => Ok(done),
            _ => Err(ClientError::Answer),
        }
    }

    /// Returns who this session is, for a record, with the newest identity head the server knows.
    pub(crate) async fn author(&self) -> Result<Author, ClientError> {
        let user = self.info.account.user_id;
        let ready = self.ready(std::time::Duration::from_secs(10)).await?;
        let known = self
            .with(move |core| core.book.identity(&user).map(|log| log.head()))
            .await?;
        if known.is_none_or(|head| head.n < ready.ident.n) {
            self.learn(user).await?;
        }
        let ident = self.identity_head(user).await?;
        Ok(Author {
            user,
            path: ready.path.clone(),
            ident,
        })
    }

    pub(crate) async fn server_key(&self) -> Result<conclave_proto::key::ServerKey, ClientError> {
        self.with(|core| core.server_key()).await
    }
}
