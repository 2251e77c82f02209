//! Checks the keys of a file against the schema: unknown keys, types, listed values, missing keys.

use std::mem;

use serde_json::Value;
use serde_spanned::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{
    errors::Problems,
    schema::{self, Section},
    source::Source,
    suggestion::{nearest, quoted},
};

/// Keys and values of later releases: section, key, and the value if only that is meant.
const NOT_SUPPORTED_YET: &[(&str, &str, Option<&str>)] = &[
    ("login", "kind", Some("oidc")),
    ("login", "allow_groups", None),
    ("server.allow", "when", None),
    ("server.deny", "when", None),
    ("server.credential", "kind", Some("id_jag")),
];
const REFERENCE: &str = "docs/configuration.md lists all keys";

/// Checks a table and those within it. Entries with an error are removed, so that all others can be
/// read.
pub(super) fn check(document: &mut DeTable<'_>, source: &Source, problems: &mut Problems) {
    if let Some(section) = schema::section("") {
        Walk { source, problems }.table(document, section, None);
    }
}

struct Walk<'a> {
    source: &'a Source,
    problems: &'a mut Problems,
}

impl Walk<'_> {
    fn table(&mut self, table: &mut DeTable<'_>, section: &'static Section, at: Option<usize>) {
        let (known, unknown): (Vec<_>, Vec<_>) =
            mem::take(table).into_iter().partition(|(key, _)| section.key(key.get_ref()).is_some());
        table.extend(known);
        for (key, value) in unknown {
            // T325: an unknown key is an error, never ignored.
            let meant = self.unknown(key.span().start, key.get_ref(), section);
            // Its value is checked as that of the key that was meant.
            if let Some(meant) = meant.filter(|meant| table.get(*meant).is_none()) {
                table.insert(Spanned::new(key.span(), meant.into()), value);
            }
        }
        for key in section.required().filter(|key| table.get(*key).is_none()) {
            self.missing(section, key, at);
        }
        let entries = mem::take(table);
        table.extend(entries.into_iter().filter_map(|(key, mut value)| {
            let is_right = self.entry(&key, &mut value, section);
            if !is_right {
                self.problems.set_broken(key.get_ref());
            }
            is_right.then_some((key, value))
        }));
    }

    /// Returns whether the value can be read.
    fn entry(
        &mut self,
        key: &Spanned<DeString<'_>>,
        value: &mut Spanned<DeValue<'_>>,
        section: &Section,
    ) -> bool {
        let at = key.span().start;
        let name: &str = key.get_ref();
        let Some(schema) = section.key(name) else { return false };
        if schema::is_only_for_variables(schema) && self.source.is_in_file(value.span().start) {
            self.secret_in_the_file(at, name);
        }
        self.value(value, schema, section, name)
    }

    fn value(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        schema: &Value,
        section: &Section,
        key: &str,
    ) -> bool {
        let at = value.span().start;
        match (value.get_mut(), schema::is_section(schema)) {
            (DeValue::Table(table), Some(false)) => {
                if let Some(inner) = schema::section(&section.path_of(key)) {
                    self.table(table, inner, Some(at));
                }
                true
            }
            (DeValue::Array(tables), Some(true)) => {
                let Some(inner) = schema::section(&section.path_of(key)) else { return false };
                let mut all_tables = true;
                for element in tables.iter_mut() {
                    let at = element.span().start;
                    if let DeValue::Table(table) = element.get_mut() {
                        self.table(table, inner, Some(at));
                    } else {
                        all_tables = self.wrong_section(at, inner);
                    }
                }
                all_tables
            }
            (_, Some(_)) => schema::section(&section.path_of(key))
                .is_some_and(|inner| self.wrong_section(at, inner)),
            (DeValue::String(text), None) if schema::type_of(schema) == "string" => {
                self.listed(at, text, schema, section, key)
            }
            (DeValue::Boolean(_), None) if schema::type_of(schema) == "boolean" => true,
            (DeValue::Array(elements), None) if schema::type_of(schema) == "array" => {
                let of = schema.get("items").unwrap_or(&Value::Null);
                // All elements are checked.
                elements.iter().fold(true, |is_right, element| {
                    let at = element.span().start;
                    let is_right_too = match element.get_ref().as_str() {
                        Some(text) => self.listed(at, text, of, section, key),
                        None => self.wrong_type(at, key, schema),
                    };
                    is_right && is_right_too
                })
            }
            (_, None) => self.wrong_type(at, key, schema),
        }
    }

    /// Checks a text against the listed values, if there are any.
    fn listed(
        &mut self,
        at: usize,
        text: &str,
        schema: &Value,
        section: &Section,
        key: &str,
    ) -> bool {
        let Some(values) = schema::values_of(schema) else { return true };
        if values.contains(&text) {
            return true;
        }
        if is_later(section, key, Some(text)) {
            let problem = format!("{} = {text:?} is not supported yet", quoted(key));
            let remedy = format!("use one of {}", list(&values));
            self.problems.add(at, problem, remedy);
            return false;
        }
        // `nearest` would suggest the asymmetric one of a similar name.
        let is_symmetric = key == "algorithms" && text.starts_with("HS");
        let problem = match nearest(text, values.iter().copied()) {
            _ if is_symmetric => "symmetric algorithms are never accepted".to_owned(),
            Some(value) => format!("unknown value of {}; did you mean {value:?}?", quoted(key)),
            None => format!("unknown value of {}", quoted(key)),
        };
        self.problems.add(at, problem, format!("use one of {}", list(&values)));
        false
    }

    /// Reports an unknown key. Returns the key that was probably meant.
    fn unknown(&mut self, at: usize, key: &str, section: &'static Section) -> Option<&'static str> {
        if is_later(section, key, None) {
            let problem = format!("{} is not supported yet", quoted(key));
            self.problems.add(at, problem, "remove it; a later release will read it");
            return None;
        }
        if let Some(meant) = nearest(key, section.keys().map(|(key, _)| key)) {
            if section.key(meant).is_some_and(schema::is_only_for_variables) {
                let problem = format!("unknown key {}; did you mean `{meant}_file`?", quoted(key));
                let remedy = "write the secret to a file that only the gateway's user may read";
                self.problems.add(at, problem, remedy);
                self.problems.set_broken(&format!("{meant}_file"));
                return None;
            }
            let problem = format!("unknown key {}; did you mean `{meant}`?", quoted(key));
            self.problems.add(at, problem, format!("rename it or remove it; {REFERENCE}"));
            return Some(meant);
        }
        let elsewhere: Vec<_> = schema::sections()
            .iter()
            .filter(|section| section.key(key).is_some())
            .map(Section::header)
            .collect();
        let problem = format!("unknown key {} {}", quoted(key), section.within());
        let remedy = match elsewhere.as_slice() {
            [] => format!("remove it; {REFERENCE}"),
            // In TOML, a key belongs to the last header above it.
            sections => format!(
                "it belongs to {}: a key belongs to the last `[header]` above it",
                sections.join(" or ")
            ),
        };
        self.problems.add(at, problem, remedy);
        None
    }

    fn missing(&mut self, section: &Section, key: &str, at: Option<usize>) {
        let inner = schema::section(&section.path_of(key));
        let (what, remedy) = match (inner, section.key(key)) {
            (Some(inner), _) => {
                let keys: Vec<_> = inner.required().map(|key| format!("`{key}`")).collect();
                let remedy = match keys.as_slice() {
                    [] => format!("add it; {REFERENCE}"),
                    keys => format!("add it, with {}", keys.join(", ")),
                };
                (format!("the section {} is missing", inner.header()), remedy)
            }
            (None, Some(schema)) => (
                format!("`{key}` is missing {}", section.within()),
                format!("add it, such as `{key} = {}`", example(schema)),
            ),
            (None, None) => return,
        };
        self.problems.add(at, what, remedy);
    }

    fn wrong_type(&mut self, at: usize, key: &str, schema: &Value) -> bool {
        let form = match schema::type_of(schema) {
            "array" => "a list of texts",
            "boolean" => "`true` or `false`",
            _ => "a text in quotation marks",
        };
        let remedy = format!("write it like `{key} = {}`", example(schema));
        self.problems.add(at, format!("{} must be {form}", quoted(key)), remedy);
        false
    }

    fn wrong_section(&mut self, at: usize, section: &Section) -> bool {
        let problem = format!("{} must be a section", quoted(&section.path));
        let brackets = if section.is_list { " in double brackets" } else { "" };
        let remedy = format!("write its header as {}{brackets}", section.header());
        self.problems.add(at, problem, remedy);
        false
    }

    fn secret_in_the_file(&mut self, at: usize, key: &str) {
        let problem = format!("`{key}` must not be in this file");
        let remedy = format!(
            "write the secret to a file that only the gateway's user may read, and set \
             `{key}_file`; or set the variable (docs/configuration.md)"
        );
        self.problems.add(at, problem, remedy);
    }
}

fn is_later(section: &Section, key: &str, value: Option<&str>) -> bool {
    NOT_SUPPORTED_YET.contains(&(section.path.as_str(), key, value))
}

/// Returns the example of the schema, or its default, as TOML.
pub(super) fn example(schema: &Value) -> String {
    let examples = schema.get("examples").and_then(Value::as_array);
    let example = examples.and_then(|examples| examples.first()).or_else(|| schema.get("default"));
    // Texts, lists of texts and truth values have the same form in JSON.
    example.map_or_else(|| "\"…\"".to_owned(), toml_of)
}

/// Returns a value as TOML. Texts, lists of texts and truth values have the form of JSON.
pub(super) fn toml_of(value: &Value) -> String {
    match value.as_array() {
        Some(elements) => {
            format!("[{}]", elements.iter().map(toml_of).collect::<Vec<_>>().join(", "))
        }
        None => value.to_string(),
    }
}

/// Returns values in quotation marks, with commas and a last "or".
fn list(values: &[&str]) -> String {
    let quoted: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}
