//! Carrying out what the rules planned. Nothing here can fail.

use super::body::{CtlBody, VerifiedCtl};
use super::rule::{Place, Plan};
use super::word::{History, RemoveKind, Role};
use super::{Admission, ChannelLog, CtlChange, Epoch, Invite};
use crate::body::Head;

impl ChannelLog {
    pub(super) fn commit(&mut self, place: Place, rec: &VerifiedCtl, plan: Plan) -> CtlChange {
        let Plan { change, member } = plan;
        match &change {
            CtlChange::Created => {}
            CtlChange::MemberAdded {
                user, admission, ..
            } => {
                self.members.extend(member.map(|member| (*user, member)));
                if let Admission::Invited { invite, .. } = admission
                    && let Some(invite) = self.invites.get_mut(invite)
                {
                    invite.uses += 1;
                }
                self.make_stale(self.history == History::SinceJoin);
            }
            CtlChange::MemberRemoved { user, kind } => {
                let gone = self.members.remove(user);
                self.left
                    .extend(gone.iter().map(|member| (*user, member.ident.n)));
                if *kind == RemoveKind::Ban {
                    self.banned.insert(*user);
                }
                // Who is out lets nobody in any more, himself least of all.
                for invite in self.invites.values_mut().filter(|i| i.by == *user) {
                    invite.revoked = true;
                }
                self.make_stale(gone.is_some());
            }
            CtlChange::Unbanned(user) => {
                self.banned.remove(user);
            }
            CtlChange::RoleChanged { user, role } => {
                self.members
                    .entry(*user)
                    .and_modify(|member| member.role = *role);
            }
            CtlChange::InviteRevoked(id) => {
                self.invites
                    .entry(*id)
                    .and_modify(|invite| invite.revoked = true);
            }
            CtlChange::IdentAdvanced { user, head, shrunk } => {
                self.members
                    .entry(*user)
                    .and_modify(|member| member.ident = *head);
                self.make_stale(*shrunk);
            }
            CtlChange::InviteAdded(_) | CtlChange::EpochStarted(_) | CtlChange::Meta => {
                self.take_over(place, rec);
            }
            CtlChange::Frozen(on) => self.frozen = *on,
            CtlChange::Confidential(on) => self.confidential = *on,
            CtlChange::Closed => self.closed = true,
        }
        self.head = Head {
            n: rec.c,
            hash: rec.record().hash(),
        };
        self.seq = place.seq;
        change
    }

    /// Takes fields of the record over that the change does not repeat.
    fn take_over(&mut self, place: Place, rec: &VerifiedCtl) {
        match rec.body.clone() {
            CtlBody::Invite {
                key,
                role,
                max_uses,
                expires,
            } => {
                let by = rec.author.user;
                let invite = Invite {
                    key,
                    role,
                    max_uses,
                    uses: 0,
                    expires,
                    revoked: false,
                    by,
                };
                self.invites.insert(key.invite_id(), invite);
            }
            CtlBody::Epoch {
                e,
                commit,
                prev_box,
                bundle_box,
                ..
            } => {
                self.stale = false;
                let by_admin = self.role(&rec.author.user) >= Some(Role::Admin);
                self.name_box = self.name_box.take().filter(|_| !by_admin);
                self.epochs.push(Epoch {
                    e,
                    seq: place.seq,
                    at: place.at,
                    commit,
                    prev_box,
                    bundle_box,
                    by_admin,
                });
            }
            CtlBody::Meta {
                visibility,
                name,
                name_box,
                topic,
            } => {
                self.visibility = visibility.unwrap_or(self.visibility);
                self.name = name.or_else(|| self.name.take());
                let e = self.epoch().map_or(0, |epoch| epoch.e);
                let name_box = name_box.map(|sealed| (e, sealed));
                self.name_box = name_box.or_else(|| self.name_box.take());
                let topic = topic.or_else(|| self.topic.take());
                self.topic = topic.filter(|topic| !topic.is_empty());
            }
            _ => {}
        }
    }

    const fn make_stale(&mut self, shrunk: bool) {
        self.stale |= shrunk;
    }
}
