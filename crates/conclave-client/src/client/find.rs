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
        let mut channels = list.channels;
        for info in &mut channels {
            self.name_sealed(info).await?;
        }
        Ok(channels)
    }

    /// Fills in what only members know of a channel: its name and topic, where they are sealed.
    async fn name_sealed(&self, info: &mut ChannelInfo) -> Result<(), ClientError> {
        let channel = info.channel;
        if info.role.is_none() || info.mode != Mode::E2e.as_str() {
            return Ok(());
        }
        let (head, look) = (info.ctl.n, move |core: &mut crate::core::Core| {
            core.book.keys.bundle(&channel).cloned()
        });
        // A newer record may say another name; one that is here already was perhaps never looked at.
        let (behind, changed) = self
            .with(move |core| {
                let tip = core.book.tip(&channel).map(ChannelLog::head);
                let behind = tip.is_none_or(|tip| tip.n < head);
                (behind, core.book.refresh_bundle(&channel))
            })
            .await?;
        if let Some(bundle) = changed {
            self.replica().keep_bundle(channel, &bundle).await?;
        }
        let mut known = self.with(look).await?;
        if (known.is_none() || behind) && !info.closed {
            // A channel that cannot be read now stays without a name; it is looked at again next time.
            if let Err(error) = self.fetch_keys(channel).await {
                tracing::info!(%error, %channel, "the channel's name cannot be read");
            }
            known = self.with(look).await?;
        }
        if let Some(bundle) = known {
            info.name = info.name.take().or(bundle.name);
            info.topic = bundle.topic;
        }
        Ok(())
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
        let seen = self.channels_ever().await?.into_iter().filter(fits);
        let (closed, mut found): (Vec<_>, Vec<_>) = seen.partition(|info| info.closed);
        if found.is_empty() {
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
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(missing()),
            (Some(info), true) => Ok(info),
            (Some(info), false) => {
                let all = found.iter().chain([&info]);
                let candidates = all
                    .map(|i| format!("#{name}~{}", digits(&i.channel)))
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
