//! The sections `[[server]]`, with their credential and rules.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::key::{Key, Located, SecretText};

/// Protected MCP server, at `{public_url}/{name}/mcp`. Calls that no rule allows are denied.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "upstream", "credential"]))]
pub(crate) struct Server {
    /// Name in the URL, in grants and in records: 1 to 64 lower-case letters, digits and `-`. To
    /// change it, move the old one to `previous_names`.
    #[schemars(example = &"github")]
    pub(crate) name: Key<String>,
    /// Name for people. By default `name`.
    #[schemars(example = &"GitHub")]
    pub(crate) title: Key<String>,
    /// Former names. Their URLs are served, too.
    #[schemars(example = ["gh"], extend("default" = []))]
    pub(crate) previous_names: Key<Vec<Located<String>>>,
    /// URL of the server.
    #[schemars(example = &"https://mcp.github.example/mcp")]
    pub(crate) upstream: Key<String>,
    /// Hosts of this server, and of its token endpoint, that may be on this machine, with or
    /// without a port. `http` is allowed for them.
    #[schemars(example = ["127.0.0.1:9000"], extend("default" = []))]
    pub(crate) loopback_hosts: Key<Vec<Located<String>>>,
    /// Hosts of this server, and of its token endpoint, that may have a private address, with or
    /// without a port.
    #[schemars(example = ["mcp.corp.example"], extend("default" = []))]
    pub(crate) private_hosts: Key<Vec<Located<String>>>,
    /// Hosts with port of this server, and of its token endpoint, that may be reached by `http` in
    /// a private network. Credentials and calls can be read and changed on the way.
    #[schemars(example = ["crm:8080"], extend("default" = []))]
    pub(crate) plain_http: Key<Vec<Located<String>>>,
    /// PEM files of roots that this server and its token endpoint may have, in addition to those of
    /// the system.
    #[schemars(example = ["corp-root.pem"], extend("default" = []))]
    pub(crate) trusted_roots: Key<Vec<Located<String>>>,
    pub(crate) credential: Key<Credential>,
    pub(crate) allow: Key<Vec<Located<Rule>>>,
    pub(crate) deny: Key<Vec<Located<Rule>>>,
}

/// Credential for the server. `static` is one secret for all users. `oauth` is the account of each
/// user, which the user connects. `client_credentials` is a token of the gateway itself.
/// `token_exchange` is a token for each user, in exchange for an assertion that the gateway signs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["kind"]))]
pub(crate) struct Credential {
    /// Kind of credential.
    #[schemars(example = &"oauth")]
    pub(crate) kind: Key<CredentialKind>,
    /// `static`: the secret.
    #[schemars(extend("writeOnly" = true))]
    pub(crate) secret: Key<SecretText>,
    /// `static`: file of the secret.
    #[schemars(example = &"github.secret")]
    pub(crate) secret_file: Key<String>,
    /// `static`: header in which the secret is sent. By default it is sent as `Authorization:
    /// Bearer`.
    #[schemars(example = &"x-api-key")]
    pub(crate) header: Key<String>,
    /// Scopes that are requested, or that a static secret has.
    #[schemars(example = ["repo:read"], extend("default" = []))]
    pub(crate) scopes: Key<Vec<Located<String>>>,
    /// Issuer of the authorization server. Required by `client_credentials` and `token_exchange`,
    /// and by `oauth` without `[login]`. Otherwise the server announces it (RFC 9728).
    #[schemars(example = &"https://login.example.com")]
    pub(crate) issuer: Key<String>,
    /// URL of its token endpoint. Required where `issuer` is; otherwise from its metadata.
    #[schemars(example = &"https://login.example.com/token")]
    pub(crate) token_endpoint: Key<String>,
    /// `oauth`: URL of its authorization endpoint. By default from its metadata.
    #[schemars(example = &"https://login.example.com/authorize")]
    pub(crate) authorization_endpoint: Key<String>,
    /// `oauth`: URL of its revocation endpoint. By default from its metadata.
    #[schemars(example = &"https://login.example.com/revoke")]
    pub(crate) revocation_endpoint: Key<String>,
    /// `oauth`: issuer that its metadata names, if it is not the one under which the metadata is
    /// found.
    #[schemars(example = &"https://accounts.example.com")]
    pub(crate) issuer_pin: Key<String>,
    /// `oauth`: resource that the metadata of the server names, if it is not the server's URL.
    #[schemars(example = &"https://mcp.github.example")]
    pub(crate) resource_pin: Key<String>,
    /// `oauth`: origins other than the issuer's at which its metadata may name endpoints.
    #[schemars(example = ["https://api.example.com"], extend("default" = []))]
    pub(crate) endpoint_origins: Key<Vec<Located<String>>>,
    /// Client ID of the gateway at the issuer, and nowhere else: `oauth` requires `issuer`
    /// with it. Without it, the gateway is known to the authorization server by its
    /// metadata document, or registers itself (RFC 7591).
    #[schemars(example = &"token-broker")]
    pub(crate) client_id: Key<String>,
    /// Client secret of the gateway there.
    #[schemars(extend("writeOnly" = true))]
    pub(crate) client_secret: Key<SecretText>,
    /// File of the client secret.
    #[schemars(example = &"github-client.secret")]
    pub(crate) client_secret_file: Key<String>,
    /// How the client secret is sent: by HTTP Basic, or in the body (`post`). `none` is for a
    /// public client, without a secret.
    #[schemars(extend("default" = "basic"))]
    pub(crate) client_authentication: Key<ClientAuthentication>,
    /// Parameter `resource` of requests (RFC 8707).
    #[schemars(example = &"https://mcp.github.example/mcp")]
    pub(crate) resource: Key<String>,
    /// `oauth`: the parameter `resource` without a text of its own: the server's URL (`upstream`),
    /// what its metadata names (`metadata`; its URL without metadata), or none. By default
    /// `metadata`, and `none` if `token_endpoint` is set.
    #[schemars(example = &"upstream")]
    pub(crate) resource_source: Key<ResourceSource>,
    /// Parameter `audience` of token requests, for servers that do not support `resource`.
    #[schemars(example = &"github-api")]
    pub(crate) audience: Key<String>,
    /// `oauth`: further parameters of the authorize request, each as `name=value`.
    #[schemars(example = ["access_type=offline"], extend("default" = []))]
    pub(crate) authorize_parameters: Key<Vec<Located<String>>>,
    /// `oauth`: whether users may connect although the metadata does not name PKCE with S256. It is
    /// used in any case.
    #[schemars(extend("default" = false))]
    pub(crate) allow_unadvertised_pkce: Key<bool>,
    /// `oauth`: whether a refresh is sent without `scope`, for servers that refuse it.
    #[schemars(extend("default" = false))]
    pub(crate) omit_scope_on_refresh: Key<bool>,
    /// `oauth`: further error codes with which a grant has ended.
    #[schemars(example = ["bad_refresh_token"], extend("default" = []))]
    pub(crate) grant_ended_codes: Key<Vec<Located<String>>>,
    /// `oauth`: further error codes until the user has acted.
    #[schemars(example = ["consent_expired"], extend("default" = []))]
    pub(crate) user_required_codes: Key<Vec<Located<String>>>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum CredentialKind {
    Static,
    #[serde(rename = "oauth")]
    OAuth,
    ClientCredentials,
    TokenExchange,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum ClientAuthentication {
    Basic,
    Post,
    None,
}

#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(crate) enum ResourceSource {
    Upstream,
    Metadata,
    None,
}

/// Rule that allows (`[[server.allow]]`) or denies calls. One that denies wins. A rule names at
/// least one tool, resource, prompt or method.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rule {
    /// Name of the rule, for records.
    #[schemars(example = &"read-only")]
    pub(crate) id: Key<String>,
    /// Names of tools. `*` matches any sequence of characters.
    #[schemars(example = ["get_*", "list_*"], extend("default" = []))]
    pub(crate) tools: Key<Vec<Located<String>>>,
    /// URIs of resources, with `*`.
    #[schemars(example = ["file:///docs/*"], extend("default" = []))]
    pub(crate) resources: Key<Vec<Located<String>>>,
    /// Names of prompts, with `*`.
    #[schemars(example = ["summarize"], extend("default" = []))]
    pub(crate) prompts: Key<Vec<Located<String>>>,
    /// MCP methods that are about neither of these, with `*`.
    #[schemars(example = ["logging/setLevel"], extend("default" = []))]
    pub(crate) methods: Key<Vec<Located<String>>>,
    /// Scopes that the client's token must have, separated by spaces. Not for `deny`.
    #[schemars(example = &"github:read")]
    pub(crate) scope: Key<String>,
    /// Scopes that the upstream token needs in addition, requested only when this rule applies. Not
    /// for `deny`.
    #[schemars(example = ["issues:write"], extend("default" = []))]
    pub(crate) upstream_scopes: Key<Vec<Located<String>>>,
    /// Groups, one of which the user must be in. Empty: all users.
    #[schemars(example = ["developers"], extend("default" = []))]
    pub(crate) groups: Key<Vec<Located<String>>>,
}
