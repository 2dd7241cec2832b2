//! Many at once: rotations of one channel's key over real sockets, and people who are not let in again.

use crate::rig::{Person, Raw, Site, open_config, serve};
use crate::sealed::{self, Room, entry, machine};
use crate::world::{self, World, hello};
use conclave_e2ee::{Bundle, ChannelKey, EncryptionSecret, IndexKey, Place, wrap};
use conclave_proto::channel_log::{
    Author, ChannelLog, Ctl, CtlBody, History, Mode, RemoveKind, Role, Visibility,
};
use conclave_proto::codec::Encoding;
use conclave_proto::encryption_key::Announcement;
use conclave_proto::entry::{Entry, EntryBody, Header, Route, Suite};
use conclave_proto::frame::op::{
    Append, CtlAppend, CtlFetch, EkFetch, EkPublish, Op, Read, Wrap, WrapFetch, WrapMissing,
    WrapPut,
};
use conclave_proto::frame::reply::{EpochWrap, Reply};
use conclave_proto::frame::{Event, Outcome, ServerFrame};
use conclave_proto::handshake::{Mode as Entering, redeem_message};
use conclave_proto::id::{Blob, ChannelId, LogId, MsgId, RecipientKeyId, SenderSid, UserId};
use conclave_proto::identity_log::IdentityLog;
use conclave_proto::key::{EncryptionKey, HolderKey, Secret};
use conclave_proto::reject::Code;
use conclave_proto::time::UnixMs;
use std::collections::BTreeMap;

const ROOM: ChannelId = ChannelId::new([5; 16]);
const LOG: LogId = LogId::Channel(ROOM);
const MEMBERS: u8 = 10;
const ATTEMPTS: u8 = 5;

struct Member {
    person: Person,
    raw: Raw,
    secret: EncryptionSecret,
}

impl Member {
    async fn register(site: &Site, n: u8) -> Self {
        let person = Person::new(&format!("member{n}"), 1 + n);
        let encoding = [Encoding::Cbor, Encoding::Json][usize::from(n % 2)];
        let mut raw = site.register(&person, encoding).await;
        let secret = EncryptionSecret::from_seed(&[200 - n; 32]);
        let until = raw.ready.as_ref().unwrap().at.plus(1_000_000);
        let key = secret.public();
        let rec = Announcement::sign_machine(site.server_id, &person.machine, 1, key, until);
        let rec = rec.bytes().clone();
        raw.call(Op::EkPublish(EkPublish { rec })).await.unwrap();
        Self {
            person,
            raw,
            secret,
        }
    }

    fn holder(&self) -> HolderKey {
        self.person.machine.machine_key().into()
    }

    fn ctl(&self, log: Option<&ChannelLog>, body: CtlBody, wraps: Vec<Wrap>) -> (Op, Blob) {
        let ready = self.raw.ready.as_ref().unwrap();
        let ctl = Ctl {
            channel: ROOM,
            after: log.map(ChannelLog::head),
            body,
            author: Author {
                user: ready.user_id,
                path: ready.path.clone(),
                ident: ready.ident,
            },
            ts: UnixMs(2),
        };
        let rec = ctl.sign_machine(&self.person.machine).bytes().clone();
        let op = Op::CtlAppend(CtlAppend {
            channel: ROOM,
            rec: rec.clone(),
            wraps,
            invite_box: None,
        });
        (op, rec)
    }

    async fn entries(&mut self, op: Op) -> Vec<Entry> {
        match self.raw.call(op).await {
            Ok(Reply::Page(page)) => page.entries,
            other => panic!("{other:?}"),
        }
    }

    async fn wraps(&mut self, from: u32) -> Vec<EpochWrap> {
        let op = Op::WrapFetch(WrapFetch {
            channel: ROOM,
            from,
            holder: self.holder(),
            unusable: Vec::new(),
        });
        match self.raw.call(op).await {
            Ok(Reply::Wraps(wraps)) => wraps.wraps,
            other => panic!("{other:?}"),
        }
    }

    /// Takes so many answers, which come in any order.
    async fn answers(&mut self, n: usize) -> BTreeMap<u64, Outcome> {
        let mut answers = BTreeMap::new();
        while answers.len() < n {
            if let ServerFrame::Response(response) = self.raw.next().await.unwrap() {
                answers.insert(response.id, response.result);
            }
        }
        answers
    }

    fn header(&self, e: u32) -> Header {
        Header {
            suite: Suite::One,
            channel: ROOM,
            epoch: e,
            sender: self.raw.ready.as_ref().unwrap().path.clone(),
            sender_key: self.person.machine.machine_key(),
            // Each epoch is another process, so that its counter starts again.
            sid: SenderSid::new([u8::try_from(e).unwrap(); 8]),
            ctr: 1,
            msg_id: MsgId::new([u8::try_from(e).unwrap(); 16]),
            ts: UnixMs(3),
            route: Route::Everyone,
            recipient_key: RecipientKeyId::new([0; 8]),
            hop: 0,
            flags: 0,
        }
    }
}

/// An epoch's record and wraps as one member makes them from what it knows of the others' keys.
fn epoch(
    log: &ChannelLog,
    ids: &BTreeMap<UserId, IdentityLog>,
    keys: &[(HolderKey, u32, EncryptionKey)],
    key: &ChannelKey,
    before: Option<&ChannelKey>,
) -> (CtlBody, Vec<Wrap>) {
    let bundle = Bundle {
        index_key: IndexKey::new([1; 32]),
        name: None,
        topic: None,
    };
    let body = CtlBody::Epoch {
        e: key.place().e,
        covers_c: log.head().n,
        members_root: log.members_root(ids).unwrap(),
        commit: key.commit(),
        prev_box: before.map(|before| key.seal_previous(before, [2; 24])),
        bundle_box: key.seal_bundle(&bundle, [3; 24]),
    };
    let seal = |(to, generation, ek): &(HolderKey, u32, EncryptionKey)| {
        wrap::seal(key, *to, *generation, ek, [4; 32]).unwrap()
    };
    (body, keys.iter().map(seal).collect())
}

#[tokio::test]
async fn of_fifty_concurrent_rotations_one_wins_and_everybody_opens_what_it_sealed() {
    let site = serve(open_config()).await;
    let mut members = Vec::new();
    for n in 0..MEMBERS {
        members.push(Member::register(&site, n).await);
    }
    let ids: BTreeMap<UserId, IdentityLog> = members
        .iter()
        .map(|m| m.person.log(site.server_id))
        .map(|log| (*log.user_id(), log))
        .collect();
    let mut log = together(&mut members, &ids).await;
    let holders: Vec<HolderKey> = members.iter().map(Member::holder).collect();
    let op = Op::EkFetch(EkFetch { holders });
    let Ok(Reply::Eks(eks)) = members[0].raw.call(op).await else {
        panic!("no keys");
    };
    let keys = eks.recs.iter().map(|rec| Announcement::read(rec).unwrap());
    let keys: Vec<_> = keys
        .map(|a| (a.holder_key(), a.generation, a.key))
        .collect();
    assert_eq!(keys.len(), members.len());

    let mut before: Option<ChannelKey> = None;
    for e in 1..=3 {
        let place = Place { channel: ROOM, e };
        let mut asked = Vec::new();
        for (n, member) in members.iter_mut().enumerate() {
            let mut attempts = Vec::new();
            for attempt in 0..ATTEMPTS {
                let mut bytes = [attempt; 32];
                bytes[0] = u8::try_from(n).unwrap();
                let key = ChannelKey::new(place, &bytes);
                let (body, wraps) = epoch(&log, &ids, &keys, &key, before.as_ref());
                let (op, rec) = member.ctl(Some(&log), body, wraps);
                attempts.push((member.raw.ask(op).await, rec, key));
            }
            asked.push(attempts);
        }
        let mut won = Vec::new();
        for (n, attempts) in asked.into_iter().enumerate() {
            let mut answers = members[n].answers(attempts.len()).await;
            for (id, rec, key) in attempts {
                match answers.remove(&id).unwrap() {
                    Outcome::Ok(Reply::Appended(appended)) => won.push((n, appended, rec, key)),
                    Outcome::Err(no) => assert_eq!(no.code, Code::CtlConflict, "{no}"),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(won.len(), 1, "epoch {e}");
        let (winner, appended, rec, key) = won.remove(0);
        let after = log.seq();
        log.apply(appended.seq, appended.at, &rec, &ids).unwrap();
        let header = members[winner].header(e);
        let machine = members[winner].person.machine.clone();
        let env = key.seal(&header, b"under the new key", [5; 24], &machine);
        let env = env.unwrap();
        let op = Op::Append(Append { log: LOG, env });
        members[winner].raw.call(op).await.unwrap();
        for member in &mut members {
            let fetched = member
                .entries(Op::CtlFetch(CtlFetch {
                    channel: ROOM,
                    after,
                }))
                .await;
            assert_eq!(fetched.len(), 1, "one record at this place for everybody");
            assert_eq!(fetched[0].body, EntryBody::Ctl(rec.clone()));
            let opened = open(member, &log, e).await;
            assert_eq!(opened.bytes(), key.bytes());
            let (after, limit) = (log.seq(), 9);
            let read = Op::Read(Read {
                log: LOG,
                after,
                limit,
            });
            let entries = member.entries(read).await;
            let EntryBody::Env(env) = entries[0].body.clone() else {
                panic!("{entries:?}");
            };
            let parsed = env.parse().unwrap();
            parsed.check().unwrap();
            assert_eq!(
                opened.open(&parsed).unwrap().as_slice(),
                b"under the new key"
            );
            if let (Some(before), Some(sealed)) = (&before, &log.epoch().unwrap().prev_box) {
                let commit = log.epoch_at(e - 1).unwrap().commit;
                let older = opened.open_previous(sealed, &commit).unwrap();
                assert_eq!(older.bytes(), before.bytes());
            }
        }
        before = Some(key);
    }
}

#[tokio::test]
async fn who_lacks_the_key_asks_and_a_member_that_follows_the_channel_brings_it() {
    let site = serve(open_config()).await;
    let mut members = Vec::new();
    for n in 0..2 {
        members.push(Member::register(&site, n).await);
    }
    let ids: BTreeMap<UserId, IdentityLog> = members
        .iter()
        .map(|m| m.person.log(site.server_id))
        .map(|log| (*log.user_id(), log))
        .collect();
    let mut log = together(&mut members, &ids).await;
    let [helper, joiner] = members.as_mut_slice() else {
        panic!("two members");
    };
    let place = Place {
        channel: ROOM,
        e: 1,
    };
    let key = ChannelKey::new(place, &[6; 32]);
    let (body, _) = epoch(&log, &ids, &[], &key, None);
    let (op, rec) = helper.ctl(Some(&log), body, Vec::new());
    let Ok(Reply::Appended(a)) = helper.raw.call(op).await else {
        panic!("no epoch");
    };
    log.apply(a.seq, a.at, &rec, &ids).unwrap();
    helper.raw.subscribe(ROOM, a.seq).await;
    assert!(joiner.wraps(1).await.is_empty());
    let of = |event: &Event, wanted: bool| match event {
        Event::Wanted(of) if wanted => Some(*of),
        Event::Keys(of) if !wanted => Some(*of),
        _ => None,
    };
    let asked = helper.raw.event(|event| of(event, true)).await;
    assert_eq!((asked.channel, asked.e), (ROOM, 1));
    let channel = ROOM;
    let missing = Op::WrapMissing(WrapMissing { channel });
    let Ok(Reply::Missing(missing)) = helper.raw.call(missing).await else {
        panic!("no list");
    };
    assert!(missing.holders.contains(&joiner.holder()));
    let ek = joiner.secret.public();
    let sealed = wrap::seal(&key, joiner.holder(), 1, &ek, [8; 32]).unwrap();
    let (e, wraps) = (missing.e, vec![sealed]);
    let put = Op::WrapPut(WrapPut { channel, e, wraps });
    helper.raw.call(put).await.unwrap();
    assert_eq!(joiner.raw.event(|event| of(event, false)).await, asked);
    assert_eq!(open(joiner, &log, 1).await.bytes(), key.bytes());
}

/// Makes the channel and lets everybody join it.
async fn together(members: &mut [Member], ids: &BTreeMap<UserId, IdentityLog>) -> ChannelLog {
    let mut log: Option<ChannelLog> = None;
    for member in members {
        let body = match &log {
            None => CtlBody::Create {
                mode: Mode::E2e,
                visibility: Visibility::Unlisted,
                history: History::Full,
                name: Some("storm".parse().unwrap()),
                topic: None,
                limits: None,
            },
            Some(_) => CtlBody::Join { ticket: None },
        };
        let (op, rec) = member.ctl(log.as_ref(), body, Vec::new());
        let Ok(Reply::Appended(a)) = member.raw.call(op).await else {
            panic!("not joined");
        };
        match &mut log {
            None => log = Some(ChannelLog::create(a.seq, a.at, &rec, ids).unwrap()),
            Some(log) => drop(log.apply(a.seq, a.at, &rec, ids).unwrap()),
        }
    }
    log.unwrap()
}

/// Fetches a member's wrap of an epoch and opens it.
async fn open(member: &mut Member, log: &ChannelLog, e: u32) -> ChannelKey {
    let holder = member.holder();
    let wraps = member.wraps(e).await;
    let [found] = wraps.as_slice() else {
        panic!("{wraps:?}");
    };
    let wrap = Wrap {
        to: holder,
        generation: found.generation,
        sealed: found.sealed,
    };
    let (place, commit) = (Place { channel: ROOM, e }, log.epoch_at(e).unwrap().commit);
    wrap::open(&wrap, place, &commit, &member.secret).unwrap()
}

fn invite(r: &mut Room, link: &Secret) {
    let expires = r.world.now.wall.plus(60_000);
    let invite = CtlBody::Invite {
        key: link.invite_key(),
        role: Role::Member,
        max_uses: 1,
        expires,
    };
    r.by_ana(invite).unwrap();
}

fn join(r: &mut Room, who: &world::Person, at: &world::Peer, link: &Secret) -> Op {
    r.ids.insert(who.id(), who.log.clone());
    let head = r.log().head();
    let ticket = Ctl::ticket(&ROOM, &head, &who.author(at), link);
    let ticket = Some(ticket);
    r.op((who, at), CtlBody::Join { ticket }, Vec::new())
}

/// Row 20 of the hostile inputs.
#[test]
fn removed_members_banned_ones_and_spent_links_stay_out() {
    let mut r = sealed::room(World::new(), History::Full);
    let (bob, eve, mia) = (r.bob.1.clone(), peer(&mut r, 30), peer(&mut r, 40));
    let link = Secret::from_seed(&[90; 32]);
    r.rotate(&[machine(&r.ana.0), machine(&r.bob.0)]).unwrap();
    let channel = *r.log().id();
    let ctl = Op::CtlFetch(CtlFetch { channel, after: 0 });
    assert!(r.world.request(bob.conn, ctl.clone()).is_ok());
    // A removed member keeps sending, to the old epoch and the new one.
    r.remove(r.bob.0.id(), RemoveKind::Ban);
    // What it could read as a member it cannot any more, on the same connection either.
    assert_eq!(world::code(r.world.request(bob.conn, ctl)), Code::NotFound);
    r.rotate(&[machine(&r.ana.0)]).unwrap();
    for e in [1, 2] {
        let sent = r.send(&bob, entry(&bob, e, 1, "still here"));
        assert_eq!(sent.unwrap_err().code, Code::NotFound);
    }
    // A banned user comes back by a link.
    invite(&mut r, &link);
    let person = world::Person::new("bob", 20);
    let back = join(&mut r, &person, &bob, &link);
    assert_eq!(
        world::code(r.world.request(bob.conn, back)),
        Code::Forbidden
    );
    // Two redeem a link for one in the same moment, at the same place in the chain.
    let ops = [&eve, &mia].map(|(who, at)| (at.conn, join(&mut r, who, at, &link)));
    let commands = ops.clone().map(|(conn, op)| {
        let op = conclave_server::hub::Checked::new(op).unwrap();
        let id = conn.0;
        conclave_server::hub::Command::Request { conn, id, op }
    });
    r.world.batch(commands.into());
    let first = r.world.answer(eve.1.conn, eve.1.conn.0).unwrap();
    assert!(matches!(first, Ok(Reply::Appended(_))), "{first:?}");
    let second = r.world.answer(mia.1.conn, mia.1.conn.0).unwrap();
    assert_eq!(world::code(second), Code::CtlConflict);
    // The one who was too late tries again with the newest record: the link is spent.
    let Op::CtlAppend(joined) = &ops[0].1 else {
        panic!("{ops:?}");
    };
    let seq = r.log().seq() + 1;
    let (now, ids) = (r.world.now.wall, r.ids.clone());
    r.log
        .as_mut()
        .unwrap()
        .apply(seq, now, &joined.rec, &ids)
        .unwrap();
    let again = join(&mut r, &mia.0, &mia.1, &link);
    assert_eq!(
        world::code(r.world.request(mia.1.conn, again)),
        Code::InviteInvalid
    );
    // It makes no account either.
    let late = world::Person::new("late", 50);
    let key = link.invite_key();
    let redeem = Entering::Redeem {
        invite: key,
        sig: link.sign(redeem_message(&world::SERVER, &key, &late.id())),
        genesis: late.genesis.clone(),
    };
    let entered = r
        .world
        .try_enter(hello(&late.machine, "work", false, 1), redeem);
    assert_eq!(entered.unwrap_err().code, Code::InviteInvalid);
    // Nobody who stayed out is a holder.
    let (at, to) = (r.ana.1.clone(), [&mia.0, &late, &person].map(machine));
    for holder in to {
        let put = r.put(&at, 2, 1, &[holder]);
        assert_eq!(put.unwrap_err().code, Code::Forbidden);
    }
    assert!(r.put(&at, 2, 1, &[machine(&eve.0)]).is_ok());
}

fn peer(r: &mut Room, seed: u8) -> (world::Person, world::Peer) {
    let person = world::Person::new(&format!("user{seed}"), seed);
    let peer = r.world.register(&person, "work");
    (person, peer)
}
