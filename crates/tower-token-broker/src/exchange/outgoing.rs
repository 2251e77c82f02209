//! The credential on its way to the sender of the request; one function places it, once.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::Request;
use parking_lot::Mutex;

use super::{
    credential::{Credential, Upstream},
    leak_guard::{SecretTails, Watched},
};
use crate::{alarm::Alarm, audit::Receipt, refusal::Reason, revocation::Standing};

/// The caller's credential for one upstream request. The exchange layer inserts it into the
/// extensions of the request that it passes inward. The value cannot be read; only [`apply`] places
/// it.
///
/// The sender of the request applies it: the proxy of `token-broker-outbound`, or
/// [`ApplyCredentialLayer`](super::ApplyCredentialLayer) around your own client. A handler, a
/// middleware or a fallback that does not apply it never sees the credential. Clones of the
/// extensions share one credential: one of them can place it, once.
///
/// [`apply`]: OutgoingCredential::apply
#[derive(Clone)]
pub struct OutgoingCredential(Arc<Cell>);

struct Cell {
    held: Mutex<Option<Held>>,
    was_applied: AtomicBool,
    upstream: Upstream,
}

struct Held {
    credential: Credential,
    receipt: Receipt,
    standing: Standing,
    tails: Arc<SecretTails>,
    watched: Watched,
}

impl OutgoingCredential {
    pub(super) fn holding(
        credential: &Credential,
        receipt: Receipt,
        standing: &Standing,
        tails: Arc<SecretTails>,
        watched: &Watched,
        upstream: &Upstream,
    ) -> Self {
        let held = Held {
            credential: credential.clone(),
            receipt,
            standing: standing.clone(),
            tails,
            watched: watched.clone(),
        };
        let (held, was_applied) = (Mutex::new(Some(held)), AtomicBool::new(false));
        Self(Arc::new(Cell { held, was_applied, upstream: upstream.clone() }))
    }

    /// Returns the name of the upstream, for the log of the sender.
    pub fn server(&self) -> &str {
        self.0.upstream.name()
    }

    /// Sets the credential on this request, synchronously; send the request at once. The URI must
    /// have the credential's origin, the caller's token and grant must not have been revoked, and
    /// the credential must not have been taken before.
    ///
    /// # Errors
    /// The reason why the request must not be sent. Nothing was set, and the credential is gone.
    pub fn apply<B>(&self, request: &mut Request<B>) -> Result<(), ApplyError> {
        // Locked to the end, so that a withdrawal finds the credential either placed or gone.
        let mut place = self.0.held.lock();
        let Some(held) = place.take() else { return Err(ApplyError(Reason::CredentialTaken)) };
        let grant = held.credential.grant().map(|(id, _)| id);
        held.standing.check_before_send(grant).map_err(ApplyError)?;
        // I440: from now on, no response to anyone may contain it.
        held.watched.add(&held.tails, held.credential.expires_at()).map_err(|_too_many| {
            tracing::error!(
                alarm = Alarm::CredentialUnusable.code(),
                "a handler uses too many different credentials for one response"
            );
            ApplyError(Reason::CredentialUnavailable)
        })?;
        held.credential.place_on(held.receipt, request).map_err(ApplyError)?;
        self.0.was_applied.store(true, Ordering::Release);
        drop(place);
        Ok(())
    }

    fn was_applied(&self) -> bool {
        self.0.was_applied.load(Ordering::Acquire)
    }
}

/// Withdraws the credential when the request ends: code that kept a clone of the extensions cannot
/// use it any more.
#[derive(Debug)]
pub(super) struct Withdraw(pub(super) OutgoingCredential);

impl Withdraw {
    /// Withdraws the credential; returns whether it was placed.
    pub(super) fn was_applied(self) -> bool {
        drop(self.0.0.held.lock().take());
        self.0.was_applied()
    }
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        drop(self.0.0.held.lock().take());
    }
}

impl fmt::Debug for OutgoingCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let was_applied = self.was_applied();
        f.debug_struct("OutgoingCredential")
            .field("was_applied", &was_applied)
            .finish_non_exhaustive()
    }
}

/// A credential was not placed, so the request must not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential was not placed on the request: {}", .0.code())]
pub struct ApplyError(Reason);

impl ApplyError {
    /// Returns the reason: another origin, taken before, revoked since, no valid header value, too
    /// many different credentials for one response, or `AuditUnavailable` because the request's
    /// result was written in the meantime.
    pub const fn reason(self) -> Reason {
        self.0
    }
}

/// The cell of an outgoing credential cannot be opened:
///
/// ```compile_fail,E0532
/// # use tower_token_broker::exchange::OutgoingCredential;
/// fn open(outgoing: OutgoingCredential) {
///     let OutgoingCredential(cell) = outgoing;
/// }
/// ```
///
/// It can only be applied:
///
/// ```
/// # use tower_token_broker::exchange::{ApplyError, OutgoingCredential};
/// # use http::Request;
/// fn send(outgoing: &OutgoingCredential, mut request: Request<()>) -> Result<(), ApplyError> {
///     outgoing.apply(&mut request)
/// }
/// ```
#[cfg(doctest)]
struct OnlyApplied;
