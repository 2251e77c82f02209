//! JWTs that the broker signs to authenticate as a client, or to identify a user.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use tower_token_broker::{Secret, clock::Timestamp, principal::Actor};

/// Signs JWTs of the broker, with a key of the operator's choice and `typ: JWT` in the header.
/// Closures are signers:
///
/// ```
/// use token_broker_upstream::{ClientAuthentication, SignError};
/// # use tower_token_broker::Secret;
/// # struct Key; impl Key { fn sign_jwt(&self, _: &str) -> Result<Secret, ()> { Err(()) } }
/// # let key = Key;
///
/// // `token_broker_authority::issue::SigningKey` has such a method.
/// let sign = move |claims: &str| key.sign_jwt(claims).map_err(|_| SignError);
/// let client = ClientAuthentication::private_key_jwt("broker", sign);
/// # drop(client);
/// ```
///
/// A signer returns without waiting. A key that is stored elsewhere, and must be waited for, signs
/// in a [`ProvideToken`](crate::ProvideToken) of your own.
pub trait SignJwt: Send + Sync + 'static {
    /// Returns the compact JWS (RFC 7515 §7.1) of these claims, a JSON object.
    ///
    /// # Errors
    /// The key cannot sign.
    fn sign(&self, claims: &str) -> Result<Secret, SignError>;
}

impl<F> SignJwt for F
where
    F: Fn(&str) -> Result<Secret, SignError> + Send + Sync + 'static,
{
    fn sign(&self, claims: &str) -> Result<Secret, SignError> {
        self(claims)
    }
}

/// The key cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot sign")]
#[expect(clippy::exhaustive_structs, reason = "it has no details, and signers create it")]
pub struct SignError;

/// Claims of such a JWT (RFC 7523 §3): issuer, subject, audience, an ID, and a lifetime of a
/// minute.
pub(crate) struct Claims(Map<String, Value>);

impl Claims {
    const LIFETIME: Duration = Duration::from_secs(60);

    pub(crate) fn new(
        issuer: &str,
        subject: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<Self, SignError> {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| SignError)?;
        let claims: [(&str, Value); 6] = [
            ("iss", issuer.into()),
            ("sub", subject.into()),
            ("aud", audience.into()),
            ("jti", URL_SAFE_NO_PAD.encode(random).into()),
            ("iat", now.unix_seconds().into()),
            ("exp", now.plus(Self::LIFETIME).unix_seconds().into()),
        ];
        Ok(Self(claims.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    }

    /// Adds the actors of the subject; the current actor is the outermost (RFC 8693 §4.1).
    pub(crate) fn actor(mut self, actor: Option<&Actor>) -> Self {
        if let Some(actor) = actor {
            self.0.insert("act".into(), act(actor));
        }
        self
    }

    pub(crate) fn sign(self, signer: &dyn SignJwt) -> Result<Secret, SignError> {
        signer.sign(&Value::Object(self.0).to_string())
    }
}

fn act(actor: &Actor) -> Value {
    let mut claim = json!({"iss": actor.user().issuer(), "sub": actor.user().subject()});
    if let (Some(before), Some(members)) = (actor.before(), claim.as_object_mut()) {
        members.insert("act".into(), act(before));
    }
    claim
}
