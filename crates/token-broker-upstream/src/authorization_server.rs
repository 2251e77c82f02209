//! An upstream's authorization server as the operator knows it, and the one request that is made to it: the refresh.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use tower_token_broker::{
    Secret,
    mcp::strict_json::{Limits, Value},
    principal::Scopes,
};
use zeroize::Zeroizing;

/// Where an upstream's tokens come from, how the broker shows who it is there, and which scopes it asks for.
#[derive(Clone, Debug)]
#[must_use = "an authorization server that no provider knows is asked for nothing"]
pub struct AuthorizationServer {
    issuer: Box<str>,
    token_endpoint: Uri,
    client: ClientAuthentication,
    scopes: Scopes,
    resource: Option<Box<str>>,
    wider: Wider,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wider {
    Refused,
    Tolerated,
}

/// How the broker shows the authorization server who it is (RFC 6749 §2.3.1, RFC 7591 §2).
#[derive(Clone)]
pub struct ClientAuthentication {
    client_id: Box<str>,
    secret: Method,
}

#[derive(Clone)]
enum Method {
    None,
    Basic(Secret),
    Post(Secret),
}

impl ClientAuthentication {
    /// A public client: `client_id` alone (`none`).
    #[must_use]
    pub fn public(client_id: &str) -> Self {
        Self { client_id: client_id.into(), secret: Method::None }
    }

    /// By HTTP Basic (`client_secret_basic`).
    #[must_use]
    pub fn basic(client_id: &str, secret: Secret) -> Self {
        Self { client_id: client_id.into(), secret: Method::Basic(secret) }
    }

    /// In the body (`client_secret_post`), for servers that know no better.
    #[must_use]
    pub fn post(client_id: &str, secret: Secret) -> Self {
        Self { client_id: client_id.into(), secret: Method::Post(secret) }
    }
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.secret {
            Method::None => "none",
            Method::Basic(_) => "client_secret_basic",
            Method::Post(_) => "client_secret_post",
        };
        f.debug_struct("ClientAuthentication").field("client_id", &self.client_id).field("method", &method).finish()
    }
}

impl AuthorizationServer {
    /// By its issuer, its token endpoint, and who the broker is there. It asks for no scope until
    /// [`AuthorizationServer::scopes`] says which.
    pub fn new(issuer: &str, token_endpoint: Uri, client: ClientAuthentication) -> Self {
        let (scopes, resource, wider) = (Scopes::none(), None, Wider::Refused);
        Self { issuer: issuer.into(), token_endpoint, client, scopes, resource, wider }
    }

    /// The operator's scopes: what an access token carries, whatever a client asks for and whatever the server offers.
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Sends this `resource` along (RFC 8707 §2.2), as MCP asks of those who know the parameter.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Uses an access token even if the server gave it more scopes than it was asked for. Without this such a token is not
    /// used. For servers that know no narrower token; the log says each time that it is wider.
    pub fn dangerous_tolerate_wider_scopes(mut self) -> Self {
        self.wider = Wider::Tolerated;
        self
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn operator_scopes(&self) -> &Scopes {
        &self.scopes
    }

    pub(crate) const fn wider(&self) -> Wider {
        self.wider
    }

    /// The refresh request (RFC 6749 §6). Its body is wiped when it has been sent.
    #[expect(
        clippy::disallowed_methods,
        reason = "reviewed: refresh token and client secret go to their token endpoint"
    )]
    pub(crate) fn refresh_request(&self, refresh_token: &Secret, asked: &Scopes) -> Request<Bytes> {
        let mut form = Form::new();
        form.push("grant_type", b"refresh_token");
        form.push("refresh_token", refresh_token.expose());
        if !asked.is_empty() {
            form.push("scope", asked.to_string().as_bytes());
        }
        if let Some(resource) = &self.resource {
            form.push("resource", resource.as_bytes());
        }
        let mut authorization = None;
        match &self.client.secret {
            Method::None => form.push("client_id", self.client.client_id.as_bytes()),
            Method::Post(secret) => {
                form.push("client_id", self.client.client_id.as_bytes());
                form.push("client_secret", secret.expose());
            }
            Method::Basic(secret) => authorization = basic(&self.client.client_id, secret.expose()),
        }
        let mut request = Request::new(form.into_wiped_bytes());
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.token_endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value);
        }
        request
    }
}

/// RFC 6749 §2.3.1: both halves are form-encoded before they are joined.
fn basic(client_id: &str, secret: &[u8]) -> Option<HeaderValue> {
    let mut pair = Form::new();
    pair.encode(client_id.as_bytes());
    pair.0.push(b':');
    pair.encode(secret);
    let encoded = Secret::from_text(STANDARD.encode(pair.0.as_slice()));
    // Base64 is a valid field value.
    let mut value = HeaderValue::from_maybe_shared(encoded.to_wiped_bytes("Basic ")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `application/x-www-form-urlencoded`, wiped when dropped. It is given its whole room at once: a buffer that grows
/// leaves copies behind.
struct Form(Zeroizing<Vec<u8>>);

impl Form {
    const ROOM: usize = 96 * 1024;

    fn new() -> Self {
        Self(Zeroizing::new(Vec::with_capacity(Self::ROOM)))
    }

    fn push(&mut self, name: &str, value: &[u8]) {
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
        self.encode(value);
    }

    fn encode(&mut self, text: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        for &byte in text {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => self.0.push(byte),
                b' ' => self.0.push(b'+'),
                _ => {
                    let digit = |half: u8| HEX.get(usize::from(half)).copied().unwrap_or(b'0');
                    self.0.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
                }
            }
        }
    }

    fn into_wiped_bytes(self) -> Bytes {
        Bytes::from_owner(Wiped(self.0))
    }
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What the answer of a token endpoint says.
#[derive(Debug)]
pub(crate) enum Answer {
    Tokens(Tokens),
    /// `invalid_grant` (RFC 6749 §5.2): this refresh token is over.
    InvalidGrant,
    /// Anything else: an outage, a limit, a mistake in the configuration, or nonsense. It says nothing about the grant.
    Failed {
        what: &'static str,
        retry_after: Option<Duration>,
    },
}

#[derive(Debug)]
pub(crate) struct Tokens {
    pub(crate) access_token: Secret,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) lifetime: Duration,
    /// `None` says: as asked for (RFC 6749 §5.1).
    pub(crate) scopes: Option<Scopes>,
}

/// Assumed where the server names none that could be true.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(300);
const LONGEST_LIFETIME: u64 = 366 * 24 * 3600;
const LONGEST_TOKEN: usize = 16 * 1024;

impl Answer {
    /// Reads it, strictly and once. Nothing of it is ever logged but the words below.
    pub(crate) fn of(response: &Response<Bytes>) -> Self {
        let retry_after = retry_after(response);
        let failed = |what| Self::Failed { what, retry_after };
        match response.status().as_u16() {
            200 => {
                let Ok(value) = Value::parse(response.body(), &Limits::default()) else {
                    return failed("not strict JSON");
                };
                Tokens::of(value).map_or_else(failed, Self::Tokens)
            }
            // RFC 6749 §5.2 says 400; servers that say 401 or 403 mean the same.
            400 | 401 | 403 => {
                let Ok(value) = Value::parse(response.body(), &Limits::default()) else {
                    return failed("an error without strict JSON");
                };
                match value.get("error").and_then(Value::as_str).as_deref() {
                    Some("invalid_grant") => Self::InvalidGrant,
                    Some("invalid_client" | "unauthorized_client") => {
                        failed("the authorization server does not accept the broker as a client")
                    }
                    Some("invalid_scope") => failed("the authorization server does not accept the scopes"),
                    _ => failed("an error that is not about the grant"),
                }
            }
            429 => failed("too many requests"),
            500..=599 => failed("the authorization server failed"),
            _ => failed("an answer with another status"),
        }
    }
}

impl Tokens {
    // E119: what can't be read as RFC 6749 §5.1 has it, is no answer.
    fn of(value: Value<'_>) -> Result<Self, &'static str> {
        let text = |name| match value.get(name) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or("a member of the wrong type"),
        };
        // Bytes that hold a token are wiped wherever we own them; the answer's own are out of reach.
        let token = |name| text(name).map(|found| found.map(|text| Zeroizing::new(text.into_owned())));
        if !text("token_type")?.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err("the token is not a Bearer token");
        }
        let access_token = token("access_token")?.ok_or("no access token")?;
        // RFC 6750 §2.1: what can be sent as a Bearer token.
        let is_b64_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if access_token.is_empty() || access_token.len() > LONGEST_TOKEN || !access_token.bytes().all(is_b64_token) {
            return Err("an access token that can't be sent");
        }
        let refresh_token = token("refresh_token")?;
        if refresh_token.as_ref().is_some_and(|token| {
            token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        }) {
            return Err("a refresh token that can't be sent");
        }
        let scopes =
            text("scope")?.map(|text| Scopes::parse(&text)).transpose().map_err(|_| "scopes that can't be read")?;
        let seconds = value.get("expires_in").and_then(Value::as_u64);
        let lifetime = seconds
            .filter(|seconds| (1..=LONGEST_LIFETIME).contains(seconds))
            .map_or(UNKNOWN_LIFETIME, Duration::from_secs);
        let secret = |token: Zeroizing<String>| Secret::new(token.as_bytes().to_vec());
        Ok(Self { access_token: secret(access_token), refresh_token: refresh_token.map(secret), lifetime, scopes })
    }
}

/// Seconds alone; a date would need the peer's clock.
fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(client: ClientAuthentication) -> AuthorizationServer {
        AuthorizationServer::new("https://i", Uri::from_static("https://login.example/token"), client)
    }

    fn secret(text: &str) -> Secret {
        Secret::from_text(text.into())
    }

    #[test]
    fn each_client_authentication_is_said_as_the_rfc_has_it() {
        // RFC 6749 §2.3.1: form-encoded before it is joined, so that a colon in an id divides nothing.
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
            let request = server(client).refresh_request(&secret("rt +&=/"), &Scopes::none());
            let expected = format!("grant_type=refresh_token&refresh_token=rt+%2B%26%3D%2F{body}");
            assert_eq!(request.body(), expected.as_bytes());
            let said = request.headers().get(header::AUTHORIZATION);
            assert_eq!(said.map(|value| value.to_str().unwrap()), authorization.as_deref());
            assert!(said.is_none_or(HeaderValue::is_sensitive));
        }
    }

    #[test]
    fn scopes_and_resource_are_sent_if_the_operator_set_them() {
        let server = server(ClientAuthentication::public("c")).resource("https://mcp.example/mcp");
        let request = server.refresh_request(&secret("r"), &Scopes::parse("b a").unwrap());
        let expected =
            "grant_type=refresh_token&refresh_token=r&scope=a+b&resource=https%3A%2F%2Fmcp.example%2Fmcp&client_id=c";
        assert_eq!(request.body(), expected.as_bytes());
    }

    #[test]
    fn a_retry_after_that_is_no_number_of_seconds_is_none() {
        for (text, wait) in
            [("7", Some(7)), ("0", Some(0)), ("-1", None), ("1.5", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)]
        {
            let response = Response::builder().header("retry-after", text).body(Bytes::new()).unwrap();
            assert_eq!(retry_after(&response), wait.map(Duration::from_secs), "{text}");
        }
    }
}
