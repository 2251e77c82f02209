//! A gRPC answer that is cut ends with a status, where no message is under way (L244).

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use crate::{
    dialect::Dialect, grpc::frame::Border, principal::Resource, refusal::Reason, refusal::Refusal,
};

/// Follows the messages of an answer, and knows how its end is said.
pub(super) struct GrpcEnd {
    border: Border,
    dialect: Dialect,
    resource: Resource,
}

impl GrpcEnd {
    /// If this client speaks gRPC.
    pub(super) fn of(dialect: &Dialect, resource: &Resource) -> Option<Self> {
        let (dialect, resource) = (dialect.is_grpc().then(|| dialect.clone())?, resource.clone());
        Some(Self { border: Border::default(), dialect, resource })
    }

    pub(super) fn passed(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.border.read(data);
        }
    }

    /// The trailers of a cut; none inside of a message: whoever has half of it must not take it for
    /// the whole.
    pub(super) fn trailers(&self, reason: Reason) -> Option<HeaderMap> {
        let refusal = Refusal::new(reason).at(&self.resource);
        (!self.border.is_inside()).then(|| self.dialect.trailers(&refusal))
    }
}
