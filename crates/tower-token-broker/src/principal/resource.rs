//! The protected resource and its URI.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::bad_value::BadValue;

/// A protected resource: an MCP server or an HTTP API as the broker exposes it, named by its
/// resource URI (RFC 8707 §2, RFC 9728 §1.2). Cheap to clone.
///
/// Two resources are compared octet by octet, except that an empty path and `/` are the same path
/// (RFC 3986 §6.2.3): `https://h` and `https://h/` name one resource.
#[derive(Clone)]
pub struct Resource(Arc<ResourceParts>);

struct ResourceParts {
    uri: Box<str>,
    origin_len: usize,
    metadata_url: Box<str>,
}

impl Resource {
    /// Parses an absolute `https` URI without user information, query or fragment; `http` is only
    /// for loopback hosts.
    ///
    /// # Errors
    /// The problem of the URI.
    pub fn parse(uri: &str) -> Result<Self, ResourceError> {
        let bad = |problem: fn(BadValue) -> ResourceError| problem(uri.into());
        let parsed: http::Uri = uri.parse().map_err(|_| bad(ResourceError::NotAUri))?;
        let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
            return Err(bad(ResourceError::NotAbsolute));
        };
        let host = authority.host();
        let loopback = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
        match scheme {
            "https" => {}
            "http" if loopback => {}
            _ => return Err(bad(ResourceError::Scheme)),
        }
        let exact_prefix = format!("{scheme}://{authority}");
        if authority.as_str().contains('@') || !uri.starts_with(&exact_prefix) {
            return Err(bad(ResourceError::UserInformation));
        }
        if authority.as_str().bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(bad(ResourceError::UpperCaseHost));
        }
        if parsed.query().is_some() || uri.contains('#') {
            return Err(bad(ResourceError::QueryOrFragment));
        }
        let origin_len = exact_prefix.len();
        let path = uri.get(origin_len..).unwrap_or_default();
        // RFC 9728 §3.1: the well-known part is inserted between host and path; a terminating slash
        // after the host is removed.
        let suffix = if path == "/" { "" } else { path };
        let metadata_url = format!("{exact_prefix}/.well-known/oauth-protected-resource{suffix}");
        let metadata_url = metadata_url.into();
        Ok(Self(Arc::new(ResourceParts { uri: uri.into(), origin_len, metadata_url })))
    }

    /// Returns the URI, octet by octet as it was given.
    pub fn as_str(&self) -> &str {
        &self.0.uri
    }

    /// Returns whether a text, such as the `aud` of a token, names this resource.
    pub fn is_named_by(&self, text: &str) -> bool {
        let has_no_path = matches!(self.path(), "" | "/");
        text == self.as_str()
            || (has_no_path && text.strip_suffix('/').unwrap_or(text) == self.origin())
    }

    /// Returns scheme and authority, such as `https://broker.example.com`.
    pub fn origin(&self) -> &str {
        self.0.uri.get(..self.0.origin_len).unwrap_or_default()
    }

    /// Returns the authority, such as `broker.example.com` or `127.0.0.1:8080`.
    pub fn authority(&self) -> &str {
        self.origin().split_once("://").map_or("", |(_, authority)| authority)
    }

    /// Returns the path, such as `/crm/mcp`; empty if the URI has none.
    pub fn path(&self) -> &str {
        self.0.uri.get(self.0.origin_len..).unwrap_or_default()
    }

    /// Returns the URL of the metadata (RFC 9728 §3.1).
    pub fn metadata_url(&self) -> &str {
        &self.0.metadata_url
    }

    /// Returns the URI without the slash of an otherwise empty path: equal for equal resources.
    fn canonical(&self) -> &str {
        if self.path() == "/" { self.origin() } else { self.as_str() }
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for Resource {}

impl Hash for Resource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.canonical().hash(state);
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.uri)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({})", self.0.uri)
    }
}

/// The reasons why a text is not the URI of a protected resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResourceError {
    /// It is not a URI.
    #[error("the resource {0} is not a URI; write it like https://broker.example.com/crm/mcp")]
    NotAUri(BadValue),
    /// It has no scheme or no host.
    #[error("the resource {0} is not absolute; write it like https://broker.example.com/crm/mcp")]
    NotAbsolute(BadValue),
    /// Neither `https`, nor `http` on a loopback host.
    #[error("the resource {0} must be https; http is only for 127.0.0.1, [::1] and localhost")]
    Scheme(BadValue),
    /// It has user information before the host, or a scheme that is not in lower case.
    #[error(
        "the resource {0} must begin with its scheme in lower case and its host, \
         without user information"
    )]
    UserInformation(BadValue),
    /// Its host has upper-case letters, so that two spellings would name one server.
    #[error("the host of the resource {0} must be in lower case")]
    UpperCaseHost(BadValue),
    /// It has a query or a fragment.
    #[error("the resource {0} must have neither query nor fragment")]
    QueryOrFragment(BadValue),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_knows_its_metadata() {
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        assert_eq!(resource.origin(), "https://broker.example.com");
        assert_eq!(resource.authority(), "broker.example.com");
        assert_eq!(resource.path(), "/crm/mcp");
        assert_eq!(
            resource.metadata_url(),
            "https://broker.example.com/.well-known/oauth-protected-resource/crm/mcp"
        );
    }

    #[test]
    fn invalid_resources_are_refused() {
        type Error = fn(BadValue) -> ResourceError;
        let rows: [(&str, Error); 8] = [
            ("https://broker.example.com/a b", ResourceError::NotAUri),
            ("/crm", ResourceError::NotAbsolute),
            ("http://broker.example.com/crm", ResourceError::Scheme),
            ("ftp://127.0.0.1/crm", ResourceError::Scheme),
            ("https://a@broker.example.com/", ResourceError::UserInformation),
            ("https://Broker.example.com/", ResourceError::UpperCaseHost),
            ("https://broker.example.com/?a", ResourceError::QueryOrFragment),
            ("https://broker.example.com/#a", ResourceError::QueryOrFragment),
        ];
        for (uri, error) in rows {
            assert_eq!(Resource::parse(uri), Err(error(uri.into())), "{uri}");
        }
        assert!(Resource::parse("http://127.0.0.1:8080/mcp").is_ok());
        let error = Resource::parse("https://Broker.example.com/").unwrap_err();
        assert!(error.to_string().contains(r#""https://Broker.example.com/""#), "{error}");
    }

    #[test]
    fn an_empty_path_and_a_slash_are_one_resource() {
        let (bare, slash) = (
            Resource::parse("https://h.example").unwrap(),
            Resource::parse("https://h.example/").unwrap(),
        );
        assert_eq!(bare, slash);
        assert_eq!(std::collections::HashSet::from([bare.clone(), slash.clone()]).len(), 1);
        for text in ["https://h.example", "https://h.example/"] {
            assert!(bare.is_named_by(text) && slash.is_named_by(text), "{text}");
        }
        let with_path = Resource::parse("https://h.example/a").unwrap();
        assert_ne!(with_path, Resource::parse("https://h.example/a/").unwrap());
        for text in ["https://h.example//", "https://h.example/a/", "https://h.exampl", ""] {
            assert!(!bare.is_named_by(text) && !with_path.is_named_by(text), "{text}");
        }
    }
}
