//! Metadata documents: what they name, read so that two readings cannot lead to two servers.

use http::Uri;

use crate::authorization_server::{JsonObject, Member};

/// Largest document that is read, in bytes.
pub(super) const MAX_DOCUMENT: usize = 256 * 1024;
/// Most entries of a list that are read.
const MAX_ENTRIES: usize = 64;

/// Path of the metadata of protected resources (RFC 9728 §3).
pub(super) const PROTECTED_RESOURCE: &str = "/.well-known/oauth-protected-resource";

/// Metadata of a protected resource (RFC 9728 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResourceDocument {
    pub(super) resource: String,
    pub(super) authorization_servers: Vec<String>,
}

/// Metadata of an authorization server (RFC 8414 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerDocument {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Option<String>,
    pub(super) token_endpoint: Option<String>,
    pub(super) revocation_endpoint: Option<String>,
    pub(super) registration_endpoint: Option<String>,
    pub(super) auth_methods: Option<Vec<String>>,
    pub(super) has_s256: bool,
    pub(super) has_issuer_in_response: bool,
    pub(super) has_client_documents: bool,
}

impl ResourceDocument {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let object = object(body)?;
        Some(Self {
            resource: text(&object, "resource")?,
            authorization_servers: texts(&object, "authorization_servers").unwrap_or_default(),
        })
    }
}

impl ServerDocument {
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let object = object(body)?;
        let methods = texts(&object, "code_challenge_methods_supported").unwrap_or_default();
        Some(Self {
            issuer: text(&object, "issuer")?,
            authorization_endpoint: text(&object, "authorization_endpoint"),
            token_endpoint: text(&object, "token_endpoint"),
            revocation_endpoint: text(&object, "revocation_endpoint"),
            registration_endpoint: text(&object, "registration_endpoint"),
            auth_methods: texts(&object, "token_endpoint_auth_methods_supported"),
            has_s256: methods.iter().any(|method| method == "S256"),
            has_issuer_in_response: is_true(
                &object,
                "authorization_response_iss_parameter_supported",
            ),
            has_client_documents: is_true(&object, "client_id_metadata_document_supported"),
        })
    }
}

fn object(body: &[u8]) -> Option<JsonObject<'_>> {
    (body.len() <= MAX_DOCUMENT).then(|| JsonObject::read(body).ok()).flatten()
}

fn text(object: &JsonObject<'_>, name: &str) -> Option<String> {
    object.text(name).map(|text| text.as_str().to_owned())
}

/// Returns the texts of a list that occurs once; `None` if it is absent or no list.
fn texts(object: &JsonObject<'_>, name: &str) -> Option<Vec<String>> {
    let mut members = object.present(name);
    let list = members.next().filter(|list| matches!(list, Member::Array(_)))?;
    if members.any(|other| other != list) {
        return None;
    }
    let texts = list.elements().take(MAX_ENTRIES).filter_map(|element| match element {
        Member::Text(text) => Some(text.as_str().to_owned()),
        Member::Null
        | Member::Bool(_)
        | Member::Number(_)
        | Member::NotText
        | Member::Array(_)
        | Member::Object(_) => None,
    });
    Some(texts.collect())
}

fn is_true(object: &JsonObject<'_>, name: &str) -> bool {
    let mut members = object.present(name).peekable();
    members.peek().is_some() && members.all(|member| member == Member::Bool(true))
}

/// Returns the places of a server's metadata, in the order in which they are tried (RFC 9728 §3.1).
pub(super) fn places_of_resource(upstream: &Uri) -> Vec<String> {
    let Some(origin) = origin(upstream) else { return Vec::new() };
    let path = upstream.path().trim_end_matches('/');
    let mut places = vec![format!("{origin}{PROTECTED_RESOURCE}{path}")];
    if !path.is_empty() {
        places.push(format!("{origin}{PROTECTED_RESOURCE}"));
    }
    places
}

/// Returns the places of an issuer's metadata, in the order in which they are tried (RFC 8414 §3.1
/// and §5, OpenID Connect Discovery 1.0 §4).
pub(super) fn places_of_issuer(issuer: &Uri) -> Vec<String> {
    let Some(origin) = origin(issuer) else { return Vec::new() };
    let path = issuer.path().trim_end_matches('/');
    let mut places = vec![
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
        format!("{origin}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        places.push(format!("{origin}{path}/.well-known/openid-configuration"));
    }
    places
}

/// Returns scheme and authority of a URL.
pub(super) fn origin(url: &Uri) -> Option<String> {
    let (scheme, authority) = (url.scheme_str()?, url.authority()?);
    Some(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_follows_its_rfc() {
        let uri = Uri::from_static;
        assert_eq!(
            places_of_resource(&uri("https://mcp.example/a/mcp")),
            [
                "https://mcp.example/.well-known/oauth-protected-resource/a/mcp",
                "https://mcp.example/.well-known/oauth-protected-resource",
            ]
        );
        assert_eq!(
            places_of_resource(&uri("https://mcp.example/")),
            ["https://mcp.example/.well-known/oauth-protected-resource"]
        );
        assert_eq!(
            places_of_issuer(&uri("https://login.example/tenant/")),
            [
                "https://login.example/.well-known/oauth-authorization-server/tenant",
                "https://login.example/.well-known/openid-configuration/tenant",
                "https://login.example/tenant/.well-known/openid-configuration",
            ]
        );
        assert_eq!(
            places_of_issuer(&uri("https://login.example:8443")),
            [
                "https://login.example:8443/.well-known/oauth-authorization-server",
                "https://login.example:8443/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn a_member_with_two_readings_is_absent() {
        let read = |text: &str| ServerDocument::read(text.as_bytes());
        let found = read(
            r#"{"issuer":"https://i","token_endpoint":"https://i/a","token_endpoint":"https://i/b",
                "code_challenge_methods_supported":["plain","S256"],
                "authorization_response_iss_parameter_supported":true}"#,
        );
        let found = found.unwrap();
        assert_eq!(found.token_endpoint, None);
        assert!(found.has_s256 && found.has_issuer_in_response && !found.has_client_documents);
        assert_eq!(read(r#"{"issuer":"https://i","issuer":"https://j"}"#), None);
        for text in ["", "<html>", "[]", "{}", r#"{"issuer":1}"#, r#"{"issuer":"a""#] {
            assert_eq!(read(text), None, "{text}");
        }
        let large = format!(r#"{{"issuer":"https://i"}}{}"#, " ".repeat(MAX_DOCUMENT));
        assert_eq!(read(&large), None);
        let twice =
            r#"{"resource":"r","authorization_servers":["a"],"authorization_servers":["b"]}"#;
        let read = ResourceDocument::read(twice.as_bytes()).unwrap();
        assert!(read.authorization_servers.is_empty());
    }
}
