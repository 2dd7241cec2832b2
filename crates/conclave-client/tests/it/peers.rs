//! What sessions say of themselves: heard by the channel's members, and only as their own word.

use crate::scene::{CHANNEL, Scene, since_join};
use crate::talk::{Machine, SOON, World, name};
use conclave_client::client::{Client, NewChannel, Peer, Signer};
use conclave_proto::body::Body;
use conclave_proto::channel_log::{RemoveKind, Role, Visibility};
use conclave_proto::entry::{Envelope, Header, Route};
use conclave_proto::frame::Outcome;
use conclave_proto::frame::op::Op;
use conclave_proto::frame::reply::{Profiles, Reply, SessionInfo, Sessions};
use conclave_proto::id::{ChannelId, SenderSid};
use conclave_proto::name::SessionPath;
use conclave_proto::profile::{Profile, Status};
use conclave_proto::time::UnixMs;
use conclave_sim::hostile::Person;
use std::time::Duration;

fn profile(summary: &str, groups: &[&str]) -> Profile {
    Profile {
        role: Some(name("dev")),
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        status: Some(Status::Working),
        summary: Some(summary.into()),
        wake: None,
    }
}

fn summary<'a>(peers: &'a [Peer], path: &str) -> Option<&'a str> {
    let peer = peers.iter().find(|p| p.session.path.to_string() == path);
    peer?.profile.as_ref()?.summary.as_deref()
}

/// Looks until a session says something of itself, or nothing.
async fn until(client: &Client, channel: ChannelId, path: &str, wanted: Option<&str>) -> Vec<Peer> {
    let look = async {
        loop {
            if let Ok(peers) = client.peers(channel).await
                && summary(&peers, path) == wanted
            {
                return peers;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = tokio::time::timeout(SOON, look).await;
    seen.unwrap_or_else(|_| panic!("{path} never says {wanted:?}"))
}

#[tokio::test]
async fn a_profile_is_seen_by_members_again_after_a_restart_and_under_each_new_key() {
    let mut world = World::start().await;
    let (ada, bob, eve) = (Machine::new(), Machine::new(), Machine::new());
    for (machine, user) in [(&ada, "ada"), (&bob, "bob"), (&eve, "eve")] {
        drop(machine.register(&world, user).await);
    }
    let (a, _a_events) = ada.session("api", 1).await;
    let ops = *a.create_channel(since_join("ops")).await.unwrap().id();
    a.add_member(ops, &name("eve"), Role::Member, Signer::Machine)
        .await
        .unwrap();
    // Said before it is followed, it waits for that.
    let said = profile("the billing bug", &["eng/backend:lead"]);
    a.set_profile(ops, said.clone()).await.unwrap();
    a.follow(ops).await.unwrap();
    let (e, _e_events) = eve.session("spy", 3).await;
    e.follow(ops).await.unwrap();
    let peers = until(&e, ops, "ada/box/api", Some("the billing bug")).await;
    let seen = peers
        .iter()
        .find(|p| p.session.path.user == name("ada"))
        .unwrap();
    assert_eq!(seen.profile.as_ref(), Some(&said));
    assert!(seen.session.online && seen.facts.vouched && !seen.facts.own);
    // Bob can open only what is sealed under the newest key, which the kick brought.
    a.remove_member(ops, &name("eve"), RemoveKind::Kick)
        .await
        .unwrap();
    a.add_member(ops, &name("bob"), Role::Reader, Signer::Machine)
        .await
        .unwrap();
    let (b, _b_events) = bob.session("web", 2).await;
    b.follow(ops).await.unwrap();
    b.set_profile(ops, profile("only reads", &[]))
        .await
        .unwrap();
    until(&b, ops, "ada/box/api", Some("the billing bug")).await;
    until(&a, ops, "bob/box/web", Some("only reads")).await;
    assert!(e.peers(ops).await.is_err(), "eve is out");
    // Servers keep profiles in memory alone.
    world.down().await;
    world.up().await;
    until(&b, ops, "ada/box/api", Some("the billing bug")).await;
    // Of many words within a second the newest is left.
    for n in 0..50 {
        a.set_profile(ops, profile(&format!("step {n}"), &[]))
            .await
            .unwrap();
    }
    until(&b, ops, "ada/box/api", Some("step 49")).await;
    // It ends with the session, whatever was seen of it.
    a.unfollow(ops).await.unwrap();
    until(&b, ops, "ada/box/api", None).await;
}

#[tokio::test]
async fn a_profile_beyond_its_bounds_is_refused_here() {
    let world = World::start().await;
    let ada = Machine::new();
    drop(ada.register(&world, "ada").await);
    let (a, _events) = ada.session("api", 1).await;
    let ops = NewChannel::new(name("ops"), Visibility::Private);
    let ops = *a.create_channel(ops).await.unwrap().id();
    a.set_profile(ops, profile(&"x".repeat(512), &[]))
        .await
        .unwrap();
    let refused = a.set_profile(ops, profile(&"x".repeat(513), &[])).await;
    assert_eq!(refused.unwrap_err().code().as_str(), "too_large");
}

/// What somebody says of itself in the channel, in the clear, with a header the test may change.
fn says(who: &Person, ctr: u64, words: &str, change: impl FnOnce(&mut Header)) -> Envelope {
    let mut header = who.header(CHANNEL, Route::Profile, ctr);
    change(&mut header);
    let body = Body {
        profile: Some(profile(words, &[])),
        ..Body::default()
    };
    Envelope::clear(&header, body.to_bytes().unwrap(), &who.machine)
}

/// Shows these sessions, and one envelope under one path; returns what is believed of it.
async fn shown(scene: &Scene, path: &SessionPath, env: Envelope) -> Option<String> {
    let (there, user) = (path.clone(), scene.ada.user());
    let lie = move |script: &mut conclave_sim::hostile::Script| {
        script.profiles.clear();
        script.profiles.insert((CHANNEL, there.clone()), env);
        let there = SessionInfo {
            path: there,
            user_id: user,
            online: true,
            since: UnixMs(1),
            agent: String::new(),
        };
        script.lie(move |asked| match asked.op {
            Op::Who(_) => Some(Outcome::Ok(Reply::Sessions(Sessions {
                sessions: vec![there.clone()],
                more: false,
            }))),
            _ => None,
        });
    };
    scene.liar.tell(lie).await;
    let peers = scene.bob.peers(CHANNEL).await.unwrap();
    summary(&peers, &path.to_string()).map(str::to_owned)
}

#[tokio::test]
async fn a_forged_old_or_misplaced_profile_is_not_believed() {
    let scene = Scene::following().await;
    let (ada, eve) = (scene.ada.clone(), scene.eve.clone());
    let good = shown(&scene, &ada.path, says(&ada, 5, "good", |_| {})).await;
    assert_eq!(good.as_deref(), Some("good"));
    let desk: SessionPath = "ada/box/desk".parse().unwrap();
    let own_machine = ada.path.clone();
    let ended = ChannelId::new([8; 16]);
    let lies = [
        (
            "by eve, under ada's path",
            &ada.path,
            says(&eve, 6, "x", |_| {}),
        ),
        (
            "ada's path, eve's key",
            &ada.path,
            says(&eve, 6, "x", |h| h.sender = own_machine.clone()),
        ),
        (
            "ada's path and key, eve's signature",
            &ada.path,
            says(&ada.signing_with(&eve.machine), 6, "x", |h| {
                h.sender_key = ada.machine.machine_key();
            }),
        ),
        ("under another session", &desk, says(&ada, 6, "x", |_| {})),
        ("older", &ada.path, says(&ada, 4, "x", |_| {})),
        (
            "older, of another process",
            &ada.path,
            says(&ada, 9, "x", |h| {
                h.sid = SenderSid::new([9; 8]);
                h.ts = UnixMs(1);
            }),
        ),
        (
            "of another channel",
            &ada.path,
            says(&ada, 6, "x", |h| h.channel = ended),
        ),
        (
            "a message",
            &ada.path,
            says(&ada, 6, "x", |h| h.route = Route::Everyone),
        ),
        ("by no member", &eve.path, says(&eve, 6, "x", |_| {})),
    ];
    for (what, path, env) in lies {
        assert_eq!(shown(&scene, path, env).await, None, "{what}");
    }
    let newer = shown(&scene, &ada.path, says(&ada, 6, "newer", |_| {})).await;
    assert_eq!(newer.as_deref(), Some("newer"));
}

#[tokio::test]
async fn pages_that_never_end_are_read_to_a_bound() {
    let scene = Scene::following().await;
    let endless = says(&scene.ada, 1, "again", |_| {});
    let path = scene.ada.path.clone();
    scene
        .liar
        .tell(move |script| {
            script.lie(move |asked| match asked.op {
                Op::Profiles(_) => {
                    let (path, env) = (path.clone(), endless.clone());
                    let profiles = vec![conclave_proto::frame::reply::ProfileOf { path, env }];
                    Some(Outcome::Ok(Reply::Profiles(Profiles {
                        profiles,
                        more: true,
                    })))
                }
                _ => None,
            });
        })
        .await;
    assert!(scene.bob.peers(CHANNEL).await.is_ok());
}
