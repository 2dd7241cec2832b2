//! Requests and verdicts that nobody asked for: of an agent below, of another call than they show, by the dozen.

use super::{Forger, Hook, Office, PATIENCE, until};
use conclave_client::client::desk::{Paper, Says};
use conclave_proto::desk::{Request, Verdict, digest};
use conclave_proto::id::RequestId;
use conclave_proto::name::SessionPath;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::Stdio;

#[test]
fn a_call_of_an_agent_below_this_one_is_not_asked_about_in_its_name() {
    let office = Office::open();
    let question = json!({"hook_event_name": "PermissionRequest", "session_id": "nested",
        "cwd": "/", "tool_name": "Bash", "tool_input": {"command": "ls"}});
    let mut child = office.up.home.command(&["hook"]);
    let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(question.to_string().as_bytes()).unwrap();
    drop(stdin);
    assert_eq!(Hook(child).decision(), Value::Null);
    let listed = office.bob.run(&["approve", "--json"]).ok().json();
    assert_eq!(listed["requests"], json!([]));
}

#[test]
fn an_approver_is_shown_no_request_whose_digest_is_of_another_call() {
    let office = Office::open();
    let (bob, alice) = (Forger::at(&office.bob), Forger::at(&office.up.home));
    let hook = office.asks("Bash", &json!({"command": "rm -rf build"}));
    let real = bob.request();
    // The nonce and the digest of one call, the face of another.
    let session: SessionPath = "alice/desk/desk".parse().unwrap();
    let forged = Request {
        session: session.clone(),
        tool: "Read".to_owned(),
        preview: json!({"file_path": "README"}).to_string(),
        ..real.clone()
    };
    let honest = Request {
        digest: digest(&forged.tool, &forged.preview, "", &session, &forged.nonce),
        description: String::new(),
        ..forged.clone()
    };
    let desk: SessionPath = format!("{}/desk", office.bob_machine()).parse().unwrap();
    let asked = async {
        for request in [&forged, &honest] {
            let to = std::slice::from_ref(&desk);
            assert_eq!(alice.client.ask_desks(request, to).await.unwrap(), 1);
        }
    };
    alice.runtime.block_on(asked);
    let listed = until(|| {
        bob.runtime
            .block_on(bob.client.empty_mailbox(PATIENCE))
            .unwrap();
        let open = bob.runtime.block_on(bob.client.open_requests()).unwrap();
        let of = |paper: &Paper| match &paper.says {
            Says::Request(request) => request.clone(),
            Says::Verdict(_) => panic!("a verdict"),
        };
        let open: Vec<Request> = open.iter().map(of).collect();
        open.contains(&honest).then_some(open)
    });
    assert_eq!(listed, [honest, real.clone()]);
    bob.gives(&real, Verdict::sign(&real, false, bob.owner.secret()));
    assert_eq!(hook.decision()["behavior"], "deny");
}

#[test]
fn verdicts_that_nobody_asked_for_do_not_fill_the_journal() {
    let office = Office::open();
    let bob = Forger::at(&office.bob);
    let hook = office.asks("Bash", &json!({"command": "ls"}));
    let request = bob.request();
    let stray = Request {
        nonce: RequestId::new([7; RequestId::LEN]),
        ..request.clone()
    };
    for _ in 0..40 {
        bob.gives(&request, Verdict::of(&stray, true));
    }
    bob.gives(&request, Verdict::sign(&request, true, bob.owner.secret()));
    assert_eq!(hook.decision()["behavior"], "allow");
    assert!(office.refusals().len() <= 30, "{}", office.refusals().len());
}
