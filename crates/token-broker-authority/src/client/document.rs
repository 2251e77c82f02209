//! Requests and reads one metadata document.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use token_broker_store::authority::{ClientAuthMethod, ClientId};

use super::{
    Authentication, Client, ClientOrigin, DocumentLimits,
    document_url::DocumentUrl,
    documents::DocumentError,
    metadata::{self, ClientMetadata},
};

/// Age of a document whose response has no lifetime.
const DEFAULT_AGE: Duration = Duration::from_secs(10 * 60);
/// Largest document, in bytes.
const MAX_DOCUMENT: usize = 16 * 1024;

pub(super) fn request(url: &DocumentUrl) -> Request<Bytes> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = url.uri().clone();
    let accept = HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::ACCEPT, accept);
    request
}

/// Returns the age until which a document is fresh (RFC 9111 §5.2.2, private cache), within the
/// limits.
pub(super) fn age(headers: &HeaderMap, limits: &DocumentLimits) -> Duration {
    let mut age = None;
    for field in headers.get_all(header::CACHE_CONTROL) {
        for directive in field.to_str().unwrap_or_default().split(',') {
            let directive = directive.trim().to_ascii_lowercase();
            match directive.split_once('=') {
                None if matches!(&*directive, "no-store" | "no-cache") => {
                    age = Some(Duration::ZERO);
                }
                Some(("max-age", seconds)) if age.is_none() => {
                    let seconds = seconds.trim_matches('"').parse().unwrap_or(0);
                    age = Some(Duration::from_secs(seconds));
                }
                _ => {}
            }
        }
    }
    age.unwrap_or(DEFAULT_AGE).min(limits.max_age).max(limits.min_age)
}

/// Reads a response as the document of this URL.
pub(super) fn read(url: &DocumentUrl, response: &Response<Bytes>) -> Result<Client, DocumentError> {
    let (status, body) = (response.status(), response.body());
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
        return Err(DocumentError::Invalid);
    }
    // A server in trouble, a firewall's page and a page for maintenance state nothing about the
    // client. A redirect is not followed: the ID is the URL.
    if status != StatusCode::OK || !is_json(response) {
        return Err(DocumentError::Unreachable);
    }
    if body.len() > MAX_DOCUMENT {
        return Err(DocumentError::Invalid);
    }
    let object = metadata::parse(body).map_err(|_| DocumentError::Invalid)?;
    let id = metadata::text(object, "client_id", 2048, "").map_err(|_| DocumentError::Invalid)?;
    let has_secret =
        ["client_secret", "client_secret_expires_at"].iter().any(|name| object.get(name).is_some());
    if id.as_deref() != Some(url.as_str()) || has_secret {
        return Err(DocumentError::Invalid);
    }
    let mut read = ClientMetadata::read(object).map_err(|_| DocumentError::Invalid)?;
    // C079: a host vouches for its own pages, and for programs of the user's computer.
    read.redirect_uris =
        read.redirect_uris.of_site(url.authority()).ok_or(DocumentError::Invalid)?;
    let authentication = match (read.auth_method.unwrap_or(ClientAuthMethod::None), read.keys) {
        (ClientAuthMethod::None, _) => Authentication::None,
        (ClientAuthMethod::PrivateKeyJwt, Some(keys)) => Authentication::PrivateKeyJwt(keys),
        // A document is public, so there is no secret.
        _ => return Err(DocumentError::Invalid),
    };
    Ok(Client {
        id: ClientId::new(url.as_str()),
        name: read.name,
        origin: ClientOrigin::Document { host: url.host().as_str().into() },
        redirect_uris: read.redirect_uris,
        authentication,
    })
}

fn is_json(response: &Response<Bytes>) -> bool {
    let mut fields = response.headers().get_all(header::CONTENT_TYPE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    let media_type = field.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}
