//! Edits of JSON, with or without comments: everything else in the file stays as it was written.

use super::edit::{Broken, Edit, Edited, Kind, runs_our_bridge};
use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};
use serde_json::Value;

/// What some editors put before the text.
const BOM: char = '\u{feff}';

/// Puts edits in. What `own` says is ours is replaced; another's member is not, unless `force`.
///
/// # Errors
/// [`Broken`]; then nothing of it may be written.
pub(crate) fn apply(
    text: &str,
    edits: &[Edit],
    own: &[Edit],
    force: bool,
) -> Result<Edited, Broken> {
    let (bom, text) = split_bom(text);
    let root = parse(text)?;
    let mut edited = Edited::default();
    for edit in edits {
        match edit.kind {
            Kind::Member | Kind::Default => set(&root, edit, own, force, &mut edited)?,
            Kind::Element => add(&root, edit, own, &mut edited)?,
        }
    }
    edited.text = format!("{bom}{root}");
    Ok(edited)
}

/// Takes edits out, with what was made for them and is empty now; returns the text and what was changed by
/// others since and therefore stays.
///
/// # Errors
/// [`Broken`].
pub(crate) fn remove(
    text: &str,
    edits: &[Edit],
    made: &[Vec<String>],
) -> Result<(String, Vec<String>), Broken> {
    let (bom, text) = split_bom(text);
    let root = parse(text)?;
    let mut kept = Vec::new();
    for edit in edits {
        let whole = edit.kind != Kind::Element;
        let keys = edit.at.get(..edit.at.len() - usize::from(whole));
        let Some(holder) = keys.and_then(|keys| lookup(&root, keys)) else {
            continue;
        };
        if whole {
            unset(&holder, edit, &mut kept);
        } else if let Some(list) = holder.as_array() {
            let found = list.elements().into_iter();
            let found = found.rev().find(|e| value_of(e) == edit.value);
            if let Some(found) = found {
                found.remove();
            }
        }
    }
    let mut made = made.to_vec();
    made.sort_by_key(|keys| std::cmp::Reverse(keys.len()));
    for keys in &made {
        sweep(&root, keys);
    }
    Ok((format!("{bom}{root}"), kept))
}

/// Returns whether nothing is left but an empty object.
pub(crate) fn is_empty(text: &str) -> bool {
    text.trim() == "{}" || text.trim().is_empty()
}

fn split_bom(text: &str) -> (&str, &str) {
    match text.strip_prefix(BOM) {
        Some(rest) => text.split_at(text.len() - rest.len()),
        None => ("", text),
    }
}

fn parse(text: &str) -> Result<CstRootNode, Broken> {
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    CstRootNode::parse(text, &options).map_err(|error| {
        let before = text.get(..error.range().start).unwrap_or(text);
        Broken::Syntax {
            line: Some(before.matches('\n').count() + 1),
            why: format!("this is not JSON: {}", error.kind()),
        }
    })
}

/// Finds the one member of a name; the same name twice means different things to different readers.
fn member(object: &CstObject, name: &str, at: &str) -> Result<Option<CstObjectProp>, Broken> {
    let named = |prop: &CstObjectProp| prop.decoded_name().is_some_and(|n| n == name);
    let mut found = object.properties().into_iter().filter(named);
    let first = found.next();
    match found.next() {
        None => Ok(first),
        Some(_) => Err(Broken::Shape {
            at: at.to_owned(),
            want: "there once only",
        }),
    }
}

/// Goes down to an object, making what is missing.
fn object_at(
    root: &CstRootNode,
    keys: &[String],
    edited: &mut Edited,
) -> Result<CstObject, Broken> {
    let shape = |keys: &[String]| Broken::Shape {
        at: match keys {
            [] => "the whole".to_owned(),
            keys => keys.join("."),
        },
        want: "an object",
    };
    let mut object = root.object_value_or_create().ok_or_else(|| shape(&[]))?;
    for (n, key) in keys.iter().enumerate() {
        let here = keys.get(..=n).unwrap_or(keys);
        object = match member(&object, key, &here.join("."))? {
            Some(prop) => prop.object_value().ok_or_else(|| shape(here))?,
            None => {
                edited.made.push(here.to_vec());
                let made = object.append(key, CstInputValue::Object(Vec::new()));
                made.object_value().ok_or_else(|| shape(here))?
            }
        };
    }
    Ok(object)
}

fn set(
    root: &CstRootNode,
    edit: &Edit,
    own: &[Edit],
    force: bool,
    edited: &mut Edited,
) -> Result<(), Broken> {
    let Some((name, keys)) = edit.at.split_last() else {
        return Ok(());
    };
    let holder = object_at(root, keys, edited)?;
    let Some(prop) = member(&holder, name, &edit.place())? else {
        holder.append(name, input(&edit.value));
        edited.done.push(edit.clone());
        return Ok(());
    };
    let found = prop.value().as_ref().map(value_of).unwrap_or_default();
    let ours = own.iter().find(|old| old.at == edit.at);
    if let Some(old) = ours {
        let was = old.was.clone();
        edited.done.push(Edit {
            was,
            ..edit.clone()
        });
    } else if found == edit.value {
        return Ok(());
    } else if edit.kind == Kind::Default {
        edited
            .notes
            .push(format!("{} is set already and stays", edit.place()));
        return Ok(());
    } else if force || runs_our_bridge(&found) {
        let was = Some(found.clone());
        edited.done.push(Edit {
            was,
            ..edit.clone()
        });
    } else {
        return Err(Broken::Taken { at: edit.place() });
    }
    if found != edit.value {
        prop.set_value(input(&edit.value));
    }
    Ok(())
}

fn add(root: &CstRootNode, edit: &Edit, own: &[Edit], edited: &mut Edited) -> Result<(), Broken> {
    let Some((name, keys)) = edit.at.split_last() else {
        return Ok(());
    };
    let shape = || Broken::Shape {
        at: edit.at.join("."),
        want: "a list",
    };
    let holder = object_at(root, keys, edited)?;
    let list: CstArray = match member(&holder, name, &edit.at.join("."))? {
        Some(prop) => prop.array_value().ok_or_else(shape)?,
        None => {
            edited.made.push(edit.at.clone());
            let made = holder.append(name, CstInputValue::Array(Vec::new()));
            made.array_value().ok_or_else(shape)?
        }
    };
    let there = list.elements().iter().any(|e| value_of(e) == edit.value);
    if !there {
        list.append(input(&edit.value));
    } else if !own.iter().any(|old| old.same(edit)) {
        return Ok(());
    }
    edited.done.push(edit.clone());
    Ok(())
}

/// Takes a member out, or puts back what stood there.
fn unset(holder: &CstNode, edit: &Edit, kept: &mut Vec<String>) {
    let (Some(object), Some(name)) = (holder.as_object(), edit.at.last()) else {
        return;
    };
    let named = |prop: &CstObjectProp| prop.decoded_name().is_some_and(|n| n == *name);
    let Some(prop) = object.properties().into_iter().find(named) else {
        return;
    };
    let found = prop.value().as_ref().map(value_of).unwrap_or_default();
    if found != edit.value && !runs_our_bridge(&found) {
        kept.push(format!("{} was changed since and stays", edit.place()));
        return;
    }
    match &edit.was {
        Some(was) => prop.set_value(input(was)),
        None => prop.remove(),
    }
}

/// Takes out an object or list that was made to hold something and holds nothing now.
fn sweep(root: &CstRootNode, keys: &[String]) {
    let Some((name, above)) = keys.split_last() else {
        return;
    };
    let Some(object) = lookup(root, above).and_then(|node| node.as_object()) else {
        return;
    };
    let named = |prop: &CstObjectProp| prop.decoded_name().is_some_and(|n| n == *name);
    let Some(prop) = object.properties().into_iter().find(named) else {
        return;
    };
    let empty = prop.value().is_some_and(|value| {
        // A comment in it is somebody's.
        let bare = value.to_string();
        let bare = bare.trim_matches(|c: char| "{}[]".contains(c) || c.is_whitespace());
        bare.is_empty() && (value.as_object().is_some() || value.as_array().is_some())
    });
    if empty {
        prop.remove();
    }
}

fn lookup(root: &CstRootNode, keys: &[String]) -> Option<CstNode> {
    let mut node = root.value()?;
    for key in keys {
        let named = |prop: &CstObjectProp| prop.decoded_name().is_some_and(|n| n == *key);
        let prop = node.as_object()?.properties().into_iter().find(named)?;
        node = prop.value()?;
    }
    Some(node)
}

fn value_of(node: &CstNode) -> Value {
    node.to_serde_value().unwrap_or_default()
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(bool) => CstInputValue::Bool(*bool),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| (name.clone(), input(value));
            CstInputValue::Object(members.iter().map(member).collect())
        }
    }
}
