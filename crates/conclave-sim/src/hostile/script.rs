//! What the hostile server knows and says: what it was given, and the lies it was told to tell.

use super::Room;
use conclave_e2ee::wrap;
use conclave_proto::channel_log::ChannelLog;
use conclave_proto::codec::Encoding;
use conclave_proto::encryption_key::Announcement;
use conclave_proto::entry::{Entry, EntryBody, Envelope};
use conclave_proto::frame::event::{Entries, Event};
use conclave_proto::frame::op::{Op, Wrap};
use conclave_proto::frame::{
    Challenge, ClientFrame, Hello, Limits, Outcome, Ready, Response, ServerFrame,
};
use conclave_proto::handshake::{Mode, Transcript};
use conclave_proto::id::{
    Blob, ChannelId, HandshakeNonce, InviteId, LogId, MailboxId, ServerId, SessionId, UserId,
};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::key::{EncryptionKey, HolderKey, Secret, Signature};
use conclave_proto::limit::FRAME_BYTES_MAX;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::time::UnixMs;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use tokio::sync::{mpsc, watch};

/// Who asked, and what.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The user of the session.
    pub user: UserId,
    /// The operation.
    pub op: &'a Op,
}

/// Answers instead of the honest part; `None` leaves it to that, an unknown outcome is none at all.
pub type Lie = Box<dyn FnMut(Asked<'_>) -> Option<Outcome> + Send>;

/// What the server knows and says.
pub struct Script {
    /// Its key.
    pub key: Secret,
    /// Its id.
    pub id: ServerId,
    /// Identity logs, record by record.
    pub idents: HashMap<UserId, Vec<Blob>>,
    /// Who has which name.
    pub names: HashMap<Name, UserId>,
    /// Channels and mailboxes.
    pub logs: HashMap<LogId, Vec<Entry>>,
    /// Channel keys, sealed to holders.
    pub wraps: BTreeMap<(ChannelId, u32, HolderKey), Wrap>,
    /// Announcements of encryption keys, oldest first.
    pub announced: HashMap<HolderKey, Vec<Blob>>,
    /// The boxes beside invites.
    pub boxes: HashMap<InviteId, Blob>,
    /// What sessions say of themselves.
    pub profiles: BTreeMap<(ChannelId, SessionPath), Envelope>,
    /// Answers first.
    pub lie: Lie,
    /// Everything that was asked, in order, with who asked it.
    pub asked: Vec<(UserId, Op)>,
    /// Changes what a session is told it is.
    pub ready: fn(&mut Ready),
    pub(super) guests: BTreeMap<u64, Guest>,
    origin: String,
    held: Vec<(u64, u64, Op)>,
    heard: Vec<u8>,
    followed: watch::Sender<u32>,
    tick: watch::Sender<u64>,
}

/// One connection.
pub(super) struct Guest {
    say: mpsc::Sender<ServerFrame>,
    hello: Option<(Hello, Challenge)>,
    pub(super) user: Option<(UserId, SessionPath)>,
    pub(super) follows: Vec<LogId>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script({} logs)", self.logs.len())
    }
}

impl Script {
    pub(super) fn new(
        origin: String,
        followed: watch::Sender<u32>,
        tick: watch::Sender<u64>,
    ) -> Self {
        let key = Secret::from_seed(&[99; 32]);
        Self {
            id: key.server_key().server_id(),
            key,
            idents: HashMap::new(),
            names: HashMap::new(),
            logs: HashMap::new(),
            wraps: BTreeMap::new(),
            announced: HashMap::new(),
            boxes: HashMap::new(),
            profiles: BTreeMap::new(),
            lie: Box::new(|_| None),
            asked: Vec::new(),
            ready: |_| {},
            guests: BTreeMap::new(),
            origin,
            held: Vec::new(),
            heard: Vec::new(),
            followed,
            tick,
        }
    }

    /// Lies from now on.
    pub fn lie(&mut self, lie: impl FnMut(Asked<'_>) -> Option<Outcome> + Send + 'static) {
        self.lie = Box::new(lie);
    }

    /// Says the truth from now on.
    pub fn be_honest(&mut self) {
        self.lie(|_| None);
    }

    /// Returns the entries of a channel.
    pub fn channel(&mut self, channel: ChannelId) -> &mut Vec<Entry> {
        self.logs.entry(LogId::Channel(channel)).or_default()
    }

    /// Keeps a new identity.
    ///
    /// # Panics
    /// If it is none of this server's.
    pub fn learn(&mut self, genesis: Blob) -> IdentityLog {
        let log = IdentityLog::genesis(&genesis, &self.id).expect("a genesis for this server");
        self.names.insert(log.username().clone(), *log.user_id());
        self.idents.insert(*log.user_id(), vec![genesis]);
        log
    }

    /// Returns an identity, without records that do not fit.
    #[must_use]
    pub fn identity(&self, user: &UserId) -> Option<IdentityLog> {
        let (first, rest) = self.idents.get(user)?.split_first()?;
        let mut log = IdentityLog::genesis(first, &self.id).ok()?;
        for rec in rest {
            log.append(rec).ok();
        }
        Some(log)
    }

    /// Returns all identities.
    #[must_use]
    pub fn identities(&self) -> BTreeMap<UserId, IdentityLog> {
        let all = self.idents.keys();
        all.filter_map(|user| Some((*user, self.identity(user)?)))
            .collect()
    }

    /// Returns a channel as its kept control records make it, without those that do not fit.
    #[must_use]
    pub fn state(&self, channel: &ChannelId) -> Option<ChannelLog> {
        self.chain(channel).0
    }

    /// Returns a channel and those of its control records that fit: what an honest server would have.
    pub(super) fn chain(&self, channel: &ChannelId) -> (Option<ChannelLog>, Vec<Entry>) {
        let (ids, mut state) = (self.identities(), None::<ChannelLog>);
        let mut chain = Vec::new();
        for entry in self.entries(&LogId::Channel(*channel)) {
            let EntryBody::Ctl(rec) = &entry.body else {
                continue;
            };
            let Entry { seq, at, .. } = *entry;
            let fits = match &mut state {
                Some(log) => log.apply(seq, at, rec, &ids).is_ok(),
                None => {
                    state = ChannelLog::create(seq, at, rec, &ids).ok();
                    state.is_some()
                }
            };
            if fits {
                chain.push(entry.clone());
            }
        }
        (state, chain)
    }

    /// Returns the newest encryption key of a holder, with its generation.
    #[must_use]
    pub fn encryption_key(&self, holder: &HolderKey) -> Option<(u32, EncryptionKey)> {
        let newest = self.announced.get(holder).and_then(|recs| recs.last());
        if let Some(Ok(said)) = newest.map(Announcement::read) {
            return Some((said.generation, said.key));
        }
        let ids = self.identities();
        let mut machines = ids.values().flat_map(|log| log.machines());
        machines
            .find(|machine| HolderKey::from(machine.key) == *holder)
            .map(|machine| (0, machine.encryption_key))
    }

    /// Keeps a room as it is, with every key of it sealed to everybody who may have it: what honest
    /// members would have brought here. Tells nobody.
    pub fn keep(&mut self, room: &Room) {
        self.logs
            .insert(LogId::Channel(room.id), room.entries.clone());
        let holders = room.log.holders(&room.people);
        for key in &room.keys {
            for holder in holders.keys() {
                let Some((generation, to)) = self.encryption_key(holder) else {
                    continue;
                };
                let ephemeral = super::draw();
                if let Ok(sealed) = wrap::seal(key, *holder, generation, &to, ephemeral) {
                    let place = (room.id, key.place().e, *holder);
                    self.wraps.entry(place).or_insert(sealed);
                }
            }
        }
    }

    /// Keeps what is new of a room and tells who follows it.
    pub fn update(&mut self, room: &Room) {
        let log = LogId::Channel(room.id);
        let before = self.entries(&log).len();
        self.keep(room);
        let new = room.entries.get(before..).unwrap_or_default().to_vec();
        self.deliver(log, new);
    }

    /// Tells who follows a log of entries.
    pub(super) fn deliver(&mut self, log: LogId, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let gap = None;
        let frame = ServerFrame::Event(Event::Entries(Entries { log, entries, gap }));
        self.say_if(&frame, |guest| guest.follows.contains(&log));
    }

    /// Pushes a log after a place, one entry a frame, to everybody.
    pub fn push_log(&mut self, log: LogId, after: u64) {
        for frame in self.rest(log, after) {
            self.say_all(&frame);
        }
    }

    fn rest(&self, log: LogId, after: u64) -> Vec<ServerFrame> {
        let rest = self.entries(&log).iter().filter(|e| e.seq > after);
        rest.map(|entry| {
            let (entries, gap) = (vec![entry.clone()], None);
            ServerFrame::Event(Event::Entries(Entries { log, entries, gap }))
        })
        .collect()
    }

    pub(super) fn entries(&self, log: &LogId) -> &[Entry] {
        self.logs.get(log).map_or(&[], Vec::as_slice)
    }

    /// Returns whether these bytes were in anything that any client sent.
    #[must_use]
    pub fn heard(&self, bytes: &[u8]) -> bool {
        self.heard.windows(bytes.len()).any(|part| part == bytes)
    }

    /// Returns the words of the newest questions, to see in a failed test what a client waits for.
    #[must_use]
    pub fn last_asked(&self) -> String {
        let first = self.asked.len().saturating_sub(40);
        let words = self.asked.iter().skip(first).map(|(_, op)| op.word());
        words.collect::<Vec<_>>().join(" ")
    }

    /// Returns how many bytes were received.
    #[must_use]
    pub const fn bytes_heard(&self) -> usize {
        self.heard.len()
    }

    /// Cuts every connection.
    pub fn hang_up(&mut self) {
        self.guests.clear();
    }

    /// Answers what was held back.
    pub fn release(&mut self) {
        for (guest, id, op) in std::mem::take(&mut self.held) {
            let result = self.answer(guest, &op);
            self.say(guest, ServerFrame::Response(Response { id, result }));
        }
    }

    /// Sends every session a frame.
    pub fn say_all(&mut self, frame: &ServerFrame) {
        self.say_if(frame, |_| true);
    }

    /// Sends the sessions of a user a frame.
    pub fn say_to(&mut self, user: &UserId, frame: &ServerFrame) {
        self.say_if(frame, |guest| {
            guest.user.as_ref().is_some_and(|(id, _)| id == user)
        });
    }

    pub(super) fn say_if(&mut self, frame: &ServerFrame, to: impl Fn(&Guest) -> bool) {
        let fits = |guest: &Guest| guest.user.is_some() && to(guest);
        let all = self.guests.iter().filter(|(_, guest)| fits(guest));
        let chosen: Vec<u64> = all.map(|(id, _)| *id).collect();
        for guest in chosen {
            self.say(guest, frame.clone());
        }
    }

    fn say(&mut self, guest: u64, frame: ServerFrame) {
        if let Some(known) = self.guests.get(&guest)
            && known.say.try_send(frame).is_err()
        {
            self.guests.remove(&guest);
        }
    }

    pub(super) fn enter(&mut self, guest: u64, say: mpsc::Sender<ServerFrame>) {
        let (hello, user, follows) = (None, None, Vec::new());
        let new = Guest {
            say,
            hello,
            user,
            follows,
        };
        self.guests.insert(guest, new);
    }

    pub(super) fn hear(&mut self, guest: u64, said: Option<Vec<u8>>) {
        let Some(bytes) = said else {
            self.guests.remove(&guest);
            return;
        };
        self.heard.extend_from_slice(&bytes);
        match Encoding::Cbor.decode(&bytes, FRAME_BYTES_MAX) {
            Ok(frame) => self.take(guest, frame),
            Err(_) => drop(self.guests.remove(&guest)),
        }
        self.tick.send_modify(|n| *n += 1);
    }

    fn take(&mut self, guest: u64, frame: ClientFrame) {
        let Some(known) = self.guests.get_mut(&guest) else {
            return;
        };
        match (frame, known.hello.take(), known.user.clone()) {
            (ClientFrame::Hello(said), _, _) => {
                let challenge = self.challenge(&said);
                self.say(guest, ServerFrame::Challenge(challenge.clone()));
                if let Some(known) = self.guests.get_mut(&guest) {
                    known.hello = Some((said, challenge));
                }
            }
            (ClientFrame::Auth(auth), Some((said, challenge)), _) => {
                let transcript = Transcript::new(&said, &challenge, &[]);
                let wish = transcript.verify_client(&said.key, &auth);
                match wish.expect("clients prove who they are") {
                    Mode::Register { genesis } | Mode::Redeem { genesis, .. } => {
                        self.learn(genesis);
                    }
                    Mode::Auth | Mode::Enrol { .. } | Mode::Recover { .. } => {}
                }
                let ready = self.welcome(&said, guest);
                if let Some(known) = self.guests.get_mut(&guest) {
                    known.user = Some((ready.user_id, ready.path.clone()));
                }
                self.say(guest, ServerFrame::Ready(Box::new(ready)));
            }
            (ClientFrame::Request(request), _, Some((user, _))) => {
                let (id, op) = (request.id, request.op);
                self.asked.push((user, op.clone()));
                let result = match (self.lie)(Asked { user, op: &op }) {
                    Some(Outcome::Unknown(_)) => return self.held.push((guest, id, op)),
                    Some(lie) => lie,
                    None => self.answer(guest, &op),
                };
                self.say(guest, ServerFrame::Response(Response { id, result }));
                if let Op::Subscribe(op) = op {
                    self.followed.send_modify(|n| *n += 1);
                    for frame in self.rest(op.log, op.after) {
                        self.say(guest, frame);
                    }
                }
            }
            _ => {}
        }
    }

    fn challenge(&self, hello: &Hello) -> Challenge {
        let mut challenge = Challenge {
            version: 2,
            key: self.key.server_key(),
            server_id: self.id,
            rotations: Vec::new(),
            origin: self.origin.clone(),
            nonce: HandshakeNonce::new([3; 32]),
            binding: "none".to_owned(),
            sig: Signature::new([0; 64]),
        };
        challenge.sig = Transcript::new(hello, &challenge, &[]).sign_server(&self.key);
        challenge
    }

    fn welcome(&self, hello: &Hello, guest: u64) -> Ready {
        let ids = self.identities();
        let mut found = ids
            .values()
            .filter_map(|log| Some((log, log.machine(&hello.key)?)));
        let (log, machine) = found.next().expect("a machine that registered here");
        let path = SessionPath {
            user: log.username().clone(),
            machine: machine.name.clone(),
            handle: hello.handle.clone(),
        };
        let mut session = [1; 16];
        session[..8].copy_from_slice(&guest.to_be_bytes());
        let mut ready = Ready {
            user_id: *log.user_id(),
            session: SessionId::new(session),
            mailbox: Some(LogId::Mailbox(MailboxId::of(log.user_id(), &path))),
            path,
            admin: false,
            ident: log.head(),
            at: UnixMs(1),
            limits: Limits {
                frame_bytes: u64::MAX,
                requests_in_flight: u32::MAX,
                heartbeat_ms: 0,
                message_retention_ms: 0,
                whisper_retention_ms: u64::MAX,
            },
            checkpoint: None,
        };
        (self.ready)(&mut ready);
        ready
    }
}
