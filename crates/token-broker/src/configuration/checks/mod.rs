//! Checks the values of a document, and turns it into a configuration.

mod audit;
mod credential;
mod files;
mod gateway;
mod login;
mod names;
mod network;
mod oauth;
mod placeholder;
mod rule;
mod server;
mod store;
mod tokens;
mod url;

use std::path::{Path, PathBuf};

use self::files::{FileIdentity, UsedFile};
use super::{
    document::Document,
    errors::Problems,
    key::{Key, Located},
    model::Configuration,
};

pub(crate) use self::files::secret_of_file;
pub use self::names::RESERVED_NAMES;

/// Collects the errors of one document. A check returns `None` for a value that has an error, or
/// that is missing, which the check of the keys has reported.
pub(super) struct Checks<'a> {
    /// The file of the configuration, as it is shown.
    file: &'a str,
    folder: &'a Path,
    problems: &'a mut Problems,
    files: Vec<(FileIdentity, UsedFile)>,
    /// Their paths.
    paths: Vec<PathBuf>,
}

/// Returns the configuration, if there is no error.
pub(super) fn check(
    document: &Document,
    (file, folder): (&str, &Path),
    problems: &mut Problems,
) -> Option<Configuration> {
    let mut checks = Checks { file, folder, problems, files: Vec::new(), paths: Vec::new() };
    let gateway = checks.gateway(document);
    let tokens = checks.issuer_of_tokens(document);
    let servers = checks.servers(document);
    checks.shared_files();
    let files = checks.paths;
    let (gateway, (tokens, tokens_network)) = (gateway?, tokens?);
    problems.is_empty().then_some(Configuration {
        folder: folder.to_owned(),
        public_url: gateway.public_url,
        listen: gateway.listen,
        tls: gateway.tls,
        trusted_proxies: gateway.trusted_proxies,
        store: gateway.store,
        audit_folder: gateway.audit_folder,
        audit_writer: gateway.audit_writer,
        tokens,
        tokens_network,
        servers,
        files,
        log_format: gateway.log_format,
        log_filter: gateway.log_filter,
    })
}

impl Checks<'_> {
    fn fail(
        &mut self,
        at: impl Into<Option<usize>>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problems.add(at, problem, remedy);
    }

    /// Returns the text of a key that may be missing, and reports one that is empty.
    fn text(&mut self, key: &str, value: &Key<String>) -> Option<String> {
        let located = value.as_located()?;
        self.is_text(&format!("`{key}`"), located).then(|| located.value.clone())
    }

    /// Returns the texts of a list. Reports those that are empty or repeated.
    fn texts(&mut self, key: &str, values: &Key<Vec<Located<String>>>) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for located in values.elements() {
            if !self.is_text(&format!("an entry of `{key}`"), located) {
                continue;
            }
            if texts.contains(&located.value) {
                self.fail(located.at, format!("`{key}` has this entry twice"), "remove one");
            }
            texts.push(located.value.clone());
        }
        texts
    }

    /// Returns whether it is a text without control characters or white space around it.
    fn is_text(&mut self, what: &str, located: &Located<String>) -> bool {
        let text = &located.value;
        if text.is_empty() {
            self.fail(located.at, format!("{what} is empty"), "write a value, or remove it");
        } else if text.trim() != text || text.chars().any(char::is_control) {
            let problem = format!("{what} has a control character, or white space around it");
            self.fail(located.at, problem, "remove it");
        } else {
            return true;
        }
        false
    }

    /// Reports keys that are set and do not apply to this kind.
    fn not_for_kind(&mut self, kind: &str, keys: &[(&str, Option<usize>)]) {
        for (key, at) in keys.iter().filter(|(_, at)| at.is_some()) {
            let problem = format!("`{key}` does not apply to the kind `{kind}`");
            self.fail(*at, problem, "remove it, or use another `kind`");
        }
    }

    /// Reports that a key is missing that this kind requires.
    fn kind_requires(&mut self, at: usize, kind: &str, key: &str, example: &str) {
        let problem = format!("the kind `{kind}` requires `{key}`");
        self.missing(at, &[key], problem, format!("add it, such as `{key} = {example:?}`"));
    }

    /// Returns the value of a key that this kind requires, and reports one that is missing.
    fn required<'k>(
        &mut self,
        (kind, at): (&str, usize),
        (key, value): (&str, &'k Key<String>),
        example: &str,
    ) -> Option<&'k Located<String>> {
        if !value.is_set() {
            self.kind_requires(at, kind, key, example);
        }
        value.as_located()
    }

    /// Reports that these keys are missing, unless one had an error of its own.
    fn missing(&mut self, at: usize, keys: &[&str], problem: String, remedy: impl Into<String>) {
        if !keys.iter().any(|key| self.problems.is_broken(key)) {
            self.fail(at, problem, remedy);
        }
    }
}
