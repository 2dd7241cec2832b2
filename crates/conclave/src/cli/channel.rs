//! `conclave channel`: channels themselves.

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use conclave_client::client::{NewChannel, Signer};
use conclave_proto::channel_log::{CtlBody, History, Visibility};
use conclave_proto::frame::reply::ChannelInfo;
use conclave_proto::name::Name;
use serde_json::{Value, json};

/// Who can see and enter a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Visible {
    /// Listed; anybody on the server can join
    Public,
    /// Not listed; whoever knows the name can join
    Unlisted,
    /// Not listed; only with an invite
    Private,
}

/// What can be done with channels.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a channel and become its owner
    Create {
        /// Its name
        name: String,
        /// Who can see and enter it
        #[arg(long, value_enum, default_value_t = Visible::Private)]
        visibility: Visible,
        /// Say what it is about
        #[arg(long, value_name = "TEXT")]
        topic: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Close a channel for ever (its owner)
    Delete {
        /// The channel
        channel: String,
        #[command(flatten)]
        target: Target,
    },
    /// Give a channel another name
    Rename {
        /// The channel
        channel: String,
        /// The new name
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Change who can see and enter a channel
    SetVisibility {
        /// The channel
        channel: String,
        /// Who can see and enter it
        #[arg(value_enum)]
        visibility: Visible,
        #[command(flatten)]
        target: Target,
    },
    /// List the channels you can see on a server
    List {
        #[command(flatten)]
        target: Target,
    },
}

/// Carries it out.
pub(crate) async fn run(cx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Create {
            name,
            visibility,
            topic,
            target,
        } => {
            let name = Name::claim(name.trim_start_matches('#'))?;
            let made = open::with(cx, &target, async |client| {
                Ok(client
                    .create_channel(NewChannel {
                        name,
                        visibility: visibility.into(),
                        mode: None,
                        history: History::Full,
                        topic,
                    })
                    .await?)
            })
            .await?;
            let (name, word) = (made.name(), made.visibility().as_str());
            let text = format!(
                "created #{} ({word}; signed: the server can read)",
                called(name)
            );
            let object = json!({"id": made.id(), "name": name, "visibility": word, "mode": made.mode().as_str()});
            cx.out.result(text, &json!({"channel": object}));
            Ok(())
        }
        Command::Delete { channel, target } => {
            open::with(cx, &target, async |client| {
                let channel = client.resolve(&channel).await?.channel;
                Ok(client
                    .control(channel, CtlBody::Close {}, Signer::Machine)
                    .await?)
            })
            .await?;
            cx.out.result(
                format_args!("deleted {channel}"),
                &json!({"deleted": channel}),
            );
            Ok(())
        }
        Command::Rename {
            channel,
            name,
            target,
        } => {
            let name = Name::claim(name.trim_start_matches('#'))?;
            let meta = meta(Some(name.clone()), None);
            change(cx, &target, &channel, meta).await?;
            cx.out.result(
                format_args!("{channel} is #{name} now"),
                &json!({"name": name}),
            );
            Ok(())
        }
        Command::SetVisibility {
            channel,
            visibility,
            target,
        } => {
            let visibility = Visibility::from(visibility);
            let meta = meta(None, Some(visibility));
            change(cx, &target, &channel, meta).await?;
            let word = visibility.as_str();
            cx.out.result(
                format_args!("{channel} is {word} now"),
                &json!({"visibility": word}),
            );
            Ok(())
        }
        Command::List { target } => {
            let channels =
                open::with(cx, &target, async |client| Ok(client.channels().await?)).await?;
            show(cx, &channels);
            Ok(())
        }
    }
}

async fn change(
    cx: &Context,
    target: &Target,
    channel: &str,
    meta: CtlBody,
) -> Result<(), CliError> {
    open::with(cx, target, async |client| {
        let channel = client.resolve(channel).await?.channel;
        client.control(channel, meta, Signer::Machine).await?;
        Ok(())
    })
    .await
}

/// What changes; the rest stays.
const fn meta(name: Option<Name>, visibility: Option<Visibility>) -> CtlBody {
    CtlBody::Meta {
        visibility,
        name,
        name_box: None,
        topic: None,
    }
}

/// Prints channels.
pub(super) fn show(cx: &Context, channels: &[ChannelInfo]) {
    let objects: Vec<_> = channels.iter().map(object).collect();
    table(cx, channels, &json!({"channels": objects}));
}

/// Prints channels as this machine knew them last, and says so.
pub(super) fn show_known(cx: &Context, channels: &[ChannelInfo], why: &CliError) {
    let objects: Vec<_> = channels.iter().map(object).collect();
    cx.out.talk(format_args!(
        "note: {why}; this is what this machine knew last"
    ));
    table(cx, channels, &json!({"channels": objects, "offline": true}));
}

fn table(cx: &Context, channels: &[ChannelInfo], object: &Value) {
    let row = |c: &ChannelInfo| {
        let topic = c
            .topic
            .as_deref()
            .map(crate::text::printable)
            .unwrap_or_default();
        [
            format!("#{}", called(c.name.as_ref())),
            c.visibility.clone(),
            readable(c).to_owned(),
            c.role.clone().unwrap_or_else(|| "-".to_owned()),
            c.members.to_string(),
            topic,
        ]
    };
    let rows: Vec<_> = channels.iter().map(row).collect();
    let head = [
        "channel",
        "visibility",
        "who can read",
        "you are",
        "members",
        "topic",
    ];
    cx.out.table(head, &rows, object);
}

/// A channel, for programs.
pub(super) fn object(channel: &ChannelInfo) -> Value {
    json!({
        "id": channel.channel, "name": channel.name, "visibility": channel.visibility,
        "mode": channel.mode, "role": channel.role, "members": channel.members,
        "topic": channel.topic,
    })
}

/// A channel's name, or that it has none that is known here.
pub(super) fn called(name: Option<&Name>) -> &str {
    name.map_or("?", Name::as_str)
}

fn readable(channel: &ChannelInfo) -> &'static str {
    if channel.mode == "signed" {
        "members, server"
    } else {
        "members"
    }
}

impl From<Visible> for Visibility {
    fn from(visible: Visible) -> Self {
        match visible {
            Visible::Public => Self::Public,
            Visible::Unlisted => Self::Unlisted,
            Visible::Private => Self::Private,
        }
    }
}
