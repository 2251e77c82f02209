//! One axum router with all pages.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    routing::any,
};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use token_broker_store::authority::AuthorityStore;
use tower_token_broker::request_id::RequestId;

use super::{BrowserPages, BrowserRequest, ClientAccess};
use crate::pages::style_path;

/// Longest time for a form to arrive.
const FORM_TIMEOUT: Duration = Duration::from_secs(20);

impl<S: AuthorityStore, A: ClientAccess> BrowserPages<S, A> {
    /// Returns the routes of the pages. Merge it with the routes of the authority, outside of any
    /// stack.
    ///
    /// The address of a browser is axum's `ConnectInfo<SocketAddr>`, or a [`SocketAddr`] in the
    /// request's extensions, which a service after a proxy inserts.
    pub fn router(&self) -> Router {
        let paths = [
            "/sign-in",
            "/password",
            "/first-account",
            "/connections",
            "/sign-out",
            "/connect/{server}",
            "/connect/{server}/callback",
            style_path(),
        ];
        paths.into_iter().fold(Router::new(), |router, path| {
            let pages = self.clone();
            let path = self.shared().site.path(path);
            router.route(&path, any(async move |request: Request| pages.handle(request).await))
        })
    }

    async fn handle(&self, request: Request) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
        if let Some(peer) = peer
            && parts.extensions.get::<SocketAddr>().is_none()
        {
            parts.extensions.insert(peer);
        }
        let body = Limited::new(body, BrowserRequest::MAX_BODY).collect();
        let body: Bytes = match tokio::time::timeout(FORM_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_too_large_or_broken)) => return empty(StatusCode::PAYLOAD_TOO_LARGE),
            Err(_elapsed) => return empty(StatusCode::REQUEST_TIMEOUT),
        };
        let mut id = [0; 16];
        if aws_lc_rs::rand::fill(&mut id).is_err() {
            return empty(StatusCode::SERVICE_UNAVAILABLE);
        }
        let request = BrowserRequest::new(&parts, &body, RequestId::from_bits(id));
        let response = self.respond(&request).await;
        response.map_or_else(|| empty(StatusCode::NOT_FOUND), |response| response.map(Body::from))
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    crate::pages::harden(response.headers_mut());
    response
}
