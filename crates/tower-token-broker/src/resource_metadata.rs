//! Protected resource metadata: where clients obtain tokens for a resource (RFC 9728).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};

use crate::{
    bad_value::BadValue,
    json::push_json_string,
    media_type,
    principal::{Resource, Scopes},
};

/// The metadata of a resource that its stack does not know itself. Everything has a default.
///
/// ```
/// use tower_token_broker::{principal::Scopes, resource_metadata::ResourceMetadata};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let metadata = ResourceMetadata::new()
///     .scopes(Scopes::parse("crm:read crm:write")?)
///     .name("The CRM's MCP server");
/// # drop(metadata);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct ResourceMetadata {
    /// The issuers of broker tokens (`authorization_servers`); by default those of the verifier.
    pub authorization_servers: Vec<Box<str>>,
    /// The scopes that clients may request (`scopes_supported`); omitted by default.
    pub scopes: Scopes,
    /// The display name of the resource (`resource_name`).
    pub name: Option<Box<str>>,
}

impl Default for ResourceMetadata {
    fn default() -> Self {
        Self { authorization_servers: Vec::new(), scopes: Scopes::none(), name: None }
    }
}

impl ResourceMetadata {
    /// Creates the default metadata.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an issuer; those of the verifier are then not listed.
    pub fn authorization_server(mut self, issuer: &str) -> Self {
        self.authorization_servers.push(issuer.into());
        self
    }

    /// Sets [`ResourceMetadata::scopes`].
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Sets [`ResourceMetadata::name`].
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// The metadata document of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    resource: Resource,
    path: Box<str>,
    text: Bytes,
}

impl Document {
    /// Creates the document; `from_verifier` are the issuers that the verifier names.
    pub(crate) fn new(
        resource: &Resource,
        metadata: &ResourceMetadata,
        from_verifier: &[Box<str>],
    ) -> Result<Self, MetadataError> {
        let named = match &*metadata.authorization_servers {
            [] => from_verifier,
            named => named,
        };
        let mut servers = Vec::new();
        for server in named {
            // An issuer has the same syntax as a resource: absolute, https, no query, no fragment
            // (RFC 8414 §2).
            servers.push(Resource::parse(server).map_err(|_| {
                MetadataError::AuthorizationServer { value: BadValue::new(server) }
            })?);
        }
        if servers.is_empty() {
            return Err(MetadataError::NoAuthorizationServer);
        }
        let url = resource.metadata_url();
        let parsed: Uri =
            url.parse().map_err(|_| MetadataError::Resource { value: BadValue::new(url) })?;
        let path = parsed.path().into();
        let text = document(resource, &servers, &metadata.scopes, metadata.name.as_deref());
        Ok(Self { resource: resource.clone(), path, text: text.into() })
    }

    pub(crate) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Returns the path of the metadata URL.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn answer(&self, method: &Method) -> Response<Bytes> {
        let document = &self.text;
        if !matches!(*method, Method::GET | Method::HEAD) {
            // A500: a page that sends `MCP-Protocol-Version` sends a preflight.
            let is_preflight = *method == Method::OPTIONS;
            let mut response = status(match is_preflight {
                true => StatusCode::NO_CONTENT,
                false => StatusCode::METHOD_NOT_ALLOWED,
            });
            let headers = response.headers_mut();
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            if is_preflight {
                let any = HeaderValue::from_static("*");
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, any);
                let methods = HeaderValue::from_static("GET, HEAD");
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
                let max_age = HeaderValue::from_static("7200");
                headers.insert(header::ACCESS_CONTROL_MAX_AGE, max_age);
            }
            return response;
        }
        let is_head = *method == Method::HEAD;
        let mut response = Response::new(if is_head { Bytes::new() } else { document.clone() });
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        public(headers);
        response
    }
}

/// Responds for a path without a document.
pub(crate) fn not_found() -> Response<Bytes> {
    status(StatusCode::NOT_FOUND)
}

fn status(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    public(response.headers_mut());
    response
}

/// Lets pages of every origin read the response: the documents are public.
fn public(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
}

fn document(
    resource: &Resource,
    servers: &[Resource],
    scopes: &Scopes,
    name: Option<&str>,
) -> String {
    let mut json = String::from(r#"{"resource":"#);
    push_json_string(&mut json, resource.as_str());
    json.push_str(r#","authorization_servers":"#);
    push_strings(&mut json, servers.iter().map(Resource::as_str));
    if !scopes.is_empty() {
        json.push_str(r#","scopes_supported":"#);
        push_strings(&mut json, scopes.iter());
    }
    json.push_str(r#","bearer_methods_supported":["header"]"#);
    if let Some(name) = name {
        json.push_str(r#","resource_name":"#);
        push_json_string(&mut json, name);
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
        push_json_string(json, text);
    }
    json.push(']');
}

/// The reasons why metadata cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Neither the verifier nor the stack names an issuer.
    #[error(
        "no authorization server is named: name at least one by its issuer, like \
         https://broker.example.com (`ResourceMetadata::authorization_server`)"
    )]
    NoAuthorizationServer,
    /// A text is not an issuer.
    #[error(
        "{value} is not an issuer: write it like https://broker.example.com (http is for loopback \
         hosts only), without query and fragment"
    )]
    AuthorizationServer {
        /// The text.
        value: BadValue,
    },
    /// The metadata URL of the resource is not a URI.
    #[error("the resource's metadata URL {value} cannot be read as a URI")]
    Resource {
        /// The URL.
        value: BadValue,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(servers: &[&str]) -> Result<Document, MetadataError> {
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        let metadata = servers.iter().fold(ResourceMetadata::new(), |metadata, server| {
            metadata.authorization_server(server)
        });
        let scopes = Scopes::parse("crm:write crm:read").unwrap();
        Document::new(&resource, &metadata.scopes(scopes).name("CRM \"one\"\n"), &[])
    }

    fn ask(method: &Method) -> (StatusCode, String) {
        let response = document(&["https://broker.example.com"]).unwrap().answer(method);
        (response.status(), String::from_utf8(response.into_body().to_vec()).unwrap())
    }

    #[test]
    fn the_document_names_resource_servers_and_scopes() {
        let (status, text) = ask(&Method::GET);
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            text,
            concat!(
                r#"{"resource":"https://broker.example.com/crm/mcp","#,
                r#""authorization_servers":["https://broker.example.com"],"#,
                r#""scopes_supported":["crm:read","crm:write"],"#,
                r#""bearer_methods_supported":["header"],"resource_name":"CRM \"one\"\u000a"}"#,
            ),
            "A019: from configuration alone"
        );
    }

    #[test]
    fn head_returns_no_body_and_other_methods_are_refused() {
        assert_eq!(ask(&Method::HEAD), (StatusCode::OK, String::new()));
        assert_eq!(ask(&Method::POST), (StatusCode::METHOD_NOT_ALLOWED, String::new()));
    }

    #[test]
    fn a500_pages_of_every_origin_may_read_the_document() {
        let document = document(&["https://broker.example.com"]).unwrap();
        let preflight = document.answer(&Method::OPTIONS);
        assert_eq!(preflight.status(), StatusCode::NO_CONTENT, "A500");
        assert_eq!(preflight.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS], "*", "A500");
        assert_eq!(preflight.headers()[header::ACCESS_CONTROL_ALLOW_METHODS], "GET, HEAD", "A500");
        for response in [
            preflight,
            document.answer(&Method::GET),
            document.answer(&Method::HEAD),
            document.answer(&Method::POST),
            not_found(),
        ] {
            let origin = &response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN];
            assert_eq!(origin, "*", "A500 {}", response.status());
            assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        }
    }

    #[test]
    fn an_authorization_server_must_be_an_issuer() {
        assert_eq!(document(&[]).err(), Some(MetadataError::NoAuthorizationServer));
        for server in ["broker.example.com", "http://broker.example.com", "https://a.example/?b"] {
            let value = BadValue::new(server);
            let expected = MetadataError::AuthorizationServer { value };
            assert_eq!(document(&["https://a.example", server]).err(), Some(expected), "{server}");
        }
    }

    #[test]
    fn issuers_of_the_stack_replace_those_of_the_verifier() {
        let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
        let verifier: &[Box<str>] = &["https://verifier.example".into()];
        let text = |metadata: &ResourceMetadata| {
            let document = Document::new(&resource, metadata, verifier).unwrap();
            String::from_utf8(document.text.to_vec()).unwrap()
        };
        assert!(text(&ResourceMetadata::new()).contains("https://verifier.example"));
        let own = ResourceMetadata::new().authorization_server("https://own.example");
        assert!(text(&own).contains("https://own.example"));
        assert!(!text(&own).contains("https://verifier.example"));
    }
}
