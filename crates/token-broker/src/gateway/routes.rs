//! The routes of the gateway, which a reload replaces at once.

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tower_token_broker::Broker;

/// The current routes. Each request takes those of its time.
#[derive(Debug)]
pub(super) struct Routes(ArcSwap<Router>);

impl Routes {
    pub(super) fn new(broker: &Broker, servers: Router) -> Self {
        Self(ArcSwap::from_pointee(all(broker, servers)))
    }

    pub(super) fn replace(&self, broker: &Broker, servers: Router) {
        self.0.store(std::sync::Arc::new(all(broker, servers)));
    }

    pub(super) fn current(&self) -> Router {
        Router::clone(&self.0.load())
    }
}

fn all(broker: &Broker, servers: Router) -> Router {
    let health = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(broker.clone());
    servers.merge(broker.metadata_router()).merge(health).fallback(not_found)
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
