//! One axum router with all endpoints.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::body::HttpBody as _;
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    routing::{MethodFilter, MethodRouter, get, on},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use token_broker_store::authority::AuthorityStore;

use crate::{
    Authority,
    authorize::Interaction,
    oauth_error::{EndpointError, ErrorCode},
    request::EndpointRequest,
};

impl<S: AuthorityStore> Authority<S> {
    /// Returns the routes of all endpoints, at the paths that the metadata names. Merge it with the
    /// routes of the pages, outside of any stack.
    ///
    /// The token endpoint is also at `/token`, its default path in MCP 2025-03-26: some clients
    /// refresh there after a restart.
    ///
    /// If the issuer has a path, the routes below it are included: do not nest the router.
    ///
    /// The address of a caller is axum's `ConnectInfo<SocketAddr>`, or a [`SocketAddr`] in the
    /// request's extensions, which a service behind a proxy inserts.
    pub fn router<I: Interaction>(&self, interaction: I) -> Router {
        let interaction = Arc::new(interaction);
        let base = self.issuer().path().to_owned();
        let at = |path: &str| format!("{base}{path}");
        let mut router = Router::new();
        for path in self.issuer().metadata_paths() {
            let authority = self.clone();
            let metadata = get(async move || authority.metadata().map(Body::from));
            router = router.route(&path, readable_by_all(metadata));
        }
        let token =
            async |authority: Self, request: EndpointRequest| authority.token(request).await;
        let authority = self.clone();
        let jwks = get(async move || authority.jwks().map(Body::from));
        router
            .route(&at("/oauth/jwks"), readable_by_all(jwks))
            .route(&at("/oauth/token"), self.protocol(token))
            // The default path of MCP 2025-03-26. A client that has restarted uses it to refresh if
            // it keeps tokens and no metadata (Python SDK, FastMCP).
            .route(&at("/token"), self.protocol(token))
            .route(&at("/oauth/revoke"), self.protocol(|authority, request| async move {
                authority.revoke(request).await
            }))
            .route(&at("/oauth/register"), self.protocol(|authority, request| async move {
                authority.register(request).await
            }))
            .route(
                &at("/oauth/authorize"),
                self.page(MethodFilter::GET, &interaction, |authority, pages, request| async move {
                    authority.authorize(&*pages, request).await
                }),
            )
            .route(
                &at("/oauth/continue"),
                self.page(MethodFilter::GET, &interaction, |authority, pages, request| async move {
                    authority.resume(&*pages, request).await
                }),
            )
            .route(
                &at("/oauth/allowed"),
                self.page(MethodFilter::GET, &interaction, |authority, pages, request| async move {
                    authority.allowed(&*pages, request).await
                }),
            )
            .route(
                &at("/oauth/consent"),
                self.page(MethodFilter::POST, &interaction, |authority, pages, request| async move {
                    authority.decide(&*pages, request).await
                }),
            )
    }

    /// An endpoint that programs call, also those in browsers: it uses no cookie, so pages of any
    /// origin may read it.
    fn protocol<F>(
        &self,
        respond: impl Fn(Self, EndpointRequest) -> F + Clone + Send + Sync + 'static,
    ) -> MethodRouter
    where
        F: Future<Output = Response<Bytes>> + Send,
    {
        let authority = self.clone();
        axum::routing::any(async move |request: Request| {
            if request.method() == Method::OPTIONS {
                return preflight().map(Body::from);
            }
            let mut response = match read(request).await {
                Ok(request) => respond(authority.clone(), request).await,
                Err(error) => error.response(),
            };
            let any = HeaderValue::from_static("*");
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any);
            response.map(Body::from)
        })
    }

    fn page<I: Interaction, F>(
        &self,
        method: MethodFilter,
        interaction: &Arc<I>,
        respond: impl Fn(Self, Arc<I>, EndpointRequest) -> F + Clone + Send + Sync + 'static,
    ) -> MethodRouter
    where
        F: Future<Output = Response<Bytes>> + Send,
    {
        let (authority, interaction) = (self.clone(), Arc::clone(interaction));
        on(method, async move |request: Request| match read(request).await {
            Ok(request) => {
                let pages = Arc::clone(&interaction);
                respond(authority.clone(), pages, request).await.map(Body::from)
            }
            Err(error) => error.response().map(Body::from),
        })
    }
}

/// Adds the preflight of pages of other origins. Clients send `MCP-Protocol-Version` along.
fn readable_by_all(route: MethodRouter) -> MethodRouter {
    route.options(async || preflight().map(Body::from))
}

fn preflight() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers: &mut HeaderMap = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, mcp-protocol-version"),
        (header::ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Reads a request whole, within the limits.
async fn read(request: Request) -> Result<EndpointRequest, EndpointError> {
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    if let Some(peer) = peer
        && parts.extensions.get::<SocketAddr>().is_none()
    {
        parts.extensions.insert(peer);
    }
    // F138, F145: refused before it is read.
    if body.size_hint().lower() > EndpointRequest::MAX_BODY as u64 {
        return Err(too_large());
    }
    let body = Limited::new(body, EndpointRequest::MAX_BODY).collect();
    let body = tokio::time::timeout(BODY_TIMEOUT, body).await;
    let body = body.map_err(|_elapsed| {
        let late = EndpointError::new(ErrorCode::InvalidRequest, "the body did not arrive in time");
        late.with_status(StatusCode::REQUEST_TIMEOUT)
    })?;
    let body = body.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            return too_large();
        }
        EndpointError::new(ErrorCode::InvalidRequest, "the body could not be read")
    })?;
    Ok(EndpointRequest::new(parts, body.to_bytes()))
}

fn too_large() -> EndpointError {
    let large = EndpointError::new(ErrorCode::InvalidRequest, "the body is too large");
    large.with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

/// Longest time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
