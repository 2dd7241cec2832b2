//! A new account: the first record of an identity log, which makes a user out of keys.

use crate::keystore::MachineKeys;
use crate::owner::Owner;
use conclave_proto::id::{ServerId, UserId};
use conclave_proto::identity_log::{body::MachineClaim, build};
use conclave_proto::name::Name;
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;

/// An account that no server knows yet.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// What `register` and `redeem` send.
    pub genesis: Record,
    /// Who the user will be: the record's hash.
    pub user_id: UserId,
}

impl NewAccount {
    /// Makes the account of `username` on `server` with this machine as its first.
    #[must_use]
    pub fn make(
        server: &ServerId,
        username: Name,
        machine: Name,
        keys: &MachineKeys,
        owner: &Owner,
        ts: UnixMs,
    ) -> Self {
        let owners = vec![owner.secret().owner_key()];
        let ek = keys.encryption_key();
        let claim = MachineClaim::found(server, &username, &owners, machine, ek, &keys.signing);
        let genesis = build::genesis(*server, username, owners, claim, owner.secret(), ts);
        let user_id = UserId::new(*genesis.hash().as_bytes());
        Self { genesis, user_id }
    }
}
