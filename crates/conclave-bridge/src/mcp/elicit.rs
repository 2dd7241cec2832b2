//! Asking the host's human something in a dialog: a few words to choose from, for a while.
//!
//! Every end but a choice that was offered is a no: no capability, a refusal, no answer in time, an answer of
//! another form, a host that went. Nothing of the dialog reaches the model.

use rmcp::model::{
    CancelledNotificationParam, ClientResult, ElicitRequest, ElicitRequestParams,
    ElicitationAction, ElicitationSchema, ServerRequest,
};
use rmcp::service::{PeerRequestOptions, RequestHandle};
use rmcp::{Peer, RoleServer, ServiceError};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;

/// What the human chooses from stands under this name.
const FIELD: &str = "decision";

/// A question for the host's human.
#[derive(Debug)]
pub struct Dialog {
    /// What is asked: our own words around what was cleaned.
    pub message: String,
    /// The choices.
    pub choices: &'static [&'static str],
    /// How long the human has.
    pub within: Duration,
    /// Takes what became of it.
    pub verdict: oneshot::Sender<Verdict>,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The human chose this.
    Chose(&'static str),
    /// The human refused, or closed the dialog.
    Refused,
    /// The host has no dialogs: nobody was asked.
    Unable,
    /// Nobody answered in time, or not in this form.
    Unanswered,
}

/// Puts a dialog to the host.
pub(super) async fn put(peer: &Peer<RoleServer>, dialog: Dialog) {
    let mut told = dialog.verdict;
    let Some(sent) = send(peer, dialog.message, dialog.choices, dialog.within).await else {
        return told.send(Verdict::Unable).unwrap_or_default();
    };
    let id = sent.id.clone();
    tokio::select! {
        answer = sent.await_response() => {
            let verdict = verdict(answer, dialog.choices);
            told.send(verdict).unwrap_or_default();
        }
        // Nobody waits for it any more: the dialog goes.
        () = told.closed() => {
            let reason = Some("nobody waits for it any more".to_owned());
            let cancel = CancelledNotificationParam::new(Some(id), reason);
            if let Err(error) = peer.notify_cancelled(cancel).await {
                tracing::debug!(%error, "a dialog was not taken back");
            }
        }
    }
}

async fn send(
    peer: &Peer<RoleServer>,
    message: String,
    choices: &'static [&'static str],
    within: Duration,
) -> Option<RequestHandle<RoleServer>> {
    let info = peer.peer_info();
    let can = info.and_then(|info| info.capabilities.elicitation.clone());
    // An empty capability is a form's, from before there were others.
    if !can.is_some_and(|can| can.form.is_some() || can.url.is_none()) {
        return None;
    }
    let request = request(message, choices)?;
    let options = PeerRequestOptions::with_timeout(within);
    let sent = peer.send_request_with_option(request, options).await;
    sent.ok()
}

fn verdict(
    answer: Result<ClientResult, ServiceError>,
    choices: &'static [&'static str],
) -> Verdict {
    match answer {
        Ok(ClientResult::ElicitResult(result)) => match result.action {
            ElicitationAction::Accept => chosen(result.content.as_ref(), choices),
            _ => Verdict::Refused,
        },
        Ok(_) => Verdict::Unanswered,
        Err(error) => {
            tracing::debug!(%error, "the host's human did not answer");
            Verdict::Unanswered
        }
    }
}

fn chosen(content: Option<&Value>, choices: &'static [&'static str]) -> Verdict {
    let word = content.and_then(|content| content.get(FIELD)?.as_str());
    let choice = choices.iter().find(|choice| Some(**choice) == word);
    choice.map_or(Verdict::Unanswered, |choice| Verdict::Chose(choice))
}

fn request(message: String, choices: &[&str]) -> Option<ServerRequest> {
    let schema = json!({
        "type": "object",
        "properties": {FIELD: {"type": "string", "title": "Your decision", "enum": choices}},
        "required": [FIELD],
    });
    let Value::Object(schema) = schema else {
        return None;
    };
    let requested_schema = ElicitationSchema::from_json_schema(schema).ok()?;
    let params = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message,
        requested_schema,
    };
    Some(ServerRequest::ElicitRequest(ElicitRequest::new(params)))
}
