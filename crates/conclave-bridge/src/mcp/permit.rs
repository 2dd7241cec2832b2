//! The host's permission dialogs, as it relays them to channel servers that it trusts to know who answers.

use crate::desk::Call;
use rmcp::model::{CustomNotification, ServerNotification};
use serde_json::{Value, json};

/// What is declared, only where the user named approvers.
pub(super) const CAPABILITY: &str = "claude/channel/permission";

const ASKED: &str = "notifications/claude/channel/permission_request";
const ANSWERED: &str = "notifications/claude/channel/permission";
/// The longest id of a host's.
const ID_BYTES_MAX: usize = 64;

/// Reads a request; none if the notification is another one, or makes no sense.
pub(super) fn read(said: &CustomNotification) -> Option<(String, Call)> {
    let params = said.params.as_ref().filter(|_| said.method == ASKED)?;
    let text = |key: &str| params.get(key)?.as_str().map(str::to_owned);
    let id = text("request_id").filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)?;
    let shown = text("input_preview").unwrap_or_default();
    // What the host cut is no JSON any more.
    let whole = serde_json::from_str::<Value>(&shown).ok();
    let call = Call {
        tool: text("tool_name")?,
        whole: whole.is_some(),
        arguments: whole.map_or(shown, |value| value.to_string()),
        description: text("description").unwrap_or_default(),
    };
    Some((id, call))
}

/// Makes the verdict that the host takes.
pub(super) fn verdict(id: &str, allow: bool) -> ServerNotification {
    let behavior = if allow { "allow" } else { "deny" };
    let params = json!({"request_id": id, "behavior": behavior});
    ServerNotification::CustomNotification(CustomNotification::new(ANSWERED, Some(params)))
}
