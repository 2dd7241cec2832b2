//! Moderation through the client. Answers are facts: names, ids, roles, times.

use super::Remote;
use crate::fabric::Act;
use crate::tool::args::Object;
use conclave_client::client::channel::Meta;
use conclave_client::error::ClientError;
use conclave_proto::channel_log::Role;
use conclave_proto::id::ChannelId;
use serde_json::{Value, json};

/// Carries an act out.
pub(super) async fn act(
    remote: Remote,
    channel: ChannelId,
    act: Act,
) -> Result<Object, ClientError> {
    let client = &remote.client;
    let facts = match act {
        Act::Delete => none(client.close_channel(channel).await?),
        Act::Rename(name) => {
            let meta = Meta {
                name: Some(name.clone()),
                ..Meta::default()
            };
            client.set_meta(channel, meta).await?;
            json!({"name": name.as_str()})
        }
        Act::SetVisibility(visibility) => {
            let meta = Meta {
                visibility: Some(visibility),
                ..Meta::default()
            };
            client.set_meta(channel, meta).await?;
            json!({"visibility": visibility.as_str()})
        }
        Act::Add(user, role) => none(client.add_member(channel, &user, role, None).await?),
        Act::Remove(user) => none(client.remove_member(channel, &user).await?),
        Act::KickSession(path) => none(client.kick_session(channel, path).await?),
        Act::Ban(user, _) => none(client.ban(channel, &user).await?),
        Act::Unban(user) => none(client.unban(channel, &user, None).await?),
        Act::Invite(uses, life_ms) => {
            let made = client
                .create_invite(channel, Role::Member, uses, life_ms, None)
                .await?;
            // The link is a secret: it goes to the human, not into the model's context.
            let show = format!("conclave invite show {}", made.id());
            json!({"invite": made.id().to_string(), "uses": uses, "link": "for your human only", "show_with": show})
        }
        Act::RevokeInvite(id) => none(client.revoke_invite(channel, id).await?),
        Act::Members => {
            let members = client.members(channel).await?;
            let member = |m: &conclave_client::client::channel::MemberView| json!({"user": m.name.as_str(), "role": m.role.as_str(), "since_ms": m.since.0});
            json!({"members": members.iter().map(member).collect::<Vec<_>>()})
        }
        Act::Bans => {
            let bans = client.bans(channel).await?;
            let banned = bans.iter().map(|(id, name)| match name {
                Some(name) => name.to_string(),
                None => id.to_string(),
            });
            json!({"banned": banned.collect::<Vec<_>>()})
        }
        Act::Invites => {
            let invites = client.invites(channel).await?;
            let open = invites.iter().filter(|invite| invite.live).map(|invite| {
                json!({
                    "invite": invite.id.to_string(),
                    "role": invite.role.as_str(),
                    "uses_left": invite.uses_left,
                    "expires_ms": invite.expires.0,
                })
            });
            json!({"invites": open.collect::<Vec<_>>()})
        }
    };
    remote.look().await;
    match facts {
        Value::Object(facts) => Ok(facts),
        _ => Ok(Object::new()),
    }
}

/// An act that has nothing to tell.
const fn none((): ()) -> Value {
    Value::Null
}
