//! A server at which users have accounts of their own, and how they connect them.

use http::Uri;
use token_broker_outbound::{FetchError, GuardedClient};
use tower_token_broker::{
    exchange::Origin,
    principal::{Resource, Scopes},
};

use crate::{
    authorization_server::{AuthorizationServer, ClientAuthentication},
    scopes,
};

/// A server at which users connect their own accounts. What is not set is discovered: the server
/// names its authorization server (RFC 9728), and that one its endpoints (RFC 8414).
#[derive(Clone, Debug)]
#[must_use = "does nothing until a connector has it"]
pub struct ConnectServer {
    pub(super) name: Box<str>,
    pub(super) title: Box<str>,
    pub(super) former_names: Vec<Box<str>>,
    pub(super) resources: Vec<Resource>,
    pub(super) upstream: Uri,
    pub(super) client: GuardedClient,
    pub(super) issuer: Option<Box<str>>,
    pub(super) issuer_pin: Option<Box<str>>,
    pub(super) resource_pin: Option<Box<str>>,
    pub(super) endpoints: FixedEndpoints,
    pub(super) endpoint_origins: Vec<Box<str>>,
    pub(super) client_authentication: Option<ClientAuthentication>,
    pub(super) resource: ResourceParameter,
    pub(super) parameters: Vec<(Box<str>, Box<str>)>,
    pub(super) step_up_scopes: Scopes,
    pub(super) allows_unadvertised_pkce: bool,
    /// Scopes and other settings of its token requests. Issuer, endpoint and client are those of
    /// each request.
    pub(super) requests: AuthorizationServer,
}

/// Endpoints that the operator set.
#[derive(Clone, Debug, Default)]
pub(super) struct FixedEndpoints {
    pub(super) authorization: Option<Uri>,
    pub(super) token: Option<Uri>,
    pub(super) revocation: Option<Uri>,
}

/// The parameter `resource` of authorize and token requests (RFC 8707).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResourceParameter {
    /// The URL of the server.
    Upstream,
    /// The resource that the metadata of the server names; without metadata, its URL.
    Metadata,
    /// This text.
    Text(Box<str>),
    /// Not sent, for authorization servers that refuse the parameter.
    None,
}

/// A parameter of the authorize request that the broker sets itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authorize parameter {name} is set by the broker itself")]
#[non_exhaustive]
pub struct ReservedParameter {
    /// Name of the parameter.
    pub name: Box<str>,
}

impl ConnectServer {
    /// Parameters of the authorize request that the broker sets itself.
    pub const RESERVED_PARAMETERS: &[&str] = &[
        "client_id",
        "client_secret",
        "code_challenge",
        "code_challenge_method",
        "redirect_uri",
        "request",
        "request_uri",
        "resource",
        "response_mode",
        "response_type",
        "scope",
        "state",
    ];

    /// Creates a server with this name, which is part of grants and URLs, at this URL. `client`
    /// sends all requests for it: to the server, and to its authorization server.
    ///
    /// # Errors
    /// The guard of the client does not allow the URL.
    pub fn new(name: &str, upstream: &str, client: GuardedClient) -> Result<Self, FetchError> {
        let upstream = client.guard().check(upstream)?;
        let nowhere = ClientAuthentication::public("");
        Ok(Self {
            name: name.into(),
            title: name.into(),
            former_names: Vec::new(),
            resources: Vec::new(),
            requests: AuthorizationServer::new("", upstream.clone(), nowhere),
            upstream,
            client,
            issuer: None,
            issuer_pin: None,
            resource_pin: None,
            endpoints: FixedEndpoints::default(),
            endpoint_origins: Vec::new(),
            client_authentication: None,
            resource: ResourceParameter::Metadata,
            parameters: Vec::new(),
            step_up_scopes: Scopes::none(),
            allows_unadvertised_pkce: false,
        })
    }

    /// Sets the title that users see.
    pub fn title(mut self, title: &str) -> Self {
        self.title = title.into();
        self
    }

    /// Adds a name that the server had. Accounts that were connected under it stay connected.
    pub fn former_name(mut self, name: &str) -> Self {
        self.former_names.push(name.into());
        self
    }

    /// Adds a resource under which the broker protects the server.
    pub fn resource(mut self, resource: Resource) -> Self {
        self.resources.push(resource);
        self
    }

    /// Sets the operator's scopes: those that are requested, whatever a client requests and
    /// whatever the authorization server offers.
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.requests = self.requests.scopes(scopes);
        self
    }

    /// Sets the scopes that rules need in addition to the operator's (`upstream_scopes`). For a
    /// user who comes by the link of such a rule, a connect requests those of the rule, and later
    /// ones keep them.
    pub fn step_up_scopes(mut self, scopes: Scopes) -> Self {
        self.step_up_scopes = scopes;
        self
    }

    /// Sets the issuer of the authorization server, in place of the one that the server announces.
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Accepts metadata that names this issuer, although it was found under another one. Tokens are
    /// bound to the issuer that is pinned.
    pub fn issuer_pin(mut self, issuer: &str) -> Self {
        self.issuer_pin = Some(issuer.into());
        self
    }

    /// Accepts metadata of the server that names this resource, although it is not its URL.
    pub fn resource_pin(mut self, resource: &str) -> Self {
        self.resource_pin = Some(resource.into());
        self
    }

    /// Sets the authorization endpoint of the issuer. Endpoints require the issuer.
    pub fn authorization_endpoint(mut self, endpoint: Uri) -> Self {
        self.endpoints.authorization = Some(endpoint);
        self
    }

    /// Sets the token endpoint of the issuer.
    pub fn token_endpoint(mut self, endpoint: Uri) -> Self {
        self.endpoints.token = Some(endpoint);
        self
    }

    /// Sets the revocation endpoint of the issuer (RFC 7009).
    pub fn revocation_endpoint(mut self, endpoint: Uri) -> Self {
        self.endpoints.revocation = Some(endpoint);
        self
    }

    /// Accepts endpoints at this origin, in addition to that of the issuer.
    pub fn endpoint_origin(mut self, origin: &str) -> Self {
        self.endpoint_origins.push(origin.into());
        self
    }

    /// Sets the client that the operator registered at the [`issuer`](ConnectServer::issuer), which
    /// is required with it: it is used at no other, so that no server can have its secret sent
    /// elsewhere. Without a client, the broker uses its metadata document where the authorization
    /// server supports that, or registers itself (RFC 7591).
    pub fn client(mut self, client: ClientAuthentication) -> Self {
        self.client_authentication = Some(client);
        self
    }

    /// Sets the parameter `resource`; by default [`ResourceParameter::Metadata`].
    pub fn resource_parameter(mut self, resource: ResourceParameter) -> Self {
        self.resource = resource;
        self
    }

    /// Adds a parameter to the authorize request, such as `access_type=offline`.
    ///
    /// # Errors
    /// [`ReservedParameter`]
    pub fn authorize_parameter(
        mut self,
        name: &str,
        value: &str,
    ) -> Result<Self, ReservedParameter> {
        if Self::RESERVED_PARAMETERS.contains(&name) {
            return Err(ReservedParameter { name: name.into() });
        }
        self.parameters.push((name.into(), value.into()));
        Ok(self)
    }

    /// Lets users connect although the metadata of the authorization server does not name the PKCE
    /// method S256. It is used in any case; a server that ignores it protects no code.
    pub const fn dangerous_allow_unadvertised_pkce(mut self) -> Self {
        self.allows_unadvertised_pkce = true;
        self
    }

    /// See [`AuthorizationServer::omit_scope_on_refresh`].
    pub fn omit_scope_on_refresh(mut self) -> Self {
        self.requests = self.requests.omit_scope_on_refresh();
        self
    }

    /// See [`AuthorizationServer::grant_ended_codes`].
    pub fn grant_ended_codes<'c>(mut self, codes: impl IntoIterator<Item = &'c str>) -> Self {
        self.requests = self.requests.grant_ended_codes(codes);
        self
    }

    /// See [`AuthorizationServer::user_required_codes`].
    pub fn user_required_codes<'c>(mut self, codes: impl IntoIterator<Item = &'c str>) -> Self {
        self.requests = self.requests.user_required_codes(codes);
        self
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the settings of its token requests.
    pub(crate) const fn requests(&self) -> &AuthorizationServer {
        &self.requests
    }

    /// Returns the client that sends its requests.
    pub(crate) const fn guarded_client(&self) -> &GuardedClient {
        &self.client
    }

    /// Returns the scopes that a connect requests.
    pub(super) fn operator_scopes(&self) -> &Scopes {
        self.requests.operator_scopes()
    }

    /// Returns the scopes of rules among these, which a connect requests in addition.
    pub(super) fn of_rules(&self, scopes: &Scopes) -> Scopes {
        let of_rules = scopes::common(scopes, &self.step_up_scopes);
        scopes::missing(&of_rules, self.operator_scopes())
    }

    /// Returns whether endpoints are set without their issuer.
    pub(super) fn has_endpoints_of_no_issuer(&self) -> bool {
        let FixedEndpoints { authorization, token, revocation } = &self.endpoints;
        let is_any = authorization.is_some() || token.is_some() || revocation.is_some();
        is_any && self.fixed_issuer().is_none()
    }

    /// Returns all scopes that a connect may request. Some servers allow a client those only that
    /// it registered.
    pub(super) fn registered_scopes(&self) -> Scopes {
        self.operator_scopes().union(&self.step_up_scopes)
    }

    /// Returns its name and former names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.former_names).map(|name| &**name)
    }

    /// Returns the issuer that grants must be from, if the operator set one.
    pub(super) fn fixed_issuer(&self) -> Option<&str> {
        self.issuer_pin.as_deref().or(self.issuer.as_deref())
    }

    /// Returns whether the operator set this issuer. Endpoints and client that the operator set are
    /// of this issuer only.
    pub(super) fn is_fixed(&self, issuer: &str) -> bool {
        self.fixed_issuer() == Some(issuer)
    }

    /// Returns the client that the operator registered at this issuer. A pin by itself is not
    /// enough: the server would choose the place of the metadata, and name any endpoint there.
    pub(super) fn client_at(&self, issuer: &str) -> Option<&ClientAuthentication> {
        let is_at = self.issuer.is_some() && self.is_fixed(issuer);
        self.client_authentication.as_ref().filter(|_| is_at)
    }

    /// Returns the origin of the server.
    pub(super) fn origin(&self) -> Option<Origin> {
        Origin::of(&self.upstream)
    }

    /// Returns whether a grant is for this server: from its issuer, if the operator set one, and
    /// otherwise connected for the host that the server has today. The operator may have entered
    /// another host, which must not get the tokens of users that agreed to the first one.
    pub(super) fn accepts(&self, issuer: &str, upstream: Option<&str>) -> bool {
        match self.fixed_issuer() {
            Some(fixed) => fixed == issuer,
            None => {
                let origin = self.origin();
                upstream.is_none_or(|upstream| origin.is_some_and(|at| at.as_str() == upstream))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use token_broker_outbound::Guard;

    use super::*;

    fn server() -> ConnectServer {
        let client = GuardedClient::new(&Guard::new()).unwrap();
        ConnectServer::new("crm", "https://mcp.crm.example/mcp", client).unwrap()
    }

    #[test]
    fn parameters_of_the_broker_are_refused() {
        for name in ConnectServer::RESERVED_PARAMETERS {
            let refused = server().authorize_parameter(name, "x").unwrap_err();
            assert_eq!(&*refused.name, *name);
        }
        let server = server().authorize_parameter("access_type", "offline").unwrap();
        assert_eq!(server.parameters.len(), 1);
    }

    #[test]
    fn a_pin_is_the_issuer_of_grants() {
        let found = server().issuer("https://login.example");
        assert_eq!(found.fixed_issuer(), Some("https://login.example"));
        let pinned = found.issuer_pin("https://accounts.example");
        assert_eq!(pinned.fixed_issuer(), Some("https://accounts.example"));
    }
}
