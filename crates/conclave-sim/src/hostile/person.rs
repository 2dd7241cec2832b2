//! Somebody on the hostile server whose keys the test holds: a peer that says what the test wants.

use conclave_e2ee::{EncryptionSecret, whisper};
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{Author, Ctl, CtlBody};
use conclave_proto::encryption_key::Announcement;
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::id::{Blob, ChannelId, MsgId, RecipientKeyId, SenderSid, ServerId, UserId};
use conclave_proto::identity_log::{Cap, IdentityLog, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, Secret};
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;

/// When people and machines came to be: always the same, and never too long ago for their first keys.
const BORN: UnixMs = UnixMs(4_000_000_000_000);

/// A user with one machine, all of whose keys are known.
#[derive(Clone, Debug)]
pub struct Person {
    /// On which server.
    pub server: ServerId,
    /// The owner key.
    pub owner: Secret,
    /// The machine's key.
    pub machine: Secret,
    /// What opens things sealed to the machine.
    pub encryption: EncryptionSecret,
    /// The identity log.
    pub log: IdentityLog,
    /// Its first record.
    pub genesis: Blob,
    /// The address of the session.
    pub path: SessionPath,
    /// The process.
    pub sid: [u8; 8],
}

impl Person {
    /// Makes a person. All keys follow from `seed`, which leaves room for two more.
    ///
    /// # Panics
    /// If `username` is no name.
    #[must_use]
    pub fn new(server: ServerId, username: &str, seed: u8) -> Self {
        let owner = Secret::from_seed(&[seed; 32]);
        let machine = Secret::from_seed(&[seed + 1; 32]);
        let encryption = EncryptionSecret::from_seed(&[seed + 2; 32]);
        let owners = vec![owner.owner_key()];
        let (user, laptop) = (name(username), name("box"));
        let ek = encryption.public();
        let claim = MachineClaim::found(&server, &user, &owners, laptop, ek, &machine);
        let rec = build::genesis(server, user, owners, claim, &owner, BORN);
        let genesis = rec.bytes().clone();
        let log = IdentityLog::genesis(&genesis, &server).expect("it is what was just made");
        let path = format!("{username}/box/api").parse().expect("a path");
        Self {
            server,
            owner,
            machine,
            encryption,
            log,
            genesis,
            path,
            sid: [1; 8],
        }
    }

    /// Returns the user's id.
    #[must_use]
    pub const fn user(&self) -> UserId {
        *self.log.user_id()
    }

    /// Returns the same person, whose records another machine key signs.
    #[must_use]
    pub fn signing_with(&self, machine: &Secret) -> Self {
        let machine = machine.clone();
        Self {
            machine,
            ..self.clone()
        }
    }

    /// Makes a record that adds a machine, signed with this owner key whether or not it counts.
    #[must_use]
    pub fn adds_machine(
        &self,
        log: &IdentityLog,
        machine: &Secret,
        called: &str,
        ek: EncryptionKey,
    ) -> Record {
        let claim = MachineClaim::enrol(log.user_id(), name(called), ek, machine);
        build::add_machine(log, claim, Cap::default_set(), &self.owner, BORN)
    }

    /// Announces a key of the machine.
    #[must_use]
    pub fn announces(&self, generation: u32, key: EncryptionKey, not_after: UnixMs) -> Record {
        Announcement::sign_machine(self.server, &self.machine, generation, key, not_after)
    }

    /// Makes a control record after `after`.
    #[must_use]
    pub fn ctl(&self, channel: ChannelId, after: Option<Head>, body: CtlBody) -> Record {
        let author = self.author();
        let ts = UnixMs(1);
        Ctl {
            channel,
            after,
            body,
            author,
            ts,
        }
        .sign_machine(&self.machine)
    }

    /// Returns who signs.
    #[must_use]
    pub fn author(&self) -> Author {
        Author {
            user: self.user(),
            path: self.path.clone(),
            ident: self.log.head(),
        }
    }

    /// Makes the header of the `ctr`-th thing this person says in a log, in suite 0.
    #[must_use]
    pub fn header(&self, channel: ChannelId, route: Route, ctr: u64) -> Header {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&ctr.to_be_bytes());
        id[8] = self.machine.machine_key().as_bytes()[0];
        id[9] = channel.as_bytes()[0];
        Header {
            suite: Suite::Clear,
            channel,
            epoch: 0,
            sender: self.path.clone(),
            sender_key: self.machine.machine_key(),
            sid: SenderSid::new(self.sid),
            ctr,
            msg_id: MsgId::new(id),
            ts: super::now(),
            route,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        }
    }

    /// Says something in the clear, with a header that the test may change.
    ///
    /// # Panics
    /// If the text is too long.
    #[must_use]
    pub fn clear(
        &self,
        channel: ChannelId,
        route: Route,
        ctr: u64,
        text: &str,
        change: impl FnOnce(&mut Header),
    ) -> Envelope {
        let mut header = self.header(channel, route, ctr);
        change(&mut header);
        let body = Body::text(text).to_bytes().expect("a short text");
        Envelope::clear(&header, body, &self.machine)
    }

    /// Whispers something, sealed to a key.
    ///
    /// # Panics
    /// If the text is too long or the key no point of the curve.
    #[must_use]
    pub fn whispers(
        &self,
        to: SessionPath,
        key: &EncryptionKey,
        ctr: u64,
        text: &str,
        change: impl FnOnce(&mut Header),
    ) -> Envelope {
        let mut header = self.header(whispers(&self.server), Route::Whisper(to), ctr);
        header.suite = Suite::One;
        header.recipient_key = conclave_e2ee::encryption_secret::key_id(key);
        change(&mut header);
        let body = Body::text(text).to_bytes().expect("a short text");
        let sealed = whisper::seal(&header, &body, key, super::draw(), &self.machine);
        sealed.expect("a whisper to a good key")
    }
}

/// Returns what stands in place of a channel in whispers.
#[must_use]
pub fn whispers(server: &ServerId) -> ChannelId {
    let mut id = [0; 16];
    id.copy_from_slice(&server.as_bytes()[..16]);
    ChannelId::new(id)
}

/// Returns a name.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}
