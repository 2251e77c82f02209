//! The requests of discovery, one after another.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use token_broker_outbound::{FetchError, GuardedClient};

use super::{
    NotFound, challenge,
    found::Found,
    metadata::{self, ResourceDocument, ServerDocument},
};
use crate::connect::server::ConnectServer;

/// First messages of both revisions of MCP, to which a server responds with its challenge. A server
/// may have one revision only.
const FIRST_MESSAGES: &[(&str, &str)] = &[("2025-11-25", INITIALIZE), ("2026-07-28", DISCOVER)];
const DISCOVER: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"#,
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"token-broker","version":"1"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#,
);
const INITIALIZE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":"#,
    r#"{"protocolVersion":"2025-11-25","capabilities":{},"#,
    r#""clientInfo":{"name":"token-broker","version":"1"}}}"#,
);

/// Finds the authorization server of a server.
///
/// # Cancellation
/// Nothing has changed.
pub(super) async fn discover(server: &ConnectServer) -> Result<Found, NotFound> {
    if server.has_endpoints_of_no_issuer() {
        return Err(NotFound::misconfigured("as.endpoint_issuer"));
    }
    if let Some(fixed) = Found::fixed(server) {
        return fixed;
    }
    let resource = resource(server).await?;
    let named = resource.as_ref().map(|document| document.authorization_servers.as_slice());
    let issuer = issuer(server, named)?;
    let name = resource.as_ref().map(|document| document.resource.as_str());
    let expected = server.issuer_pin.as_deref().unwrap_or(&issuer);
    let document = of_issuer(server, &issuer, expected).await?;
    Found::of(server, &document, name)
}

/// Finds the endpoints of an issuer that granted tokens before.
pub(super) async fn discover_issuer(
    server: &ConnectServer,
    issuer: &str,
) -> Result<Found, NotFound> {
    if let Some(fixed) = Found::fixed(server).filter(|_| server.is_fixed(issuer)) {
        return fixed;
    }
    // Of a pinned issuer, the metadata is where the operator set it.
    let place = match server.issuer_pin.as_deref() == Some(issuer) {
        true => server.issuer.as_deref().unwrap_or(issuer),
        false => issuer,
    };
    let document = of_issuer(server, place, issuer).await?;
    Found::of(server, &document, None)
}

/// Returns the issuer to which the browser is sent.
fn issuer(server: &ConnectServer, named: Option<&[String]>) -> Result<String, NotFound> {
    let fixed = server.issuer.as_deref();
    match (fixed, named) {
        // The operator's issuer must be one that the server accepts, if it names any.
        (Some(fixed), Some(named)) if !named.is_empty() => {
            let is_named = named.iter().any(|issuer| issuer == fixed)
                || server.issuer_pin.is_some()
                || server.resource_pin.is_some();
            is_named.then(|| fixed.to_owned()).ok_or(NotFound::misconfigured("prm.issuer"))
        }
        (Some(fixed), _) => Ok(fixed.to_owned()),
        (None, Some([first, ..])) => Ok(first.clone()),
        // A server of MCP 2025-03-26 is its own authorization server.
        (None, Some([]) | None) => {
            metadata::origin(&server.upstream).ok_or(NotFound::misconfigured("fetch.url"))
        }
    }
}

/// Returns the metadata of the server itself; `None` if it has none.
async fn resource(server: &ConnectServer) -> Result<Option<ResourceDocument>, NotFound> {
    let challenged = challenged(server).await?;
    let is_challenged = challenged.is_some();
    let places = match challenged {
        Some(place) => vec![place],
        None => metadata::places_of_resource(&server.upstream),
    };
    for place in places {
        if let Some(body) = document(&server.client, &place).await? {
            return read(server, &place, &body).map(Some);
        }
    }
    if is_challenged { Err(NotFound::misconfigured("prm.metadata")) } else { Ok(None) }
}

/// Reads the metadata of a server from this place.
fn read(server: &ConnectServer, place: &str, body: &[u8]) -> Result<ResourceDocument, NotFound> {
    let document = ResourceDocument::read(body).ok_or(NotFound::misconfigured("prm.metadata"))?;
    // C075
    match is_resource_of(server, place, &document.resource) {
        true => Ok(document),
        false => Err(NotFound::misconfigured("prm.resource_mismatch")),
    }
}

/// Returns whether metadata is that of the server: by its URL, apart from a slash at the end. The
/// metadata of its host, at the place without a path, names the host (RFC 9728 §3.3).
fn is_resource_of(server: &ConnectServer, place: &str, resource: &str) -> bool {
    let trimmed = |text: &str| text.trim_end_matches('/').to_owned();
    let named: Option<Uri> = resource.parse().ok();
    let Some(named) = named.map(|named| trimmed(&named.to_string())) else { return false };
    let host = metadata::origin(&server.upstream).filter(|host| {
        let place_of_host = format!("{host}{}", metadata::PROTECTED_RESOURCE);
        place.trim_end_matches('/') == place_of_host
    });
    named == trimmed(&server.upstream.to_string())
        || host.is_some_and(|host| host == named)
        || server.resource_pin.as_deref() == Some(resource)
}

/// Calls the server without a token, and returns the place of the metadata in its challenge.
// C076: the URL is fetched by the guarded client, like any other.
async fn challenged(server: &ConnectServer) -> Result<Option<String>, NotFound> {
    for (revision, body) in FIRST_MESSAGES {
        let place = challenged_by(server, revision, body).await?;
        if place.is_some() {
            return Ok(place);
        }
    }
    Ok(None)
}

async fn challenged_by(
    server: &ConnectServer,
    revision: &'static str,
    body: &'static str,
) -> Result<Option<String>, NotFound> {
    let mut request = Request::new(Bytes::from_static(body.as_bytes()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = server.upstream.clone();
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    headers.insert("mcp-protocol-version", HeaderValue::from_static(revision));
    if body == DISCOVER {
        headers.insert("mcp-method", HeaderValue::from_static("server/discover"));
    }
    // A stream that does not end, and a page that is too large, have a status as well.
    let fetched = server.client.fetch_within(request, super::cache::FETCH_TIMEOUT).await;
    let response = fetched.map_err(of_fetch)?.response;
    let is_unauthorized = response.status() == StatusCode::UNAUTHORIZED;
    Ok(is_unauthorized.then(|| challenge::resource_metadata(response.headers())).flatten())
}

/// Returns the metadata at this place, which must be that of the issuer.
async fn of_issuer(
    server: &ConnectServer,
    place: &str,
    issuer: &str,
) -> Result<ServerDocument, NotFound> {
    let checked = server.client.guard().check(place);
    let url = checked.map_err(|error| NotFound::misconfigured(error.code()))?;
    for place in metadata::places_of_issuer(&url) {
        let Some(body) = document(&server.client, &place).await? else { continue };
        let document = ServerDocument::read(&body).ok_or(NotFound::misconfigured("as.metadata"))?;
        // C072: octet by octet, or as the operator pinned it.
        return match document.issuer == issuer {
            true => Ok(document),
            false => Err(NotFound::misconfigured("as.issuer_mismatch")),
        };
    }
    Err(NotFound::misconfigured("as.metadata"))
}

/// Returns a document; `None` if there is none at this place.
async fn document(client: &GuardedClient, place: &str) -> Result<Option<Bytes>, NotFound> {
    let checked = client.guard().check(place);
    let uri = checked.map_err(|error| NotFound::misconfigured(error.code()))?;
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let response: Response<Bytes> = client.fetch(request).await.map_err(of_fetch)?;
    match response.status() {
        StatusCode::OK => Ok(Some(response.into_body())),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(NotFound { code: "as.unavailable", is_retryable: true })
        }
        _ => Ok(None),
    }
}

fn of_fetch(error: FetchError) -> NotFound {
    let is_retryable = matches!(
        error,
        FetchError::Timeout(_)
            | FetchError::NotReached(_)
            | FetchError::BrokenOff
            | FetchError::Unresolved
    );
    NotFound { code: error.code(), is_retryable }
}
