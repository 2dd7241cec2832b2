//! Makes peer text harmless to look at: what a reader cannot see is removed and counted, and no
//! text starts a tag that a host or this program gives a meaning. Says nothing about its content.

use unicode_normalization::UnicodeNormalization as _;

/// Tags that a host or this program interprets. A leading slash: only the closing form is special,
/// because the word is also ordinary code (`Vec<Result<T>>`).
const TAGS: [&str; 33] = [
    "antml",
    "bash-input",
    "bash-stderr",
    "bash-stdout",
    "channel",
    "command-args",
    "command-message",
    "command-name",
    "conclave",
    "cross-session-message",
    "function_calls",
    "function_result",
    "function_results",
    "functions",
    "invoke",
    "local-command-stdout",
    "persisted-output",
    "system-reminder",
    "system_reminder",
    "task-notification",
    "teammate-message",
    "thinking",
    "tool_result",
    "tool_use",
    "tool_use_error",
    "whisper",
    "/assistant",
    "/event",
    "/human",
    "/parameter",
    "/result",
    "/system",
    "/user",
];

/// Peer text after cleaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clean {
    /// What may be shown.
    pub text: String,
    /// How many code points were removed.
    pub stripped: usize,
}

/// Cleans `text`: line ends unified, invisible and control code points dropped and counted, composed
/// (NFC), `<` escaped where one of `TAGS` follows.
#[must_use]
pub fn sanitise(text: &str) -> Clean {
    let mut kept = String::with_capacity(text.len());
    let mut stripped = 0;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\u{2028}' | '\u{2029}' => kept.push('\n'),
            '\u{200c}' | '\u{200d}' if joins(kept.chars().next_back(), chars.peek()) => {
                kept.push(c);
            }
            '\u{fe0f}' if follows_symbol(&kept) => {}
            c if is_forbidden(c) => stripped += 1,
            c => kept.push(c),
        }
    }
    Clean {
        text: escape(&kept.nfc().collect::<String>()),
        stripped,
    }
}

/// Returns whether a code point never reaches the reader: controls but line feed and tab, bidi
/// controls, invisible characters, tags, variation selectors, private use, noncharacters.
/// Joiners count as forbidden here; [`sanitise`] keeps them where they shape a script or emoji.
#[must_use]
pub const fn is_forbidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => true,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => {
            true
        }
        '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => true,
        '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' => true,
        '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => true,
        '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}' | '\u{fdd0}'..='\u{fdef}' => true,
        c => c as u32 & 0xfffe == 0xfffe,
    }
}

/// Returns whether a joiner between these two shapes writing, rather than hides something.
fn joins(before: Option<char>, after: Option<&char>) -> bool {
    let shapes = |c: char| c >= '\u{600}' && !is_forbidden(c) && !c.is_whitespace();
    before.is_some_and(shapes) && after.is_some_and(|c| shapes(*c) || *c == '\u{fe0f}')
}

/// Returns whether an emoji presentation selector here says nothing new, and is dropped silently.
fn follows_symbol(kept: &str) -> bool {
    (kept.chars().next_back()).is_some_and(|c| c >= '\u{2000}' || "#*0123456789©®".contains(c))
}

/// Escapes `<` before the tags of [`TAGS`], in any case and with spaces or a slash between.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('<') {
        out.push_str(before);
        out.push_str(if opens_tag(after) { "&lt;" } else { "<" });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn opens_tag(after: &str) -> bool {
    let trimmed = after.trim_start();
    let (closing, name) = match trimmed.strip_prefix('/') {
        Some(name) => (true, name.trim_start()),
        None => (false, trimmed),
    };
    TAGS.iter().any(|tag| {
        let (only_closing, tag) = match tag.strip_prefix('/') {
            Some(tag) => (true, tag),
            None => (false, *tag),
        };
        (closing || !only_closing)
            && (name.get(..tag.len())).is_some_and(|start| start.eq_ignore_ascii_case(tag))
            && !(name[tag.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
    })
}
