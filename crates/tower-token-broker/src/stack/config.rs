//! What a stack is told about its protected resource.

use http::HeaderName;

use crate::{
    audit::{MountPath, MountedAt},
    authenticate::HostAndOrigin,
    limits::{Limits, Protocol},
    principal::{Resource, ResourceError, Scopes},
};

/// What the four layers of one resource are built from. Everything but the resource has a default.
///
/// [`Broker::protect`](super::Broker::protect) fills it for you; it is needed to put the layers
/// together by hand.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a configuration does nothing until layers are built from it"]
pub struct StackConfig {
    /// The protected resource.
    pub resource: Resource,
    /// What it speaks; MCP by default.
    pub protocol: Protocol,
    /// Limits of size and time.
    pub limits: Limits,
    /// From where requests are accepted beside the resource's own host and origin.
    pub host_and_origin: HostAndOrigin,
    /// Request header fields that go to the upstream beside those that always do.
    pub forward_headers: Vec<HeaderName>,
    /// The scopes that the challenge of a 401 names (RFC 6750 §3): what a client asks for to begin
    /// with. None by default.
    pub challenge_scopes: Scopes,
    /// The path at which this process serves the resource, if it is not the path of its URI.
    pub mounted_at: Option<MountedAt>,
    /// Whether the header field `x-request-id` of a request is recorded as an outer id.
    pub trusts_request_id_header: bool,
}

impl StackConfig {
    /// The defaults, for the resource with this URI (RFC 8707 §2).
    ///
    /// # Errors
    /// It is not a resource URI.
    pub fn new(resource: &str) -> Result<Self, ResourceError> {
        Ok(Self {
            resource: Resource::parse(resource)?,
            protocol: Protocol::default(),
            limits: Limits::default(),
            host_and_origin: HostAndOrigin::default(),
            forward_headers: Vec::new(),
            challenge_scopes: Scopes::none(),
            mounted_at: None,
            trusts_request_id_header: false,
        })
    }

    pub(super) fn mount_path(&self) -> MountPath {
        MountPath::new(&self.resource, self.mounted_at.as_ref(), self.protocol)
    }
}
