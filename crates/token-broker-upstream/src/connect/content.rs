//! The decisions of a connect, from its beginning until the browser comes back.

use http::Uri;
use serde_json::{Value, json};
use tower_token_broker::{Secret, principal::Scopes};

/// The frozen decisions of one connect. A store keeps them encrypted.
pub(super) struct Content {
    pub(super) issuer: Box<str>,
    /// Origin of the server.
    pub(super) upstream: Box<str>,
    pub(super) token_endpoint: Uri,
    /// Whether the response must have `iss` (RFC 9207).
    pub(super) must_have_issuer: bool,
    /// The client; `None` if it is the configured one.
    pub(super) client_id: Option<Box<str>>,
    pub(super) redirect_uri: Box<str>,
    pub(super) resource: Option<Box<str>>,
    pub(super) scopes: Scopes,
    /// PKCE verifier.
    pub(super) verifier: Secret,
    pub(super) continuation: Option<Box<str>>,
}

impl Content {
    #[expect(clippy::disallowed_methods, reason = "reviewed: the verifier goes into the content")]
    pub(super) fn to_secret(&self) -> Secret {
        let value = json!({
            "issuer": self.issuer,
            "upstream": self.upstream,
            "token_endpoint": self.token_endpoint.to_string(),
            "must_have_issuer": self.must_have_issuer,
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "resource": self.resource,
            "scopes": self.scopes.to_string(),
            "verifier": self.verifier.expose_text(),
            "continuation": self.continuation,
        });
        Secret::from_text(value.to_string())
    }

    /// Reads content that this type wrote; `None` if a later version did.
    #[expect(clippy::disallowed_methods, reason = "reviewed: read only here")]
    pub(super) fn read(content: &Secret) -> Option<Self> {
        let value: Value = serde_json::from_slice(content.expose()).ok()?;
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let optional = |name: &str| text(name).map(Into::into);
        Some(Self {
            issuer: text("issuer")?.into(),
            upstream: text("upstream")?.into(),
            token_endpoint: text("token_endpoint")?.parse().ok()?,
            must_have_issuer: value.get("must_have_issuer")?.as_bool()?,
            client_id: optional("client_id"),
            redirect_uri: text("redirect_uri")?.into(),
            resource: optional("resource"),
            scopes: Scopes::parse(text("scopes")?).ok()?,
            verifier: Secret::from_text(text("verifier")?.to_owned()),
            continuation: optional("continuation"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_the_store() {
        let content = Content {
            issuer: "https://login.example".into(),
            upstream: "https://mcp.example:443".into(),
            token_endpoint: Uri::from_static("https://login.example/token"),
            must_have_issuer: true,
            client_id: Some("c".into()),
            redirect_uri: "https://b.example/connect/crm/callback".into(),
            resource: None,
            scopes: Scopes::parse("a b").unwrap(),
            verifier: Secret::from_text("v".into()),
            continuation: Some("next".into()),
        };
        let read = Content::read(&content.to_secret()).unwrap();
        assert_eq!(
            (read.issuer, read.upstream, read.token_endpoint, read.client_id, read.continuation),
            (
                content.issuer,
                content.upstream,
                content.token_endpoint,
                content.client_id,
                content.continuation
            )
        );
        assert!(read.verifier.matches(&content.verifier) && read.must_have_issuer);
        assert_eq!((read.resource, read.scopes), (None, content.scopes));
        for other in ["", "{}", "[]", r#"{"issuer":"i"}"#] {
            assert!(Content::read(&Secret::from_text(other.into())).is_none());
        }
    }
}
