//! How a draft is protected: in the clear, under a channel's key, or to one machine.

use super::Core;
use super::lane::Parcel;
use crate::client::random;
use conclave_e2ee::encryption_secret::key_id;
use conclave_e2ee::{ChannelKey, whisper};
use conclave_proto::body::{BadBody, Body};
use conclave_proto::channel_log::{ChannelLog, Identities as _, Mode};
use conclave_proto::entry::{Envelope, Header, Suite};
use conclave_proto::frame::Ready;
use conclave_proto::id::{Blob, ChannelId, LogId, RecipientKeyId};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::key::EncryptionKey;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::{Code, Reject};
use conclave_proto::time::UnixMs;

/// What came of sealing.
pub(super) enum Sealing {
    Ready(Box<Envelope>),
    /// Something must be found out first.
    Prepare,
    /// It cannot be sent at all.
    Never(Reject),
}

/// How a draft is protected.
struct Scope {
    channel: ChannelId,
    seal: Seal,
}

enum Seal {
    Clear,
    Channel(Box<ChannelKey>),
    Machine(EncryptionKey),
}

impl Scope {
    const fn suite(&self) -> Suite {
        match self.seal {
            Seal::Clear => Suite::Clear,
            Seal::Channel(_) | Seal::Machine(_) => Suite::One,
        }
    }

    fn epoch(&self) -> u32 {
        match &self.seal {
            Seal::Channel(key) => key.place().e,
            Seal::Clear | Seal::Machine(_) => 0,
        }
    }

    fn recipient(&self) -> RecipientKeyId {
        match &self.seal {
            Seal::Machine(key) => key_id(key),
            Seal::Clear | Seal::Channel(_) => RecipientKeyId::new([0; 8]),
        }
    }
}

impl Core {
    /// Seals the draft in front, if everything that takes is known.
    pub(super) fn outbox_seal(&mut self, ready: &Ready, log: LogId, ctr: u64) -> Sealing {
        let now = self.driver.now().wall;
        let Some(Parcel { draft, .. }) = self.outbox.front(log) else {
            return Sealing::Prepare;
        };
        let draft = draft.clone();
        let scope = match self.scope(log, draft.route.recipient(), now) {
            Ok(Some(scope)) => scope,
            Ok(None) => return Sealing::Prepare,
            Err(reject) => return Sealing::Never(reject),
        };
        let header = Header {
            suite: scope.suite(),
            channel: scope.channel,
            epoch: scope.epoch(),
            sender: ready.path.clone(),
            sender_key: self.secret.machine_key(),
            sid: self.sid,
            ctr,
            msg_id: draft.id,
            ts: now,
            route: draft.route.clone(),
            recipient_key: scope.recipient(),
            hop: draft.hop,
            flags: draft.flags,
        };
        let refused = |text: String| Sealing::Never(Reject::new(Code::TooLarge, text));
        let body = match self.with_heads(log, &draft.body) {
            Ok(body) => body,
            Err(error) => return refused(error.to_string()),
        };
        let sealed = match scope.seal {
            Seal::Clear => Ok(Envelope::clear(&header, body, &self.secret)),
            Seal::Channel(key) => match random() {
                Ok(nonce) => key.seal(&header, &body, nonce, &self.secret),
                Err(error) => return Sealing::Never(error.to_reject()),
            },
            Seal::Machine(to) => match random() {
                Ok(drawn) => whisper::seal(&header, &body, &to, drawn, &self.secret),
                Err(error) => return Sealing::Never(error.to_reject()),
            },
        };
        match sealed {
            Ok(env) => Sealing::Ready(Box::new(env)),
            Err(error) => refused(error.to_string()),
        }
    }

    /// Returns how a draft must be protected; `None` if that is not known well enough yet.
    fn scope(
        &self,
        log: LogId,
        to: Option<&SessionPath>,
        now: UnixMs,
    ) -> Result<Option<Scope>, Reject> {
        let channel = match log {
            LogId::Channel(channel) => channel,
            LogId::Mailbox(_) => {
                let server = self.book.server();
                let channel = server.as_bytes().get(..ChannelId::LEN);
                let channel = channel.and_then(ChannelId::from_slice);
                let (Some(channel), Some(to)) = (channel, to) else {
                    return Err(Reject::new(Code::Malformed, "the draft has no recipient"));
                };
                let key = self.book.whisper_key(to, now)?;
                return Ok(key.map(|key| Scope {
                    channel,
                    seal: Seal::Machine(key),
                }));
            }
        };
        let Some(tip) = self.book.tip(&channel) else {
            return Ok(None);
        };
        let prepared = self.outbox.prepared(&log);
        let fresh = |key: &ChannelKey| match prepared == Some(key.place().e) {
            true => !self.book.must_rotate(&channel),
            false => !self.needs_rotation(&channel),
        };
        let seal = match (tip.mode(), self.book.current_key(&channel)) {
            (Mode::Signed, _) => Some(Seal::Clear),
            (Mode::E2e, Some(key)) if fresh(key) => Some(Seal::Channel(Box::new(key.clone()))),
            (Mode::E2e, _) => None,
        };
        Ok(seal.map(|seal| Scope { channel, seal }))
    }

    /// Adds to a body what this machine has seen (SECURITY 2.5).
    fn with_heads(&self, log: LogId, body: &Blob) -> Result<Blob, BadBody> {
        let mut body = Body::parse(body)?;
        if let LogId::Channel(channel) = log {
            // What a follower has reached, so that a receiver has it, too.
            body.ctl_head = self.book.tip(&channel).map(ChannelLog::head);
            body.last_seen = self.newest.get(&log).copied();
        }
        body.ident_head = self.book.identity(&self.me).map(IdentityLog::head);
        body.to_bytes()
    }
}
