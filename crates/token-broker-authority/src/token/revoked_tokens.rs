//! Access tokens that clients revoked, counted by family.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;

/// Access tokens that clients revoked in this process, by family.
///
/// Each is an entry in the table of revocations, which all clients share. So a family has few, and
/// then it is ended as one entry, and a token that was revoked is not revoked again.
#[derive(Debug, Default)]
pub(crate) struct RevokedTokens(Mutex<Families>);

#[derive(Debug, Default)]
struct Families {
    by_id: HashMap<Box<str>, Tokens>,
    /// IDs of the families, the oldest first.
    order: VecDeque<Box<str>>,
}

#[derive(Debug, Default)]
struct Tokens {
    begun: HashSet<Box<str>>,
    /// Those of which the revocation was stored.
    stored: HashSet<Box<str>>,
}

/// How an access token is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It was revoked before.
    Nothing,
    /// By its ID.
    Token,
    /// With its family.
    Family,
}

/// Number of access tokens that a client can revoke before their family is ended.
const MAX_TOKENS: usize = 10;
/// Number of families. Beyond it, the oldest one is counted from 0.
const MAX_FAMILIES: usize = 10_000;

impl RevokedTokens {
    /// Returns how a token of a family is revoked, and counts it.
    // F509
    pub(crate) fn begin(&self, family: &str, token: &str) -> Step {
        let families = &mut *self.0.lock();
        if !families.by_id.contains_key(family) {
            if families.by_id.len() >= MAX_FAMILIES
                && let Some(oldest) = families.order.pop_front()
            {
                families.by_id.remove(&oldest);
            }
            families.order.push_back(family.into());
        }
        let tokens = families.by_id.entry(family.into()).or_default();
        if tokens.stored.contains(token) {
            return Step::Nothing;
        }
        // A retry is not counted again.
        if tokens.begun.contains(token) {
            return Step::Token;
        }
        if tokens.begun.len() >= MAX_TOKENS {
            return Step::Family;
        }
        tokens.begun.insert(token.into());
        Step::Token
    }

    /// Notes that the revocation of a token was stored.
    pub(crate) fn stored(&self, family: &str, token: &str) {
        if let Some(tokens) = self.0.lock().by_id.get_mut(family) {
            tokens.stored.insert(token.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f509_a_family_has_few_entries_and_each_token_one() {
        let revoked = RevokedTokens::default();
        assert_eq!(revoked.begin("f1", "t0"), Step::Token);
        assert_eq!(revoked.begin("f1", "t0"), Step::Token, "F509: a retry, not stored yet");
        revoked.stored("f1", "t0");
        assert_eq!(revoked.begin("f1", "t0"), Step::Nothing, "F509");
        for token in 1..MAX_TOKENS {
            assert_eq!(revoked.begin("f1", &token.to_string()), Step::Token, "F509");
        }
        assert_eq!(revoked.begin("f1", "one more"), Step::Family, "F509");
        assert_eq!(revoked.begin("f1", "t0"), Step::Nothing);
        assert_eq!(revoked.begin("f2", "t0"), Step::Token, "another family");
    }

    #[test]
    fn f509_the_families_are_bounded() {
        let revoked = RevokedTokens::default();
        for family in 0..MAX_FAMILIES + 5 {
            revoked.begin(&family.to_string(), "t");
        }
        let families = revoked.0.lock();
        assert_eq!((families.by_id.len(), families.order.len()), (MAX_FAMILIES, MAX_FAMILIES));
        assert!(!families.by_id.contains_key("0") && families.by_id.contains_key("5"), "F509");
    }
}
