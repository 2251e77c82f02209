//! The status that ends a gRPC response when it is cut.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::{
    dialect::Dialect, grpc::frame::Border, principal::Resource, refusal::Reason, refusal::Refusal,
};

/// Follows the messages of a response, and renders the status that ends it.
pub(super) struct GrpcEnd {
    border: Border,
    dialect: Dialect,
    resource: Resource,
}

impl GrpcEnd {
    /// Returns it for clients that use gRPC.
    pub(super) fn of(dialect: &Dialect, resource: &Resource) -> Option<Self> {
        let (dialect, resource) = (dialect.is_grpc().then(|| dialect.clone())?, resource.clone());
        Some(Self { border: Border::default(), dialect, resource })
    }

    pub(super) fn passed(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.border.read(data);
        }
    }

    /// Returns the trailers of a cut; `None` within a message, so that its client does not take
    /// half of it for the whole.
    // L244.
    pub(super) fn trailers(&self, reason: Reason) -> Option<HeaderMap> {
        let refusal = Refusal::new(reason).at(&self.resource);
        (!self.border.is_inside()).then(|| self.dialect.trailers(&refusal))
    }
}
