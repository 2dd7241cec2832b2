//! What was verified stays verified: places, pins, removals, identities, and names, whatever comes later.

use super::scene::{CHANNEL, LOG, Scene, adds, creates, head, said, say, says, session};
use crate::talk::{SOON, name};
use conclave_client::client::{Client, History as Past, Target};
use conclave_client::event::NoticeKind;
use conclave_client::onboard;
use conclave_client::replica::Replica;
use conclave_e2ee::invite_box::{self, InviteBox};
use conclave_e2ee::{EncryptionSecret, IndexKey};
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{CtlBody, History, Mode, RemoveKind, Role};
use conclave_proto::entry::Header;
use conclave_proto::frame::Outcome;
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{ChannelInfo, Idents, InviteInfo, Reply};
use conclave_proto::id::ChannelId;
use conclave_proto::identity_log::build;
use conclave_proto::invite::{Link, LinkSecret};
use conclave_proto::key::Secret;
use conclave_proto::name::{Name, SessionPath};
use conclave_proto::record::Record;
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::{Person, Room, Settings, ctl, env};

const fn sealed(history: History) -> Settings<'static> {
    Settings {
        mode: Mode::E2e,
        history,
        name: "ops",
        topic: None,
    }
}

fn kicks(by: &Person, after: Head, whom: &Person) -> Record {
    let (user, kind) = (whom.user(), RemoveKind::Kick);
    by.ctl(CHANNEL, Some(after), CtlBody::Remove { user, kind })
}

async fn shown_name(client: &Client, id: ChannelId) -> Option<Name> {
    let all = client.channels().await.unwrap();
    let found = all.into_iter().find(|info| info.channel == id);
    found.unwrap().name
}

/// One record in two places is a lie, and through it who made the channel stays pinned.
#[tokio::test]
async fn a_record_at_two_places_does_not_unpin_the_channel() {
    let mut scene = Scene::new().await;
    let mine = scene.mine().await;
    let first = creates(&scene.ada, CHANNEL, Mode::E2e);
    let add = adds(&scene.ada, CHANNEL, head(0, &first), &mine, Role::Member);
    let freeze = scene
        .ada
        .ctl(CHANNEL, Some(head(1, &add)), CtlBody::Freeze { on: true });
    let log = vec![ctl(1, &first), ctl(2, &add)];
    scene.liar.tell(|s| *s.channel(CHANNEL) = log).await;
    scene.bob.follow(CHANNEL).await.unwrap();
    scene.liar.followed().await;
    assert_eq!(scene.bob.channel(CHANNEL).await.unwrap().mode(), Mode::E2e);
    // One record, at 4 for who asks and at 3 in the stream.
    let shown = ctl(4, &freeze);
    scene
        .liar
        .tell(move |s| s.channel(CHANNEL).push(shown))
        .await;
    assert!(scene.bob.channel(CHANNEL).await.unwrap().is_frozen());
    scene.liar.push(LOG, vec![ctl(3, &freeze)]).await;
    scene.refused(NoticeKind::ServerFork).await;
    scene.bob.stop().await;
    // Now eve, the server's friend, made the channel, and it is signed.
    let first = creates(&scene.eve, CHANNEL, Mode::Signed);
    let add = adds(&scene.eve, CHANNEL, head(0, &first), &mine, Role::Member);
    let log = vec![ctl(5, &first), ctl(6, &add)];
    scene.liar.tell(|s| *s.channel(CHANNEL) = log).await;
    let (bob, _events) = session(&scene.home).await;
    bob.ready(SOON).await.unwrap();
    let sent = bob
        .send(
            Target::Channel(CHANNEL),
            &Body::text("canary-secret"),
            0,
            false,
        )
        .await;
    assert!(sent.is_err(), "{sent:?}");
    assert!(
        !scene.liar.was_told("canary-secret").await,
        "said in the clear"
    );
}

/// The stream shows her message in the place of her removal, which is known.
#[tokio::test]
async fn a_removed_member_is_not_heard_in_the_place_of_its_removal() {
    let mut scene = Scene::new().await;
    let (eve, ada) = (scene.eve.clone(), scene.ada.clone());
    let add = adds(&ada, CHANNEL, scene.head, &eve.log, Role::Member);
    let kick = kicks(&ada, head(2, &add), &eve);
    let entry = ctl(3, &add);
    scene
        .liar
        .tell(move |s| s.channel(CHANNEL).push(entry))
        .await;
    scene.bob.follow(CHANNEL).await.unwrap();
    scene.liar.followed().await;
    let entry = ctl(4, &kick);
    scene
        .liar
        .tell(move |s| s.channel(CHANNEL).push(entry))
        .await;
    let known = scene.bob.channel(CHANNEL).await.unwrap();
    assert_eq!((known.head().n, known.role(&eve.user())), (3, None));
    // Bob knows that place 4 is eve's removal. The stream says it is her message.
    scene
        .liar
        .push(LOG, vec![env(4, says(&eve, 1, "pay me"))])
        .await;
    scene.refused(NoticeKind::ServerFork).await;
}

/// The same in history alone.
#[tokio::test]
async fn a_removed_member_is_not_heard_in_the_past_in_the_place_of_its_removal() {
    let scene = Scene::new().await;
    let (eve, ada) = (scene.eve.clone(), scene.ada.clone());
    let add = adds(&ada, CHANNEL, scene.head, &eve.log, Role::Member);
    let kick = kicks(&ada, head(2, &add), &eve);
    let both = [ctl(3, &add), ctl(4, &kick)];
    scene
        .liar
        .tell(move |s| s.channel(CHANNEL).extend(both))
        .await;
    let known = scene.bob.channel(CHANNEL).await.unwrap();
    assert_eq!((known.head().n, known.role(&eve.user())), (3, None));
    let forged = env(4, says(&eve, 1, "pay me"));
    scene.shows_past(vec![forged]).await;
    let past = scene
        .bob
        .history(CHANNEL, Past::After(3), 10)
        .await
        .unwrap();
    assert!(past.is_empty(), "shown: {}", said(&past[0]));
}

/// Of a machine that is known to be revoked the channel need not be told.
#[tokio::test]
async fn a_machine_known_to_be_revoked_is_not_talked_to() {
    let mut scene = Scene::new().await;
    let eve = scene.eve.clone();
    let mine = scene.mine().await;
    let mut room = Room::new(8, &scene.ada, sealed(History::Full));
    room.add(&scene.ada, &mine, Role::Member);
    room.add(&scene.ada, &eve.log, Role::Member);
    let copy = room.clone();
    scene.liar.tell(move |s| s.keep(&copy)).await;
    scene.bob.follow(room.id).await.unwrap();
    scene.liar.followed().await;
    say(&scene.bob, room.id, "with the laptop").await.unwrap();
    // Eve has a second machine and revokes the first; the server keeps that from the channel only.
    let second = Secret::from_seed(&[77; 32]);
    let ek = EncryptionSecret::from_seed(&[78; 32]);
    let add = eve.adds_machine(&eve.log, &second, "desk", ek.public());
    let mut log = eve.log.clone();
    log.append(add.bytes()).unwrap();
    let revoke = build::revoke_machine(
        &log,
        eve.machine.machine_key(),
        "stolen",
        &eve.owner,
        UnixMs(1),
    );
    log.append(revoke.bytes()).unwrap();
    let recs = [add, revoke].map(|rec| rec.bytes().clone());
    let (user, newest) = (eve.user(), log.head());
    scene
        .liar
        .tell(move |s| s.idents.get_mut(&user).unwrap().extend(recs))
        .await;
    // Bob looks eve up, as `verify` or a whisper do.
    let whisper: SessionPath = "eve/desk/api".parse().unwrap();
    drop(
        scene
            .bob
            .send(Target::Session(whisper), &Body::text("psst"), 0, false)
            .await,
    );
    let known = scene.bob.known_identity(eve.user()).await.unwrap().unwrap();
    assert_eq!(known.head(), newest);
    say(&scene.bob, room.id, "not for the thief").await.unwrap();
    let epochs = scene
        .liar
        .ask(move |s| {
            s.asked
                .iter()
                .filter_map(|(_, op)| match op {
                    Op::Append(op) => Header::parse(&op.env.header).map(|h| h.epoch),
                    _ => None,
                })
                .collect::<Vec<_>>()
        })
        .await;
    assert_eq!(epochs.last(), Some(&2), "{epochs:?}");
}

/// Two questions for one identity at once: the second answer is looked at like the first.
#[tokio::test]
async fn an_identity_learned_twice_at_once_keeps_nothing_unverified() {
    let scene = Scene::new().await;
    let ada = scene.ada.user();
    let mine = scene.mine().await;
    let other = ChannelId::new([8; 16]);
    let first = creates(&scene.ada, other, Mode::Signed);
    let add = adds(&scene.ada, other, head(0, &first), &mine, Role::Member);
    let log = vec![ctl(1, &first), ctl(2, &add)];
    let genesis = scene.ada.genesis.clone();
    scene
        .liar
        .tell(move |s| {
            *s.channel(other) = log;
            let mut n = 0;
            s.lie(move |asked| match asked.op {
                Op::IdentFetch(op) if op.user == ada => {
                    n += 1;
                    (n == 2).then(|| {
                        Outcome::Ok(Reply::Idents(Idents {
                            user: ada,
                            records: vec![genesis.clone(), b"rubbish".to_vec().into()],
                            head: 1,
                        }))
                    })
                }
                _ => None,
            });
        })
        .await;
    let (one, two) = tokio::join!(scene.bob.channel(CHANNEL), scene.bob.channel(other));
    drop((one.unwrap(), two.unwrap()));
    scene.bob.stop().await;
    scene.liar.tell(|s| s.be_honest()).await;
    let (bob, _events) = session(&scene.home).await;
    assert_eq!(bob.known_channels().await.unwrap().len(), 2);
}

/// A link from nobody does not replace what a member knows of a sealed channel.
#[tokio::test]
async fn a_link_that_no_admin_made_changes_nothing_for_a_member() {
    let scene = Scene::new().await;
    let mine = scene.mine().await;
    let mut room = Room::new(8, &scene.ada, sealed(History::SinceJoin));
    room.add(&scene.ada, &scene.eve.log, Role::Member);
    room.add(&scene.ada, &mine, Role::Member);
    room.rotate(&scene.eve);
    let (copy, id) = (room.clone(), room.id);
    scene
        .liar
        .tell(move |s| {
            s.keep(&copy);
            // Sealed to who was there.
            s.wraps.retain(|(_, e, _), _| *e != 1);
        })
        .await;
    assert_eq!(shown_name(&scene.bob, id).await, Some(name("ops")));
    let secret = LinkSecret::new([66; 32]);
    let link = Link::invite(
        scene.liar.origin.clone(),
        secret,
        &scene.liar.ask(|s| s.key.server_key()).await,
    );
    let content = InviteBox {
        genesis: *room.log.genesis(),
        name: Some(name("lunch")),
        topic: None,
        index_key: Some(IndexKey::new([5; 32])),
        key: None,
    };
    let sealed = invite_box::seal(&content, &link.secret, &id, &link.id(), [4; 24]);
    let ctl_log = room.entries.clone();
    let tip = room.log.clone();
    scene
        .liar
        .tell(move |s| {
            s.lie(move |asked| match asked.op {
                Op::Invite(_) => Some(Outcome::Ok(Reply::Invite(InviteInfo {
                    channel: Some(ChannelInfo {
                        channel: id,
                        name: None,
                        visibility: "private".into(),
                        mode: "e2e".into(),
                        role: Some("member".into()),
                        members: 3,
                        topic: None,
                        ctl: tip.head(),
                        ctl_seq: tip.seq(),
                        closed: false,
                    }),
                    ctl: ctl_log.clone(),
                    invite_box: Some(sealed.clone()),
                }))),
                _ => None,
            });
        })
        .await;
    scene.bob.stop().await;
    let welcome = onboard::redeem(&scene.home, &link, name("bob"), name("box"), "test").await;
    assert!(welcome.is_err(), "{welcome:?}");
    let (bob, _events) = session(&scene.home).await;
    bob.ready(SOON).await.unwrap();
    assert_eq!(shown_name(&bob, id).await, Some(name("ops")));
}

/// Several processes of a machine share the replica: one that takes a chain away must not leave another's
/// next record standing behind a hole.
#[tokio::test]
async fn a_chain_on_disk_has_no_holes() {
    let scene = Scene::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("replica.sqlite");
    let (one, two) = (
        Replica::open(&path).await.unwrap(),
        Replica::open(&path).await.unwrap(),
    );
    let first = creates(&scene.ada, CHANNEL, Mode::Signed);
    let mine = scene.mine().await;
    let second = adds(&scene.ada, CHANNEL, head(0, &first), &mine, Role::Member);
    let at = UnixMs(1);
    let kept = async |replica: &Replica, seq, rec: &Record| {
        let rec = rec.bytes().clone();
        replica.keep_ctl(LOG, seq, at, rec).await.unwrap();
    };
    kept(&one, 1, &first).await;
    two.drop_ctl(LOG).await.unwrap();
    kept(&one, 2, &second).await;
    assert_eq!(two.ctl(LOG, u64::MAX).await.unwrap().len(), 0);
    kept(&two, 1, &first).await;
    kept(&two, 2, &second).await;
    assert_eq!(one.ctl(LOG, u64::MAX).await.unwrap().len(), 2);
}
