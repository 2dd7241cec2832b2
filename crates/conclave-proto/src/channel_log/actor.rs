//! Who speaks: which user, by which key, and with what right (SECURITY 2.3, rule 2).

use super::body::{CtlBody, SignerKey, VerifiedCtl};
use super::word::Role;
use super::{ChannelLog, CtlError, Identities};
use crate::body::Head;
use crate::id::UserId;
use crate::identity_log::{Cap, IdentityLog, Machine};

/// The author of a record, as identity log and channel know him.
pub(super) struct Actor<'a> {
    pub(super) user: UserId,
    pub(super) ident: Head,
    pub(super) identity: &'a IdentityLog,
    pub(super) role: Option<Role>,
    may_widen: bool,
}

impl Actor<'_> {
    pub(super) fn at_least(&self, role: Role) -> Result<Role, CtlError> {
        match self.role {
            None => Err(CtlError::NotMember),
            Some(own) if own < role => Err(CtlError::Role(role)),
            Some(own) => Ok(own),
        }
    }

    /// Needs `role`, a right over `concerned`, and a key that may widen the circle.
    pub(super) fn widens(&self, concerned: &[Role]) -> Result<(), CtlError> {
        let own = self.at_least(Role::Admin)?;
        if concerned.iter().any(|role| *role >= own) {
            return Err(CtlError::Rank);
        }
        if self.may_widen {
            Ok(())
        } else {
            Err(CtlError::NeedsOwnerKey)
        }
    }
}

impl ChannelLog {
    /// Finds out who speaks. The key must be active at the identity head that the channel goes by,
    /// and still be at the newer one the author names. A member's own `ident` is judged by the
    /// newer head alone: it is how a new machine becomes known.
    pub(super) fn actor<'a>(
        &self,
        rec: &VerifiedCtl,
        ids: &'a impl Identities,
    ) -> Result<Actor<'a>, CtlError> {
        let author = &rec.author;
        let identity = identity_at(ids, &author.user, &author.ident)?;
        let member = self.member(&author.user);
        let own_ident = match &rec.body {
            CtlBody::Ident { user, head } if *user == author.user => {
                if *head != author.ident {
                    return Err(CtlError::OldIdentity);
                }
                true
            }
            _ => false,
        };
        if let Some(member) = member {
            if author.ident.n < member.ident.n {
                return Err(CtlError::OldIdentity);
            }
            if !own_ident {
                check_key(identity, rec, member.ident.n)?;
            }
        }
        let may_widen = match check_key(identity, rec, author.ident.n)? {
            None => true,
            Some(machine) => {
                machine.caps.contains(&Cap::Steward(self.id))
                    || machine.caps.contains(&Cap::StewardOwn)
                        && author.user == self.creator
                        && self.creator_lineage == Some(machine.lineage)
            }
        };
        let role = member.map(|member| member.role);
        Ok(Actor {
            user: author.user,
            ident: author.ident,
            identity,
            role,
            may_widen,
        })
    }
}

/// Returns the identity log, known at least up to `head`, and the same there.
pub(super) fn identity_at<'a>(
    ids: &'a impl Identities,
    user: &UserId,
    head: &Head,
) -> Result<&'a IdentityLog, CtlError> {
    let need = CtlError::NeedIdentity {
        user: *user,
        n: head.n,
    };
    let identity = ids.identity(user).ok_or_else(|| need.clone())?;
    if identity.hash_at(head.n).ok_or(need)? != &head.hash {
        return Err(CtlError::IdentityFork {
            user: *user,
            n: head.n,
        });
    }
    Ok(identity)
}

/// Checks that the signing key counted at identity head `n`, for the user and machine of the path.
/// Returns the machine, if it is a machine's key.
pub(super) fn check_key<'a>(
    identity: &'a IdentityLog,
    rec: &VerifiedCtl,
    n: u64,
) -> Result<Option<&'a Machine>, CtlError> {
    let path = &rec.author.path;
    let machine = match &rec.key {
        SignerKey::Machine(key) => Some(identity.machine_at(n, key).ok_or(CtlError::Key)?),
        SignerKey::Owner(key) if identity.is_owner_at(n, key) => None,
        SignerKey::Owner(_) => return Err(CtlError::Key),
    };
    let same = machine.is_none_or(|machine| machine.name == path.machine);
    if same && path.user == *identity.username() {
        Ok(machine)
    } else {
        Err(CtlError::Key)
    }
}
