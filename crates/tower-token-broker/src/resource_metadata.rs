//! Answers where a protected resource's tokens come from (RFC 9728).

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use tower_service::Service;

use crate::{
    body::ResponseBody,
    principal::{Resource, Scopes},
};

/// A service that answers `GET` for the metadata of its resources (RFC 9728 §3), and 404 for every other path. It stands
/// outside of authentication: clients ask it to learn where to get a token.
///
/// What it says comes from configuration alone; neither `Host` nor `X-Forwarded-Host` is looked at (A019).
///
/// ```
/// use tower_token_broker::{
///     resource_metadata::ProtectedResourceMetadata,
///     principal::{Resource, Scopes},
/// };
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let crm = Resource::parse("https://broker.example.com/crm/mcp")?;
/// let metadata = ProtectedResourceMetadata::new().resource(
///     &crm,
///     ["https://broker.example.com"],
///     &Scopes::parse("crm:read crm:write")?,
///     Some("The CRM's MCP server"),
/// )?;
/// // In axum: `Router::new().route_service("/.well-known/oauth-protected-resource/{*path}", metadata)`
/// # drop(metadata);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ProtectedResourceMetadata {
    documents: Arc<HashMap<Box<str>, Bytes>>,
}

impl ProtectedResourceMetadata {
    /// Without any resource.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers for this resource, too, at the path of its [metadata URL](Resource::metadata_url).
    ///
    /// # Errors
    /// No authorization server, or one that is no absolute `https` URL (`http` is for loopback hosts alone).
    pub fn resource<'a>(
        mut self,
        resource: &Resource,
        authorization_servers: impl IntoIterator<Item = &'a str>,
        scopes: &Scopes,
        name: Option<&str>,
    ) -> Result<Self, MetadataError> {
        let mut servers = Vec::new();
        for server in authorization_servers {
            // An issuer is written like a resource: absolute, https, neither query nor fragment (RFC 8414 §2).
            servers.push(Resource::parse(server).map_err(|_| MetadataError::AuthorizationServer)?);
        }
        if servers.is_empty() {
            return Err(MetadataError::AuthorizationServer);
        }
        let url: Uri = resource.metadata_url().parse().map_err(|_| MetadataError::Resource)?;
        let document = document(resource, &servers, scopes, name);
        Arc::make_mut(&mut self.documents).insert(url.path().into(), document.into());
        Ok(self)
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Bytes> {
        let Some(document) = self.documents.get(path) else {
            return status(StatusCode::NOT_FOUND);
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let length = document.len();
        let mut response = Response::new(if *method == Method::HEAD { Bytes::new() } else { document.clone() });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Public and the same for everybody: clients that run in a browser may read it.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

impl<B> Service<Request<B>> for ProtectedResourceMetadata {
    // The few bytes of a document; the stream that could stand in their place never does.
    type Response = Response<ResponseBody<String>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path()).map(ResponseBody::bytes)))
    }
}

fn document(resource: &Resource, servers: &[Resource], scopes: &Scopes, name: Option<&str>) -> String {
    let mut json = String::from(r#"{"resource":"#);
    push_string(&mut json, resource.as_str());
    json.push_str(r#","authorization_servers":"#);
    push_strings(&mut json, servers.iter().map(Resource::as_str));
    if !scopes.is_empty() {
        json.push_str(r#","scopes_supported":"#);
        push_strings(&mut json, scopes.iter());
    }
    json.push_str(r#","bearer_methods_supported":["header"]"#);
    if let Some(name) = name {
        json.push_str(r#","resource_name":"#);
        push_string(&mut json, name);
    }
    json.push('}');
    json
}

fn push_strings<'a>(json: &mut String, texts: impl Iterator<Item = &'a str>) {
    json.push('[');
    for (position, text) in texts.enumerate() {
        if position > 0 {
            json.push(',');
        }
        push_string(json, text);
    }
    json.push(']');
}

fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\0'..='\x1f' | '\x7f' => json.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => json.push(character),
        }
    }
    json.push('"');
}

impl fmt::Debug for ProtectedResourceMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.documents.keys()).finish()
    }
}

/// What can't be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// None, or one that is no issuer.
    #[error("name at least one authorization server by its issuer, like https://broker.example.com")]
    AuthorizationServer,
    /// The resource's metadata URL can't be read.
    #[error("the resource's metadata URL can't be read as a URI")]
    Resource,
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    fn metadata() -> ProtectedResourceMetadata {
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        let scopes = Scopes::parse("crm:write crm:read").unwrap();
        ProtectedResourceMetadata::new()
            .resource(&resource, ["https://broker.example.com"], &scopes, Some("CRM \"one\"\n"))
            .unwrap()
    }

    async fn ask(method: Method, path: &str) -> (StatusCode, String) {
        let request =
            Request::builder().method(method).uri(path).header("x-forwarded-host", "evil.example").body(()).unwrap();
        let response = metadata().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_document_names_resource_servers_and_scopes() {
        let (status, text) = ask(Method::GET, "/.well-known/oauth-protected-resource/crm/mcp").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            text,
            r#"{"resource":"https://broker.example.com/crm/mcp","authorization_servers":["https://broker.example.com"],"scopes_supported":["crm:read","crm:write"],"bearer_methods_supported":["header"],"resource_name":"CRM \"one\"\u000a"}"#,
            "A019: from configuration alone"
        );
    }

    #[tokio::test]
    async fn head_gives_the_head_alone_and_other_methods_and_paths_nothing() {
        let path = "/.well-known/oauth-protected-resource/crm/mcp";
        assert_eq!(ask(Method::HEAD, path).await, (StatusCode::OK, String::new()));
        assert_eq!(ask(Method::POST, path).await, (StatusCode::METHOD_NOT_ALLOWED, String::new()));
        for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/crm", "/crm/mcp"] {
            assert_eq!(ask(Method::GET, path).await, (StatusCode::NOT_FOUND, String::new()), "{path}");
        }
    }

    #[test]
    fn an_authorization_server_must_be_an_issuer() {
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        for servers in [&[][..], &["broker.example.com"], &["http://broker.example.com"], &["https://a.example/?b"]] {
            let result =
                ProtectedResourceMetadata::new().resource(&resource, servers.iter().copied(), &Scopes::none(), None);
            assert_eq!(result.err(), Some(MetadataError::AuthorizationServer), "{servers:?}");
        }
    }
}
