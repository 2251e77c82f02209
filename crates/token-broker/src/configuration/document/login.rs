//! The sections `[login]`, `[[client]]` and `[[scope]]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::key::{Key, Located};

/// Sign-in at the gateway: it is the authorization server of its clients, asks users for consent,
/// and issues broker tokens. `local` are accounts in the store (`token-broker users add`). Either
/// this section or `[tokens]`. Times are written like `"90s"`, `"10m"`, `"12h"` or `"30d"`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["kind"]))]
pub(crate) struct Login {
    /// Kind of accounts.
    #[schemars(example = &"local")]
    pub(crate) kind: Key<LoginKind>,
    /// Name of the gateway on its pages.
    #[schemars(example = &"Example Corp tools", extend("default" = "token-broker"))]
    pub(crate) title: Key<String>,
    /// Lifetime of a broker token, at most `"24h"`. Clients refresh it by themselves.
    #[schemars(extend("default" = "10m"))]
    pub(crate) access_token_lifetime: Key<String>,
    /// Time without use after which a client must ask its user again.
    #[schemars(extend("default" = "30d"))]
    pub(crate) refresh_idle_lifetime: Key<String>,
    /// Time after which a client must ask its user again, however often it is used.
    #[schemars(extend("default" = "180d"))]
    pub(crate) refresh_absolute_lifetime: Key<String>,
    /// Time in which a client may use a refresh token that it has replaced already, such as two
    /// processes that share one; `"0s"` for none. A later use ends its access.
    #[schemars(extend("default" = "10m"))]
    pub(crate) refresh_reuse_window: Key<String>,
    /// Time after which a browser must sign in again.
    #[schemars(extend("default" = "12h"))]
    pub(crate) session_lifetime: Key<String>,
    /// Whether clients may register themselves (RFC 7591). Their names are shown as unverified.
    #[schemars(extend("default" = true))]
    pub(crate) registration: Key<bool>,
    /// Whether a client may be the URL of its metadata document, which the gateway fetches.
    #[schemars(extend("default" = true))]
    pub(crate) client_documents: Key<bool>,
    /// Hosts of metadata documents that may be on this machine, with or without a port.
    #[schemars(example = ["localhost:9000"], extend("default" = []))]
    pub(crate) loopback_hosts: Key<Vec<Located<String>>>,
    /// Hosts of metadata documents that may have a private address, with or without a port.
    #[schemars(example = ["apps.corp.example"], extend("default" = []))]
    pub(crate) private_hosts: Key<Vec<Located<String>>>,
    /// PEM files of roots that hosts of metadata documents may have, in addition to those of the
    /// system.
    #[schemars(example = ["corp-root.pem"], extend("default" = []))]
    pub(crate) trusted_roots: Key<Vec<Located<String>>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum LoginKind {
    Local,
}

/// Client that is known without registration. Without `secret_file` and `key_set_file` it is a
/// public client. Only with `[login]`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["id", "redirect_uris"]))]
pub(crate) struct Client {
    /// Client ID: 1 to 255 printable characters, and no URL.
    #[schemars(example = &"reports")]
    pub(crate) id: Key<String>,
    /// Name that users see.
    #[schemars(example = &"Monthly reports")]
    pub(crate) name: Key<String>,
    /// Redirect URIs: `https`, a scheme of the application, or `http` on `127.0.0.1`, `[::1]` or
    /// `localhost` with any port.
    #[schemars(example = ["https://reports.example.com/callback"], extend("default" = []))]
    pub(crate) redirect_uris: Key<Vec<Located<String>>>,
    /// File of the client secret (`client_secret_basic`, `client_secret_post`).
    #[schemars(example = &"reports.secret")]
    pub(crate) secret_file: Key<String>,
    /// File of the public keys of the client, as a JWK set (`private_key_jwt`).
    #[schemars(example = &"reports.jwks.json")]
    pub(crate) key_set_file: Key<String>,
}

/// Scope in words, for the consent page. Only with `[login]`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "text"]))]
pub(crate) struct Scope {
    /// Name, as in `scope` of the rules.
    #[schemars(example = &"github:read")]
    pub(crate) name: Key<String>,
    /// Description of what it allows.
    #[schemars(example = &"read your repositories and issues")]
    pub(crate) text: Key<String>,
}
