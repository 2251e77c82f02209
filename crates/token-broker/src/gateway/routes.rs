//! The routes of the gateway, which a reload replaces at once.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Router,
    body::{Body, HttpBody},
    extract::State,
    http::{Request, Response, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use bytes::Bytes;
use http_body_util::Either;
use hyper::body::Incoming;
use token_broker_outbound::Proxy;
use tower::{BoxError, Layer, ServiceExt as _};
use tower_token_broker::Broker;

use super::servers::ServerLayer;

/// The stack of a server in front of its upstream.
pub(super) type Stack = <ServerLayer as Layer<Proxy>>::Service;
/// Stacks by their paths, which are exact.
pub(super) type Stacks = HashMap<Box<str>, Stack>;

/// The current routes. Each request takes those of its time.
pub(super) struct Routes {
    current: ArcSwap<Current>,
    /// Endpoints and pages of the gateway's own authorization server.
    login: Router,
}

struct Current {
    /// Not in the router, which would put each request and response into boxes.
    stacks: Stacks,
    others: Router,
}

impl Routes {
    pub(super) fn new(broker: &Broker, stacks: Stacks, login: Router) -> Self {
        let others = others(broker, login.clone());
        Self { current: ArcSwap::from_pointee(Current { stacks, others }), login }
    }

    pub(super) fn replace(&self, broker: &Broker, stacks: Stacks) {
        let others = others(broker, self.login.clone());
        self.current.store(Arc::new(Current { stacks, others }));
    }

    /// Responds to a request.
    pub(super) async fn respond(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<impl HttpBody<Data = Bytes, Error = BoxError> + use<>>, Infallible> {
        let stack = self.current.load().stacks.get(request.uri().path()).cloned();
        if let Some(stack) = stack {
            return Ok(stack.oneshot(request).await?.map(Either::Left));
        }
        let others = self.current.load().others.clone();
        Ok(others.oneshot(request).await?.map(Either::<_, Body>::Right))
    }
}

fn others(broker: &Broker, login: Router) -> Router {
    let health = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(broker.clone());
    broker.metadata_router().merge(health).merge(login).fallback(not_found)
}

/// Responds 200 if a request would be let in, and 503 with the reason otherwise.
async fn ready(State(broker): State<Broker>) -> impl IntoResponse {
    let (status, text) = match broker.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reason.code())),
    };
    (status, [(header::CACHE_CONTROL, "no-store")], text)
}

async fn not_found() -> impl IntoResponse {
    let body = r#"{"error":"not_found","error_description":"no server has this path"}"#;
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], body)
}
