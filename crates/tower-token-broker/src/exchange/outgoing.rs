//! The credential on its way to whoever sends the request: placed by one function, once.

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
    credential::Credential,
    leak_guard::{SecretForms, Watched},
};
use crate::{audit::Receipt, refusal::Reason, revocation::Standing};

/// The caller's credential for one upstream request, found in the extensions of the request that
/// the exchange layer passes inward. It shows nothing, and nothing but [`apply`] places it.
///
/// Whoever sends the request applies it just before: the proxy of `token-broker-outbound`, or
/// [`ApplyCredentialLayer`] around a client of your own. A handler, a middleware or a fallback that
/// does not apply it never sees the credential. Extensions are cloned with a request; the
/// credential is not: of all clones, one can place it, once.
///
/// [`apply`]: OutgoingCredential::apply
#[derive(Clone)]
pub struct OutgoingCredential(Arc<Cell>);

struct Cell {
    held: Mutex<Option<Held>>,
    was_applied: AtomicBool,
}

struct Held {
    credential: Credential,
    receipt: Receipt,
    standing: Standing,
    forms: Arc<SecretForms>,
    watched: Watched,
}

impl OutgoingCredential {
    pub(super) fn holding(
        credential: &Credential,
        receipt: Receipt,
        standing: &Standing,
        forms: Arc<SecretForms>,
        watched: &Watched,
    ) -> Self {
        let held = Held {
            credential: credential.clone(),
            receipt,
            standing: standing.clone(),
            forms,
            watched: watched.clone(),
        };
        Self(Arc::new(Cell { held: Mutex::new(Some(held)), was_applied: AtomicBool::new(false) }))
    }

    /// Sets the credential on this request, synchronously: send it at once. The URI must be of the
    /// credential's origin, the caller's token and grant must still stand, and the credential must
    /// not have been taken before.
    ///
    /// # Errors
    /// The request must not be sent; the error says why. Nothing was set, and the credential is
    /// gone.
    pub fn apply<B>(&self, request: &mut Request<B>) -> Result<(), ApplyError> {
        // Locked to the end: whoever withdraws it finds it placed, or gone.
        let mut place = self.0.held.lock();
        let Some(held) = place.take() else { return Err(ApplyError(Reason::CredentialTaken)) };
        let grant = held.credential.grant().map(|(id, _)| id);
        held.standing.check_before_send(grant).map_err(ApplyError)?;
        held.watched.add(held.forms);
        held.credential.place_on(held.receipt, request).map_err(ApplyError)?;
        self.0.was_applied.store(true, Ordering::Release);
        drop(place);
        Ok(())
    }

    fn was_applied(&self) -> bool {
        self.0.was_applied.load(Ordering::Acquire)
    }
}

/// Takes the credential back when the request is over, however it ends: whoever still holds a clone
/// of its extensions cannot use it any more.
#[derive(Debug)]
pub(super) struct Withdraw(pub(super) OutgoingCredential);

impl Withdraw {
    /// The request is over. Whether the credential was placed on it.
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
    /// The reason: of another origin, taken before, revoked since, or not a header value.
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
/// fn send(outgoing: &OutgoingCredential, mut request: http::Request<()>) -> Result<(), ApplyError> {
///     outgoing.apply(&mut request)
/// }
/// ```
#[cfg(doctest)]
struct OnlyApplied;
