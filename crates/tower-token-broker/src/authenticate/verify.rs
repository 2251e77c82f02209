//! The trait that turns a presented token into what it proves, and the token as it was presented.

use std::{fmt, sync::Arc};

use crate::{
    principal::{Resource, Verified},
    refusal::Reason,
    secret::Secret,
};

/// A token as a client presented it: taken off the request, hashed once, never printed.
#[derive(Clone)]
pub struct PresentedToken(Arc<Presented>);

struct Presented {
    secret: Secret,
    digest: [u8; 32],
}

impl PresentedToken {
    /// Takes the token's bytes and hashes them (SHA-256), once.
    #[must_use]
    pub fn new(secret: Secret) -> Self {
        #[expect(clippy::disallowed_methods, reason = "hashed for look-ups; the digest is what is handed on")]
        let hashed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.expose());
        let mut digest = [0; 32];
        digest.copy_from_slice(hashed.as_ref());
        Self(Arc::new(Presented { secret, digest }))
    }

    /// The token itself.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0.secret
    }

    /// SHA-256 of the whole token: the key under which anything about it may be remembered.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }
}

impl fmt::Debug for PresentedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedToken")
    }
}

/// The token proves nothing here, or the verifier can't tell at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token was refused: {}", reason.code())]
pub struct VerifyError {
    reason: Reason,
    remember: bool,
}

impl VerifyError {
    /// Refused for this reason, and by these bytes alone: the verdict may be remembered for a few seconds.
    #[must_use]
    pub const fn because(reason: Reason) -> Self {
        Self { reason, remember: true }
    }

    /// Refused for now (keys can't be had, not valid yet): asked again next time.
    #[must_use]
    pub const fn for_now(reason: Reason) -> Self {
        Self { reason, remember: false }
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the same bytes will be refused again.
    #[must_use]
    pub const fn may_be_remembered(&self) -> bool {
        self.remember
    }
}

/// Turns the presented token into what it proves, for this resource: JWT, introspection, yours.
///
/// The authenticate layer keeps the verdicts (by hash of the whole token and the verifier, within the limits of the
/// design), asks the revocations, and compares [`Verified::resource`] with its own: a verifier does neither.
pub trait VerifyToken: Send + Sync + 'static {
    /// What is known of this token without waiting; by default nothing. For verifiers that keep verdicts of their own.
    fn recall(&self, token: &PresentedToken, resource: &Resource) -> Option<Result<Verified, VerifyError>> {
        let (_, _) = (token, resource);
        None
    }

    /// Verifies the token.
    ///
    /// # Errors
    /// Why the token proves nothing here.
    ///
    /// # Cancellation
    /// May be dropped at any await; what must finish (a fetch of keys) belongs into an owned task.
    fn verify(
        &self,
        token: &PresentedToken,
        resource: &Resource,
    ) -> impl Future<Output = Result<Verified, VerifyError>> + Send;
}

impl<V: VerifyToken> VerifyToken for Arc<V> {
    fn recall(&self, token: &PresentedToken, resource: &Resource) -> Option<Result<Verified, VerifyError>> {
        V::recall(self, token, resource)
    }

    fn verify(
        &self,
        token: &PresentedToken,
        resource: &Resource,
    ) -> impl Future<Output = Result<Verified, VerifyError>> + Send {
        V::verify(self, token, resource)
    }
}
