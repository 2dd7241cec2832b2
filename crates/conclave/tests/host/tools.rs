//! What the host does with the tools: lists them, calls them, shows the model what they return.

use crate::claude::{AGENT, Setup, Stage, until};
use crate::script::Say;
use crate::world::Session;
use serde_json::{Value, json};

/// The whole frame of one message, as the model must read it: a first line with who said it, the guttered
/// body, an end, all with the same gutter.
#[track_caller]
pub(crate) fn framed(text: &str, body: &str) -> String {
    let line = text
        .lines()
        .find(|line| line.ends_with(&format!("| {body}")));
    let line = line.unwrap_or_else(|| panic!("no guttered line with {body:?} in {text}"));
    let gutter = &line[..line.find('|').unwrap()];
    assert_eq!(gutter.len(), 6, "{line}");
    let start = text.find(&format!("[conclave {gutter}] ")).unwrap();
    let end = format!("[conclave {gutter} end]");
    let at = text
        .find(&end)
        .unwrap_or_else(|| panic!("no end in {text}"));
    assert_eq!(text.matches(&end).count(), 1, "{text}");
    let frame = &text[start..at + end.len()];
    assert!(frame.contains("from=alice/desk/api"), "{frame}");
    frame.to_owned()
}

#[test]
fn the_model_is_told_of_the_tools_and_a_message_goes_each_way() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    stage.when(
        "please greet",
        vec![Say::ours(
            "send_message",
            json!({"to": "alice/desk/api", "message": "hello from a real host"}),
        )],
    );
    stage.when("\"status\":\"stored\"", vec![Say::text("done")]);
    let printed = stage.print(&Setup::default(), "please greet");
    assert!(printed.contains("done"), "{printed}");
    let heard = peer.hear();
    let words = heard["content"].as_str().unwrap();
    assert!(words.contains("hello from a real host"), "{heard}");

    let turn = stage.turn("please greet");
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    let tools = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(name)
            .collect::<Vec<_>>()
    };
    let loaded = tools(&turn.body["tools"]);
    // What a bridge of the same account says itself.
    let mut other = Session::start(&stage.bob, "other");
    let offered = tools(&other.request("tools/list", json!({}))["result"]["tools"]);
    let all = turn.all();
    for tool in offered {
        let name = format!("mcp__conclave__{tool}");
        // With its schema, or by name only: to be searched for.
        let named = all.lines().any(|line| line == name);
        assert!(loaded.contains(&name) ^ named, "{name}: {loaded:?}");
    }
    for tool in [
        "send_message",
        "check_messages",
        "wait_for_messages",
        "list_peers",
        "ask",
    ] {
        assert!(
            loaded.contains(&format!("mcp__conclave__{tool}")),
            "{tool}: {loaded:?}"
        );
    }
    let ours = all
        .split("\n## conclave\n")
        .nth(1)
        .expect("our instructions");
    let end = "message_status says.";
    assert!(ours.contains(end), "they are cut: {ours:.5000}");
    stage.nothing_left_the_machine();
}

#[test]
fn what_a_peer_said_is_read_once_by_check_messages() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    // Said before the host starts: it waits for whoever asks.
    let mut agent = Session::start(&stage.bob, "agent");
    agent.must("join_channel", json!({"channel": "general"}));
    drop(agent);
    peer.must(
        "send_message",
        json!({"to": AGENT, "message": "flamingo at noon"}),
    );
    stage.when("what is new", vec![Say::ours("check_messages", json!({}))]);
    stage.when(
        "flamingo at noon",
        vec![Say::ours("check_messages", json!({}))],
    );
    stage.print(&Setup::default(), "what is new");
    let turn = stage.turn("flamingo at noon");
    framed(&turn.fresh, "flamingo at noon");
    let again = stage.turn("\"");
    assert_eq!(again.count("flamingo at noon"), 1);
    stage.nothing_left_the_machine();
}

#[test]
fn a_host_that_dies_in_a_call_takes_its_bridge_along_and_loses_no_message() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let mut peer = stage.peer();
    let mut host = stage.start(&Setup::default(), &mut peer);
    let bridges = || stage.bob.run(&["who", "general", "--json"]).ok().stdout;
    until(|| match bridges() {
        there if there.contains(AGENT) => Ok(()),
        other => Err(other),
    });
    stage.when(
        "stand by",
        vec![Say::ours("wait_for_messages", json!({"timeout_s": 120}))],
    );
    host.types("stand by");
    host.draws(0, "Calling conclave");
    host.running.dies();
    until(|| match bridges() {
        there if there.contains(AGENT) => Err(there),
        _ => Ok(()),
    });
    peer.must(
        "send_message",
        json!({"to": AGENT, "message": "for the next one"}),
    );
    stage.when("what is new", vec![Say::ours("check_messages", json!({}))]);
    stage.print(&Setup::default(), "what is new");
    let turn = stage.turn("for the next one");
    framed(&turn.fresh, "for the next one");
    assert_eq!(turn.count("for the next one"), 1);
}
