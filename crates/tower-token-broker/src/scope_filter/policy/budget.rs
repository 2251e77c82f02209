//! A bound on the work that one text causes.

use super::{call::Call, decision::Decision};
use crate::{limits::MOST_NAME_BYTES, refusal::Reason};

/// A text without a bounded set of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unbounded {
    /// It may be read as anything.
    Ambiguous,
    /// There are more readings than are compared.
    TooMany,
}

impl Unbounded {
    /// Returns the denial of a call with such a text.
    pub(super) fn denial(self, call: &Call<'_>) -> Decision {
        match self {
            Self::Ambiguous => Decision::deny(call),
            Self::TooMany => Decision::deny_for(Reason::MemberTooLarge),
        }
    }
}

/// The bytes that may still be read or written.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    /// The budget for a text of a client.
    pub(super) const fn of_text() -> Self {
        Self { left: MOST_NAME_BYTES }
    }

    /// The budget for a text of a rule.
    pub(super) const fn of_rule() -> Self {
        Self { left: usize::MAX }
    }

    /// Takes the bytes of a text that is read or written.
    // J429: whatever the text, the work ends here.
    pub(super) fn spend(&mut self, text: &str) -> Result<(), Unbounded> {
        self.left = self.left.checked_sub(text.len()).ok_or(Unbounded::TooMany)?;
        Ok(())
    }

    #[cfg(test)]
    pub(super) const fn spent(&self) -> usize {
        MOST_NAME_BYTES - self.left
    }

    #[cfg(test)]
    pub(super) const MOST: usize = MOST_NAME_BYTES;
}
