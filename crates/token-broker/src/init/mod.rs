//! The command `token-broker init`: writes a configuration and its keys to a folder.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use token_broker_store::sealing::KeyRing;
use tower_token_broker::Secret;

use crate::escaped::escaped;

/// The configuration that is written, with `ISSUER` in place of the section for tokens.
const TEMPLATE: &str = include_str!("token-broker.toml");
const LOGIN: &str = r#"
# Users sign in at the gateway, and allow each client what it may do. `token-broker serve` prints a
# link for the first account, `token-broker users add NAME` creates others.
[login]
kind = "local""#;
const TRIAL: &str = r#"
# Tokens for trials, from `token-broker tokens issue`.
[tokens]
kind = "trial"
signing_key_file = "trial-signing.key""#;
const CONFIGURATION: &str = "token-broker.toml";
const STORE_KEY: &str = "token-broker.key";
const SIGNING_KEY: &str = "trial-signing.key";

/// The reasons why nothing was created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// A file of that name exists. No file is ever overwritten: a key may be the only one that
    /// decrypts a store.
    #[error(
        "{} exists; nothing was changed: choose another folder, or move the file",
        escaped(path.display())
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file or the folder cannot be created.
    #[error("{} cannot be created: {error}", escaped(path.display()))]
    NotCreated {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The system provides no random numbers.
    #[error("the system provides no random numbers for the keys")]
    Random,
}

/// Where the tokens of clients come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the arguments of a command")]
pub enum TokensFrom {
    /// Users sign in at the gateway.
    Login,
    /// `token-broker tokens issue`.
    Trial,
}

/// Writes `token-broker.toml` and `token-broker.key` to a folder, for trials also
/// `trial-signing.key`, and returns what to do next. The keys are created with mode 0600. The
/// folder is created if its parent exists.
///
/// # Errors
/// One of the files exists, or cannot be created. Then none of them is created.
pub fn run(folder: &Path, tokens: TokensFrom) -> Result<String, InitError> {
    let issuer = match tokens {
        TokensFrom::Login => LOGIN,
        TokensFrom::Trial => TRIAL,
    };
    let template = TEMPLATE.replacen("ISSUER", issuer.trim_start(), 1);
    let mut contents = vec![(STORE_KEY, store_key_line(), 0o600)];
    if tokens == TokensFrom::Trial {
        contents.push((SIGNING_KEY, signing_key_document()?, 0o600));
    }
    // Last: with it, a gateway could start.
    contents.push((CONFIGURATION, Secret::from_text(template), 0o644));
    let mut paths = contents.iter().map(|(name, ..)| folder.join(name));
    if let Some(path) = paths.find(|path| fs::symlink_metadata(path).is_ok()) {
        return Err(InitError::Exists { path });
    }
    create_folder(folder)?;
    for (created, (name, content, mode)) in contents.iter().enumerate() {
        if let Err(error) = create(&folder.join(name), content, *mode) {
            let before = contents.iter().take(created);
            // Best effort: the error of the file that failed is what matters.
            before.for_each(|(name, ..)| fs::remove_file(folder.join(name)).unwrap_or_default());
            return Err(error);
        }
    }
    Ok(next_steps(folder, tokens))
}

fn next_steps(folder: &Path, tokens: TokensFrom) -> String {
    let [file, store_key, signing_key] =
        [CONFIGURATION, STORE_KEY, SIGNING_KEY].map(|name| escaped(folder.join(name).display()));
    let created = format!(
        "\
Created
  {file}: the configuration; add your MCP servers
  {store_key}: encrypts the store; keep a copy elsewhere, the store cannot be read without it
"
    );
    let (more, last) = match tokens {
        TokensFrom::Login => (
            String::new(),
            "It prints a link for the first account. Clients find everything else at the URL of a \
             server."
                .to_owned(),
        ),
        TokensFrom::Trial => (
            format!("  {signing_key}: signs tokens for trials\n"),
            "  token-broker tokens issue --help".to_owned(),
        ),
    };
    format!(
        "\
{created}{more}
Next
  token-broker check --config {file}
  token-broker serve --config {file}
{last}"
    )
}

/// Returns a new key-encryption key as the line of a file.
#[expect(clippy::disallowed_methods, reason = "reviewed: the key goes to its file")]
fn store_key_line() -> Secret {
    let mut line = KeyRing::generate_line().expose().to_vec();
    line.push(b'\n');
    Secret::new(line)
}

/// Returns a new ES256 key as PKCS #8.
fn signing_key_document() -> Result<Secret, InitError> {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
    document.map(|document| Secret::new(document.as_ref().to_vec())).map_err(|_| InitError::Random)
}

fn create_folder(folder: &Path) -> Result<(), InitError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !folder.is_dir() => {
            Err(InitError::NotCreated { path: folder.to_owned(), error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Creates a file with its mode. A file that appeared in the meantime is kept.
#[expect(clippy::disallowed_methods, reason = "reviewed: the key goes to its file")]
fn create(path: &Path, content: &Secret, mode: u32) -> Result<(), InitError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path).map_err(|error| {
        let path = path.to_owned();
        if error.kind() == io::ErrorKind::AlreadyExists {
            InitError::Exists { path }
        } else {
            InitError::NotCreated { path, error }
        }
    })?;
    let written = file.write_all(content.expose()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        fs::remove_file(path).unwrap_or_default();
        InitError::NotCreated { path: path.to_owned(), error }
    })
}

#[cfg(test)]
mod tests;
