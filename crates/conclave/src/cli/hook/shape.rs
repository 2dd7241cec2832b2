//! How each host puts a question to its hooks, and how it wants to be answered. Pure.

use super::claims::Verdict;
use conclave_bridge::control::{Answer, Event};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The most of a prompt that the bridge gets, in bytes: it looks at how it begins.
const PROMPT_BYTES_MAX: usize = 64 * 1024;

/// Whose hooks are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Client {
    /// Claude Code
    Claude,
    /// Codex CLI
    Codex,
    /// Gemini CLI
    Gemini,
    /// Cursor
    Cursor,
}

/// What a host says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// At which boundary.
    pub(super) event: Event,
    /// What the host calls that.
    pub(super) name: String,
    pub(super) session: Option<String>,
    pub(super) source: Option<String>,
    pub(super) prompt: Option<String>,
    pub(super) tool: Option<String>,
    pub(super) transcript: Option<PathBuf>,
    pub(super) continued: bool,
    /// What is answered reaches no model of the session: a subagent's hook, or the host takes nothing there.
    pub(super) deaf: bool,
    pub(super) cwd: Option<PathBuf>,
    /// The files that the tool would change.
    pub(super) files: Vec<String>,
}

impl Question {
    /// Reads what a host says; none if it is nothing that is known.
    pub(super) fn read(client: Client, said: &Value) -> Option<Self> {
        let word = |keys: &[&str]| {
            let mut found = keys.iter().filter_map(|key| said.get(key)?.as_str());
            found.next().map(str::to_owned)
        };
        let name = word(&["hook_event_name"])?;
        let event = event(client, &name)?;
        let prompt = word(&["prompt"]).map(|mut prompt| {
            prompt.truncate(prompt.floor_char_boundary(PROMPT_BYTES_MAX));
            prompt
        });
        let tool = word(&["tool_name"]);
        let flag = |key: &str| said.get(key).and_then(Value::as_bool) == Some(true);
        let loops = said.get("loop_count").and_then(Value::as_u64);
        let root = || {
            said.get("workspace_roots")?
                .get(0)?
                .as_str()
                .map(str::to_owned)
        };
        Some(Self {
            event,
            session: word(&["session_id", "conversation_id"]),
            source: word(&["source", "notification_type", "trigger"]),
            prompt,
            transcript: word(&["transcript_path"]).map(PathBuf::from),
            continued: flag("stop_hook_active") || loops > Some(0),
            deaf: word(&["agent_id"]).is_some()
                || (client, event) == (Client::Cursor, Event::Prompt),
            cwd: word(&["cwd"]).or_else(root).map(PathBuf::from),
            files: files(tool.as_deref(), said.get("tool_input")),
            name,
            tool,
        })
    }
}

/// Returns what a host's word for an event means.
fn event(client: Client, name: &str) -> Option<Event> {
    Some(match (client, name) {
        (Client::Claude | Client::Codex | Client::Gemini, "SessionStart")
        | (Client::Cursor, "sessionStart") => Event::SessionStart,
        (Client::Claude | Client::Codex, "UserPromptSubmit")
        | (Client::Gemini, "BeforeAgent")
        | (Client::Cursor, "beforeSubmitPrompt") => Event::Prompt,
        (Client::Claude | Client::Codex, "PreToolUse")
        | (Client::Gemini, "BeforeTool")
        | (Client::Cursor, "preToolUse") => Event::ToolStart,
        (Client::Claude | Client::Codex, "PostToolUse")
        | (Client::Claude, "PostToolUseFailure")
        | (Client::Gemini, "AfterTool")
        | (Client::Cursor, "postToolUse" | "postToolUseFailure") => Event::ToolEnd,
        (Client::Claude | Client::Codex, "Stop")
        | (Client::Gemini, "AfterAgent")
        | (Client::Cursor, "stop") => Event::Stop,
        (Client::Claude | Client::Gemini, "Notification") => Event::Waiting,
        (Client::Claude | Client::Codex | Client::Gemini, "SessionEnd")
        | (Client::Cursor, "sessionEnd") => Event::SessionEnd,
        (_, _) => return None,
    })
}

/// Returns the files that a call of a tool would change.
fn files(tool: Option<&str>, input: Option<&Value>) -> Vec<String> {
    let Some(input) = input else {
        return Vec::new();
    };
    let word = |key: &str| input.get(key).and_then(Value::as_str);
    let one = match tool {
        Some("Edit" | "Write" | "MultiEdit" | "write_file" | "replace") => word("file_path"),
        Some("NotebookEdit") => word("notebook_path"),
        Some("apply_patch") => return patched(word("command").or_else(|| word("input"))),
        _ => None,
    };
    one.map(str::to_owned).into_iter().collect()
}

/// Returns the files that a patch names.
fn patched(patch: Option<&str>) -> Vec<String> {
    let named = |line: &str| {
        let rest = line.strip_prefix("*** ")?;
        let heads = ["Update File: ", "Add File: ", "Delete File: ", "Move to: "];
        let mut found = heads.iter().filter_map(|head| rest.strip_prefix(head));
        found.next().map(|file| file.trim().to_owned())
    };
    patch
        .unwrap_or_default()
        .lines()
        .filter_map(named)
        .collect()
}

/// Returns what the host is told, if anything.
pub(super) fn output(
    client: Client,
    question: &Question,
    verdict: Option<Verdict>,
    answer: Option<Answer>,
) -> Option<Value> {
    if let Some(verdict) = verdict {
        return verdict_for(client, question, verdict);
    }
    let Some(Answer::Hook { context, go_on }) = answer else {
        return None;
    };
    match question.event {
        Event::Stop => go_on.and_then(|text| match client {
            // A reason of a block it shows its model twice.
            Client::Claude => added(client, question, text),
            Client::Codex => Some(json!({"decision": "block", "reason": text})),
            Client::Gemini => Some(json!({"decision": "deny", "reason": text})),
            Client::Cursor => Some(json!({"followup_message": text})),
        }),
        Event::SessionStart | Event::Prompt | Event::ToolEnd => added(client, question, context?),
        Event::ToolStart | Event::Waiting | Event::SessionEnd => None,
    }
}

/// Adds text to what the model gets.
fn added(client: Client, question: &Question, text: String) -> Option<Value> {
    match (client, question.event) {
        // It takes none there.
        (Client::Cursor, Event::Prompt) => None,
        (Client::Cursor, _) => Some(json!({"additional_context": text})),
        (Client::Claude | Client::Codex | Client::Gemini, _) => {
            Some(json!({"hookSpecificOutput": {
                "hookEventName": question.name,
                "additionalContext": text,
            }}))
        }
    }
}

fn verdict_for(client: Client, question: &Question, verdict: Verdict) -> Option<Value> {
    Some(match (client, verdict) {
        (Client::Claude | Client::Codex, Verdict::Deny(text)) => json!({"hookSpecificOutput": {
            "hookEventName": question.name,
            "permissionDecision": "deny",
            "permissionDecisionReason": text,
        }}),
        (Client::Claude, Verdict::Warn(text)) => json!({"hookSpecificOutput": {
            "hookEventName": question.name,
            "additionalContext": text,
        }}),
        (Client::Gemini, Verdict::Deny(text)) => json!({"decision": "deny", "reason": text}),
        (Client::Cursor, Verdict::Deny(text)) => json!({
            "permission": "deny", "user_message": text, "agent_message": text,
        }),
        // Before a tool these show nothing to the model but a refusal: the human is told.
        (Client::Codex | Client::Gemini, Verdict::Warn(text)) => json!({"systemMessage": text}),
        (Client::Cursor, Verdict::Warn(text)) => {
            json!({"permission": "allow", "agent_message": text})
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(client: Client, said: &Value) -> Question {
        Question::read(client, said).unwrap()
    }

    fn hook(context: Option<&str>, go_on: Option<&str>) -> Option<Answer> {
        Some(Answer::Hook {
            context: context.map(str::to_owned),
            go_on: go_on.map(str::to_owned),
        })
    }

    #[test]
    fn each_host_is_understood_and_answered_in_its_own_words() {
        let claude =
            json!({"session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": "hi"});
        let gemini = json!({"session_id": "s", "hook_event_name": "BeforeAgent", "prompt": "hi"});
        let cursor = json!({"conversation_id": "s", "hook_event_name": "beforeSubmitPrompt",
            "prompt": "hi", "workspace_roots": ["/r"]});
        let asked = [
            (Client::Claude, &claude),
            (Client::Codex, &claude),
            (Client::Gemini, &gemini),
            (Client::Cursor, &cursor),
        ];
        for (client, said) in asked {
            let question = read(client, said);
            assert_eq!(question.event, Event::Prompt, "{client:?}");
            assert_eq!(question.session.as_deref(), Some("s"), "{client:?}");
            assert_eq!(question.prompt.as_deref(), Some("hi"), "{client:?}");
            let told = output(client, &question, None, hook(Some("C"), None));
            match client {
                Client::Cursor => assert_eq!(told, None),
                _ => assert_eq!(
                    told.unwrap()["hookSpecificOutput"],
                    json!({"hookEventName": question.name, "additionalContext": "C"})
                ),
            }
        }
        let tool = json!({"conversation_id": "s", "hook_event_name": "postToolUse"});
        let question = read(Client::Cursor, &tool);
        assert_eq!(
            output(Client::Cursor, &question, None, hook(Some("C"), None)),
            Some(json!({"additional_context": "C"}))
        );
    }

    #[test]
    fn what_no_model_of_the_session_gets_is_not_asked_for() {
        let tool = json!({"session_id": "s", "hook_event_name": "PostToolUse"});
        let mut below = tool.clone();
        below["agent_id"] = "a1".into();
        let prompt = json!({"conversation_id": "s", "hook_event_name": "beforeSubmitPrompt"});
        assert!(!read(Client::Claude, &tool).deaf);
        assert!(read(Client::Claude, &below).deaf);
        assert!(read(Client::Cursor, &prompt).deaf);
    }

    #[test]
    fn the_end_of_a_turn_is_held_in_each_hosts_way_and_knows_that_it_was() {
        let table = [
            (
                Client::Claude,
                "Stop",
                json!({"stop_hook_active": true}),
                json!({"hookSpecificOutput":
                    {"hookEventName": "Stop", "additionalContext": "G"}}),
            ),
            (
                Client::Codex,
                "Stop",
                json!({"stop_hook_active": true}),
                json!({"decision": "block", "reason": "G"}),
            ),
            (
                Client::Gemini,
                "AfterAgent",
                json!({"stop_hook_active": true}),
                json!({"decision": "deny", "reason": "G"}),
            ),
            (
                Client::Cursor,
                "stop",
                json!({"loop_count": 1}),
                json!({"followup_message": "G"}),
            ),
        ];
        for (client, name, held, told) in table {
            let mut said = json!({"hook_event_name": name});
            let question = read(client, &said);
            assert!(!question.continued, "{client:?}");
            assert_eq!(
                output(client, &question, None, hook(None, Some("G"))),
                Some(told)
            );
            assert_eq!(output(client, &question, None, hook(None, None)), None);
            for (key, value) in held.as_object().unwrap() {
                said[key] = value.clone();
            }
            assert!(read(client, &said).continued, "{client:?}");
        }
    }

    #[test]
    fn the_files_of_an_edit_are_found_whatever_the_tool() {
        let patch = "*** Begin Patch\n*** Update File: src/a.rs\n@@\n-x\n*** Add File: b.rs\n+y\n";
        let table = [
            ("Edit", json!({"file_path": "a"}), vec!["a"]),
            ("write_file", json!({"file_path": "a"}), vec!["a"]),
            ("NotebookEdit", json!({"notebook_path": "n"}), vec!["n"]),
            (
                "apply_patch",
                json!({"command": patch}),
                vec!["src/a.rs", "b.rs"],
            ),
            ("Bash", json!({"command": patch}), vec![]),
            ("Edit", json!({"file_path": 7}), vec![]),
        ];
        for (tool, input, files) in table {
            let said =
                json!({"hook_event_name": "PreToolUse", "tool_name": tool, "tool_input": input});
            assert_eq!(read(Client::Claude, &said).files, files, "{tool}");
        }
    }

    #[test]
    fn a_refusal_is_one_object_and_what_is_unknown_is_nothing() {
        let said = json!({"hook_event_name": "PreToolUse", "tool_name": "Edit", "new_key": [1]});
        let question = read(Client::Codex, &said);
        let told = output(
            Client::Codex,
            &question,
            Some(Verdict::Deny("D".into())),
            None,
        );
        assert_eq!(
            told.unwrap()["hookSpecificOutput"]["permissionDecision"],
            "deny"
        );
        for said in [
            json!({}),
            json!([]),
            json!({"hook_event_name": "Elicitation"}),
            json!({"hook_event_name": 3}),
        ] {
            assert_eq!(Question::read(Client::Claude, &said), None, "{said}");
        }
        let long =
            json!({"hook_event_name": "UserPromptSubmit", "prompt": "é".repeat(PROMPT_BYTES_MAX)});
        let prompt = read(Client::Claude, &long).prompt.unwrap();
        assert!(prompt.len() <= PROMPT_BYTES_MAX && prompt.ends_with('é'));
    }
}
