//! Who may do what: checks that need no state (for connection tasks), and the rules of seeing.
//!
//! A private channel that somebody may not see is refused exactly like one that does not exist.

use super::directory::{Channel, Directory};
use super::{Beside, Checked};
use conclave_proto::admin::ParsedAct;
use conclave_proto::channel_log::{CtlBody, Mode, ParsedCtl, Role, Visibility};
use conclave_proto::encryption_key::Announcement;
use conclave_proto::frame::Op;
use conclave_proto::frame::op::{CtlAppend, ProfilePut, Wrap};
use conclave_proto::frame::reply::ChannelInfo;
use conclave_proto::id::{ChannelId, UserId};
use conclave_proto::identity_log;
use conclave_proto::key::HolderKey;
use conclave_proto::limit::{BOX_BYTES_MAX, HOLDERS_MAX, PROFILE_BYTES_MAX, WRAPS_MAX};
use conclave_proto::reject::{Code, Reject};
use std::collections::BTreeSet;

impl Checked {
    /// Takes an operation apart and makes the checks that need no state, signatures of records
    /// included. For connection tasks.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn new(op: Op) -> Result<Self, Reject> {
        match op {
            Op::Append(append) => match append.env.parse() {
                Ok(env) => Ok(Self::Append {
                    log: append.log,
                    env: Box::new(env),
                }),
                Err(e) => Err(Reject::new(Code::Malformed, e.to_string())),
            },
            Op::CtlAppend(ctl) => Self::ctl(ctl),
            Op::IdentAppend(ident) => identity_log::Parsed::parse(&ident.rec)
                .and_then(identity_log::Parsed::verify)
                .map(|rec| Self::Ident(Box::new(rec)))
                .map_err(|e| Reject::new(e.code(), e.to_string())),
            Op::Admin(act) => ParsedAct::parse(&act.rec)
                .and_then(ParsedAct::verify)
                .map(|act| Self::Admin(Box::new(act)))
                .map_err(|e| Reject::new(e.code(), e.to_string())),
            Op::EkPublish(ek) => Announcement::read(&ek.rec)
                .map(|announced| Self::Announcement {
                    announced: Box::new(announced),
                    rec: ek.rec,
                })
                .map_err(|e| Reject::new(Code::Unauthorized, e.to_string())),
            Op::Profile(put) => Self::profile(put),
            Op::WrapPut(put) => {
                fits_wraps(&put.wraps)?;
                Ok(Self::Other(Box::new(Op::WrapPut(put))))
            }
            Op::WrapFetch(fetch) => {
                at_most(WRAPS_MAX, fetch.unusable.len(), "epochs")?;
                Ok(Self::Other(Box::new(Op::WrapFetch(fetch))))
            }
            Op::EkFetch(fetch) => {
                at_most(HOLDERS_MAX, fetch.holders.len(), "holders")?;
                Ok(Self::Other(Box::new(Op::EkFetch(fetch))))
            }
            Op::Unknown(word) => Err(Reject::new(
                Code::UnknownOp,
                format!("this server does not know {word:?}"),
            )),
            op => Ok(Self::Other(Box::new(op))),
        }
    }

    fn profile(put: ProfilePut) -> Result<Self, Reject> {
        if put.env.ct.len() > PROFILE_BYTES_MAX {
            let text = format!("a sealed profile has at most {PROFILE_BYTES_MAX} bytes");
            return Err(Reject::new(Code::TooLarge, text));
        }
        let env = put.env.parse();
        let env = env.map_err(|e| Reject::new(Code::Malformed, e.to_string()))?;
        Ok(Self::Profile {
            channel: put.channel,
            env: Box::new(env),
        })
    }

    fn ctl(ctl: CtlAppend) -> Result<Self, Reject> {
        fits_wraps(&ctl.wraps)?;
        if ctl
            .invite_box
            .as_ref()
            .is_some_and(|b| b.len() > BOX_BYTES_MAX)
        {
            return Err(Reject::new(Code::TooLarge, "the invite's box is too large"));
        }
        let rec = ParsedCtl::parse(&ctl.rec)
            .and_then(ParsedCtl::verify)
            .map_err(|e| Reject::new(e.code(), e.to_string()))?;
        if rec.channel != ctl.channel {
            return Err(Reject::new(
                Code::Malformed,
                "the record is for another channel",
            ));
        }
        if !ctl.wraps.is_empty() && !matches!(rec.body, CtlBody::Epoch { .. }) {
            return Err(Reject::new(
                Code::Malformed,
                "only a new epoch brings wraps",
            ));
        }
        Ok(Self::Ctl {
            channel: ctl.channel,
            rec: Box::new(rec),
            beside: Beside {
                wraps: ctl.wraps,
                invite_box: ctl.invite_box,
            },
        })
    }
}

fn at_most(most: usize, n: usize, what: &str) -> Result<(), Reject> {
    match n <= most {
        true => Ok(()),
        false => {
            let text = format!("at most {most} {what} at a time");
            Err(Reject::new(Code::TooLarge, text))
        }
    }
}

/// Checks that wraps are not too many, and one for each holder.
fn fits_wraps(wraps: &[Wrap]) -> Result<(), Reject> {
    at_most(WRAPS_MAX, wraps.len(), "wraps")?;
    let holders: BTreeSet<HolderKey> = wraps.iter().map(|wrap| wrap.to).collect();
    match holders.len() == wraps.len() {
        true => Ok(()),
        false => Err(Reject::new(Code::Malformed, "two wraps are for one holder")),
    }
}

/// The refusal for what does not exist, or must seem not to.
pub(super) fn not_found(what: &str) -> Reject {
    Reject::new(Code::NotFound, format!("no such {what}"))
}

impl Directory {
    /// Returns a channel that `user` is a member of.
    ///
    /// # Errors
    /// `not_found` for private channels and such that do not exist, else `forbidden`.
    pub(super) fn joined(&self, channel: &ChannelId, user: &UserId) -> Result<&Channel, Reject> {
        let found = self.channel(channel).ok_or_else(|| not_found("channel"))?;
        if found.log.role(user).is_some() {
            return Ok(found);
        }
        match found.log.visibility() {
            Visibility::Private => Err(not_found("channel")),
            Visibility::Unlisted | Visibility::Public => {
                Err(Reject::new(Code::Forbidden, "join the channel first"))
            }
        }
    }

    /// Returns a channel whose control records `user` may read.
    pub(super) fn visible(&self, channel: &ChannelId, user: &UserId) -> Option<&Channel> {
        self.channel(channel).filter(|found| {
            found.log.visibility() != Visibility::Private || found.log.role(user).is_some()
        })
    }

    /// Returns a channel that `user` administers.
    ///
    /// # Errors
    /// As [`Directory::joined`], and `forbidden` below the role admin.
    pub(super) fn run_by(&self, channel: &ChannelId, user: &UserId) -> Result<&Channel, Reject> {
        let found = self.joined(channel, user)?;
        if found.log.role(user) < Some(Role::Admin) {
            return Err(Reject::new(
                Code::Forbidden,
                "this needs the role admin or higher",
            ));
        }
        Ok(found)
    }
}

/// Returns the directory entry of a channel, as `user` may see it.
pub(super) fn info(id: ChannelId, channel: &Channel, user: &UserId) -> ChannelInfo {
    let log = &channel.log;
    ChannelInfo {
        channel: id,
        name: log.name().cloned(),
        visibility: match log.visibility() {
            Visibility::Private => "private",
            Visibility::Unlisted => "unlisted",
            Visibility::Public => "public",
        }
        .to_owned(),
        mode: match log.mode() {
            Mode::Signed => "signed",
            Mode::E2e => "e2e",
        }
        .to_owned(),
        role: log.role(user).map(|role| role.to_string()),
        members: u32::try_from(log.members().len()).unwrap_or(u32::MAX),
        topic: log.topic().map(str::to_owned),
        ctl: log.head(),
        ctl_seq: log.seq(),
        closed: log.is_closed(),
    }
}
