//! The path at which a resource is served.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::uri::PathAndQuery;

use crate::{alarm::Alarm, bad_value::BadValue, limits::Protocol, principal::Resource};

/// A path at which a process serves a resource, such as `/mcp`; `/` for the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedAt(Box<str>);

impl MountedAt {
    /// Parses a path. It starts with a slash, has no query and no fragment, and contains only
    /// characters that a path may contain.
    ///
    /// # Errors
    /// It is not such a path.
    pub fn parse(path: &str) -> Result<Self, MountPathError> {
        let parsed = path.parse::<PathAndQuery>();
        let is_path =
            parsed.is_ok_and(|parsed| parsed.as_str() == path && parsed.query().is_none());
        // Inner layers refuse every request with such a path.
        let has_steps = path.split('/').any(|segment| matches!(segment, "." | ".."));
        if is_path && path.starts_with('/') && !path.contains("//") && !has_steps {
            return Ok(Self(path.into()));
        }
        Err(MountPathError { value: BadValue::new(path) })
    }

    /// Returns the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is not a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value} is not the path of a resource: write it like /crm/mcp, without query and fragment"
)]
#[non_exhaustive]
pub struct MountPathError {
    /// The text.
    pub value: BadValue,
}

/// The path at which a resource is served, and the paths that it covers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct MountPath(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    /// The path; empty for the root.
    path: Box<str>,
    covers: Covers,
    was_reported: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covers {
    /// MCP: only this path.
    ThisPath,
    /// HTTP: this path and all below it, by whole segments.
    AllBelow,
    /// gRPC: its paths are services and methods.
    #[cfg(feature = "grpc")]
    AnyPath,
}

impl MountPath {
    /// Creates the path from the resource, or from another path if the stack names one.
    pub(crate) fn new(
        resource: &Resource,
        mounted_at: Option<&MountedAt>,
        protocol: Protocol,
    ) -> Self {
        let path = mounted_at.map_or_else(|| resource.path(), MountedAt::as_str);
        let covers = match protocol {
            Protocol::Mcp => Covers::ThisPath,
            Protocol::Http => Covers::AllBelow,
            #[cfg(feature = "grpc")]
            Protocol::Grpc(_) => Covers::AnyPath,
        };
        let path = if path == "/" { "" } else { path }.into();
        Self(Arc::new(Parts { path, covers, was_reported: AtomicBool::new(false) }))
    }

    /// Returns the prefix to remove from a forwarded path: without a trailing slash, empty for the
    /// root.
    pub(crate) fn prefix(&self) -> &str {
        self.0.path.trim_end_matches('/')
    }

    /// Returns whether a request for this path is for the resource.
    pub(super) fn serves(&self, path: &str) -> bool {
        let own = &*self.0.path;
        match self.0.covers {
            #[cfg(feature = "grpc")]
            Covers::AnyPath => true,
            // Only at the root are "" and "/" the same path (RFC 3986 §6.2.3).
            Covers::ThisPath => path == own || (own.is_empty() && path == "/"),
            Covers::AllBelow => {
                let rest = path.strip_prefix(self.prefix());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }

    /// Logs, once, that a request for another path arrived, and how to mount the stack.
    pub(super) fn report(&self, resource: Option<&Resource>) {
        if !self.0.was_reported.swap(true, Ordering::Relaxed) {
            let resource = resource.map_or("", Resource::as_str);
            tracing::warn!(
                alarm = Alarm::PathNotServed.code(),
                resource,
                served_at = if self.0.path.is_empty() { "/" } else { &*self.0.path },
                "a request for another path reached the stack of this resource and was refused: \
                 mount the stack only on its route (`route_service`), or name the path \
                 (`mounted_at`)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(resource: &str, mounted_at: Option<&str>, protocol: Protocol, path: &str) -> bool {
        let resource = Resource::parse(resource).unwrap();
        let mounted_at = mounted_at.map(|path| MountedAt::parse(path).unwrap());
        MountPath::new(&resource, mounted_at.as_ref(), protocol).serves(path)
    }

    #[test]
    fn a_mount_path_is_a_path_of_requests() {
        for path in ["/", "/crm/mcp", "/crm/mcp/", "/a%20b"] {
            assert_eq!(
                MountedAt::parse(path).map(|path| path.as_str().to_owned()),
                Ok(path.into())
            );
        }
        for path in
            ["", "crm", "/crm mcp", "/crm?x", "/crm#x", "*", "//crm", "/a/../b", "https://a/b"]
        {
            let error = MountedAt::parse(path).unwrap_err();
            assert_eq!(error.value, BadValue::new(path), "{path}");
        }
    }

    #[test]
    fn mcp_is_served_at_one_path() {
        let resource = "https://broker.example.com/crm/mcp";
        for (path, expected) in [
            ("/crm/mcp", true),
            ("/crm/mcp/", false),
            ("/crm/mcp2", false),
            ("/crm/mcp/x", false),
            ("/CRM/mcp", false),
            ("/crm", false),
            ("/", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(served(resource, None, Protocol::Mcp, path), expected, "{path}");
        }
        let with_slash = "https://broker.example.com/crm/mcp/";
        assert!(served(with_slash, None, Protocol::Mcp, "/crm/mcp/"));
        assert!(!served(with_slash, None, Protocol::Mcp, "/crm/mcp"));
        assert!(served(resource, Some("/mcp"), Protocol::Mcp, "/mcp"));
        assert!(!served(resource, Some("/mcp"), Protocol::Mcp, "/crm/mcp"));
        for root in ["https://broker.example.com", "https://broker.example.com/"] {
            assert!(
                served(root, None, Protocol::Mcp, "/") && served(root, None, Protocol::Mcp, "")
            );
            assert!(!served(root, None, Protocol::Mcp, "/mcp"), "{root}");
        }
    }

    #[test]
    fn http_is_served_below_a_prefix_of_whole_segments() {
        let resource = "https://broker.example.com/crm";
        for (path, expected) in [
            ("/crm", true),
            ("/crm/", true),
            ("/crm/v1/items", true),
            ("/crmx", false),
            ("/other", false),
            ("/", false),
        ] {
            assert_eq!(served(resource, None, Protocol::Http, path), expected, "{path}");
        }
        assert!(served("https://broker.example.com", None, Protocol::Http, "/v1"));
        assert!(served("https://broker.example.com/crm", Some("/"), Protocol::Http, "/v1"));
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn grpc_is_served_at_the_paths_of_its_services() {
        let grpc = Protocol::Grpc(crate::limits::GrpcOptions::default());
        assert!(served("https://broker.example.com/crm", None, grpc, "/shop.v1.Orders/Get"));
    }
}
