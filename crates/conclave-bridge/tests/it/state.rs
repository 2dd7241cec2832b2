//! The pure machine of a session, by virtual time; and the policy's files.

use crate::world::{OPS, message, whisper};
use conclave_bridge::files;
use conclave_bridge::policy::{BadPolicy, Level, Levels, Lowered, Policy, Scope};
use conclave_bridge::render::Key;
use conclave_bridge::state::urgency::{When, when};
use conclave_bridge::state::{Age, Home, HomeId, Input, Message, Output, State, UNREAD_MAX, Why};
use conclave_bridge::tool::Sets;
use conclave_proto::body::Priority;
use conclave_proto::id::{MsgId, ServerId};
use conclave_proto::key::Secret;
use conclave_proto::profile::Status;
use conclave_proto::time::{Mono, Now, UnixMs};
use std::collections::BTreeMap;
use std::fs;

const SERVER: ServerId = ServerId::new([1; 32]);

pub(crate) fn at(ms: u64) -> Now {
    Now {
        mono: Mono(ms),
        wall: crate::world::wall().plus(ms),
    }
}

fn home(level: Level) -> Box<Home> {
    let mut policy = Policy::first(SERVER, UnixMs(0));
    policy.levels = [(Scope::Default, level)].into();
    let levels = Levels::new(policy, Lowered::default());
    Box::new(Home {
        name: "local".into(),
        levels,
        senders: crate::world::known(),
        channels: [(OPS, false)].into(),
        me: Some("alice/desk/main".parse().unwrap()),
        carries: BTreeMap::new(),
        status: None,
    })
}

pub(crate) fn state() -> State {
    let mut state = State::new(at(0), [1; 32], Sets::default());
    state.handle(at(0), Input::Home(HomeId(0), home(Level::Converse)));
    state.handle(at(0), Input::HostReady);
    state
}

fn arrive(state: &mut State, now: Now, message: Message) {
    state.handle(now, Input::Arrived(Box::new(message), Age::Live));
}

fn outputs(state: &mut State) -> Vec<Output> {
    std::iter::from_fn(|| state.poll_output()).collect()
}

fn numbered(n: u16) -> Message {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&n.to_be_bytes());
    Message {
        id: MsgId::new(id),
        seq: n.into(),
        ..message(1, "x")
    }
}

#[test]
fn the_same_message_twice_is_shown_once() {
    let mut state = state();
    arrive(&mut state, at(0), message(1, "a"));
    arrive(&mut state, at(0), message(1, "a"));
    assert_eq!((state.unread(), outputs(&mut state).len()), (1, 1));
}

#[test]
fn what_is_announced_as_a_number_is_announced_again_only_after_a_minute() {
    let mut state = state();
    (0..30).for_each(|n| arrive(&mut state, at(0), numbered(n)));
    assert_eq!(outputs(&mut state).len(), 21);
    arrive(&mut state, at(1), numbered(30));
    assert_eq!(outputs(&mut state), []);
    assert_eq!(state.next_timeout(), Some(Mono(60_000)));
    state.handle(at(60_000), Input::Timeout);
    let said = outputs(&mut state);
    let [Output::Push(frame)] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(
        frame.content.contains("31 messages are unread"),
        "{}",
        frame.content
    );
    assert_eq!(state.next_timeout(), None);
}

#[test]
fn reading_everything_cancels_the_announcement() {
    let mut state = state();
    (0..31).for_each(|n| arrive(&mut state, at(0), numbered(n)));
    assert_eq!(state.take_unread(at(1), 100, 1 << 20).len(), 31);
    assert_eq!((state.unread(), state.next_timeout()), (0, None));
}

#[test]
fn what_finds_no_room_is_asked_for_again_once_the_rest_is_read() {
    let mut state = state();
    let many = u16::try_from(UNREAD_MAX).unwrap() + 5;
    (0..many).for_each(|n| arrive(&mut state, at(0), numbered(n)));
    assert_eq!((state.unread(), state.owes_more()), (UNREAD_MAX, false));
    assert_eq!(
        state.take_unread(at(0), UNREAD_MAX, usize::MAX).len(),
        UNREAD_MAX
    );
    assert!(state.owes_more());
    assert!(!state.owes_more());
}

#[test]
fn what_is_urgent_finds_room_and_interrupts_whatever_waits() {
    let mut state = state();
    let low = |n| Message {
        priority: Priority::Low,
        ..numbered(n)
    };
    let many = u16::try_from(UNREAD_MAX).unwrap();
    (0..many).for_each(|n| arrive(&mut state, at(0), low(n)));
    assert_eq!(outputs(&mut state), []);
    let urgent = |n| Message {
        priority: Priority::Now,
        ..whisper(n, "urgent")
    };
    arrive(&mut state, at(1), urgent(9));
    let said = outputs(&mut state);
    let [Output::Push(frame)] = said.as_slice() else {
        panic!("{said:?}")
    };
    assert!(frame.content.contains("urgent"), "{}", frame.content);
    assert_eq!(state.unread(), UNREAD_MAX);
    let read = state.take_unread(at(2), UNREAD_MAX, usize::MAX);
    assert!(read[0].content.contains("urgent"));
    assert!(state.owes_more(), "what it displaced is in the replica");
}

#[test]
fn what_finds_no_room_is_announced_unless_it_is_never_pushed() {
    let mut state = state();
    let many = u16::try_from(UNREAD_MAX).unwrap();
    (0..many).for_each(|n| arrive(&mut state, at(0), numbered(n)));
    let later = at(120_000);
    state.handle(later, Input::Timeout);
    outputs(&mut state);
    let later = at(240_000);
    let low = Message {
        priority: Priority::Low,
        ..numbered(many)
    };
    arrive(&mut state, later, low);
    assert_eq!(outputs(&mut state), []);
    arrive(&mut state, later, numbered(many + 1));
    let said = outputs(&mut state);
    let [Output::Push(frame)] = said.as_slice() else {
        panic!("{said:?}")
    };
    let text = "1000 or more messages are unread";
    assert!(frame.content.contains(text), "{}", frame.content);
}

#[test]
fn a_pending_wait_takes_the_message_and_the_host_gets_no_push() {
    let mut state = state();
    state.handle(at(0), Input::Waits(1));
    arrive(&mut state, at(0), message(1, "a"));
    assert_eq!(outputs(&mut state), [Output::Wake]);
    state.handle(at(0), Input::Waits(0));
    assert!(matches!(outputs(&mut state).as_slice(), [Output::Push(_)]));
}

#[test]
fn before_the_policy_is_known_a_message_permits_nothing() {
    let mut state = State::new(at(0), [1; 32], Sets::default());
    let frame = state.show(at(0), &message(1, "a"), Age::Live, 0);
    assert_eq!(frame.attributes.value(Key::Level), Some("notify"));
    assert!(!state.tell_offer().emit);
}

#[test]
fn with_several_servers_every_message_names_its_own() {
    let mut state = state();
    let alone = state.show(at(0), &message(1, "a"), Age::Live, 0);
    assert_eq!(alone.attributes.value(Key::Server), None);
    state.handle(at(0), Input::Home(HomeId(1), home(Level::Mute)));
    let one_of_two = state.show(at(0), &message(1, "a"), Age::Live, 0);
    assert_eq!(one_of_two.attributes.value(Key::Server), Some("local"));
    // The other server's levels are its own.
    arrive(
        &mut state,
        at(0),
        Message {
            home: HomeId(1),
            ..whisper(2, "b")
        },
    );
    assert_eq!(state.unread(), 0);
    assert!(matches!(
        outputs(&mut state).as_slice(),
        [Output::Mark(HomeId(1), ..)]
    ));
}

#[test]
fn history_never_permits_acting() {
    let mut state = state();
    let mut acting = home(Level::Act);
    let mut policy = acting.levels.policy().clone();
    let user = message(1, "a").sender.user;
    policy.verified.insert(user);
    policy.act.insert(conclave_bridge::policy::Grant {
        user,
        scope: Scope::Default,
    });
    acting.levels = Levels::new(policy, Lowered::default());
    state.handle(at(0), Input::Home(HomeId(0), acting));
    let level = |state: &mut State, age| {
        let frame = state.show(at(0), &message(1, "a"), age, 0);
        frame.attributes.value(Key::Level).map(str::to_owned)
    };
    assert_eq!(level(&mut state, Age::Live).as_deref(), Some("act"));
    assert_eq!(level(&mut state, Age::History).as_deref(), Some("converse"));
}

#[test]
fn two_frames_of_one_session_have_different_gutters() {
    let mut state = state();
    let first = state.show(at(0), &message(1, "a"), Age::Live, 0);
    let second = state.show(at(0), &message(1, "a"), Age::Live, 0);
    assert_ne!(first.content, second.content);
}

#[test]
fn a_policy_file_counts_only_with_the_owners_signature() {
    let dir = tempfile::tempdir().unwrap();
    let owner = Secret::from_seed(&[4; 32]);
    let keys = [owner.owner_key()];
    let level = || {
        files::load(dir.path(), &SERVER, &keys)
            .0
            .level(Scope::Default)
    };
    assert_eq!(level(), Level::Notify);
    let record = Policy::first(SERVER, UnixMs(1)).sign(&owner).unwrap();
    files::keep_policy(dir.path(), &record).unwrap();
    assert_eq!(level(), Level::Converse);
    let mut lowered = files::load(dir.path(), &SERVER, &keys).0;
    lowered.lower(Scope::Default, Level::Mute).unwrap();
    files::keep_lowered(dir.path(), lowered.lowered()).unwrap();
    assert_eq!(level(), Level::Mute);
    files::keep_policy(dir.path(), &record).unwrap();
    assert_eq!(
        level(),
        Level::Converse,
        "a new decision of the human starts afresh"
    );
    let other = Policy::first(SERVER, UnixMs(2))
        .sign(&Secret::from_seed(&[5; 32]))
        .unwrap();
    fs::write(dir.path().join("policy"), other.bytes().as_slice()).unwrap();
    let (levels, fault) = files::load(dir.path(), &SERVER, &keys);
    assert_eq!(
        (levels.level(Scope::Default), fault),
        (Level::Notify, Some(BadPolicy::Unsigned))
    );
}

#[test]
fn notices_of_one_kind_do_not_drown_the_agent_or_another_kind() {
    let mut state = state();
    outputs(&mut state);
    let told = (0..1_000).filter(|_| state.notice(at(1), "malformed", "An entry was dropped."));
    let told = told.count();
    assert!((1..=10).contains(&told), "{told}");
    assert!(state.notice(at(1), "server_fork", "SECURITY: …"));
    assert_eq!(outputs(&mut state).len(), told + 1);
    assert!(state.notice(at(60_001), "malformed", "An entry was dropped."));
}

/// A home of this status, where this session carries `eng/web` in #ops.
fn busy(status: Option<Status>) -> Input {
    let carries = [(OPS, vec!["eng/web".parse().unwrap()])].into();
    let home = Home {
        carries,
        status,
        ..*home(Level::Converse)
    };
    Input::Home(HomeId(0), Box::new(home))
}

fn urgent(n: u8, priority: Priority, mentions: &str) -> Message {
    Message {
        priority,
        mentions: vec![mentions.into()],
        ..message(n, "x")
    }
}

#[test]
fn when_a_message_is_pushed_follows_from_its_priority_and_the_status() {
    use Priority::{Low, Next, Now as Interrupts};
    use Status::{Dnd, Idle, Waiting, Working};
    let within = When::Within(600_000);
    for (priority, mentioned, by_status) in [
        (
            Interrupts,
            false,
            [When::Now, When::Now, When::Now, When::Now],
        ),
        (Next, false, [When::Now, When::Now, within, When::Held]),
        (Next, true, [When::Now, When::Now, within, When::Held]),
        (Low, false, [When::Never; 4]),
        (Low, true, [When::Now, When::Now, within, When::Held]),
    ] {
        for (status, wanted) in [Idle, Waiting, Working, Dnd].into_iter().zip(by_status) {
            let got = when(priority, Some(status), mentioned);
            assert_eq!(got, wanted, "{priority} {status} {mentioned}");
        }
        assert_eq!(when(priority, None, mentioned), by_status[0]);
    }
}

#[test]
fn what_is_held_is_pushed_when_the_status_or_the_time_says_so_and_fetched_at_any_time() {
    let mut state = state();
    state.handle(at(0), busy(Some(Status::Working)));
    arrive(&mut state, at(0), urgent(1, Priority::Next, "nobody"));
    arrive(&mut state, at(0), urgent(2, Priority::Low, "nobody"));
    assert_eq!((outputs(&mut state), state.unread()), (Vec::new(), 2));
    assert_eq!(state.next_timeout(), Some(Mono(600_000)));
    arrive(&mut state, at(5), urgent(3, Priority::Now, "nobody"));
    assert_eq!(pushed(&mut state), ["3"]);
    state.handle(at(600_000), Input::Timeout);
    assert_eq!(pushed(&mut state), ["1"]);
    // In dnd it waits for the end of that, however long.
    state.handle(at(600_000), busy(Some(Status::Dnd)));
    arrive(&mut state, at(600_000), urgent(4, Priority::Low, "main"));
    assert_eq!(state.next_timeout(), None);
    assert_eq!(pushed(&mut state), Vec::<String>::new());
    state.handle(at(900_000), busy(Some(Status::Idle)));
    assert_eq!(pushed(&mut state), ["4"]);
    // What interrupts is fetched first, and nothing is left out.
    let all = state.take_unread(at(900_000), 10, 1 << 20);
    let order: Vec<_> = all.iter().map(|f| f.attributes.value(Key::Seq)).collect();
    assert_eq!(order, [Some("3"), Some("1"), Some("2"), Some("4")]);
    let with = |key| {
        all.iter()
            .map(|f| f.attributes.value(key))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        with(Key::Priority),
        [Some("now"), None, Some("low"), Some("low")]
    );
    assert_eq!(with(Key::Mention), [None, None, None, Some("1")]);
}

fn pushed(state: &mut State) -> Vec<String> {
    let pushes = outputs(state)
        .into_iter()
        .filter_map(|output| match output {
            Output::Push(frame) => frame.attributes.value(Key::Seq).map(str::to_owned),
            _ => None,
        });
    pushes.collect()
}

#[test]
fn what_is_for_groups_that_are_not_carried_is_passed_over_in_silence() {
    let mut state = state();
    state.handle(at(0), busy(None));
    let to = |n, groups: &[&str]| Message {
        to: groups.iter().map(|group| group.parse().unwrap()).collect(),
        ..message(n, "x")
    };
    arrive(&mut state, at(0), to(1, &["ops", "english"]));
    arrive(&mut state, at(0), to(2, &["eng/web/css"]));
    let marks: Vec<Output> = outputs(&mut state);
    assert!(
        matches!(
            marks.as_slice(),
            [
                Output::Mark(_, _, _, Why::Passed),
                Output::Mark(_, _, _, Why::Passed)
            ]
        ),
        "{marks:?}"
    );
    arrive(&mut state, at(0), to(3, &["ops", "eng"]));
    assert_eq!((pushed(&mut state), state.unread()), (vec!["3".into()], 1));
    // The same words to this session alone are for it.
    arrive(&mut state, at(0), whisper(1, "x"));
    assert_eq!(state.unread(), 2);
}

/// Eve says something under the id of bob's message.
fn forged(n: u8, text: &str) -> Message {
    Message {
        from: "eve/box/x".parse().unwrap(),
        ..message(n, text)
    }
}

#[test]
fn nobody_takes_anothers_message_away_by_its_id() {
    let mut state = state();
    arrive(&mut state, at(0), forged(1, "first"));
    arrive(&mut state, at(0), message(1, "the true one"));
    assert_eq!(state.unread(), 2);
    state.take_unread(at(0), 10, 1 << 20);
    // The same words in another log are no news.
    let copy = whisper(1, "the true one");
    arrive(&mut state, at(0), copy);
    assert_eq!(state.unread(), 0);
}

#[test]
fn every_copy_of_what_was_shown_is_marked_and_does_not_come_again() {
    let marks = |state: &mut State| {
        let marks = outputs(state)
            .into_iter()
            .filter_map(|output| match output {
                Output::Mark(_, log, _, why) => Some((log, why)),
                _ => None,
            });
        marks.collect::<Vec<_>>()
    };
    let (here, there) = (message(1, "a").log, whisper(1, "a").log);
    let mut state = state();
    for copy in [message(1, "a"), whisper(1, "a"), whisper(1, "a")] {
        arrive(&mut state, at(0), copy);
    }
    // Until the first is shown, the second is what a restart would bring.
    assert_eq!((marks(&mut state), state.unread()), (Vec::new(), 1));
    state.take_unread(at(0), 10, 1 << 20);
    assert_eq!(
        marks(&mut state),
        [(here, Why::Shown), (there, Why::Passed)]
    );
    // One that comes later.
    arrive(&mut state, at(0), whisper(2, "b"));
    state.take_unread(at(0), 10, 1 << 20);
    arrive(&mut state, at(0), message(2, "b"));
    assert_eq!(
        marks(&mut state),
        [(there, Why::Shown), (here, Why::Passed)]
    );
    // The same one again is neither.
    arrive(&mut state, at(0), whisper(2, "b"));
    assert_eq!((marks(&mut state), state.unread()), (Vec::new(), 0));
}

#[test]
fn an_answer_goes_on_with_the_conversation_of_whom_it_goes_to() {
    let mut state = state();
    let depth = |m: Message, hop| Message { hop, ..m };
    let id = MsgId::new([1; 16]);
    for m in [depth(forged(1, "x"), 7), depth(message(1, "y"), 2)] {
        arrive(&mut state, at(0), m);
    }
    state.take_unread(at(0), 10, 1 << 20);
    let of = |state: &State, from: &str| {
        let thread = state.thread(id, |thread| thread.from.to_string() == from);
        thread.map(|thread| thread.hop)
    };
    assert_eq!(of(&state, "bob/laptop/main"), Some(2));
    assert_eq!(of(&state, "eve/box/x"), Some(7));
    // Neither's, silently.
    assert_eq!(of(&state, "carol/mac/ui"), None);
}
