//! The server that a request goes to, as the log names it when it fails.

use http::{StatusCode, Uri};
use tower_token_broker::{
    alarm::Alarm, cause::Cause, exchange::OutgoingCredential, refusal::Reason,
    request_id::RequestId,
};

use crate::error::FetchError;

/// The server that a request goes to, for the log.
pub(super) struct Peer {
    pub(super) uri: Uri,
    pub(super) request: Option<RequestId>,
    pub(super) outgoing: Option<OutgoingCredential>,
}

impl Peer {
    /// Logs why there is no response, and returns the reason of the refusal.
    // H178: only the log names the cause. The client learns only that the upstream failed.
    pub(super) fn failed(&self, error: FetchError) -> Reason {
        let reason = if matches!(error, FetchError::Timeout(_)) {
            Reason::UpstreamTimeout
        } else {
            Reason::UpstreamFailed
        };
        tracing::warn!(
            alarm = Alarm::UpstreamUnavailable.code(),
            request.id = self.request.map(tracing::field::display),
            server.name = self.server(),
            origin = self.origin(),
            refusal.reason = reason.code(),
            cause = error.code(),
            %error,
            allowed_by = error.remedy(&self.uri),
            "the upstream did not respond"
        );
        reason
    }

    pub(super) fn switches_protocols(&self, status: StatusCode) {
        tracing::warn!(
            alarm = Alarm::UpstreamResponseRefused.code(),
            request.id = self.request.map(tracing::field::display),
            server.name = self.server(),
            origin = self.origin(),
            refusal.reason = Reason::UpstreamFailed.code(),
            cause = Cause::Informational.code(),
            status = status.as_u16(),
            "the upstream switched protocols"
        );
    }

    fn server(&self) -> Option<&str> {
        self.outgoing.as_ref().map(OutgoingCredential::server)
    }

    /// Without user information, path and query, which may contain keys.
    // H178
    fn origin(&self) -> Option<String> {
        let (scheme, host) = (self.uri.scheme_str()?, self.uri.host()?);
        let port = self.uri.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{scheme}://{host}{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h178_the_log_names_an_origin_without_user_information() {
        for (uri, origin) in [
            ("http://ana:secret@host/", "http://host"),
            ("http://secret@host/mcp?key=secret", "http://host"),
            ("https://:secret@host:8443/secret", "https://host:8443"),
            ("https://secret:@host", "https://host"),
            ("https://ana:8080@host/", "https://host"),
            ("http://secret:80@[::1]:8080/", "http://[::1]:8080"),
            ("http://@host:80/", "http://host:80"),
            ("https://host:443/?secret", "https://host:443"),
            ("http://127.0.0.1:1/secret", "http://127.0.0.1:1"),
        ] {
            let peer = Peer { uri: uri.parse().unwrap(), request: None, outgoing: None };
            assert_eq!(peer.origin().as_deref(), Some(origin), "H178 {uri}");
        }
        for uri in ["/secret", "ana@host:80", "*"] {
            let peer = Peer { uri: uri.parse().unwrap(), request: None, outgoing: None };
            assert_eq!(peer.origin(), None, "H178 {uri}");
        }
    }
}
