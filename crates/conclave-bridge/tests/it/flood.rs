//! Floods: what reaches the agent's context is bounded, whatever comes. And what a pause and quiet hours hold.

use crate::state::{at, state};
use crate::world::{message, whisper};
use conclave_bridge::policy::{Levels, Lowered, Policy, Quiet};
use conclave_bridge::state::{Age, Home, HomeId, Input, Message, Output, Stand, State};
use conclave_proto::body::Priority;
use conclave_proto::id::{MsgId, ServerId};
use conclave_proto::time::UnixMs;
use std::collections::BTreeMap;

fn numbered(n: u32, text: &str) -> Message {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    Message {
        id: MsgId::new(id),
        seq: n.into(),
        mentions: vec!["alice/desk/main".into()],
        ..message(1, text)
    }
}

fn pushed(state: &mut State) -> Vec<(String, usize)> {
    let outputs = std::iter::from_fn(|| state.poll_output());
    let frames = outputs.filter_map(|output| match output {
        Output::Push(frame) => Some((frame.content.clone(), frame.content.len())),
        _ => None,
    });
    frames.collect()
}

#[test]
fn b8_29_a_flood_grows_the_agents_context_by_60_kb_a_minute_at_most_and_is_one_digest() {
    let large = "large ".repeat(11_000);
    let floods: [(u32, &str, u64); 3] = [
        (10_000, "@main look", 12),
        (60, &large, 2_000),
        (1_000, "x", 120),
    ];
    for (count, text, every_ms) in floods {
        let mut state = state();
        let mut went: Vec<(u64, usize)> = Vec::new();
        let mut digests = 0;
        for n in 0..count {
            let now = u64::from(n) * every_ms;
            let came = Input::Arrived(Box::new(numbered(n, text)), Age::Live);
            state.handle(at(now), came);
            for (content, bytes) in pushed(&mut state) {
                digests += usize::from(content.contains("are unread"));
                went.push((now, bytes));
            }
        }
        let within = |from: u64| {
            went.iter()
                .filter(move |(now, _)| (from..from + 60_000).contains(now))
        };
        for (from, _) in &went {
            let bytes: usize = within(*from).map(|(_, bytes)| bytes).sum();
            assert!(
                bytes <= 60_000,
                "{bytes} bytes in a minute: {count} of {every_ms} ms"
            );
            assert!(within(*from).count() <= 42, "{count}");
        }
        let minutes = usize::try_from(u64::from(count) * every_ms / 60_000).unwrap();
        assert!((1..=minutes + 1).contains(&digests), "{digests} digests");
    }
}

fn night(minute: u16) -> Input {
    Input::Stand(Stand {
        paused: false,
        minute: Some(minute),
    })
}

#[test]
fn in_quiet_hours_only_what_interrupts_wakes_and_the_rest_is_one_digest() {
    let mut state = state();
    let server = ServerId::new([1; 32]);
    let mut policy = Policy::first(server, UnixMs(0));
    policy.quiet = Some(Quiet {
        from: 22 * 60,
        until: 7 * 60,
    });
    let home = Home {
        name: "local".into(),
        levels: Levels::new(policy, Lowered::default()),
        senders: crate::world::known(),
        channels: BTreeMap::new(),
        me: Some("alice/desk/main".parse().unwrap()),
        carries: BTreeMap::new(),
        status: None,
    };
    state.handle(at(0), Input::Home(HomeId(0), Box::new(home)));
    state.handle(at(0), night(23 * 60));
    for n in 0..5 {
        let came = Input::Arrived(Box::new(numbered(n, "good night")), Age::Live);
        state.handle(at(1), came);
    }
    assert_eq!(pushed(&mut state), []);
    let urgent = Message {
        priority: Priority::Now,
        ..whisper(99, "urgent")
    };
    state.handle(at(2), Input::Arrived(Box::new(urgent), Age::Live));
    let woke = pushed(&mut state);
    assert!(woke.len() == 1 && woke[0].0.contains("urgent"), "{woke:?}");
    state.handle(at(3), night(7 * 60));
    let woke = pushed(&mut state);
    assert!(
        woke.len() == 1 && woke[0].0.contains("6 messages are unread"),
        "{woke:?}"
    );
}

#[test]
fn in_a_pause_nothing_wakes_and_afterwards_it_is_one_digest() {
    let mut state = state();
    let stand = |paused| {
        Input::Stand(Stand {
            paused,
            minute: Some(0),
        })
    };
    state.handle(at(0), stand(true));
    let urgent = Message {
        priority: Priority::Now,
        ..whisper(99, "urgent")
    };
    state.handle(at(1), Input::Arrived(Box::new(urgent), Age::Live));
    assert!(!state.notice(at(2), "test", "a notice"));
    assert_eq!((pushed(&mut state), state.unread()), (Vec::new(), 1));
    state.handle(at(3), stand(false));
    let woke = pushed(&mut state);
    assert!(
        woke.len() == 1 && woke[0].0.contains("1 messages are unread"),
        "{woke:?}"
    );
}
