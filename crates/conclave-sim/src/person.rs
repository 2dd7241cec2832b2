//! Who the simulation's clients are: keys, identity records, and what they sign.

use crate::invariant::Broken;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::id::{
    Blob, ChannelId, LogId, MailboxId, MsgId, RecipientKeyId, SenderSid, ServerId, UserId,
};
use conclave_proto::identity_log::{IdentityLog, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::time::Now;
use std::sync::Arc;

/// Who a session belongs to.
#[derive(Clone, Debug)]
pub struct Person {
    /// The session's address.
    pub path: SessionPath,
    /// The machine's key.
    pub machine: Arc<Secret>,
    /// The first identity record.
    pub genesis: Blob,
    /// The identity log.
    pub log: IdentityLog,
}

impl Person {
    /// Makes a person and the address of one session.
    ///
    /// # Errors
    /// [`Broken`] if the names or records are not valid.
    pub fn new(server: ServerId, user: &str, handle: &str, seed: u8) -> Result<Self, Broken> {
        let bad = |e: &dyn std::fmt::Display| Broken(e.to_string());
        let owner = Secret::from_seed(&[seed; 32]);
        let machine = Secret::from_seed(&[seed + 1; 32]);
        let name = |text: &str| Name::new(text).map_err(|e| bad(&e));
        let owners = vec![owner.owner_key()];
        let ek = EncryptionKey::new([seed; 32]);
        let claim = MachineClaim::found(
            &server,
            &name(user)?,
            &owners,
            name("laptop")?,
            ek,
            &machine,
        );
        let ts = Now::default().wall;
        let record = build::genesis(server, name(user)?, owners, claim, &owner, ts);
        let genesis = record.bytes().clone();
        Ok(Self {
            path: SessionPath {
                user: name(user)?,
                machine: name("laptop")?,
                handle: name(handle)?,
            },
            machine: Arc::new(machine),
            log: IdentityLog::genesis(&genesis, &server).map_err(|e| bad(&e))?,
            genesis,
        })
    }

    /// Returns the user's id.
    #[must_use]
    pub fn user(&self) -> UserId {
        *self.log.user_id()
    }

    /// Returns the session's mailbox.
    #[must_use]
    pub fn mailbox(&self) -> LogId {
        LogId::Mailbox(MailboxId::of(&self.user(), &self.path))
    }

    /// Seals one message.
    #[must_use]
    pub fn seal(
        &self,
        server: ServerId,
        log: LogId,
        sid: SenderSid,
        ctr: u64,
        (msg_id, route): (MsgId, Route),
    ) -> Envelope {
        // What is sealed is of no concern here: the server does not open it.
        let (suite, channel) = match log {
            LogId::Channel(channel) => (Suite::Clear, channel),
            LogId::Mailbox(_) => {
                let mut id = [0; 16];
                for (to, from) in id.iter_mut().zip(server.as_bytes()) {
                    *to = *from;
                }
                (Suite::One, ChannelId::new(id))
            }
        };
        let header = Header {
            suite,
            channel,
            epoch: 0,
            sender: self.path.clone(),
            sender_key: self.machine.machine_key(),
            sid,
            ctr,
            msg_id,
            ts: Now::default().wall,
            route,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        };
        Envelope::clear(&header, vec![0xA0].into(), &self.machine)
    }
}
