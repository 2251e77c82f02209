//! A token that the broker signs itself: for the user who calls, or for the broker as the one who acts.

use std::{fmt, sync::Arc};

use tower_token_broker::{clock::Timestamp, exchange::CredentialError, principal::Principal};

use super::{SecurityToken, TokenType};
use crate::signing::{Claims, SignJwt};

/// A JWT of the broker's, made anew for each exchange: `iss`, `sub`, `aud` (the authorization server's issuer), `jti`, `iat` and an
/// `exp` one minute later; for a caller also `act`, where somebody acts for the user. It is signed with `typ: JWT`, so nobody
/// takes it for a broker token, and names no scope: what the client may do here says nothing there.
#[derive(Clone)]
#[must_use = "an assertion that is given to no exchange is never signed"]
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
    /// Speaks for the user who calls. `issuer` is the broker's own, the `iss` of its broker tokens; a user of another issuer is
    /// refused, for two users of one name at two issuers are not one.
    pub fn of_caller(issuer: &str, signer: impl SignJwt) -> Self {
        Self { issuer: issuer.into(), about: About::Caller, audience: None, signer: Arc::new(signer) }
    }

    /// Speaks for the broker itself (`sub` is `issuer`): the actor token of a server that wants to know who asks for the user.
    pub fn of_broker(issuer: &str, signer: impl SignJwt) -> Self {
        Self { about: About::Broker, ..Self::of_caller(issuer, signer) }
    }

    /// Names this audience, for servers that want their token endpoint there, or another name of theirs.
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
                tracing::error!("a caller of another issuer is not the broker's to speak for");
                return Err(CredentialError::RefusedByPolicy);
            }
        };
        let audience = self.audience.as_deref().unwrap_or(server);
        let signed = Claims::new(&self.issuer, subject, audience, now)
            .and_then(|claims| claims.actor(actor).sign(&*self.signer));
        match signed {
            Ok(secret) => Ok(SecurityToken::new(TokenType::Jwt, secret)),
            Err(error) => {
                tracing::error!(error = %error, "the broker's assertion was not signed");
                Err(CredentialError::Unavailable { retry_after: None })
            }
        }
    }
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion").field("issuer", &self.issuer).field("about", &self.about).finish_non_exhaustive()
    }
}
