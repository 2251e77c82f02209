//! The reference of all keys: `docs/configuration.md`, and its schema.

use serde_json::Value;

use super::{
    RESERVED_NAMES,
    keys::toml_of,
    schema::{self, Section},
};

pub(super) const EXAMPLE: &str = include_str!("example.toml");

/// The order of the sections: that of the example.
const ORDER: &[&str] = &[
    "",
    "tls",
    "store",
    "audit",
    "login",
    "client",
    "scope",
    "tokens",
    "log",
    "server",
    "server.credential",
    "server.allow",
];

/// Returns `docs/configuration.md`.
pub(super) fn reference() -> String {
    let reserved: Vec<_> = RESERVED_NAMES.iter().map(|name| format!("`{name}`")).collect();
    let introduction = include_str!("introduction.md")
        .replace("EXAMPLE\n", EXAMPLE)
        .replace("RESERVED", &reserved.join(", "));
    let mut sections: Vec<_> = schema::sections().iter().collect();
    sections.sort_by_key(|section| ORDER.iter().position(|path| *path == section.path));
    let sections: Vec<_> = sections.into_iter().map(section_text).collect();
    format!("{introduction}{}", sections.join("\n"))
}

fn section_text(section: &Section) -> String {
    let title = match section.path.as_str() {
        "" => "Top of the file".to_owned(),
        _ => section.header(),
    };
    let about = match section.path.as_str() {
        "" => "Keys before the first `[section]`.".to_owned(),
        _ => description(&section.schema),
    };
    let required: Vec<_> = section.required().collect();
    let mut keys: Vec<_> =
        section.keys().filter(|(_, schema)| schema::is_section(schema).is_none()).collect();
    keys.sort_by_key(|(key, _)| (!required.contains(key), *key));
    let rows: String =
        keys.into_iter().map(|(key, schema)| row(key, schema, required.contains(&key))).collect();
    let header = "| key | value | default | description |\n|---|---|---|---|\n";
    format!("## {title}\n\n{about}\n\n{header}{rows}")
}

fn row(key: &str, schema: &Value, is_required: bool) -> String {
    let default = match schema.get("default") {
        _ if is_required => "required".to_owned(),
        Some(Value::Array(elements)) if elements.is_empty() => "none".to_owned(),
        Some(default) => format!("`{}`", toml_of(default)),
        None => "–".to_owned(),
    };
    let (kind, mut about) = (value_text(schema), description(schema));
    if let Some(example) = schema.get("examples").and_then(|examples| examples.get(0)) {
        about = format!("{about} Example: `{}`", toml_of(example));
    }
    format!("| `{key}` | {kind} | {default} | {about} |\n")
}

fn value_text(schema: &Value) -> String {
    let listed = |schema: &Value| {
        let values = schema::values_of(schema)?;
        let values: Vec<_> = values.iter().map(|value| format!("`\"{value}\"`")).collect();
        Some(values.join(", "))
    };
    if schema::is_only_for_variables(schema) {
        return "only as a variable".to_owned();
    }
    match schema::type_of(schema) {
        "array" => match schema.get("items").and_then(listed) {
            Some(values) => format!("list of {values}"),
            None => "list of texts".to_owned(),
        },
        "boolean" => "`true` or `false`".to_owned(),
        _ => listed(schema).unwrap_or_else(|| "text".to_owned()),
    }
}

/// Returns the description on one line, as in a table.
fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
