//! Errors of a fetch, and of the construction of clients.

use std::error::Error;

/// Whether the peer may have received the request, and so used a refresh token in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third case")]
pub enum Sent {
    /// No byte was sent: no address, no connection, no TLS.
    No,
    /// A part of it may have arrived.
    Maybe,
}

/// The reasons why a document was not fetched. The messages contain no host, path or text of a
/// peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not an accepted URL: user information, fragment, backslash, white space, port 0, or too
    /// long.
    #[error("the URL is not accepted; write it like https://host/path")]
    Url,
    /// Neither `https`, nor `http` on a loopback host that was allowed by name.
    #[error("the URL must be https; http is for loopback hosts that are allowed by name")]
    Scheme,
    /// The host is, or resolves to, a blocked address.
    #[error("the host's address is blocked; a private host must be allowed by name")]
    BlockedAddress,
    /// The response is a redirect, which is not followed.
    #[error("the response is a redirect, which is not followed")]
    Redirect,
    /// The response is too large.
    #[error("the response is larger than its limit")]
    TooLarge,
    /// The response has a content coding, which was not requested, and cannot be decoded.
    #[error("the response has a content coding that cannot be decoded")]
    ContentCoding,
    /// No response in time.
    #[error("no response in time")]
    Timeout(Sent),
    /// No connection, an untrusted certificate, or an incomplete response.
    #[error("the peer was not reached, is not trusted, or did not complete its response")]
    Failed(Sent),
}

impl FetchError {
    /// Returns the reason code, which is permanent.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Url => "fetch.url",
            Self::Scheme => "fetch.scheme",
            Self::BlockedAddress => "fetch.blocked_address",
            Self::Redirect => "fetch.redirect",
            Self::TooLarge => "fetch.too_large",
            Self::ContentCoding => "fetch.content_coding",
            Self::Timeout(_) => "fetch.timeout",
            Self::Failed(_) => "fetch.failed",
        }
    }

    /// Returns whether the peer may have received the request.
    pub const fn sent(&self) -> Sent {
        match self {
            Self::Url | Self::Scheme | Self::BlockedAddress => Sent::No,
            Self::Redirect | Self::TooLarge | Self::ContentCoding => Sent::Maybe,
            Self::Timeout(sent) | Self::Failed(sent) => *sent,
        }
    }

    /// Returns the guard's verdict, if it is among the sources of a client's error.
    pub(crate) fn among_sources_of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut source = Some(error);
        while let Some(error) = source {
            if let Some(ours) = error.downcast_ref::<Self>() {
                return Some(*ours);
            }
            // The error inside an `io::Error` is not its source.
            let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(ours) = wrapped.and_then(|wrapped| wrapped.downcast_ref::<Self>()) {
                return Some(*ours);
            }
            source = error.source();
        }
        None
    }
}

/// The reasons why a client, connector or proxy cannot be created. The operator must resolve them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// A configured root certificate is not valid DER.
    #[error("a root certificate is not valid; configure it as DER")]
    RootCertificate,
    /// TLS cannot be configured on this machine.
    #[error("TLS cannot be configured: {0}")]
    Tls(String),
}
