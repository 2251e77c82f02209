//! Configuration of a stack.

use http::HeaderName;

use crate::{
    audit::{MountPath, MountedAt},
    authenticate::HostAndOrigin,
    limits::{Limits, Protocol},
    principal::{Resource, ResourceError, Scopes},
};

/// The configuration of the four layers of one resource. Everything except the resource has a
/// default.
///
/// [`Broker::protect`](super::Broker::protect) creates it. You need it to compose the layers by
/// hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a configuration does nothing until layers are built from it"]
pub struct StackConfig {
    /// The protected resource.
    pub resource: Resource,
    /// The protocol of the resource; MCP by default.
    pub protocol: Protocol,
    /// Limits of size and time.
    pub limits: Limits,
    /// Hosts and origins from which requests are accepted, in addition to those of the resource.
    pub host_and_origin: HostAndOrigin,
    /// Request headers that are forwarded to the upstream, in addition to the default ones.
    pub forward_headers: Vec<HeaderName>,
    /// Response headers that clients receive in addition to the default ones.
    pub forward_response_headers: Vec<HeaderName>,
    /// The scopes that the challenge of a 401 names (RFC 6750 §3), for clients to request first.
    /// None by default.
    pub challenge_scopes: Scopes,
    /// The path at which this process serves the resource, if it is not the path of its URI.
    pub mounted_at: Option<MountedAt>,
    /// Whether the header `x-request-id` of a request is recorded as an outer ID.
    pub trusts_request_id_header: bool,
}

impl StackConfig {
    /// Creates the default configuration for the resource with this URI (RFC 8707 §2).
    ///
    /// # Errors
    /// The text is not a resource URI.
    pub fn new(resource: &str) -> Result<Self, ResourceError> {
        Ok(Self {
            resource: Resource::parse(resource)?,
            protocol: Protocol::default(),
            limits: Limits::default(),
            host_and_origin: HostAndOrigin::default(),
            forward_headers: Vec::new(),
            forward_response_headers: Vec::new(),
            challenge_scopes: Scopes::none(),
            mounted_at: None,
            trusts_request_id_header: false,
        })
    }

    pub(super) fn mount_path(&self) -> MountPath {
        MountPath::new(&self.resource, self.mounted_at.as_ref(), self.protocol)
    }
}
