//! Which hosts a request may name, and which pages may have sent it.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header, uri::Authority};

use crate::{principal::Resource, refusal::Reason};

/// Hosts and origins that are let in (MCP 2025-11-25 "Transports", security warning: DNS rebinding).
#[derive(Clone, Debug)]
pub(super) struct Visitors {
    scheme_is_https: bool,
    hosts: Vec<Box<str>>,
    origins: Vec<Box<str>>,
}

impl Visitors {
    /// The resource's own authority and origin.
    pub(super) fn of(resource: &Resource) -> Self {
        let scheme_is_https = resource.origin().starts_with("https:");
        let mut visitors = Self { scheme_is_https, hosts: Vec::new(), origins: Vec::new() };
        visitors.hosts.push(visitors.normal_host(resource.authority()).into());
        visitors.origins.push(normal_origin(resource.origin()).into());
        visitors
    }

    /// These hosts and no others.
    pub(super) fn set_hosts<'a>(&mut self, hosts: impl IntoIterator<Item = &'a str>) -> Result<(), HostAndOriginError> {
        let mut allowed = Vec::new();
        for host in hosts {
            let authority: Authority = host.parse().map_err(|_| HostAndOriginError::Host)?;
            if authority.as_str().contains('@') {
                return Err(HostAndOriginError::Host);
            }
            allowed.push(self.normal_host(&host.to_ascii_lowercase()).into());
        }
        self.hosts = allowed;
        Ok(())
    }

    /// These origins beside the resource's own.
    pub(super) fn add_origins<'a>(
        &mut self,
        origins: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), HostAndOriginError> {
        for origin in origins {
            let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let is_origin = authority.is_some_and(|rest| {
                rest.parse::<Authority>().is_ok_and(|parsed| parsed.as_str() == rest && !rest.contains('@'))
                    && !rest.bytes().any(|byte| byte.is_ascii_uppercase())
            });
            if !is_origin {
                return Err(HostAndOriginError::Origin);
            }
            self.origins.push(normal_origin(origin).into());
        }
        Ok(())
    }

    /// Whether this request may be looked at.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Reason> {
        self.admit_host(request)?;
        self.admit_origin(request.headers())
    }

    // A021: whatever names a host, the target (absolute form, HTTP/2's `:authority`) or `Host`, names one of ours, and
    // both the same.
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

    // A022: a page's origin is sent by browsers alone; other clients send none.
    fn admit_origin(&self, headers: &HeaderMap) -> Result<(), Reason> {
        match at_most_one(headers, &header::ORIGIN) {
            Ok(None) => Ok(()),
            Ok(Some(value)) => {
                let origin = value.to_str().map_err(|_| Reason::OriginNotAllowed)?;
                let is_allowed = self.origins.iter().any(|allowed| **allowed == *normal_origin(origin));
                if is_allowed { Ok(()) } else { Err(Reason::OriginNotAllowed) }
            }
            Err(TwoFields) => Err(Reason::OriginNotAllowed),
        }
    }

    fn is_same_host(&self, one: &str, other: &str) -> bool {
        self.normal_host(one).eq_ignore_ascii_case(self.normal_host(other))
    }

    /// Without the scheme's own port.
    fn normal_host<'a>(&self, authority: &'a str) -> &'a str {
        authority.strip_suffix(if self.scheme_is_https { ":443" } else { ":80" }).unwrap_or(authority)
    }
}

fn normal_origin(origin: &str) -> &str {
    let own_port = if origin.starts_with("https://") { ":443" } else { ":80" };
    origin.strip_suffix(own_port).unwrap_or(origin)
}

/// More than one field where one is allowed.
pub(super) struct TwoFields;

pub(super) fn at_most_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, TwoFields> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(TwoFields),
    }
}

/// A host or an origin that can't be allowed, because it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostAndOriginError {
    /// Not a host with an optional port.
    #[error("write an allowed host like broker.example.com or 127.0.0.1:8080")]
    Host,
    /// Not scheme, host and optional port.
    #[error("write an allowed origin like https://inspector.example.com: lower case, no path, no trailing slash")]
    Origin,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visitors() -> Visitors {
        Visitors::of(&Resource::parse("https://broker.example.com/crm/mcp").unwrap())
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
            // A019: what a proxy may say of the host is not asked.
            ("/crm/mcp", &[("host", "evil.example"), ("x-forwarded-host", "broker.example.com")], false),
        ] {
            let answer = visitors().admit(&request(target, headers));
            assert_eq!(
                answer,
                if admitted { Ok(()) } else { Err(Reason::HostNotAllowed) },
                "A021 {target} {headers:?}"
            );
        }
    }

    #[test]
    fn a022_pages_of_other_origins_are_refused() {
        let mut visitors = visitors();
        visitors.add_origins(["https://inspector.example.com", "http://localhost:6274"]).unwrap();
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
            assert_eq!(visitors.admit(&request), expected, "A022 {origins:?}");
        }
    }

    #[test]
    fn what_is_no_host_or_origin_can_not_be_allowed() {
        for host in ["", "a@b", "a/b", "https://a"] {
            assert_eq!(visitors().set_hosts([host]), Err(HostAndOriginError::Host), "{host}");
        }
        for origin in ["", "null", "*", "https://a/", "https://A", "https://a@b", "ftp://a"] {
            assert_eq!(visitors().add_origins([origin]), Err(HostAndOriginError::Origin), "{origin}");
        }
    }
}
