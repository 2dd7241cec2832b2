//! `conclave channel`: channels themselves.

pub(super) mod set;

use super::Context;
use super::open::{self, Target};
use crate::error::CliError;
use conclave_client::client::{NewChannel, Signer};
use conclave_proto::channel_log::{CtlBody, History, Mode, Visibility};
use conclave_proto::frame::reply::ChannelInfo;
use conclave_proto::id::ChannelId;
use conclave_proto::name::Name;
use serde_json::{Value, json};
use std::collections::BTreeSet;

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

/// Who can read a channel; fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Readable {
    /// End-to-end encrypted: members only
    E2e,
    /// Signed: members, and the server
    Signed,
}

/// What somebody who joins later can read; fixed when a channel is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Past {
    /// Everything that is kept
    Full,
    /// Only what is said from then on
    SinceJoin,
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
        /// Who can read it, for ever [default: e2e if private, else signed]
        #[arg(long, value_enum)]
        mode: Option<Readable>,
        /// What who joins later can read, for ever
        #[arg(long, value_enum, default_value_t = Past::Full)]
        history: Past,
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
    /// Say that a channel is confidential, or not any more
    Set(set::Args),
    /// Give an end-to-end encrypted channel a new key now
    Rotate {
        /// The channel
        channel: String,
        /// Go on although the old key is lost: who joins later cannot read what was said before
        #[arg(long)]
        without_past: bool,
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
            mode,
            history,
            topic,
            target,
        } => {
            let new = NewChannel {
                name: Name::claim(name.trim_start_matches('#'))?,
                visibility: visibility.into(),
                mode: mode.map(Mode::from),
                history: history.into(),
                topic,
            };
            create(cx, &target, new).await
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
            open::with(cx, &target, async |client| {
                let channel = client.resolve(&channel).await?.channel;
                Ok(client.rename(channel, Some(name.clone()), None).await?)
            })
            .await?;
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
            let meta = CtlBody::Meta {
                visibility: Some(visibility),
                name: None,
                name_box: None,
                topic: None,
            };
            open::with(cx, &target, async |client| {
                let channel = client.resolve(&channel).await?.channel;
                Ok(client.control(channel, meta, Signer::Machine).await?)
            })
            .await?;
            let word = visibility.as_str();
            cx.out.result(
                format_args!("{channel} is {word} now"),
                &json!({"visibility": word}),
            );
            Ok(())
        }
        Command::Rotate {
            channel,
            without_past,
            target,
        } => rotate(cx, &target, &channel, without_past).await,
        Command::Set(args) => set::run(cx, args).await,
        Command::List { target } => {
            let (channels, confidential) = open::with(cx, &target, async |client| {
                let channels = client.channels().await?;
                let confidential = set::confidential(client, &channels).await;
                Ok((channels, confidential))
            })
            .await?;
            show(cx, &channels, &confidential);
            Ok(())
        }
    }
}

async fn create(cx: &Context, target: &Target, new: NewChannel) -> Result<(), CliError> {
    let made = open::with(cx, target, async |client| {
        Ok(client.create_channel(new).await?)
    })
    .await?;
    let name = called(made.name());
    let mode = made.mode().as_str();
    let text = format!("created #{name} ({}; {})", made.visibility(), readers(mode));
    let object = json!({
        "id": made.id(), "name": made.name(), "visibility": made.visibility().as_str(),
        "mode": mode, "history": made.history().as_str(),
    });
    cx.out.result(text, &json!({"channel": object}));
    Ok(())
}

async fn rotate(
    cx: &Context,
    target: &Target,
    channel: &str,
    without_past: bool,
) -> Result<(), CliError> {
    let epoch = open::with(cx, target, async |client| {
        let id = client.resolve(channel).await?.channel;
        Ok(match without_past {
            true => client.rotate_without_past(id).await?,
            false => client.rotate(id).await?,
        })
    })
    .await?;
    cx.out.result(
        format_args!("{channel} has a new key (epoch {epoch})"),
        &json!({"epoch": epoch}),
    );
    Ok(())
}

/// Prints channels.
pub(super) fn show(cx: &Context, channels: &[ChannelInfo], confidential: &BTreeSet<ChannelId>) {
    let objects: Vec<_> = channels.iter().map(|c| object(c, confidential)).collect();
    table(cx, channels, confidential, &json!({"channels": objects}));
}

/// Prints channels as this machine knew them last, and says so.
pub(super) fn show_known(
    cx: &Context,
    channels: &[ChannelInfo],
    confidential: &BTreeSet<ChannelId>,
    why: &CliError,
) {
    let objects: Vec<_> = channels.iter().map(|c| object(c, confidential)).collect();
    cx.out.talk(format_args!(
        "note: {why}; this is what this machine knew last"
    ));
    let all = json!({"channels": objects, "offline": true});
    table(cx, channels, confidential, &all);
}

fn table(
    cx: &Context,
    channels: &[ChannelInfo],
    confidential: &BTreeSet<ChannelId>,
    object: &Value,
) {
    let row = |c: &ChannelInfo| {
        let topic = c
            .topic
            .as_deref()
            .map(crate::text::printable)
            .unwrap_or_default();
        [
            format!("#{}", called(c.name.as_ref())),
            match confidential.contains(&c.channel) {
                true => format!("{}, confidential", c.visibility),
                false => c.visibility.clone(),
            },
            readers(&c.mode).to_owned(),
            c.role.clone().unwrap_or_else(|| "-".to_owned()),
            c.members.to_string(),
            topic,
        ]
    };
    let rows: Vec<_> = channels.iter().map(row).collect();
    let head = [
        "channel",
        "visibility",
        "mode",
        "you are",
        "members",
        "topic",
    ];
    cx.out.table(head, &rows, object);
}

/// A channel, for programs.
fn object(channel: &ChannelInfo, confidential: &BTreeSet<ChannelId>) -> Value {
    json!({
        "id": channel.channel, "name": channel.name, "visibility": channel.visibility,
        "mode": channel.mode, "role": channel.role, "members": channel.members,
        "topic": channel.topic, "confidential": confidential.contains(&channel.channel),
    })
}

/// A channel's name, or that it has none that is known here.
pub(super) fn called(name: Option<&Name>) -> &str {
    name.map_or("?", Name::as_str)
}

/// Who can read a channel of a mode, in words; of a mode that is not known, nothing good is said.
pub(super) fn readers(mode: &str) -> &'static str {
    match Mode::from_word(mode) {
        Some(Mode::E2e) => "end-to-end encrypted",
        Some(Mode::Signed) => "signed: the server can read",
        None => "a mode that this version does not know",
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

impl From<Readable> for Mode {
    fn from(readable: Readable) -> Self {
        match readable {
            Readable::E2e => Self::E2e,
            Readable::Signed => Self::Signed,
        }
    }
}

impl From<Past> for History {
    fn from(past: Past) -> Self {
        match past {
            Past::Full => Self::Full,
            Past::SinceJoin => Self::SinceJoin,
        }
    }
}
