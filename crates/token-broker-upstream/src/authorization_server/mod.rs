//! Configuration of an upstream's authorization server, and requests to its token endpoint.

mod client_authentication;
mod denial;
mod form;
mod json_object;
mod problem;
mod token_response;
mod tokens;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use tower_token_broker::{Secret, cause, clock::Timestamp, principal::Scopes};

use self::form::Form;
use crate::{
    cache_key::Parts,
    places::Places,
    signing::SignError,
    token_exchange::{SecurityToken, TokenType},
};

pub use self::client_authentication::ClientAuthentication;
pub(crate) use self::{
    denial::{Codes, Denial, ErrorCodes},
    json_object::{JsonObject, Member},
    problem::Problem,
    token_response::{NoTokens, TOKEN_ENDPOINT_TIMEOUT, TokenResponse},
    tokens::Tokens,
};

/// Authorization server of an upstream: issuer, token endpoint, client authentication of the
/// broker, and the scopes that it requests.
#[derive(Clone, Debug)]
#[must_use = "an authorization server does nothing until a provider has it"]
pub struct AuthorizationServer {
    issuer: Box<str>,
    token_endpoint: Uri,
    client: ClientAuthentication,
    scopes: Scopes,
    resource: Option<Box<str>>,
    audience: Option<Box<str>>,
    wider: Wider,
    codes: ErrorCodes,
    scope_on_refresh: ScopeOnRefresh,
    max_requests: usize,
    max_requests_per_user: usize,
    timeout: Duration,
}

/// Largest setting for concurrent requests.
const MOST_REQUESTS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wider {
    Refused,
    Tolerated,
}

/// Whether a refresh sends `scope` (RFC 6749 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScopeOnRefresh {
    Sent,
    Omitted,
}

impl AuthorizationServer {
    /// Creates a configuration without scopes; set them with [`AuthorizationServer::scopes`].
    pub fn new(issuer: &str, token_endpoint: Uri, client: ClientAuthentication) -> Self {
        let (scopes, wider) = (Scopes::none(), Wider::Refused);
        Self {
            issuer: issuer.into(),
            token_endpoint,
            client,
            scopes,
            resource: None,
            audience: None,
            wider,
            codes: ErrorCodes::default(),
            scope_on_refresh: ScopeOnRefresh::Sent,
            max_requests: 64,
            max_requests_per_user: 4,
            timeout: TOKEN_ENDPOINT_TIMEOUT,
        }
    }

    /// Sets the operator's scopes: those that access tokens have, whatever a client requests and
    /// whatever the server offers.
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Sends this `resource` with each request (RFC 8707 §2.2), as MCP requires where the server
    /// supports the parameter.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Sends this `audience` with a token exchange (RFC 8693 §2.1) and with client credentials: the
    /// server's own name of the upstream, for servers that do not support `resource`.
    pub fn audience(mut self, audience: &str) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Uses access tokens that have more scopes than were requested. By default such a token is not
    /// used. For servers that cannot issue a narrower one; each such token is logged.
    pub fn dangerous_tolerate_wider_scopes(mut self) -> Self {
        self.wider = Wider::Tolerated;
        self
    }

    /// Adds error codes with which this server refuses a refresh token that has ended, in addition
    /// to `invalid_grant` and those that providers are known to use. The grant ends, and the user
    /// must connect again. Case makes no difference. Codes of an outage (`server_error`,
    /// `rate_limited`, …) and of a client that is not accepted (`invalid_client`, …) end no grant.
    pub fn grant_ended_codes<'c>(mut self, codes: impl IntoIterator<Item = &'c str>) -> Self {
        self.codes.end_grants(codes);
        self
    }

    /// Adds error codes with which this server refuses a refresh until the user has acted, in
    /// addition to `interaction_required`, `login_required`, `consent_required` and
    /// `account_selection_required`. The user is sent to connect; the grant is kept and tried again
    /// each hour. Case makes no difference.
    pub fn user_required_codes<'c>(mut self, codes: impl IntoIterator<Item = &'c str>) -> Self {
        self.codes.need_user(codes);
        self
    }

    /// Never sends `scope` with a refresh, for servers that refuse the parameter there. The server
    /// then issues all scopes that the user agreed to, unless the response names others: a token
    /// with more scopes than the operator's is not used.
    ///
    /// Without this setting, a refresh that is refused with `invalid_scope` is retried once
    /// without `scope`. If the token of that can be used, `scope` is left out for this grant for an
    /// hour.
    pub fn omit_scope_on_refresh(mut self) -> Self {
        self.scope_on_refresh = ScopeOnRefresh::Omitted;
        self
    }

    /// Sets the largest number of concurrent requests of one provider to the token endpoint; 64 by
    /// default. At least one.
    pub fn max_requests(mut self, requests: usize) -> Self {
        self.max_requests = requests.clamp(1, MOST_REQUESTS);
        self
    }

    /// Sets how many of [`AuthorizationServer::max_requests`] one user may hold, with all of the
    /// user's accounts; 4 by default, a sixteenth. At least one. Further 64 requests of the user
    /// wait, and the rest are refused (503), so that one user does not delay the others.
    pub fn max_requests_per_user(mut self, requests: usize) -> Self {
        self.max_requests_per_user = requests.clamp(1, MOST_REQUESTS);
        self
    }

    /// Returns these settings for an authorization server that was found.
    pub(crate) fn at(
        &self,
        issuer: &str,
        token_endpoint: &Uri,
        client: ClientAuthentication,
        resource: Option<&str>,
    ) -> Self {
        Self {
            issuer: issuer.into(),
            token_endpoint: token_endpoint.clone(),
            client,
            resource: resource.map(Into::into),
            ..self.clone()
        }
    }

    /// Returns the places for requests of one provider.
    pub(crate) fn places(&self) -> Places {
        Places::new(self.max_requests, self.max_requests_per_user)
    }

    /// Returns the secret that each request has, if the broker authenticates by one.
    pub(crate) const fn client_secret(&self) -> Option<&Secret> {
        self.client.secret()
    }

    /// Returns the timeout of a request to the token endpoint.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    #[cfg(test)]
    pub(crate) const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) const fn token_endpoint(&self) -> &Uri {
        &self.token_endpoint
    }

    /// Returns the URL of the token endpoint without its query, for the log.
    pub(crate) fn token_endpoint_for_log(&self) -> String {
        cause::url_for_log(&self.token_endpoint)
    }

    pub(crate) fn operator_scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Adds to a key what determines the server's responses.
    pub(crate) fn key(&self, parts: Parts) -> Parts {
        let (resource, audience) = (self.resource.as_deref(), self.audience.as_deref());
        parts
            .part(&self.issuer)
            .part(self.client.client_id())
            .list(resource.into_iter())
            .list(audience.into_iter())
    }

    pub(crate) const fn wider(&self) -> Wider {
        self.wider
    }

    pub(crate) const fn codes(&self) -> Codes<'_> {
        Codes::OfRefresh(&self.codes)
    }

    pub(crate) const fn scope_on_refresh(&self) -> ScopeOnRefresh {
        self.scope_on_refresh
    }

    /// Returns a refresh request (RFC 6749 §6).
    #[expect(
        clippy::disallowed_methods,
        reason = "reviewed: the refresh token goes to its token endpoint"
    )]
    pub(crate) fn refresh_request(
        &self,
        refresh_token: &Secret,
        requested: &Scopes,
        now: Timestamp,
    ) -> Result<Request<Bytes>, SignError> {
        let mut form = Form::new();
        form.push("grant_type", b"refresh_token");
        form.push("refresh_token", refresh_token.expose());
        self.request(form, requested, now)
    }

    /// Returns a request for the tokens of a code (RFC 6749 §4.1.3, RFC 7636 §4.5).
    #[expect(
        clippy::disallowed_methods,
        reason = "reviewed: code and verifier go to the token endpoint"
    )]
    pub(crate) fn code_request(
        &self,
        (code, verifier): (&Secret, &Secret),
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<Request<Bytes>, SignError> {
        let mut form = Form::new();
        form.push("grant_type", b"authorization_code");
        form.push("code", code.expose());
        form.push("redirect_uri", redirect_uri.as_bytes());
        form.push("code_verifier", verifier.expose());
        self.request(form, &Scopes::none(), now)
    }

    /// Returns a request to revoke a token (RFC 7009 §2.1).
    #[expect(
        clippy::disallowed_methods,
        reason = "reviewed: the token goes to the revocation endpoint of its server"
    )]
    pub(crate) fn revocation_request(
        &self,
        endpoint: &Uri,
        (token, kind): (&Secret, &str),
        now: Timestamp,
    ) -> Result<Request<Bytes>, SignError> {
        let mut form = Form::new();
        form.push("token", token.expose());
        form.push("token_type_hint", kind.as_bytes());
        let authorization = self.client.show(&self.issuer, now, &mut form)?;
        Ok(posted(endpoint, form, authorization))
    }

    /// Returns a request for a token of the broker itself (RFC 6749 §4.4.2).
    pub(crate) fn client_credentials_request(
        &self,
        requested: &Scopes,
        now: Timestamp,
    ) -> Result<Request<Bytes>, SignError> {
        let mut form = Form::new();
        form.push("grant_type", b"client_credentials");
        self.push_audience(&mut form);
        self.request(form, requested, now)
    }

    /// Returns a request for a token in exchange for another (RFC 8693 §2.1).
    #[expect(
        clippy::disallowed_methods,
        reason = "reviewed: subject and actor token go to the token endpoint"
    )]
    pub(crate) fn exchange_request(
        &self,
        subject: &SecurityToken,
        actor: Option<&SecurityToken>,
        requested: &Scopes,
        now: Timestamp,
    ) -> Result<Request<Bytes>, SignError> {
        let mut form = Form::new();
        form.push("grant_type", b"urn:ietf:params:oauth:grant-type:token-exchange");
        form.push("subject_token", subject.secret.expose());
        form.push("subject_token_type", subject.kind.as_str().as_bytes());
        if let Some(actor) = actor {
            form.push("actor_token", actor.secret.expose());
            form.push("actor_token_type", actor.kind.as_str().as_bytes());
        }
        form.push("requested_token_type", TokenType::AccessToken.as_str().as_bytes());
        self.push_audience(&mut form);
        self.request(form, requested, now)
    }

    fn push_audience(&self, form: &mut Form) {
        if let Some(audience) = &self.audience {
            form.push("audience", audience.as_bytes());
        }
    }

    /// Completes a request: scopes, resource, client authentication. The body is zeroized once it
    /// was sent.
    fn request(
        &self,
        mut form: Form,
        requested: &Scopes,
        now: Timestamp,
    ) -> Result<Request<Bytes>, SignError> {
        if !requested.is_empty() {
            form.push("scope", requested.to_string().as_bytes());
        }
        if let Some(resource) = &self.resource {
            form.push("resource", resource.as_bytes());
        }
        let authorization = self.client.show(&self.issuer, now, &mut form)?;
        Ok(posted(&self.token_endpoint, form, authorization))
    }
}

/// Returns a request with this form. Its body is zeroized once it was sent.
fn posted(endpoint: &Uri, form: Form, authorization: Option<HeaderValue>) -> Request<Bytes> {
    let mut request = Request::new(form.into_wiped_bytes());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = endpoint.clone();
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(value) = authorization {
        headers.insert(header::AUTHORIZATION, value);
    }
    request
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;

    fn server(client: ClientAuthentication) -> AuthorizationServer {
        AuthorizationServer::new(
            "https://i",
            Uri::from_static("https://login.example/token"),
            client,
        )
    }

    fn now() -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000)
    }

    fn secret(text: &str) -> Secret {
        Secret::from_text(text.into())
    }

    #[test]
    fn each_client_authentication_follows_its_rfc() {
        // RFC 6749 §2.3.1: each part is form-encoded before they are joined, also its colons.
        let hard = "a:b+c d%é&=";
        let encoded = "a%3Ab%2Bc+d%25%C3%A9%26%3D";
        for (client, body, authorization) in [
            (ClientAuthentication::public(hard), format!("&client_id={encoded}"), None),
            (
                ClientAuthentication::post(hard, secret(hard)),
                format!("&client_id={encoded}&client_secret={encoded}"),
                None,
            ),
            (
                ClientAuthentication::basic(hard, secret(hard)),
                String::new(),
                Some(format!("Basic {}", STANDARD.encode(format!("{encoded}:{encoded}")))),
            ),
        ] {
            let request =
                server(client).refresh_request(&secret("rt +&=/"), &Scopes::none(), now()).unwrap();
            let expected = format!("grant_type=refresh_token&refresh_token=rt+%2B%26%3D%2F{body}");
            assert_eq!(request.body(), expected.as_bytes());
            let sent = request.headers().get(header::AUTHORIZATION);
            assert_eq!(sent.map(|value| value.to_str().unwrap()), authorization.as_deref());
            assert!(sent.is_none_or(HeaderValue::is_sensitive));
        }
    }

    #[test]
    fn configured_scopes_and_resource_are_sent() {
        let server = server(ClientAuthentication::public("c")).resource("https://mcp.example/mcp");
        let request =
            server.refresh_request(&secret("r"), &Scopes::parse("b a").unwrap(), now()).unwrap();
        let expected = "grant_type=refresh_token&refresh_token=r&scope=a+b\
                        &resource=https%3A%2F%2Fmcp.example%2Fmcp&client_id=c";
        assert_eq!(request.body(), expected.as_bytes());
    }
}
