//! Every attack by name (SECURITY 2.12, B.8, S12 to S19): what a hostile server or member tries against a
//! real client over real sockets, and what comes of it.
//!
//! `cargo test -p conclave-sim --test it attack_table -- --nocapture` prints the table.

mod forks;
mod invites;
mod keys;
mod members;
mod names;
mod rows;
mod sender;
mod stage;
mod whispers;

use std::future::Future;
use std::pin::Pin;

type Run = fn() -> Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// One attack: what it is called, what is tried, by whom; and what is wrong if it is not stopped yet.
struct Attack {
    name: &'static str,
    what: &'static str,
    who: &'static str,
    run: Run,
}

/// Makes a test and a row of the table of each attack.
macro_rules! attacks {
    ($($module:ident::$name:ident, $who:literal, $what:literal;)*) => {
        const ATTACKS: &[Attack] = &[$(Attack {
            name: stringify!($name),
            what: $what,
            who: $who,
            run: || Box::pin($module::$name()),
        },)*];

        mod each {
            $(#[tokio::test]
            async fn $name() {
                super::$module::$name().await;
            })*
        }
    };
}

attacks! {
    sender::s13_forged_sender, "server", "an envelope unsigned, re-signed by another key, or changed";
    sender::s13_key_of_another_user, "member", "a member signs under another member's name";
    sender::s13_strip_and_re_sign, "member", "a member puts its own name over another's ciphertext";
    sender::s13_ciphertext_of_another_channel, "server and member", "ciphertext moved to another channel";
    sender::s13_ciphertext_of_another_epoch, "member", "ciphertext under the header of another epoch";
    sender::s13_ciphertext_of_another_kind, "member", "a message's ciphertext as state or memory";
    sender::s13_every_header_bit, "server", "every single bit of a header, nonce and signature flipped";
    sender::replay_under_a_new_seq, "server", "an old envelope in a new place";
    sender::message_id_used_again, "member", "another message under a known message id";
    sender::reordered_messages, "server", "two messages of one sender swapped";
    sender::dropped_message, "server", "one message of a sender kept back";
    sender::s14_clear_entry_in_a_sealed_channel, "member", "a clear entry (suite 0) in a sealed channel";
    sender::s14_channel_called_signed, "server", "the channel list says the channel is not sealed";
    sender::s14_another_first_record, "server", "the channel is shown anew with a first record in mode signed";
    members::ghost_member, "server", "an add that no authorised key signed";
    members::member_adds_a_friend, "member", "an add by somebody who is no admin";
    members::ghost_machine, "server", "a machine in an identity log that no owner key signed";
    members::ghost_holder, "server", "a stranger's machine among those who lack the key";
    members::removed_member_keeps_sending, "member and server", "a removed member goes on, with the old key";
    members::own_removal_ignored, "member and server", "a removed member makes the next epoch itself";
    members::old_epoch_after_removal, "member", "a message under the epoch that the removed one can read";
    members::victim_rotates_before_it_speaks, "server", "the server takes messages under the old epoch";
    members::epoch_that_hides_a_removal, "member", "an epoch whose membership still has the removed one";
    members::epoch_by_a_reader, "member", "an epoch by somebody who may only read";
    members::epoch_changes_the_name, "member", "an epoch by a plain member with another name and index key";
    members::revoked_machine_goes_on, "member and server", "a revoked machine whose revocation the server hides later";
    keys::s12_the_server_makes_the_key, "server", "a wrap of a key that the server made";
    keys::s13_substituted_key, "server", "another key in the wrap for a joiner";
    keys::s13_wrong_wrap_by_a_member, "member", "another key in the wrap that a member brings";
    keys::s14_wraps_stripped, "server", "no wrap at all, so that the victim might speak in the clear";
    keys::substituted_encryption_key, "server", "the server's own key announced as a member machine's";
    keys::stale_encryption_key, "server", "an encryption key that its holder has replaced";
    keys::broken_way_back, "member", "an epoch whose box with the key before is garbage";
    keys::bad_commitment, "member", "an epoch that commits to another key than it seals";
    keys::victims_own_key_swapped, "server", "another epoch record in place of the victim's, with its wraps";
    invites::s16_invite_box_of_another_link, "server", "another box beside an invite";
    invites::s16_invite_box_stripped, "server", "no box beside an invite, and a channel of the server's own";
    invites::s16_other_first_record, "server", "a channel that begins with another record than the box names";
    invites::s16_joiner_added_before_it_joins, "server", "a joiner made a member of the server's own channel first";
    invites::s16_wrong_key_in_the_box, "member", "a box with a key that its epoch does not commit to";
    invites::s16_invite_by_the_server, "server", "an invite that the server signed";
    invites::single_use_link_twice, "member and server", "a link for one use, used by two";
    invites::banned_user_comes_back, "member and server", "a banned user joins by an old link";
    forks::two_victims_two_logs, "server", "two victims shown different messages, then each other's";
    forks::hidden_control_record, "server", "a control record kept from one member";
    forks::rolled_back_channel, "server", "an older chain of control records after a restart";
    forks::another_chain_after_restart, "server", "another chain of control records after a restart";
    forks::rolled_back_identity, "server", "an older identity after a restart";
    names::s12_nothing_in_the_clear, "server", "reads all it is sent in a day of a person";
    names::s14_name_leads_to_a_signed_channel, "server", "a channel of a friend, not sealed, under the sealed one's name";
    names::names_of_two_channels_swapped, "server", "another sealed channel under this one's name";
    names::s14_signed_channel_called_sealed, "server", "the channel list says sealed of what the server reads";
    names::name_of_another_user, "server", "another user under a known name";
    names::past_before_the_join, "server", "all entries and wraps of before the join (history since_join)";
    whispers::s14_clear_whisper, "member", "a whisper in suite 0";
    whispers::whisper_to_somebody_else, "server", "a whisper that was sealed for another session";
    whispers::whisper_replayed, "server", "an old whisper in a new place";
    whispers::whisper_to_a_substituted_key, "server", "the server's own key announced as the recipient's";
}

/// Rows that are proved where the rule lives: the test, and its file below the repository.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    (
        "s1_a_relayed_challenge_is_refused",
        "crates/conclave-proto/tests/it/link.rs",
        "a proxy or server relays a handshake (also S15)",
    ),
    (
        "s1_an_answer_to_one_challenge_does_not_fit_another",
        "crates/conclave-server/tests/it/handshake.rs",
        "S15: a handshake is replayed",
    ),
    (
        "s7_the_servers_database_holds_nothing_that_lets_anybody_join",
        "crates/conclave-server/tests/it/seeds.rs",
        "S16: a stolen database has no invite in it",
    ),
    (
        "s16_what_the_server_knows_of_an_invite_opens_no_box",
        "crates/conclave-e2ee/tests/it/boxes.rs",
        "S16: the server opens the box of an invite",
    ),
    (
        "b8_01_a_body_cannot_close_or_open_the_hosts_tag",
        "crates/conclave-bridge/tests/it/render.rs",
        "S17: a body or name that breaks out of its frame",
    ),
    (
        "a_changed_audit_row_is_named",
        "crates/conclave-server/tests/it/store.rs",
        "S18: a row of the audit log is changed",
    ),
    (
        "a_new_machine_reads_at_once_and_a_revoked_one_no_more",
        "crates/conclave-client/tests/it/sealed.rs",
        "S19: one machine's key is lost, and only its own",
    ),
    (
        "s13_a_substituted_key_under_the_true_commitment_is_worth_nothing",
        "crates/conclave-e2ee/tests/it/wrap.rs",
        "a wrap made with the true commitment around another key",
    ),
    (
        "a_removed_member_gets_no_further_entry_and_no_wrap_at_once",
        "crates/conclave-server/tests/it/keys.rs",
        "a removed member asks an honest server",
    ),
    (
        "of_fifty_concurrent_rotations_one_wins_and_everybody_opens_what_it_sealed",
        "crates/conclave-server/tests/it/rotation.rs",
        "members race for the next epoch",
    ),
    (
        "removed_members_banned_ones_and_spent_links_stay_out",
        "crates/conclave-server/tests/it/rotation.rs",
        "those who are out try an honest server, two at once",
    ),
    (
        "a_server_whose_key_changed_is_not_talked_to_again",
        "crates/conclave-client/tests/it/hostile.rs",
        "another server key at the same address",
    ),
    (
        "a_session_of_another_account_is_refused",
        "crates/conclave-client/tests/it/hostile.rs",
        "the server names another account in its greeting",
    ),
    (
        "the_largest_numbers_end_no_session_and_no_call_lasts_for_ever",
        "crates/conclave-client/tests/it/hostile.rs",
        "the largest numbers everywhere",
    ),
    (
        "the_past_is_judged_as_strictly_as_the_present",
        "crates/conclave-client/tests/it/hostile.rs",
        "forged entries in pages of the past",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn attack_table() {
    let mut failed = Vec::new();
    let running: Vec<_> = ATTACKS
        .iter()
        .map(|attack| (attack, tokio::spawn((attack.run)())))
        .collect();
    for (attack, run) in running {
        let outcome = match run.await {
            Ok(outcome) => outcome,
            Err(_) => {
                failed.push(attack.name);
                "SUCCEEDED OR HUNG, see above"
            }
        };
        let Attack {
            name, what, who, ..
        } = attack;
        println!("{name} | {what} | {who} | {outcome}");
    }
    for (name, file, what) in ELSEWHERE {
        println!("{name} | {what} | {file} | proved there");
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn what_is_proved_elsewhere_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = root.ancestors().nth(2).unwrap();
    for (name, file, _) in ELSEWHERE {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        assert!(text.contains(&format!("fn {name}(")), "no {name} in {file}");
    }
}
