//! Makes the records of an identity log. Whether a record is valid is for the log to say.

use super::IdentityLog;
use super::body::{Cap, Draft, IdentityBody, MachineClaim};
use crate::id::ServerId;
use crate::key::{MachineKey, OwnerKey, Secret, label};
use crate::name::Name;
use crate::record::Record;
use crate::time::UnixMs;
use std::collections::BTreeSet;

/// Makes the first record. `owners` are all owner keys; the first one is `owner`'s. The claim comes
/// from [`MachineClaim::found`].
#[must_use]
pub fn genesis(
    server: ServerId,
    username: Name,
    owners: Vec<OwnerKey>,
    machine: MachineClaim,
    owner: &Secret,
    ts: UnixMs,
) -> Record {
    let body = IdentityBody::Genesis {
        server,
        username,
        owners,
        machine,
    };
    let signer = owner.owner_key();
    let draft = Draft {
        user: None,
        n: 0,
        prev: None,
        body,
        signer,
        ts,
    };
    Record::sign(label::IDENTITY, &draft.to_bytes(), owner)
}

/// Enrols a machine. The claim comes from [`MachineClaim::enrol`].
#[must_use]
pub fn add_machine(
    log: &IdentityLog,
    machine: MachineClaim,
    caps: BTreeSet<Cap>,
    owner: &Secret,
    ts: UnixMs,
) -> Record {
    next(log, IdentityBody::AddMachine { machine, caps }, owner, ts)
}

/// Ends a machine.
#[must_use]
pub fn revoke_machine(
    log: &IdentityLog,
    key: MachineKey,
    reason: &str,
    owner: &Secret,
    ts: UnixMs,
) -> Record {
    let body = IdentityBody::RevokeMachine {
        key,
        reason: reason.to_owned(),
    };
    next(log, body, owner, ts)
}

/// Replaces a machine's keys. The claim comes from [`MachineClaim::enrol`], with the same name.
#[must_use]
pub fn rotate_machine(
    log: &IdentityLog,
    old: MachineKey,
    machine: MachineClaim,
    owner: &Secret,
    ts: UnixMs,
) -> Record {
    next(log, IdentityBody::RotateMachine { old, machine }, owner, ts)
}

/// Adds an owner key.
#[must_use]
pub fn add_owner(log: &IdentityLog, key: OwnerKey, owner: &Secret, ts: UnixMs) -> Record {
    next(log, IdentityBody::AddOwner { key }, owner, ts)
}

/// Ends an owner key.
#[must_use]
pub fn revoke_owner(log: &IdentityLog, key: OwnerKey, owner: &Secret, ts: UnixMs) -> Record {
    next(log, IdentityBody::RevokeOwner { key }, owner, ts)
}

fn next(log: &IdentityLog, body: IdentityBody, owner: &Secret, ts: UnixMs) -> Record {
    let head = log.head();
    let draft = Draft {
        user: Some(*log.user_id()),
        n: head.n + 1,
        prev: Some(head.hash),
        body,
        signer: owner.owner_key(),
        ts,
    };
    Record::sign(label::IDENTITY, &draft.to_bytes(), owner)
}
