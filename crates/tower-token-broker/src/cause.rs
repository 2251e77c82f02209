//! Causes of a failed fetch or an upstream's refused response, as the log names them.
//!
//! The [reason](crate::refusal::Reason) of a refusal states what it means for the request; the
//! field `cause` in the log states what happened between the broker and the other server. Clients
//! never receive it.

use std::fmt;

use http::{HeaderMap, StatusCode, Uri, header};

use crate::{
    alarm::Alarm,
    media_type::{self, MediaType},
    refusal::Reason,
    request_id::RequestId,
};

macro_rules! causes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal;)+) => {
        /// A fault between the broker and another server, as the field `cause` in the log. The list
        /// is closed; `docs/operating.md` lists what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Cause {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Cause {
            /// All causes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the code, `area.what`. Codes are permanent.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }
        }
    };
}

causes! {
    // No response
    /// The URL is not accepted.
    Url = "fetch.url";
    /// The URL is not https, and plain http is not allowed for this host and port.
    Scheme = "fetch.scheme";
    /// The host's address is blocked.
    BlockedAddress = "fetch.blocked_address";
    /// The name of the host could not be resolved.
    Unresolved = "fetch.unresolved";
    /// No connection.
    NotReached = "fetch.not_reached";
    /// The peer's certificate is not trusted.
    NotTrusted = "fetch.not_trusted";
    /// No TLS connection, for a reason other than the certificate.
    Tls = "fetch.tls";
    /// No response in time.
    Timeout = "fetch.timeout";
    /// The connection broke off before the response was complete.
    BrokenOff = "fetch.broken_off";

    // A document that was fetched
    /// The response is a redirect.
    FetchRedirect = "fetch.redirect";
    /// The response is larger than its limit.
    FetchTooLarge = "fetch.too_large";
    /// The response has a content coding that cannot be decoded.
    FetchContentCoding = "fetch.content_coding";

    // A response of the upstream
    /// The status is 5xx.
    ServerError = "response.server_error";
    /// The status is 101 or another interim one.
    Informational = "response.informational";
    /// The status is 407: there is a proxy before the upstream.
    ProxyAuthentication = "response.proxy_authentication";
    /// The response is a redirect, which MCP does not have.
    Redirect = "response.redirect";
    /// The response is a part of a resource (206, `Content-Range`).
    Partial = "response.partial";
    /// The response has a content coding, which was not requested.
    ContentCoding = "response.content_coding";
    /// The media type is neither JSON nor an event stream.
    MediaType = "response.media_type";
    /// The content is longer than its limit, or no message that can be judged.
    Unreadable = "response.unreadable";
    /// The response to a gRPC request is not gRPC.
    NotGrpc = "response.not_grpc";
}

impl Cause {
    /// Returns why the response with these headers cannot be read, if it cannot.
    pub(crate) fn of_unreadable(status: StatusCode, headers: &HeaderMap) -> Self {
        if status == StatusCode::PARTIAL_CONTENT || headers.contains_key(header::CONTENT_RANGE) {
            return Self::Partial;
        }
        if media_type::is_coded(headers) {
            return Self::ContentCoding;
        }
        match MediaType::of(headers) {
            Some(of) if of.is(media_type::JSON) || of.is(media_type::EVENT_STREAM) => {
                Self::Unreadable
            }
            Some(_) | None => Self::MediaType,
        }
    }

    /// Logs why a response of the upstream was replaced by a refusal, and returns its reason.
    pub(crate) fn report(
        self,
        reason: Reason,
        request: RequestId,
        server: Option<&str>,
        status: StatusCode,
    ) -> Reason {
        tracing::warn!(
            alarm = Alarm::UpstreamResponseRefused.code(),
            request.id = %request,
            server.name = server,
            refusal.reason = reason.code(),
            cause = self.code(),
            status = status.as_u16(),
            "the upstream's response was replaced by a refusal"
        );
        reason
    }
}

/// Returns a URL without user information and query, which may contain secrets, for the log.
pub fn url_for_log(url: &Uri) -> String {
    let (scheme, host) = (url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default());
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let shown = format!("{scheme}://{host}{port}{}", url.path());
    shown.chars().filter(char::is_ascii_graphic).take(MOST_SHOWN).collect()
}

/// Longest URL in the log, in characters.
const MOST_SHOWN: usize = 256;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
