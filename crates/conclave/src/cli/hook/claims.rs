//! Edits of files that other sessions have claimed.

use super::shape::Question;
use crate::cli::Context;
use crate::cli::held::{Held, standing};
use conclave_bridge::policy::Level;
use conclave_bridge::render::{Attributes, Key, frame};
use conclave_client::repo::Repo;
use std::path::{Path, PathBuf};

/// The most files of one edit that are looked at.
const FILES_MAX: usize = 64;

/// What to do about claimed files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Claims {
    /// Tell the model
    Warn,
    /// Refuse the edit
    Deny,
    /// Nothing
    Off,
}

/// What the model is told of a claimed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The edit goes on.
    Warn(String),
    /// The edit is refused.
    Deny(String),
}

/// Returns what there is to say of the files that a call would change.
pub(super) fn verdict(cx: &Context, claims: Claims, question: &Question) -> Option<Verdict> {
    if claims == Claims::Off {
        return None;
    }
    let dir = question.cwd.clone().unwrap_or_else(|| PathBuf::from("."));
    let files = question.files.iter().take(FILES_MAX);
    let files: Vec<PathBuf> = files.map(|file| dir.join(file)).collect();
    let mut all = None;
    files.iter().find_map(|file| {
        // A file may be in another repository than the session, and in a directory that is yet to be made.
        let near = file.ancestors().skip(1).find(|dir| dir.is_dir())?;
        let resource = Repo::find(near)?.file(near, file.to_str()?).ok()?;
        let all = all.get_or_insert_with(|| standing(cx, question.session.as_deref()));
        let held = all
            .iter()
            .find(|held| !held.own && held.covers(&resource))?;
        Some(told(claims, held, (files.len() > 1).then_some(file)))
    })
}

fn told(claims: Claims, held: &Held, of: Option<&PathBuf>) -> Verdict {
    let advice = match claims {
        Claims::Deny => "Do not edit it now. Work on something else, or ask the holder.",
        Claims::Warn | Claims::Off => "Ask the holder before you go on.",
    };
    let name = of.and_then(|file| Path::new(file).file_name());
    let of = name.map_or_else(String::new, |name| format!("{}: ", name.display()));
    let mut text = format!("conclave: {of}{}. {advice}", held.fact());
    if let Some(note) = note(held) {
        text.push('\n');
        text.push_str(&note);
    }
    match claims {
        Claims::Deny => Verdict::Deny(text),
        Claims::Warn | Claims::Off => Verdict::Warn(text),
    }
}

/// The holder's words, framed like everything that peers write.
fn note(held: &Held) -> Option<String> {
    let note = held.claim.note.as_deref()?;
    let mut seed = [0; 16];
    getrandom::fill(&mut seed).ok()?;
    let attributes = Attributes::default()
        .with(Key::Kind, "claim")
        .with(Key::From, &held.claim.holder);
    Some(frame(note, 0, Level::Notify, attributes, seed).standalone())
}
