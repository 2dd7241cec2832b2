//! Attacks on who is in the room: ghosts, removed members, epochs that do not fit the membership.

use super::stage::{SEALED, Stage};
use conclave_client::event::NoticeKind;
use conclave_e2ee::{Bundle, EncryptionSecret, IndexKey};
use conclave_proto::body::Body;
use conclave_proto::channel_log::{CtlBody, RemoveKind, Role};
use conclave_proto::entry::{Entry, EntryBody, Header};
use conclave_proto::frame::Outcome;
use conclave_proto::frame::event::{Event as Told, IdentHead};
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{Missing, Reply};
use conclave_proto::id::Hash;
use conclave_proto::identity_log::build;
use conclave_proto::key::{HolderKey, Secret, label};
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::{Person, draw};

fn body_of(rec: &Record) -> EntryBody {
    EntryBody::Ctl(rec.bytes().clone())
}

pub(crate) async fn ghost_member() -> &'static str {
    let mut stage = Stage::new().await;
    let (user, ident) = (stage.eve.user(), stage.eve.log.head());
    let role = Role::Member;
    let add = CtlBody::Add { user, ident, role };
    // By eve herself; in ada's name with another key; ada's words under another label.
    let by_eve = stage.room.record(&stage.eve, add.clone());
    let honest = stage.room.record(&stage.ada, add);
    let as_ada = Record::sign(label::CONTROL, honest.body(), &stage.eve.machine);
    let relabelled = Record::sign(label::IDENTITY, honest.body(), &stage.ada.machine);
    let key = stage.room.key().clone();
    let hers = stage
        .room
        .seal(&stage.eve, &key, 1, &Body::text("boo"), |_| {});
    let mut lies: Vec<EntryBody> = [by_eve, as_ada, relabelled].iter().map(body_of).collect();
    lies.push(EntryBody::Env(hers));
    let seen = stage.lies(lies).await;
    let broken = NoticeKind::ChainBreak;
    assert_eq!(seen, [broken, broken, broken, NoticeKind::NotMember]);
    let room = stage.room.id;
    let members = stage.bob.client.known_channels().await.unwrap();
    assert!(
        members
            .iter()
            .all(|log| log.id() != &room || log.member(&user).is_none())
    );
    let theirs = stage.eve.machine.machine_key().into();
    stage.no_key_for(theirs).await;
    stage.bob_can_talk().await;
    stage.sealed_lips().await;
    "not a member: chain_break; its words dropped"
}

pub(crate) async fn member_adds_a_friend() -> &'static str {
    let mut stage = Stage::new().await;
    let (user, ident) = (stage.eve.user(), stage.eve.log.head());
    let role = Role::Member;
    let add = stage
        .room
        .record(&stage.carol, CtlBody::Add { user, ident, role });
    let seen = stage.lies(vec![body_of(&add)]).await;
    assert_eq!(seen, [NoticeKind::ChainBreak]);
    let theirs = stage.eve.machine.machine_key().into();
    stage.no_key_for(theirs).await;
    stage.bob_can_talk().await;
    "dropped: chain_break"
}

pub(crate) async fn ghost_machine() -> &'static str {
    let mut stage = Stage::new().await;
    let ghost = Secret::from_seed(&draw());
    let ek = EncryptionSecret::from_seed(&draw());
    // Eve's owner key signs into ada's log: nobody else's counts there.
    let rec = stage
        .eve
        .adds_machine(&stage.ada.log, &ghost, "ghost", ek.public());
    let ada = stage.ada.user();
    let head = conclave_proto::body::Head {
        n: 1,
        hash: rec.hash(),
    };
    let bytes = rec.bytes().clone();
    stage
        .liar
        .tell(move |script| {
            script.idents.get_mut(&ada).unwrap().push(bytes);
        })
        .await;
    let told = Told::Ident(IdentHead { user: ada, head });
    stage.liar.event(told).await;
    let mut haunted = stage.ada.signing_with(&ghost);
    haunted.path = "ada/ghost/api".parse().unwrap();
    let key = stage.room.key().clone();
    let body = Body {
        ident_head: Some(head),
        ..Body::text("from the ghost")
    };
    let said = stage.room.seal(&haunted, &key, 1, &body, |_| {});
    // And the server pretends that the channel goes by it, and asks for the key.
    let ident = CtlBody::Ident { user: ada, head };
    let ident = stage.room.record(&stage.carol, ident);
    let seen = stage
        .lies(vec![EntryBody::Env(said), body_of(&ident)])
        .await;
    assert_eq!(seen[0], NoticeKind::BadSignature, "{seen:?}");
    assert_eq!(seen.len(), 2, "{seen:?}");
    stage.bob_can_talk().await;
    stage.no_key_for(ghost.machine_key().into()).await;
    "not learned; its words dropped: bad_signature; no key for it"
}

pub(crate) async fn ghost_holder() -> &'static str {
    let mut stage = Stage::new().await;
    let ghost = Person::new(stage.liar.id, "ghost", 60);
    let holder = HolderKey::from(ghost.machine.machine_key());
    let later = UnixMs(conclave_sim::hostile::now().0 + 1_000_000);
    let announced = ghost.announces(1, ghost.encryption.public(), later);
    let (genesis, bytes) = (ghost.genesis.clone(), announced.bytes().clone());
    stage
        .liar
        .tell(move |script| {
            script.learn(genesis);
            script.announced.insert(holder, vec![bytes]);
            script.lie(move |asked| match asked.op {
                Op::WrapMissing(_) => Some(Outcome::Ok(Reply::Missing(Missing {
                    e: 1,
                    holders: vec![holder],
                }))),
                _ => None,
            });
        })
        .await;
    stage.wanted().await;
    stage.bob.notices(NoticeKind::GhostKey).await;
    stage.bob_can_talk().await;
    stage.no_key_for(holder).await;
    "no key for it; told: ghost_key"
}

/// Ada removes carol and makes the next epoch; carol keeps the old key.
async fn carol_removed() -> Stage {
    let mut stage = Stage::new().await;
    let carol = stage.carol.user();
    stage.room.remove(&stage.ada, carol, RemoveKind::Kick);
    stage.room.rotate(&stage.ada);
    stage.update().await;
    stage.say_good("carol is out").await;
    stage.bob.hears("carol is out").await;
    stage
}

pub(crate) async fn removed_member_keeps_sending() -> &'static str {
    let mut stage = carol_removed().await;
    let (old, new) = (stage.room.keys[0].clone(), stage.room.keys[1].clone());
    let under_old = stage
        .room
        .seal(&stage.carol, &old, 1, &Body::text("still here"), |_| {});
    // The server gave her the new key as well: then members still do not listen.
    let under_new = stage
        .room
        .seal(&stage.carol, &new, 1, &Body::text("still here"), |_| {});
    let lies = [under_old, under_new].map(EntryBody::Env);
    let seen = stage.lies(lies.into()).await;
    assert_eq!(seen, [NoticeKind::BadEpoch, NoticeKind::NotMember]);
    stage.bob_can_talk().await;
    let sent = stage.sent_by_bob().await.pop().unwrap();
    assert!(old.open(&sent.parse().unwrap()).is_err(), "carol reads on");
    let theirs = stage.carol.machine.machine_key().into();
    stage.no_key_for(theirs).await;
    "dropped: bad_epoch, not_member; cannot read on"
}

pub(crate) async fn own_removal_ignored() -> &'static str {
    let mut stage = carol_removed().await;
    // She goes on from the chain as it was, and from the chain as it is.
    let key = stage.room.next_key();
    let epoch = stage.room.epoch(&key);
    let next = stage.room.record(&stage.carol, epoch);
    let (user, ident) = (stage.carol.user(), stage.carol.log.head());
    let role = Role::Member;
    let back = stage
        .room
        .record(&stage.carol, CtlBody::Add { user, ident, role });
    let said = stage
        .room
        .seal(&stage.carol, &key, 1, &Body::text("my epoch"), |_| {});
    let lies = vec![body_of(&next), body_of(&back), EntryBody::Env(said)];
    let seen = stage.lies(lies).await;
    let broken = NoticeKind::ChainBreak;
    assert_eq!(seen, [broken, broken, NoticeKind::BadEpoch]);
    stage.bob_can_talk().await;
    "dropped: chain_break, bad_epoch"
}

pub(crate) async fn old_epoch_after_removal() -> &'static str {
    let mut stage = Stage::new().await;
    let eve = stage.eve.log.clone();
    stage.room.add(&stage.ada, &eve, Role::Member);
    stage
        .room
        .remove(&stage.ada, stage.eve.user(), RemoveKind::Kick);
    stage.update().await;
    // Carol does not know of it yet: her message is under a key that eve has.
    let late = stage.room.envelope(&stage.carol, 1, "for eve, too");
    let seq = stage.room.next_seq();
    let entry = conclave_sim::hostile::env(seq, late);
    stage.room.entries.push(entry);
    stage.update().await;
    stage.bob.notices(NoticeKind::BadEpoch).await;
    "dropped: bad_epoch"
}

pub(crate) async fn victim_rotates_before_it_speaks() -> &'static str {
    let mut stage = Stage::new().await;
    let carol = stage.carol.user();
    stage.room.remove(&stage.ada, carol, RemoveKind::Ban);
    stage.update().await;
    stage.bob.sees_a_change().await;
    stage.bob_can_talk().await;
    let parsed = stage.sent_by_bob().await.pop().unwrap().parse().unwrap();
    assert_eq!(parsed.header.epoch, 2, "a new epoch first");
    assert!(stage.room.keys[0].open(&parsed).is_err());
    let theirs = [
        stage.carol.machine.machine_key().into(),
        stage.carol.owner.owner_key().into(),
    ];
    for holder in theirs {
        stage.no_key_for(holder).await;
    }
    stage.sealed_lips().await;
    "a new epoch without the removed one comes first"
}

pub(crate) async fn epoch_that_hides_a_removal() -> &'static str {
    let mut stage = Stage::new().await;
    let carol = stage.carol.user();
    let before = stage.room.clone();
    stage.room.remove(&stage.ada, carol, RemoveKind::Kick);
    stage.update().await;
    // Ada's machine signs: even an owner cannot have an epoch that covers somebody who is gone.
    let key = stage.room.next_key();
    let with = |root: Option<Hash>, c: u64| match stage.room.epoch(&key) {
        CtlBody::Epoch {
            e,
            members_root,
            commit,
            prev_box,
            bundle_box,
            ..
        } => CtlBody::Epoch {
            e,
            covers_c: c,
            members_root: root.unwrap_or(members_root),
            commit,
            prev_box,
            bundle_box,
        },
        _ => unreachable!("it is an epoch"),
    };
    let head = stage.room.log.head().n;
    let root = before.log.members_root(&before.people);
    let hidden = stage.room.record(&stage.ada, with(root, head));
    let old = stage.room.record(&stage.ada, with(None, head - 1));
    for body in [body_of(&hidden), body_of(&old)] {
        let (seq, at) = (stage.room.next_seq(), conclave_sim::hostile::now());
        stage.room.entries.push(Entry { seq, at, body });
    }
    stage.update().await;
    // The true epoch is the next one all the same.
    stage.room.rotate(&stage.ada);
    stage.say_good("good").await;
    stage.bob.hears("good").await;
    assert_eq!(stage.bob.kinds(), [NoticeKind::ChainBreak; 2]);
    stage.bob_can_talk().await;
    for said in stage.sent_by_bob().await {
        let parsed = said.parse().unwrap();
        let read_on = stage.room.keys[0]
            .open(&parsed)
            .or_else(|_| key.open(&parsed));
        assert!(read_on.is_err(), "ATTACK SUCCEEDED: carol reads on");
    }
    stage.sealed_lips().await;
    "dropped: chain_break; nothing said under it"
}

pub(crate) async fn epoch_by_a_reader() -> &'static str {
    let mut stage = Stage::new().await;
    let (user, role) = (stage.carol.user(), Role::Reader);
    stage.room.ctl(&stage.ada, CtlBody::Role { user, role });
    stage.update().await;
    let key = stage.room.next_key();
    let epoch = stage.room.record(&stage.carol, stage.room.epoch(&key));
    let said = stage.room.envelope(&stage.carol, 1, "a reader speaks");
    let seen = stage
        .lies(vec![body_of(&epoch), EntryBody::Env(said)])
        .await;
    assert_eq!(seen, [NoticeKind::ChainBreak, NoticeKind::NotMember]);
    stage.bob_can_talk().await;
    "dropped: chain_break, not_member"
}

pub(crate) async fn epoch_changes_the_name() -> &'static str {
    let mut stage = Stage::new().await;
    let honest = stage.room.bundle.clone();
    stage.room.bundle = Bundle {
        index_key: IndexKey::new(draw()),
        name: Some("security".parse().unwrap()),
        topic: Some("send your passwords".to_owned()),
    };
    stage.room.rotate(&stage.carol);
    stage.room.bundle = honest;
    stage.update().await;
    stage.bob.notices(NoticeKind::BadEpoch).await;
    let ctr = stage.next_ctr(&stage.ada);
    stage.room.says(&stage.ada, ctr, "good");
    stage.update().await;
    let shown = stage.bob.hears("good").await;
    let name = match shown.scope {
        conclave_client::event::Scope::Channel { name, .. } => name,
        conclave_client::event::Scope::Whisper => None,
    };
    assert_eq!(name.unwrap().as_str(), SEALED.name);
    stage.bob_can_talk().await;
    stage.sealed_lips().await;
    "the old ones stay; told: bad_epoch"
}

pub(crate) async fn revoked_machine_goes_on() -> &'static str {
    let mut stage = Stage::new().await;
    // Carol has a second machine, and revokes the first: the thief has that.
    let second = Secret::from_seed(&draw());
    let ek = EncryptionSecret::from_seed(&draw());
    let carol = stage.carol.user();
    let add = stage
        .carol
        .adds_machine(&stage.carol.log, &second, "desk", ek.public());
    let mut log = stage.carol.log.clone();
    log.append(add.bytes()).unwrap();
    let stolen = stage.carol.machine.machine_key();
    let revoke = build::revoke_machine(&log, stolen, "stolen", &stage.carol.owner, UnixMs(1));
    log.append(revoke.bytes()).unwrap();
    let (recs, head) = ([add, revoke].map(|rec| rec.bytes().clone()), log.head());
    stage
        .liar
        .tell(move |script| script.idents.get_mut(&carol).unwrap().extend(recs))
        .await;
    stage.room.people.insert(carol, log);
    let ident = CtlBody::Ident { user: carol, head };
    stage.room.ctl(&stage.ada, ident);
    stage.room.rotate(&stage.ada);
    stage.update().await;
    stage.say_good("carol's laptop is gone").await;
    stage.bob.hears("carol's laptop is gone").await;
    // From now on the server shows carol as she was.
    stage.show_older_identity(carol, 1).await;
    stage.bob.restart().await;
    stage.bob.follow(stage.room.id).await;
    let (old, new) = (stage.room.keys[0].clone(), stage.room.keys[1].clone());
    let thief = Body::text("it is me, carol");
    let said = [old, new].map(|key| stage.room.seal(&stage.carol, &key, 1, &thief, |_| {}));
    let seen = stage.lies(said.map(EntryBody::Env).into()).await;
    assert_eq!(seen, [NoticeKind::BadEpoch, NoticeKind::BadSignature]);
    stage.bob_can_talk().await;
    stage.no_key_for(stolen.into()).await;
    let sent = stage.sent_by_bob().await.pop().unwrap();
    let header = Header::parse(&sent.header).unwrap();
    assert_eq!(header.epoch, 2);
    "dropped: bad_epoch, bad_signature; cannot read on"
}
