//! A verifier for the tests of those who use the layers.

use std::{collections::HashMap, fmt, sync::LazyLock, time::Duration};

use super::{PresentedToken, VerifyError, VerifyRequest, VerifyToken};
use crate::{
    clock::Clock,
    principal::{Resource, Scopes, TokenTimes, User, Verified},
    refusal::Reason,
    secret::Secret,
};

/// Knows a few tokens by heart, and no others: for tests of services, policies and credentials of
/// your own.
#[derive(Clone, Default)]
#[must_use = "a verifier does nothing until it is given to a layer"]
pub struct TestTokens {
    known: HashMap<[u8; 32], Verified>,
    clock: Clock,
}

impl TestTokens {
    /// The `iss` of these tokens.
    pub const ISSUER: &str = "https://issuer.test";
    /// The `client_id` of these tokens.
    pub const CLIENT: &str = "test-client";

    /// Knows no token.
    pub fn new() -> Self {
        Self::default()
    }

    /// Times of the tokens that are added from now on are of this clock.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// This token speaks for this user, for one hour, without scopes. Its `jti` is the token's
    /// text.
    pub fn user(self, token: &str, subject: &str, resource: &Resource) -> Self {
        self.user_with_scopes(token, subject, resource, Scopes::none())
    }

    /// The same, with scopes.
    pub fn user_with_scopes(
        self,
        token: &str,
        subject: &str,
        resource: &Resource,
        scopes: Scopes,
    ) -> Self {
        let now = self.clock.now();
        let times = TokenTimes {
            id: token,
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(3600)),
        };
        let user = User::new(Self::ISSUER, subject);
        let verified =
            Verified::vouch(user, Self::CLIENT, resource.clone(), times).with_scopes(scopes);
        self.verified(token, verified)
    }

    /// This token proves this.
    pub fn verified(mut self, token: &str, verified: Verified) -> Self {
        let token = PresentedToken::new(Secret::from_text(token.into()));
        self.known.insert(*token.digest(), verified);
        self
    }
}

impl VerifyToken for TestTokens {
    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        let verified = self.known.get(request.token.digest()).cloned();
        verified.ok_or(VerifyError::because(Reason::UnknownToken))
    }

    fn authorization_servers(&self) -> &[Box<str>] {
        static ISSUER: LazyLock<[Box<str>; 1]> = LazyLock::new(|| [TestTokens::ISSUER.into()]);
        &*ISSUER
    }
}

impl fmt::Debug for TestTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestTokens").field("known", &self.known.len()).finish_non_exhaustive()
    }
}
