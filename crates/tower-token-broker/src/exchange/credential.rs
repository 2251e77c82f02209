//! The credential for upstream requests: bound to one origin, set by one function, never printed.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{HeaderName, HeaderValue, Request, Uri, header, uri};

use super::leak_guard::SecretTails;
use crate::{
    audit::Receipt,
    bad_value::BadValue,
    clock::Timestamp,
    principal::{GrantId, Scopes},
    refusal::Reason,
    secret::Secret,
};

/// Scheme, host and port. Compared octet by octet, with scheme and host in lower case and the port
/// written out.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Origin(Arc<str>);

impl Origin {
    /// Returns the origin of an absolute `http` or `https` URI; `None` for any other.
    pub fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?;
        let port = port_of(uri)?;
        if uri.authority()?.as_str().contains('@') {
            return None;
        }
        Some(Self(format!("{scheme}://{}:{port}", uri.host()?.to_ascii_lowercase()).into()))
    }

    /// Returns whether this is [the origin](Origin::of) of a URI, without an allocation.
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

    /// Returns scheme, host and port as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the port of a URI, or the default of its scheme; `None` for an invalid port.
fn port_of(uri: &Uri) -> Option<u16> {
    if let Some(port) = uri.port_u16() {
        return Some(port);
    }
    // A colon without a number after it, as in a password without its host.
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

/// The server that one protected resource exposes. Requests and their credentials go only there.
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
    /// Parses the upstream's URL: absolute, `https`, without user information or fragment. `http`
    /// is accepted here; the guarded connector allows it only where the guard does. A query is sent
    /// with each request, octet by octet.
    ///
    /// # Errors
    /// The problem, and the URL without its query, which may contain a key.
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

    /// Returns the name that operators gave it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns its origin.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Returns its path: that of the MCP endpoint, or the prefix of plain HTTP requests.
    pub fn path(&self) -> &str {
        self.0.uri.path()
    }

    /// Returns its query, which is sent with each request.
    pub fn query(&self) -> Option<&str> {
        self.0.uri.query()
    }

    /// Returns its URI.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0.uri
    }

    /// Returns the URI of this upstream with another path and query.
    pub(crate) fn uri_with(&self, path_and_query: uri::PathAndQuery) -> Option<Uri> {
        let mut parts = uri::Parts::default();
        parts.scheme = Some(self.0.scheme.clone());
        parts.authority = Some(self.0.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts).ok()
    }

    /// Returns the value of `Host` for this upstream.
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

/// Returns the URL without parts that may be secret: user information, query, fragment.
fn without_secrets(url: &str) -> BadValue {
    // A password may contain the delimiters of the others, so it is removed first.
    let (before, rest) = url.rsplit_once('@').map_or(("", url), |(before, rest)| (before, rest));
    let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
    let shown = rest.split(['?', '#']).next().unwrap_or_default();
    match scheme {
        "" => BadValue::new(shown),
        scheme => BadValue::new(&format!("{scheme}://{shown}")),
    }
}

/// The reasons why a text is not the URL of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// It is not a URL.
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

/// A credential for upstream requests. It is bound to one origin and never printed. Cheap to clone.
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
    /// Whether the user can obtain one with more scopes.
    may_gain_scopes: bool,
    tails: OnceLock<Option<Arc<SecretTails>>>,
    was_seen: AtomicBool,
    was_accepted: AtomicBool,
}

#[derive(Clone)]
enum Placement {
    Bearer,
    Header(HeaderName),
}

impl Credential {
    /// Vouches that this secret belongs to the caller at `origin`. It is sent as `Authorization:
    /// Bearer`. The calling code obtained it from a store, an authorization server or
    /// configuration.
    pub fn vouch(secret: Secret, origin: Origin) -> Self {
        Self(Arc::new(Held {
            secret,
            placement: Placement::Bearer,
            origin,
            scopes: Scopes::none(),
            grant: None,
            expires_at: None,
            may_gain_scopes: true,
            tails: OnceLock::new(),
            was_seen: AtomicBool::new(false),
            was_accepted: AtomicBool::new(false),
        }))
    }

    /// Sends it in this header instead, unchanged: an API key, or a scheme, a space and the token.
    /// Of a value with spaces, the leak guard searches for the part after the last one, and of
    /// `Basic` also for the password.
    #[must_use = "returns the changed credential"]
    pub fn in_header(self, name: HeaderName) -> Self {
        self.with(|held| held.placement = Placement::Header(name))
    }

    /// Sets the scopes that the authorization server granted.
    #[must_use = "returns the changed credential"]
    pub fn with_scopes(self, scopes: Scopes) -> Self {
        self.with(|held| held.scopes = scopes)
    }

    /// Sets the grant and its version: `refused` ends this version, and a revocation of the grant
    /// ends requests that used it.
    #[must_use = "returns the changed credential"]
    pub fn from_grant(self, grant: GrantId, version: u64) -> Self {
        self.with(|held| held.grant = Some((grant, version)))
    }

    /// Sets the time of expiry.
    #[must_use = "returns the changed credential"]
    pub fn until(self, expires_at: Timestamp) -> Self {
        self.with(|held| held.expires_at = Some(expires_at))
    }

    /// Marks that no user can obtain one with more scopes by connecting an account: if the upstream
    /// requires more, the user is not sent to connect.
    #[must_use = "returns the changed credential"]
    pub fn with_all_scopes(self) -> Self {
        self.with(|held| held.may_gain_scopes = false)
    }

    fn with(self, change: impl FnOnce(&mut Held)) -> Self {
        let mut held = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Held {
            secret: shared.secret.clone(),
            placement: shared.placement.clone(),
            origin: shared.origin.clone(),
            scopes: shared.scopes.clone(),
            grant: shared.grant.clone(),
            expires_at: shared.expires_at,
            may_gain_scopes: shared.may_gain_scopes,
            tails: OnceLock::new(),
            was_seen: AtomicBool::new(false),
            was_accepted: AtomicBool::new(false),
        });
        change(&mut held);
        Self(Arc::new(held))
    }

    /// Returns the only origin to which it is sent.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// Returns its scopes.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Returns whether the user may obtain one with more scopes by connecting an account.
    pub(crate) fn may_gain_scopes(&self) -> bool {
        self.0.may_gain_scopes
    }

    /// Returns the grant and the version from which it was obtained.
    pub fn grant(&self) -> Option<(&GrantId, u64)> {
        self.0.grant.as_ref().map(|(id, version)| (id, *version))
    }

    /// Returns the time of expiry, if it is known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }

    /// Returns whether the upstream has accepted this credential, or a clone of it: it responded to
    /// a request over HTTP with another status than 401, 407 and 5xx. A credential that was
    /// accepted and is refused later has ended meanwhile; one that was never accepted may be one
    /// that the upstream does not take at all.
    pub fn was_accepted(&self) -> bool {
        self.0.was_accepted.load(Ordering::Acquire)
    }

    pub(crate) fn note_accepted(&self) {
        // Few writes, so that requests do not contend for one cache line.
        if !self.was_accepted() {
            self.0.was_accepted.store(true, Ordering::Release);
        }
    }

    /// Returns the length of the shortest part for which the leak guard searches in responses, in
    /// octets: of the value without its scheme, and of `Basic` also of the password. The guard
    /// masks the text of a short one wherever it occurs.
    pub fn guarded_octets(&self) -> usize {
        self.tails().map_or(0, |tails| tails.shortest())
    }

    /// Returns the parts for which the leak guard searches; computed once per credential. `None` if
    /// it cannot be guarded, and so must not be sent.
    pub(crate) fn tails(&self) -> Option<Arc<SecretTails>> {
        let tails = || Some(Arc::new(SecretTails::of(&self.0.secret)?.at(&self.0.origin)));
        self.0.tails.get_or_init(tails).clone()
    }

    /// Returns the grant on the first call only, so that a credential is noted once.
    pub(crate) fn grant_seen_first(&self) -> Option<&GrantId> {
        let (grant, _) = self.0.grant.as_ref()?;
        let is_first = !self.0.was_seen.load(Ordering::Relaxed);
        (is_first && !self.0.was_seen.swap(true, Ordering::Relaxed)).then_some(grant)
    }

    /// Returns whether both have the same secret, so that a retry would be pointless.
    pub fn is_same_secret(&self, other: &Self) -> bool {
        self.0.secret.matches(&other.0.secret)
    }

    /// Places it on a request; no other function does. The receipt proves that the intent is
    /// durable. The request's URI must have the credential's origin.
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
        // L235: a server may read binary metadata of the same name as this header.
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
        // A request whose result is written cannot use a credential any more.
        receipt.used().map_err(|_ended| Reason::AuditUnavailable)?;
        // H170: replaces all values that a client sent under this name.
        request.headers_mut().insert(name, value);
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
/// # use http::Request;
/// fn elsewhere(credential: &Credential, receipt: Receipt, request: &mut Request<()>) {
///     credential.place_on(receipt, request).unwrap();
/// }
/// ```
///
/// Its origin can be read:
///
/// ```
/// # use tower_token_broker::{audit::Receipt, exchange::{Credential, Origin}};
/// # use http::Request;
/// fn is_for(credential: &Credential, _receipt: Receipt, request: &mut Request<()>) -> bool {
///     Origin::of(request.uri()).as_ref() == Some(credential.origin())
/// }
/// ```
#[cfg(doctest)]
struct OnlyForItsOrigin;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_urls_are_absolute_without_secrets() {
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
    fn an_origin_matches_scheme_host_and_port() {
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
    fn upstream_errors_show_no_password() {
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
