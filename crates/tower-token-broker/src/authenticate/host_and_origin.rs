//! Checks `Host`, the target's authority, and `Origin` (DNS rebinding).

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, header, uri::Authority};

use super::cors::Page;
use crate::{bad_value::BadValue, principal::Resource, refusal::Reason};

/// The hosts and origins from which requests are accepted, in addition to those of the resource
/// (MCP 2025-11-25 "Transports", security warning about DNS rebinding).
///
/// ```
/// use tower_token_broker::authenticate::HostAndOrigin;
///
/// let settings = HostAndOrigin::new()
///     .allow_host("crm.internal.example:8443")
///     .allow_origin("https://inspector.example.com");
/// # let _ = settings;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "settings do nothing until a stack is built with them"]
pub struct HostAndOrigin {
    hosts: Vec<Box<str>>,
    is_without_own_host: bool,
    origins: Vec<Box<str>>,
}

impl HostAndOrigin {
    /// Accepts only the host and origin of the resource.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts requests for this host too: a host with an optional port.
    pub fn allow_host(mut self, host: &str) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Accepts requests only for the allowed hosts, not for the resource's own. For a server whose
    /// proxy rewrites `Host`.
    pub fn without_own_host(mut self) -> Self {
        self.is_without_own_host = true;
        self
    }

    /// Accepts requests from pages of this origin too: scheme, host and optional port, in lower
    /// case, without a path.
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.origins.push(origin.into());
        self
    }
}

/// The settings, parsed and normalized for one resource.
#[derive(Clone, Debug)]
pub(super) struct AllowedHosts {
    scheme_is_https: bool,
    hosts: Vec<Box<str>>,
    origins: Vec<Box<str>>,
    /// Whether a refused host was logged at INFO.
    was_reported: Arc<AtomicBool>,
}

impl AllowedHosts {
    pub(super) fn new(
        resource: &Resource,
        settings: &HostAndOrigin,
    ) -> Result<Self, HostAndOriginError> {
        let scheme_is_https = resource.origin().starts_with("https:");
        let was_reported = Arc::default();
        let mut allowed =
            Self { scheme_is_https, hosts: Vec::new(), origins: Vec::new(), was_reported };
        if !settings.is_without_own_host {
            allowed.hosts.push(allowed.normal_host(resource.authority()).into());
        }
        for host in &settings.hosts {
            let is_host = host.parse::<Authority>().is_ok_and(|_| !host.contains('@'));
            if !is_host {
                return Err(HostAndOriginError::Host { value: BadValue::new(host) });
            }
            allowed.hosts.push(allowed.normal_host(&host.to_ascii_lowercase()).into());
        }
        if allowed.hosts.is_empty() {
            return Err(HostAndOriginError::NoHost);
        }
        allowed.origins.push(normal_origin(resource.origin()).into());
        for origin in &settings.origins {
            if !is_origin(origin) {
                return Err(HostAndOriginError::Origin { value: BadValue::new(origin) });
            }
            allowed.origins.push(normal_origin(origin).into());
        }
        Ok(allowed)
    }

    /// Refuses a request for another host or from another origin.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Reason> {
        self.admit_host(request).inspect_err(|_| self.report(request))?;
        self.admit_origin(request.headers())
    }

    /// Returns the page that sent the request, if its origin is allowed.
    pub(super) fn page<B>(&self, request: &Request<B>) -> Option<Page> {
        let origin = request.headers().get(header::ORIGIN)?;
        self.admit_origin(request.headers()).ok()?;
        Some(Page::admitted(origin.clone()))
    }

    // A021: the target (absolute form, or HTTP/2's `:authority`) and `Host` must name an allowed
    // host, and the same one.
    fn admit_host<B>(&self, request: &Request<B>) -> Result<(), Reason> {
        let target = request.uri().authority().map(Authority::as_str);
        let field = match at_most_one(request.headers(), &header::HOST) {
            Ok(None) => None,
            Ok(Some(value)) => Some(value.to_str().map_err(|_| Reason::HostNotAllowed)?),
            Err(TwoFields) => return Err(Reason::HostNotAllowed),
        };
        let host = match (target, field) {
            (Some(target), Some(field)) if self.is_same_host(target, field) => target,
            (Some(_), Some(_)) | (None, None) => return Err(Reason::HostNotAllowed),
            (Some(host), None) | (None, Some(host)) => host,
        };
        if self.hosts.iter().any(|allowed| self.is_same_host(allowed, host)) {
            Ok(())
        } else {
            Err(Reason::HostNotAllowed)
        }
    }

    /// Logs the hosts that a refused request names and those that are allowed: the first time at
    /// INFO, then at DEBUG.
    fn report<B>(&self, request: &Request<B>) {
        // A521: the text of a client, escaped and truncated.
        let received = || -> Vec<BadValue> {
            let fields = request.headers().get_all(header::HOST).iter().take(2);
            let target = request.uri().authority().map(|target| BadValue::new(target.as_str()));
            fields
                .map(|field| BadValue::new(field.to_str().unwrap_or("(not ASCII)")))
                .chain(target)
                .collect()
        };
        let allowed = &self.hosts;
        if self.was_reported.swap(true, Ordering::Relaxed) {
            tracing::debug!(
                received = ?received(),
                ?allowed,
                "a request for another host was refused"
            );
        } else {
            tracing::info!(
                received = ?received(),
                ?allowed,
                "a request for another host was refused: if clients reach the resource under this \
                 name, allow it (`HostAndOrigin::allow_host`). Further ones are logged at DEBUG"
            );
        }
    }

    // A022: only browsers send `Origin`.
    fn admit_origin(&self, headers: &HeaderMap) -> Result<(), Reason> {
        match at_most_one(headers, &header::ORIGIN) {
            Ok(None) => Ok(()),
            Ok(Some(value)) => {
                let origin = value.to_str().map_err(|_| Reason::OriginNotAllowed)?;
                let is_allowed =
                    self.origins.iter().any(|allowed| **allowed == *normal_origin(origin));
                if is_allowed { Ok(()) } else { Err(Reason::OriginNotAllowed) }
            }
            Err(TwoFields) => Err(Reason::OriginNotAllowed),
        }
    }

    fn is_same_host(&self, one: &str, other: &str) -> bool {
        self.normal_host(one).eq_ignore_ascii_case(self.normal_host(other))
    }

    /// Returns the authority without the default port of the scheme.
    fn normal_host<'a>(&self, authority: &'a str) -> &'a str {
        authority
            .strip_suffix(if self.scheme_is_https { ":443" } else { ":80" })
            .unwrap_or(authority)
    }
}

fn is_origin(text: &str) -> bool {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    authority.is_some_and(|rest| {
        rest.parse::<Authority>().is_ok_and(|parsed| parsed.as_str() == rest && !rest.contains('@'))
            && !rest.bytes().any(|byte| byte.is_ascii_uppercase())
    })
}

fn normal_origin(origin: &str) -> &str {
    let own_port = if origin.starts_with("https://") { ":443" } else { ":80" };
    origin.strip_suffix(own_port).unwrap_or(origin)
}

/// More than one header where one is allowed.
pub(super) struct TwoFields;

pub(super) fn at_most_one<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, TwoFields> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(TwoFields),
    }
}

/// The reasons why settings of hosts and origins are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostAndOriginError {
    /// Not a host with an optional port.
    #[error("{value} is not a host: write it like broker.example.com or 127.0.0.1:8080")]
    Host {
        /// The value.
        value: BadValue,
    },
    /// The resource's own host is excluded and no other is allowed, so every request would be
    /// refused.
    #[error("no host is allowed: allow one (`allow_host`), or keep the resource's own")]
    NoHost,
    /// Not scheme, host and optional port.
    #[error(
        "{value} is not an origin: write it like https://inspector.example.com, in lower case, \
         without a path or a slash at the end"
    )]
    Origin {
        /// The value.
        value: BadValue,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(settings: &HostAndOrigin) -> Result<AllowedHosts, HostAndOriginError> {
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        AllowedHosts::new(&resource, settings)
    }

    fn request(target: &str, headers: &[(&str, &str)]) -> Request<()> {
        headers
            .iter()
            .fold(Request::post(target), |request, (name, value)| request.header(*name, *value))
            .body(())
            .unwrap()
    }

    #[test]
    fn a021_only_requests_for_our_host_are_admitted() {
        for (target, headers, admitted) in [
            ("/crm/mcp", &[("host", "broker.example.com")][..], true),
            ("/crm/mcp", &[("host", "BROKER.example.com:443")], true),
            ("https://broker.example.com/crm/mcp", &[], true),
            ("https://broker.example.com/crm/mcp", &[("host", "broker.example.com:443")], true),
            ("/crm/mcp", &[], false),
            ("/crm/mcp", &[("host", "evil.example")], false),
            ("/crm/mcp", &[("host", "broker.example.com:8443")], false),
            ("/crm/mcp", &[("host", "broker.example.com.")], false),
            ("/crm/mcp", &[("host", "a@broker.example.com")], false),
            ("/crm/mcp", &[("host", "broker.example.com.evil.example")], false),
            ("/crm/mcp", &[("host", "")], false),
            ("/crm/mcp", &[("host", "broker.example.com\u{e9}")], false),
            ("/crm/mcp", &[("host", "broker.example.com"), ("host", "evil.example")], false),
            ("/crm/mcp", &[("host", "broker.example.com"), ("host", "broker.example.com")], false),
            ("https://evil.example/crm/mcp", &[], false),
            ("https://evil.example/crm/mcp", &[("host", "broker.example.com")], false),
            ("https://broker.example.com/crm/mcp", &[("host", "evil.example")], false),
            // A019: headers in which a proxy reports the host are ignored.
            (
                "/crm/mcp",
                &[("host", "evil.example"), ("x-forwarded-host", "broker.example.com")],
                false,
            ),
        ] {
            let answer = allowed(&HostAndOrigin::new()).unwrap().admit(&request(target, headers));
            assert_eq!(
                answer,
                if admitted { Ok(()) } else { Err(Reason::HostNotAllowed) },
                "A021 {target} {headers:?}"
            );
        }
    }

    #[test]
    fn a022_pages_of_other_origins_are_refused() {
        let settings = HostAndOrigin::new()
            .allow_origin("https://inspector.example.com")
            .allow_origin("http://localhost:6274");
        let allowed = allowed(&settings).unwrap();
        for (origins, admitted) in [
            (&["https://broker.example.com"][..], true),
            (&["https://broker.example.com:443"], true),
            (&["https://inspector.example.com"], true),
            (&["http://localhost:6274"], true),
            (&["https://evil.example"], false),
            (&["http://broker.example.com"], false),
            (&["https://broker.example.com.evil.example"], false),
            (&["https://broker.example.com/"], false),
            (&["null"], false),
            (&[""], false),
            (&["https://broker.example.com\u{e9}"], false),
            (&["https://broker.example.com", "https://evil.example"], false),
        ] {
            let mut request = request("/crm/mcp", &[("host", "broker.example.com")]);
            for origin in origins {
                request.headers_mut().append(header::ORIGIN, origin.parse().unwrap());
            }
            let expected = if admitted { Ok(()) } else { Err(Reason::OriginNotAllowed) };
            assert_eq!(allowed.admit(&request), expected, "A022 {origins:?}");
        }
    }

    #[test]
    fn allowed_hosts_extend_or_replace_the_own_host() {
        let ask = |settings: HostAndOrigin, host| {
            allowed(&settings).unwrap().admit(&request("/crm/mcp", &[("host", host)]))
        };
        let more = HostAndOrigin::new().allow_host("Crm.Internal.example:8443");
        assert_eq!(ask(more.clone(), "crm.internal.example:8443"), Ok(()));
        assert_eq!(ask(more.clone(), "broker.example.com"), Ok(()));
        let none = HostAndOrigin::new().without_own_host();
        assert_eq!(allowed(&none).err(), Some(HostAndOriginError::NoHost));
        let instead = more.without_own_host();
        assert_eq!(ask(instead.clone(), "crm.internal.example:8443"), Ok(()));
        assert_eq!(ask(instead, "broker.example.com"), Err(Reason::HostNotAllowed));
    }

    #[test]
    fn invalid_hosts_and_origins_are_errors() {
        for host in ["", "a@b", "a/b", "https://a"] {
            let error = allowed(&HostAndOrigin::new().allow_host(host)).unwrap_err();
            assert_eq!(error, HostAndOriginError::Host { value: BadValue::new(host) }, "{host}");
            assert!(error.to_string().contains(&format!("\"{host}\"")), "{error}");
        }
        for origin in ["", "null", "*", "https://a/", "https://A", "https://a@b", "ftp://a"] {
            let error = allowed(&HostAndOrigin::new().allow_origin(origin)).unwrap_err();
            assert_eq!(error, HostAndOriginError::Origin { value: BadValue::new(origin) });
        }
    }
}
