//! What is gRPC's own about an upstream's answer: its status stands in the head or in the trailers,
//! and not in HTTP's.

use http::{HeaderMap, HeaderValue};

use crate::{
    audit::Trail,
    dialect::Dialect,
    grpc::{metadata, status},
    refusal::{Reason, Refusal},
};

/// I183: the upstream refused the credential before anything else was said: gRPC's 401.
pub(super) fn refuses_the_credential(head: &HeaderMap) -> bool {
    status_in(head) == Some(Ok(16))
}

/// How a response of gRPC ends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) dialect: Dialect,
    /// Whether the request carried the credential.
    pub(super) was_applied: bool,
}

impl End {
    /// What of the upstream's status goes on. Its 16 is about its own door and never becomes ours;
    /// what a failing upstream says of its inside (I186) stays inside; a status that can't be read
    /// is none.
    pub(super) fn rewrite(&self, trail: &Trail, fields: &mut HeaderMap) {
        let reason = match status_in(fields) {
            None | Some(Ok(0 | 1 | 3..=12)) => return,
            Some(Ok(2 | 13..=15)) => {
                fields.remove(metadata::DETAILS);
                fields.insert(metadata::MESSAGE, status::message("the upstream server failed"));
                return;
            }
            // As a 401 over HTTP: without a credential it is not about one (design, section 15.1).
            Some(Ok(16)) if !self.was_applied => return,
            Some(Ok(16)) => Reason::CredentialRefused,
            Some(Ok(_) | Err(())) => Reason::AnswerUnreadable,
        };
        trail.refused(reason);
        for name in [metadata::STATUS, metadata::MESSAGE, metadata::DETAILS] {
            fields.remove(name);
        }
        fields.extend(self.dialect.trailers(&Refusal::new(reason)));
    }
}

/// The one status; an error where two stand, or one that is no number.
fn status_in(fields: &HeaderMap) -> Option<Result<u32, ()>> {
    let mut all = fields.get_all(metadata::STATUS).iter().map(HeaderValue::as_bytes);
    let first = all.next()?;
    let is_number =
        !first.is_empty() && first.iter().all(u8::is_ascii_digit) && all.next().is_none();
    let number =
        std::str::from_utf8(first).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    Some(number.ok_or(()))
}
