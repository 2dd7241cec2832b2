//! A server that lies: nothing false is shown, what is wrong is named, the session lives on.

use super::scene::{CHANNEL, LOG, Scene, gap, kinds, said, says, session, texts};
use conclave_client::client::{History, Target};
use conclave_client::error::ClientError;
use conclave_client::event::{Event, NoticeKind};
use conclave_proto::body::{Body, Head};
use conclave_proto::channel_log::{CtlBody, Role};
use conclave_proto::entry::{Entry, EntryBody, Header, Route};
use conclave_proto::frame::event::{Entries, Event as Told};
use conclave_proto::frame::op::{Nothing, Op};
use conclave_proto::frame::reply::{EntryPage, Idents, Reply};
use conclave_proto::frame::{Outcome, Response, ServerFrame};
use conclave_proto::id::{ChannelId, LogId};
use conclave_proto::key::{Secret, Signature, label};
use conclave_proto::link::DownReason;
use conclave_proto::record::Record;
use conclave_proto::reject::{Code, Reject};
use conclave_sim::hostile::{Person, SOON, Script, ctl, env};

#[tokio::test]
async fn an_entry_without_its_senders_signature_is_not_shown() {
    let mut scene = Scene::following().await;
    let mut unsigned = says(&scene.ada, 1, "forged");
    unsigned.sig = Signature::new([0; 64]);
    assert_eq!(
        kinds(&scene.lie(EntryBody::Env(unsigned)).await),
        [NoticeKind::BadSignature]
    );

    let mut scene = Scene::following().await;
    let mut re_signed = scene.ada.clone();
    re_signed.machine = scene.eve.machine.clone();
    let key = scene.ada.machine.machine_key();
    let forged = re_signed.clear(CHANNEL, Route::Everyone, 1, "forged", |h| {
        h.sender_key = key;
    });
    assert_eq!(
        kinds(&scene.lie(EntryBody::Env(forged)).await),
        [NoticeKind::BadSignature]
    );

    let mut scene = Scene::following().await;
    let mut changed = says(&scene.ada, 1, "true");
    changed.ct = Body::text("forged").to_bytes().unwrap();
    assert_eq!(
        kinds(&scene.lie(EntryBody::Env(changed)).await),
        [NoticeKind::BadSignature]
    );
}

#[tokio::test]
async fn an_entry_under_another_senders_name_is_not_shown() {
    let mut scene = Scene::following().await;
    let ada = scene.ada.path.clone();
    let eve = scene
        .eve
        .clear(CHANNEL, Route::Everyone, 1, "as ada", |h| h.sender = ada);
    assert_eq!(
        kinds(&scene.lie(EntryBody::Env(eve)).await),
        [NoticeKind::BadSignature]
    );

    let mut scene = Scene::following().await;
    let stranger = says(&scene.eve, 1, "let me in");
    assert_eq!(
        kinds(&scene.lie(EntryBody::Env(stranger)).await),
        [NoticeKind::NotMember]
    );

    // A machine that the sender's identity log does not have.
    let mut scene = Scene::following().await;
    let mut unknown = scene.ada.clone();
    unknown.machine = Secret::from_seed(&[77; 32]);
    let entry = EntryBody::Env(says(&unknown, 1, "my new machine"));
    assert_eq!(kinds(&scene.lie(entry).await), [NoticeKind::BadSignature]);
}

#[tokio::test]
async fn an_entry_of_another_channel_or_form_is_not_shown() {
    let mut scene = Scene::following().await;
    let other = ChannelId::new([8; 16]);
    let moved = scene
        .ada
        .clear(other, Route::Everyone, 1, "elsewhere", |_| {});
    assert_eq!(
        kinds(&scene.lie(EntryBody::Env(moved)).await),
        [NoticeKind::Malformed]
    );

    let mut scene = Scene::following().await;
    let mut torn = says(&scene.ada, 1, "torn");
    torn.header = torn.header[..torn.header.len() - 1].to_vec().into();
    assert_eq!(
        kinds(&scene.lie(EntryBody::Env(torn)).await),
        [NoticeKind::Malformed]
    );

    let mut scene = Scene::following().await;
    let garbage = EntryBody::Ctl(vec![0xff; 64].into());
    assert_eq!(kinds(&scene.lie(garbage).await), [NoticeKind::ChainBreak]);
}

#[tokio::test]
async fn an_old_entry_in_a_new_place_is_not_shown_again() {
    let mut scene = Scene::following().await;
    let once = says(&scene.ada, 1, "pay 10");
    let id = Header::parse(&once.header).unwrap().msg_id;
    let again = scene
        .ada
        .clear(CHANNEL, Route::Everyone, 2, "the same id", |h| {
            h.msg_id = id;
        });
    scene.liar.push(LOG, vec![env(3, once.clone())]).await;
    assert!(scene.until("pay 10").await.is_empty());
    let late = says(&scene.ada, 3, "good");
    scene
        .liar
        .push(LOG, vec![env(4, once), env(5, again), env(6, late)])
        .await;
    let seen = kinds(&scene.until("good").await);
    assert_eq!(
        seen,
        [
            NoticeKind::Replayed,
            NoticeKind::Replayed,
            NoticeKind::Missing
        ]
    );
}

#[tokio::test]
async fn a_message_that_the_server_keeps_back_is_missed() {
    let mut scene = Scene::following().await;
    let (one, three) = (says(&scene.ada, 1, "one"), says(&scene.ada, 3, "three"));
    scene.liar.push(LOG, vec![env(3, one)]).await;
    assert!(scene.until("one").await.is_empty());
    scene.liar.push(LOG, vec![env(4, three)]).await;
    let notices = scene.until("three").await;
    assert_eq!(kinds(&notices), [NoticeKind::Missing]);
    assert!(notices[0].text.contains("ada/box/api"));
}

#[tokio::test]
async fn nobody_becomes_a_member_by_a_record_that_no_admin_signed() {
    let mut scene = Scene::following().await;
    let body = |scene: &Scene| CtlBody::Add {
        user: *scene.eve.log.user_id(),
        ident: scene.eve.log.head(),
        role: Role::Member,
    };
    // Eve adds herself; then somebody signs for ada with another key; then with the wrong label.
    let by_eve = scene.eve.ctl(CHANNEL, Some(scene.head), body(&scene));
    let mut forger = scene.ada.clone();
    forger.machine = scene.eve.machine.clone();
    let as_ada = forger.ctl(CHANNEL, Some(scene.head), body(&scene));
    let honest = scene.ada.ctl(CHANNEL, Some(scene.head), body(&scene));
    let relabelled = Record::sign(label::IDENTITY, honest.body(), &scene.ada.machine);
    let hers = says(&scene.eve, 1, "hello from a ghost");
    let good = says(&scene.ada, 1, "good");
    scene
        .liar
        .push(
            LOG,
            vec![
                ctl(3, &by_eve),
                ctl(4, &as_ada),
                ctl(5, &relabelled),
                env(6, hers),
                env(7, good),
            ],
        )
        .await;
    let seen = kinds(&scene.until("good").await);
    let broken = NoticeKind::ChainBreak;
    assert_eq!(seen, [broken, broken, broken, NoticeKind::NotMember]);
    assert_eq!(scene.bob.channel(CHANNEL).await.unwrap().members().len(), 2);
}

#[tokio::test]
async fn an_identity_log_that_is_another_users_or_broken_proves_nobody() {
    let mut scene = Scene::following().await;
    let carol = Person::new(scene.liar.id, "carol", 40);
    let (user, ident) = (*carol.log.user_id(), carol.log.head());
    let add = scene.ada.ctl(
        CHANNEL,
        Some(scene.head),
        CtlBody::Add {
            user,
            ident,
            role: Role::Member,
        },
    );
    let (eve, real) = (scene.eve.genesis.clone(), carol.genesis.clone());
    let (fakes, mut times) = ([vec![eve.clone()], vec![real.clone(), eve], vec![]], 0);
    scene
        .liar
        .tell(move |script| {
            script.lie(move |asked| match asked.op {
                Op::IdentFetch(op) if op.user == user => {
                    let records = fakes[times % 3].clone();
                    times += 1;
                    Some(Outcome::Ok(Reply::Idents(Idents {
                        user,
                        records,
                        head: 9,
                    })))
                }
                _ => None,
            });
        })
        .await;
    let hers = |ctr| env(ctr + 3, says(&carol, ctr, "who am I"));
    let entries = vec![
        ctl(3, &add),
        hers(1),
        hers(2),
        hers(3),
        env(7, says(&scene.ada, 1, "good")),
    ];
    let log: Vec<Entry> = entries.clone();
    scene.liar.push(LOG, entries).await;
    let seen = kinds(&scene.until("good").await);
    // Nobody can say who carol is: not even that she was added.
    assert_eq!(seen[0], NoticeKind::BadSignature);
    assert!(
        seen[1..].iter().all(|kind| *kind == NoticeKind::NotMember),
        "{seen:?}"
    );

    // What was refused has not spoiled what is kept: told the truth, the next session believes it.
    scene.bob.stop().await;
    scene
        .liar
        .tell(move |script| {
            script.be_honest();
            script.learn(real);
            script.channel(CHANNEL).extend(log);
        })
        .await;
    let (bob, _events) = session(&scene.home).await;
    bob.ready(SOON).await.unwrap();
    assert_eq!(bob.channel(CHANNEL).await.unwrap().members().len(), 3);
    let past = bob.history(CHANNEL, History::Last, 10).await.unwrap();
    assert_eq!(
        past.iter().map(said).filter(|t| *t == "who am I").count(),
        3
    );
}

#[tokio::test]
async fn a_channel_shown_with_two_pasts_is_a_fork() {
    let mut scene = Scene::following().await;
    let topic = |text: &str| CtlBody::Meta {
        visibility: None,
        name: None,
        name_box: None,
        topic: Some(text.to_owned()),
    };
    let (one, other) = (
        scene.ada.ctl(CHANNEL, Some(scene.head), topic("one")),
        scene.ada.ctl(CHANNEL, Some(scene.head), topic("other")),
    );
    let first = ctl(3, &one);
    scene
        .liar
        .tell(|script| script.channel(CHANNEL).push(first))
        .await;
    assert_eq!(
        scene.bob.channel(CHANNEL).await.unwrap().topic(),
        Some("one")
    );
    // Another record in a verified place: nothing after it is believed, over
    // connections.
    let (fork, past) = (NoticeKind::ServerFork, NoticeKind::ChainBreak);
    let after = Head {
        n: 2,
        hash: other.hash(),
    };
    let next = scene.ada.ctl(CHANNEL, Some(after), topic("more"));
    let early = env(4, says(&scene.ada, 1, "early"));
    scene
        .liar
        .push(LOG, vec![ctl(3, &other), early.clone()])
        .await;
    scene.refused(fork).await;
    scene.refused(fork).await;
    scene.liar.hang_up().await;
    assert!(matches!(down(&mut scene).await, DownReason::Lost(_)));
    up(&mut scene).await;
    let late = env(6, says(&scene.ada, 2, "late"));
    scene
        .liar
        .push(LOG, vec![ctl(5, &next), late.clone()])
        .await;
    scene.refused(past).await;
    scene.refused(fork).await;
    assert_eq!(
        scene.bob.channel(CHANNEL).await.unwrap().topic(),
        Some("one")
    );
    // Not even when this session is shown the true record where it has been already.
    scene.liar.hang_up().await;
    assert!(matches!(down(&mut scene).await, DownReason::Lost(_)));
    up(&mut scene).await;
    let later = env(7, says(&scene.ada, 3, "later"));
    let again = vec![ctl(3, &one), later.clone()];
    scene.liar.push(LOG, again).await;
    scene.refused(fork).await;

    // The next session begins with the true chain: the log goes on, and what was refused is in the past.
    scene.bob.stop().await;
    let kept = [early, late, later];
    let more = move |script: &mut Script| script.channel(CHANNEL).extend(kept);
    scene.liar.tell(more).await;
    (scene.bob, scene.events) = session(&scene.home).await;
    scene.bob.ready(SOON).await.unwrap();
    scene.bob.follow(CHANNEL).await.unwrap();
    scene.liar.followed().await;
    let good = env(8, says(&scene.ada, 4, "good"));
    scene.liar.push(LOG, vec![good]).await;
    let seen = kinds(&scene.until("good").await);
    assert!(!seen.contains(&fork) && !seen.contains(&past), "{seen:?}");
    let found = scene.bob.history(CHANNEL, History::After(2), 10).await;
    assert_eq!(texts(&found.unwrap()), ["early", "late", "later"]);
}

/// Waits until the session is live again, after it was not.
async fn up(scene: &mut Scene) {
    let wait = async {
        while !matches!(
            scene.events.recv().await.expect("the session goes on"),
            Event::Up(_)
        ) {}
    };
    tokio::time::timeout(SOON, wait)
        .await
        .expect("it connects again");
    scene.liar.followed().await;
}

#[tokio::test]
async fn a_hole_that_is_not_named_ends_the_connection_and_nothing_is_lost() {
    let mut scene = Scene::following().await;
    scene
        .liar
        .push(LOG, vec![env(5, says(&scene.ada, 3, "too early"))])
        .await;
    let reason = down(&mut scene).await;
    assert!(
        matches!(
            reason,
            DownReason::Hole {
                expected: 3,
                got: 5,
                ..
            }
        ),
        "{reason}"
    );
    up(&mut scene).await;
    scene
        .liar
        .push(LOG, vec![env(3, says(&scene.ada, 1, "good"))])
        .await;
    assert!(scene.until("good").await.is_empty());
}

async fn down(scene: &mut Scene) -> DownReason {
    let wait = async {
        loop {
            match scene.events.recv().await.expect("the session goes on") {
                Event::Down { reason, .. } => return reason,
                Event::Message(m) => panic!("shown: {}", said(&m)),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .expect("it goes down")
}

#[tokio::test]
async fn answers_to_no_question_and_what_was_not_asked_for_change_nothing() {
    let mut scene = Scene::following().await;
    let stray = LogId::Channel(ChannelId::new([9; 16]));
    let entries = vec![env(1, says(&scene.ada, 1, "stray"))];
    scene
        .liar
        .event(Told::Entries(Entries {
            log: stray,
            entries,
            gap: None,
        }))
        .await;
    scene.liar.event(Told::Unknown("party".into())).await;
    scene
        .liar
        .push(LOG, vec![env(3, says(&scene.ada, 1, "good"))])
        .await;
    assert!(scene.until("good").await.is_empty());

    let result = Outcome::Ok(Reply::Done(Nothing {}));
    scene
        .liar
        .frame(ServerFrame::Response(Response {
            id: u64::MAX,
            result,
        }))
        .await;
    assert!(matches!(down(&mut scene).await, DownReason::Malformed(_)));
    up(&mut scene).await;
    scene
        .liar
        .push(LOG, vec![env(4, says(&scene.ada, 2, "alive"))])
        .await;
    assert!(scene.until("alive").await.is_empty());
}

#[tokio::test]
async fn the_largest_numbers_end_no_session_and_no_call_lasts_for_ever() {
    let mut scene = Scene::following().await;
    let first = vec![env(3, says(&scene.ada, 1, "good"))];
    let log = LogId::Channel(CHANNEL);
    scene.liar.push(LOG, first).await;
    assert!(scene.until("good").await.is_empty());
    for head in [u64::MAX, (1 << 40) - 1] {
        let grows = move |script: &mut Script| {
            script.lie(move |asked| match asked.op {
                Op::Read(op) => Some(Outcome::Ok(Reply::Page(EntryPage {
                    entries: Vec::new(),
                    gap: None,
                    next: op.after.saturating_add(1),
                    head,
                }))),
                _ => None,
            });
        };
        scene.liar.tell(grows).await;
        let past = scene.bob.history(CHANNEL, History::After(0), 10);
        let past = tokio::time::timeout(SOON, past).await.expect("it ends");
        match head {
            u64::MAX => assert!(matches!(past, Err(ClientError::Answer)), "{past:?}"),
            _ => assert!(past.unwrap().is_empty()),
        }
    }

    let entries = vec![env(u64::MAX, says(&scene.ada, u64::MAX, "the last"))];
    let all = gap(4, u64::MAX);
    scene
        .liar
        .event(Told::Entries(Entries {
            log,
            entries,
            gap: Some(all),
        }))
        .await;
    let wait = async {
        loop {
            match scene.events.recv().await.expect("the session goes on") {
                Event::Gap { .. } => return,
                Event::Message(m) => panic!("shown: {}", said(&m)),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, wait)
        .await
        .expect("the gap is told");
    // The task is alive.
    scene.liar.tell(|script| script.be_honest()).await;
    assert!(scene.bob.channel(CHANNEL).await.is_ok());
}

#[tokio::test]
async fn what_the_server_says_in_words_is_printable_and_short() {
    let scene = Scene::new().await;
    scene
        .liar
        .tell(|script| {
            script.lie(|asked| match asked.op {
                Op::Channels(_) => {
                    let text = format!("\u{1b}[2J\u{202e}\r\n</channel>{}", "x".repeat(100_000));
                    Some(Outcome::Err(Reject::new(
                        Code::from("\u{1b}]0;pwned\u{7} run rm"),
                        text,
                    )))
                }
                _ => None,
            });
        })
        .await;
    let error = scene.bob.channels().await.unwrap_err();
    let ClientError::Reject(reject) = &error else {
        panic!("{error:?}")
    };
    let plain = |c: char| !c.is_control() && c != '\u{202e}';
    assert!(
        reject.message.chars().all(plain),
        "{:?}",
        &reject.message[..80]
    );
    assert!(reject.message.len() <= 512);
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(
        reject.code.as_str().chars().all(word),
        "{:?}",
        reject.code.as_str()
    );
}

#[tokio::test]
async fn a_server_whose_key_changed_is_not_talked_to_again() {
    let mut scene = Scene::following().await;
    scene
        .liar
        .tell(|script| {
            script.key = Secret::from_seed(&[98; 32]);
            script.hang_up();
        })
        .await;
    assert!(matches!(down(&mut scene).await, DownReason::Lost(_)));
    let reason = down(&mut scene).await;
    assert!(matches!(reason, DownReason::PinMismatch { .. }), "{reason}");
    let refused = scene.bob.ready(SOON).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthorized);
    let late = scene
        .bob
        .send(Target::Channel(CHANNEL), &Body::text("hello?"), 0, false)
        .await;
    assert_eq!(late.unwrap_err().code(), Code::Offline);
}

#[tokio::test]
async fn a_session_of_another_account_is_refused() {
    let scene = Scene::new().await;
    scene.bob.stop().await;
    type Change = fn(&mut conclave_proto::frame::Ready);
    let changes: [Change; 2] = [
        |ready| ready.user_id = conclave_proto::id::UserId::new([5; 32]),
        |ready| ready.path.user = "ada".parse().unwrap(),
    ];
    for change in changes {
        scene.liar.tell(move |script| script.ready = change).await;
        let (bob, _events) = session(&scene.home).await;
        // His own identity is known by now.
        let refused = bob.ready(SOON).await.unwrap_err();
        assert!(
            matches!(refused, ClientError::Down(DownReason::Unproven(_))),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_mailbox_that_is_not_this_sessions_is_not_followed() {
    let scene = Scene::new().await;
    scene.bob.stop().await;
    scene
        .liar
        .tell(|script| script.ready = |ready| ready.mailbox = Some(LogId::Channel(CHANNEL)))
        .await;
    let (bob, _events) = session(&scene.home).await;
    bob.ready(SOON).await.unwrap();
    assert!(matches!(
        bob.follow_mailbox().await,
        Err(ClientError::Answer)
    ));
}

#[tokio::test]
async fn the_past_is_judged_as_strictly_as_the_present() {
    let scene = Scene::following().await;
    // Bob knows who Eve is: from another channel, say.
    let eve = *scene.eve.log.user_id();
    scene.bob.identity_head(eve).await.unwrap();
    let body = CtlBody::Add {
        user: *scene.eve.log.user_id(),
        ident: scene.eve.log.head(),
        role: Role::Member,
    };
    let mut forger = scene.ada.clone();
    forger.machine = scene.eve.machine.clone();
    // The record names ada's key, and eve signed it.
    let honest = scene.ada.ctl(CHANNEL, Some(scene.head), body);
    let forged = Record::sign(label::CONTROL, honest.body(), &scene.eve.machine);
    let ghost = says(&scene.eve, 1, "hello from a ghost");
    let good = says(&scene.ada, 1, "good");
    scene
        .liar
        .tell(move |script| {
            let past = script.channel(CHANNEL).clone();
            script.lie(move |asked| {
                let mut entries = past.clone();
                entries.extend([
                    ctl(3, &forged),
                    env(4, ghost.clone()),
                    env(5, good.clone()),
                    env(6, good.clone()),
                    env(5, good.clone()),
                ]);
                match asked.op {
                    Op::Read(op) => {
                        entries.retain(|e| e.seq > op.after);
                        let page = EntryPage {
                            entries,
                            gap: None,
                            next: 6,
                            head: 6,
                        };
                        Some(Outcome::Ok(Reply::Page(page)))
                    }
                    _ => None,
                }
            });
        })
        .await;
    let past = scene
        .bob
        .history(CHANNEL, History::After(0), 100)
        .await
        .unwrap();
    let shown: Vec<_> = past.iter().map(|m| (m.seq, said(m))).collect();
    assert_eq!(
        shown,
        [(5, "good")],
        "the ghost and the replays are left out"
    );
}

#[tokio::test]
async fn a_forged_record_in_a_known_place_is_not_kept() {
    let scene = Scene::new().await;
    let good = env(3, says(&scene.ada, 1, "good"));
    let freeze = scene
        .ada
        .ctl(CHANNEL, Some(scene.head), CtlBody::Freeze { on: true });
    let fourth = ctl(4, &freeze);
    scene
        .liar
        .tell(|script| script.channel(CHANNEL).extend([good, fourth]))
        .await;
    scene.bob.channel(CHANNEL).await.unwrap();
    let body = CtlBody::Add {
        user: *scene.eve.log.user_id(),
        ident: scene.eve.log.head(),
        role: Role::Admin,
    };
    let honest = scene.ada.ctl(CHANNEL, Some(scene.head), body);
    let forged = ctl(
        3,
        &Record::sign(label::CONTROL, honest.body(), &scene.eve.machine),
    );
    scene
        .liar
        .tell(move |script| {
            script.lie(move |asked| match asked.op {
                Op::CtlFetch(_) => {
                    let entries = vec![forged.clone()];
                    let page = EntryPage {
                        entries,
                        gap: None,
                        next: 4,
                        head: 4,
                    };
                    Some(Outcome::Ok(Reply::Page(page)))
                }
                _ => None,
            });
        })
        .await;
    assert_eq!(scene.bob.channel(CHANNEL).await.unwrap().members().len(), 2);
    // What is kept still makes a channel.
    let known = scene.bob.known_channels().await.unwrap();
    assert_eq!(
        known.iter().map(|c| c.members().len()).collect::<Vec<_>>(),
        [2]
    );
    scene.bob.follow(CHANNEL).await.unwrap();
}

#[tokio::test]
async fn entries_that_wait_for_an_identity_are_bounded_and_none_is_lost() {
    let mut scene = Scene::following().await;
    let carol = Person::new(scene.liar.id, "carol", 40);
    let (user, ident) = (*carol.log.user_id(), carol.log.head());
    let add = scene.ada.ctl(
        CHANNEL,
        Some(scene.head),
        CtlBody::Add {
            user,
            ident,
            role: Role::Member,
        },
    );
    let genesis = carol.genesis.clone();
    let mut log = vec![ctl(3, &add)];
    log.extend((1..=300).map(|ctr| env(ctr + 3, says(&carol, ctr, &ctr.to_string()))));
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    scene
        .liar
        .tell(move |script| {
            script.learn(genesis);
            script.channel(CHANNEL).extend(log);
            script.lie(move |asked| match asked.op {
                Op::IdentFetch(op) if op.user == user => Some(Outcome::Unknown("later".into())),
                Op::Unsubscribe(_) => {
                    tell.try_send(()).ok();
                    Some(Outcome::Ok(Reply::Done(Nothing {})))
                }
                _ => None,
            });
            script.push_log(LogId::Channel(CHANNEL), 2);
        })
        .await;
    let stopped = tokio::time::timeout(SOON, told.recv());
    stopped
        .await
        .expect("it stops listening")
        .expect("the liar runs");
    scene
        .liar
        .tell(|script| {
            script.be_honest();
            script.release();
        })
        .await;
    for ctr in 1..=300 {
        assert!(scene.until(&ctr.to_string()).await.is_empty());
    }
}
