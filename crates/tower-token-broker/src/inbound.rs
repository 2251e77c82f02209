//! Facts about a request that the server in front recorded in its extensions.
//!
//! A server that accepts connections may insert the peer's [`SocketAddr`] and, with mutual TLS, a
//! [`PeerCertificate`]. With feature `axum`, the values that axum records are used too: the peer in
//! its `ConnectInfo<SocketAddr>` and, in a nested router, the URI before routing.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Extensions, Request, Uri, header};

/// The client certificate of a mutual TLS connection, as DER. Insert it into the request's
/// extensions; a verifier finds it in its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    der: Bytes,
    digest: [u8; 32],
}

impl PeerCertificate {
    /// Wraps a certificate in DER.
    pub fn from_der(der: Bytes) -> Self {
        let mut digest = [0; 32];
        let hashed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
        digest.copy_from_slice(hashed.as_ref());
        Self { der, digest }
    }

    /// Returns the certificate in DER.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Returns the SHA-256 hash of the DER: the thumbprint `x5t#S256` of RFC 8705 §3.1.
    pub const fn thumbprint(&self) -> &[u8; 32] {
        &self.digest
    }
}

/// Returns the address of the peer, if the server recorded it.
pub(crate) fn peer(extensions: &Extensions) -> Option<SocketAddr> {
    let peer = extensions.get::<SocketAddr>().copied();
    #[cfg(feature = "axum")]
    let peer = peer.or_else(|| {
        let info = extensions.get::<axum::extract::ConnectInfo<SocketAddr>>();
        info.map(|axum::extract::ConnectInfo(peer)| *peer)
    });
    peer
}

/// Keeps the inner services from upgrading the connection: removes `Upgrade` and, with feature
/// `axum`, hyper's handle. A server may ignore `Upgrade` (RFC 9110 §7.8).
pub(crate) fn forbid_upgrade<B>(request: &mut Request<B>) {
    request.headers_mut().remove(header::UPGRADE);
    #[cfg(feature = "axum")]
    request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
}

/// Returns the URI as the server received it, before routing removed a part of it.
pub(crate) fn original_uri<B>(request: &Request<B>) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = request.extensions().get()
        && only_a_prefix_was_removed(original, request.uri())
    {
        return original;
    }
    request.uri()
}

/// Returns whether routing only removed whole segments at the front. If another part of the path
/// was rewritten, the path that the inner services see is used instead.
#[cfg(any(test, feature = "axum"))]
fn only_a_prefix_was_removed(original: &Uri, uri: &Uri) -> bool {
    let (before, after) = (original.path(), uri.path());
    // `nest` leaves "/" if nothing is left.
    let is_rest = before.ends_with(after) && after.starts_with('/');
    (is_rest || after == "/") && original.query() == uri.query()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewritten_path_is_not_the_original_one() {
        for (original, uri, expected) in [
            ("/api/v1/items?a=1", "/v1/items?a=1", true),
            ("/api/v1/items", "/api/v1/items", true),
            ("/api", "/", true),
            ("/api/v1/items", "/v1/other", false),
            ("/api/v1/items", "/v1/items?a=1", false),
            ("/api/v1/items", "items", false),
            ("*", "/v1", false),
        ] {
            let uris = original.parse().and_then(|original| Ok((original, uri.parse::<Uri>()?)));
            let Ok((original, uri)) = uris else { continue };
            assert_eq!(only_a_prefix_was_removed(&original, &uri), expected, "{original} {uri}");
        }
    }
}
