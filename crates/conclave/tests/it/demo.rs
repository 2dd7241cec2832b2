//! `conclave up --demo`: the first thing a new user types.

use crate::world::Home;

#[test]
fn the_demo_shows_a_channel_message_and_a_whisper_both_ways_and_ends() {
    let home = Home::new();
    let outcome = home.run(&["up", "--demo"]).ok();
    let shown = outcome
        .stdout
        .matches("<channel source=\"conclave\"")
        .count();
    assert_eq!(shown, 4, "{outcome:?}");
    for part in ["alice/", "bob/", "kind=\"whisper\"", "channel=\"general\""] {
        assert!(
            outcome.stdout.contains(part),
            "{part} is missing: {outcome:?}"
        );
    }
    assert!(!home.path().exists(), "a demo leaves nothing behind");
}

#[test]
fn the_demo_as_json_is_one_object_with_four_deliveries() {
    let object = Home::new().run(&["up", "--demo", "--json"]).ok().json();
    assert_eq!(
        object["deliveries"].as_array().unwrap().len(),
        4,
        "{object}"
    );
}
