//! The user's own identity log: machines and owner keys.

use super::{Client, random};
use crate::error::ClientError;
use crate::owner::Owner;
use conclave_proto::channel_log::{CtlBody, Identities as _};
use conclave_proto::frame::Op;
use conclave_proto::frame::op::{EnrolOpen, EnrolRequest, IdentAppend};
use conclave_proto::handshake::{enrol_open_message, enrolment_message};
use conclave_proto::identity_log::{Cap, IdentityLog, Machine, MachineClaim, build};
use conclave_proto::invite::{Link, LinkSecret};
use conclave_proto::key::{InviteKey, MachineKey, Verify as _};
use conclave_proto::limit::ENROLMENT_MS;
use conclave_proto::record::Record;

impl Client {
    /// Returns this user's identity log, verified up to the newest record.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn own_identity(&self) -> Result<IdentityLog, ClientError> {
        let me = self.info.account.user_id;
        self.learn(me).await?;
        let known = self
            .with(move |core| core.book.identity(&me).cloned())
            .await?;
        known.ok_or(ClientError::Answer)
    }

    /// Lists this user's machines.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn machines(&self) -> Result<Vec<Machine>, ClientError> {
        Ok(self.own_identity().await?.machines().cloned().collect())
    }

    /// Announces a one-time link for a new machine; requests come as [`crate::Event::Enrol`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open_enrolment(&self) -> Result<Link, ClientError> {
        let secret = LinkSecret::new(random()?);
        let key = secret.signing_key();
        let message = enrol_open_message(&self.info.account.user_id);
        let op = EnrolOpen {
            key: key.invite_key(),
            sig: key.sign(message),
            expires: crate::link::wall().plus(ENROLMENT_MS),
        };
        self.request(Op::EnrolOpen(op)).await?;
        let server_key = self.with(|core| core.server_key()).await?;
        let user = self.info.account.user_id;
        Ok(Link::machine(
            self.info.origin.clone(),
            secret,
            &server_key,
            user,
        ))
    }

    /// Signs a new machine in, after the human said so.
    ///
    /// # Errors
    /// [`ClientError::LinkKind`] if the request is not by the link's holder.
    pub async fn enrol(
        &self,
        request: &EnrolRequest,
        link: &InviteKey,
        owner: &Owner,
    ) -> Result<(), ClientError> {
        let me = self.info.account.user_id;
        let message = enrolment_message(&me, &request.name, &request.key, &request.encryption_key);
        link.verify(message, &request.proof)
            .map_err(|_| ClientError::LinkKind)?;
        let log = self.own_identity().await?;
        let claim = MachineClaim {
            name: request.name.clone(),
            key: request.key,
            encryption_key: request.encryption_key,
            consent: request.consent,
        };
        let caps = Cap::default_set();
        let rec = build::add_machine(&log, claim, caps, owner.secret(), crate::link::wall());
        self.append_identity(&rec).await?;
        self.announce_owner(owner).await?;
        self.spread_identity().await
    }

    /// Revokes a machine: its sessions end, and channels stop believing it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_machine(
        &self,
        key: MachineKey,
        reason: &str,
        owner: &Owner,
    ) -> Result<(), ClientError> {
        let log = self.own_identity().await?;
        if !log.is_owner(&owner.secret().owner_key()) {
            return Err(ClientError::OwnerKey);
        }
        let rec = build::revoke_machine(&log, key, reason, owner.secret(), crate::link::wall());
        self.append_identity(&rec).await?;
        self.spread_identity().await
    }

    pub(crate) async fn append_identity(&self, rec: &Record) -> Result<(), ClientError> {
        self.request(Op::IdentAppend(IdentAppend {
            rec: rec.bytes().clone(),
        }))
        .await
        .map(drop)
    }

    /// Tells every channel of this user which machines it has now.
    pub(crate) async fn spread_identity(&self) -> Result<(), ClientError> {
        let me = self.info.account.user_id;
        let head = self.own_identity().await?.head();
        let mut refused = None;
        for info in self
            .channels()
            .await?
            .into_iter()
            .filter(|info| info.role.is_some())
        {
            let tip = self.tip(info.channel).await?;
            if tip.is_closed() || tip.member(&me).is_none_or(|m| m.ident.n >= head.n) {
                continue;
            }
            let body = CtlBody::Ident { user: me, head };
            let signer = super::Signer::Machine;
            match self.control(info.channel, body, signer).await {
                // A machine that is gone must not read on; a new one needs the key.
                Ok(_) => self.follow_up(info.channel).await,
                Err(error) => drop(refused.get_or_insert(error)),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}
