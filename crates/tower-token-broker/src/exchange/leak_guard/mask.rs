//! Overwrites secrets, so that lengths and the syntax around them stay valid.

use super::{
    alphabet::line_break,
    search::{Hit, Owner},
};
use crate::{alarm::Alarm, audit::Trail};

/// The number of secrets that were masked in a response, or in a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a masked echo is reported"]
pub(crate) struct Masked {
    pub(super) times: u64,
    /// Whether one of them belongs to another user.
    pub(super) of_another_user: bool,
}

impl Masked {
    pub(super) fn add(&mut self, other: Self) {
        self.times += other.times;
        self.of_another_user |= other.of_another_user;
    }

    /// Counts it on the request's record and raises the alarm.
    pub(super) fn report(self, trail: &Trail) {
        if self.times == 0 {
            return;
        }
        trail.echo_masked(self.times);
        let (id, times) = (trail.request_id(), self.times);
        // I441: one user's response with another's credential is an incident of its own.
        if self.of_another_user {
            tracing::error!(
                alarm = Alarm::CredentialOfAnotherUser.code(),
                request.id = %id,
                times,
                "the upstream returned a credential of another user; it was masked"
            );
        } else {
            tracing::error!(
                alarm = Alarm::UpstreamEcho.code(),
                request.id = %id,
                times,
                "the upstream echoed a credential; it was masked"
            );
        }
    }
}

/// Overwrites the hits, which are sorted, with as many `*`. Line breaks, what an event stream has
/// after them, and the zero bytes of UTF-16 stay.
pub(super) fn mask(text: &mut [u8], hits: &[Hit]) -> Masked {
    let mut masked = Masked::default();
    let mut end_of_last = 0;
    for hit in hits {
        masked.of_another_user |= hit.owner == Owner::Another;
        // Several readings find the same echo.
        if masked.times == 0 || hit.start >= end_of_last {
            masked.times += 1;
        }
        let mut at = hit.start.max(end_of_last);
        end_of_last = end_of_last.max(hit.end);
        while at < hit.end {
            let length = line_break(text.get(at..hit.end).unwrap_or_default());
            if length == 0
                && let Some(byte) = text.get_mut(at).filter(|byte| **byte != 0)
            {
                *byte = b'*';
            }
            at += length.max(1);
        }
    }
    masked
}
