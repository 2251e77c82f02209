//! Group commit: callers waiting for the same durable write.
//!
//! The writer wakes each of them. No caller does work for another one, so a caller that is not
//! polled again delays only itself.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::error::AuditError;

/// The callers that wait for one write.
#[derive(Debug, Default)]
pub(super) struct Group {
    waiters: Mutex<Waiters>,
    /// The number of callers that joined.
    members: AtomicUsize,
    /// The writer has taken the records, or takes them next.
    is_committed: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiters {
    outcome: Option<Result<(), AuditError>>,
    wakers: Vec<Option<Waker>>,
}

impl Group {
    /// Adds a caller.
    pub(super) fn join(self: &Arc<Self>) -> Member {
        let before = self.members.fetch_add(1, Ordering::Relaxed);
        Member { group: Arc::clone(self), joined_as: before + 1, slot: None }
    }

    /// Marks that no caller needs to wake the writer for it any more.
    pub(super) fn commit(&self) {
        self.is_committed.store(true, Ordering::Relaxed);
    }

    /// Sets the outcome, once, and wakes all callers.
    // P380: each caller has its own waker, and none relies on another one.
    pub(super) fn settle(&self, outcome: Result<(), AuditError>) {
        let wakers = {
            let mut waiters = self.waiters.lock();
            waiters.outcome.get_or_insert(outcome);
            mem::take(&mut waiters.wakers)
        };
        for waker in wakers.into_iter().flatten() {
            // A waker belongs to the caller's executor: its panic is not the writer's.
            drop(catch_unwind(AssertUnwindSafe(|| waker.wake())));
        }
    }
}

/// One caller of a group.
#[derive(Debug)]
#[must_use = "nothing may be used before the record is durable"]
pub(in crate::audit) struct Member {
    group: Arc<Group>,
    /// The number of callers when this one joined.
    joined_as: usize,
    slot: Option<usize>,
}

impl Member {
    pub(super) const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) const fn joined_as(&self) -> usize {
        self.joined_as
    }

    /// Returns the number of callers that have joined so far.
    pub(super) fn members(&self) -> usize {
        self.group.members.load(Ordering::Relaxed)
    }

    pub(super) fn is_committed(&self) -> bool {
        self.group.is_committed.load(Ordering::Relaxed)
    }

    /// Returns the outcome, or registers the caller's waker.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), AuditError>> {
        let mut waiters = self.group.waiters.lock();
        if let Some(outcome) = waiters.outcome {
            return Poll::Ready(outcome);
        }
        let waker = cx.waker();
        match self.slot.and_then(|slot| waiters.wakers.get_mut(slot)) {
            Some(Some(known)) => known.clone_from(waker),
            Some(empty @ None) => *empty = Some(waker.clone()),
            None => {
                self.slot = Some(waiters.wakers.len());
                waiters.wakers.push(Some(waker.clone()));
            }
        }
        Poll::Pending
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let waker = self.group.waiters.lock().wakers.get_mut(slot).and_then(Option::take);
        // Dropped without the lock: it may be the last one of its task.
        drop(waker);
    }
}
