//! URLs of issuers and of the gateway itself.

use http::Uri;

use super::{super::key::Located, Checks};

/// Hosts that are always on this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "[::1]" | "localhost")
}

/// Returns whether the authority of a URL names a user, or a password.
pub(super) fn has_user(url: &Uri) -> bool {
    url.authority().is_some_and(|authority| authority.as_str().contains('@'))
}

impl Checks<'_> {
    /// Returns an issuer: `https`, or `http` on this machine. It is compared octet by octet.
    // T324
    pub(super) fn issuer(&mut self, key: &str, issuer: &Located<String>) -> Option<String> {
        let remedy = "write it exactly as in the provider's metadata, like https://idp.example.com";
        if !self.is_text(&format!("`{key}`"), issuer) {
            return None;
        }
        let uri: Option<Uri> = issuer.value.parse().ok();
        let problem = match uri.as_ref().map(|uri| (uri, uri.scheme_str(), uri.host())) {
            Some((uri, Some("https" | "http"), Some(_))) if has_user(uri) => {
                "has a user name or password"
            }
            Some((uri, ..)) if uri.query().is_some() || issuer.value.contains('#') => {
                "has a query or fragment"
            }
            Some((_, Some("https"), Some(_))) => return Some(issuer.value.clone()),
            Some((_, Some("http"), Some(host))) if is_loopback(host) => {
                return Some(issuer.value.clone());
            }
            Some((_, Some("http"), Some(_))) => "must be https",
            _ => "is not an absolute URL",
        };
        self.fail(issuer.at, format!("`{key}` {problem}"), remedy);
        None
    }
}
