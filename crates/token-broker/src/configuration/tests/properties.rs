//! Laws: no text makes the reader panic, and no value is ever printed.

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::fixture::{BASE, Fixture};
use crate::check;

/// A secret in a value. It is no valid name of a server, which errors do show.
const MARKER: &str = "Zq7_marker";

/// Ways in which a secret is written into a value.
fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(format!("\"{MARKER}\"")),
        Just(format!("'{MARKER}'")),
        Just(MARKER.to_owned()),
        Just(format!("\"{MARKER}")),
        Just(format!("\"\"\"\n{MARKER}\"\"\"")),
        Just(format!("[\"{MARKER}\"]")),
        Just(format!("[\"a\", \"{MARKER} {MARKER}\", 1]")),
        Just(format!("{{ name = \"{MARKER}\" }}")),
        Just(format!("\"https://user:{MARKER}@host.example/\"")),
        Just(format!("\"https://host.example/mcp?key={MARKER}#\"")),
        Just(format!("\"http://host.example/{MARKER}\"")),
        Just(format!("\"postgres://user:{MARKER}@host/db\"")),
        Just(format!("\"mysql://user:{MARKER}@host/db\"")),
        Just(format!("\"127.0.0.1:{MARKER}\"")),
        Just(format!("\"info,{MARKER}==\"")),
        Just(format!("\"Bearer {MARKER}\\n\"")),
        Just(format!("\"\\x {MARKER}\"")),
        Just(format!("2026-11-30{MARKER}")),
    ]
}

/// Pieces of files, so that many texts get past the syntax.
fn pieces() -> impl Strategy<Value = String> {
    let lines: Vec<_> = BASE.lines().map(str::to_owned).collect();
    prop_oneof![
        4 => proptest::sample::select(lines),
        1 => "[a-z_.]{0,12} = [\"'\\[{0-9a-z., }\\]]{0,12}",
        1 => "\\[{0,3}[a-z. \"]{0,12}\\]{0,3}",
        1 => "\\PC{0,20}",
    ]
}

/// Checks a law for 256 values.
fn law<S: Strategy>(strategy: S, holds: impl Fn(&Fixture, S::Value) -> Result<(), TestCaseError>) {
    let fixture = Fixture::new();
    let config = Config { failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&strategy, |value| holds(&fixture, value));
    checked.unwrap_or_else(|error| panic!("{error}"));
}

fn has_no_marker(printed: &str) -> Result<(), TestCaseError> {
    prop_assert!(!printed.contains(MARKER), "{printed}");
    Ok(())
}

#[test]
fn no_text_makes_the_reader_panic() {
    law("(?s).{0,300}", |fixture, text| {
        drop(fixture.load(&text));
        Ok(())
    });
}

#[test]
fn no_mixture_makes_the_reader_panic() {
    law(proptest::collection::vec(pieces(), 0..40), |fixture, lines| {
        drop(fixture.load(&lines.join("\n")));
        Ok(())
    });
}

#[test]
fn no_cut_makes_the_reader_panic() {
    let end = 0..BASE.len();
    law((end.clone(), end, "\\PC{0,4}"), |fixture, (one, other, put)| {
        let before = BASE.split_at(one.min(other)).0;
        let after = BASE.split_at(one.max(other)).1;
        drop(fixture.load(&format!("{before}{put}{after}")));
        Ok(())
    });
}

#[test]
fn no_variable_makes_the_reader_panic() {
    law(("TOKEN_BROKER__[A-Z_]{0,30}", "\\PC*"), |fixture, (name, value)| {
        drop(fixture.load_with(BASE, &[(&name, &value)]));
        Ok(())
    });
}

/// The value of any key, known or not, is not in the errors and not in the report.
#[test]
fn no_value_is_printed() {
    let line = 0..BASE.lines().count();
    law((line, "[a-z_]{0,3}", values()), |fixture, (line, key, value)| {
        let lines = BASE.lines().enumerate().map(|(index, of)| match of.split_once(" = ") {
            Some((name, _)) if index == line => format!("{name}{key} = {value}"),
            None if index == line => format!("{of}\n{key}x = {value}"),
            _ => of.to_owned(),
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        fixture.write("token-broker.toml", &text, 0o600);
        has_no_marker(&check::run(&fixture.path().join("token-broker.toml")).to_string())?;
        has_no_marker(&format!("{:?}", fixture.load(&text).err()))
    });
}

/// Nor is the value of a variable.
#[test]
fn no_variable_is_printed() {
    let names = vec![
        "LISTEN",
        "PUBLIC_URL",
        "STORE__URL",
        "STORE__KEY_FILE",
        "TOKENS__KIND",
        "TOKENS__ISSUER",
        "TRUSTED_PROXIES",
        "SERVER__GITHUB__NAME",
        "SERVER__GITHUB__CREDENTIAL__SECRET",
        "SERVER__GITHUB__CREDENTIAL__CLIENT_SECRET",
        "SERVER__GITHUB__CREDENTIAL__HEADER",
        "OTHER",
    ];
    law((proptest::sample::select(names), values()), |fixture, (name, value)| {
        let name = format!("TOKEN_BROKER__{name}");
        has_no_marker(&format!("{:?}", fixture.load_with(BASE, &[(&name, &value)]).err()))
    });
}
