//! Finds the key set of an issuer by its metadata (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).

use http::Uri;
use parking_lot::Mutex;

use super::keys::Keys;
use crate::{
    bad_value::BadValue,
    json::{Limits, Value},
    principal::Resource,
};

/// A URL that is not one of an issuer or an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the URL {0} must be https, with its host in lower case, and without user information, query \
     or fragment; http is only for 127.0.0.1, [::1] and localhost"
)]
pub struct EndpointError(BadValue);

impl EndpointError {
    /// Checks a URL.
    pub(in crate::authenticate) fn check(url: &str) -> Result<Uri, Self> {
        let error = || Self(url.into());
        Resource::parse(url).map_err(|_| error())?;
        url.parse().map_err(|_| error())
    }
}

/// An issuer whose metadata names its key set.
pub(super) struct Issuer {
    name: Box<str>,
    /// The places of its metadata, in the order in which they are tried.
    documents: [Uri; 2],
    may_use_http: bool,
    /// The last URL that its metadata named.
    known: Mutex<Option<Uri>>,
}

/// The reasons why a document is not the metadata of the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MetadataError {
    #[error("the metadata is no JSON object with `issuer` and `jwks_uri`, or exceeds 64 KiB")]
    NotMetadata,
    #[error("the metadata names another issuer; both are compared character by character")]
    OtherIssuer,
    #[error("the `jwks_uri` of the metadata is not an https URL")]
    KeySetUrl,
}

impl Issuer {
    pub(super) fn parse(name: &str) -> Result<Self, EndpointError> {
        EndpointError::check(name)?;
        let resource = Resource::parse(name).map_err(|_| EndpointError(name.into()))?;
        let (origin, path) = (resource.origin(), resource.path());
        let path = path.strip_suffix('/').unwrap_or(path);
        let url = |text: String| text.parse::<Uri>().map_err(|_| EndpointError(name.into()));
        Ok(Self {
            name: name.into(),
            documents: [
                url(format!("{origin}{path}/.well-known/openid-configuration"))?,
                url(format!("{origin}/.well-known/oauth-authorization-server{path}"))?,
            ],
            may_use_http: name.starts_with("http:"),
            known: Mutex::default(),
        })
    }

    pub(super) fn documents(&self) -> &[Uri] {
        &self.documents
    }

    pub(super) fn known(&self) -> Option<Uri> {
        self.known.lock().clone()
    }

    /// Reads the URL of the key set from a metadata document.
    pub(super) fn key_set_url(&self, document: &[u8]) -> Result<Uri, MetadataError> {
        if document.len() > Keys::MAX_BYTES {
            return Err(MetadataError::NotMetadata);
        }
        let metadata =
            Value::parse(document, &Limits::default()).map_err(|_| MetadataError::NotMetadata)?;
        let text = |name: &str| {
            metadata.get(name).and_then(Value::as_str).ok_or(MetadataError::NotMetadata)
        };
        // C072: octet by octet.
        if text("issuer")? != *self.name {
            return Err(MetadataError::OtherIssuer);
        }
        let url = text("jwks_uri")?;
        let parsed: Uri = url.parse().map_err(|_| MetadataError::KeySetUrl)?;
        let host = parsed.host().unwrap_or_default();
        let is_allowed = match parsed.scheme_str() {
            Some("https") => !host.is_empty(),
            Some("http") => {
                self.may_use_http && matches!(host, "127.0.0.1" | "localhost" | "[::1]")
            }
            _ => false,
        };
        let has_user = parsed.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !is_allowed || has_user || url.contains('#') {
            return Err(MetadataError::KeySetUrl);
        }
        *self.known.lock() = Some(parsed.clone());
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_at_the_standard_places() {
        for (issuer, first, second) in [
            (
                "https://login.example",
                "https://login.example/.well-known/openid-configuration",
                "https://login.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://login.example/",
                "https://login.example/.well-known/openid-configuration",
                "https://login.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://login.example/realms/one",
                "https://login.example/realms/one/.well-known/openid-configuration",
                "https://login.example/.well-known/oauth-authorization-server/realms/one",
            ),
            (
                "https://login.example/tenant/",
                "https://login.example/tenant/.well-known/openid-configuration",
                "https://login.example/.well-known/oauth-authorization-server/tenant",
            ),
        ] {
            assert_eq!(Issuer::parse(issuer).unwrap().documents(), [first, second], "{issuer}");
        }
        for bad in [
            "http://login.example",
            "https://login.example/?a",
            "https://login.example/#a",
            "https://a@login.example/",
            "https://Login.example/",
            "login.example",
            "",
        ] {
            assert!(Issuer::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn c072_metadata_of_another_issuer_is_refused() {
        let issuer = Issuer::parse("https://login.example/one").unwrap();
        let metadata = |issuer: &str, keys: &str| {
            format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}","response_types_supported":[]}}"#)
        };
        let keys = "https://keys.example/jwks?tenant=1";
        let own = metadata("https://login.example/one", keys);
        assert_eq!(issuer.key_set_url(own.as_bytes()).unwrap(), keys);
        for other in [
            "https://login.example/one/",
            "https://login.example",
            "https://login.example/One",
            "https://LOGIN.example/one",
            "https://login.example:443/one",
            "https://login.example/{tenantid}",
            "",
        ] {
            let found = issuer.key_set_url(metadata(other, keys).as_bytes());
            assert_eq!(found, Err(MetadataError::OtherIssuer), "C072 {other}");
        }
        for url in [
            "http://keys.example/jwks",
            "http://127.0.0.1/jwks",
            "file:///etc/keys",
            "/jwks",
            "https://a@keys.example/jwks",
            "https://keys.example/jwks#a",
            "",
        ] {
            let found = issuer.key_set_url(metadata("https://login.example/one", url).as_bytes());
            assert_eq!(found, Err(MetadataError::KeySetUrl), "{url}");
        }
        let doubled = own.replacen('{', r#"{"issuer":"https://login.example/one","#, 1);
        for text in ["", "<html>", "[]", "{}", &doubled, &format!("{own}{}", " ".repeat(65_536))] {
            let found = issuer.key_set_url(text.as_bytes());
            assert_eq!(found, Err(MetadataError::NotMetadata), "{text}");
        }
    }
}
