//! The JSON Schema of the configuration file, and its sections.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::document::Document;

/// Returns the JSON Schema of the configuration file (2020-12), as `token-broker config schema`
/// prints it.
pub fn schema() -> Value {
    let mut schema = FULL.clone();
    remove_variables(&mut schema);
    schema
}

/// A table of the file: the file itself, `[tls]`, `[[server]]`, ….
pub(super) struct Section {
    /// Its keys with dots, empty for the file itself.
    pub(super) path: String,
    pub(super) is_list: bool,
    pub(super) schema: Value,
}

/// The schema with the keys that only variables may set (`writeOnly`).
static FULL: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<Document>().to_value();
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), "token-broker.toml".into());
    }
    schema
});

/// All sections, each before those within it.
static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(|| {
    let mut sections = Vec::new();
    collect(String::new(), false, &FULL, &mut sections);
    sections
});

pub(super) fn sections() -> &'static [Section] {
    &SECTIONS
}

pub(super) fn section(path: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.path == path)
}

impl Section {
    /// Returns the keys with their schemas, in the order of the document.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &Value)> {
        let properties = self.schema.get("properties").and_then(Value::as_object);
        properties.into_iter().flatten().map(|(key, schema)| (key.as_str(), schema))
    }

    pub(super) fn key(&self, key: &str) -> Option<&Value> {
        self.schema.get("properties")?.get(key)
    }

    pub(super) fn required(&self) -> impl Iterator<Item = &str> {
        let required = self.schema.get("required").and_then(Value::as_array);
        required.into_iter().flatten().filter_map(Value::as_str)
    }

    /// Returns the path of a section or key within this one.
    pub(super) fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    /// Returns the header of the section, such as `[[server.allow]]`.
    pub(super) fn header(&self) -> String {
        match (self.path.as_str(), self.is_list) {
            ("", _) => "the top of the file".to_owned(),
            (path, true) => format!("`[[{path}]]`"),
            (path, false) => format!("`[{path}]`"),
        }
    }

    /// Returns where its keys are, such as "in `[store]`".
    pub(super) fn within(&self) -> String {
        let preposition = if self.path.is_empty() { "at" } else { "in" };
        format!("{preposition} {}", self.header())
    }
}

/// Returns whether the schema is that of a section, and whether of a list of them.
pub(super) fn is_section(schema: &Value) -> Option<bool> {
    if schema.get("properties").is_some() {
        return Some(false);
    }
    schema.get("items")?.get("properties").map(|_| true)
}

/// Returns whether only a variable may set the key.
pub(super) fn is_only_for_variables(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
}

/// Returns the type: `string`, `array`, `object` or `boolean`.
pub(super) fn type_of(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or("string")
}

/// Returns the only values that a text may have, if they are listed.
pub(super) fn values_of(schema: &Value) -> Option<Vec<&str>> {
    let values = schema.get("enum")?.as_array()?;
    Some(values.iter().filter_map(Value::as_str).collect())
}

fn collect(path: String, is_list: bool, schema: &Value, sections: &mut Vec<Section>) {
    let section = Section { path, is_list, schema: schema.clone() };
    let inner: Vec<_> = section
        .keys()
        .filter_map(|(key, schema)| {
            let is_list = is_section(schema)?;
            let schema = if is_list { schema.get("items")? } else { schema };
            Some((section.path_of(key), is_list, schema.clone()))
        })
        .collect();
    sections.push(section);
    for (path, is_list, schema) in inner {
        collect(path, is_list, &schema, sections);
    }
}

fn remove_variables(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                properties.retain(|_, schema| !is_only_for_variables(schema));
            }
            members.values_mut().for_each(remove_variables);
        }
        Value::Array(elements) => elements.iter_mut().for_each(remove_variables),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
