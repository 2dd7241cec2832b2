//! The way back into an account whose machines are all lost: its owner key opens a session that may
//! extend the account's identity log by a new machine, and announce the owner key's encryption key.

use super::state::{HubState, Session};
use super::{Checked, ConnId, Enter, Outgoing};
use crate::audit::Act;
use conclave_proto::channel_log::SignerKey;
use conclave_proto::frame::Op;
use conclave_proto::handshake::{Mode, recover_message};
use conclave_proto::key::Verify as _;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::Now;

impl HubState {
    /// Lets in who holds an active owner key of the account. One refusal for every reason: nobody
    /// learns here which names exist.
    pub(super) fn recover(&mut self, now: Now, conn: ConnId, entry: &Enter) -> Result<(), Reject> {
        let refused = || {
            let text = "this owner key is not one of an account of that name";
            Reject::new(Code::Unauthorized, text)
        };
        let Mode::Recover {
            username,
            machine,
            owner,
            sig,
        } = &entry.mode
        else {
            return Err(refused());
        };
        let key = entry.hello.key;
        let message = recover_message(&self.settings.server_id, &key, username, machine);
        owner.verify(message, sig).map_err(|_| refused())?;
        let account = self.dir.user_named(username);
        let (user, account) = account
            .filter(|(_, account)| account.log.is_owner(owner) && !account.standing.removed)
            .ok_or_else(refused)?;
        let ident = account.log.head();
        self.has_seat(&user, conn, None)?;
        let path = SessionPath {
            user: username.clone(),
            machine: machine.clone(),
            handle: entry.hello.handle.clone(),
        };
        if let Some(c) = self.conns.get_mut(&conn) {
            c.session = Some(Session {
                user,
                key,
                path: path.clone(),
                mailbox: None,
                recovers: true,
            });
        }
        self.audit(&Act {
            at: now.wall,
            user: Some(user),
            machine: Some(key),
            action: "recover",
            target: user.to_string(),
            digest: None,
            request: None,
        });
        let ready = self.ready(now, user, path, ident, entry.session);
        self.send(conn, Outgoing::Entered(Ok(Box::new(ready))));
        Ok(())
    }

    /// Refuses everything but what recovery needs. That an identity record is by the account's owner
    /// and for its own log is checked where it is appended.
    pub(super) fn may_recover(&self, conn: ConnId, op: &Checked) -> Result<(), Reject> {
        let me = self.session(conn)?;
        let allowed = match op {
            Checked::Ident(_) => true,
            Checked::Announcement { announced, .. } => {
                matches!(announced.holder, SignerKey::Owner(_))
            }
            Checked::Other(op) => matches!(&**op, Op::IdentFetch(op) if op.user == me.user),
            Checked::Append { .. }
            | Checked::Profile { .. }
            | Checked::Ctl { .. }
            | Checked::Admin(_) => false,
        };
        match allowed {
            true => Ok(()),
            false => Err(Reject::new(
                Code::Forbidden,
                "this session may only add a machine to its account; sign in with that machine",
            )),
        }
    }
}
