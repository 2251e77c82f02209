//! The credential of kind `oauth`: how users connect their accounts.

use token_broker_upstream::ConnectServer;
use tower_token_broker::principal::Scopes;

use super::{
    super::{
        document::{Credential as Section, Document, ResourceSource},
        key::{Key, Located},
        model::{Network, OAuth, OAuthClient, ResourceParameter},
    },
    Checks, network,
};

impl Checks<'_> {
    pub(super) fn oauth(
        &mut self,
        section: &Section,
        document: &Document,
        at: usize,
        network: &Network,
    ) -> Option<OAuth> {
        const KIND: &str = "oauth";
        self.not_for_kind(
            KIND,
            &[
                ("secret", section.secret.at()),
                ("secret_file", section.secret_file.at()),
                ("header", section.header.at()),
            ],
        );
        if section.audience.is_set() {
            let remedy = "write it as an entry of `authorize_parameters`, like \"audience=crm\"";
            self.fail(
                section.audience.at(),
                "`audience` does not apply to the kind `oauth`",
                remedy,
            );
        }
        if document.login.value().is_none() {
            self.without_pages(section, at);
        }
        let network = (network::Section::Server, network);
        let mut endpoint = |key: &'static str, value: &Key<String>| {
            value.as_located().map(|url| self.destination(key, url, network))
        };
        let authorization = endpoint("authorization_endpoint", &section.authorization_endpoint);
        let token = endpoint("token_endpoint", &section.token_endpoint);
        let revocation = endpoint("revocation_endpoint", &section.revocation_endpoint);
        for (key, value) in [
            ("authorization_endpoint", &section.authorization_endpoint),
            ("token_endpoint", &section.token_endpoint),
            ("revocation_endpoint", &section.revocation_endpoint),
        ] {
            if value.is_set() && !section.issuer.is_set() {
                let remedy = "add it: tokens are bound to the issuer that granted them";
                self.fail(value.at(), format!("`{key}` requires `issuer`"), remedy);
            }
        }
        let has_issuer = section.issuer.is_set();
        if section.client_id.is_set() && !has_issuer && document.login.value().is_some() {
            let remedy =
                "add it: the client is registered there, and its secret is sent there only";
            let problem = "`client_id` requires `issuer`";
            self.fail(section.client_id.at(), problem, remedy);
        }
        let issuer = section.issuer.as_located().map(|issuer| self.issuer("issuer", issuer));
        let pin = section.issuer_pin.as_located().map(|pin| self.issuer("issuer_pin", pin));
        let client = self.operators_client(section, at);
        let resource = self.resource(section);
        let authorize_parameters = self.authorize_parameters(&section.authorize_parameters);
        let endpoint_origins = self.origins(&section.endpoint_origins);
        let scopes = self.scopes("scopes", &section.scopes);
        let resource_pin = self.text("resource_pin", &section.resource_pin);
        let grant_ended_codes = self.texts("grant_ended_codes", &section.grant_ended_codes);
        let user_required_codes = self.texts("user_required_codes", &section.user_required_codes);
        let is_true = |key: &Key<bool>| key.value() == Some(&true);
        Some(OAuth {
            issuer: given(issuer)?,
            issuer_pin: given(pin)?,
            resource_pin,
            authorization_endpoint: given(authorization)?,
            token_endpoint: given(token)?,
            revocation_endpoint: given(revocation)?,
            endpoint_origins,
            client: client?,
            scopes,
            resource,
            authorize_parameters,
            allows_unadvertised_pkce: is_true(&section.allow_unadvertised_pkce),
            omit_scope_on_refresh: is_true(&section.omit_scope_on_refresh),
            grant_ended_codes,
            user_required_codes,
        })
    }

    /// Without pages, grants come from `grants add`, and nothing is discovered or registered.
    fn without_pages(&mut self, section: &Section, at: usize) {
        let issuer = ("issuer", &section.issuer, "https://login.example.com");
        let endpoint =
            ("token_endpoint", &section.token_endpoint, "https://login.example.com/token");
        let client = ("client_id", &section.client_id, "token-broker");
        for (key, value, example) in [issuer, endpoint, client] {
            if !value.is_set() {
                let problem = format!("the kind `oauth` requires `{key}` without `[login]`");
                let remedy = format!(
                    "add it, such as `{key} = {example:?}`; or `[login]`, so that users connect \
                     their accounts"
                );
                self.missing(at, &[key], problem, remedy);
            }
        }
    }

    /// Returns the client that the operator registered, or `Some(None)` if there is none.
    fn operators_client(&mut self, section: &Section, at: usize) -> Option<Option<OAuthClient>> {
        if section.client_id.is_set() {
            let id = self.text("client_id", &section.client_id);
            let secret = self.client_secret(section, "oauth", at);
            let secret_in_form = Self::is_secret_in_form(section);
            return Some(Some(OAuthClient { id: id?, secret: secret?, secret_in_form }));
        }
        for (key, at) in [
            ("client_secret", section.client_secret.at()),
            ("client_secret_file", section.client_secret_file.at()),
            ("client_authentication", section.client_authentication.at()),
        ] {
            if at.is_some() {
                let remedy = "add it, or remove this: the gateway then registers itself";
                self.fail(at, format!("`{key}` requires `client_id`"), remedy);
            }
        }
        Some(None)
    }

    fn resource(&mut self, section: &Section) -> ResourceParameter {
        let text = self.text("resource", &section.resource);
        if let (Some(_), Some(at)) = (&text, section.resource_source.at()) {
            let problem = "`resource` and `resource_source` are both set";
            self.fail(at, problem, "remove one of the two");
        }
        match (text, section.resource_source.value()) {
            (Some(text), _) => ResourceParameter::Text(text),
            (None, Some(ResourceSource::Upstream)) => ResourceParameter::Upstream,
            (None, Some(ResourceSource::Metadata)) => ResourceParameter::Metadata,
            (None, Some(ResourceSource::None)) => ResourceParameter::None,
            (None, None) if section.token_endpoint.is_set() => ResourceParameter::None,
            (None, None) => ResourceParameter::Metadata,
        }
    }

    fn authorize_parameters(
        &mut self,
        parameters: &Key<Vec<Located<String>>>,
    ) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for parameter in parameters.elements() {
            let split = parameter.value.split_once('=').filter(|(name, _)| !name.is_empty());
            let is_own =
                split.is_some_and(|(name, _)| ConnectServer::RESERVED_PARAMETERS.contains(&name));
            let is_repeated =
                split.is_some_and(|(name, _)| all.iter().any(|(before, _)| before == name));
            let (problem, remedy) = match split {
                Some((_, _)) if is_own => (
                    "an entry of `authorize_parameters` is one that the gateway sets itself",
                    "remove it; scopes and resource have keys of their own",
                ),
                Some((_, _)) if is_repeated => {
                    ("`authorize_parameters` has this name twice", "remove one")
                }
                Some((name, value)) => {
                    all.push((name.to_owned(), value.to_owned()));
                    continue;
                }
                None => (
                    "an entry of `authorize_parameters` is not `name=value`",
                    "write it like \"access_type=offline\"",
                ),
            };
            self.fail(parameter.at, problem, remedy);
        }
        all
    }

    fn origins(&mut self, origins: &Key<Vec<Located<String>>>) -> Vec<String> {
        let mut all = Vec::new();
        for origin in origins.elements() {
            let uri: Option<http::Uri> = origin.value.parse().ok();
            let is_origin = uri.as_ref().is_some_and(|uri| {
                uri.scheme().is_some()
                    && uri.path() == "/"
                    && uri.query().is_none()
                    && !super::url::has_user(uri)
                    && !origin.value.ends_with('/')
            });
            if is_origin {
                all.push(origin.value.clone());
            } else {
                let problem = "an entry of `endpoint_origins` is not an origin";
                let remedy = "write only scheme and host, like \"https://api.example.com\"";
                self.fail(origin.at, problem, remedy);
            }
        }
        all
    }

    /// Reports keys that only the kind `oauth` has.
    pub(super) fn only_for_oauth(&mut self, section: &Section, kind: &str) {
        self.not_for_kind(
            kind,
            &[
                ("authorization_endpoint", section.authorization_endpoint.at()),
                ("revocation_endpoint", section.revocation_endpoint.at()),
                ("issuer_pin", section.issuer_pin.at()),
                ("resource_pin", section.resource_pin.at()),
                ("endpoint_origins", section.endpoint_origins.at()),
                ("resource_source", section.resource_source.at()),
                ("authorize_parameters", section.authorize_parameters.at()),
                ("allow_unadvertised_pkce", section.allow_unadvertised_pkce.at()),
                ("omit_scope_on_refresh", section.omit_scope_on_refresh.at()),
                ("grant_ended_codes", section.grant_ended_codes.at()),
                ("user_required_codes", section.user_required_codes.at()),
            ],
        );
    }

    /// Returns a list of scopes, one an entry.
    pub(super) fn scopes(&mut self, key: &str, scopes: &Key<Vec<Located<String>>>) -> Scopes {
        let mut all = Scopes::none();
        for scope in scopes.elements() {
            match Scopes::parse(&scope.value) {
                Ok(parsed) if parsed.iter().count() == 1 && parsed.contains(&scope.value) => {
                    all = all.union(&parsed);
                }
                Ok(_) | Err(_) => {
                    let problem = format!("an entry of `{key}` is not one scope");
                    let remedy = "write each scope as an entry of its own, without spaces, \
                                  quotation marks and backslashes";
                    self.fail(scope.at, problem, remedy);
                }
            }
        }
        all
    }
}

/// Returns a value that may be missing; `None` if it is set and has an error.
fn given<T>(checked: Option<Option<T>>) -> Option<Option<T>> {
    match checked {
        None => Some(None),
        Some(None) => None,
        Some(Some(value)) => Some(Some(value)),
    }
}
