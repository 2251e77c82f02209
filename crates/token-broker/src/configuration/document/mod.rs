//! The configuration file as it is written. The descriptions here are those of the JSON Schema and
//! of `docs/configuration.md`.

mod login;
mod server;
mod tokens;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use self::{
    login::{Client, Login, Scope},
    server::{ClientAuthentication, Credential, CredentialKind, ResourceSource, Rule, Server},
    tokens::{Algorithm, Profile, Tokens, TokensKind},
};
use super::key::{Key, Located, SecretText};

/// Configuration of the gateway.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["public_url", "listen", "store", "audit"]))]
pub(crate) struct Document {
    /// URL under which clients reach the gateway: `https://` and a host, without a path. `http://`
    /// only for `127.0.0.1`, `[::1]` and `localhost`.
    #[schemars(example = &"https://broker.example.com")]
    pub(crate) public_url: Key<String>,
    /// Address and port on which the gateway listens. Without `[tls]` and `trusted_proxies`, it
    /// must be an address of this machine (`127.0.0.1`, `[::1]`).
    #[schemars(example = &"127.0.0.1:8080")]
    pub(crate) listen: Key<String>,
    /// Addresses or networks of reverse proxies. With it, and without `[tls]`, the gateway accepts
    /// plain connections from these and closes all others; the network between must be trusted. For
    /// their requests, records and limits have the last address in `X-Forwarded-For` that is none
    /// of them.
    #[schemars(example = ["10.0.0.5", "10.1.0.0/24"], extend("default" = []))]
    pub(crate) trusted_proxies: Key<Vec<Located<String>>>,
    pub(crate) tls: Key<Tls>,
    pub(crate) store: Key<Store>,
    pub(crate) audit: Key<Audit>,
    pub(crate) login: Key<Login>,
    pub(crate) tokens: Key<Tokens>,
    pub(crate) log: Key<Log>,
    pub(crate) client: Key<Vec<Located<Client>>>,
    pub(crate) scope: Key<Vec<Located<Scope>>>,
    pub(crate) server: Key<Vec<Located<Server>>>,
}

/// Certificate of the gateway. Without this section, it listens in plain text.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["certificate_file", "key_file"]))]
pub(crate) struct Tls {
    /// PEM file of the certificate chain, the certificate of the gateway first.
    #[schemars(example = &"tls/chain.pem")]
    pub(crate) certificate_file: Key<String>,
    /// PEM file of the private key.
    #[schemars(example = &"tls/key.pem")]
    pub(crate) key_file: Key<String>,
}

/// Database of grants, revocations and keys. `url` or `url_file` is required, and `key_file` unless
/// a variable sets the key.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Store {
    /// `sqlite://FILE`, `postgres://USER@HOST/DATABASE`, or `sqlite::memory:` for trials. It may
    /// contain a password; then use `url_file` or the variable.
    #[schemars(example = &"sqlite://token-broker.db")]
    pub(crate) url: Key<SecretText>,
    /// File that contains the URL, in place of `url`.
    #[schemars(example = &"store.url")]
    pub(crate) url_file: Key<String>,
    /// Keys that encrypt the other keys in the store, one a line: the first one encrypts, all
    /// decrypt.
    #[schemars(extend("writeOnly" = true))]
    pub(crate) key: Key<SecretText>,
    /// File of the keys that encrypt the other keys in the store, one a line: the first one
    /// encrypts, all decrypt. `token-broker init` creates one.
    #[schemars(example = &"token-broker.key")]
    pub(crate) key_file: Key<String>,
}

/// Audit log. A request that cannot be recorded is refused.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["folder"]))]
pub(crate) struct Audit {
    /// Folder of the records. It is created if its parent exists.
    #[schemars(example = &"audit")]
    pub(crate) folder: Key<String>,
    /// Name of this process in the log: lower-case letters, digits, `-` and `_`. Processes that
    /// share a folder need different names. By default the name of the host.
    #[schemars(example = &"broker-1")]
    pub(crate) writer: Key<String>,
}

/// Log of the process, on stderr.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// Form of the lines: `auto` is text on a terminal and JSON elsewhere.
    #[schemars(extend("default" = "auto"))]
    pub(crate) format: Key<LogForm>,
    /// Filter of the lines, as in `RUST_LOG`, which takes precedence.
    #[schemars(example = &"info,token_broker=debug", extend("default" = "info"))]
    pub(crate) filter: Key<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum LogForm {
    Auto,
    Text,
    Json,
}
