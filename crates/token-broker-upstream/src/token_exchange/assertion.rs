//! Assertions: tokens that the broker signs, about the caller or about itself.

use std::{fmt, sync::Arc};

use tower_token_broker::{
    alarm::Alarm, clock::Timestamp, exchange::CredentialError, principal::Principal,
};

use super::{SecurityToken, TokenType};
use crate::signing::{Claims, SignJwt};

/// A JWT of the broker, signed for each exchange: `iss`, `sub`, `aud` (the issuer of the
/// authorization server), `jti`, `iat`, and an `exp` one minute later; about a caller also `act`,
/// if another party acts for the user.
///
/// Its `typ` is `JWT`, so it is not accepted as a broker token. It has no scope, because what the
/// client may do at the broker means nothing at the upstream. It names no account: for a user with
/// several accounts at the upstream, use a [`ProvideToken`](super::ProvideToken).
#[derive(Clone)]
#[must_use = "an assertion is signed only for a token exchange that has it"]
pub struct Assertion {
    issuer: Box<str>,
    about: About,
    audience: Option<Box<str>>,
    signer: Arc<dyn SignJwt>,
}

#[derive(Clone, Copy, Debug)]
enum About {
    Caller,
    Broker,
}

impl Assertion {
    /// Identifies the caller. `issuer` is the broker's own, the `iss` of its broker tokens. A user
    /// of another issuer is refused, because the same name at two issuers means two users.
    pub fn of_caller(issuer: &str, signer: impl SignJwt) -> Self {
        Self {
            issuer: issuer.into(),
            about: About::Caller,
            audience: None,
            signer: Arc::new(signer),
        }
    }

    /// Identifies the broker (`sub` is `issuer`): an actor token for servers that must know who
    /// requests the token of a user.
    pub fn of_broker(issuer: &str, signer: impl SignJwt) -> Self {
        Self { about: About::Broker, ..Self::of_caller(issuer, signer) }
    }

    /// Sets the audience, for servers that require their token endpoint or another name there.
    pub fn audience(mut self, text: &str) -> Self {
        self.audience = Some(text.into());
        self
    }

    pub(super) fn token(
        &self,
        caller: &Principal,
        server: &str,
        now: Timestamp,
    ) -> Result<SecurityToken, CredentialError> {
        let (subject, actor) = match self.about {
            About::Broker => (&*self.issuer, None),
            About::Caller if caller.issuer() == &*self.issuer => (caller.subject(), caller.actor()),
            About::Caller => {
                tracing::error!(
                    alarm = Alarm::CallerNotVouchedFor.code(),
                    "the broker does not vouch for a caller of another issuer"
                );
                return Err(CredentialError::RefusedByPolicy);
            }
        };
        let audience = self.audience.as_deref().unwrap_or(server);
        let signed = Claims::new(&self.issuer, subject, audience, now)
            .and_then(|claims| claims.actor(actor).sign(&*self.signer));
        match signed {
            Ok(secret) => Ok(SecurityToken::new(TokenType::Jwt, secret)),
            Err(error) => {
                tracing::error!(
                    alarm = Alarm::ClientAuthenticationFailed.code(),
                    error = %error,
                    "the broker's assertion was not signed"
                );
                Err(CredentialError::Unavailable { retry_after: None })
            }
        }
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion")
            .field("issuer", &self.issuer)
            .field("about", &self.about)
            .finish_non_exhaustive()
    }
}
