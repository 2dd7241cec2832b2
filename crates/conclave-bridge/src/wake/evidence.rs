//! What the host's transcript shows that its model got: gutters of frames and nonces of lines, which nobody
//! outside this process knows before they are shown. Each look reads only what was written since the last.

use crate::state::Seen;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The most that one look reads, in bytes: the newest.
const LOOK_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The characters of a gutter.
const WORD_BYTES: usize = 6;
/// What the host queued is not what the model got.
const QUEUED: &str = r#""type":"queue-operation""#;

/// A transcript, and how far it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    path: PathBuf,
    file: (u64, u64),
    read: u64,
}

impl Transcript {
    /// Begins with a transcript.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            ..Self::default()
        }
    }

    /// Returns where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at what was written since the last look. The file must be a regular one of this user's.
    ///
    /// # Errors
    /// Those of the file system; it is another user's, or no file.
    pub fn look(&mut self, uid: u32) -> io::Result<Seen> {
        let own = |meta: &fs::Metadata| meta.is_file() && meta.uid() == uid;
        // A pipe would hold the look up before it could be asked what it is.
        if !own(&fs::symlink_metadata(&self.path)?) {
            return Err(io::Error::other("not a regular file of this user's"));
        }
        let mut file = File::open(&self.path)?;
        let meta = file.metadata()?;
        if !own(&meta) {
            return Err(io::Error::other("not a regular file of this user's"));
        }
        let known = (meta.dev(), meta.ino());
        if known != self.file || meta.len() < self.read {
            (self.file, self.read) = (known, 0);
        }
        let from = self.read.max(meta.len().saturating_sub(LOOK_BYTES_MAX));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(LOOK_BYTES_MAX).read_to_end(&mut bytes)?;
        // A line that is being written is read when it is whole, unless it is longer than a look.
        let whole = bytes.iter().rposition(|b| *b == b'\n').map(|at| at + 1);
        let whole = match whole {
            None if bytes.len() as u64 >= LOOK_BYTES_MAX => bytes.len(),
            whole => whole.unwrap_or_default(),
        };
        self.read = from + whole as u64;
        bytes.truncate(whole);
        let text = String::from_utf8_lossy(&bytes);
        let mut seen = Seen::default();
        let lines = text.lines().filter(|line| !line.contains(QUEUED));
        lines.for_each(|line| find(line, &mut seen));
        Ok(seen)
    }
}

/// Adds what a text has of ours. A text in JSON has it in the same characters.
pub fn find(text: &str, seen: &mut Seen) {
    for (word, rest) in words(text, "[conclave ") {
        if rest.starts_with(" end]") || rest.starts_with("] notice:") {
            seen.frames.insert(word.to_owned());
        }
    }
    for (word, rest) in words(text, "(") {
        if rest.starts_with(')') {
            seen.lines.insert(word.to_owned());
        }
    }
}

/// Returns each word of a gutter's length behind `before`, with what is behind it.
fn words<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let behind = move |(at, _): (usize, _)| {
        let text = text.get(at + before.len()..)?;
        let (word, rest) = text.split_at_checked(WORD_BYTES)?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        word.bytes().all(plain).then_some((word, rest))
    };
    text.match_indices(before).filter_map(behind)
}
