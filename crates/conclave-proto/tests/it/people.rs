//! People, machines and channels made of fixed seeds, for the tests of the signed logs.

use conclave_proto::body::Head;
use conclave_proto::channel_log::{
    Author, ChannelLog, Ctl, CtlBody, CtlChange, CtlError, History, Mode, RemoveKind, Role,
    Visibility,
};
use conclave_proto::id::{Blob, ChannelId, ServerId, UserId};
use conclave_proto::identity_log::{Cap, IdentityLog, MachineClaim, build};
use conclave_proto::key::{EncryptionKey, MachineKey, Secret};
use conclave_proto::name::Name;
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const SERVER: ServerId = ServerId::new([42; 32]);
pub(crate) const CHANNEL: ChannelId = ChannelId::new([3; 16]);
pub(crate) const TS: UnixMs = UnixMs(1_700_000_000_000);

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn secret(seed: u8) -> Secret {
    Secret::from_seed(&[seed; 32])
}

pub(crate) fn ek(seed: u8) -> EncryptionKey {
    EncryptionKey::new([seed; 32])
}

/// A user with an owner key, a first machine `laptop`, and more machines as enrolled.
pub(crate) struct Person {
    pub(crate) owner: Secret,
    pub(crate) laptop: Secret,
    pub(crate) log: IdentityLog,
    pub(crate) records: Vec<Blob>,
}

impl Person {
    /// Makes a user whose owner key has seed `seed`, and whose laptop has seed `seed + 1`.
    pub(crate) fn new(username: &str, seed: u8) -> Self {
        let (owner, laptop) = (secret(seed), secret(seed + 1));
        let rec = genesis(username, &owner, &laptop);
        let log = IdentityLog::genesis(rec.bytes(), &SERVER).unwrap();
        Self {
            owner,
            laptop,
            log,
            records: vec![rec.bytes().clone()],
        }
    }

    pub(crate) fn id(&self) -> UserId {
        *self.log.user_id()
    }

    pub(crate) fn append(&mut self, rec: &Record) {
        self.log.append(rec.bytes()).unwrap();
        self.records.push(rec.bytes().clone());
    }

    pub(crate) fn enrol(&mut self, machine: &str, key: &Secret, caps: BTreeSet<Cap>) {
        let claim = MachineClaim::enrol(&self.id(), name(machine), ek(9), key);
        self.append(&build::add_machine(&self.log, claim, caps, &self.owner, TS));
    }

    pub(crate) fn revoke(&mut self, key: MachineKey) {
        self.append(&build::revoke_machine(
            &self.log,
            key,
            "lost",
            &self.owner,
            TS,
        ));
    }

    pub(crate) fn author(&self, machine: &str) -> Author {
        let path = format!("{}/{machine}/api", self.log.username());
        Author {
            user: self.id(),
            path: path.parse().unwrap(),
            ident: self.log.head(),
        }
    }
}

pub(crate) fn genesis(username: &str, owner: &Secret, laptop: &Secret) -> Record {
    let (user, owners) = (name(username), vec![owner.owner_key()]);
    let claim = MachineClaim::found(
        &SERVER,
        &user,
        &owners,
        name("laptop"),
        ek(laptop.seed()[0]),
        laptop,
    );
    build::genesis(SERVER, user, owners, claim, owner, TS)
}

/// A channel and everybody there is; each `say` signs and applies one record.
pub(crate) struct World {
    pub(crate) people: BTreeMap<&'static str, Person>,
    pub(crate) channel: ChannelLog,
    pub(crate) records: Vec<Blob>,
    pub(crate) at: UnixMs,
}

/// Which key signs.
#[derive(Clone, Copy)]
pub(crate) enum With {
    Laptop,
    Owner,
}

impl World {
    /// Makes alice (the creator), bob, carol, dave and mallory, and alice's channel.
    pub(crate) fn new(visibility: Visibility, mode: Mode) -> Self {
        let names = ["alice", "bob", "carol", "dave", "mallory"];
        let people: BTreeMap<_, _> = (names.iter().zip([10, 20, 30, 40, 50]))
            .map(|(name, seed)| (*name, Person::new(name, seed)))
            .collect();
        let alice = &people["alice"];
        let ctl = Ctl {
            channel: CHANNEL,
            after: None,
            body: create(visibility, mode),
            author: alice.author("laptop"),
            ts: TS,
        };
        let rec = ctl.sign_machine(&alice.laptop);
        let channel = ChannelLog::create(1, TS, rec.bytes(), &logs(&people)).unwrap();
        Self {
            people,
            channel,
            records: vec![rec.bytes().clone()],
            at: TS,
        }
    }

    /// A private signed channel with bob as admin, carol as member and dave as reader.
    pub(crate) fn staffed() -> Self {
        let mut world = Self::new(Visibility::Private, Mode::Signed);
        for (who, role) in [
            ("bob", Role::Admin),
            ("carol", Role::Member),
            ("dave", Role::Reader),
        ] {
            let body = world.add(who, role);
            world.say("alice", With::Laptop, body).unwrap();
        }
        world
    }

    pub(crate) fn id(&self, who: &str) -> UserId {
        self.people[who].id()
    }

    pub(crate) fn add(&self, who: &str, role: Role) -> CtlBody {
        CtlBody::Add {
            user: self.id(who),
            ident: self.people[who].log.head(),
            role,
        }
    }

    pub(crate) fn ctl(&self, who: &str, body: CtlBody) -> Ctl {
        let author = self.people[who].author("laptop");
        Ctl {
            channel: CHANNEL,
            after: Some(self.channel.head()),
            body,
            author,
            ts: TS,
        }
    }

    pub(crate) fn sign(&self, who: &str, with: With, body: CtlBody) -> Record {
        let ctl = self.ctl(who, body);
        match with {
            With::Laptop => ctl.sign_machine(&self.people[who].laptop),
            With::Owner => ctl.sign_owner(&self.people[who].owner),
        }
    }

    pub(crate) fn say(
        &mut self,
        who: &str,
        with: With,
        body: CtlBody,
    ) -> Result<CtlChange, CtlError> {
        self.apply(&self.sign(who, with, body))
    }

    /// Applies a record at the next place, and checks that a refused one changes nothing.
    pub(crate) fn apply(&mut self, rec: &Record) -> Result<CtlChange, CtlError> {
        let before = self.channel.clone();
        let seq = before.seq() + 1;
        let ids = logs(&self.people);
        let result = self.channel.apply(seq, self.at, rec.bytes(), &ids);
        match &result {
            Ok(_) => self.records.push(rec.bytes().clone()),
            Err(_) => assert_eq!(self.channel, before, "a refused record changed something"),
        }
        result
    }

    pub(crate) fn ids(&self) -> BTreeMap<UserId, IdentityLog> {
        logs(&self.people)
    }
}

pub(crate) const HOUR: u64 = 3_600_000;

pub(crate) fn invite(link: &Secret, max_uses: u32) -> CtlBody {
    CtlBody::Invite {
        key: link.invite_key(),
        role: Role::Reader,
        max_uses,
        expires: TS.plus(HOUR),
    }
}

pub(crate) fn ticket(world: &World, who: &str, link: &Secret) -> CtlBody {
    let author = world.people[who].author("laptop");
    CtlBody::Join {
        ticket: Some(Ctl::ticket(&CHANNEL, &world.channel.head(), &author, link)),
    }
}

pub(crate) fn open_join() -> CtlBody {
    CtlBody::Join { ticket: None }
}

pub(crate) fn remove(world: &World, who: &str, kind: RemoveKind) -> CtlBody {
    CtlBody::Remove {
        user: world.id(who),
        kind,
    }
}

pub(crate) fn meta(
    visibility: Option<Visibility>,
    new_name: Option<&str>,
    topic: Option<&str>,
) -> CtlBody {
    let topic = topic.map(str::to_owned);
    CtlBody::Meta {
        visibility,
        name: new_name.map(name),
        name_box: None,
        topic,
    }
}

pub(crate) fn create(visibility: Visibility, mode: Mode) -> CtlBody {
    CtlBody::Create {
        mode,
        visibility,
        history: History::Full,
        name: (visibility != Visibility::Private).then(|| name("general")),
        topic: None,
        limits: None,
    }
}

pub(crate) fn logs(people: &BTreeMap<&str, Person>) -> BTreeMap<UserId, IdentityLog> {
    people
        .values()
        .map(|person| (person.id(), person.log.clone()))
        .collect()
}

/// A head that no log has.
pub(crate) fn nowhere() -> Head {
    Head {
        n: 0,
        hash: conclave_proto::id::Hash::new([1; 32]),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Every record with one bit flipped, at every bit.
pub(crate) fn bit_flips(rec: &Blob) -> impl Iterator<Item = Blob> {
    (0..rec.len() * 8).map(|bit| {
        let mut bytes = rec.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes.into()
    })
}
