//! A verifier for tests.

use std::{collections::HashMap, fmt, sync::LazyLock, time::Duration};

use super::{PresentedToken, VerifyError, VerifyRequest, VerifyToken};
use crate::{
    clock::Clock,
    principal::{Resource, Scopes, TokenTimes, User, Verified},
    refusal::Reason,
    secret::Secret,
};

/// A verifier for a fixed set of test tokens, for tests of your services, policies and credential
/// sources.
#[derive(Clone, Default)]
#[must_use = "a verifier does nothing until a layer uses it"]
pub struct TestTokens {
    known: HashMap<[u8; 32], Verified>,
    clock: Clock,
}

impl TestTokens {
    /// The `iss` of these tokens.
    pub const ISSUER: &str = "https://issuer.test";
    /// The `client_id` of these tokens.
    pub const CLIENT: &str = "test-client";

    /// Creates a verifier without tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the clock for the times of the tokens that are added after this.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Adds a token for this user, valid for one hour, without scopes. Its `jti` is the text of the
    /// token.
    pub fn user(self, token: &str, subject: &str, resource: &Resource) -> Self {
        self.user_with_scopes(token, subject, resource, Scopes::none())
    }

    /// Adds a token for this user with these scopes.
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

    /// Adds a token with this result.
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
