//! Errors of a fetch, and of the construction of clients.

use std::{
    error::Error,
    io::{self, ErrorKind},
};

use http::Uri;
use tower_token_broker::cause::Cause;

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
/// peer; [`FetchError::remedy`] names the setting that would allow a blocked request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not an accepted URL: user information, fragment, backslash, white space, port 0, or too
    /// long.
    #[error("the URL is not accepted; write it like https://host/path")]
    Url,
    /// Neither `https`, nor `http` for a host and port that were allowed by name.
    #[error("the URL must be https; http is for hosts and ports that are allowed by name")]
    Scheme,
    /// The host is, or resolves to, a blocked address.
    #[error("the host's address is blocked: {0}")]
    BlockedAddress(BlockedAddress),
    /// The name of the host could not be resolved.
    #[error("the name of the host could not be resolved")]
    Unresolved,
    /// No connection.
    #[error("the peer was not reached ({0})")]
    NotReached(ErrorKind),
    /// The peer's certificate is not trusted.
    #[error("the peer is not trusted: {0}")]
    NotTrusted(CertificateProblem),
    /// No TLS connection, for a reason other than the certificate: the peer does not use TLS, or
    /// no version of it that is supported here.
    #[error("no TLS connection; does the peer use TLS on this port?")]
    Tls,
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
    /// The connection broke off before the response was complete, or the response is not HTTP.
    #[error("the connection broke off before the response was complete")]
    BrokenOff,
}

/// Kinds of address to which no request goes unless the guard allows the host by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::exhaustive_enums, reason = "the kinds of address that a guard knows")]
pub enum BlockedAddress {
    /// An address of this machine: [`Guard::allow_loopback`](crate::Guard::allow_loopback).
    #[error("it is on this machine (`Guard::allow_loopback` allows it by name)")]
    Loopback,
    /// An address of a private network:
    /// [`Guard::allow_private_host`](crate::Guard::allow_private_host).
    #[error("it is in a private network (`Guard::allow_private_host` allows it by name)")]
    Private,
    /// A public address of a host that may have private addresses only, because plain `http` is
    /// allowed for it.
    #[error("it is public, and the host is allowed for plain http in a private network only")]
    Public,
    /// An address that no setting allows: link-local, a metadata service, multicast, reserved.
    #[error("it is link-local, of a metadata service, or reserved; no setting allows it")]
    Never,
}

/// Reasons why a certificate is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// No trusted root signed it: [`Guard::trust_root`](crate::Guard::trust_root).
    #[error("no trusted root signed its certificate (`Guard::trust_root` adds one)")]
    UnknownIssuer,
    /// It is for another name.
    #[error("its certificate is for another name")]
    OtherName,
    /// It is expired.
    #[error("its certificate is expired")]
    Expired,
    /// It is not valid yet.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// It is revoked.
    #[error("its certificate is revoked")]
    Revoked,
    /// It is invalid for another reason.
    #[error("its certificate is invalid")]
    Invalid,
}

impl FetchError {
    /// Returns the cause, as the log names it.
    pub const fn cause(&self) -> Cause {
        match self {
            Self::Url => Cause::Url,
            Self::Scheme => Cause::Scheme,
            Self::BlockedAddress(_) => Cause::BlockedAddress,
            Self::Unresolved => Cause::Unresolved,
            Self::NotReached(_) => Cause::NotReached,
            Self::NotTrusted(_) => Cause::NotTrusted,
            Self::Tls => Cause::Tls,
            Self::Redirect => Cause::FetchRedirect,
            Self::TooLarge => Cause::FetchTooLarge,
            Self::ContentCoding => Cause::FetchContentCoding,
            Self::Timeout(_) => Cause::Timeout,
            Self::BrokenOff => Cause::BrokenOff,
        }
    }

    /// Returns the code of the cause, which is permanent.
    pub const fn code(&self) -> &'static str {
        self.cause().code()
    }

    /// Returns whether the peer may have received the request.
    pub const fn sent(&self) -> Sent {
        match self {
            Self::Url
            | Self::Scheme
            | Self::BlockedAddress(_)
            | Self::Unresolved
            | Self::NotReached(_)
            | Self::NotTrusted(_)
            | Self::Tls => Sent::No,
            Self::Redirect | Self::TooLarge | Self::ContentCoding | Self::BrokenOff => Sent::Maybe,
            Self::Timeout(sent) => *sent,
        }
    }

    /// Returns the call of the guard that would allow a request to this URI, for the log; `None`
    /// if the guard did not block it, or no call allows it.
    ///
    /// ```
    /// use token_broker_outbound::{BlockedAddress, FetchError};
    ///
    /// let crm = "https://crm.corp.example/mcp".parse().unwrap();
    /// let blocked = FetchError::BlockedAddress(BlockedAddress::Private);
    /// assert_eq!(
    ///     blocked.remedy(&crm).unwrap(),
    ///     r#"Guard::allow_private_host("crm.corp.example:443")"#
    /// );
    /// assert_eq!(FetchError::BlockedAddress(BlockedAddress::Never).remedy(&crm), None);
    /// ```
    pub fn remedy(&self, uri: &Uri) -> Option<String> {
        let (host, is_http) = (uri.host()?, uri.scheme_str() == Some("http"));
        let port = uri.port_u16().unwrap_or(if is_http { 80 } else { 443 });
        let loopback = || format!("Guard::allow_loopback(\"{host}:{port}\")");
        let private = || match is_http {
            true => format!("Guard::dangerous_allow_http(\"{host}\", {port})"),
            false => format!("Guard::allow_private_host(\"{host}:{port}\")"),
        };
        match self {
            Self::BlockedAddress(BlockedAddress::Loopback) => Some(loopback()),
            Self::BlockedAddress(BlockedAddress::Private) => Some(private()),
            Self::Scheme if is_http => Some(format!(
                "https; or {} for a host of your private network, {} for one on this machine",
                private(),
                loopback()
            )),
            Self::BlockedAddress(BlockedAddress::Public | BlockedAddress::Never)
            | Self::Scheme
            | Self::Url
            | Self::Unresolved
            | Self::NotReached(_)
            | Self::NotTrusted(_)
            | Self::Tls
            | Self::Redirect
            | Self::TooLarge
            | Self::ContentCoding
            | Self::Timeout(_)
            | Self::BrokenOff => None,
        }
    }

    /// Finds out why a client failed. An error while connecting, TLS included, comes before the
    /// first byte of the request.
    pub(crate) fn of_client(error: &(dyn Error + 'static), is_connecting: bool) -> Self {
        for error in Chain(Some(error)) {
            if let Some(ours) = error.downcast_ref::<Self>() {
                return *ours;
            }
            if !is_connecting {
                continue;
            }
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Self::of_tls(tls);
            }
        }
        if !is_connecting {
            return Self::BrokenOff;
        }
        let kinds = Chain(Some(error)).filter_map(|error| error.downcast_ref::<io::Error>());
        Self::NotReached(kinds.last().map_or(ErrorKind::Other, io::Error::kind))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "rustls may add kinds of errors")]
    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::{CertificateError as Certificate, Error};
        Self::NotTrusted(match error {
            Error::InvalidCertificate(problem) => match problem {
                // A bad signature: it names a trusted root, which did not sign it.
                Certificate::UnknownIssuer | Certificate::BadSignature => {
                    CertificateProblem::UnknownIssuer
                }
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                    CertificateProblem::OtherName
                }
                Certificate::Expired | Certificate::ExpiredContext { .. } => {
                    CertificateProblem::Expired
                }
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => {
                    CertificateProblem::NotYetValid
                }
                Certificate::Revoked => CertificateProblem::Revoked,
                _ => CertificateProblem::Invalid,
            },
            Error::NoCertificatesPresented => CertificateProblem::Invalid,
            _ => return Self::Tls,
        })
    }
}

/// An error and its sources. The error inside an `io::Error` is not its source, and follows it.
struct Chain<'e>(Option<&'e (dyn Error + 'static)>);

impl<'e> Iterator for Chain<'e> {
    type Item = &'e (dyn Error + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let error = self.0?;
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        self.0 = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
        Some(error)
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
