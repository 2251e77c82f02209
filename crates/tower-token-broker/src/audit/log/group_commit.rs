//! Group commit: callers waiting for the same durable write.

use std::{
    mem,
    sync::atomic::{AtomicUsize, Ordering},
    task::Waker,
};

use parking_lot::Mutex;

use super::error::AuditError;

/// The callers that wait for one write.
#[derive(Debug, Default)]
pub(in crate::audit) struct Group {
    waiters: Mutex<Waiters>,
    /// The number of callers that joined.
    members: AtomicUsize,
}

#[derive(Debug, Default)]
struct Waiters {
    outcome: Option<Result<(), AuditError>>,
    wakers: Vec<Option<Waker>>,
    /// The slot of the caller that acts for all.
    first: Option<usize>,
}

impl Group {
    pub(super) fn join(&self) {
        self.members.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn members(&self) -> usize {
        self.members.load(Ordering::Relaxed)
    }

    /// Sets the outcome, once, and wakes one of the callers, which wakes the others.
    pub(super) fn settle(&self, outcome: Result<(), AuditError>) {
        let one = {
            let mut waiters = self.waiters.lock();
            waiters.outcome.get_or_insert(outcome);
            waiters.wakers.iter_mut().find_map(Option::take)
        };
        if let Some(waker) = one {
            waker.wake();
        }
    }

    /// Returns the outcome, if it is known. The first caller that sees it wakes the others.
    pub(super) fn outcome(&self) -> Option<Result<(), AuditError>> {
        let (outcome, others) = {
            let mut waiters = self.waiters.lock();
            (waiters.outcome?, mem::take(&mut waiters.wakers))
        };
        others.into_iter().flatten().for_each(Waker::wake);
        Some(outcome)
    }

    /// Registers a caller's waker, and returns whether this caller acts for all.
    pub(super) fn register(&self, slot: &mut Option<usize>, waker: &Waker) -> bool {
        let mut waiters = self.waiters.lock();
        let slot = *slot.get_or_insert_with(|| {
            waiters.wakers.push(None);
            waiters.wakers.len() - 1
        });
        if let Some(place) = waiters.wakers.get_mut(slot) {
            match place {
                Some(known) => known.clone_from(waker),
                None => *place = Some(waker.clone()),
            }
        }
        *waiters.first.get_or_insert(slot) == slot
    }

    /// Removes a caller that no longer waits.
    pub(super) fn leave(&self, slot: usize) -> Left {
        let mut waiters = self.waiters.lock();
        if let Some(place) = waiters.wakers.get_mut(slot) {
            *place = None;
        }
        if waiters.first != Some(slot) {
            return Left::Others;
        }
        waiters.first = None;
        match waiters.wakers.iter().flatten().next() {
            Some(successor) => Left::First(successor.clone()),
            None => Left::Alone,
        }
    }
}

/// The caller that left a group.
pub(super) enum Left {
    /// Not the one that acts for all.
    Others,
    /// The one that acts for all. The next one must be woken to take over.
    First(Waker),
    /// The last one: no other caller waits.
    Alone,
}
