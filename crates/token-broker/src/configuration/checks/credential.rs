//! The credential for a server.

use http::HeaderName;
use token_broker_upstream::StaticSecret;
use tower_token_broker::{Secret, exchange::Upstream};

use super::{
    super::{
        document::{
            ClientAuthentication, Credential as Section, CredentialKind, Document, TokensKind,
        },
        key::Located,
        model::{AuthorizationServer, Credential, Network},
    },
    Checks, network,
};

/// Headers that a secret cannot have, because the proxy sets or removes them.
const OTHER_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "accept",
    "expect",
    "host",
    "keep-alive",
    "mcp-protocol-version",
    "mcp-session-id",
    "origin",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Checks<'_> {
    pub(super) fn credential(
        &mut self,
        credential: &Located<Section>,
        document: &Document,
        upstream: Option<&Upstream>,
        network: &Network,
    ) -> Option<Credential> {
        let section = &credential.value;
        let kind = section.kind.as_located()?;
        let of_server =
            |checks: &mut Self, name| checks.authorization_server(section, name, kind.at, network);
        match kind.value {
            CredentialKind::Static => self.static_secret(section, kind.at, upstream),
            CredentialKind::OAuth => {
                let oauth = self.oauth(section, document, kind.at, network);
                oauth.map(|oauth| Credential::OAuth(Box::new(oauth)))
            }
            CredentialKind::ClientCredentials => {
                self.only_for_oauth(section, "client_credentials");
                if section.client_authentication.value() == Some(&ClientAuthentication::None) {
                    let problem = "the kind `client_credentials` requires a client secret";
                    let remedy = "use \"basic\" or \"post\", and set `client_secret_file`";
                    self.fail(section.client_authentication.at(), problem, remedy);
                }
                let server = of_server(self, "client_credentials");
                server.map(Credential::ClientCredentials)
            }
            CredentialKind::TokenExchange => {
                self.only_for_oauth(section, "token_exchange");
                let tokens = document.tokens.value().and_then(|tokens| tokens.kind.value());
                if tokens.is_some_and(|tokens| *tokens != TokensKind::Trial) {
                    let problem = "the kind `token_exchange` requires `[login]`, or `kind = \
                                   \"trial\"` in `[tokens]`";
                    let remedy = "use another kind of credential: the gateway signs assertions \
                                  about users of its own issuer only";
                    self.fail(kind.at, problem, remedy);
                }
                of_server(self, "token_exchange").map(Credential::TokenExchange)
            }
        }
    }

    fn static_secret(
        &mut self,
        section: &Section,
        at: usize,
        upstream: Option<&Upstream>,
    ) -> Option<Credential> {
        self.not_for_kind(
            "static",
            &[
                ("issuer", section.issuer.at()),
                ("token_endpoint", section.token_endpoint.at()),
                ("client_id", section.client_id.at()),
                ("client_secret", section.client_secret.at()),
                ("client_secret_file", section.client_secret_file.at()),
                ("client_authentication", section.client_authentication.at()),
                ("resource", section.resource.at()),
                ("audience", section.audience.at()),
            ],
        );
        self.only_for_oauth(section, "static");
        if !section.secret.is_set() && !section.secret_file.is_set() {
            self.kind_requires(at, "static", "secret_file", "upstream.secret");
        }
        let secret = self.secret("secret", &section.secret, &section.secret_file);
        let secret_at = section.secret_file.at().or(section.secret.at()).unwrap_or(at);
        let secret = secret.filter(|secret| self.is_long_enough(secret, secret_at, upstream));
        let header = match section.header.as_located() {
            Some(header) => Some(self.header(header)?),
            None => None,
        };
        let scopes = self.scopes("scopes", &section.scopes);
        Some(Credential::Static { secret: secret?, header, scopes })
    }

    /// Compares the length with the provider's limit: a shorter one would be masked in ordinary
    /// text.
    fn is_long_enough(&mut self, secret: &Secret, at: usize, upstream: Option<&Upstream>) -> bool {
        let Some(upstream) = upstream else { return true };
        let Err(short) = StaticSecret::new(secret.clone(), upstream.clone()) else { return true };
        let problem = format!("the secret is too short: {} octets", short.octets());
        let remedy = "use one of at least 12: responses that contain it are masked, and a short \
                      one is part of ordinary text";
        self.fail(at, problem, remedy);
        false
    }

    fn header(&mut self, header: &Located<String>) -> Option<HeaderName> {
        let name = HeaderName::try_from(header.value.as_str()).ok();
        let (problem, remedy) = match name {
            Some(name) if OTHER_HEADERS.contains(&name.as_str()) => (
                "`header` is one that the gateway sets itself",
                "use the header of the upstream's \
                  documentation, such as x-api-key",
            ),
            Some(name) => return Some(name),
            None => ("`header` is not the name of a header", "write only the name, like x-api-key"),
        };
        self.fail(header.at, problem, remedy);
        None
    }

    fn authorization_server(
        &mut self,
        section: &Section,
        kind: &str,
        at: usize,
        network: &Network,
    ) -> Option<AuthorizationServer> {
        self.not_for_kind(
            kind,
            &[
                ("secret", section.secret.at()),
                ("secret_file", section.secret_file.at()),
                ("header", section.header.at()),
            ],
        );
        let of = (kind, at);
        let (issuer, endpoint) = (&section.issuer, &section.token_endpoint);
        let issuer = self.required(of, ("issuer", issuer), "https://login.example.com");
        let issuer = issuer.and_then(|issuer| self.issuer("issuer", issuer));
        let example = "https://login.example.com/token";
        let token_endpoint = self.required(of, ("token_endpoint", endpoint), example);
        let network = (network::Section::Server, network);
        let token_endpoint =
            token_endpoint.and_then(|url| self.destination("token_endpoint", url, network));
        self.required(of, ("client_id", &section.client_id), "token-broker");
        let client_id = self.text("client_id", &section.client_id);
        let client_secret = self.client_secret(section, kind, at);
        let scopes = self.scopes("scopes", &section.scopes);
        let resource = self.text("resource", &section.resource);
        let audience = self.text("audience", &section.audience);
        Some(AuthorizationServer {
            issuer: issuer?,
            token_endpoint: token_endpoint?,
            client_id: client_id?,
            client_secret: client_secret?,
            secret_in_form: Self::is_secret_in_form(section),
            scopes,
            resource,
            audience,
        })
    }

    /// Returns whether the client secret is sent in the body of a request.
    pub(super) fn is_secret_in_form(section: &Section) -> bool {
        section.client_authentication.value() == Some(&ClientAuthentication::Post)
    }

    /// Returns the client secret, or `Some(None)` for a public client.
    pub(super) fn client_secret(
        &mut self,
        section: &Section,
        kind: &str,
        at: usize,
    ) -> Option<Option<Secret>> {
        let is_public = section.client_authentication.value() == Some(&ClientAuthentication::None);
        let given = section.client_secret_file.at().or(section.client_secret.at());
        match (given, is_public) {
            (Some(given), true) => {
                let problem = "a client secret is set, but `client_authentication` is \"none\"";
                self.fail(given, problem, "remove one of the two");
                None
            }
            (None, true) => Some(None),
            (None, false) => {
                let problem = format!("the kind `{kind}` requires `client_secret_file`");
                let remedy = "add it; or, for a public client, `client_authentication = \"none\"`";
                self.missing(at, &["client_secret_file"], problem, remedy);
                None
            }
            (Some(_), false) => {
                let (text, file) = (&section.client_secret, &section.client_secret_file);
                self.secret("client_secret", text, file).map(Some)
            }
        }
    }
}
