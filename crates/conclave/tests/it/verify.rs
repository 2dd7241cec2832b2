//! Numbers that people compare: the same on both sides, and what follows from them.

use crate::world::{Home, Up};
use serde_json::Value;

fn verify(home: &Home, args: &[&str]) -> Value {
    home.run(&[&["verify", "--json"], args].concat())
        .ok()
        .json()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key]
        .as_str()
        .unwrap_or_else(|| panic!("{key}: {object}"))
}

/// Digits that are as many, and others.
fn others(digits: &str) -> String {
    let turn = |c: char| {
        c.to_digit(10)
            .map_or(c, |n| char::from_digit((n + 1) % 10, 10).unwrap())
    };
    digits.chars().map(turn).collect()
}

#[test]
fn both_people_see_the_same_sixty_digits_made_of_their_own() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let (hers, his) = (verify(&up.home, &["bob"]), verify(&bob, &["@alice"]));
    let number = text(&hers, "number");
    assert_eq!(number, text(&his, "number"));
    assert_eq!(number.chars().filter(char::is_ascii_digit).count(), 60);
    assert_eq!(text(&hers, "code"), text(&his, "code"));
    assert_eq!(text(&hers, "own_fingerprint"), text(&his, "fingerprint"));
    assert_ne!(text(&hers, "own_fingerprint"), text(&hers, "fingerprint"));
    for home in [&up.home, &bob] {
        let key = home.run(&["key", "--json"]).ok().json();
        assert!(
            number.contains(text(&key["keys"][0], "fingerprint")),
            "{key}"
        );
        let page = home
            .run(&[
                "verify",
                if home.path() == bob.path() {
                    "alice"
                } else {
                    "bob"
                },
            ])
            .ok();
        let lines: Vec<_> = page.stdout.lines().take(2).map(str::trim).collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines.iter().all(|line| number.contains(&line[..35])),
            "{page:?}"
        );
        assert_eq!(
            lines.iter().filter(|line| line.ends_with("(you)")).count(),
            1
        );
    }
}

#[test]
fn other_users_and_other_servers_give_other_digits() {
    let (here, there) = (Up::start(), Up::start());
    let invite = ["invite", "create", "general", "--uses", "2", "--json"];
    let link = here.home.run(&invite).ok().json();
    here.guest("bob", text(&link, "link"));
    here.guest("carol", text(&link, "link"));
    there.guest("bob", there.link());
    let numbers = [
        verify(&here.home, &["bob"]),
        verify(&here.home, &["carol"]),
        verify(&there.home, &["bob"]),
    ];
    let numbers = numbers.map(|object| text(&object, "number").to_owned());
    assert_ne!(numbers[0], numbers[1]);
    assert_ne!(numbers[0], numbers[2]);
}

#[test]
fn only_the_right_digits_mark_a_user_as_verified() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let number = text(&verify(&bob, &["alice"]), "number").to_owned();
    let confirm = |digits: &str| {
        up.home
            .run(&["verify", "bob", "--confirm", digits, "--json"])
    };
    confirm("12345").refused(2, "usage");
    confirm(&others(&number)).refused(5, "mismatch");
    assert_eq!(verify(&up.home, &["bob"])["verified"], false);
    let crammed: String = number.split(' ').collect();
    assert_eq!(confirm(&crammed).ok().json()["verified"], true);
    assert_eq!(verify(&up.home, &["bob"])["verified"], true);
    // One's own word does not speak for the other side.
    assert_eq!(verify(&bob, &["alice"])["verified"], false);
    let code = text(&verify(&up.home, &["bob"]), "code").to_owned();
    let scanned = bob
        .run(&["verify", "alice", "--confirm", &code, "--json"])
        .ok();
    assert_eq!(scanned.json()["verified"], true);
}

#[test]
fn without_a_terminal_showing_the_digits_changes_nothing() {
    let up = Up::start();
    up.guest("bob", up.link());
    up.home.pipe(&["verify", "bob"], "y\n").ok();
    assert_eq!(verify(&up.home, &["bob"])["verified"], false);
}

#[test]
fn a_name_that_became_somebody_else_is_refused_and_no_program_accepts_it() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let number = text(&verify(&bob, &["alice"]), "number").to_owned();
    verify(&up.home, &["bob", "--confirm", &number]);
    pin(&up.home, "bob", [7; 32]);
    let outcome = up.home.run(&["verify", "bob", "--json"]);
    outcome.refused(5, "pin");
    let page = up.home.run(&["verify", "bob"]);
    assert!(
        page.stderr.contains("STOP: bob is not who it was"),
        "{page:?}"
    );
    assert_eq!(page.stdout, "");
    up.home
        .run(&["verify", "bob", "--confirm", &number, "--json"])
        .refused(5, "pin");
    up.home
        .run(&["verify", "bob", "--accept-change", "--json"])
        .refused(2, "usage");
    up.home
        .run(&["send", "bob/lap/cli", "secret", "--json"])
        .refused(5, "pin");
    up.home.run(&["verify", "bob", "--json"]).refused(5, "pin");
}

/// Pins a name to somebody else, as if it had been seen with another user before.
fn pin(home: &Home, name: &str, user: [u8; 32]) {
    let servers = std::fs::read_dir(home.path().join("servers")).unwrap();
    for server in servers {
        let db = rusqlite::Connection::open(server.unwrap().path().join("replica.sqlite")).unwrap();
        let rows = db.execute("UPDATE name SET user = ?1 WHERE name = ?2", (user, name));
        assert_eq!(rows.unwrap(), 1);
    }
}

#[test]
fn nobody_compares_with_oneself_or_with_nobody() {
    let up = Up::start();
    up.home
        .run(&["verify", "alice", "--json"])
        .refused(2, "usage");
    up.home
        .run(&["verify", "nobody", "--json"])
        .refused(3, "not_found");
    up.home
        .run(&["verify", "#nowhere", "--json"])
        .refused(3, "not_found");
}

#[test]
fn members_see_the_same_digits_of_a_channel_until_it_changes() {
    let up = Up::start();
    let bob = up.guest("bob", up.link());
    let (hers, his) = (verify(&up.home, &["#general"]), verify(&bob, &["#general"]));
    assert_eq!(hers, his);
    let digits = text(&hers, "digits");
    assert_eq!(digits.chars().filter(char::is_ascii_digit).count(), 45);
    up.home.run(&["acl", "remove", "general", "bob"]).ok();
    let later = verify(&up.home, &["#general"]);
    assert_ne!(later["digits"], hers["digits"]);
    assert!(later["record"].as_u64() > hers["record"].as_u64());
    up.home
        .run(&["verify", "#general", "--confirm", digits, "--json"])
        .refused(2, "usage");
}
