//! The audit log: its folder and the name of the writer.

use std::{fs, path::PathBuf};

use tower_token_broker::audit::WriterName;

use super::{
    super::{document::Audit, key::Located},
    Checks,
};
use crate::escaped::escaped;

impl Checks<'_> {
    /// Returns the folder, and the name of the writer.
    // T324
    pub(super) fn audit(&mut self, audit: &Audit) -> Option<(PathBuf, String)> {
        let folder = audit.folder.as_located().and_then(|folder| self.folder(folder));
        let writer = match audit.writer.as_located() {
            None => Some(host_name()),
            Some(writer) if WriterName::parse(&writer.value).is_ok() => Some(writer.value.clone()),
            Some(writer) => {
                let remedy = "use 1 to 64 lower-case letters, digits, `-` and `_`, and begin with \
                              a letter or digit";
                self.fail(writer.at, "`writer` cannot be the name of a writer", remedy);
                None
            }
        };
        Some((folder?, writer?))
    }

    fn folder(&mut self, folder: &Located<String>) -> Option<PathBuf> {
        if !self.is_text("`folder`", folder) {
            return None;
        }
        let path = self.path(&folder.value);
        let parent = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
            Some(parent) => parent.to_owned(),
            None => path.clone(),
        };
        let shown = escaped(path.display());
        let (problem, remedy) = match fs::metadata(&path).or_else(|_| fs::metadata(parent)) {
            Ok(metadata) if !metadata.is_dir() => {
                (format!("{shown} cannot be a folder: a file is there"), "name a folder".to_owned())
            }
            Ok(metadata) if metadata.permissions().readonly() => {
                (format!("{shown} cannot be written"), "let the gateway's user write it".to_owned())
            }
            Ok(_) => return Some(path),
            Err(_) => (
                "neither `folder` of `[audit]` nor the folder above it exists".to_owned(),
                format!("create it, or {}", self.correct_path(&folder.value)),
            ),
        };
        self.fail(folder.at, problem, remedy);
        None
    }
}

/// Returns the name of this host as the name of a writer.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| fs::read_to_string("/etc/hostname"));
    writer_named(&name.unwrap_or_default())
}

fn writer_named(host: &str) -> String {
    let name: String = host
        .trim()
        .to_ascii_lowercase()
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '-' })
        .take(64)
        .collect();
    let name = name.trim_start_matches('-');
    if WriterName::parse(name).is_ok() { name.to_owned() } else { "gateway".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_writer_name() {
        for (host, writer) in [
            ("Broker-1.example.com\n", "broker-1-example-com"),
            ("", "gateway"),
            ("_x", "x"),
            ("ü", "gateway"),
        ] {
            assert_eq!(writer_named(host), writer, "{host}");
        }
        assert!(WriterName::parse(&writer_named(&"h".repeat(300))).is_ok());
    }
}
