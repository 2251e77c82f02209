//! Renders the refusals of the authenticate layer and records them.

use bytes::Bytes;
use http::Response;

use super::{body::Ending, layer::Shared, verdict_cache::RefusedToken};
use crate::{
    audit::Trail,
    dialect::Dialect,
    principal::{Resource, Scopes},
    refusal::{Reason, Refusal, ResponseKind},
};

/// Renders refusals and records them in the trail, which logs them.
pub(super) struct Refuser {
    dialect: Dialect,
    resource: Resource,
    challenge_scopes: Scopes,
    trail: Option<Trail>,
}

impl Refuser {
    pub(super) fn new(dialect: Dialect, shared: &Shared, trail: Option<Trail>) -> Self {
        let (resource, challenge_scopes) =
            (shared.resource.clone(), shared.challenge_scopes.clone());
        Self { dialect, resource, challenge_scopes, trail }
    }

    pub(super) fn refuse_token(&self, refused: &RefusedToken) -> Response<Bytes> {
        if let (Some(trail), Some(principal)) = (&self.trail, &refused.principal) {
            trail.identified(principal);
        }
        self.refuse(refused.reason)
    }

    /// Returns how a response ends when it is cut.
    pub(super) fn ending(&self) -> Ending {
        #[cfg(feature = "grpc")]
        if let Some(end) = super::grpc_end::GrpcEnd::of(&self.dialect, &self.resource) {
            return Ending::Status(Box::new(end));
        }
        Ending::Error
    }

    pub(super) fn refuse(&self, reason: Reason) -> Response<Bytes> {
        if let Some(trail) = &self.trail {
            trail.refused(reason);
        }
        let refusal = Refusal::new(reason).at(&self.resource);
        // MCP "Authorization": a 401 should name the scopes to request.
        let wants_token =
            matches!(reason.response_kind(), ResponseKind::NoToken | ResponseKind::InvalidToken);
        let names_scopes = wants_token && !self.challenge_scopes.is_empty();
        self.dialect.render(&if names_scopes {
            refusal.needing(self.challenge_scopes.clone())
        } else {
            refusal
        })
    }
}
