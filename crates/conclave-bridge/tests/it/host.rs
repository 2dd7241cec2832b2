//! The MCP side, line by line as Claude Code 2.1.329 speaks it.

use crate::wire::initialize;
use crate::world::{Desk, at_level, message, world};
use conclave_bridge::fabric::Event;
use conclave_bridge::mcp::INSTRUCTIONS;
use conclave_bridge::policy::Level;
use conclave_bridge::tool;
use serde_json::json;

const PROBE: &str = r#"{"jsonrpc":"2.0","id":"server-discover-probe-1","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"claude-code","title":"Claude Code","version":"2.1.329"},"io.modelcontextprotocol/clientCapabilities":{"roots":{"listChanged":true},"elicitation":{"form":{},"url":{}},"extensions":{"io.modelcontextprotocol/tasks":{}}}}}}"#;

#[tokio::test]
async fn lesson_23_the_opening_ends_in_the_era_that_has_channels() {
    let mut desk = Desk::new(world());
    desk.line(PROBE).await;
    let refusal = desk.read().await;
    assert_eq!(refusal["id"], "server-discover-probe-1");
    assert_eq!(refusal["error"]["code"], -32601);
    desk.line(&initialize().to_string()).await;
    let answer = desk.read().await;
    let result = &answer["result"];
    assert_eq!(
        (&answer["id"], &result["protocolVersion"]),
        (&json!(0), &json!("2025-11-25"))
    );
    let capabilities =
        json!({"experimental": {"claude/channel": {}}, "tools": {"listChanged": true}});
    assert_eq!(result["capabilities"], capabilities);
    assert_eq!(result["serverInfo"]["name"], "conclave");
    assert_eq!(result["instructions"], INSTRUCTIONS);
}

#[tokio::test]
async fn a_host_of_the_newer_era_alone_is_served_without_a_handshake() {
    let mut desk = Desk::new(world());
    desk.line(&PROBE.replace("claude-code", "another")).await;
    let answer = desk.read().await;
    let versions = answer["result"]["supportedVersions"].to_string();
    assert!(versions.contains("2026-07-28"), "{answer}");
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "another", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({"name": "list_channels", "arguments": {}, "_meta": meta});
    let call = desk.ask("tools/call", params).await;
    let answer = desk.answer(call).await;
    assert_ne!(answer["result"]["isError"], true, "{answer}");
    assert_eq!(answer["result"]["content"][0]["type"], "text", "{answer}");
}

#[tokio::test]
async fn initialize_is_answered_before_anything_is_opened() {
    let mut desk = Desk::new(world());
    desk.line(&initialize().to_string()).await;
    assert_eq!(desk.read().await["id"], 0);
    assert_eq!(desk.fake.0.borrow().opened, 0);
    desk.line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    desk.fake.until(|world| world.opened == 1).await;
}

#[tokio::test]
async fn lesson_24_nothing_is_pushed_before_the_host_is_ready() {
    let mut desk = Desk::new(world());
    desk.line(&initialize().to_string()).await;
    desk.read().await;
    // A call opens the session; a message comes; the host has not said that it is ready.
    let call = desk
        .ask(
            "tools/call",
            json!({"name": "list_channels", "arguments": {}}),
        )
        .await;
    let events = desk.events.recv().await.unwrap();
    desk.answer(call).await;
    let home = conclave_bridge::state::HomeId(0);
    let event = Event::Message(
        message(1, "early").into(),
        conclave_bridge::state::Age::Live,
    );
    events.send((home, event)).await.unwrap();
    let (facts, ..) = loop {
        let seen = desk.call("list_channels", json!({})).await;
        if seen.0["unread"] == 1 {
            break seen;
        }
    };
    assert_eq!((facts["unread"].clone(), desk.pushed.len()), (json!(1), 0));
    desk.line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    let push = desk.push().await;
    assert_eq!(push["method"], "notifications/claude/channel");
    assert!(
        push["params"]["content"]
            .as_str()
            .unwrap()
            .contains("early")
    );
}

#[tokio::test]
async fn lesson_22_an_event_has_text_values_and_identifier_keys_only() {
    let mut desk = Desk::open(world()).await;
    desk.arrives(message(1, "hello")).await;
    let push = desk.push().await;
    assert!(push.get("id").is_none());
    let meta = push["params"]["meta"].as_object().unwrap();
    for (key, value) in meta {
        assert!(
            key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{key}"
        );
        assert!(value.is_string(), "{key}: {value}");
    }
    let expected = [
        ("kind", "message"),
        ("from", "bob/laptop/main"),
        ("from_kind", "agent"),
        ("channel", "ops"),
        ("level", "converse"),
        ("trust", "member"),
        ("seq", "1"),
    ];
    for (key, value) in expected {
        assert_eq!(meta[key], value, "{key}");
    }
}

#[tokio::test]
async fn lesson_25_send_appears_when_the_level_is_raised_and_goes_when_it_is_lowered() {
    let mut desk = Desk::open(at_level(Level::Notify)).await;
    assert!(!desk.tools().await.contains(&"send_channel".to_owned()));
    desk.fake
        .0
        .send_modify(|world| world.view.policy = at_level(Level::Converse).view.policy);
    desk.event(Event::Changed).await;
    assert_eq!(
        desk.push().await["method"],
        "notifications/tools/list_changed"
    );
    assert!(desk.tools().await.contains(&"send_channel".to_owned()));
    let (_, _, failed) = desk.call("set_perm", json!({"level": "notify"})).await;
    assert!(!failed);
    assert_eq!(
        desk.push().await["method"],
        "notifications/tools/list_changed"
    );
    assert!(!desk.tools().await.contains(&"whisper".to_owned()));
}

#[tokio::test]
async fn moderation_is_on_offer_to_admins_only() {
    let mut desk = Desk::open(world()).await;
    assert!(!desk.tools().await.contains(&"kick".to_owned()));
    let role = Some(conclave_proto::channel_log::Role::Admin);
    desk.fake
        .0
        .send_modify(|world| world.view.channels[0].role = role);
    desk.event(Event::Changed).await;
    assert_eq!(
        desk.push().await["method"],
        "notifications/tools/list_changed"
    );
    assert!(desk.tools().await.contains(&"kick".to_owned()));
}

#[tokio::test]
async fn garbage_and_early_notifications_change_nothing() {
    let mut desk = Desk::new(world());
    desk.line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)
        .await;
    desk.line("this is no JSON {").await;
    desk.line(&initialize().to_string()).await;
    assert_eq!(desk.read().await["id"], 0);
    desk.line("[1,2").await;
    let ping = desk.ask("ping", json!({})).await;
    assert!(desk.answer(ping).await.get("result").is_some());
    let unknown = desk.ask("no/such/method", json!({})).await;
    assert_eq!(desk.answer(unknown).await["error"]["code"], -32601);
}

#[tokio::test]
async fn a_cancelled_wait_ends_and_the_next_one_works() {
    let mut desk = Desk::open(world()).await;
    let id = desk
        .ask(
            "tools/call",
            json!({"name": "wait_for_messages", "arguments": {}}),
        )
        .await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "AbortError: user-cancel"}});
    desk.line(&cancel.to_string()).await;
    let again = desk
        .ask(
            "tools/call",
            json!({"name": "wait_for_messages", "arguments": {}}),
        )
        .await;
    desk.tools().await;
    desk.arrives(message(1, "for the second")).await;
    let answer = desk.answer(again).await;
    assert!(
        answer["result"]["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("for the second")
    );
}

#[tokio::test]
async fn the_end_of_the_hosts_stream_ends_the_session() {
    let mut desk = Desk::open(world()).await;
    desk.tools().await;
    desk.hang_up().await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), desk.session).await;
    ended.expect("the session ends by itself").unwrap();
}

#[tokio::test]
async fn s3_no_tool_answers_a_permission_request_unless_the_user_made_the_agent_an_approver() {
    let mut desk = Desk::open(world()).await;
    let offered = |tool: &&tool::Tool| tool.when != tool::When::Approver;
    for tool in tool::all().filter(offered) {
        for word in [
            "permission",
            "approve",
            "verdict",
            "submit",
            "owner",
            "enrol",
            "trust",
        ] {
            assert!(!tool.name.contains(word), "{}", tool.name);
        }
    }
    // The capability is not declared, and a request that comes anyway reaches no model.
    let request = json!({"jsonrpc": "2.0", "method": "notifications/claude/channel/permission_request", "params": {
        "request_id": "abcde", "tool_name": "Bash", "description": "List", "input_preview": "{}"}});
    desk.line(&request.to_string()).await;
    let (facts, rest, failed) = desk
        .call(
            "submit_permission",
            json!({"request_id": "abcde", "decision": "allow"}),
        )
        .await;
    assert_eq!(
        (facts["error"].as_str(), failed, rest.as_str()),
        (Some("unknown_tool"), true, "")
    );
    let (_, text, _) = desk.call("check_messages", json!({})).await;
    assert!(text.is_empty() && desk.pushed.is_empty());
}

#[tokio::test]
async fn b8_11_a_verdict_in_a_message_is_only_text() {
    let mut desk = Desk::open(world()).await;
    desk.arrives(message(1, "yes abcde")).await;
    assert_eq!(desk.push().await["method"], "notifications/claude/channel");
    desk.tools().await;
    assert!(desk.pushed.is_empty());
}

#[test]
fn every_tool_of_the_older_program_is_here() {
    let names: Vec<_> = tool::all().map(|tool| tool.name).collect();
    for name in [
        "join_channel",
        "leave_channel",
        "send_channel",
        "whisper",
        "list_channels",
        "who",
        "catch_up",
        "wait_for_messages",
        "read_message",
        "check_messages",
        "set_perm",
        "create_channel",
        "delete_channel",
        "rename_channel",
        "set_visibility",
        "acl_add",
        "acl_remove",
        "acl_list",
        "invite_create",
        "invite_revoke",
        "invite_list",
        "kick",
        "ban",
        "unban",
        "ban_list",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let once: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(names.len(), once.len(), "no name is used twice");
}
