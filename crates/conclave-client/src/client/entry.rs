//! Entering channels, and the links that let others in (SECURITY 2.7).

use super::{Channel, Client, Signer, random};
use crate::error::ClientError;
use conclave_e2ee::Bundle;
use conclave_e2ee::invite_box::{self, BoxedKey, InviteBox};
use conclave_proto::channel_log::{Ctl, CtlBody, History, Mode, Role};
use conclave_proto::id::{Blob, ChannelId};
use conclave_proto::invite::{Link, LinkSecret};

impl Client {
    /// Enters a channel that is not private.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn join(&self, channel: ChannelId) -> Result<Channel, ClientError> {
        let me = self.info.account.user_id;
        if self.tip(channel).await?.role(&me).is_none() {
            self.control(channel, CtlBody::Join { ticket: None }, Signer::Machine)
                .await?;
        }
        self.settle(channel).await
    }

    /// Gets what a new member needs to read a channel, as far as it can be had now.
    async fn settle(&self, channel: ChannelId) -> Result<Channel, ClientError> {
        let tip = self.tip(channel).await?;
        if tip.mode() == Mode::E2e {
            if let Err(error) = self.fetch_keys(channel).await {
                tracing::info!(%error, %channel, "the channel's key is not here yet");
            }
            self.follow_up(channel).await;
        }
        self.channel(channel).await
    }

    /// Enters a channel by an invite, whose page of control records comes with it. `pinned`: its first
    /// record was known before this link.
    pub(crate) async fn join_by(
        &self,
        channel: ChannelId,
        link: &Link,
        invite_box: Option<&Blob>,
        pinned: bool,
    ) -> Result<Channel, ClientError> {
        let me = self.info.account.user_id;
        let known = self
            .with(move |core| core.book.tip(&channel).cloned())
            .await?;
        let member = known.as_ref().and_then(|tip| tip.role(&me)).is_some();
        let opened = invite_box
            .and_then(|sealed| invite_box::open(sealed, &link.secret, &channel, &link.id()));
        let opened = match opened {
            Some(opened) => opened,
            // The box of a link goes with its last use. Who used it has the channel's first record.
            None if member && pinned => return self.settle(channel).await,
            None => return Err(ClientError::InviteBox),
        };
        if known.is_none_or(|tip| *tip.genesis() != opened.genesis) {
            return Err(ClientError::InviteBox);
        }
        if !member {
            let invite = link.secret.signing_key();
            self.control_with(channel, Signer::Machine, None, |tip, author| {
                let ticket = Ctl::ticket(&channel, &tip.head(), author, &invite);
                Ok(CtlBody::Join {
                    ticket: Some(ticket),
                })
            })
            .await?;
        }
        self.take_box(channel, opened).await?;
        self.settle(channel).await
    }

    /// Keeps what a link told of a channel: its key, if it is the one that was committed to.
    async fn take_box(&self, channel: ChannelId, opened: InviteBox) -> Result<(), ClientError> {
        let tip = self.tip(channel).await?;
        if let Some(index_key) = opened.index_key {
            let (name, topic) = (opened.name, opened.topic);
            let bundle = Bundle {
                index_key,
                name,
                topic,
            };
            self.replica().keep_bundle(channel, &bundle).await?;
            self.with(move |core| core.book.keys.set_bundle(channel, bundle))
                .await?;
        }
        let key = opened.key.and_then(|boxed| {
            let commit = tip.epoch_at(boxed.e)?.commit;
            boxed.committed(channel, &commit)
        });
        self.take_keys(channel, key.into_iter().collect()).await
    }

    /// Makes an invite into a channel; the link is the caller's to keep secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invite(
        &self,
        channel: ChannelId,
        role: Role,
        max_uses: u32,
        life_ms: u64,
        signer: Signer<'_>,
    ) -> Result<Link, ClientError> {
        let secret = LinkSecret::new(random()?);
        let key = secret.signing_key().invite_key();
        let expires = crate::link::wall().plus(life_ms);
        let sealed = self.invite_box(channel, &secret).await?;
        self.control_with(channel, signer, Some(sealed), |_, _| {
            Ok(CtlBody::Invite {
                key,
                role,
                max_uses,
                expires,
            })
        })
        .await?;
        let server_key = self.server_key().await?;
        Ok(Link::invite(self.info.origin.clone(), secret, &server_key))
    }

    /// Seals what a joiner needs to the link's secret.
    async fn invite_box(
        &self,
        channel: ChannelId,
        secret: &LinkSecret,
    ) -> Result<Blob, ClientError> {
        let tip = self.tip(channel).await?;
        let mut content = InviteBox {
            genesis: *tip.genesis(),
            name: tip.name().cloned(),
            topic: tip.topic().map(str::to_owned),
            index_key: None,
            key: None,
        };
        if tip.mode() == Mode::E2e {
            match tip.needs_epoch() {
                true => drop(self.rotate_if_needed(channel).await?),
                false => self.fetch_keys(channel).await?,
            }
            let (key, bundle) = self
                .with(move |core| {
                    let key = core.book.current_key(&channel).cloned();
                    key.zip(core.book.keys.bundle(&channel).cloned())
                })
                .await?
                .ok_or_else(super::keys::pending)?;
            content.name = content.name.or(bundle.name);
            content.topic = bundle.topic;
            content.index_key = Some(bundle.index_key);
            let full = tip.history() == History::Full;
            content.key = full.then(|| BoxedKey::new(&key));
        }
        let invite = secret.signing_key().invite_key().invite_id();
        Ok(invite_box::seal(
            &content,
            secret,
            &channel,
            &invite,
            random()?,
        ))
    }
}
