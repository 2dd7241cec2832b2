//! The one renderer of everything that peers wrote: live, history, search, all the same.
//!
//! A frame has a gutter of six random characters, drawn after the body is fixed: it marks every body
//! line as data and cannot be forged from inside. Attributes have fixed keys and a narrow alphabet.
//! Decides nothing about who may say what (see [`crate::trust`]).

pub mod sanitise;

use crate::policy::Level;
use conclave_proto::bytes::Builder;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How much of a body is shown at once, in bytes; the rest by `read_message`.
pub const INLINE_BYTES_MAX: usize = 8 * 1024;

/// How much of a question is shown with its answer, in characters.
const QUESTION_CHARS_MAX: usize = 120;

/// How many lines of a body are shown at once.
pub const INLINE_LINES_MAX: usize = 1_000;

/// The longest attribute value, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 160;

/// Random bytes for one frame's gutter.
pub type Seed = [u8; 16];

macro_rules! keys {
    ($($variant:ident = $word:literal),* $(,)?) => {
        /// The attributes a frame can have. The list is closed: a peer names none of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is named by its word; docs/protocol.md explains them")]
        pub enum Key { $($variant),* }

        impl Key {
            /// Every key.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the key as the host sees it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

keys! {
    Kind = "kind", From = "from", FromKind = "from_kind", Channel = "channel", Server = "server",
    Id = "msg_id", Seq = "seq", ReplyTo = "reply_to", Answers = "answers", Level = "level", Trust = "trust", Hop = "hop",
    AgeS = "age_s", History = "history", Redelivered = "redelivered", Stripped = "stripped",
    Bytes = "bytes", Offset = "offset", Next = "next_offset", Missing = "missing", Notice = "notice",
    Priority = "priority", Mention = "mention", To = "to", ExpectsReply = "expects_reply",
}

/// The attributes of a frame: fixed keys, values of a narrow alphabet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<Key, String>);

impl Attributes {
    /// Sets one; a value outside `[A-Za-z0-9_./:@+-]{1,160}` becomes `invalid`.
    #[must_use]
    pub fn with(mut self, key: Key, value: impl ToString) -> Self {
        let value = value.to_string();
        let fits = !value.is_empty()
            && value.len() <= VALUE_BYTES_MAX
            && (value.bytes()).all(|b| b.is_ascii_alphanumeric() || b"_./:@+-".contains(&b));
        let value = if fits { value } else { "invalid".into() };
        self.0.insert(key, value);
        self
    }

    /// Sets one if there is a value.
    #[must_use]
    pub fn with_some(self, key: Key, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Returns key and value pairs in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        (self.0.iter()).map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Returns one value.
    #[must_use]
    pub fn value(&self, key: Key) -> Option<&str> {
        self.0.get(&key).map(String::as_str)
    }
}

/// Peer text in its frame, with the attributes the host puts on its own tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Attributes, for the host's tag or for [`Frame::standalone`].
    pub attributes: Attributes,
    /// The frame with the guttered body.
    pub content: String,
    gutter: String,
}

impl Frame {
    /// Returns the frame with its attributes as a first line, for where there is no host tag.
    #[must_use]
    pub fn standalone(&self) -> String {
        let mut line = format!("[conclave {}]", self.gutter);
        for (key, value) in self.attributes.iter() {
            let _ = write!(line, " {key}={value}");
        }
        format!("{line}\n{}", self.content)
    }
}

impl Frame {
    /// Returns the six characters that nobody knows before the frame is shown.
    #[must_use]
    pub fn gutter(&self) -> &str {
        &self.gutter
    }

    /// Says beside the frame's first line which question of ours it answers: the beginning of our own
    /// words, fixed before the gutter was drawn.
    #[must_use]
    pub fn answering(mut self, question: &str) -> Self {
        let words = sanitise::sanitise(question).text;
        let words: String = words
            .split_whitespace()
            .flat_map(|word| [" ", word])
            .flat_map(str::chars)
            .take(QUESTION_CHARS_MAX + 1)
            .collect();
        let first = self.content.find('\n').unwrap_or(self.content.len());
        let line = format!(
            "\n[conclave {}] it answers your question:{words}",
            self.gutter
        );
        self.content.insert_str(first, &line);
        self
    }

    /// Frames a notice of this program's own words: no level, no peer text.
    #[must_use]
    pub fn notice(text: &str, attributes: Attributes, seed: Seed) -> Self {
        let gutter = gutter(text, seed);
        let content = format!("[conclave {gutter}] notice: {text}");
        Self {
            attributes,
            content,
            gutter,
        }
    }
}

/// Renders a body from `offset` (bytes of its cleaned form), at most [`INLINE_BYTES_MAX`] and
/// [`INLINE_LINES_MAX`] of it.
#[must_use]
pub fn frame(body: &str, offset: usize, level: Level, attributes: Attributes, seed: Seed) -> Frame {
    let clean = sanitise::sanitise(body);
    let total = clean.text.len();
    let from = clean.text.floor_char_boundary(offset.min(total));
    let to = end_of_part(&clean.text, from);
    let shown = clean.text.get(from..to).unwrap_or_default();
    let gutter = gutter(&clean.text, seed);
    let mut attributes = attributes.with(Key::Level, level);
    if clean.stripped > 0 {
        attributes = attributes.with(Key::Stripped, clean.stripped);
    }
    if from > 0 || to < total {
        attributes = attributes.with(Key::Bytes, total).with(Key::Offset, from);
    }
    let mut content = format!("[conclave {gutter}] {}\n", level.sentence());
    for line in shown.split('\n') {
        let _ = writeln!(content, "{gutter}| {line}");
    }
    let _ = write!(content, "[conclave {gutter} end]");
    if to < total {
        let tool = match attributes.value(Key::Kind) {
            Some("state") => "get_state",
            _ => "read_message",
        };
        attributes = attributes.with(Key::Next, to);
        let _ = write!(
            content,
            " {to} of {total} bytes shown; the rest: {tool} with offset {to}"
        );
    }
    Frame {
        attributes,
        content,
        gutter,
    }
}

/// Returns up to where a text is shown at once from `from` on: bounded in bytes and in lines, for each line
/// costs its gutter as well.
fn end_of_part(text: &str, from: usize) -> usize {
    let most = text.floor_char_boundary((from + INLINE_BYTES_MAX).min(text.len()));
    let part = text.get(from..most).unwrap_or_default();
    let last = part.match_indices('\n').nth(INLINE_LINES_MAX - 1);
    last.map_or(most, |(at, _)| from + at + 1)
}

/// Draws six characters by which a line of our own words is known.
pub(crate) fn nonce(seed: Seed) -> String {
    gutter("", seed)
}

/// Draws six characters that do not occur in the text, in any case.
fn gutter(text: &str, seed: Seed) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let text = text.to_ascii_lowercase();
    let draw = |round: u64| -> String {
        let hash = Builder::labelled("conclave/gutter")
            .raw(&seed)
            .u64(round)
            .sha256();
        let pick = |b: &u8| char::from(ALPHABET[usize::from(b % 32)]);
        hash.as_bytes().iter().take(6).map(pick).collect()
    };
    (0..)
        .map(draw)
        .find(|gutter| !text.contains(gutter))
        .unwrap_or_default()
}
