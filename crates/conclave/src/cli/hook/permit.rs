//! A tool call that waits for a human: the session's bridge may know somebody else who decides.
//!
//! It waits as long as a request lives, beside the host's own dialog. Without a verdict it says nothing, and
//! the host's human decides as always.

use crate::cli::{Context, local};
use conclave_bridge::control::{Answer, Ask, Permit, find};
use serde_json::{Value, json};
use std::time::Duration;

/// At which hook.
const EVENT: &str = "PermissionRequest";

/// How long a verdict may take: longer than the bridge asks, shorter than the host gives its hook.
pub(super) const WITHIN: Duration = Duration::from_secs(113);

/// Returns whether a hook asks for a verdict.
pub(super) fn is_one(question: &Value) -> bool {
    question.get("hook_event_name").and_then(Value::as_str) == Some(EVENT)
}

/// Answers the hook, if there is a verdict.
pub(super) fn answer(cx: &Context, question: &Value) -> Option<Value> {
    let text = |key: &str| question.get(key)?.as_str().map(str::to_owned);
    let home = cx.config_dir().ok()?;
    let mut mark = local::mark(text("session_id"));
    mark.host_pid = mark.host_pid.or_else(|| local::host_above(&home));
    let input = question.get("tool_input").cloned().unwrap_or_default();
    let said = input.get("description").and_then(Value::as_str);
    let permit = Permit {
        tool: text("tool_name")?,
        description: said.map(str::to_owned),
        session: mark.session.clone(),
        input,
    };
    let ask = Ask::Permit(Box::new(permit));
    let mut asked = find::ask(&home, &mark, &ask, WITHIN).ok()??;
    let Some(Answer::Permit { allow, message }) = asked.next().ok()? else {
        return None;
    };
    let decision = match allow? {
        true => json!({"behavior": "allow"}),
        false => json!({"behavior": "deny", "message": message.unwrap_or_default()}),
    };
    Some(json!({"hookSpecificOutput": {"hookEventName": EVENT, "decision": decision}}))
}
