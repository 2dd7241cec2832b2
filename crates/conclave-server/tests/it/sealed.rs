//! A channel in mode `e2e` as the server sees it: records it can check, and bytes it cannot open.

use crate::world::{Peer, Person, World};
use conclave_proto::body::Head;
use conclave_proto::channel_log::{
    ChannelLog, Ctl, CtlBody, History, Mode, RemoveKind, Role, Visibility,
};
use conclave_proto::entry::{Envelope, Header, Route, Suite};
use conclave_proto::frame::op::{
    Append, CtlAppend, Op, Subscribe, Wrap, WrapFetch, WrapMissing, WrapPut,
};
use conclave_proto::frame::reply::{Appended, EpochWrap, Missing, Reply};
use conclave_proto::frame::{Event, event::EpochOf};
use conclave_proto::id::{
    Blob, ChannelId, EnvelopeNonce, Hash, LogId, MsgId, RecipientKeyId, SealedKey, SenderSid,
    UserId,
};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::key::HolderKey;
use conclave_proto::reject::Reject;
use conclave_proto::time::UnixMs;
use std::collections::BTreeMap;

pub(crate) const ROOM: ChannelId = ChannelId::new([5; 16]);
pub(crate) const LOG: LogId = LogId::Channel(ROOM);

/// A private sealed channel of Ana's, and what its members know of it.
pub(crate) struct Room {
    pub(crate) world: World,
    pub(crate) ids: BTreeMap<UserId, IdentityLog>,
    pub(crate) log: Option<ChannelLog>,
    pub(crate) ana: (Person, Peer),
    pub(crate) bob: (Person, Peer),
}

/// Ana's room with Bob in it, before its first epoch.
pub(crate) fn room(world: World, history: History) -> Room {
    let mut world = world;
    let (ana, bob) = (Person::new("ana", 10), Person::new("bob", 20));
    let (at, bt) = (world.register(&ana, "work"), world.register(&bob, "work"));
    let ids = [&ana, &bob].map(|person| (person.id(), person.log.clone()));
    let mut room = Room {
        world,
        ids: ids.into(),
        log: None,
        ana: (ana, at),
        bob: (bob, bt),
    };
    let create = CtlBody::Create {
        mode: Mode::E2e,
        visibility: Visibility::Private,
        history,
        name: None,
        topic: None,
        limits: None,
    };
    room.by_ana(create).unwrap();
    let add = room.add_of(&room.bob.0.log.clone());
    room.by_ana(add).unwrap();
    room
}

pub(crate) fn machine(person: &Person) -> HolderKey {
    person.machine.machine_key().into()
}

pub(crate) fn owner(person: &Person) -> HolderKey {
    person.owner.owner_key().into()
}

/// Wraps that say by their bytes who brought them.
pub(crate) fn wraps(by: u8, to: &[HolderKey]) -> Vec<Wrap> {
    let wrap = |to: &HolderKey| Wrap {
        to: *to,
        generation: 0,
        sealed: SealedKey::new([by; 80]),
    };
    to.iter().map(wrap).collect()
}

impl Room {
    pub(crate) fn log(&self) -> &ChannelLog {
        self.log.as_ref().unwrap()
    }

    /// The record as its author signs it now.
    pub(crate) fn op(
        &self,
        (person, peer): (&Person, &Peer),
        body: CtlBody,
        wraps: Vec<Wrap>,
    ) -> Op {
        let mut author = person.author(peer);
        author.ident = self.ids[&person.id()].head();
        let ctl = Ctl {
            channel: ROOM,
            after: self.log.as_ref().map(ChannelLog::head),
            body,
            author,
            ts: UnixMs(1),
        };
        Op::CtlAppend(CtlAppend {
            channel: ROOM,
            rec: ctl.sign_machine(&person.machine).bytes().clone(),
            wraps,
            invite_box: None,
        })
    }

    /// Sends such a request and applies what was stored.
    pub(crate) fn ctl(&mut self, peer: &Peer, op: Op) -> Result<Head, Reject> {
        let Op::CtlAppend(append) = &op else {
            panic!("{op:?}");
        };
        let rec = append.rec.clone();
        let (seq, at) = match self.world.request(peer.conn, op)? {
            Reply::Appended(Appended { seq, at, .. }) => (seq, at),
            other => panic!("{other:?}"),
        };
        match &mut self.log {
            None => self.log = Some(ChannelLog::create(seq, at, &rec, &self.ids).unwrap()),
            Some(log) => drop(log.apply(seq, at, &rec, &self.ids).unwrap()),
        }
        Ok(self.log().head())
    }

    pub(crate) fn by_ana(&mut self, body: CtlBody) -> Result<Head, Reject> {
        self.by_ana_with(body, Vec::new())
    }

    pub(crate) fn by_ana_with(&mut self, body: CtlBody, w: Vec<Wrap>) -> Result<Head, Reject> {
        let op = self.op((&self.ana.0, &self.ana.1), body, w);
        let peer = self.ana.1.clone();
        self.ctl(&peer, op)
    }

    pub(crate) fn add_of(&self, log: &IdentityLog) -> CtlBody {
        CtlBody::Add {
            user: *log.user_id(),
            ident: log.head(),
            role: Role::Member,
        }
    }

    pub(crate) fn add(&mut self, person: &Person) {
        self.ids.insert(person.id(), person.log.clone());
        let add = self.add_of(&person.log);
        self.by_ana(add).unwrap();
    }

    pub(crate) fn remove(&mut self, user: UserId, kind: RemoveKind) {
        self.by_ana(CtlBody::Remove { user, kind }).unwrap();
    }

    /// The next epoch's record, as the membership is now.
    pub(crate) fn epoch(&self) -> CtlBody {
        let e = self.log().epoch().map_or(1, |epoch| epoch.e + 1);
        let full = self.log().history() == History::Full;
        CtlBody::Epoch {
            e,
            covers_c: self.log().head().n,
            members_root: self.log().members_root(&self.ids).unwrap(),
            commit: Hash::new([7; 32]),
            prev_box: (e > 1 && full).then(|| Blob::from(&b"previous"[..])),
            bundle_box: Blob::from(&b"bundle"[..]),
        }
    }

    /// Ana rotates and seals to these holders.
    pub(crate) fn rotate(&mut self, to: &[HolderKey]) -> Result<Head, Reject> {
        let epoch = self.epoch();
        self.by_ana_with(epoch, wraps(1, to))
    }

    pub(crate) fn put(
        &mut self,
        peer: &Peer,
        e: u32,
        by: u8,
        to: &[HolderKey],
    ) -> Result<Reply, Reject> {
        let wraps = wraps(by, to);
        let channel = ROOM;
        let op = Op::WrapPut(WrapPut { channel, e, wraps });
        self.world.request(peer.conn, op)
    }

    pub(crate) fn try_fetch(
        &mut self,
        peer: &Peer,
        holder: HolderKey,
        unusable: &[u32],
    ) -> Result<Vec<EpochWrap>, Reject> {
        let op = Op::WrapFetch(WrapFetch {
            channel: ROOM,
            from: 0,
            holder,
            unusable: unusable.to_vec(),
        });
        match self.world.request(peer.conn, op)? {
            Reply::Wraps(wraps) => Ok(wraps.wraps),
            other => panic!("{other:?}"),
        }
    }

    /// The epochs a holder has wraps of, and who brought each.
    pub(crate) fn fetch(&mut self, peer: &Peer, holder: HolderKey) -> Vec<(u32, u8)> {
        let wraps = self.try_fetch(peer, holder, &[]).unwrap();
        let wraps = wraps.iter().map(|w| (w.e, w.sealed.as_bytes()[0]));
        wraps.collect()
    }

    pub(crate) fn missing(&mut self, peer: &Peer) -> Result<(u32, Vec<HolderKey>), Reject> {
        let op = Op::WrapMissing(WrapMissing { channel: ROOM });
        match self.world.request(peer.conn, op)? {
            Reply::Missing(Missing { e, holders }) => Ok((e, holders)),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn follow(&mut self, peer: &Peer) {
        let after = self.log().seq();
        let op = Op::Subscribe(Subscribe { log: LOG, after });
        self.world.request(peer.conn, op).unwrap();
        self.world.events(peer.conn);
    }

    /// How often a session was asked for wraps since the last look.
    pub(crate) fn wanted(&mut self, peer: &Peer) -> usize {
        let events = self.world.events(peer.conn).into_iter();
        let wanted = events.filter(|e| matches!(e, Event::Wanted(EpochOf { channel: ROOM, .. })));
        wanted.count()
    }

    /// The epochs a session was told it has wraps of since the last look.
    pub(crate) fn keys(&mut self, peer: &Peer) -> Vec<u32> {
        let events = self.world.events(peer.conn).into_iter();
        let keys = events.filter_map(|event| match event {
            Event::Keys(EpochOf { channel: ROOM, e }) => Some(e),
            _ => None,
        });
        keys.collect()
    }

    pub(crate) fn send(&mut self, peer: &Peer, env: Envelope) -> Result<Appended, Reject> {
        let op = Op::Append(Append { log: LOG, env });
        match self.world.request(peer.conn, op)? {
            Reply::Appended(appended) => Ok(appended),
            other => panic!("{other:?}"),
        }
    }
}

/// A sealed entry as the server sees one: nothing of it opens.
pub(crate) fn entry(peer: &Peer, epoch: u32, ctr: u64, ct: &str) -> Envelope {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&ctr.to_be_bytes());
    id[8..].copy_from_slice(&peer.machine.machine_key().as_bytes()[..8]);
    let header = Header {
        suite: Suite::One,
        channel: ROOM,
        epoch,
        sender: peer.ready.path.clone(),
        sender_key: peer.machine.machine_key(),
        sid: SenderSid::new([4; 8]),
        ctr,
        msg_id: MsgId::new(id),
        ts: UnixMs(0),
        route: Route::Everyone,
        recipient_key: RecipientKeyId::new([0; 8]),
        hop: 0,
        flags: 0,
    };
    let nonce = EnvelopeNonce::new([9; 24]);
    Envelope::signed(
        header.to_bytes(),
        nonce,
        ct.as_bytes().into(),
        &peer.machine,
    )
}
