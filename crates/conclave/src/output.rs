//! The only place that prints. Standard output is data, standard error is talk.
//!
//! With `--json` a command writes exactly one object to standard output, whether it succeeded or
//! not (`tail --follow` and `machine add` write one object a line, as things happen).

use crate::error::CliError;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

/// How a command speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    /// Speaks in this format.
    pub(crate) const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Returns whether programs are listening.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Writes a command's result: the text for people, or the object for programs.
    pub(crate) fn result(self, text: impl Display, object: &Value) {
        match self.format {
            Format::Text => self.data(&text.to_string()),
            Format::Json => self.data(&object.to_string()),
        }
    }

    /// Writes rows under a head, aligned, or the object for programs.
    pub(crate) fn table<const N: usize>(
        self,
        head: [&str; N],
        rows: &[[String; N]],
        object: &Value,
    ) {
        self.result(aligned(head, rows), object);
    }

    /// Writes a line of data as it is, in either format.
    pub(crate) fn data(self, line: &str) {
        let mut out = std::io::stdout().lock();
        // A closed pipe (`conclave tail | head`) is the reader's wish, not a failure.
        let newline = if line.ends_with('\n') || line.is_empty() {
            ""
        } else {
            "\n"
        };
        let _closed = write!(out, "{line}{newline}").and_then(|()| out.flush());
    }

    /// Writes a line of data for a program that must be there to read it.
    ///
    /// # Errors
    /// Nobody reads.
    pub(crate) fn line(self, line: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    }

    /// Says something to the person at the terminal.
    pub(crate) fn talk(self, line: impl Display) {
        let mut err = std::io::stderr().lock();
        let _closed = writeln!(err, "{line}");
    }

    /// Warns the person at the terminal, in red where the terminal has colours.
    pub(crate) fn alarm(self, lines: impl Display) {
        let plain = !std::io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
        for line in lines.to_string().lines() {
            match plain {
                true => self.talk(line),
                false => self.talk(format_args!("\x1b[1;97;41m{line:<78}\x1b[0m")),
            }
        }
    }

    /// Shows a picture made of blocks, dark on light whatever the terminal's colours are.
    pub(crate) fn picture(self, lines: &str) {
        for line in lines.lines() {
            self.talk(format_args!("\x1b[38;5;16;48;5;231m{line}\x1b[0m"));
        }
    }

    /// Asks on the terminal, without a line break.
    pub(crate) fn ask(self, prompt: impl Display) {
        let mut err = std::io::stderr().lock();
        let _closed = write!(err, "{prompt} ").and_then(|()| err.flush());
    }

    /// Reports a failure.
    pub(crate) fn error(self, error: &CliError) {
        if self.is_json() {
            let mut object = json!({"error": error.code, "message": error.message});
            if let (Some(hint), Some(map)) = (&error.hint, object.as_object_mut()) {
                map.insert("hint".to_owned(), json!(hint));
            }
            if let (Some(ms), Some(map)) = (error.retry_after_ms, object.as_object_mut()) {
                map.insert("retry_after_ms".to_owned(), json!(ms));
            }
            self.data(&object.to_string());
            return;
        }
        self.talk(format_args!("error: {} ({})", error.message, error.code));
        if let Some(hint) = &error.hint {
            self.talk(format_args!("hint: {hint}"));
        }
    }
}

/// Returns whether a person sits at both ends: prompts are for people only.
pub(crate) fn interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Lays rows out in columns; an empty list says so.
fn aligned<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return "(none)".to_owned();
    }
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; N]| {
        let padded = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&head.map(str::to_uppercase))];
    lines.extend(rows.iter().map(line));
    lines.join("\n")
}
