//! The URL of a client's metadata document, which is the client's ID.

use http::Uri;

use super::host::Host;

/// Longest URL, in bytes.
const MAX_BYTES: usize = 2048;

/// A client ID that is the URL of a metadata document
/// (draft-ietf-oauth-client-id-metadata-document, section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DocumentUrl {
    text: Box<str>,
    uri: Uri,
    host: Host,
}

impl DocumentUrl {
    /// Parses a client ID: an https URL of a named host, with a path and without dot segments,
    /// query, fragment and user information. `None` for every other text, which is then not the
    /// URL of a document.
    // C078
    pub(crate) fn parse(client_id: &str) -> Option<Self> {
        let is_printable = client_id.bytes().all(|byte| byte.is_ascii_graphic());
        if client_id.len() > MAX_BYTES || !is_printable || client_id.contains(['\\', '#']) {
            return None;
        }
        let uri: Uri = client_id.parse().ok()?;
        let path = uri.path();
        let unescaped = path.to_ascii_lowercase().replace("%2e", ".");
        let has_dots = unescaped.split('/').any(|segment| matches!(segment, "." | ".."));
        // F521: of one spelling, and without user information.
        let host = Host::of(&uri)?;
        let is_plain = client_id.starts_with("https://") && uri.query().is_none();
        if !is_plain || path.len() < 2 || has_dots || has_address(uri.host()?) {
            return None;
        }
        Some(Self { text: client_id.into(), uri, host })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) const fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns host and port, in one spelling.
    pub(super) const fn host(&self) -> &Host {
        &self.host
    }

    /// Returns host and port, octet by octet as the URL has them.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Returns whether a client ID is meant as a URL: it is never looked up as another one.
    pub(crate) fn is_meant_by(client_id: &str) -> bool {
        client_id.contains("://")
    }
}

/// Returns whether a host is an address, in any spelling: its last label is a number.
fn has_address(host: &str) -> bool {
    let last = host.rsplit('.').find(|label| !label.is_empty()).unwrap_or_default();
    let is_hex = last.to_ascii_lowercase().starts_with("0x");
    host.starts_with('[') || is_hex || last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c078_only_https_urls_with_a_path_are_documents() {
        for url in [
            "https://client.example/oauth/client.json",
            "https://client.example:8443/c",
            "https://localhost:8443/c",
        ] {
            assert!(DocumentUrl::parse(url).is_some(), "{url}");
        }
        let long = format!("https://client.example/{}", "x".repeat(2048));
        for text in [
            "",
            "abc",
            &long,
            "https://client.example",
            "https://client.example/",
            "http://client.example/c",
            "https://client.example/c#f",
            "https://u@client.example/c",
            "https://client.example/a/../c",
            "https://client.example/%2e%2E/c",
            "https://client.example/./c",
            "https://client.example\\c/d",
            "HTTPS://client.example/c",
            "https://client.example/c?v=1",
            "https://client.example/c?",
            "https://192.0.2.1/c",
            "https://192.0.2.1./c",
            "https://[2001:db8::1]/c",
            "https://2130706433/c",
            "https://0x7f.0x1/c",
            "https://client.example@evil.example/c",
            "https://client.example/ c",
            "https://client.example/\u{e9}",
            "https://client.example:/c",
            "https://client.example:0/c",
            "https://client..example/c",
        ] {
            assert!(DocumentUrl::parse(text).is_none(), "C078 {text}");
        }
    }
}
