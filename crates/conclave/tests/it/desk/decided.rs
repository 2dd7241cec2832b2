//! What a machine decided is not put before its human again, and nothing else is hidden by that.

use super::{Forger, Office, PATIENCE, decide, id, until, waiting};
use crate::world::Home;
use conclave_client::home::Home as State;
use conclave_proto::desk::{Request, digest};
use conclave_proto::name::SessionPath;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

fn listed(home: &Home) -> Vec<Value> {
    let listed = home.run(&["approve", "list", "--json"]).ok().json();
    listed["requests"].as_array().unwrap().clone()
}

#[test]
fn what_was_decided_here_is_not_listed_again() {
    let office = Office::open();
    let (bob, own) = (&office.bob, &office.up.home);
    for (word, behaviour) in [("allow", "allow"), ("deny", "deny")] {
        let hook = office.asks("Bash", &json!({"command": word}));
        let asked = waiting(bob);
        // It is the new one: what was decided before does not stand in its way.
        assert!(asked["preview"].as_str().unwrap().contains(word), "{asked}");
        decide(bob, word, &id(&asked)).ok();
        assert_eq!(hook.decision()["behavior"], behaviour);
        assert_eq!(listed(bob), [] as [Value; 0]);
        bob.run(&["approve", "show", &id(&asked), "--json"])
            .refused(3, "not_found");
        decide(bob, "allow", &id(&asked)).refused(3, "not_found");
        // Another machine has its own list.
        until(|| {
            let there = listed(own).into_iter();
            there.map(|r| id(&r)).find(|one| *one == id(&asked))
        });
    }
    let state = State::open(&bob.path()).unwrap();
    let server = state.servers().unwrap().remove(0);
    let file = state.server_dir(&server.id).join("decided");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("command"), "no bodies: {text}");
    // Without it they are listed until they are over: nothing else was lost.
    std::fs::write(&file, "{").unwrap();
    assert_eq!(listed(bob).len(), 2);
}

#[test]
fn a_decision_hides_no_request_of_another_session_with_the_same_nonce() {
    let office = Office::open();
    let hook = office.asks("Bash", &json!({"command": "ls"}));
    let (bob, alice) = (Forger::at(&office.bob), Forger::at(&office.up.home));
    let real = bob.request();
    decide(&office.bob, "deny", &id(&waiting(&office.bob))).ok();
    assert_eq!(hook.decision()["behavior"], "deny");
    let session: SessionPath = "alice/desk/desk".parse().unwrap();
    let same = Request {
        digest: digest(
            &real.tool,
            &real.preview,
            &real.description,
            &session,
            &real.nonce,
        ),
        session,
        ..real
    };
    let desk: SessionPath = format!("{}/desk", office.bob_machine()).parse().unwrap();
    let asked = alice.client.ask_desks(&same, std::slice::from_ref(&desk));
    assert_eq!(alice.runtime.block_on(asked).unwrap(), 1);
    bob.runtime
        .block_on(bob.client.empty_mailbox(PATIENCE))
        .unwrap();
    let one = until(|| listed(&office.bob).into_iter().next());
    assert_eq!(one["session"], "alice/desk/desk");
}
