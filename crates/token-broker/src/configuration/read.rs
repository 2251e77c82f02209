//! Reads a configuration: syntax, variables, keys, values, in this order.

use std::{ffi::OsString, fs::File, io::Read as _, path::Path};

use serde::Deserialize as _;
use serde_spanned::Spanned;
use toml::de::{DeTable, Deserializer};

use super::{
    checks,
    document::Document,
    errors::{ConfigurationErrors, Problems},
    keys,
    model::Configuration,
    overrides,
    source::Source,
    suggestion::quoted,
};
use crate::escaped::escaped;

/// Largest file, in bytes.
const LARGEST: u64 = 4 * 1024 * 1024;

/// A configuration with the document that it was read from.
pub(crate) struct Loaded {
    pub(crate) configuration: Configuration,
    pub(crate) document: Document,
    source: Source,
}

impl Loaded {
    /// Returns a position as it is shown: with file, line and column, or the variable's name.
    pub(crate) fn shown_place(&self, file: &str, at: usize) -> String {
        self.source.place(at).shown(file)
    }

    /// Returns whether a key is set in the file, not by a variable.
    pub(crate) fn is_in_file(&self, at: Option<usize>) -> bool {
        at.is_some_and(|at| self.source.is_in_file(at))
    }
}

/// Reads the configuration from this file and the variables of the process.
///
/// Files that it names are checked, and secrets are read from them. No connection is opened and
/// nothing is written.
///
/// # Errors
/// All errors of the file: unless its syntax is wrong, those of keys and of values.
pub fn load(path: &Path) -> Result<Configuration, ConfigurationErrors> {
    read(path, std::env::vars_os()).map(|loaded| loaded.configuration)
}

/// Like [`load`], with these variables.
pub(crate) fn read(
    path: &Path,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigurationErrors> {
    let shown = escaped(path.display());
    let text = text_of(path)
        .map_err(|(problem, remedy)| ConfigurationErrors::of_file(&shown, problem, remedy))?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    parse(&text, &shown, &folder, variables)
}

/// Parses the text of a file that is in this folder.
pub(super) fn parse(
    text: &str,
    shown: &str,
    folder: &Path,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, ConfigurationErrors> {
    let mut problems = Problems::default();
    let mut source = Source::new(text.to_owned());
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let (problem, remedy) = syntax_error(&error, text);
        problems.add(error.span().map(|span| span.start), problem, remedy);
    }
    if !problems.is_empty() {
        return Err(problems.into_errors(shown, &source));
    }
    let span = table.span();
    let mut table = table.into_inner();
    overrides::apply(&mut table, variables, &mut source, &mut problems);
    keys::check(&mut table, &source, &mut problems);
    let document = match Document::deserialize(Deserializer::from(Spanned::new(span, table))) {
        Ok(document) => document,
        Err(error) => {
            // The keys were checked, so this is not expected. The message may contain a value.
            let at = error.span().map(|span| span.start);
            problems.add(at, "a value has the wrong form", "compare docs/configuration.md");
            return Err(problems.into_errors(shown, &source));
        }
    };
    match checks::check(&document, (shown, folder), &mut problems) {
        Some(configuration) => Ok(Loaded { configuration, document, source }),
        None => Err(problems.into_errors(shown, &source)),
    }
}

/// Returns the problem and its remedy. Of the file, only the name of a key is shown.
fn syntax_error(error: &toml::de::Error, text: &str) -> (String, &'static str) {
    // The message is one of the parser's own texts, without any of the file.
    let message = error.message();
    let name = error.span().filter(|_| message == "duplicate key");
    let name = name.and_then(|span| text.get(span)).map(|name| name.trim_matches(['"', '\'']));
    match name {
        Some(name @ ("server" | "allow" | "deny")) => (
            format!("not TOML: duplicate key {}", quoted(name)),
            "write the header of each in double brackets, such as `[[server]]`",
        ),
        Some(name) => (
            format!("not TOML: duplicate key {}", quoted(name)),
            "keep one of the two: a key or `[section]` is there once",
        ),
        None => (
            format!("not TOML: {message}"),
            "correct the syntax (https://toml.io); texts are in quotation marks",
        ),
    }
}

fn text_of(path: &Path) -> Result<String, (String, &'static str)> {
    let unreadable = |error: std::io::Error| {
        let remedy = if error.kind() == std::io::ErrorKind::NotFound {
            "create it with `token-broker init`, or name it with `--config FILE`"
        } else {
            "let the gateway's user read it"
        };
        (format!("cannot be read: {error}"), remedy)
    };
    let mut octets = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1).read_to_end(&mut octets).map_err(unreadable)?;
    if octets.len() as u64 > LARGEST {
        return Err(("is larger than 4 MiB".to_owned(), "name the file of the configuration"));
    }
    String::from_utf8(octets).map_err(|_| ("is not UTF-8".to_owned(), "save the file as UTF-8"))
}
