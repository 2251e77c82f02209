//! `google.rpc.Status` with its details, as in `grpc-status-details-bin`.
//!
//! Source: `google/rpc/status.proto`, `google/rpc/error_details.proto`.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::HeaderValue;

use super::protobuf::Writer;

/// The codes that the broker uses (gRPC, "Status codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

impl Code {
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }
}

/// A status with its details.
#[derive(Debug)]
pub(crate) struct Status<'a> {
    pub(crate) code: Code,
    pub(crate) message: &'a str,
    /// `ErrorInfo.reason`, rendered in upper case as its specification requires.
    pub(crate) reason: &'a str,
    /// `ErrorInfo.metadata`
    pub(crate) metadata: Vec<(&'a str, String)>,
    /// `Help.links`: a page and its description.
    pub(crate) link: Option<(&'a str, &'a str)>,
    /// `RetryInfo.retry_delay`, in seconds.
    pub(crate) retry_after: Option<u64>,
}

impl Status<'_> {
    /// Encodes `google.rpc.Status`.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut info = Writer::default()
            .bytes(1, self.reason.to_ascii_uppercase().as_bytes())
            .bytes(2, b"token-broker");
        for (name, value) in &self.metadata {
            let entry = Writer::default().bytes(1, name.as_bytes()).bytes(2, value.as_bytes());
            info = info.bytes(3, &entry.finish());
        }
        let mut status = Writer::default()
            .number(1, u64::from(self.code.number()))
            .bytes(2, self.message.as_bytes())
            .bytes(3, &any("ErrorInfo", info));
        if let Some((url, what)) = self.link {
            let link = Writer::default().bytes(1, what.as_bytes()).bytes(2, url.as_bytes());
            status = status.bytes(3, &any("Help", Writer::default().bytes(1, &link.finish())));
        }
        if let Some(seconds) = self.retry_after {
            let delay = Writer::default().number(1, seconds).finish();
            status = status.bytes(3, &any("RetryInfo", Writer::default().bytes(1, &delay)));
        }
        status.finish()
    }

    /// Returns the value of `grpc-status-details-bin`: base64 without padding, as gRPC over HTTP/2
    /// requires of senders.
    pub(crate) fn details(&self) -> HeaderValue {
        // Base64 is a valid header value.
        HeaderValue::from_str(&STANDARD_NO_PAD.encode(self.encode()))
            .unwrap_or(HeaderValue::from_static(""))
    }
}

/// Encodes `google.protobuf.Any`: type_url = 1, value = 2.
fn any(name: &str, message: Writer) -> Vec<u8> {
    let url = format!("type.googleapis.com/google.rpc.{name}");
    Writer::default().bytes(1, url.as_bytes()).bytes(2, &message.finish()).finish()
}

/// Returns the value of `grpc-message`: printable ASCII, everything else percent-encoded (gRPC over
/// HTTP/2, "Status-Message").
pub(crate) fn message(text: &str) -> HeaderValue {
    let mut coded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => coded.push_str(&format!("%{byte:02X}")),
            _ => coded.push(char::from(byte)),
        }
    }
    HeaderValue::from_str(&coded).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_printable_ascii() {
        assert_eq!(message("50 % of é\n"), "50 %25 of %C3%A9%0A");
    }
}
