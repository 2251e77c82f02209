//! Compares `docs/configuration.md` and its schema with the code.

use std::{env, fs, path::PathBuf};

use serde_json::Value;
use toml::de::DeTable;

use super::{
    super::{
        reference::{EXAMPLE, reference},
        schema::{is_only_for_variables, is_section, schema, sections},
    },
    fixture::Fixture,
};

/// `TOKEN_BROKER_BLESS=1` writes the documents.
#[test]
fn the_documents_are_those_of_the_code() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    for (name, text) in [("configuration.md", reference()), ("configuration.schema.json", schema)] {
        let path = docs.join(name);
        #[expect(clippy::disallowed_methods, reason = "a test that writes documents on demand")]
        if env::var("TOKEN_BROKER_BLESS").is_ok() {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap();
        assert!(written == text, "{name}: run the test with TOKEN_BROKER_BLESS=1");
    }
}

#[test]
fn the_example_is_accepted() {
    let fixture = Fixture::new();
    fixture.write("github-client.secret", "Zq7-client-secret\n", 0o600);
    fixture.write("search.secret", "Zq7-search-secret\n", 0o600);
    let loaded = fixture.load(EXAMPLE).map_err(|errors| panic!("{errors}"));
    assert_eq!(loaded.map(|loaded| loaded.configuration.servers.len()), Ok(2));
}

/// Each key has a description and an example or default, and the example is TOML of its type.
#[test]
fn each_key_is_described() {
    for section in sections() {
        for (key, schema) in section.keys() {
            let name = section.path_of(key);
            let is_section = is_section(schema).is_some();
            let of = if is_section {
                &super::super::schema::section(&name).unwrap().schema
            } else {
                schema
            };
            let text = of.get("description").and_then(Value::as_str);
            assert!(text.is_some_and(|text| text.ends_with('.')), "{name}");
            if is_only_for_variables(schema) || is_section {
                continue;
            }
            let line = format!("{key} = {}", super::super::keys::example(schema));
            assert!(!line.contains('…') && DeTable::parse(&line).is_ok(), "{name}: {line}");
        }
        for key in section.required() {
            assert!(section.key(key).is_some(), "{key}");
        }
    }
}

/// The published schema knows no key that must not be in the file, and no other than the code.
#[test]
fn the_schema_is_closed() {
    fn check(schema: &Value, path: &str) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)), "{path}");
            for (key, inner) in properties {
                assert!(!matches!(key.as_str(), "secret" | "client_secret"), "{path}");
                check(inner, key);
            }
        }
        if let Some(items) = schema.get("items") {
            check(items, path);
        }
    }
    let schema = schema();
    check(&schema, "");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(!schema.to_string().contains("$ref"));
}
