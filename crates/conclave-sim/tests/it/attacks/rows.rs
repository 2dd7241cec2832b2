//! The thirty hostile inputs of SECURITY B.8, each with the tests that try it: by their names, wherever they are.

use std::path::{Path, PathBuf};

/// One row: its number, what is tried, and which tests do.
type Row = (u8, &'static str, &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        1,
        "a body that closes the host's tag and opens another",
        &["b8_01_a_body_cannot_close_or_open_the_hosts_tag"],
    ),
    (
        2,
        "a body with the end of a frame and a guessed gutter",
        &["b8_02_a_guessed_gutter_is_drawn_again"],
    ),
    (
        3,
        "a body with the host's own markup, turns and tool results",
        &["b8_03_host_markup_is_inert"],
    ),
    (
        4,
        "lines of a body that look like another sender's, in history",
        &["b8_04_history_shows_a_forged_line_in_the_gutter"],
    ),
    (
        5,
        "names with line breaks, quotes, bidi, look-alikes, reserved or endless",
        &[
            "b8_05_a_hostile_name_is_never_an_attribute",
            "s6_names_that_could_deceive_are_refused",
        ],
    ),
    (
        6,
        "an attribute's value that smuggles in another",
        &["b8_06_an_attribute_value_cannot_smuggle_another"],
    ),
    (
        7,
        "terminal sequences and overwriting",
        &["b8_07_terminal_sequences_are_stripped_and_counted"],
    ),
    (
        8,
        "hidden text: tags, zero width, variation selectors",
        &["b8_08_hidden_text_is_stripped_and_counted"],
    ),
    (
        9,
        "a body that says the human approves and asks to raise a level",
        &[
            "b8_09_a_message_that_asks_for_more_changes_nothing",
            "lesson_28_the_set_perm_tool_cannot_raise",
        ],
    ),
    (
        10,
        "an agent's shell that raises a level, enrols a machine, names an approver, invites",
        &[
            "b8_10_",
            "a_level_is_raised_with_the_owner_key_only",
            "a_steward_of_the_channel_may_widen_and_another_machine_of_the_creator_may_not",
        ],
    ),
    (
        11,
        "the words of a verdict in a message",
        &["b8_11_a_verdict_in_a_message_is_only_text"],
    ),
    (
        12,
        "verdicts by a machine key, for another call, late, again, by no approver, by who asked",
        &["b8_12_"],
    ),
    (
        13,
        "a preview with bidi, zero width or padding before what it does",
        &["b8_13_"],
    ),
    (
        14,
        "a server that changes the sender, or brings what nobody signed",
        &["s13_forged_sender", "s13_key_of_another_user"],
    ),
    (
        15,
        "an old envelope in a new place; a message id used again",
        &[
            "replay_under_a_new_seq",
            "message_id_used_again",
            "whisper_replayed",
        ],
    ),
    (
        16,
        "one message of a sender kept back",
        &[
            "dropped_message",
            "a_message_that_the_server_keeps_back_is_missed",
        ],
    ),
    (
        17,
        "a ghost user or machine that asks for the key",
        &["ghost_member", "ghost_machine", "ghost_holder"],
    ),
    (
        18,
        "a wrong key for a joiner",
        &["s13_substituted_key", "s13_wrong_wrap_by_a_member"],
    ),
    (
        19,
        "ciphertext moved, bits flipped, stripped and signed again",
        &[
            "s13_ciphertext_of_another_channel",
            "s13_ciphertext_of_another_epoch",
            "s13_ciphertext_of_another_kind",
            "s13_every_header_bit",
            "s13_strip_and_re_sign",
            "no_envelope_with_a_changed_bit_opens_even_for_who_ignores_signatures",
        ],
    ),
    (
        20,
        "removed, banned and spent: sending on, coming back, a link twice or at once",
        &[
            "removed_member_keeps_sending",
            "banned_user_comes_back",
            "single_use_link_twice",
            "fifty_who_race_for_a_link_for_one_are_one",
            "removed_members_banned_ones_and_spent_links_stay_out",
        ],
    ),
    (
        21,
        "downgrade: the channel called readable, the suite dropped, the wraps stripped",
        &[
            "s14_clear_entry_in_a_sealed_channel",
            "s14_channel_called_signed",
            "s14_wraps_stripped",
        ],
    ),
    (
        22,
        "a text that spreads itself to every channel",
        &["b8_22_"],
    ),
    (
        23,
        "two agents told to thank each other for ever",
        &["b8_23_"],
    ),
    (24, "a peer whose messages all claim depth 0", &["b8_24_"]),
    (
        25,
        "between question and answer a peer asks for the tool list and the environment",
        &["b8_25_"],
    ),
    (
        26,
        "secrets posted: .env, private keys, the keystore; by links and `..`",
        &["b8_26_"],
    ),
    (
        27,
        "what was read in a private channel, said in a public one",
        &["b8_27_"],
    ),
    (
        28,
        "a memory or value that gives orders, recalled by another agent",
        &["b8_28_"],
    ),
    (
        29,
        "a flood: mentions, long bodies, many small ones, invites",
        &[
            "b8_29_",
            "a_user_tries_to_join_so_often_a_minute_and_a_lost_race_does_not_count",
        ],
    ),
    (
        30,
        "a malicious server: words, numbers, nesting, answers to nothing, another key, a relay, another account",
        &[
            "b8_30_a_hostile_error_text_is_one_clean_line",
            "the_largest_numbers_end_no_session_and_no_call_lasts_for_ever",
            "deep_nesting_in_unknown_fields_does_not_exhaust_the_stack",
            "answers_to_no_question_and_what_was_not_asked_for_change_nothing",
            "a_server_whose_key_changed_is_not_talked_to_again",
            "s1_a_relayed_challenge_is_refused",
            "a_session_of_another_account_is_refused",
        ],
    ),
];

#[test]
fn each_of_the_thirty_has_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = root.ancestors().nth(1).unwrap();
    let mut names = Vec::new();
    collect(&mut names, crates.to_owned());
    let missing = |name: &&&str| !names.iter().any(|known| known.starts_with(**name));
    for (row, (n, what, tests)) in ROWS.iter().enumerate() {
        assert_eq!(usize::from(*n), row + 1);
        let missing: Vec<_> = tests.iter().filter(missing).collect();
        assert!(
            !tests.is_empty() && missing.is_empty(),
            "{n} ({what}): no {missing:?}"
        );
    }
    assert_eq!(ROWS.len(), 30);
}

/// Collects the names of the tests below a directory of sources: functions below a test's attribute, and the
/// attacks of the table.
fn collect(names: &mut Vec<String>, dir: PathBuf) {
    for file in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = file.path();
        if path.is_dir() {
            collect(names, path);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let is_attack = path.components().any(|part| part.as_os_str() == "attacks");
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                let is_test = line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let name = line.split_once("fn ").map(|(_, rest)| rest);
                let name = name.and_then(|rest| rest.split(['(', '<']).next());
                if let Some(name) = name
                    && (marked || is_attack)
                {
                    names.push(name.to_owned());
                }
                marked = is_test || (marked && line.starts_with("#["));
            }
        }
    }
}
