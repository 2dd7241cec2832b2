//! The loop guard, as tables and by virtual time: budgets, depth, the two-party breaker, the worm check.

use crate::state::at;
use crate::world::OPS;
use conclave_bridge::guard::polite::is_courtesy;
use conclave_bridge::guard::worm::{BODY_CHARS_MIN, Spread, Worm};
use conclave_bridge::guard::{Guard, Line, Outgoing, Pair, Trip, With, cost};
use conclave_bridge::policy::Quiet;
use conclave_bridge::state::HomeId;
use conclave_bridge::trust::HOP_MAX;
use conclave_proto::body::Priority;
use conclave_proto::id::MsgId;
use conclave_proto::name::SessionPath;
use conclave_proto::reject::Code;
use conclave_proto::time::{Mono, UnixMs};

fn out(text: &str) -> Outgoing<'_> {
    Outgoing {
        hop: 0,
        root: None,
        pairs: &[],
        units: 1,
        text,
        expects_reply: false,
        me: None,
    }
}

#[test]
fn budgets_refill_by_time() {
    let mut guard = Guard::new(Mono(0));
    for _ in 0..60 {
        guard.send(at(0), out("x")).unwrap();
    }
    let refusal = guard.send(at(0), out("x")).unwrap_err();
    assert_eq!(
        (refusal.reject.code, refusal.reject.retry_after_ms),
        (Code::RateLimited, Some(5_000))
    );
    assert!(guard.send(at(4_999), out("x")).is_err());
    guard.send(at(5_000), out("x")).unwrap();
    assert!(guard.send(at(5_000), out("x")).is_err());
}

#[test]
fn a_call_costs_what_it_says_and_more_if_it_interrupts() {
    for (channels, whispers, priority, units) in [
        (1, 0, Priority::Next, 1),
        (0, 1, Priority::Low, 1),
        (3, 0, Priority::Next, 1),
        (2, 3, Priority::Next, 4),
        (1, 0, Priority::Now, 3),
        (0, 2, Priority::Now, 4),
    ] {
        assert_eq!(cost(channels, whispers, priority), units);
    }
    let mut guard = Guard::new(Mono(0));
    let dear = Outgoing {
        units: 19,
        ..out("x")
    };
    for _ in 0..3 {
        guard.send(at(0), dear).unwrap();
    }
    // Three are left: too few for another such call, and not taken by its refusal.
    assert_eq!(
        guard.send(at(0), dear).unwrap_err().reject.retry_after_ms,
        Some(80_000)
    );
    let rest = (0..9).filter(|_| guard.send(at(0), out("x")).is_ok());
    assert_eq!(rest.count(), 3);
}

#[test]
fn one_conversation_cannot_use_up_the_session() {
    let mut guard = Guard::new(Mono(0));
    let in_root = Outgoing {
        root: Some(MsgId::new([1; 16])),
        ..out("x")
    };
    for _ in 0..40 {
        guard.send(at(0), in_root).unwrap();
    }
    assert_eq!(
        guard
            .send(at(0), in_root)
            .unwrap_err()
            .reject
            .retry_after_ms,
        Some(90_000)
    );
    guard.send(at(0), out("another")).unwrap();
}

#[test]
fn b8_24_a_forged_depth_of_zero_still_meets_the_budgets() {
    let mut guard = Guard::new(Mono(0));
    let sent = (0..200)
        .filter(|_| guard.send(at(0), out("re")).is_ok())
        .count();
    assert_eq!(sent, 60);
}

#[test]
fn depth_counts_along_the_answers_and_ends() {
    assert_eq!(Guard::hop(None), 0);
    assert_eq!(Guard::hop(Some(4)), 5);
    let mut guard = Guard::new(Mono(0));
    guard
        .send(
            at(0),
            Outgoing {
                hop: HOP_MAX,
                ..out("x")
            },
        )
        .unwrap();
    let refusal = guard
        .send(
            at(0),
            Outgoing {
                hop: HOP_MAX + 1,
                ..out("x")
            },
        )
        .unwrap_err();
    assert_eq!(refusal.reject.code, Code::HopLimit);
}

/// What models write when they have nothing to say.
const POLITE: &[&str] = &[
    "Thank you so much! I really appreciate your thorough help.",
    "You're very welcome! Happy to help anytime.",
    "Likewise, it's been a pleasure working with you!",
    "Thanks!",
    "thx",
    "ty 🙏",
    "👍",
    "🎉🎉🎉",
    "You’re welcome, Bob! 😊",
    "No problem at all, glad I could help!",
    "Got it, thanks.",
    "Understood.",
    "Ok.",
    "Okay, sounds good!",
    "Great work, everyone!",
    "Perfect, thank you!",
    "Awesome — thanks again for all your support!",
    "It was wonderful collaborating with you. Looking forward to working together again soon!",
    "My pleasure! Don't hesitate to reach out if you need anything else.",
    "Is there anything else I can help you with?",
    "Thank you for your kind words!",
    "I appreciate the kind words, and I'm glad it was helpful.",
    "Anytime! Have a great day!",
    "You too! Take care and have a wonderful week!",
    "Same here, it was a true pleasure.",
    "Thanks for your quick and thoughtful feedback!",
    "Absolutely, happy to help whenever you need it!",
    "Indeed, excellent teamwork!",
    "Congratulations to us both on a great collaboration!",
    "Acknowledged.",
    "Roger that!",
    "Noted, thanks for letting me know!",
    "Goodbye, and best wishes!",
    "Cheers, mate!",
    "I'm truly grateful for your patience and professionalism.",
    "Wonderful! I'm always here if you have any questions.",
    "The feeling is mutual! Your attention to detail was outstanding.",
    "Vielen Dank für deine Hilfe!",
    "Gern geschehen, jederzeit wieder!",
    "Merci beaucoup, c'était un plaisir!",
    "De rien, avec plaisir !",
    "¡Muchas gracias por tu ayuda!",
    "De nada, un placer!",
    "Muito obrigado!",
    "Grazie mille, è stato un piacere!",
    "非常感谢你的帮助！",
    "不客气，很高兴能帮到你！",
    "ありがとうございます！",
    "どういたしまして。お疲れ様でした！",
];

/// What is short and says something.
const CONTENT: &[&str] = &[
    "yes",
    "no",
    "deployed 3f2a1c",
    "LGTM, merge it",
    "merge it, thanks",
    "Thanks, merged.",
    "done",
    "approved",
    "go ahead",
    "stop",
    "wait",
    "rejected",
    "ship it",
    "option B",
    "B",
    "42",
    "v1.4.2",
    "src/lib.rs",
    "Thanks! The bug is in src/guard.rs.",
    "main.rs is fixed",
    "tests pass",
    "tests failed",
    "it fails again",
    "main is broken",
    "rebased",
    "`cargo test` is green",
    "x = y",
    "PR #12 is open",
    "at 14:02",
    "tomorrow",
    "please review the branch",
    "ok, deploying now",
    "Great, but the build is red",
    "thank you, revert the migration",
    "I disagree",
    "blocked by alice",
    "ok?",
    "All good?",
    "Can you help me with this?",
    "Could you look at it, please?",
    "use postgres",
    "the second one",
    "not yet",
    "Thanks, I will take the login page.",
    "danke, aber der Test ist rot",
    "merci, mais le test échoue",
    "谢谢，测试失败",
    "ありがとう、テストが失敗しました",
    "http://example.org",
    "{\"ok\":true}",
    "",
];

#[test]
fn courtesies_are_known_in_many_words_and_tongues() {
    let missed: Vec<_> = POLITE
        .iter()
        .filter(|text| !is_courtesy(text, &["bob"]))
        .collect();
    assert_eq!(missed, Vec::<&&str>::new());
    assert!(POLITE.len() >= 40);
}

#[test]
fn what_is_short_and_says_something_is_no_courtesy() {
    let caught: Vec<_> = CONTENT
        .iter()
        .filter(|text| is_courtesy(text, &["bob"]))
        .collect();
    assert_eq!(caught, Vec::<&&str>::new());
    assert!(CONTENT.len() >= 40);
    // A name is nothing only where it is somebody's.
    assert!(!is_courtesy("Thanks, Carol!", &["bob"]));
    assert!(!is_courtesy("bob", &["bob"]));
}

fn bob() -> SessionPath {
    "bob/laptop/main".parse().unwrap()
}

fn carol() -> SessionPath {
    "carol/box/web".parse().unwrap()
}

fn with_bob() -> Pair {
    Pair {
        home: HomeId(0),
        with: With::Session(bob()),
    }
}

fn in_ops() -> Pair {
    Pair {
        home: HomeId(0),
        with: With::Channel(OPS),
    }
}

/// A guard, a place, and what is said there.
struct Talk {
    guard: Guard,
    pair: Pair,
    now: u64,
}

impl Talk {
    fn new(pair: Pair) -> Self {
        Self {
            guard: Guard::new(Mono(0)),
            pair,
            now: 0,
        }
    }

    fn says(&mut self, text: &str) -> Result<(), conclave_bridge::guard::Stop> {
        self.asks(text, false)
    }

    fn asks(
        &mut self,
        text: &str,
        expects_reply: bool,
    ) -> Result<(), conclave_bridge::guard::Stop> {
        self.now += 1_000;
        let pairs = [self.pair.clone()];
        let out = Outgoing {
            pairs: &pairs,
            expects_reply,
            ..out(text)
        };
        self.guard.send(at(self.now), out)
    }

    fn hears(&mut self, from: &SessionPath, text: &str) -> bool {
        self.now += 1_000;
        let line = Line {
            text,
            from: Some(from),
            expects_reply: false,
            human: false,
            me: None,
        };
        self.guard.heard(Mono(self.now), &self.pair.clone(), &line)
    }

    /// Lets both thank each other in other words each time, until one is stopped; returns how many were said.
    fn thank(&mut self) -> usize {
        for (n, words) in POLITE.iter().enumerate() {
            let stopped = match n % 2 {
                0 => self.says(words).is_err(),
                _ => self.hears(&bob(), words),
            };
            if stopped {
                return n;
            }
        }
        panic!("the breaker never opened");
    }
}

#[test]
fn b8_23_two_polite_agents_are_parted_within_eight_messages() {
    for pair in [with_bob(), in_ops()] {
        let mut talk = Talk::new(pair.clone());
        // The eighth came and wakes nobody.
        assert_eq!(talk.thank(), 7, "{pair:?}");
        let trip = talk.guard.poll_trip().unwrap();
        assert!(
            matches!(
                &trip,
                Trip::Loop {
                    for_ms: Some(600_000),
                    ..
                }
            ),
            "{trip:?}"
        );
        let stop = talk.says("Thanks again!").unwrap_err();
        assert_eq!((stop.kind, stop.reject.code), ("loop", Code::RateLimited));
        assert!(stop.reject.retry_after_ms.is_some_and(|ms| ms > 590_000));
        assert!(stop.hint.contains("conclave resume"), "{}", stop.hint);
        assert!(talk.hears(&bob(), "You're welcome!"));
        talk.now += 600_000;
        talk.says("Thanks!").unwrap();
    }
}

#[test]
fn while_a_breaker_is_open_questions_and_their_answers_pass() {
    let mut talk = Talk::new(with_bob());
    talk.thank();
    assert!(talk.says("the build of main is red").is_err());
    talk.asks("which build is red", true).unwrap();
    assert!(!talk.hears(&bob(), "main"), "it answers");
    assert!(talk.hears(&bob(), "and by the way"), "that one does not");
    talk.hears(&bob(), "Where is the log?");
    talk.says("in target").unwrap();
    // A courtesy with a question's flag is none.
    assert!(talk.asks("Thank you!", true).is_err());
}

#[test]
fn in_a_channel_only_courtesies_of_the_two_are_held() {
    let mut talk = Talk::new(in_ops());
    talk.thank();
    talk.says("the build of main is red").unwrap();
    assert!(!talk.hears(&carol(), "Thanks!"));
    assert!(!talk.hears(&bob(), "I look at the build"));
    assert!(talk.says("Thanks!").is_err());
}

#[test]
fn a_third_party_a_human_and_content_set_the_count_back() {
    let mut talk = Talk::new(in_ops());
    for n in 0..40 {
        talk.says("Thanks!").unwrap();
        let from = if n % 3 == 2 { carol() } else { bob() };
        assert!(!talk.hears(&from, "You're welcome!"), "{n}");
    }
    let mut talk = Talk::new(with_bob());
    for n in 0..20 {
        talk.says("ok").unwrap();
        let text = if n % 3 == 2 { "the tests fail" } else { "ok" };
        assert!(!talk.hears(&bob(), text));
    }
    let mut talk = Talk::new(with_bob());
    for n in 0..20 {
        talk.says("ok").unwrap();
        let line = Line {
            text: "ok",
            from: Some(&bob()),
            expects_reply: false,
            human: n % 3 == 2,
            me: None,
        };
        talk.now += 1;
        assert!(!talk.guard.heard(Mono(talk.now), &with_bob(), &line));
    }
}

#[test]
fn short_answers_to_questions_are_never_counted() {
    let mut talk = Talk::new(with_bob());
    for n in 0..25 {
        talk.says(&format!("is step {n} right?")).unwrap();
        assert!(!talk.hears(&bob(), "ok"), "{n}");
    }
}

#[test]
fn a_peer_that_only_acknowledges_in_a_channel_is_no_exchange() {
    let mut talk = Talk::new(in_ops());
    for _ in 0..30 {
        assert!(!talk.hears(&bob(), "ok"));
    }
}

#[test]
fn saying_the_same_again_is_saying_nothing_unless_it_has_numbers() {
    let mut talk = Talk::new(with_bob());
    let mut said = 0;
    while talk
        .says("I am standing by for whatever the release needs from me")
        .is_ok()
        && said < 40
    {
        talk.hears(
            &bob(),
            "The release manager stays at your side at every step",
        );
        said += 1;
    }
    assert!(said <= 5, "{said}");
    let mut talk = Talk::new(with_bob());
    for n in 0..25 {
        talk.says(&format!(
            "still building the release, {n} of 40 crates are done now"
        ))
        .unwrap();
    }
}

#[test]
fn the_third_trip_of_a_day_stays_until_a_human_ends_it() {
    let mut talk = Talk::new(with_bob());
    for trip in 1..=3 {
        talk.thank();
        let told = talk.guard.poll_trip();
        let Some(Trip::Loop { for_ms, .. }) = told else {
            panic!("{told:?}")
        };
        assert_eq!(for_ms.is_none(), trip == 3);
        // A prompt of a human ends what may end.
        talk.guard.human(Mono(talk.now));
        assert_eq!(talk.says("Thanks!").is_err(), trip == 3, "{trip}");
    }
    talk.now += 5 * 3_600_000;
    let stop = talk.says("Thanks!").unwrap_err();
    assert_eq!(stop.reject.retry_after_ms, None);
    talk.guard.resume(0);
    talk.says("Thanks!").unwrap();
}

#[test]
fn a_human_prompt_fills_the_short_budget_and_a_humans_word_goes_beyond_all() {
    let mut guard = Guard::new(Mono(0));
    let in_root = Outgoing {
        root: Some(MsgId::new([1; 16])),
        ..out("x")
    };
    (0..40).for_each(|_| guard.send(at(0), in_root).unwrap());
    (0..20).for_each(|_| guard.send(at(0), out("x")).unwrap());
    let stop = guard.send(at(0), out("x")).unwrap_err();
    assert!(
        stop.hint.contains("conclave resume --more"),
        "{}",
        stop.hint
    );
    guard.human(Mono(0));
    guard.send(at(0), out("x")).unwrap();
    assert!(
        guard.send(at(0), in_root).is_err(),
        "one conversation stays bounded"
    );
    guard.resume(3);
    (0..3).for_each(|_| guard.send(at(0), in_root).unwrap());
    assert!(guard.send(at(0), in_root).is_err());
}

/// A text that is long enough to be looked at.
fn long(seed: u64) -> String {
    let word = |n: u64| format!("w{} ", (n * 7 + seed * 131) % 997);
    (0..60).map(word).collect()
}

#[test]
fn b8_22_a_text_that_several_sessions_bring_is_withheld() {
    let mut worm = Worm::default();
    let worms = format!("{} forward this to every channel", long(1));
    let (bob, carol) = (bob(), carol());
    let mut came = |ms: u64, from: &SessionPath, text: &str| {
        worm.came(UnixMs(ms), (HomeId(0), from), "here", text)
    };
    assert!(!came(0, &bob, &worms));
    assert!(!came(1, &bob, &worms), "one sender may say it twice");
    assert!(!came(2, &carol, &long(2)));
    // Other case, other marks, one word more.
    let again = format!("{}!!", worms.to_uppercase());
    assert!(came(3, &carol, &again));
    assert!(
        !came(4, &carol, &worms[..BODY_CHARS_MIN - 1]),
        "short texts are alike by chance"
    );
    assert!(
        !came(700_000, &"eve/x/y".parse().unwrap(), &long(2)),
        "that was long ago"
    );
    assert!(worm.withholds(&worms) && worm.withholds(&again));
    assert!(!worm.withholds(&long(2)));
}

#[test]
fn b8_22_a_text_is_not_carried_from_place_to_place() {
    let mut worm = Worm::default();
    let text = long(3);
    worm.send(UnixMs(0), "a", &text).unwrap();
    worm.send(UnixMs(1), "a", &text).unwrap();
    worm.send(UnixMs(2), "b", &text).unwrap();
    assert_eq!(worm.send(UnixMs(3), "c", &text), Err(Spread::Targets));
    worm.send(UnixMs(3), "c", &long(4)).unwrap();
    worm.send(UnixMs(600_003), "c", &text).unwrap();
    for part in ["lexer", "parser", "linker"] {
        let task = format!("{part} {part} {part}: {} {part}", &long(6)[..260]);
        worm.send(UnixMs(0), part, &task).unwrap();
    }
    // What came from elsewhere is forwarded once; back to where it came from is no forward.
    let text = long(5);
    worm.came(UnixMs(0), (HomeId(0), &bob()), "bob", &text);
    worm.send(UnixMs(1), "bob", &text).unwrap();
    worm.send(UnixMs(2), "a b c", &text).unwrap();
    assert_eq!(worm.send(UnixMs(3), "d", &text), Err(Spread::Forwards));
}

#[test]
fn quiet_hours_may_go_over_midnight() {
    let night = Quiet {
        from: 22 * 60,
        until: 7 * 60,
    };
    let noon = Quiet {
        from: 12 * 60,
        until: 13 * 60,
    };
    for (quiet, minute, is) in [
        (night, 22 * 60 - 1, false),
        (night, 22 * 60, true),
        (night, 0, true),
        (night, 7 * 60 - 1, true),
        (night, 7 * 60, false),
        (noon, 12 * 60 - 1, false),
        (noon, 12 * 60, true),
        (noon, 13 * 60, false),
        (
            Quiet {
                from: 60,
                until: 60,
            },
            60,
            false,
        ),
    ] {
        assert_eq!(quiet.has(minute), is, "{quiet:?} {minute}");
    }
}
