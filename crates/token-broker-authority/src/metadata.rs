//! Metadata of the authorization server (RFC 8414, RFC 9207, OpenID Connect Discovery).
//!
//! The same document is served at the well-known paths of RFC 8414 and of OpenID Connect. All
//! endpoints begin with the issuer, octet by octet.

use bytes::Bytes;
use http::{HeaderValue, Response, Uri, header};
use serde_json::json;
use tower_token_broker::principal::Scopes;

/// An issuer: the URL of an authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl {
    text: Box<str>,
    path: Box<str>,
}

/// The reasons why a text is not an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an issuer is an https URL (http only on loopback) in lower case, without user information, \
     query, fragment and escapes"
)]
#[non_exhaustive]
pub struct IssuerUrlError;

impl IssuerUrl {
    /// Parses an issuer. It is published octet by octet as it is written here.
    ///
    /// # Errors
    /// It is no https URL (http only on loopback), or has parts that an issuer does not have.
    pub fn parse(text: &str) -> Result<Self, IssuerUrlError> {
        let resource = tower_token_broker::principal::Resource::parse(text);
        let resource = resource.map_err(|_| IssuerUrlError)?;
        let uri: Uri = text.parse().map_err(|_| IssuerUrlError)?;
        let path = uri.path().trim_end_matches('/');
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let has_dots = path.split('/').any(|segment| matches!(segment, "." | ".."));
        if !path.bytes().all(is_plain) || path.contains("//") || has_dots {
            return Err(IssuerUrlError);
        }
        Ok(Self { text: resource.as_str().into(), path: path.into() })
    }

    /// Returns the issuer, octet by octet as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the path without a slash at its end; empty if there is none.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns scheme, host and port.
    pub fn origin(&self) -> &str {
        let after = self.text.find("://").map_or(0, |at| at.saturating_add(3));
        let host_ends = self.text.get(after..).and_then(|rest| rest.find('/'));
        let ends = host_ends.map_or(self.text.len(), |at| after.saturating_add(at));
        self.text.get(..ends).unwrap_or_default()
    }

    /// Returns the URL of an endpoint, whose path begins with a slash.
    pub fn endpoint(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin(), self.path)
    }

    /// Returns the paths at which the metadata is served: of RFC 8414 §3.1, and of OpenID Connect
    /// Discovery §4 in both forms that clients try.
    pub fn metadata_paths(&self) -> Vec<String> {
        let mut paths = vec![
            format!("/.well-known/oauth-authorization-server{}", self.path),
            format!("/.well-known/openid-configuration{}", self.path),
        ];
        if !self.path.is_empty() {
            paths.push(format!("{}/.well-known/openid-configuration", self.path));
        }
        paths
    }
}

/// The facts that the metadata states.
pub(crate) struct Facts<'a> {
    pub(crate) issuer: &'a IssuerUrl,
    pub(crate) scopes: &'a Scopes,
    pub(crate) has_client_documents: bool,
    pub(crate) has_registration: bool,
}

/// Authentication methods, the first the one that clients prefer.
pub(crate) const AUTH_METHODS: [&str; 4] =
    ["none", "client_secret_basic", "client_secret_post", "private_key_jwt"];
const ASSERTION_ALGORITHMS: [&str; 5] = ["ES256", "ES384", "EdDSA", "RS256", "PS256"];

/// Returns the document.
pub(crate) fn document(facts: &Facts<'_>) -> Bytes {
    let issuer = facts.issuer;
    let mut document = json!({
        "issuer": issuer.as_str(),
        "authorization_endpoint": issuer.endpoint("/oauth/authorize"),
        "token_endpoint": issuer.endpoint("/oauth/token"),
        "revocation_endpoint": issuer.endpoint("/oauth/revoke"),
        "jwks_uri": issuer.endpoint("/oauth/jwks"),
        // `offline_access` is not listed: refresh tokens are issued without it.
        "scopes_supported": facts.scopes.iter().collect::<Vec<_>>(),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": facts.has_client_documents,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
    });
    if let Some(members) = document.as_object_mut()
        && facts.has_registration
    {
        let endpoint = issuer.endpoint("/oauth/register").into();
        members.insert("registration_endpoint".into(), endpoint);
    }
    document.to_string().into()
}

/// Returns the response with the document. Pages of any origin may read it: it is public, and
/// clients in browsers begin with it.
pub(crate) fn response(document: Bytes) -> Response<Bytes> {
    let mut response = Response::new(document);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document_of(issuer: &str) -> serde_json::Value {
        let issuer = IssuerUrl::parse(issuer).unwrap();
        let scopes = Scopes::parse("crm:read crm:write").unwrap();
        let facts = Facts {
            issuer: &issuer,
            scopes: &scopes,
            has_client_documents: true,
            has_registration: true,
        };
        String::from_utf8(document(&facts).to_vec()).unwrap().parse().unwrap()
    }

    #[test]
    fn d107_the_issuer_is_published_octet_by_octet() {
        for issuer in [
            "https://broker.example.com",
            "https://broker.example.com/",
            "https://broker.example.com/auth",
            "http://127.0.0.1:8080",
        ] {
            assert_eq!(document_of(issuer)["issuer"], issuer);
        }
        let document = document_of("https://broker.example.com/");
        assert_eq!(document["token_endpoint"], "https://broker.example.com/oauth/token");
        let document = document_of("https://broker.example.com/auth/");
        assert_eq!(document["token_endpoint"], "https://broker.example.com/auth/oauth/token");
    }

    #[test]
    fn the_document_lists_what_there_is() {
        let document = document_of("https://broker.example.com");
        assert_eq!(document["code_challenge_methods_supported"], serde_json::json!(["S256"]));
        assert_eq!(document["response_types_supported"], serde_json::json!(["code"]));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
        assert_eq!(document["client_id_metadata_document_supported"], true);
        assert_eq!(document["scopes_supported"], serde_json::json!(["crm:read", "crm:write"]));
        assert_eq!(document["token_endpoint_auth_methods_supported"][0], "none");
    }

    #[test]
    fn the_well_known_paths_are_those_that_clients_try() {
        let paths = |issuer| IssuerUrl::parse(issuer).unwrap().metadata_paths();
        assert_eq!(
            paths("https://b.example"),
            ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]
        );
        assert_eq!(
            paths("https://b.example/auth"),
            [
                "/.well-known/oauth-authorization-server/auth",
                "/.well-known/openid-configuration/auth",
                "/auth/.well-known/openid-configuration",
            ]
        );
    }

    #[test]
    fn what_is_no_issuer_is_refused() {
        for text in [
            "",
            "broker",
            "http://broker.example.com",
            "https://Broker.example.com",
            "https://broker.example.com/?a",
            "https://broker.example.com/#a",
            "https://a@broker.example.com",
            "https://broker.example.com/a%20b",
            "https://broker.example.com/a//b",
            "https://broker.example.com/../a",
        ] {
            assert_eq!(IssuerUrl::parse(text), Err(IssuerUrlError), "{text}");
        }
    }
}
