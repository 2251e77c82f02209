//! The gRPC status of an upstream's response, in the headers or in the trailers.

use http::{HeaderMap, HeaderValue};

use crate::{
    audit::Trail,
    dialect::Dialect,
    grpc::{metadata, status},
    refusal::{Reason, Refusal},
};

/// Returns whether the headers refuse the credential.
// I183: status 16 in the headers is gRPC's 401; no message was sent before it.
pub(super) fn refuses_the_credential(head: &HeaderMap) -> bool {
    status_in(head) == Some(Ok(16))
}

/// The end of a gRPC response.
#[derive(Debug)]
pub(super) struct End {
    pub(super) dialect: Dialect,
    /// Whether the request carried the credential.
    pub(super) was_applied: bool,
}

impl End {
    /// Rewrites the upstream's status. Its status 16 is about its own credential and is never
    /// passed on; details of a failing upstream are removed; an unreadable status is an error.
    // I186: details may reveal the upstream's internals.
    pub(super) fn rewrite(&self, trail: &Trail, fields: &mut HeaderMap) {
        let reason = match status_in(fields) {
            None | Some(Ok(0 | 1 | 3..=12)) => return,
            Some(Ok(2 | 13..=15)) => {
                fields.remove(metadata::DETAILS);
                fields.insert(metadata::MESSAGE, status::message("the upstream server failed"));
                return;
            }
            // As with a 401 over HTTP: without a credential, it is not about one.
            Some(Ok(16)) if !self.was_applied => return,
            Some(Ok(16)) => Reason::CredentialRefused,
            Some(Ok(_) | Err(())) => Reason::ResponseUnreadable,
        };
        trail.refused(reason);
        for name in [metadata::STATUS, metadata::MESSAGE, metadata::DETAILS] {
            fields.remove(name);
        }
        fields.extend(self.dialect.trailers(&Refusal::new(reason)));
    }
}

/// Returns the only status; an error for two, or for one that is no number.
fn status_in(fields: &HeaderMap) -> Option<Result<u32, ()>> {
    let mut all = fields.get_all(metadata::STATUS).iter().map(HeaderValue::as_bytes);
    let first = all.next()?;
    let is_number =
        !first.is_empty() && first.iter().all(u8::is_ascii_digit) && all.next().is_none();
    let number =
        std::str::from_utf8(first).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    Some(number.ok_or(()))
}
