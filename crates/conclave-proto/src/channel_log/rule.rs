//! The rules: who may say what at which point, and what follows from it.
//!
//! [`ChannelLog::check`] decides without changing anything; what it planned is then carried out
//! without a way to fail.

use super::actor::{Actor, identity_at};
use super::body::{CtlBody, Ticket, VerifiedCtl};
use super::create::check_settings;
use super::word::{History, Mode, RemoveKind, Role, Visibility};
use super::{
    Admission, ChannelLog, CtlChange, CtlError, INVITES_MAX, Identities, MEMBERS_MAX, Member,
};
use crate::body::Head;
use crate::id::{Blob, Hash, InviteId, UserId};
use crate::identity_log::IdentityLog;
use crate::limit::BOX_BYTES_MAX;
use crate::time::UnixMs;

/// What a valid record will do.
pub(super) struct Plan {
    pub(super) change: CtlChange,
    pub(super) member: Option<Member>,
}

/// Where and when a record stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) at: UnixMs,
}

impl ChannelLog {
    /// Tells what a record would change at this place and time, without applying it.
    ///
    /// # Errors
    /// [`CtlError`].
    pub fn check(
        &self,
        seq: u64,
        at: UnixMs,
        rec: &VerifiedCtl,
        ids: &impl Identities,
    ) -> Result<CtlChange, CtlError> {
        Ok(self.plan(Place { seq, at }, rec, ids)?.change)
    }

    pub(super) fn plan(
        &self,
        place: Place,
        rec: &VerifiedCtl,
        ids: &impl Identities,
    ) -> Result<Plan, CtlError> {
        if rec.channel != self.id {
            return Err(CtlError::Channel);
        }
        if place.seq <= self.seq {
            return Err(CtlError::Order);
        }
        if Some(rec.c) != self.head.n.checked_add(1) || rec.prev != Some(self.head.hash) {
            return Err(CtlError::Chain(self.head.n));
        }
        if self.closed {
            return Err(CtlError::Closed);
        }
        let actor = self.actor(rec, ids)?;
        let change = match &rec.body {
            CtlBody::Create { .. } => return Err(CtlError::Channel),
            CtlBody::Add { user, ident, role } => {
                actor.widens(&[*role])?;
                let identity = identity_at(ids, user, ident)?;
                let admission = Admission::Added { by: actor.user };
                return self.admit(place, identity, *ident, *role, admission);
            }
            CtlBody::Join { ticket } => return self.join(place, &actor, ticket.as_ref()),
            CtlBody::Remove { user, kind } => self.remove(&actor, user, *kind)?,
            CtlBody::Unban { user } => {
                actor.widens(&[])?;
                some_change(self.banned.contains(user))?;
                CtlChange::Unbanned(*user)
            }
            CtlBody::Role { user, role } => {
                let old = self.role(user).ok_or(CtlError::NoSuchMember)?;
                actor.widens(&[old, *role])?;
                some_change(old != *role)?;
                CtlChange::RoleChanged {
                    user: *user,
                    role: *role,
                }
            }
            CtlBody::Invite {
                key,
                role,
                max_uses,
                expires,
            } => {
                actor.widens(&[*role])?;
                self.invite(place.at, key.invite_id(), *max_uses, *expires)?
            }
            CtlBody::InviteRevoke { invite } => {
                actor.at_least(Role::Admin)?;
                let known = self.invites.get(invite).ok_or(CtlError::Invite)?;
                some_change(!known.revoked)?;
                CtlChange::InviteRevoked(*invite)
            }
            CtlBody::Ident { user, head } => {
                // Everybody says which machines are his: a stolen one must be seen to go.
                actor.at_least(if *user == actor.user {
                    Role::Reader
                } else {
                    Role::Member
                })?;
                self.ident(user, *head, ids)?
            }
            CtlBody::Epoch {
                e,
                covers_c,
                members_root,
                bundle_box,
                prev_box,
                ..
            } => {
                actor.at_least(Role::Member)?;
                let admin = actor.role >= Some(Role::Admin);
                self.next_epoch(*e, *covers_c, members_root, ids)?;
                self.check_boxes(bundle_box, prev_box.as_ref(), admin)?;
                CtlChange::EpochStarted(*e)
            }
            CtlBody::Freeze { on } => {
                actor.at_least(Role::Admin)?;
                some_change(self.frozen != *on)?;
                CtlChange::Frozen(*on)
            }
            CtlBody::Confidential { on } => {
                // To let out what was said in confidence widens the circle.
                match on {
                    true => drop(actor.at_least(Role::Admin)?),
                    false => actor.widens(&[])?,
                }
                some_change(self.confidential != *on)?;
                CtlChange::Confidential(*on)
            }
            CtlBody::Meta { .. } => self.meta(&actor, &rec.body)?,
            CtlBody::Close {} => {
                actor.at_least(Role::Owner)?;
                CtlChange::Closed
            }
        };
        Ok(Plan {
            change,
            member: None,
        })
    }

    fn join(
        &self,
        place: Place,
        actor: &Actor<'_>,
        ticket: Option<&Ticket>,
    ) -> Result<Plan, CtlError> {
        let (role, admission) = match ticket {
            None if self.visibility == Visibility::Private => return Err(CtlError::Private),
            None => (Role::Member, Admission::Open),
            Some(ticket) => {
                let id = ticket.key.invite_id();
                let invite = self.invites.get(&id).filter(|i| i.key == ticket.key);
                let invite = invite
                    .filter(|i| i.is_live(place.at))
                    .ok_or(CtlError::Invite)?;
                (
                    invite.role,
                    Admission::Invited {
                        invite: id,
                        by: invite.by,
                    },
                )
            }
        };
        if self.frozen {
            return Err(CtlError::Frozen);
        }
        self.admit(place, actor.identity, actor.ident, role, admission)
    }

    fn admit(
        &self,
        place: Place,
        identity: &IdentityLog,
        ident: Head,
        role: Role,
        admission: Admission,
    ) -> Result<Plan, CtlError> {
        let (user, name) = (*identity.user_id(), identity.username());
        some_change(!self.members.contains_key(&user))?;
        if self.banned.contains(&user) {
            return Err(CtlError::Banned);
        }
        if self.left.get(&user).is_some_and(|n| ident.n < *n) {
            return Err(CtlError::OldIdentity);
        }
        if self.member_named(name).is_some() {
            return Err(CtlError::NameTaken);
        }
        if self.members.len() >= usize::try_from(self.limits.members_max).unwrap_or(usize::MAX) {
            return Err(CtlError::Limit);
        }
        let Place { seq: since, at } = place;
        let member = Member {
            name: name.clone(),
            role,
            ident,
            since,
            at,
            admission,
        };
        let change = CtlChange::MemberAdded {
            user,
            role,
            admission,
        };
        Ok(Plan {
            change,
            member: Some(member),
        })
    }

    fn remove(
        &self,
        actor: &Actor<'_>,
        user: &UserId,
        kind: RemoveKind,
    ) -> Result<CtlChange, CtlError> {
        let target = self.role(user);
        if kind == RemoveKind::Leave {
            actor.at_least(Role::Reader)?;
            if *user != actor.user {
                return Err(CtlError::Rank);
            }
        } else {
            let own = actor.at_least(Role::Admin)?;
            if target.is_some_and(|role| role >= own) {
                return Err(CtlError::Rank);
            }
        }
        match kind {
            RemoveKind::Leave | RemoveKind::Kick => {
                target.ok_or(CtlError::NoSuchMember)?;
            }
            RemoveKind::Ban => some_change(!self.banned.contains(user))?,
        }
        Ok(CtlChange::MemberRemoved { user: *user, kind })
    }

    fn invite(
        &self,
        at: UnixMs,
        id: InviteId,
        max_uses: u32,
        expires: UnixMs,
    ) -> Result<CtlChange, CtlError> {
        if expires <= at {
            return Err(CtlError::Invite);
        }
        some_change(!self.invites.contains_key(&id))?;
        let live = self
            .invites
            .values()
            .filter(|invite| invite.is_live(at))
            .count();
        if max_uses == 0 || max_uses > MEMBERS_MAX || live >= INVITES_MAX {
            return Err(CtlError::Limit);
        }
        Ok(CtlChange::InviteAdded(id))
    }

    fn ident(
        &self,
        user: &UserId,
        head: Head,
        ids: &impl Identities,
    ) -> Result<CtlChange, CtlError> {
        let known = self.member(user).ok_or(CtlError::NoSuchMember)?.ident;
        some_change(head.n > known.n)?;
        let identity = identity_at(ids, user, &head)?;
        let shrunk = identity
            .machines_at(known.n)
            .any(|machine| identity.machine_at(head.n, &machine.key).is_none())
            || identity
                .owners_at(known.n)
                .any(|key| !identity.is_owner_at(head.n, key));
        Ok(CtlChange::IdentAdvanced {
            user: *user,
            head,
            shrunk,
        })
    }

    fn next_epoch(
        &self,
        e: u32,
        covers_c: u64,
        members_root: &Hash,
        ids: &impl Identities,
    ) -> Result<(), CtlError> {
        if self.mode != Mode::E2e {
            return Err(CtlError::Mode);
        }
        let next = self.epoch().map_or(Some(1), |epoch| epoch.e.checked_add(1));
        let fits = Some(e) == next
            && covers_c == self.head.n
            && self.members_root(ids).as_ref() == Some(members_root);
        fits.then_some(()).ok_or(CtlError::Epoch)
    }

    /// The way back to older keys is there iff new members may read older messages. Only an admin may
    /// break it off, where the older key is lost.
    fn check_boxes(&self, bundle: &Blob, prev: Option<&Blob>, admin: bool) -> Result<(), CtlError> {
        if bundle.len() > BOX_BYTES_MAX || prev.is_some_and(|sealed| sealed.len() > BOX_BYTES_MAX) {
            return Err(CtlError::Limit);
        }
        let fits = match (self.history, self.epoch(), prev) {
            (_, None, Some(_)) | (History::SinceJoin, _, Some(_)) => false,
            (History::Full, Some(_), None) => admin,
            (History::Full, Some(_), Some(_)) | (_, None, None) | (History::SinceJoin, _, None) => {
                true
            }
        };
        fits.then_some(()).ok_or(CtlError::Epoch)
    }

    fn meta(&self, actor: &Actor<'_>, body: &CtlBody) -> Result<CtlChange, CtlError> {
        let CtlBody::Meta {
            visibility,
            name,
            name_box,
            topic,
        } = body
        else {
            return Err(CtlError::Malformed);
        };
        let after = visibility.unwrap_or(self.visibility);
        if after > self.visibility {
            actor.widens(&[])?;
        } else {
            actor.at_least(Role::Admin)?;
        }
        some_change(
            visibility.is_some() || name.is_some() || name_box.is_some() || topic.is_some(),
        )?;
        check_settings(self.mode, after, name.as_ref(), topic.as_deref())?;
        if after != Visibility::Private && name.is_none() && self.name.is_none() {
            return Err(CtlError::Name);
        }
        match name_box {
            Some(_) if self.mode != Mode::E2e || self.epochs().is_empty() => Err(CtlError::Mode),
            Some(sealed) if sealed.len() > BOX_BYTES_MAX => Err(CtlError::Limit),
            _ => Ok(CtlChange::Meta),
        }
    }
}

const fn some_change(changes: bool) -> Result<(), CtlError> {
    if changes {
        Ok(())
    } else {
        Err(CtlError::NoChange)
    }
}
