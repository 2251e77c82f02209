//! Files that the configuration names: secrets, keys and certificates.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::{self, File, Metadata},
    io::{self, Read as _},
    mem,
    path::{Path, PathBuf},
};

use tower_token_broker::Secret;

use super::{
    super::key::{Key, Located, SecretText},
    Checks,
    placeholder::is_placeholder,
    store::NEW_KEY,
};
use crate::escaped::escaped;

/// Largest file of a secret, a key or certificates.
const LARGEST: u64 = 1024 * 1024;

/// A file that was named, and for what.
pub(super) struct UsedFile {
    key: &'static str,
    at: usize,
    /// Whether nothing else may be in the same file.
    is_key: bool,
}

/// Device and inode; where there are none, the path.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct FileIdentity(u64, u64, PathBuf);

/// How a file is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A secret or a private key: others must not be able to read it.
    Secret,
    /// The private key of the certificate, in a file of its own.
    TlsKey,
    /// The keys of the store, in a file of their own.
    StoreKeys,
    /// The key that signs tokens for trials, in a file of its own.
    SigningKey,
    /// Certificates.
    Public,
}

impl Checks<'_> {
    /// Returns the path of a file, relative to the folder of the configuration.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Returns the advice about a path that leads to nothing.
    pub(super) fn correct_path(&self, path: &str) -> String {
        if Path::new(path).is_absolute() {
            return "correct the path".to_owned();
        }
        let folder = match self.folder.as_os_str().is_empty() {
            true => format!("the folder of {}", self.file),
            false => escaped(self.folder.display()),
        };
        format!("correct the path, which is relative to {folder}")
    }

    /// Returns a secret from a variable or file. Reports a file that cannot be used, and a secret
    /// that is none.
    pub(super) fn secret(
        &mut self,
        key: &'static str,
        text: &Key<SecretText>,
        file: &Key<String>,
    ) -> Option<Secret> {
        match (text.as_located(), file.as_located()) {
            (Some(_), Some(file)) => {
                self.fail(file.at, format!("`{key}` is set twice"), "keep one of the two");
                None
            }
            (Some(text), None) => {
                self.usable_secret(key, text.value.0.clone(), text.at, "the variable")
            }
            (None, Some(file)) => {
                let (path, content) = self.read(key, file, Content::Secret)?;
                let secret = Secret::new(without_newline(content));
                self.usable_secret(key, secret, file.at, &escaped(path.display()))
            }
            (None, None) => None,
        }
    }

    /// Checks a file and returns its path and content.
    pub(super) fn read(
        &mut self,
        key: &'static str,
        file: &Located<String>,
        content: Content,
    ) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.path(&file.value);
        let shown = escaped(path.display());
        match read(&path) {
            Ok((metadata, octets)) => {
                let identity = FileIdentity::of(&metadata, &path);
                self.paths.push(path.clone());
                let is_key = content.is_key();
                self.files.push((identity, UsedFile { key, at: file.at, is_key }));
                if content != Content::Public && is_open_to_others(&metadata) {
                    // O283
                    let problem = format!("others may read or change {shown}");
                    let remedy = format!("chmod 600 {shown}; of a mounted secret, set the mode");
                    self.fail(file.at, problem, remedy);
                } else if octets.is_empty() {
                    self.fail(file.at, format!("{shown} is empty"), "write its content");
                } else {
                    return Some((path, octets));
                }
            }
            Err(Unreadable::Missing) => {
                // The path is not shown: it may be the secret itself.
                let suffix = if content == Content::Secret { "_file" } else { "" };
                let problem = format!("the file of `{key}{suffix}` does not exist");
                let path = self.correct_path(&file.value);
                let remedy = match content {
                    Content::StoreKeys => format!("{path}; or put the copy back: {NEW_KEY}"),
                    Content::SigningKey => {
                        format!("{path}; `token-broker init` in an empty folder creates one")
                    }
                    Content::Secret | Content::TlsKey | Content::Public => {
                        format!("create it, or {path}")
                    }
                };
                self.fail(file.at, problem, remedy);
            }
            Err(Unreadable::NoFile) => {
                self.fail(file.at, format!("{shown} is no regular file"), "name a file");
            }
            Err(Unreadable::TooLarge) => {
                let problem = format!("{shown} is larger than 1 MiB");
                self.fail(file.at, problem, "name another file");
            }
            Err(Unreadable::Other(error)) => {
                let problem = format!("{shown} cannot be read: {error}");
                self.fail(file.at, problem, "let the gateway's user read it");
            }
        }
        None
    }

    /// Checks a file of certificates and returns its path.
    pub(super) fn certificates(
        &mut self,
        key: &'static str,
        file: &Located<String>,
    ) -> Option<PathBuf> {
        let (path, content) = self.read(key, file, Content::Public)?;
        let begin = b"-----BEGIN CERTIFICATE-----";
        if content.windows(begin.len()).any(|part| part == begin) {
            return Some(path);
        }
        let problem = format!("{} has no certificate in PEM form", escaped(path.display()));
        self.fail(file.at, problem, "name a file with `-----BEGIN CERTIFICATE-----`");
        None
    }

    #[expect(clippy::disallowed_methods, reason = "reviewed: the form is checked, nothing leaves")]
    fn usable_secret(
        &mut self,
        key: &str,
        secret: Secret,
        at: usize,
        source: &str,
    ) -> Option<Secret> {
        let octets = secret.expose();
        let trimmed = octets.trim_ascii();
        if octets.is_empty() {
            self.fail(at, format!("`{key}` is empty in {source}"), "write the secret");
        } else if trimmed.len() != octets.len()
            || !octets.iter().all(|octet| matches!(octet, 0x20..=0x7e))
        {
            let problem = format!(
                "`{key}` has white space around it, several lines, or characters outside of ASCII \
                 in {source}"
            );
            self.fail(at, problem, "write the secret only, on one line");
        } else if is_placeholder(octets) {
            let problem = format!("`{key}` is a placeholder in {source}");
            self.fail(at, problem, "write the real secret");
        } else {
            return Some(secret);
        }
        None
    }

    /// Reports private keys that are in a file with something else.
    // O283: one key, one purpose.
    pub(super) fn shared_files(&mut self) {
        let mut uses: HashMap<FileIdentity, UsedFile> = HashMap::new();
        for (identity, file) in mem::take(&mut self.files) {
            match uses.entry(identity) {
                Entry::Vacant(first) => {
                    first.insert(file);
                }
                Entry::Occupied(first) if first.get().is_key || file.is_key => {
                    let (key, other) = (file.key, first.get().key);
                    let problem = format!("`{key}` names the same file as `{other}`");
                    self.fail(file.at, problem, "use a file of its own for each key");
                }
                Entry::Occupied(_) => {}
            }
        }
    }
}

impl Content {
    const fn is_key(self) -> bool {
        matches!(self, Self::TlsKey | Self::StoreKeys | Self::SigningKey)
    }
}

enum Unreadable {
    Missing,
    NoFile,
    TooLarge,
    Other(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        // A secret that was written in place of its path is often too long for a name.
        let is_missing = matches!(
            error.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::InvalidFilename
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::NotADirectory
        );
        if is_missing { Self::Missing } else { Self::Other(error) }
    }
}

/// Returns the secret of a file that an argument names.
pub(crate) fn secret_of_file(path: &Path) -> Result<Secret, String> {
    let shown = escaped(path.display());
    let content = match read(path) {
        Ok((metadata, _)) if is_open_to_others(&metadata) => {
            return Err(format!("others may read or change {shown}; chmod 600 {shown}"));
        }
        Ok((_, content)) => without_newline(content),
        Err(Unreadable::Missing) => return Err(format!("{shown} does not exist")),
        Err(Unreadable::NoFile) => return Err(format!("{shown} is no regular file")),
        Err(Unreadable::TooLarge) => return Err(format!("{shown} is larger than 1 MiB")),
        Err(Unreadable::Other(error)) => return Err(format!("{shown} cannot be read: {error}")),
    };
    match content.is_empty() {
        true => Err(format!("{shown} is empty")),
        false => Ok(Secret::new(content)),
    }
}

fn read(path: &Path) -> Result<(Metadata, Vec<u8>), Unreadable> {
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(Unreadable::NoFile);
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut octets = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > LARGEST {
        return Err(Unreadable::TooLarge);
    }
    Ok((metadata, octets))
}

/// Returns the content without the line break at its end.
fn without_newline(mut content: Vec<u8>) -> Vec<u8> {
    if content.last() == Some(&b'\n') {
        content.pop();
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
    content
}

impl FileIdentity {
    #[cfg(unix)]
    fn of(metadata: &Metadata, _: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(metadata.dev(), metadata.ino(), PathBuf::new())
    }

    #[cfg(not(unix))]
    fn of(_: &Metadata, path: &Path) -> Self {
        Self(0, 0, fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    }
}

/// Returns whether users other than owner and group may read or write the file, or the group may
/// write it.
#[cfg(unix)]
fn is_open_to_others(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o027 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &Metadata) -> bool {
    false
}
