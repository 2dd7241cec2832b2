//! Edits of TOML: a section of ours is appended as text and taken out as text.
//!
//! Nothing else in the file is touched, not even its line ends. Both results are read again as TOML and
//! compared with what the file said before: if anything but our section differs, nothing is written.

use super::edit::{Broken, Edit, Edited, runs_our_bridge};
use serde_json::Value;
use toml::{Table, Value as Toml};

/// Puts sections in, each at the end. What `own` says is ours is replaced; another's is not, unless `force`.
///
/// # Errors
/// [`Broken`]; then nothing of it may be written.
pub(crate) fn apply(
    text: &str,
    edits: &[Edit],
    own: &[Edit],
    force: bool,
) -> Result<Edited, Broken> {
    let mut edited = Edited {
        text: text.to_owned(),
        ..Edited::default()
    };
    for edit in edits {
        let before = parse(&edited.text)?;
        let found = lookup(&before, &edit.at).map(json);
        let ours = own.iter().find(|old| old.at == edit.at);
        let was = match (&found, ours) {
            (Some(_), Some(old)) => old.was.clone(),
            (Some(found), None) if *found == edit.value => continue,
            (Some(found), None) if force || runs_our_bridge(found) => Some(found.clone()),
            (Some(_), None) => return Err(Broken::Taken { at: edit.place() }),
            (None, _) => None,
        };
        if found.is_some() {
            edited.text = cut(&edited.text, edit)?;
        }
        edited.text = append(&edited.text, &edit.at, &edit.value)?;
        let mut want = parse(text)?;
        place(&mut want, &edit.at, Some(&edit.value));
        same(&edited.text, &want, edit)?;
        edited.done.push(Edit {
            was,
            ..edit.clone()
        });
    }
    Ok(edited)
}

/// Takes sections out; returns the text and what was changed by others since and therefore stays.
///
/// # Errors
/// [`Broken`].
pub(crate) fn remove(text: &str, edits: &[Edit]) -> Result<(String, Vec<String>), Broken> {
    let (mut text, mut kept) = (text.to_owned(), Vec::new());
    for edit in edits {
        let mut want = parse(&text)?;
        let Some(found) = lookup(&want, &edit.at).map(json) else {
            continue;
        };
        if found != edit.value && !runs_our_bridge(&found) {
            kept.push(format!("{} was changed since and stays", edit.place()));
            continue;
        }
        let mut rest = cut(&text, edit)?;
        if let Some(was) = &edit.was {
            rest = append(&rest, &edit.at, was)?;
        }
        place(&mut want, &edit.at, edit.was.as_ref());
        same(&rest, &want, edit)?;
        text = rest;
    }
    Ok((text, kept))
}

fn parse(text: &str) -> Result<Table, Broken> {
    text.parse::<Table>().map_err(|error| {
        let start = error.span().map(|span| span.start);
        let before = start.and_then(|start| text.get(..start));
        Broken::Syntax {
            line: before.map(|before| before.matches('\n').count() + 1),
            why: format!("this is not TOML: {}", error.message()),
        }
    })
}

/// Refuses an edit that would have said anything else than it should.
fn same(text: &str, want: &Table, edit: &Edit) -> Result<(), Broken> {
    let bare = |mut table: Table| {
        prune(&mut table, &edit.at);
        table
    };
    match parse(text) {
        Ok(table) if bare(table.clone()) == bare(want.clone()) => Ok(()),
        _ => Err(Broken::Shape {
            at: edit.place(),
            want: "a section of its own",
        }),
    }
}

/// Takes out the empty tables on the way to a place: a head without a section says nothing.
fn prune(table: &mut Table, keys: &[String]) {
    let Some((first, rest)) = keys.split_first() else {
        return;
    };
    if let Some(Toml::Table(inner)) = table.get_mut(first) {
        prune(inner, rest);
        if inner.is_empty() {
            table.remove(first);
        }
    }
}

fn lookup<'a>(table: &'a Table, keys: &[String]) -> Option<&'a Toml> {
    let (first, rest) = keys.split_first()?;
    let mut value = table.get(first)?;
    for key in rest {
        value = value.get(key)?;
    }
    Some(value)
}

/// Puts a value into a table, or takes it out.
fn place(table: &mut Table, keys: &[String], value: Option<&Value>) {
    let Some((first, rest)) = keys.split_first() else {
        return;
    };
    if rest.is_empty() {
        match value.and_then(|value| Toml::try_from(value).ok()) {
            Some(value) => drop(table.insert(first.clone(), value)),
            None => drop(table.remove(first)),
        }
        return;
    }
    let inner = table
        .entry(first.clone())
        .or_insert_with(|| Toml::Table(Table::new()));
    if let Toml::Table(inner) = inner {
        place(inner, rest, value);
    }
}

fn json(value: &Toml) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn newline(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn append(text: &str, keys: &[String], value: &Value) -> Result<String, Broken> {
    let mut table = Table::new();
    place(&mut table, keys, Some(value));
    let section = toml::to_string(&table).map_err(|error| Broken::Syntax {
        line: None,
        why: error.to_string(),
    })?;
    let end = newline(text);
    let mut text = text.to_owned();
    if !text.is_empty() {
        if !text.ends_with('\n') {
            text.push_str(end);
        }
        text.push_str(end);
    }
    text.push_str(&section.replace('\n', end));
    Ok(text)
}

/// Cuts a section and those below it, with the blank lines before it.
fn cut(text: &str, edit: &Edit) -> Result<String, Broken> {
    let head = edit.at.join(".");
    let (mut kept, mut inside) = (Vec::new(), false);
    for line in text.split_inclusive('\n') {
        let bare = line.split('#').next().unwrap_or_default().trim();
        if let Some(name) = bare
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            let name = name.trim();
            let was = inside;
            inside = name == head || name.starts_with(&format!("{head}."));
            if inside && !was {
                while kept
                    .last()
                    .is_some_and(|line: &&str| line.trim().is_empty())
                {
                    kept.pop();
                }
            } else if was && !inside && !kept.is_empty() {
                kept.push(newline(text));
            }
        }
        if !inside {
            kept.push(line);
        }
    }
    let rest = kept.concat();
    let mut want = parse(text)?;
    place(&mut want, &edit.at, None);
    same(&rest, &want, edit)?;
    Ok(rest)
}
