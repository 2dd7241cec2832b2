//! Attacks on links and joiners.

use super::stage::{CANARY, SEALED, Stage, Victim};
use conclave_client::client::Target;
use conclave_client::error::ClientError;
use conclave_client::event::NoticeKind;
use conclave_client::home::Home;
use conclave_client::onboard::{self, Welcome};
use conclave_e2ee::ChannelKey;
use conclave_e2ee::invite_box::{self, BoxedKey, InviteBox};
use conclave_proto::body::Body;
use conclave_proto::channel_log::{CtlBody, History, RemoveKind, Role};
use conclave_proto::entry::EntryBody;
use conclave_proto::frame::op::Op;
use conclave_proto::id::{Blob, InviteId, LogId};
use conclave_proto::invite::{Link, LinkSecret};
use conclave_proto::key::Secret;
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::{Person, Room, SOON, draw, name, nonce};
use tempfile::TempDir;

/// A room with an invite that somebody has the link of; bob has no part in this.
struct Invited {
    stage: Stage,
    secret: LinkSecret,
    dir: TempDir,
}

fn id_of(secret: &LinkSecret) -> InviteId {
    secret.signing_key().invite_key().invite_id()
}

/// What the minter seals beside an invite.
fn honest_box(room: &Room) -> InviteBox {
    InviteBox {
        genesis: *room.log.genesis(),
        name: room.bundle.name.clone(),
        topic: room.bundle.topic.clone(),
        index_key: Some(room.bundle.index_key.clone()),
        key: (room.log.history() == History::Full).then(|| BoxedKey::new(room.key())),
    }
}

fn seal(content: &InviteBox, secret: &LinkSecret, room: &Room) -> Blob {
    invite_box::seal(content, secret, &room.id, &id_of(secret), nonce())
}

impl Invited {
    async fn new() -> Self {
        let mut stage = Stage::before(SEALED).await;
        let secret = stage.room.invite(&stage.ada, 1);
        stage.room.says(&stage.ada, 1, "before you came");
        stage.keep().await;
        let dir = TempDir::new().unwrap();
        let invited = Self { stage, secret, dir };
        let honest = honest_box(&invited.stage.room);
        invited.put_box(&honest).await;
        invited
    }

    async fn put_box(&self, content: &InviteBox) {
        let sealed = seal(content, &self.secret, &self.stage.room);
        let id = id_of(&self.secret);
        self.stage
            .liar
            .tell(move |script| {
                script.boxes.insert(id, sealed);
            })
            .await;
    }

    /// Dan follows the link.
    async fn redeem(&self) -> Result<Welcome, ClientError> {
        let home = Home::open(&self.dir.path().join("home")).unwrap();
        let key = self.stage.liar.ask(|script| script.key.server_key()).await;
        let link = Link::invite(self.stage.liar.origin.clone(), self.secret.clone(), &key);
        let joined = onboard::redeem(&home, &link, name("dan"), name("box"), "test");
        tokio::time::timeout(SOON, Box::pin(joined))
            .await
            .expect("it ends")
    }

    /// Dan must not get in: neither is the link taken, nor is anything said by him anywhere.
    async fn refused(&self) -> &'static str {
        let joined = self.redeem().await;
        let Err(error) = joined else {
            panic!("ATTACK SUCCEEDED: joined {:?}", joined.map(|w| w.channel))
        };
        let text = error.to_string();
        assert!(!matches!(error, ClientError::Closed), "{text}");
        self.stage.sealed_lips().await;
        "refused: the link's box does not fit"
    }
}

pub(crate) async fn s16_invite_box_of_another_link() -> &'static str {
    let invited = Invited::new().await;
    // The server has a good box, of another link; it cannot make one for this link.
    let room = &invited.stage.room;
    let other = LinkSecret::new(draw());
    let sealed = seal(&honest_box(room), &other, room);
    let id = id_of(&invited.secret);
    invited
        .stage
        .liar
        .tell(move |script| {
            script.boxes.insert(id, sealed);
        })
        .await;
    invited.refused().await
}

/// A channel of the server's own, with the real one's id and people of the same names.
async fn look_alike(invited: &Invited, id: u8, dan: Option<&Victim>) -> Room {
    let fake = Person::new(invited.stage.liar.id, "ada", 120);
    let genesis = fake.genesis.clone();
    invited
        .stage
        .liar
        .tell(move |script| drop(script.learn(genesis)))
        .await;
    let mut room = Room::new(id, &fake, SEALED);
    let key = invited.secret.signing_key().invite_key();
    let (role, max_uses, expires) = (Role::Member, 9, UnixMs(u64::MAX));
    room.ctl(
        &fake,
        CtlBody::Invite {
            key,
            role,
            max_uses,
            expires,
        },
    );
    if let Some(dan) = dan {
        let log = invited.stage.identity(dan.me).await;
        room.add(&fake, &log, Role::Member);
    }
    let (real, copy) = (invited.stage.log(), room.clone());
    invited
        .stage
        .liar
        .tell(move |script| {
            script.logs.remove(&real);
            script.keep(&copy);
        })
        .await;
    room
}

pub(crate) async fn s16_invite_box_stripped() -> &'static str {
    let invited = Invited::new().await;
    look_alike(&invited, 7, None).await;
    let id = id_of(&invited.secret);
    invited
        .stage
        .liar
        .tell(move |script| {
            script.boxes.remove(&id);
        })
        .await;
    invited.refused().await
}

pub(crate) async fn s16_other_first_record() -> &'static str {
    let invited = Invited::new().await;
    look_alike(&invited, 7, None).await;
    invited.refused().await
}

/// The server knows who follows the link before it shows where it leads: it adds the joiner to a channel
/// of its own, so that there is nothing left to join.
pub(crate) async fn s16_joiner_added_before_it_joins() -> &'static str {
    let invited = Invited::new().await;
    let dan = Victim::new(&invited.stage.liar, "dan").await;
    look_alike(&invited, 7, Some(&dan)).await;
    let key = invited
        .stage
        .liar
        .ask(|script| script.key.server_key())
        .await;
    let secret = invited.secret.clone();
    let link = Link::invite(invited.stage.liar.origin.clone(), secret, &key);
    let follow = async || {
        let joined = onboard::redeem(&dan.home, &link, name("dan"), name("box"), "test");
        tokio::time::timeout(SOON, Box::pin(joined))
            .await
            .expect("it ends")
    };
    let wrong = "ATTACK SUCCEEDED: another channel than the link's";
    assert!(follow().await.is_err(), "{wrong}");
    // He tries again, and now there is no box: what was shown the first time must not count as known.
    let id = id_of(&invited.secret);
    invited
        .stage
        .liar
        .tell(move |script| {
            script.boxes.remove(&id);
        })
        .await;
    assert!(follow().await.is_err(), "{wrong} at the second try");
    invited.stage.sealed_lips().await;
    "refused: the link's box does not fit"
}

pub(crate) async fn s16_wrong_key_in_the_box() -> &'static str {
    let invited = Invited::new().await;
    let place = invited.stage.room.key().place();
    let wrong = ChannelKey::new(place, &draw());
    let content = InviteBox {
        key: Some(BoxedKey::new(&wrong)),
        ..honest_box(&invited.stage.room)
    };
    invited.put_box(&content).await;
    let welcome = invited.redeem().await.unwrap();
    let (client, room) = (welcome.client.clone(), invited.stage.room.id);
    let text = format!("{CANARY} hello");
    let body = Body::text(&text);
    let sent = {
        let client = client.clone();
        tokio::spawn(async move { client.send(Target::Channel(room), &body, 0, false).await })
    };
    // Nobody brought a wrap yet: the joiner waits, and does not use the key of the box.
    let log = LogId::Channel(room);
    let fetches = |script: &conclave_sim::hostile::Script| {
        let mut ops = script.asked.iter();
        ops.any(|(_, op)| matches!(op, Op::WrapFetch(_)))
    };
    let mut invited = invited;
    invited
        .stage
        .liar
        .until("HANGS: the joiner asks for no wrap", fetches)
        .await;
    let all = invited
        .stage
        .liar
        .ask(move |script| script.logs.get(&log).cloned());
    for entry in all.await.unwrap() {
        if let EntryBody::Env(env) = entry.body {
            let parsed = env.parse().unwrap();
            let dans = parsed.header.sender.user == name("dan");
            assert!(!dans, "said without a key");
        }
    }
    let pending = tokio::time::timeout(SOON, sent).await.expect("it ends");
    assert!(pending.unwrap().is_ok_and(|report| report.stored.is_none()));
    invited.stage.sealed_lips().await;
    client.stop().await;
    "not taken: commitment; keys_pending"
}

pub(crate) async fn s16_invite_by_the_server() -> &'static str {
    let mut stage = Stage::new().await;
    let secret = LinkSecret::new(draw());
    let key = secret.signing_key().invite_key();
    let (role, max_uses, expires) = (Role::Member, 1, UnixMs(u64::MAX));
    let body = CtlBody::Invite {
        key,
        role,
        max_uses,
        expires,
    };
    // In ada's name, with a key of the server's; then somebody comes by it.
    let server = Secret::from_seed(&[99; 32]);
    let by_server = stage.room.record(&stage.ada.signing_with(&server), body);
    let join = stage.room.join(&stage.eve, &secret);
    let said = stage.room.envelope(&stage.eve, 1, "I was invited");
    let lies = vec![
        EntryBody::Ctl(by_server.bytes().clone()),
        EntryBody::Ctl(join.bytes().clone()),
        EntryBody::Env(said),
    ];
    let seen = stage.lies(lies).await;
    let broken = NoticeKind::ChainBreak;
    assert_eq!(seen, [broken, broken, NoticeKind::NotMember]);
    stage.bob_can_talk().await;
    "dropped: chain_break, not_member"
}

pub(crate) async fn single_use_link_twice() -> &'static str {
    let mut stage = Stage::new().await;
    let secret = stage.room.invite(&stage.ada, 1);
    let frank = Person::new(stage.liar.id, "frank", 90);
    for who in [&stage.eve, &frank] {
        let genesis = who.genesis.clone();
        stage.room.people.insert(who.user(), who.log.clone());
        stage
            .liar
            .tell(move |script| drop(script.learn(genesis)))
            .await;
    }
    let first = stage.room.join(&stage.eve, &secret);
    stage.room.take(&first);
    stage.update().await;
    let second = stage.room.join(&frank, &secret);
    let said = stage.room.envelope(&frank, 1, "me, too");
    let lies = vec![EntryBody::Ctl(second.bytes().clone()), EntryBody::Env(said)];
    let seen = stage.lies(lies).await;
    assert_eq!(seen, [NoticeKind::ChainBreak, NoticeKind::NotMember]);
    stage.bob_can_talk().await;
    "dropped: chain_break, not_member"
}

pub(crate) async fn banned_user_comes_back() -> &'static str {
    let mut stage = Stage::new().await;
    let secret = stage.room.invite(&stage.ada, 9);
    let carol = stage.carol.user();
    stage.room.remove(&stage.ada, carol, RemoveKind::Ban);
    stage.room.rotate(&stage.ada);
    stage.update().await;
    stage.say_good("carol is out").await;
    stage.bob.hears("carol is out").await;
    let join = stage.room.join(&stage.carol, &secret);
    let said = stage.room.envelope(&stage.carol, 1, "I am back");
    let lies = vec![EntryBody::Ctl(join.bytes().clone()), EntryBody::Env(said)];
    let seen = stage.lies(lies).await;
    assert_eq!(seen, [NoticeKind::ChainBreak, NoticeKind::NotMember]);
    stage.bob_can_talk().await;
    let hers = stage.carol.machine.machine_key().into();
    stage.no_key_for(hers).await;
    "dropped: chain_break, not_member"
}
