//! Tools of channel admins. The role is checked by the server and by every member, not here.

use super::answer::{Answer, Failure};
use super::args::Args;
use super::channels::visibility;
use super::{Step, Verb};
use crate::fabric::Act;
use crate::session::Session;
use conclave_proto::channel_log::{Role, Visibility};
use conclave_proto::name::Name;

const INVITE_S_DEFAULT: u64 = 7 * 24 * 60 * 60;

pub(super) fn act(session: &mut Session, verb: Verb, args: &Args) -> Result<Step, Failure> {
    let found = session.find_channel(args)?;
    let act = read(verb, args)?;
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

fn read(verb: Verb, args: &Args) -> Result<Act, Failure> {
    let user = || name(args, "user");
    Ok(match verb {
        Verb::DeleteChannel => Act::Delete,
        Verb::RenameChannel => {
            let name = Name::claim(args.needed("name").trim_start_matches('#'));
            Act::Rename(name.map_err(|e| Failure::arguments(format!("`name`: {e}")))?)
        }
        Verb::SetVisibility => Act::SetVisibility(visibility(args).unwrap_or(Visibility::Private)),
        Verb::AclAdd => {
            let role = match args.text("role") {
                Some("reader") => Role::Reader,
                Some("admin") => Role::Admin,
                _ => Role::Member,
            };
            Act::Add(user()?, role)
        }
        Verb::AclRemove => Act::Remove(user()?),
        Verb::InviteCreate => {
            let uses = args.number("uses").unwrap_or(1).max(1);
            let life = args.number("expires_s").unwrap_or(INVITE_S_DEFAULT);
            Act::Invite(u32::try_from(uses).unwrap_or(1), life.saturating_mul(1000))
        }
        Verb::InviteRevoke => {
            let id = args.parsed("invite")?;
            Act::RevokeInvite(id.ok_or_else(|| Failure::arguments("`invite` is missing"))?)
        }
        Verb::Kick if args.needed("target").contains('/') => {
            let path = args.parsed("target")?;
            Act::KickSession(path.ok_or_else(|| Failure::arguments("`target` is missing"))?)
        }
        Verb::Kick => Act::Remove(name(args, "target")?),
        Verb::Ban => Act::Ban(user()?, args.text("reason").unwrap_or_default().to_owned()),
        Verb::Unban => Act::Unban(user()?),
        Verb::BanList => Act::Bans,
        Verb::InviteList => Act::Invites,
        _ => Act::Members,
    })
}

fn name(args: &Args, arg: &'static str) -> Result<Name, Failure> {
    args.parsed(arg)?
        .ok_or_else(|| Failure::arguments(format!("`{arg}` is missing")))
}
