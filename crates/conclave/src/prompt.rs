//! Questions to a person at a terminal, and secrets from files and standard input.
//!
//! Nothing is asked unless both ends are terminals; a secret is never echoed and never an argument.

use crate::error::CliError;
use crate::output::{self, Output};
use conclave_proto::reject::Code;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead as _, Read as _};
use zeroize::Zeroizing;

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Asks for a line of text.
pub(crate) fn line(out: Output, question: &str) -> Result<String, CliError> {
    out.ask(question);
    read_line().map(|line| line.trim().to_owned())
}

/// Asks for a secret, without echo.
pub(crate) fn secret(out: Output, question: &str) -> Result<Zeroizing<String>, CliError> {
    out.ask(question);
    let silence = Silence::start()?;
    let answer = read_line();
    drop(silence);
    out.talk("");
    answer.map(|line| Zeroizing::new(line.trim().to_owned()))
}

/// Reads a secret that was piped in: all of standard input, trimmed.
pub(crate) fn piped() -> Result<Zeroizing<String>, CliError> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|e| CliError::usage(format!("standard input is no text: {e}")))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// Fails unless a person can answer.
pub(crate) fn need_person(what: &str, instead: &str) -> Result<(), CliError> {
    if output::interactive() {
        return Ok(());
    }
    Err(CliError::usage(format!("{what} is asked at a terminal, and this is none")).hint(instead))
}

fn read_line() -> Result<String, CliError> {
    let mut line = String::new();
    let read = std::io::stdin()
        .lock()
        .take(ANSWER_BYTES_MAX)
        .read_line(&mut line);
    match read {
        Ok(0) => Err(CliError::usage("the input ended before an answer came")),
        Ok(_) => Ok(line),
        Err(e) => Err(CliError::usage(format!(
            "standard input cannot be read: {e}"
        ))),
    }
}

/// Switches the terminal's echo off for as long as it lives.
struct Silence(Termios);

impl Silence {
    fn start() -> Result<Self, CliError> {
        let stdin = std::io::stdin();
        let fail = |e| CliError::local(format!("the terminal's echo cannot be switched off: {e}"));
        let before = tcgetattr(&stdin).map_err(fail)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(fail)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // The terminal is gone if this fails; there is nobody to tell.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Returns the words of a command line, or what was piped in if there are none or only a `-`.
pub(crate) fn words(typed: &[String], bytes_max: usize) -> Result<String, CliError> {
    let typed = typed.join(" ");
    match typed.is_empty() || typed == "-" {
        true => text(bytes_max),
        false => Ok(typed),
    }
}

/// Reads a text that was piped in, at most `bytes_max`; one line break at its end is not part of it.
pub(crate) fn text(bytes_max: usize) -> Result<String, CliError> {
    let mut text = String::new();
    let limit = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(2);
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_string(&mut text)
        .map_err(|e| CliError::usage(format!("standard input is no text: {e}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.len() > bytes_max {
        return Err(CliError::coded(
            &Code::TooLarge,
            format!("a message has at most {bytes_max} bytes"),
        ));
    }
    Ok(text.to_owned())
}
