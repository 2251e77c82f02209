//! Environment variables that override keys of the file: `TOKEN_BROKER__SECTION__KEY`.

use std::{collections::HashSet, ffi::OsString};

use serde_json::Value;
use serde_spanned::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{
    errors::Problems,
    schema::{self, Section},
    source::Source,
    suggestion::nearest,
};

/// How the names of all overriding variables begin.
const PREFIX: &str = "TOKEN_BROKER__";

/// A key that a variable can set.
struct Target {
    variable: String,
    steps: Vec<Step>,
    schema: &'static Value,
}

#[derive(Clone)]
enum Step {
    Key(String),
    Element(usize),
}

/// Sets the keys that variables name. A variable that names none is an error.
pub(super) fn apply(
    document: &mut DeTable<'_>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    source: &mut Source,
    problems: &mut Problems,
) {
    let targets = targets(document);
    let plain_names = targets.iter().map(|target| plain(&target.variable)).collect();
    let mut variables: Vec<_> = variables
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| is_meant(name, &plain_names))
        .collect();
    variables.sort();
    for (name, value) in variables {
        let at = source.position_of(&name);
        let mut matching = targets.iter().filter(|target| target.variable == name);
        match (matching.next(), matching.next(), value.into_string()) {
            (Some(target), None, Ok(value)) => {
                match parse(value, target, at) {
                    Some(value) => set(document, &target.steps, value, source),
                    None => problems.add(at, form_of(target), "write it like a value of the file"),
                };
            }
            (Some(_), None, Err(_)) => {
                problems.add(at, "the value is not UTF-8", "write it in UTF-8");
            }
            (Some(_), Some(_), _) => problems.add(
                at,
                "the variable names a key of two servers",
                "give each server its own name",
            ),
            (None, ..) => problems.add(at, unknown(&name, &targets), "rename it, or unset it"),
        }
    }
}

/// Returns whether a variable is one of ours, or was meant to be. `TOKEN_BROKER_STORE_URL` was.
fn is_meant(name: &str, plain_names: &HashSet<String>) -> bool {
    let upper = name.to_uppercase();
    upper.starts_with(PREFIX) || plain_names.contains(&plain(&upper))
}

fn plain(name: &str) -> String {
    name.replace('_', "")
}

fn unknown(name: &str, targets: &[Target]) -> String {
    match nearest(name, targets.iter().map(|target| target.variable.as_str())) {
        Some(variable) => format!("the variable names no key; did you mean {variable}?"),
        None => "the variable names no key of the configuration".to_owned(),
    }
}

fn form_of(target: &Target) -> String {
    match schema::type_of(target.schema) {
        "array" => "the value must be a list of texts, such as [\"a\", \"b\"]".to_owned(),
        _ => "the value must be `true` or `false`".to_owned(),
    }
}

/// Returns all keys that variables can set, for the servers of this file.
fn targets(document: &DeTable<'_>) -> Vec<Target> {
    let mut targets = Vec::new();
    if let Some(section) = schema::section("") {
        collect(section, PREFIX, &[], document, &mut targets);
    }
    targets
}

fn collect(
    section: &'static Section,
    prefix: &str,
    steps: &[Step],
    document: &DeTable<'_>,
    targets: &mut Vec<Target>,
) {
    for (key, schema) in section.keys() {
        let variable = format!("{prefix}{}", key.to_uppercase());
        let steps = [steps, &[Step::Key(key.to_owned())]].concat();
        match schema::is_section(schema) {
            None => targets.push(Target { variable, steps, schema }),
            Some(is_list) => {
                let Some(inner) = schema::section(&section.path_of(key)) else { continue };
                if !is_list {
                    collect(inner, &format!("{variable}__"), &steps, document, targets);
                    continue;
                }
                // Only servers have names; rules do not.
                for (index, name) in server_names(document, &inner.path) {
                    let prefix = format!("{variable}__{}__", name.to_uppercase().replace('-', "_"));
                    let steps = [&steps[..], &[Step::Element(index)]].concat();
                    collect(inner, &prefix, &steps, document, targets);
                }
            }
        }
    }
}

/// Returns the positions and names of the servers.
fn server_names(document: &DeTable<'_>, path: &str) -> Vec<(usize, String)> {
    let Some(DeValue::Array(servers)) = document.get(path).map(Spanned::get_ref) else {
        return Vec::new();
    };
    let names = servers.iter().enumerate().filter_map(|(index, server)| {
        let name = server.get_ref().get("name")?.get_ref().as_str()?;
        Some((index, name.to_owned()))
    });
    names.collect()
}

/// Returns the value, at the position of the variable.
fn parse(text: String, target: &Target, at: usize) -> Option<Spanned<DeValue<'static>>> {
    let value = match schema::type_of(target.schema) {
        "array" => {
            let parsed = DeValue::parse(&text).ok()?;
            let DeValue::Array(elements) = parsed.get_ref() else { return None };
            let mut array = DeArray::new();
            for element in elements.iter() {
                let text = element.get_ref().as_str()?.to_owned();
                array.push(Spanned::new(at..at, DeValue::String(text.into())));
            }
            DeValue::Array(array)
        }
        "boolean" => DeValue::Boolean(text.parse().ok()?),
        _ => DeValue::String(text.into()),
    };
    Some(Spanned::new(at..at, value))
}

/// Sets a value, and creates the sections above it.
fn set(table: &mut DeTable<'_>, steps: &[Step], value: Spanned<DeValue<'static>>, source: &Source) {
    let at = value.span();
    let Some((Step::Key(key), rest)) = steps.split_first() else { return };
    if rest.is_empty() {
        remove_alternative(table, key, source);
        table.remove(key.as_str());
        table.insert(Spanned::new(at, key.clone().into()), value);
        return;
    }
    if table.get(key.as_str()).is_none() {
        let section = Spanned::new(at.clone(), DeValue::Table(DeTable::new()));
        table.insert(Spanned::new(at, key.clone().into()), section);
    }
    match (table.get_mut(key.as_str()).map(Spanned::get_mut), rest) {
        (Some(DeValue::Array(elements)), [Step::Element(index), rest @ ..]) => {
            if let Some(DeValue::Table(inner)) = elements.get_mut(*index).map(Spanned::get_mut) {
                set(inner, rest, value, source);
            }
        }
        (Some(DeValue::Table(inner)), rest) => set(inner, rest, value, source),
        // The key is no section: the check of the keys reports it.
        _ => {}
    }
}

/// Removes `secret_file` of the file if a variable sets `secret`, and the reverse.
fn remove_alternative(table: &mut DeTable<'_>, key: &str, source: &Source) {
    let other = match key.strip_suffix("_file") {
        Some(direct) => direct.to_owned(),
        None => format!("{key}_file"),
    };
    let is_in_file = |value: &Spanned<DeValue<'_>>| source.is_in_file(value.span().start);
    if table.get(other.as_str()).is_some_and(is_in_file) {
        table.remove(other.as_str());
    }
}
