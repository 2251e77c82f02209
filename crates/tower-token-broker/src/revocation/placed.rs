//! The places of this process's blocks and revocations in the shared sequence. Changes with earlier
//! places that arrive later do not undo them.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::{RevocationChange, RevocationTarget, Sequence};
use crate::principal::{GrantId, User};

/// A subject whose block or revocation can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(User),
    Grant(GrantId),
}

impl Subject {
    /// Returns the subject of a change, and whether the change loosens.
    fn of(change: &RevocationChange) -> Option<(Self, bool)> {
        Some(match change {
            RevocationChange::Blocked(user) => (Self::User(user.clone()), false),
            RevocationChange::Unblocked(user) => (Self::User(user.clone()), true),
            RevocationChange::Revoked(RevocationTarget::Grant(grant)) => {
                (Self::Grant(grant.clone()), false)
            }
            RevocationChange::GrantRestored(grant) => (Self::Grant(grant.clone()), true),
            RevocationChange::Revoked(_) => return None,
        })
    }
}

/// The place of the last tightening by this process, per subject, until it was read back;
/// [`IN_FLIGHT`] until its place is known.
#[derive(Debug, Default)]
pub(super) struct Placed(Mutex<HashMap<Subject, Sequence>>);

/// A place later than every other.
const IN_FLIGHT: Sequence = Sequence::new(u64::MAX);

impl Placed {
    /// Notes a change of this process, before it takes effect and is stored.
    pub(super) fn begin(&self, change: &RevocationChange) {
        if let Some((subject, false)) = Subject::of(change) {
            self.0.lock().insert(subject, IN_FLIGHT);
        }
    }

    /// Notes the place at which a change was stored.
    pub(super) fn stored(&self, change: &RevocationChange, place: Sequence) {
        if let Some((subject, false)) = Subject::of(change)
            && let Some(known) = self.0.lock().get_mut(&subject)
            && *known == IN_FLIGHT
        {
            *known = place;
        }
    }

    /// Notes a change of this process that loosens: earlier tightenings no longer count.
    pub(super) fn loosened(&self, change: &RevocationChange) {
        if let Some((subject, true)) = Subject::of(change) {
            self.0.lock().remove(&subject);
        }
    }

    /// Returns whether a change from the store takes effect: not if it loosens what was tightened
    /// later.
    pub(super) fn may_apply(&self, place: Sequence, change: &RevocationChange) -> bool {
        let Some((subject, loosens)) = Subject::of(change) else { return true };
        let mut placed = self.0.lock();
        match placed.get(&subject) {
            Some(own) if place < *own => !loosens,
            // Read back: from now on the order of the sequence applies.
            Some(_) => {
                placed.remove(&subject);
                true
            }
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loosening_never_undoes_a_later_tightening() {
        let alice = User::new("https://broker.example.com", "alice");
        let blocked = RevocationChange::Blocked(alice.clone());
        let unblocked = RevocationChange::Unblocked(alice);
        let placed = Placed::default();
        assert!(placed.may_apply(Sequence::new(1), &unblocked), "nothing of our own");
        placed.begin(&blocked);
        assert!(!placed.may_apply(Sequence::new(9), &unblocked), "its place is not known yet");
        placed.stored(&blocked, Sequence::new(5));
        assert!(!placed.may_apply(Sequence::new(4), &unblocked));
        assert!(placed.may_apply(Sequence::new(3), &blocked), "what tightens always counts");
        assert!(placed.may_apply(Sequence::new(6), &unblocked), "of another replica, later");
        assert!(placed.0.lock().is_empty());
    }
}
