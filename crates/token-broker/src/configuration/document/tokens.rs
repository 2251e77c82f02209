//! The section `[tokens]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::key::{Key, Located, SecretText};

/// Tokens that clients present. `jwt` are those of an identity provider, verified by its keys.
/// `introspection` are those of an identity provider that verifies each (RFC 7662). `trial` are
/// issued by `token-broker tokens issue`, for trials. Either this section or `[login]`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["kind"]))]
pub(crate) struct Tokens {
    /// Kind of tokens.
    #[schemars(example = &"jwt")]
    pub(crate) kind: Key<TokensKind>,
    /// Issuer, exactly as in the claim `iss`. Required by `jwt` and `introspection`; with `trial`
    /// it is `public_url`.
    #[schemars(example = &"https://idp.example.com")]
    pub(crate) issuer: Key<String>,
    /// `jwt`: form of the provider's tokens.
    #[schemars(extend("default" = "rfc9068"))]
    pub(crate) profile: Key<Profile>,
    /// Accepted audience. Required by the profiles `entra`, `okta`, `auth0` and `keycloak`;
    /// otherwise, the URL of the protected server is the default.
    #[schemars(example = &"https://broker.example.com")]
    pub(crate) audience: Key<String>,
    /// Accepted clients. Required by the profile `cognito`, optional with `introspection`.
    #[schemars(example = ["mcp-client"], extend("default" = []))]
    pub(crate) clients: Key<Vec<Located<String>>>,
    /// `jwt`: accepted algorithms. Default: `ES256` and `EdDSA` with the profile `rfc9068`, `RS256`
    /// with the others.
    #[schemars(example = ["RS256"])]
    pub(crate) algorithms: Key<Vec<Located<Algorithm>>>,
    /// `jwt`: URL of the key set. By default it is read from the metadata of the issuer.
    #[schemars(example = &"https://idp.example.com/jwks.json")]
    pub(crate) key_set: Key<String>,
    /// `introspection`: URL of the introspection endpoint.
    #[schemars(example = &"https://idp.example.com/introspect")]
    pub(crate) endpoint: Key<String>,
    /// `introspection`: client ID of the gateway at the endpoint.
    #[schemars(example = &"token-broker")]
    pub(crate) client_id: Key<String>,
    /// `introspection`: client secret of the gateway at the endpoint.
    #[schemars(extend("writeOnly" = true))]
    pub(crate) client_secret: Key<SecretText>,
    /// `introspection`: file of the client secret.
    #[schemars(example = &"idp.secret")]
    pub(crate) client_secret_file: Key<String>,
    /// `trial`: file of the signing key: PKCS #8 (DER) of an ES256 key. `token-broker init` creates
    /// one.
    #[schemars(example = &"trial-signing.key")]
    pub(crate) signing_key_file: Key<String>,
    /// Hosts of the provider that may be on this machine, with or without a port. `http` is allowed
    /// for them.
    #[schemars(example = ["127.0.0.1:9000"], extend("default" = []))]
    pub(crate) loopback_hosts: Key<Vec<Located<String>>>,
    /// Hosts of the provider that may have a private address, with or without a port.
    #[schemars(example = ["idp.corp.example"], extend("default" = []))]
    pub(crate) private_hosts: Key<Vec<Located<String>>>,
    /// Hosts with port that may be reached by `http` in a private network. Tokens and keys can be
    /// read and changed on the way.
    #[schemars(example = ["idp:8080"], extend("default" = []))]
    pub(crate) plain_http: Key<Vec<Located<String>>>,
    /// PEM files of roots that the provider may have, in addition to those of the system.
    #[schemars(example = ["corp-root.pem"], extend("default" = []))]
    pub(crate) trusted_roots: Key<Vec<Located<String>>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum TokensKind {
    Jwt,
    Introspection,
    Trial,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum Profile {
    Rfc9068,
    Entra,
    Okta,
    Auth0,
    Keycloak,
    Cognito,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[schemars(inline)]
pub(crate) enum Algorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "PS256")]
    Ps256,
}
