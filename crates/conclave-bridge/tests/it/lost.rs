//! What went by a way and did not come: it is looked for, and goes again.

use crate::state::{at, state};
use crate::world::message;
use conclave_bridge::control::Event;
use conclave_bridge::policy::{Levels, Lowered, Policy, Quiet};
use conclave_bridge::state::{Age, Home, HomeId, Input, Message, Output, Seen, Stand, State};
use conclave_bridge::wake::evidence::find;
use conclave_bridge::wake::{Channel, Given, POINTER_MS, PROOF_MS, WakePath};
use conclave_proto::body::Priority;
use conclave_proto::id::ServerId;
use conclave_proto::time::UnixMs;
use std::collections::BTreeMap;

const NO_CHANNEL: Channel = Channel::Impossible("no flag");

fn with(channel: Channel, inbox: bool) -> State {
    let mut state = state();
    let given = Given { channel, inbox };
    state.handle(at(0), Input::Host(given));
    state
}

fn arrive(state: &mut State, ms: u64, message: Message) {
    state.handle(at(ms), Input::Arrived(Box::new(message), Age::Live));
}

fn outputs(state: &mut State) -> Vec<Output> {
    std::iter::from_fn(|| state.poll_output()).collect()
}

fn lines(state: &mut State) -> Vec<(WakePath, String)> {
    let line = |output: Output| match output {
        Output::Point { path, text } => Some((path, text)),
        _ => None,
    };
    outputs(state).into_iter().filter_map(line).collect()
}

fn seen(text: &str) -> Seen {
    let mut seen = Seen::default();
    find(text, &mut seen);
    seen
}

/// Has the transcript looked at when that is due; it has nothing new.
#[track_caller]
fn looked_in_vain(state: &mut State, ms: u64) {
    state.handle(at(ms), Input::Timeout);
    let out = outputs(state);
    assert!(out.contains(&Output::Look), "not looked for: {out:?}");
    state.handle(at(ms), Input::Looked { none: false });
}

fn carried(state: &mut State, ms: u64, event: Event) -> Vec<String> {
    let frames = state.for_boundary(at(ms), event, 9_000);
    frames.iter().map(|frame| frame.standalone()).collect()
}

#[test]
fn lesson_2_a_pointer_that_did_not_come_goes_again_though_its_way_was_proven() {
    let mut state = with(NO_CHANNEL, true);
    arrive(&mut state, 0, message(1, "a"));
    let first = lines(&mut state);
    state.saw(at(1), &seen(&first[0].1));
    let _notes = state.fetched(at(2));
    assert_eq!(state.take_unread(at(2), 9, 1 << 20).len(), 1);
    state.handle(at(3), Input::Attached(WakePath::Rewake));
    let start = 2 * POINTER_MS;
    arrive(&mut state, start, message(2, "b"));
    assert_eq!(lines(&mut state).len(), 1);
    // Once it may have been chance; then the next way has its turn.
    for (n, path) in [(1, WakePath::Inbox), (2, WakePath::Rewake)] {
        looked_in_vain(&mut state, start + n * POINTER_MS);
        let again = lines(&mut state);
        assert_eq!((again.len(), again[0].0), (1, path), "{again:?}");
        assert!(again[0].1.starts_with("conclave: 1 unread"), "{again:?}");
    }
}

#[test]
fn a_pointer_into_a_turn_is_looked_for_until_the_turn_is_over() {
    let mut state = with(NO_CHANNEL, true);
    state.handle(at(0), Input::Attached(WakePath::Monitor));
    state.hooked(at(0), Event::Prompt);
    arrive(&mut state, 0, message(1, "a"));
    assert_eq!(lines(&mut state)[0].0, WakePath::Monitor);
    state.hooked(at(POINTER_MS - 1), Event::ToolEnd);
    looked_in_vain(&mut state, POINTER_MS);
    assert_eq!(lines(&mut state), [], "it may be shown yet");
    state.hooked(at(POINTER_MS + 1), Event::Stop);
    looked_in_vain(&mut state, POINTER_MS + PROOF_MS);
    let next = lines(&mut state);
    assert!(next.len() == 1 && next[0].0 == WakePath::Inbox, "{next:?}");
}

#[test]
fn a_pointer_stands_for_what_the_one_before_stood_for_when_its_way_breaks() {
    let mut state = with(NO_CHANNEL, false);
    state.handle(at(0), Input::Attached(WakePath::Monitor));
    state.hooked(at(0), Event::Stop);
    arrive(&mut state, 0, message(1, "a"));
    arrive(&mut state, POINTER_MS, message(2, "b"));
    state.handle(at(POINTER_MS), Input::Looked { none: true });
    assert_eq!(lines(&mut state).len(), 2);
    state.handle(
        at(POINTER_MS + 1),
        Input::Detached(WakePath::Monitor, "gone"),
    );
    assert_eq!(carried(&mut state, POINTER_MS + 2, Event::Prompt).len(), 2);
}

#[test]
fn what_the_agent_was_told_of_and_did_not_fetch_comes_with_a_humans_prompt() {
    let mut state = with(NO_CHANNEL, true);
    arrive(&mut state, 0, message(1, "a"));
    let first = lines(&mut state);
    state.saw(at(1), &seen(&first[0].1));
    for (ms, human, count) in [
        (2, true, 0),
        (POINTER_MS, false, 0),
        (POINTER_MS + 1, true, 1),
        (POINTER_MS + 2, true, 0),
    ] {
        state.prompted(at(ms), &Seen::default(), human);
        let text = carried(&mut state, ms, Event::Prompt);
        assert_eq!(text.len(), count, "at {ms}: {text:?}");
    }
}

#[test]
fn what_a_hook_may_have_shown_goes_by_the_channel_as_redelivered() {
    let mut state = with(Channel::Possible, false);
    arrive(&mut state, 0, message(1, "a"));
    let out = outputs(&mut state);
    let [Output::Push(probe)] = out.as_slice() else {
        panic!("{out:?}")
    };
    arrive(&mut state, 1, message(2, "b"));
    assert_eq!(carried(&mut state, 2, Event::Stop).len(), 1);
    state.saw(at(3), &seen(&probe.content));
    state.hooked(at(4), Event::Stop);
    outputs(&mut state);
    looked_in_vain(&mut state, 2 + PROOF_MS);
    let out = outputs(&mut state);
    let pushed = out.iter().find_map(|output| match output {
        Output::Push(frame) => Some(frame.standalone()),
        _ => None,
    });
    let text = pushed.expect("it goes again");
    assert!(
        text.contains("| b") && text.contains("redelivered=1"),
        "{text}"
    );
}

#[test]
fn a_message_that_fits_no_hook_is_told_of_and_keeps_nothing_back() {
    let mut state = with(NO_CHANNEL, false);
    state.hooked(at(0), Event::Stop);
    arrive(&mut state, 0, message(1, "short"));
    for n in [2, 3] {
        arrive(&mut state, 0, message(n, &"xx\n".repeat(990)));
    }
    let text = carried(&mut state, 1, Event::Prompt);
    assert_eq!(text.len(), 2, "{text:?}");
    assert!(text[0].contains("| short"), "{text:?}");
    assert!(text[1].contains("too long for here"), "{text:?}");
    assert_eq!(carried(&mut state, 2, Event::Prompt).len(), 0, "once");
    assert_eq!(state.unread(), 3);
}

fn quiet_home() -> Home {
    let mut policy = Policy::first(ServerId::new([1; 32]), UnixMs(0));
    policy.quiet = Some(Quiet { from: 0, until: 60 });
    Home {
        name: "other".into(),
        levels: Levels::new(policy, Lowered::default()),
        senders: crate::world::known(),
        channels: BTreeMap::new(),
        me: Some("alice/desk/main".parse().unwrap()),
        carries: BTreeMap::new(),
        status: None,
    }
}

#[test]
fn the_end_of_a_pause_is_heard_though_another_server_has_quiet_hours() {
    let stand = |paused, minute| Input::Stand(Stand { paused, minute });
    let mut state = state();
    state.handle(at(0), Input::Home(HomeId(1), Box::new(quiet_home())));
    state.handle(at(0), stand(true, Some(30)));
    arrive(&mut state, 1, message(1, "a"));
    assert_eq!(outputs(&mut state), []);
    state.handle(at(2), stand(false, Some(30)));
    let out = outputs(&mut state);
    assert!(
        out.iter().any(|output| matches!(output, Output::Push(_))),
        "{out:?}"
    );
}

#[test]
fn what_interrupts_is_heard_when_a_pause_ends_within_quiet_hours() {
    let stand = |paused, minute| Input::Stand(Stand { paused, minute });
    let mut state = state();
    state.handle(at(0), Input::Home(HomeId(0), Box::new(quiet_home())));
    state.handle(at(0), stand(true, Some(30)));
    let urgent = Message {
        priority: Priority::Now,
        ..message(1, "urgent")
    };
    arrive(&mut state, 1, urgent);
    arrive(&mut state, 1, message(2, "good night"));
    state.handle(at(2), stand(false, Some(30)));
    let out = outputs(&mut state);
    let [Output::Push(frame)] = out.as_slice() else {
        panic!("{out:?}")
    };
    assert!(frame.content.contains("| urgent"), "{}", frame.content);
}
