//! A channel as honest members make it: verified records, keys, sealed messages. What a test lies
//! about is taken from here and changed.

use super::{Person, ctl, draw, env, person};
use conclave_e2ee::{Bundle, ChannelKey, IndexKey, Place};
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{
    ChannelLog, Ctl, CtlBody, History, Mode, RemoveKind, Role, Visibility,
};
use conclave_proto::entry::{Entry, EntryBody, Envelope, Header, Route, Suite};
use conclave_proto::id::{ChannelId, LogId, UserId};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::invite::LinkSecret;
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;
use std::collections::BTreeMap;

/// What a room is to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Who can read.
    pub mode: Mode,
    /// What new members can read.
    pub history: History,
    /// Its name.
    pub name: &'a str,
    /// What it is about.
    pub topic: Option<&'a str>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its id.
    pub id: ChannelId,
    /// Its control records, verified.
    pub log: ChannelLog,
    /// Everybody's identity.
    pub people: BTreeMap<UserId, IdentityLog>,
    /// Everything said in it.
    pub entries: Vec<Entry>,
    /// Its keys; the first is epoch 1's.
    pub keys: Vec<ChannelKey>,
    /// What every epoch seals for the members.
    pub bundle: Bundle,
}

impl Room {
    /// Makes a private room; in mode `e2e` with its first epoch.
    ///
    /// # Panics
    /// If `by` may not, or `id` and `by` do not fit.
    #[must_use]
    pub fn new(id: u8, by: &Person, settings: Settings<'_>) -> Self {
        let id = ChannelId::new([id; 16]);
        let e2e = settings.mode == Mode::E2e;
        let bundle = Bundle {
            index_key: IndexKey::new(draw()),
            name: Some(person::name(settings.name)),
            topic: settings.topic.map(str::to_owned),
        };
        let body = CtlBody::Create {
            mode: settings.mode,
            visibility: Visibility::Private,
            history: settings.history,
            name: bundle.name.clone().filter(|_| !e2e),
            topic: bundle.topic.clone().filter(|_| !e2e),
            limits: None,
        };
        let people = BTreeMap::from([(by.user(), by.log.clone())]);
        let first = ctl(1, &by.ctl(id, None, body));
        let EntryBody::Ctl(rec) = &first.body else {
            unreachable!("it is a control record")
        };
        let log = ChannelLog::create(1, first.at, rec, &people).expect("a valid first record");
        let mut room = Self {
            id,
            log,
            people,
            entries: vec![first],
            keys: Vec::new(),
            bundle,
        };
        if e2e {
            room.rotate(by);
        }
        room
    }

    /// Returns its log.
    #[must_use]
    pub const fn log_id(&self) -> LogId {
        LogId::Channel(self.id)
    }

    /// Returns the next place.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.seq) + 1
    }

    /// Makes a control record that would be the next one.
    #[must_use]
    pub fn record(&self, by: &Person, body: CtlBody) -> Record {
        by.ctl(self.id, Some(self.log.head()), body)
    }

    /// Appends a control record.
    ///
    /// # Panics
    /// If it is not allowed.
    pub fn ctl(&mut self, by: &Person, body: CtlBody) -> Entry {
        let rec = self.record(by, body);
        self.take(&rec)
    }

    /// Appends a record that was made before.
    ///
    /// # Panics
    /// If it is not allowed.
    pub fn take(&mut self, rec: &Record) -> Entry {
        let entry = ctl(self.next_seq(), rec);
        let applied = self
            .log
            .apply(entry.seq, entry.at, rec.bytes(), &self.people);
        applied.expect("a record that honest clients take");
        self.entries.push(entry.clone());
        entry
    }

    /// Adds a member.
    pub fn add(&mut self, by: &Person, user: &IdentityLog, role: Role) -> Entry {
        self.people.insert(*user.user_id(), user.clone());
        let (user, ident) = (*user.user_id(), user.head());
        self.ctl(by, CtlBody::Add { user, ident, role })
    }

    /// Removes a member, without a new epoch.
    pub fn remove(&mut self, by: &Person, user: UserId, kind: RemoveKind) -> Entry {
        self.ctl(by, CtlBody::Remove { user, kind })
    }

    /// Makes an invite and returns its secret.
    pub fn invite(&mut self, by: &Person, max_uses: u32) -> LinkSecret {
        let secret = LinkSecret::new(draw());
        let key = secret.signing_key().invite_key();
        let expires = UnixMs(u64::MAX);
        let role = Role::Member;
        self.ctl(
            by,
            CtlBody::Invite {
                key,
                role,
                max_uses,
                expires,
            },
        );
        secret
    }

    /// Makes the record by which somebody joins with an invite.
    #[must_use]
    pub fn join(&self, who: &Person, secret: &LinkSecret) -> Record {
        let (author, head) = (who.author(), self.log.head());
        let ticket = Some(Ctl::ticket(&self.id, &head, &author, &secret.signing_key()));
        self.record(who, CtlBody::Join { ticket })
    }

    /// Draws the key of the next epoch.
    #[must_use]
    pub fn next_key(&self) -> ChannelKey {
        let e = self.log.epoch().map_or(0, |epoch| epoch.e) + 1;
        let channel = self.id;
        ChannelKey::new(Place { channel, e }, &draw())
    }

    /// Returns the newest key.
    ///
    /// # Panics
    /// In a room without keys.
    #[must_use]
    pub fn key(&self) -> &ChannelKey {
        self.keys.last().expect("a room in mode e2e")
    }

    /// Makes the body of the epoch record for a key.
    #[must_use]
    pub fn epoch(&self, key: &ChannelKey) -> CtlBody {
        let full = self.log.history() == History::Full;
        let before = self.keys.last().filter(|_| full);
        CtlBody::Epoch {
            e: key.place().e,
            covers_c: self.log.head().n,
            members_root: self
                .log
                .members_root(&self.people)
                .expect("everybody is known"),
            commit: key.commit(),
            prev_box: before.map(|before| key.seal_previous(before, nonce())),
            bundle_box: key.seal_bundle(&self.bundle, nonce()),
        }
    }

    /// Starts the next epoch.
    pub fn rotate(&mut self, by: &Person) -> Entry {
        let key = self.next_key();
        let entry = self.ctl(by, self.epoch(&key));
        self.keys.push(key);
        entry
    }

    /// Makes the body of a message with what its sender knows.
    #[must_use]
    pub fn body(&self, by: &Person, text: &str) -> Body {
        let said = self
            .entries
            .iter()
            .rev()
            .find_map(|entry| match &entry.body {
                EntryBody::Env(env) => Some((entry.seq, env.hash())),
                EntryBody::Ctl(_) | EntryBody::Unknown(_) => None,
            });
        Body {
            ctl_head: Some(self.log.head()),
            ident_head: Some(by.log.head()),
            last_seen: said.map(|(n, hash)| Head { n, hash }),
            ..Body::text(text)
        }
    }

    /// Seals a body under a key of the room, with a header that the test may change.
    ///
    /// # Panics
    /// If header, body and key do not fit.
    #[must_use]
    pub fn seal(
        &self,
        by: &Person,
        key: &ChannelKey,
        ctr: u64,
        body: &Body,
        change: impl FnOnce(&mut Header),
    ) -> Envelope {
        let mut header = by.header(self.id, Route::Everyone, ctr);
        header.suite = Suite::One;
        header.epoch = key.place().e;
        change(&mut header);
        let body = body.to_bytes().expect("a short text");
        let sealed = key.seal(&header, &body, nonce(), &by.machine);
        sealed.expect("a header for this key")
    }

    /// Says something as the room is now, sealed or clear, without keeping it.
    #[must_use]
    pub fn envelope(&self, by: &Person, ctr: u64, text: &str) -> Envelope {
        let body = self.body(by, text);
        match self.keys.last() {
            Some(key) => self.seal(by, key, ctr, &body, |_| {}),
            None => {
                let header = by.header(self.id, Route::Everyone, ctr);
                let bytes = body.to_bytes().expect("a short text");
                Envelope::clear(&header, bytes, &by.machine)
            }
        }
    }

    /// Says something.
    pub fn says(&mut self, by: &Person, ctr: u64, text: &str) -> Entry {
        let said = self.envelope(by, ctr, text);
        self.keep(said)
    }

    /// Puts an envelope into the next place.
    pub fn keep(&mut self, envelope: Envelope) -> Entry {
        let entry = env(self.next_seq(), envelope);
        self.entries.push(entry.clone());
        entry
    }
}

/// Returns a nonce that was never used.
#[must_use]
pub fn nonce() -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&draw()[..24]);
    nonce
}
