//! Why something was not fetched, and why a way out can't be built.

use std::error::Error;

/// Whether the peer may have seen something of the request: what decides if a refresh token may have been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it may have, or it may not")]
pub enum Sent {
    /// No byte of the request has left: no address, no connection, no TLS.
    No,
    /// Some of it may have arrived.
    Maybe,
}

/// Why a document was not fetched. Its texts name neither host nor path, let alone what a peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The text is not a URL that we follow: user information, fragment, backslash, blanks, port 0, too long.
    #[error("the URL is not one that is followed; write it like https://host/path")]
    Url,
    /// Neither `https`, nor `http` on a loopback host that was allowed by name.
    #[error("the URL must be https; http is for loopback hosts that are allowed by name")]
    Scheme,
    /// The host is, or resolves to, an address that requests do not go to.
    #[error("the host's address is blocked; a private host must be allowed by name")]
    BlockedAddress,
    /// The answer was a redirect. It is not followed.
    #[error("the answer is a redirect, which is not followed")]
    Redirect,
    /// The answer is over the limit.
    #[error("the answer is over the limit of its size")]
    TooLarge,
    /// No answer in time.
    #[error("no answer came in time")]
    Timeout(Sent),
    /// No connection, a certificate that is not trusted, or an answer that broke off.
    #[error("the peer could not be reached, is not trusted, or broke off")]
    Failed(Sent),
}

impl FetchError {
    /// The reason code, kept for ever.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Url => "fetch.url",
            Self::Scheme => "fetch.scheme",
            Self::BlockedAddress => "fetch.blocked_address",
            Self::Redirect => "fetch.redirect",
            Self::TooLarge => "fetch.too_large",
            Self::Timeout(_) => "fetch.timeout",
            Self::Failed(_) => "fetch.failed",
        }
    }

    /// Whether the peer may have seen something of the request.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        match self {
            Self::Url | Self::Scheme | Self::BlockedAddress => Sent::No,
            Self::Redirect | Self::TooLarge => Sent::Maybe,
            Self::Timeout(sent) | Self::Failed(sent) => *sent,
        }
    }

    /// The guard's own verdict, if there is one among the sources of an error that came back through a client.
    pub(crate) fn among_sources_of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut source = Some(error);
        while let Some(error) = source {
            if let Some(ours) = error.downcast_ref::<Self>() {
                return Some(*ours);
            }
            // An `io::Error` that wraps one does not name it as its source.
            let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(ours) = wrapped.and_then(|wrapped| wrapped.downcast_ref::<Self>()) {
                return Some(*ours);
            }
            source = error.source();
        }
        None
    }
}

/// Why a client, connector or proxy can't be built. The operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboundError {
    /// A root certificate that was given can't be read; DER is expected.
    #[error("a root certificate can't be read; give it as DER")]
    RootCertificate,
    /// TLS can't be set up on this machine.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}
