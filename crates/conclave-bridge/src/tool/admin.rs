//! Tools of channel admins. The role is checked by the server and by every member, not here.

use super::answer::{Answer, Failure};
use super::args::{Arg, Args, Kind, may, need};
use super::channels::{VISIBILITY, visibility};
use super::{CHANNEL, Set, Step, Tool};
use crate::fabric::Act;
use crate::session::Session;
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::name::Name;

const INVITE_S_DEFAULT: u64 = 7 * 24 * 60 * 60;

const USER: Arg = need("user", Kind::Text, "user name");

/// Reads which act a call means.
type ReadAct = fn(&Args) -> Result<Act, Failure>;

/// Tools of channel admins.
pub(super) const TOOLS: &[Tool] = &[
    row(
        "delete_channel",
        "Close a channel for good (its owner).",
        &[CHANNEL],
        |s, _, a| act(s, a, |_| Ok(Act::Delete)),
    ),
    row(
        "rename_channel",
        "Rename a channel.",
        &[CHANNEL, need("name", Kind::Text, "the new name")],
        |s, _, a| act(s, a, rename),
    ),
    row(
        "set_visibility",
        "Set who can find a channel.",
        &[CHANNEL, need("visibility", VISIBILITY, "")],
        |s, _, a| {
            act(s, a, |args| {
                let chosen = visibility(args).unwrap_or(Visibility::Private);
                Ok(Act::SetVisibility(chosen))
            })
        },
    ),
    row(
        "acl_add",
        "Add a user to a channel.",
        &[
            CHANNEL,
            USER,
            may(
                "role",
                Kind::Choice(&["reader", "member", "admin"]),
                "default member",
            ),
        ],
        |s, _, a| act(s, a, add),
    ),
    row(
        "acl_remove",
        "Remove a user from a channel.",
        &[CHANNEL, USER],
        |s, _, a| act(s, a, |args| Ok(Act::Remove(name(args, "user")?))),
    ),
    row(
        "acl_list",
        "List a channel's members and roles.",
        &[CHANNEL],
        |s, _, a| act(s, a, |_| Ok(Act::Members)),
    ),
    row(
        "invite_create",
        "Make an invite link to a channel this machine created. The link goes to your human, not to you.",
        &[
            CHANNEL,
            may("uses", Kind::Number(1_000), "default 1"),
            may("expires_s", Kind::Number(2_592_000), "default 7 days"),
        ],
        |s, _, a| act(s, a, invite),
    ),
    row(
        "invite_revoke",
        "Revoke an invite.",
        &[CHANNEL, need("invite", Kind::Text, "invite id")],
        |s, _, a| act(s, a, revoke),
    ),
    row(
        "invite_list",
        "List a channel's open invites.",
        &[CHANNEL],
        |s, _, a| act(s, a, |_| Ok(Act::Invites)),
    ),
    row(
        "kick",
        "End a session's subscription to a channel, or remove a user from it.",
        &[
            CHANNEL,
            need("target", Kind::Text, "user/machine/session, or a user name"),
        ],
        |s, _, a| act(s, a, kick),
    ),
    row(
        "ban",
        "Remove a user from a channel and keep it out.",
        &[CHANNEL, USER, may("reason", Kind::Text, "")],
        |s, _, a| {
            act(s, a, |args| {
                let reason = args.text("reason").unwrap_or_default().to_owned();
                Ok(Act::Ban(name(args, "user")?, reason))
            })
        },
    ),
    row(
        "unban",
        "Let a banned user come back.",
        &[CHANNEL, USER],
        |s, _, a| act(s, a, |args| Ok(Act::Unban(name(args, "user")?))),
    ),
    row(
        "ban_list",
        "List who is banned from a channel.",
        &[CHANNEL],
        |s, _, a| act(s, a, |_| Ok(Act::Bans)),
    ),
];

const fn row(
    name: &'static str,
    about: &'static str,
    args: &'static [Arg],
    run: super::Run,
) -> Tool {
    Tool::new(name, Set::Admin, about, args, run).moderates()
}

fn act(session: &mut Session, args: &Args, read: ReadAct) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let act = read(args)?;
    let acted = session.fabric(found.home)?.act(found.channel.id, act);
    let name = found.channel.name.to_string();
    Ok(Step::later(acted, move |session, _, facts| {
        session.refresh(found.home);
        let answer = Answer::ok().with("channel", name);
        facts
            .into_iter()
            .fold(answer, |answer, (key, value)| answer.with(&key, value))
    }))
}

fn rename(args: &Args) -> Result<Act, Failure> {
    let name = Name::claim(args.needed("name").trim_start_matches('#'));
    let fault = |e| Failure::arguments(format!("`name`: {e}"));
    Ok(Act::Rename(name.map_err(fault)?))
}

fn add(args: &Args) -> Result<Act, Failure> {
    let role = match args.text("role") {
        Some("reader") => Role::Reader,
        Some("admin") => Role::Admin,
        _ => Role::Member,
    };
    Ok(Act::Add(name(args, "user")?, role))
}

fn invite(args: &Args) -> Result<Act, Failure> {
    let uses = args.number("uses").unwrap_or(1).max(1);
    let life = args.number("expires_s").unwrap_or(INVITE_S_DEFAULT);
    let uses = u32::try_from(uses).unwrap_or(1);
    Ok(Act::Invite(uses, life.saturating_mul(1000)))
}

fn revoke(args: &Args) -> Result<Act, Failure> {
    let id = args.parsed("invite")?;
    let missing = || Failure::arguments("`invite` is missing");
    Ok(Act::RevokeInvite(id.ok_or_else(missing)?))
}

fn kick(args: &Args) -> Result<Act, Failure> {
    if !args.needed("target").contains('/') {
        return Ok(Act::Remove(name(args, "target")?));
    }
    let path = args.parsed("target")?;
    let missing = || Failure::arguments("`target` is missing");
    Ok(Act::KickSession(path.ok_or_else(missing)?))
}

fn name(args: &Args, arg: &'static str) -> Result<Name, Failure> {
    args.parsed(arg)?
        .ok_or_else(|| Failure::arguments(format!("`{arg}` is missing")))
}
