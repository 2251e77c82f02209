//! What is put on one upstream request: bound to one origin, set by one function, never printed.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{HeaderName, HeaderValue, Request, Uri, header, uri};

use super::leak_guard::SecretForms;
use crate::{
    audit::Receipt,
    bad_value::BadValue,
    clock::Timestamp,
    principal::{GrantId, Scopes},
    refusal::Reason,
    secret::Secret,
};

/// Scheme, host and port, compared octet by octet after lower-casing scheme and host and writing
/// the port out.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// The origin of an absolute `http` or `https` URI; `None` for any other.
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?;
        let port = port_of(uri)?;
        if uri.authority()?.as_str().contains('@') {
            return None;
        }
        Some(Self(format!("{scheme}://{}:{port}", uri.host()?.to_ascii_lowercase()).into()))
    }

    /// Whether this is [the origin](Origin::of) of a URI, found without making one.
    fn is_of(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(authority), Some(host)) =
            (uri.scheme_str(), uri.authority(), uri.host())
        else {
            return false;
        };
        let port = port_of(uri);
        let rest = self.0.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
        let same_host = rest.and_then(|rest| rest.split_at_checked(host.len()));
        same_host.is_some_and(|(own, own_port)| {
            own.eq_ignore_ascii_case(host)
                && own_port.strip_prefix(':').and_then(|port| port.parse().ok()) == port
                && !authority.as_str().contains('@')
        })
    }

    /// Scheme, host and port.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The port that a URI names, or its scheme's own; `None` where it names one that is none.
fn port_of(uri: &Uri) -> Option<u16> {
    if let Some(port) = uri.port_u16() {
        return Some(port);
    }
    // A colon without a number behind it, as in a password that was torn off its host.
    if uri.authority()?.as_str() != uri.host()? {
        return None;
    }
    match uri.scheme_str()? {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The real server behind one protected resource: where requests go, and the only place its
/// credentials go.
#[derive(Clone)]
pub struct Upstream(Arc<UpstreamParts>);

struct UpstreamParts {
    name: Box<str>,
    uri: Uri,
    scheme: uri::Scheme,
    authority: uri::Authority,
    host: HeaderValue,
    origin: Origin,
}

impl Upstream {
    /// Reads the upstream's URL: absolute, `https` (`http` is judged by the guarded connector,
    /// which allows it for loopback by name alone), without user information or fragment. A query
    /// is sent with each request, octet by octet.
    ///
    /// # Errors
    /// What is wrong with it, and the URL without its query, which may hold a key.
    pub fn parse(name: &str, url: &str) -> Result<Self, UpstreamError> {
        let without_secrets = || without_secrets(url);
        let not_a_url = || UpstreamError::NotAUrl { value: without_secrets() };
        let not_absolute = || UpstreamError::NotAbsolute { value: without_secrets() };
        let parsed: Uri = url.parse().map_err(|_| not_a_url())?;
        if url.contains('#') {
            return Err(UpstreamError::Fragment { value: without_secrets() });
        }
        let origin = Origin::of(&parsed).ok_or_else(not_absolute)?;
        let parts = parsed.clone().into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(not_absolute());
        };
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| not_a_url())?;
        Ok(Self(Arc::new(UpstreamParts {
            name: name.into(),
            uri: parsed,
            scheme,
            authority,
            host,
            origin,
        })))
    }

    /// The name by which operators know it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its origin.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Its path: of the MCP endpoint, or what is put before the path of a plain HTTP request.
    pub fn path(&self) -> &str {
        self.0.uri.path()
    }

    /// Its query, which is sent with each request.
    pub fn query(&self) -> Option<&str> {
        self.0.uri.query()
    }

    /// Its own URI.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0.uri
    }

    /// The URI of this upstream with another path and query.
    pub(crate) fn uri_with(&self, path_and_query: uri::PathAndQuery) -> Option<Uri> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(self.0.scheme.clone());
        parts.authority = Some(self.0.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts).ok()
    }

    /// The value of `Host` towards this upstream.
    pub(crate) fn host(&self) -> &HeaderValue {
        &self.0.host
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.0.name)
            .field("origin", &self.0.origin)
            .finish_non_exhaustive()
    }
}

/// The URL without what may be secret: user information, a query, a fragment.
fn without_secrets(url: &str) -> BadValue {
    // A password may hold any of the others' delimiters, so it is taken off first.
    let (before, rest) = url.rsplit_once('@').map_or(("", url), |(before, rest)| (before, rest));
    let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
    let shown = rest.split(['?', '#']).next().unwrap_or_default();
    match scheme {
        "" => BadValue::new(shown),
        scheme => BadValue::new(&format!("{scheme}://{shown}")),
    }
}

/// A text that names no upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// It cannot be read as a URL.
    #[error("the upstream {value} is not a URL; write it like https://mcp.example.com/mcp")]
    NotAUrl {
        /// The URL, without user information and query.
        value: BadValue,
    },
    /// No scheme, no host, user information, or neither `http` nor `https`.
    #[error("the upstream {value} must be an absolute https URL without user information")]
    NotAbsolute {
        /// The URL, without user information and query.
        value: BadValue,
    },
    /// It has a fragment.
    #[error("the upstream {value} must have no fragment (#)")]
    Fragment {
        /// The URL, without user information and query.
        value: BadValue,
    },
}

/// What is put on one upstream request. Knows its origin; shows nothing; cheap to clone.
///
/// Only [`OutgoingCredential::apply`](super::OutgoingCredential::apply) places it on a request, and
/// only on one for its own origin.
#[derive(Clone)]
pub struct Credential(Arc<Held>);

struct Held {
    secret: Secret,
    placement: Placement,
    origin: Origin,
    scopes: Scopes,
    grant: Option<(GrantId, u64)>,
    expires_at: Option<Timestamp>,
    forms: OnceLock<Option<Arc<SecretForms>>>,
    was_seen: AtomicBool,
}

#[derive(Clone)]
enum Placement {
    Bearer,
    Header(HeaderName),
}

impl Credential {
    /// Vouches that this secret is the caller's own for `origin`, sent as `Authorization: Bearer`.
    /// Whoever calls it has got the secret from its store, its authorization server or its
    /// configuration.
    pub fn vouch(secret: Secret, origin: Origin) -> Self {
        Self(Arc::new(Held {
            secret,
            placement: Placement::Bearer,
            origin,
            scopes: Scopes::none(),
            grant: None,
            expires_at: None,
            forms: OnceLock::new(),
            was_seen: AtomicBool::new(false),
        }))
    }

    /// Sent in this field instead, as it is (an API key, or a scheme, a space and the token): of a
    /// value with spaces the leak guard looks for what stands behind the last one.
    #[must_use = "returns the changed credential"]
    pub fn in_header(self, name: HeaderName) -> Self {
        self.with(|held| held.placement = Placement::Header(name))
    }

    /// With these scopes, as its authorization server granted them.
    #[must_use = "returns the changed credential"]
    pub fn with_scopes(self, scopes: Scopes) -> Self {
        self.with(|held| held.scopes = scopes)
    }

    /// From this version of this grant: what `refused` ends, and what a revoke of the grant cuts.
    #[must_use = "returns the changed credential"]
    pub fn from_grant(self, grant: GrantId, version: u64) -> Self {
        self.with(|held| held.grant = Some((grant, version)))
    }

    /// Good until then.
    #[must_use = "returns the changed credential"]
    pub fn until(self, expires_at: Timestamp) -> Self {
        self.with(|held| held.expires_at = Some(expires_at))
    }

    fn with(self, change: impl FnOnce(&mut Held)) -> Self {
        let mut held = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Held {
            secret: shared.secret.clone(),
            placement: shared.placement.clone(),
            origin: shared.origin.clone(),
            scopes: shared.scopes.clone(),
            grant: shared.grant.clone(),
            expires_at: shared.expires_at,
            forms: OnceLock::new(),
            was_seen: AtomicBool::new(false),
        });
        change(&mut held);
        Self(Arc::new(held))
    }

    /// Where it may go.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// What it carries.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// The grant it came from, and that grant's version.
    pub fn grant(&self) -> Option<(&GrantId, u64)> {
        self.0.grant.as_ref().map(|(id, version)| (id, *version))
    }

    /// When it ends, if that is known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// What the leak guard looks for; worked out once a credential. `None` if it can't: then it
    /// must not be sent.
    pub(crate) fn forms(&self) -> Option<Arc<SecretForms>> {
        self.0.forms.get_or_init(|| SecretForms::of(&self.0.secret).map(Arc::new)).clone()
    }

    /// The grant, the first time that it is asked for: to remember once what is used many times.
    pub(crate) fn grant_seen_first(&self) -> Option<&GrantId> {
        let (grant, _) = self.0.grant.as_ref()?;
        let is_first = !self.0.was_seen.load(Ordering::Relaxed);
        (is_first && !self.0.was_seen.swap(true, Ordering::Relaxed)).then_some(grant)
    }

    /// Whether both carry the same secret: then another try with this one is none.
    pub(crate) fn is_same_secret(&self, other: &Self) -> bool {
        self.0.secret.matches(&other.0.secret)
    }

    /// Puts it on a request: the one function that does. The receipt says that the intent is
    /// durable; the request's URI must be of the credential's origin.
    pub(crate) fn place_on<B>(
        &self,
        receipt: Receipt,
        request: &mut Request<B>,
    ) -> Result<(), Reason> {
        if !self.0.origin.is_of(request.uri()) {
            return Err(Reason::WrongOrigin);
        }
        let (name, prefix) = match &self.0.placement {
            Placement::Bearer => (header::AUTHORIZATION, "Bearer "),
            Placement::Header(name) => (name.clone(), ""),
        };
        // L235: binary metadata of the same name would be read as it.
        #[cfg(feature = "grpc")]
        if let (Placement::Header(name), true) =
            (&self.0.placement, crate::grpc::metadata::is_grpc(request.headers()))
        {
            request.headers_mut().remove(format!("{name}-bin"));
        }
        let bytes = self.0.secret.to_wiped_bytes(prefix);
        let mut value =
            HeaderValue::from_maybe_shared(bytes).map_err(|_| Reason::CredentialUnavailable)?;
        value.set_sensitive(true);
        // H170: whatever a client put there under the same name goes; then ours is set, once.
        request.headers_mut().insert(name, value);
        receipt.used();
        Ok(())
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("origin", &self.0.origin)
            .field("scopes", &self.0.scopes)
            .field("grant", &self.0.grant)
            .field("expires_at", &self.0.expires_at)
            .finish_non_exhaustive()
    }
}

/// A credential is not placed without a comparison of the origins:
///
/// ```compile_fail,E0624
/// # use tower_token_broker::{audit::Receipt, exchange::Credential};
/// fn for_another_origin(credential: &Credential, receipt: Receipt, request: &mut http::Request<()>) {
///     credential.place_on(receipt, request).unwrap();
/// }
/// ```
///
/// Its origin can be read:
///
/// ```
/// # use tower_token_broker::{audit::Receipt, exchange::{Credential, Origin}};
/// fn is_for(credential: &Credential, _receipt: Receipt, request: &mut http::Request<()>) -> bool {
///     Origin::of(request.uri()).as_ref() == Some(credential.origin())
/// }
/// ```
#[cfg(doctest)]
struct OnlyForItsOrigin;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_an_absolute_url_without_user_information_or_fragment() {
        let parse = |url| Upstream::parse("crm", url);
        let origin = |url| parse(url).map(|upstream| upstream.origin().as_str().to_owned());
        assert_eq!(origin("https://CRM.example.com/mcp"), Ok("https://crm.example.com:443".into()));
        assert_eq!(origin("http://127.0.0.1:8080/"), Ok("http://127.0.0.1:8080".into()));
        let keyed = parse("https://crm.example.com/mcp?Key=%7Ea&b").unwrap();
        assert_eq!((keyed.path(), keyed.query()), ("/mcp", Some("Key=%7Ea&b")));
        let value = |text: &str| BadValue::new(text);
        for (url, problem) in [
            (
                "https://crm.example.com/ mcp?key=1",
                UpstreamError::NotAUrl { value: value("https://crm.example.com/ mcp") },
            ),
            (
                "https://crm.example.com/mcp#a",
                UpstreamError::Fragment { value: value("https://crm.example.com/mcp") },
            ),
            ("/mcp", UpstreamError::NotAbsolute { value: value("/mcp") }),
            (
                "crm.example.com:443",
                UpstreamError::NotAbsolute { value: value("crm.example.com:443") },
            ),
            (
                "ftp://crm.example.com/",
                UpstreamError::NotAbsolute { value: value("ftp://crm.example.com/") },
            ),
            (
                "https://user:password@crm.example.com/mcp",
                UpstreamError::NotAbsolute { value: value("https://crm.example.com/mcp") },
            ),
        ] {
            assert_eq!(origin(url), Err(problem), "{url}");
        }
    }

    #[test]
    fn an_origin_is_that_of_no_relative_uri_and_of_no_other_scheme_host_or_port() {
        let origin = Origin::of(&Uri::from_static("https://crm.example.com/mcp")).unwrap();
        for (uri, same) in [
            ("https://crm.example.com/other", true),
            ("https://CRM.example.com:443/", true),
            ("https://crm.example.com:8443/", false),
            ("https://crm.example.com.evil.example/", false),
            ("http://crm.example.com:443/", false),
            ("ws://crm.example.com/", false),
            ("/mcp", false),
        ] {
            assert_eq!(origin.is_of(&Uri::from_static(uri)), same, "{uri}");
        }
    }

    #[test]
    fn an_error_about_an_upstream_shows_no_password() {
        for url in [
            "user:hunter2@crm.example.com/mcp",
            "https://user:hunter2?x@crm.example.com/mcp",
            "https:user:hunter2@h/",
        ] {
            let error = Upstream::parse("crm", url).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
