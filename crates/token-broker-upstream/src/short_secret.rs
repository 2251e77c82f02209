//! Shortest configured secret: the leak guard masks a secret wherever a response contains it, so a
//! short one would mask words and numbers.

use tower_token_broker::{
    Secret,
    alarm::Alarm,
    exchange::{Credential, Upstream},
};

/// Shortest secret, in octets.
pub(crate) const SHORTEST: usize = 12;

/// A configured secret is too short to be masked in responses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a secret for server {server} has {octets} octets (of a value with a scheme, the part after \
     it; of Basic, the password): at least 12 are needed, because the leak guard would mask a \
     shorter one in ordinary text; use a longer one, or allow it with `dangerous_short_secret`"
)]
pub struct ShortSecretError {
    server: Box<str>,
    octets: usize,
}

impl ShortSecretError {
    /// Returns the name of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Returns the number of octets that the leak guard would search for.
    pub const fn octets(&self) -> usize {
        self.octets
    }
}

/// Vouches for a configured secret of this upstream.
// R485: "demo" would mask "demonstration".
pub(crate) fn vouch(secret: Secret, upstream: &Upstream) -> Result<Credential, ShortSecretError> {
    let credential = Credential::vouch(secret, upstream.origin().clone());
    match credential.guarded_octets() {
        octets if octets < SHORTEST => {
            Err(ShortSecretError { server: upstream.name().into(), octets })
        }
        _ => Ok(credential),
    }
}

/// Vouches for a secret of any length, and logs it.
pub(crate) fn vouch_short(secret: Secret, upstream: &Upstream) -> Credential {
    let credential = Credential::vouch(secret, upstream.origin().clone());
    if credential.guarded_octets() < SHORTEST {
        tracing::warn!(
            alarm = Alarm::ShortSecret.code(),
            server.name = upstream.name(),
            octets = credential.guarded_octets(),
            "a short secret is allowed: responses that contain its text are masked"
        );
    }
    credential
}
