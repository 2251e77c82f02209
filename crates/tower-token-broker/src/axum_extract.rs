//! Extractors for axum handlers inside a stack: the caller, and the handle for requests of your
//! own.
//!
//! ```
//! use axum::{Router, routing::get};
//! use tower_token_broker::{exchange::CallerHandle, principal::Principal};
//!
//! async fn greet(principal: Principal, caller: CallerHandle) -> String {
//!     // Stamp your own requests with `caller`, and send them through the exchange layer.
//!     # drop(caller);
//!     format!("hello {}", principal.user().subject())
//! }
//!
//! let app: Router = Router::new().route("/greet", get(greet)); // inside the stack
//! # drop(app);
//! ```

use axum::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{Extensions, request::Parts};

use crate::{
    alarm::Alarm,
    dialect::Dialect,
    exchange::CallerHandle,
    principal::Principal,
    refusal::{Reason, Refusal},
};

/// A handler runs outside of a stack, or inside one without the layer that inserts the extracted
/// value. As a response: 500.
#[derive(Debug)]
pub struct MissingLayer(http::Response<bytes::Bytes>);

impl MissingLayer {
    fn new(parts: &Parts, missing: &'static str, how: &'static str) -> Self {
        tracing::error!(
            alarm = Alarm::LayerMissing.code(),
            missing,
            "a handler extracts a value that only the stack inserts: {how}"
        );
        let mut request = http::Request::new(());
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = parts.headers.clone();
        Self(Dialect::of(&request).render(&Refusal::new(Reason::MissingLayer)))
    }
}

impl IntoResponse for MissingLayer {
    fn into_response(self) -> Response {
        self.0.map(Body::from)
    }
}

fn found<T: Clone + Send + Sync + 'static>(extensions: &Extensions) -> Option<T> {
    extensions.get().cloned()
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        let principal = found(&parts.extensions);
        principal.ok_or_else(|| {
            MissingLayer::new(parts, "authenticate", "put the broker's layer onto its route")
        })
    }
}

impl<S: Sync> FromRequestParts<S> for CallerHandle {
    type Rejection = MissingLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingLayer> {
        let caller = found(&parts.extensions);
        caller.ok_or_else(|| {
            let how = "build its stack with `credential_for_handler`";
            MissingLayer::new(parts, "credential_for_handler", how)
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use http::StatusCode;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_handler_outside_of_a_stack_is_refused() {
        let app: Router = Router::new()
            .route("/principal", get(|_: Principal| async {}))
            .route("/caller", get(|_: CallerHandle| async {}));
        for path in ["/principal", "/caller"] {
            let request = http::Request::get(path).body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            let marker = crate::refusal::Refused::of(&response).unwrap();
            assert_eq!(marker.reason(), Reason::MissingLayer);
        }
    }
}
