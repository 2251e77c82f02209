//! A folder with the files that a configuration names, and a configuration to change.

use std::{ffi::OsString, fs, path::Path};

use tempfile::TempDir;

use super::super::read::{Loaded, parse};
use crate::init;

/// A configuration without errors.
pub(super) const BASE: &str = r#"public_url = "https://broker.example.com"
listen = "127.0.0.1:8080"

[store]
url = "sqlite://token-broker.db"
key_file = "token-broker.key"

[audit]
folder = "audit"
writer = "broker-1"

[tokens]
kind = "jwt"
issuer = "https://idp.example.com"

[[server]]
name = "github"
upstream = "https://mcp.github.example/mcp"

[server.credential]
kind = "oauth"
issuer = "https://login.github.example"
token_endpoint = "https://login.github.example/token"
client_id = "token-broker"
client_secret_file = "github.secret"
scopes = ["repo:read"]

[[server.allow]]
tools = ["get_*"]
scope = "github:read"
"#;

/// The secret in `github.secret`.
pub(super) const SECRET: &str = "Zq7-github-client-secret";

pub(super) struct Fixture {
    folder: TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let fixture = Self { folder: tempfile::tempdir().unwrap() };
        for (name, content, mode) in [
            ("github.secret", format!("{SECRET}\n").as_str(), 0o600),
            ("group.secret", "Zq7-secret-of-the-group\n", 0o640),
            ("open.secret", "Zq7-open-to-others\n", 0o644),
            ("writable.secret", "Zq7-writable-by-the-group\n", 0o660),
            ("empty.secret", "", 0o600),
            ("newline.secret", "\n", 0o600),
            ("lines.secret", "Zq7-first\nZq7-second\n", 0o600),
            ("blank.secret", " Zq7-blank-before\n", 0o600),
            ("short.secret", "Zq7-short\n", 0o600),
            ("placeholder.secret", "<your-token>\n", 0o600),
            ("changeme.secret", "changeme\n", 0o600),
            ("octets.secret", "Zq7-\u{fc}mlaut-in-it\n", 0o600),
            ("store.url", "postgres://broker:Zq7-password@db/broker\n", 0o600),
            ("no.key", "Zq7-no-key\n", 0o600),
            ("chain.pem", "-----BEGIN CERTIFICATE-----\n", 0o644),
            ("tls.key", "-----BEGIN PRIVATE KEY-----\n", 0o600),
            ("open-tls.key", "-----BEGIN PRIVATE KEY-----\n", 0o644),
            ("a-file", "", 0o644),
        ] {
            fixture.write(name, content, mode);
        }
        fs::create_dir(fixture.path().join("a-folder")).unwrap();
        init::run(&fixture.path().join("init"), init::TokensFrom::Trial).unwrap();
        for (from, to) in
            [("token-broker.key", "token-broker.key"), ("trial-signing.key", "signing.key")]
        {
            fs::rename(fixture.path().join("init").join(from), fixture.path().join(to)).unwrap();
        }
        let key = fs::read_to_string(fixture.path().join("token-broker.key")).unwrap();
        fixture.write("twice.key", &key.repeat(2), 0o600);
        fixture
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn write(&self, name: &str, content: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Reads a text. Errors have `FOLDER` in place of the folder's path.
    pub(super) fn load(&self, text: &str) -> Result<Loaded, String> {
        self.load_with(text, &[])
    }

    pub(super) fn load_with(
        &self,
        text: &str,
        variables: &[(&str, &str)],
    ) -> Result<Loaded, String> {
        let variables =
            variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let folder = self.path().display().to_string();
        parse(text, "token-broker.toml", self.path(), variables)
            .map_err(|errors| errors.to_string().replace(&folder, "FOLDER"))
    }
}

/// Returns the server of the base.
pub(super) fn server() -> &'static str {
    BASE.split_at(BASE.find("[[server]]").unwrap()).1
}

/// Returns the base with one part replaced.
pub(super) fn with(from: &str, to: &str) -> String {
    assert_eq!(BASE.matches(from).count(), 1, "{from:?} must occur once in the base");
    BASE.replacen(from, to, 1)
}
