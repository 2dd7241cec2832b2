//! Moderation through the client. Answers are facts: names, ids, roles, times.

use super::Site;
use crate::fabric::Act;
use crate::tool::args::Object;
use conclave_client::client::{Channel, Signer};
use conclave_client::error::ClientError;
use conclave_proto::channel_log::{CtlBody, RemoveKind, Role, Visibility};
use conclave_proto::id::{ChannelId, UserId};
use conclave_proto::reject::{Code, Reject};
use serde_json::{Value, json};
use std::time::SystemTime;

/// Carries an act out.
pub(super) async fn act(site: Site, channel: ChannelId, act: Act) -> Result<Object, ClientError> {
    let client = &site.client;
    let facts = match act {
        Act::Delete => site.control(channel, CtlBody::Close {}).await?,
        Act::Rename(name) => {
            client.rename(channel, Some(name), None).await?;
            Value::Null
        }
        Act::SetVisibility(visibility) => {
            site.control(channel, meta(visibility)).await?;
            json!({"visibility": visibility.as_str()})
        }
        Act::Add(user, role) => {
            client
                .add_member(channel, &user, role, Signer::Machine)
                .await?;
            Value::Null
        }
        Act::Remove(user) => {
            client
                .remove_member(channel, &user, RemoveKind::Kick)
                .await?;
            Value::Null
        }
        Act::KickSession(path) => {
            client.kick_session(channel, path).await?;
            Value::Null
        }
        Act::Ban(user, _) => {
            client
                .remove_member(channel, &user, RemoveKind::Ban)
                .await?;
            Value::Null
        }
        Act::Unban(user) => {
            let user = client.find_user(&user).await?;
            site.control(channel, CtlBody::Unban { user }).await?
        }
        Act::Invite(uses, life_ms) => site.invite(channel, uses, life_ms).await?,
        Act::RevokeInvite(id) => {
            client.revoke_invite(channel, id).await?;
            Value::Null
        }
        Act::Members => members(&client.channel(channel).await?),
        Act::Bans => site.bans(&client.channel(channel).await?).await?,
        Act::Invites => invites(&client.channel(channel).await?),
    };
    site.look().await;
    match facts {
        Value::Object(facts) => Ok(facts),
        _ => Ok(Object::new()),
    }
}

impl Site {
    async fn control(&self, channel: ChannelId, body: CtlBody) -> Result<Value, ClientError> {
        self.client.control(channel, body, Signer::Machine).await?;
        Ok(Value::Null)
    }

    /// Makes an invite, for a channel of this user's own (DECISIONS 29). The link is a secret: it goes
    /// to the human, not into the model's context.
    async fn invite(
        &self,
        channel: ChannelId,
        uses: u32,
        life_ms: u64,
    ) -> Result<Value, ClientError> {
        let creator = *self.client.channel(channel).await?.creator();
        if creator != self.client.account().user_id {
            let text =
                "an agent may invite only into channels that its own user made; ask your human";
            return Err(Reject::new(Code::Forbidden, text).into());
        }
        let made = self
            .client
            .invite(channel, Role::Member, uses, life_ms, Signer::Machine);
        let link = made.await?;
        let id = link.id().to_string();
        let path = self
            .files
            .server_dir(&self.client.server())
            .join("links")
            .join(&id);
        self.files
            .write_private(&path, link.to_string().as_bytes())?;
        let show = format!("conclave invite show {id}");
        Ok(json!({"invite": id, "uses": uses, "link": "for your human only", "show_with": show}))
    }

    async fn bans(&self, channel: &Channel) -> Result<Value, ClientError> {
        let mut banned = Vec::new();
        for user in channel.banned() {
            banned.push(self.user_name(user).await?);
        }
        Ok(json!({"banned": banned}))
    }

    async fn user_name(&self, user: &UserId) -> Result<String, ClientError> {
        let name = self.client.name_of(*user).await?;
        Ok(name.map_or_else(|| user.to_string(), |name| name.to_string()))
    }
}

fn meta(visibility: Visibility) -> CtlBody {
    CtlBody::Meta {
        visibility: Some(visibility),
        name: None,
        name_box: None,
        topic: None,
    }
}

fn members(channel: &Channel) -> Value {
    let member = |m: &conclave_proto::channel_log::Member| json!({"user": m.name.as_str(), "role": m.role.as_str(), "since_ms": m.at.0});
    json!({"members": channel.members().values().map(member).collect::<Vec<_>>()})
}

fn invites(channel: &Channel) -> Value {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let now = conclave_proto::time::UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let live = channel
        .invites()
        .iter()
        .filter(|(_, invite)| invite.is_live(now));
    let open = live.map(|(id, invite)| {
        json!({
            "invite": id.to_string(),
            "role": invite.role.as_str(),
            "uses_left": invite.max_uses.saturating_sub(invite.uses),
            "expires_ms": invite.expires.0,
        })
    });
    json!({"invites": open.collect::<Vec<_>>()})
}
