//! The tools: one table of names, constant descriptions, arguments and what runs.
//!
//! What is on offer follows from what the agent may do: without a scope at `converse` nothing can be
//! sent; moderation is for admins. No tool raises a level, approves a tool call, or takes a sender,
//! an owner key or an enrolment: those are the human's, at the command line.

mod admin;
pub mod answer;
pub mod args;
mod channels;
mod messages;

use crate::fabric::Later;
use crate::session::{Finish, Session};
use answer::{Answer, Failure};
use args::{Arg, Args, Kind, Object, may, need};
use conclave_proto::time::Now;
use std::pin::Pin;
use std::time::Duration;

/// When a tool is on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Always.
    Always,
    /// While some scope lets the agent send.
    Emit,
    /// While the user administers a joined channel.
    Admin,
}

/// Which groups are on offer now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// [`Group::Emit`].
    pub emit: bool,
    /// [`Group::Admin`].
    pub admin: bool,
}

/// One tool.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// What it does, for the model.
    pub about: &'static str,
    /// When it is on offer.
    pub group: Group,
    /// Whether the host should load it from the start.
    pub core: bool,
    /// Which tool it is.
    pub verb: Verb,
    args: &'static [Arg],
}

impl Tool {
    /// Returns the JSON schema of its arguments.
    #[must_use]
    pub fn schema(&self) -> Object {
        args::schema(self.args)
    }

    /// Checks arguments against the schema.
    ///
    /// # Errors
    /// A [`Failure`] that names the argument and what was expected.
    pub fn check(&self, given: Object) -> Result<Args, Failure> {
        Args::check(self.args, given)
    }
}

/// What a tool call came to, as the host gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The one text block.
    pub text: String,
    /// Whether the call failed.
    pub is_error: bool,
}

impl Reply {
    /// Makes the reply of a finished call; every reply says how much is unread.
    #[must_use]
    pub fn new(result: Result<Answer, Failure>, unread: usize) -> Self {
        match result {
            Ok(answer) => Self {
                text: answer.with("unread", unread).to_text(),
                is_error: false,
            },
            Err(failure) => Self {
                text: failure.to_text(unread),
                is_error: true,
            },
        }
    }

    /// Makes the reply to a call that the end of the session cut off.
    #[must_use]
    pub fn ended() -> Self {
        let failure = Failure::new("ended", "this session is ending", "start the bridge again");
        Self::new(Err(failure), 0)
    }
}

/// Returns the tools on offer.
pub fn offered(offer: Offer) -> impl Iterator<Item = &'static Tool> {
    TOOLS.iter().filter(move |tool| match tool.group {
        Group::Always => true,
        Group::Emit => offer.emit,
        Group::Admin => offer.admin,
    })
}

/// Returns a tool by name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// How a tool call goes on.
pub(crate) enum Step {
    /// It is over.
    Done(Answer),
    /// It waits for a server.
    Later(Pin<Box<dyn Future<Output = Finish> + Send>>),
    /// It waits for messages: so long, then for at most so many.
    Wait(Duration, usize),
}

impl Step {
    /// Goes on with what a server answers.
    fn later<T: Send + 'static>(
        work: Later<T>,
        then: impl FnOnce(&mut Session, Now, T) -> Answer + Send + 'static,
    ) -> Self {
        Self::later_or(work, |session, now, value| Ok(then(session, now, value)))
    }

    /// Goes on with what a server answers, and may still fail.
    fn later_or<T: Send + 'static>(
        work: Later<T>,
        then: impl FnOnce(&mut Session, Now, T) -> Result<Answer, Failure> + Send + 'static,
    ) -> Self {
        Self::Later(Box::pin(async move {
            let result = work.await;
            let finish: Finish = Box::new(move |session, now| then(session, now, result?));
            finish
        }))
    }
}

/// Starts a tool call.
pub(crate) fn start(
    session: &mut Session,
    now: Now,
    tool: &Tool,
    args: &Args,
) -> Result<Step, Failure> {
    match tool.verb {
        Verb::SendChannel => messages::send_channel(session, now, args),
        Verb::Whisper => messages::whisper(session, now, args),
        Verb::CheckMessages => Ok(messages::check(session, now, args)),
        Verb::WaitForMessages => Ok(messages::wait(session, now, args)),
        Verb::ReadMessage => messages::read(session, now, args),
        Verb::CatchUp => messages::catch_up(session, args),
        Verb::Who => channels::who(session, args),
        Verb::ListChannels => channels::list(session, args),
        Verb::JoinChannel => channels::join(session, args),
        Verb::LeaveChannel => channels::leave(session, args),
        Verb::SetPerm => channels::set_perm(session, args),
        Verb::CreateChannel => channels::create(session, args),
        Verb::DeleteChannel
        | Verb::RenameChannel
        | Verb::SetVisibility
        | Verb::AclAdd
        | Verb::AclRemove
        | Verb::AclList
        | Verb::InviteCreate
        | Verb::InviteRevoke
        | Verb::InviteList
        | Verb::Kick
        | Verb::Ban
        | Verb::Unban
        | Verb::BanList => admin::act(session, tool.verb, args),
    }
}

macro_rules! tools {
    ($($verb:ident $name:literal $group:ident $core:literal $about:literal [$($arg:expr),* $(,)?];)*) => {
        /// Every tool, by what it does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the table describes each")]
        pub enum Verb { $($verb),* }

        /// The table.
        pub const TOOLS: &[Tool] = &[$(Tool {
            name: $name,
            about: $about,
            group: Group::$group,
            core: $core,
            verb: Verb::$verb,
            args: &[$($arg),*],
        }),*];
    };
}

const CHANNEL: Arg = need("channel", Kind::Text, "channel name");
const IN_CHANNEL: Arg = may(
    "channel",
    Kind::Text,
    "channel name; default: the home channel",
);
const CATCH_UP: Arg = may(
    "channel",
    Kind::Text,
    "channel name, or @user/machine/session for whispers; default: the home channel",
);
const TEXT: Arg = need("text", Kind::Text, "the message, at most 64 KiB");
const REPLY_TO: Arg = may("reply_to", Kind::Text, "msg_id of the message this answers");
const USER: Arg = need("user", Kind::Text, "user name");
const REASON: Arg = may("reason", Kind::Text, "");
const LEVEL: Kind = Kind::Choice(&["mute", "notify", "converse", "act"]);
const VISIBILITY: Kind = Kind::Choice(&["public", "unlisted", "private"]);
/// The longest wait, in seconds: below the host's idle limit.
pub const WAIT_S_MAX: u64 = 1_500;
/// The most messages of one page.
pub const PAGE_MAX: u64 = 100;

tools! {
    SendChannel "send_channel" Emit true
        "Send a message to everybody in a channel. Returns once the server has stored it; \"queued\" means it goes out later by itself, never in the clear."
        [IN_CHANNEL, TEXT, REPLY_TO];
    Whisper "whisper" Emit true
        "Send a message to exactly one session; it waits in the mailbox if the session is away."
        [need("to", Kind::Text, "session path user/machine/session, as in `from` and `who`"), TEXT, REPLY_TO];
    CheckMessages "check_messages" Always true
        "Return what is unread, everywhere, at once. What it returns counts as read."
        [may("max", Kind::Number(PAGE_MAX), "default 20")];
    WaitForMessages "wait_for_messages" Always true
        "Wait until a message comes, then return what is unread. Use it instead of polling."
        [may("timeout_s", Kind::Number(WAIT_S_MAX), "default 600"), may("max", Kind::Number(PAGE_MAX), "")];
    ReadMessage "read_message" Always true
        "Return one message by id, from a byte offset: the rest of a long one."
        [need("id", Kind::Text, "msg_id"), may("offset", Kind::Number(65_536), "next_offset of the part before")];
    CatchUp "catch_up" Always false
        "Re-read a channel's history, or whispers with a session, both ways. Marks nothing as read."
        [CATCH_UP, may("since", Kind::Number(u64::MAX), "only after this seq"), may("max", Kind::Number(PAGE_MAX), "the newest so many; default 20")];
    Who "who" Always true
        "List the sessions that are there now, and how to address them."
        [may("channel", Kind::Text, "only this channel's")];
    ListChannels "list_channels" Always false
        "List the channels you are in, with who can read them and the level, and the public ones you can join (there the server can read)."
        [];
    JoinChannel "join_channel" Always false
        "Join a public or unlisted channel by name, or follow one your user is a member of."
        [CHANNEL, may("perm", LEVEL, "lower the level here")];
    LeaveChannel "leave_channel" Always false
        "Stop following a channel in this session. Your user stays a member."
        [CHANNEL];
    SetPerm "set_perm" Always false
        "Lower how far messages may carry: for one channel, for whispers, or for everything. It cannot raise."
        [need("level", LEVEL, ""), may("channel", Kind::Text, ""), may("whisper", Kind::Flag, "the level of whispers")];
    CreateChannel "create_channel" Always false
        "Create a channel. Private ones are end-to-end encrypted; public and unlisted ones the server can read."
        [need("name", Kind::Text, "a-z 0-9 . _ -"), may("visibility", VISIBILITY, "default private"), may("topic", Kind::Text, "")];
    DeleteChannel "delete_channel" Admin false "Close a channel for good (its owner)." [CHANNEL];
    RenameChannel "rename_channel" Admin false "Rename a channel." [CHANNEL, need("name", Kind::Text, "the new name")];
    SetVisibility "set_visibility" Admin false
        "Set who can find a channel." [CHANNEL, need("visibility", VISIBILITY, "")];
    AclAdd "acl_add" Admin false
        "Add a user to a channel." [CHANNEL, USER, may("role", Kind::Choice(&["reader", "member", "admin"]), "default member")];
    AclRemove "acl_remove" Admin false "Remove a user from a channel." [CHANNEL, USER];
    AclList "acl_list" Admin false "List a channel's members and roles." [CHANNEL];
    InviteCreate "invite_create" Admin false
        "Make an invite link to a channel this machine created. The link goes to your human, not to you."
        [CHANNEL, may("uses", Kind::Number(1_000), "default 1"), may("expires_s", Kind::Number(2_592_000), "default 7 days")];
    InviteRevoke "invite_revoke" Admin false "Revoke an invite." [CHANNEL, need("invite", Kind::Text, "invite id")];
    InviteList "invite_list" Admin false "List a channel's open invites." [CHANNEL];
    Kick "kick" Admin false
        "End a session's subscription to a channel, or remove a user from it."
        [CHANNEL, need("target", Kind::Text, "user/machine/session, or a user name")];
    Ban "ban" Admin false "Remove a user from a channel and keep it out." [CHANNEL, USER, REASON];
    Unban "unban" Admin false "Let a banned user come back." [CHANNEL, USER];
    BanList "ban_list" Admin false "List who is banned from a channel." [CHANNEL];
}
