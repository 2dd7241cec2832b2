//! Acts of server admins, and what only they may look at.

use super::{Client, Signer, random};
use crate::error::ClientError;
use conclave_proto::admin::{Act, AdminBody};
use conclave_proto::frame::op::{AdminAct, Nothing, Page};
use conclave_proto::frame::reply::{AuditPage, ServerInvite, UserInfo};
use conclave_proto::frame::{Op, Reply};
use conclave_proto::invite::{Link, LinkSecret};

impl Client {
    /// Does an act of a server admin.
    ///
    /// # Errors
    /// [`ClientError`]; making and unmaking admins needs the owner key.
    pub async fn administer(&self, body: AdminBody, signer: Signer<'_>) -> Result<(), ClientError> {
        let act = Act {
            server: self.info.server,
            request: random()?,
            body,
            user: self.info.account.user_id,
            ts: crate::link::wall(),
        };
        let rec = match signer {
            Signer::Machine => act.sign_machine(&self.info.secret),
            Signer::Owner(owner) => act.sign_owner(owner.secret()),
        };
        self.request(Op::Admin(AdminAct {
            rec: rec.bytes().clone(),
        }))
        .await
        .map(drop)
    }

    /// Makes an invite to the server alone.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invite_to_server(&self, max_uses: u32, life_ms: u64) -> Result<Link, ClientError> {
        let secret = LinkSecret::new(random()?);
        let key = secret.signing_key().invite_key();
        let expires = crate::link::wall().plus(life_ms);
        let body = AdminBody::ServerInvite {
            key,
            max_uses,
            expires,
        };
        self.administer(body, Signer::Machine).await?;
        let server_key = self.with(|core| core.server_key()).await?;
        Ok(Link::invite(self.info.origin.clone(), secret, &server_key))
    }

    /// Lists the server's users.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn users(&self) -> Result<Vec<UserInfo>, ClientError> {
        match self.request(Op::Users(Nothing {})).await? {
            Reply::Users(list) => Ok(list.users),
            _ => Err(ClientError::Answer),
        }
    }

    /// Lists the server's own invites.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn server_invites(&self) -> Result<Vec<ServerInvite>, ClientError> {
        match self.request(Op::ServerInvites(Nothing {})).await? {
            Reply::ServerInvites(list) => Ok(list.invites),
            _ => Err(ClientError::Answer),
        }
    }

    /// Reads a page of the audit log.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(&self, after: u64, limit: u32) -> Result<AuditPage, ClientError> {
        match self.request(Op::Audit(Page { after, limit })).await? {
            Reply::Audit(page) => Ok(page),
            _ => Err(ClientError::Answer),
        }
    }
}
