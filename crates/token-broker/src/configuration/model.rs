//! The configuration as the gateway uses it, after all checks.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::{HeaderName, Uri};
use ipnet::IpNet;
use token_broker_authority::{AuthoritySettings, client::ConfiguredClient};
use token_broker_store::sealing::KeyRing;
use tower_token_broker::{
    Secret,
    authenticate::jwt::Algorithm,
    principal::{Resource, Scopes},
};

/// A checked configuration. Paths are absolute, or relative to the folder of the file.
#[derive(Debug)]
#[non_exhaustive]
pub struct Configuration {
    /// The folder of the file, to which a relative SQLite URL is relative.
    pub folder: PathBuf,
    /// The URL under which clients reach the gateway: scheme and host, no path.
    pub public_url: Uri,
    /// The address on which the gateway listens.
    pub listen: SocketAddr,
    /// Certificate and key; without them, the gateway listens in plain text.
    pub tls: Option<TlsFiles>,
    /// Proxies from which plain connections are accepted. Empty: only from this machine, unless
    /// there is a certificate.
    pub trusted_proxies: Vec<IpNet>,
    /// The store.
    pub store: Store,
    /// The folder of the audit log.
    pub audit_folder: PathBuf,
    /// The name of this process in the audit log; the host's name by default.
    pub audit_writer: String,
    /// The tokens that clients show.
    pub tokens: Tokens,
    /// Hosts that may be reached for the tokens, in addition to public ones.
    pub tokens_network: Network,
    /// The protected servers, in the order of the file.
    pub servers: Vec<Server>,
    /// The secrets, keys and certificates that the configuration names.
    pub files: Vec<PathBuf>,
    /// The form of log lines.
    pub log_format: LogFormat,
    /// The filter of log lines, as in `RUST_LOG`.
    pub log_filter: String,
}

/// PEM files of a certificate chain and its private key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The chain, the server's certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Where grants, revocations and keys are stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Store {
    /// `sqlite://FILE` or `postgres://…`. May contain a password: it is never printed.
    pub url: Secret,
    /// Key-encryption keys.
    pub keys: KeyRing,
}

/// The issuer of the tokens that clients show.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Tokens {
    /// JWT of an identity provider.
    Jwt {
        /// `iss`, exactly.
        issuer: String,
        /// The form of its tokens.
        profile: Profile,
        /// The URL of its key set; by default from its metadata.
        key_set: Option<Uri>,
        /// Accepted algorithms, at least one.
        algorithms: Vec<Algorithm>,
    },
    /// Any token of an identity provider, verified at its introspection endpoint.
    Introspection {
        /// The issuer.
        issuer: String,
        /// The endpoint.
        endpoint: Uri,
        /// The client ID of the broker there.
        client_id: String,
        /// The client secret of the broker there.
        client_secret: Secret,
        /// The accepted audience; by default the resource's URI.
        audience: Option<String>,
        /// The accepted clients; empty: all.
        clients: Vec<String>,
    },
    /// Tokens that `token-broker tokens issue` signs, for trials. The issuer is `public_url`.
    Trial {
        /// PKCS #8 (DER) of an ES256 key.
        signing_key_file: PathBuf,
    },
    /// Tokens of the gateway itself, for which its users sign in. The issuer is `public_url`.
    Login(Box<Login>),
}

/// Sign-in at the gateway.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Login {
    /// The name of the gateway on its pages.
    pub title: Option<String>,
    /// Lifetimes.
    pub settings: AuthoritySettings,
    /// Lifetime of a browser's session.
    pub session_lifetime: Duration,
    /// Whether clients may register themselves.
    pub has_registration: bool,
    /// Whether clients may be described by metadata documents.
    pub has_client_documents: bool,
    /// Known clients.
    pub clients: Vec<ConfiguredClient>,
    /// Descriptions of what scopes allow, by their names.
    pub scope_texts: Vec<(String, String)>,
}

/// The form of an identity provider's tokens (`TokenProfile`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// RFC 9068; the audience is the resource's URI, or this one.
    Rfc9068 {
        /// The accepted audience.
        audience: Option<String>,
    },
    /// Microsoft Entra ID, with this audience.
    Entra(String),
    /// Okta, with this audience.
    Okta(String),
    /// Auth0, with this audience.
    Auth0(String),
    /// Keycloak, with this audience.
    Keycloak(String),
    /// Amazon Cognito, with these app clients.
    Cognito(Vec<String>),
}

/// A protected MCP server.
#[derive(Debug)]
#[non_exhaustive]
pub struct Server {
    /// Its name: in its path, in grants and in records.
    pub name: String,
    /// Its name for people.
    pub title: Option<String>,
    /// Names that it had; their paths are served, too.
    pub previous_names: Vec<String>,
    /// `{public_url}/{name}/mcp`.
    pub resource: Resource,
    /// The URL of the server.
    pub upstream: Uri,
    /// Hosts that may be reached for this server, in addition to public ones.
    pub network: Network,
    /// The credential for the server.
    pub credential: Credential,
    /// Rules that allow, in the order of the file.
    pub allow: Vec<Rule>,
    /// Rules that deny. They win.
    pub deny: Vec<Rule>,
}

/// Hosts that may be reached although they are not public.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// Names of hosts that may be on this machine.
    pub loopback_hosts: Vec<String>,
    /// Names of hosts that may be in a private network.
    pub private_hosts: Vec<String>,
    /// Hosts and ports that may be reached by plain http.
    pub plain_http: Vec<(String, u16)>,
    /// Files of further trusted roots (PEM).
    pub trusted_roots: Vec<PathBuf>,
}

/// The source of the credential for a server.
#[derive(Debug)]
#[non_exhaustive]
pub enum Credential {
    /// One secret for all users.
    Static {
        /// The secret.
        secret: Secret,
        /// The header in which it is sent; `Authorization: Bearer` by default.
        header: Option<HeaderName>,
        /// The scopes that it has.
        scopes: Scopes,
    },
    /// The account of each user, which the user connects.
    OAuth(Box<OAuth>),
    /// A token of the broker itself.
    ClientCredentials(AuthorizationServer),
    /// A token for each user, in exchange for an assertion that the broker signs.
    TokenExchange(AuthorizationServer),
}

/// The authorization server of an upstream.
#[derive(Debug)]
#[non_exhaustive]
pub struct AuthorizationServer {
    /// Its issuer.
    pub issuer: String,
    /// Its token endpoint.
    pub token_endpoint: Uri,
    /// The client ID of the broker there.
    pub client_id: String,
    /// The client secret of the broker there; `None` for a public client.
    pub client_secret: Option<Secret>,
    /// Whether the secret is sent in the form instead of by HTTP Basic.
    pub secret_in_form: bool,
    /// The scopes that are requested.
    pub scopes: Scopes,
    /// `resource` of each request.
    pub resource: Option<String>,
    /// `audience` of each request.
    pub audience: Option<String>,
}

/// Settings for the accounts that users connect at a server. Settings that are missing are
/// discovered.
#[derive(Debug)]
#[non_exhaustive]
pub struct OAuth {
    /// Issuer of the authorization server.
    pub issuer: Option<String>,
    /// The issuer that its metadata names, if it is another one.
    pub issuer_pin: Option<String>,
    /// The resource that the metadata of the server names, if it is not the server's URL.
    pub resource_pin: Option<String>,
    /// Its authorization endpoint.
    pub authorization_endpoint: Option<Uri>,
    /// Its token endpoint.
    pub token_endpoint: Option<Uri>,
    /// Its revocation endpoint.
    pub revocation_endpoint: Option<Uri>,
    /// Origins, other than the issuer's, at which it may have endpoints.
    pub endpoint_origins: Vec<String>,
    /// The client of the broker there; `None` to use its metadata document or to register.
    pub client: Option<OAuthClient>,
    /// The scopes that are requested.
    pub scopes: Scopes,
    /// `resource` of each request.
    pub resource: ResourceParameter,
    /// Further parameters of the authorize request.
    pub authorize_parameters: Vec<(String, String)>,
    /// Whether users may connect although the metadata does not name S256.
    pub allows_unadvertised_pkce: bool,
    /// Whether a refresh is sent without `scope`.
    pub omit_scope_on_refresh: bool,
    /// Further codes that end a grant.
    pub grant_ended_codes: Vec<String>,
    /// Further codes that need the user.
    pub user_required_codes: Vec<String>,
}

/// A client of the broker that an operator registered.
#[derive(Debug)]
#[non_exhaustive]
pub struct OAuthClient {
    /// `client_id`.
    pub id: String,
    /// The secret; `None` for a public client.
    pub secret: Option<Secret>,
    /// Whether the secret is sent in the form instead of by HTTP Basic.
    pub secret_in_form: bool,
}

/// The parameter `resource` (RFC 8707).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the gateway handles each")]
pub enum ResourceParameter {
    /// The URL of the server.
    Upstream,
    /// The resource that the metadata of the server names.
    Metadata,
    /// This text.
    Text(String),
    /// Not sent.
    None,
}

/// A rule about calls of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Name of the rule, for records.
    pub id: Option<String>,
    /// Names of tools, with `*`.
    pub tools: Vec<String>,
    /// URIs of resources, with `*`.
    pub resources: Vec<String>,
    /// Names of prompts, with `*`.
    pub prompts: Vec<String>,
    /// MCP methods.
    pub methods: Vec<String>,
    /// Scopes that the broker token must have.
    pub scope: Option<String>,
    /// Scopes that the upstream token needs in addition.
    pub upstream_scopes: Option<String>,
    /// Groups, one of which the user must be in; empty: all users.
    pub groups: Vec<String>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the three settings")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}
