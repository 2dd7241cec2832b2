//! Arguments of a tool: one table makes the schema the host sees and the check of what it sends.

use super::answer::Failure;
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// A JSON object.
pub type Object = Map<String, Value>;

/// What an argument's value is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number, not negative, at most this.
    Number(u64),
    /// A string, or a list of at most so many.
    Texts(usize),
    /// True or false.
    Flag,
    /// Any JSON value but null.
    Json,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// One argument.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    name: &'static str,
    kind: Kind,
    about: &'static str,
    required: bool,
}

/// An argument that must be there.
pub const fn need(name: &'static str, kind: Kind, about: &'static str) -> Arg {
    Arg {
        name,
        kind,
        about,
        required: true,
    }
}

/// An argument that may be there.
pub const fn may(name: &'static str, kind: Kind, about: &'static str) -> Arg {
    Arg {
        name,
        kind,
        about,
        required: false,
    }
}

/// The argument every tool takes; shown only where there are several servers.
pub const SERVER: Arg = may("server", Kind::Text, "server name, id or URL");

impl Arg {
    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text => json!({"type": "string"}),
            Kind::Number(max) => json!({"type": "integer", "minimum": 0, "maximum": max}),
            Kind::Texts(max) => json!({
                "anyOf": [
                    {"type": "string"},
                    {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": max},
                ],
            }),
            Kind::Flag => json!({"type": "boolean"}),
            Kind::Json => json!({}),
            Kind::Choice(words) => json!({"type": "string", "enum": words}),
        };
        if !self.about.is_empty() {
            schema["description"] = self.about.into();
        }
        schema
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        let name = self.name;
        let fits = match self.kind {
            Kind::Text => value.is_string(),
            Kind::Number(max) => value.as_u64().is_some_and(|n| n <= max),
            Kind::Texts(max) => {
                let listed = |all: &Vec<Value>| {
                    (1..=max).contains(&all.len()) && all.iter().all(Value::is_string)
                };
                value.is_string() || value.as_array().is_some_and(listed)
            }
            Kind::Flag => value.is_boolean(),
            Kind::Json => true,
            Kind::Choice(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        };
        let expected = || match self.kind {
            Kind::Text => "a string".to_owned(),
            Kind::Number(max) => format!("a whole number from 0 to {max}"),
            Kind::Texts(max) => format!("a string, or a list of at most {max} strings"),
            Kind::Flag => "true or false".to_owned(),
            Kind::Json => "a JSON value".to_owned(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
        };
        if fits {
            Ok(())
        } else {
            Err(format!("`{name}` must be {}", expected()))
        }
    }
}

/// Returns the JSON schema of a list of arguments.
pub(super) fn schema(args: &[Arg], servers: bool) -> Object {
    let all = || args.iter().chain(servers.then_some(&SERVER));
    let properties: Object = all()
        .map(|arg| (arg.name.to_owned(), arg.schema()))
        .collect();
    let required: Vec<_> = all()
        .filter(|arg| arg.required)
        .map(|arg| arg.name)
        .collect();
    let mut schema = Object::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties.into());
    schema.insert("required".into(), required.into());
    schema.insert("additionalProperties".into(), false.into());
    schema
}

/// Arguments that fit their tool.
#[derive(Clone, Debug)]
pub struct Args(Object);

impl Args {
    /// Checks what the host sent; `null` counts as absent.
    pub(super) fn check(args: &[Arg], mut given: Object) -> Result<Self, Failure> {
        given.retain(|_, value| !value.is_null());
        for (name, value) in &given {
            let known = args.iter().chain([&SERVER]).find(|arg| arg.name == name);
            let Some(arg) = known else {
                let names: Vec<_> = args.iter().chain([&SERVER]).map(|arg| arg.name).collect();
                let text = format!("there is no such argument; known are: {}", names.join(", "));
                return Err(Failure::arguments(text));
            };
            arg.check(value).map_err(Failure::arguments)?;
        }
        match args
            .iter()
            .find(|arg| arg.required && !given.contains_key(arg.name))
        {
            Some(missing) => Err(Failure::arguments(format!("`{}` is missing", missing.name))),
            None => Ok(Self(given)),
        }
    }

    /// Returns a text argument.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Returns a required text argument; the table says that it is there.
    pub fn needed(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// Returns every text of an argument that may be a list.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(one) => one.as_str().into_iter().collect(),
            None => Vec::new(),
        }
    }

    /// Returns a number argument.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    /// Returns from which byte on something is to be shown.
    pub fn offset(&self) -> usize {
        let offset = self.number("offset").unwrap_or_default();
        usize::try_from(offset).unwrap_or(usize::MAX)
    }

    /// Returns any argument as JSON text.
    pub fn json(&self, name: &str) -> Option<String> {
        self.0.get(name).map(Value::to_string)
    }

    /// Returns whether a flag is set.
    pub fn flag(&self, name: &str) -> bool {
        self.0
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    /// Returns a text argument as the type it names.
    pub fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Failure>
    where
        T::Err: std::fmt::Display,
    {
        let parse = |text: &str| {
            let fault = |e: T::Err| Failure::arguments(format!("`{name}`: {e}"));
            text.parse().map_err(fault)
        };
        self.text(name).map(parse).transpose()
    }
}
