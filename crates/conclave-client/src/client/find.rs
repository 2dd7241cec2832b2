//! Finding channels by the names people give them; what is sealed from the server is filled in here.

use super::Client;
use crate::error::ClientError;
use conclave_proto::channel_log::{ChannelLog, Mode};
use conclave_proto::frame::op::{FindName, Nothing};
use conclave_proto::frame::reply::ChannelInfo;
use conclave_proto::frame::{Op, Reply};
use conclave_proto::id::ChannelId;
use conclave_proto::name::Name;
use conclave_proto::reject::Code;

impl Client {
    /// Lists public channels, and those this user is a member of; none that was closed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn channels(&self) -> Result<Vec<ChannelInfo>, ClientError> {
        let mut channels = self.channels_ever().await?;
        channels.retain(|info| !info.closed);
        Ok(channels)
    }

    async fn channels_ever(&self) -> Result<Vec<ChannelInfo>, ClientError> {
        let Reply::Channels(list) = self.request(Op::Channels(Nothing {})).await? else {
            return Err(ClientError::Answer);
        };
        let mut channels = Vec::with_capacity(list.channels.len());
        for info in list.channels {
            channels.extend(self.verified(info).await?);
        }
        Ok(channels)
    }

    /// Says of a channel this user is a member of what its own records say: a server's list is no reason
    /// to believe a name, a mode or a role. `None` if it shows no chain that makes this user a member.
    async fn verified(&self, info: ChannelInfo) -> Result<Option<ChannelInfo>, ClientError> {
        let (channel, head) = (info.channel, info.ctl.n);
        let known = self
            .with(move |core| core.book.tip(&channel).map(ChannelLog::head))
            .await?;
        if info.role.is_none() && known.is_none() {
            return Ok(Some(info));
        }
        let behind = known.is_none_or(|tip| tip.n < head);
        if behind && let Err(error) = self.tip(channel).await {
            tracing::warn!(%error, %channel, "the server does not show the channel it lists");
        }
        let me = self.info.account.user_id;
        let tip = self
            .with(move |core| core.book.tip(&channel).cloned())
            .await?;
        let Some(tip) = tip.filter(|tip| tip.role(&me).is_some()) else {
            // Not a member, whatever the list says; then it is for the server to name.
            return Ok((info.role.is_none()).then_some(info));
        };
        if tip.mode() == Mode::E2e {
            self.open_bundle(&tip, behind).await?;
        }
        let tip = self.named(tip).await?;
        Ok(Some(ChannelInfo {
            channel,
            name: tip.name().cloned(),
            visibility: tip.visibility().to_string(),
            mode: tip.mode().to_string(),
            role: tip.role(&me).map(|role| role.to_string()),
            members: u32::try_from(tip.members().len()).unwrap_or(u32::MAX),
            topic: tip.topic().map(str::to_owned),
            ctl: tip.head(),
            ctl_seq: tip.seq(),
            closed: tip.is_closed(),
        }))
    }

    /// Reads the name and topic that only members know, if anything may have changed.
    async fn open_bundle(&self, tip: &ChannelLog, behind: bool) -> Result<(), ClientError> {
        let channel = *tip.id();
        // A newer record may say another name; one that is here already was perhaps never looked at.
        let (changed, known) = self
            .with(move |core| {
                let changed = core.book.refresh_bundle(&channel);
                (changed, core.book.keys.bundle(&channel).is_some())
            })
            .await?;
        if let Some(bundle) = changed {
            self.replica().keep_bundle(channel, &bundle).await?;
        }
        if (!known || behind) && !tip.is_closed() {
            // A channel that cannot be read now stays without a name; it is looked at again next time.
            if let Err(error) = self.fetch_keys(channel).await {
                tracing::info!(%error, %channel, "the channel's name cannot be read");
            }
        }
        Ok(())
    }

    /// Returns the channels this machine knows its user to be a member of, by the names it knows.
    async fn remembered(&self, name: &Name) -> Result<Vec<ChannelId>, ClientError> {
        let (me, name) = (self.info.account.user_id, name.clone());
        self.with(move |core| {
            let book = &core.book;
            let mine = book.tips().filter(|tip| tip.role(&me).is_some());
            let named = mine.filter(|tip| book.channel_name(tip.id()).as_ref() == Some(&name));
            named.map(|tip| *tip.id()).collect()
        })
        .await
    }

    /// Finds a channel by `name`, `#name` or `name~3f2a` (the first digits of its id).
    ///
    /// # Errors
    /// [`ClientError::Ambiguous`], [`ClientError::NotFound`].
    pub async fn resolve(&self, text: &str) -> Result<ChannelInfo, ClientError> {
        let text = text.trim_start_matches('#');
        let (name, id) = text
            .split_once('~')
            .map_or((text, None), |(n, id)| (n, Some(id)));
        let missing = || ClientError::NotFound {
            what: "channel",
            name: format!("#{text}"),
        };
        let parsed = Name::new(name).map_err(|_| missing())?;
        let fits = |info: &ChannelInfo| {
            info.name.as_ref() == Some(&parsed)
                && id.is_none_or(|id| digits(&info.channel).starts_with(id))
        };
        let listed = self.channels_ever().await?;
        // What the server does not list any more is not forgotten: no other channel takes its name.
        let mut hidden = self.remembered(&parsed).await?;
        hidden.retain(|id| listed.iter().all(|info| info.channel != *id));
        hidden.retain(|channel| id.is_none_or(|id| digits(channel).starts_with(id)));
        let seen = listed.into_iter().filter(fits);
        let (closed, mut found): (Vec<_>, Vec<_>) = seen.partition(|info| info.closed);
        if found.is_empty() && hidden.is_empty() {
            match self
                .request(Op::FindChannel(FindName {
                    name: parsed.clone(),
                }))
                .await
            {
                Ok(Reply::Channels(list)) => {
                    found = list.channels.into_iter().filter(fits).collect();
                }
                Ok(_) => return Err(ClientError::Answer),
                Err(ClientError::Reject(r)) if r.code == Code::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // The past of a closed channel stays readable, under a name that nothing open has.
        if found.is_empty() {
            found = closed;
        }
        match (found.pop(), found.is_empty() && hidden.is_empty()) {
            (None, _) => Err(missing()),
            (Some(info), true) => Ok(info),
            (Some(info), false) => {
                let listed = found.iter().chain([&info]).map(|info| &info.channel);
                let candidates = listed
                    .chain(&hidden)
                    .map(|id| format!("#{name}~{}", digits(id)))
                    .collect();
                Err(ClientError::Ambiguous {
                    name: format!("#{name}"),
                    candidates,
                })
            }
        }
    }
}

/// The first digits of a channel's id, as people write them.
fn digits(channel: &ChannelId) -> String {
    channel
        .as_bytes()
        .iter()
        .take(2)
        .map(|b| format!("{b:02x}"))
        .collect()
}
