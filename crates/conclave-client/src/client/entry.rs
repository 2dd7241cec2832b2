//! Entering channels, and the links that let others in (SECURITY 2.7).

use super::{Channel, Client, Signer, random};
use crate::error::ClientError;
use conclave_e2ee::Bundle;
use conclave_e2ee::invite_box::{self, BoxedKey, InviteBox};
use conclave_proto::bytes::sha256;
use conclave_proto::channel_log::{Admission, Ctl, CtlBody, History, Mode, Role};
use conclave_proto::entry::{Entry, EntryBody};
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

    /// Enters a channel by an invite, whose page of control records comes with it. Nothing of what the
    /// server shows is kept before the link's box says that it is the channel the link was made for.
    pub(crate) async fn join_by(
        &self,
        channel: ChannelId,
        link: &Link,
        invite_box: Option<&Blob>,
        records: Vec<Entry>,
    ) -> Result<Channel, ClientError> {
        let opened = invite_box
            .and_then(|sealed| invite_box::open(sealed, &link.secret, &channel, &link.id()));
        let Some(opened) = opened else {
            return self.come_back(channel, records).await;
        };
        let known = self
            .with(move |core| core.book.tip(&channel).map(|tip| *tip.genesis()))
            .await?;
        let shown = records.iter().find_map(|entry| match &entry.body {
            EntryBody::Ctl(rec) => Some(sha256(rec)),
            EntryBody::Env(_) | EntryBody::Unknown(_) => None,
        });
        if known.or(shown) != Some(opened.genesis) {
            return Err(ClientError::InviteBox);
        }
        self.apply_ctl(channel, records).await?;
        let (me, invite_id) = (self.info.account.user_id, link.id());
        let invited = move |core: &mut crate::core::Core| {
            let tip = core.book.tip(&channel);
            tip.is_some_and(|tip| tip.invites().contains_key(&invite_id))
        };
        if !self.with(invited).await? {
            // The page that came with the invite need not be the whole chain.
            self.tip(channel).await?;
            if !self.with(invited).await? {
                return Err(ClientError::InviteBox);
            }
        }
        let member = self
            .with(move |core| {
                core.book
                    .tip(&channel)
                    .is_some_and(|tip| tip.role(&me).is_some())
            })
            .await?;
        if member {
            // What a member knows of the channel, members said.
            return self.settle(channel).await;
        }
        let invite = link.secret.signing_key();
        self.control_with(channel, Signer::Machine, None, |tip, author| {
            let ticket = Ctl::ticket(&channel, &tip.head(), author, &invite);
            Ok(CtlBody::Join {
                ticket: Some(ticket),
            })
        })
        .await?;
        self.take_box(channel, opened).await?;
        self.settle(channel).await
    }

    /// Follows a link again whose box is gone: it went with its last use, which was this user's own. Only
    /// a channel known here, which this user itself entered, is taken for that one.
    async fn come_back(
        &self,
        channel: ChannelId,
        records: Vec<Entry>,
    ) -> Result<Channel, ClientError> {
        let me = self.info.account.user_id;
        let known = self
            .with(move |core| core.book.tip(&channel).is_some())
            .await?;
        if !known {
            return Err(ClientError::InviteBox);
        }
        self.apply_ctl(channel, records).await?;
        let admission = self
            .with(move |core| Some(core.book.tip(&channel)?.member(&me)?.admission))
            .await?;
        match admission {
            Some(Admission::Created | Admission::Invited { .. } | Admission::Open) => {
                self.settle(channel).await
            }
            Some(Admission::Added { .. }) | None => Err(ClientError::InviteBox),
        }
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
