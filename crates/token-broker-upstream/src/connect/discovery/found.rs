//! The authorization server that was found, with checked endpoints.

use http::Uri;
use url::Url;

use super::{
    NotFound,
    metadata::{ServerDocument, origin},
};
use crate::connect::server::{ConnectServer, FixedEndpoints};

/// An authorization server with its endpoints.
#[derive(Clone, Debug)]
pub(in crate::connect) struct Found {
    /// Issuer to which grants are bound.
    pub(in crate::connect) issuer: Box<str>,
    /// Authorization endpoint, as it is written; safe in a `Location` header.
    pub(in crate::connect) authorization_endpoint: Url,
    pub(in crate::connect) token_endpoint: Uri,
    pub(in crate::connect) revocation_endpoint: Option<Uri>,
    pub(in crate::connect) registration_endpoint: Option<Uri>,
    /// Ways of client authentication at the token endpoint, if the server names them.
    pub(in crate::connect) auth_methods: Option<Vec<String>>,
    /// Whether each authorization response has `iss` (RFC 9207).
    pub(in crate::connect) has_issuer_in_response: bool,
    /// Whether a client may be described by a metadata document.
    pub(in crate::connect) has_client_documents: bool,
    /// The resource that the metadata of the server names.
    pub(in crate::connect) resource: Option<Box<str>>,
}

/// Checks endpoints of one server.
struct Endpoints<'a> {
    server: &'a ConnectServer,
    issuer_origin: Option<String>,
}

impl Found {
    /// Creates it from the metadata of an issuer. Endpoints that the operator set for it win.
    pub(super) fn of(
        server: &ConnectServer,
        document: &ServerDocument,
        resource: Option<&str>,
    ) -> Result<Self, NotFound> {
        if !document.has_s256 && !server.allows_unadvertised_pkce {
            // E118
            return Err(NotFound::misconfigured("as.pkce"));
        }
        let issuer: Option<Uri> = document.issuer.parse().ok();
        let issuer_origin = issuer.as_ref().and_then(origin);
        let endpoints = Endpoints { server, issuer_origin };
        let none = FixedEndpoints::default();
        let is_fixed = server.is_fixed(&document.issuer);
        let fixed = if is_fixed { &server.endpoints } else { &none };
        let required = |endpoint: Option<Uri>| endpoint.ok_or(MISSING);
        let authorization = endpoints.of(&fixed.authorization, &document.authorization_endpoint)?;
        Ok(Self {
            issuer: document.issuer.as_str().into(),
            authorization_endpoint: browser_url(&required(authorization)?)?,
            token_endpoint: required(endpoints.of(&fixed.token, &document.token_endpoint)?)?,
            revocation_endpoint: endpoints.of(&fixed.revocation, &document.revocation_endpoint)?,
            registration_endpoint: endpoints.of(&None, &document.registration_endpoint)?,
            auth_methods: document.auth_methods.clone(),
            has_issuer_in_response: document.has_issuer_in_response,
            has_client_documents: document.has_client_documents,
            resource: resource.map(Into::into),
        })
    }

    /// Creates it from what the operator set, without metadata; `None` if something is missing.
    pub(super) fn fixed(server: &ConnectServer) -> Option<Result<Self, NotFound>> {
        let fixed = &server.endpoints;
        let issuer = server.fixed_issuer()?;
        let (authorization, token) = (fixed.authorization.as_ref()?, fixed.token.as_ref()?);
        Some(browser_url(authorization).map(|authorization_endpoint| Self {
            issuer: issuer.into(),
            authorization_endpoint,
            token_endpoint: token.clone(),
            revocation_endpoint: fixed.revocation.clone(),
            registration_endpoint: None,
            auth_methods: None,
            has_issuer_in_response: false,
            has_client_documents: false,
            resource: None,
        }))
    }
}

const MISSING: NotFound = NotFound::misconfigured("as.endpoint_missing");

impl Endpoints<'_> {
    /// Returns an endpoint: as the operator set it, or as the metadata names it.
    // C073: an endpoint at another origin receives codes and secrets only if the operator listed
    // that origin.
    fn of(&self, fixed: &Option<Uri>, named: &Option<String>) -> Result<Option<Uri>, NotFound> {
        if let Some(fixed) = fixed {
            return Ok(Some(fixed.clone()));
        }
        let Some(named) = named else { return Ok(None) };
        // C084, C069: the guard parses as the client and the browser do.
        let checked = self.server.client.guard().check(named);
        let endpoint = checked.map_err(|error| NotFound::misconfigured(error.code()))?;
        let at = origin(&endpoint);
        let is_listed =
            |listed: &&str| at.as_deref().is_some_and(|at| at.eq_ignore_ascii_case(listed));
        let listed = self.server.endpoint_origins.iter().map(|origin| &**origin);
        if self.issuer_origin.as_deref().into_iter().chain(listed).any(|origin| is_listed(&origin))
        {
            return Ok(Some(endpoint));
        }
        Err(NotFound::misconfigured("as.endpoint_origin"))
    }
}

/// Returns an authorization endpoint as the browser reads it.
// C084: only the serialization of a parsed URL is sent to the browser.
fn browser_url(endpoint: &Uri) -> Result<Url, NotFound> {
    let url = Url::parse(&endpoint.to_string()).ok().filter(|url| {
        let is_plain = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "https" | "http") && is_plain && url.fragment().is_none()
    });
    url.ok_or(NotFound::misconfigured("fetch.url"))
}
