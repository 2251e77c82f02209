//! Client authentication: how the broker authenticates at an authorization server.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::HeaderValue;
use tower_token_broker::{Secret, clock::Timestamp};

use super::form::Form;
use crate::signing::{Claims, SignError, SignJwt};

/// Client ID of the broker at an authorization server, and how it authenticates there (RFC 6749
/// §2.3.1, RFC 7523 §2.2, RFC 7591 §2).
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct ClientAuthentication {
    client_id: Box<str>,
    method: Method,
}

#[derive(Clone)]
enum Method {
    None,
    Basic(Secret),
    Post(Secret),
    PrivateKeyJwt { signer: Arc<dyn SignJwt>, audience: Option<Box<str>> },
}

impl ClientAuthentication {
    /// Creates a public client, which sends only `client_id` (`none`).
    pub fn public(client_id: &str) -> Self {
        Self { client_id: client_id.into(), method: Method::None }
    }

    /// Authenticates by HTTP Basic (`client_secret_basic`).
    pub fn basic(client_id: &str, secret: Secret) -> Self {
        Self { client_id: client_id.into(), method: Method::Basic(secret) }
    }

    /// Authenticates by a secret in the body (`client_secret_post`), for servers that require it.
    pub fn post(client_id: &str, secret: Secret) -> Self {
        Self { client_id: client_id.into(), method: Method::Post(secret) }
    }

    /// Authenticates by a JWT that the client's own key signs, a new one for each request
    /// (`private_key_jwt`). No secret is shared. A JWT is valid for a minute, and only for this
    /// authorization server.
    pub fn private_key_jwt(client_id: &str, signer: impl SignJwt) -> Self {
        let method = Method::PrivateKeyJwt { signer: Arc::new(signer), audience: None };
        Self { client_id: client_id.into(), method }
    }

    /// Sets the audience of the JWTs of `private_key_jwt`, for servers that require their token
    /// endpoint there. The default is the server's issuer.
    pub fn jwt_audience(mut self, text: &str) -> Self {
        if let Method::PrivateKeyJwt { audience, .. } = &mut self.method {
            *audience = Some(text.into());
        }
        self
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns the secret that is sent, if the method has one.
    pub(super) const fn secret(&self) -> Option<&Secret> {
        match &self.method {
            Method::Basic(secret) | Method::Post(secret) => Some(secret),
            Method::None | Method::PrivateKeyJwt { .. } => None,
        }
    }

    /// Adds the members of this method to the form. Returns the value of `Authorization`, if the
    /// method uses one.
    #[expect(
        clippy::disallowed_methods,
        reason = "reviewed: the client's secret goes to its token endpoint"
    )]
    pub(super) fn show(
        &self,
        issuer: &str,
        now: Timestamp,
        form: &mut Form,
    ) -> Result<Option<HeaderValue>, SignError> {
        if let Method::Basic(secret) = &self.method {
            return Ok(basic(&self.client_id, secret.expose()));
        }
        form.push("client_id", self.client_id.as_bytes());
        match &self.method {
            Method::None | Method::Basic(_) => {}
            Method::Post(secret) => form.push("client_secret", secret.expose()),
            Method::PrivateKeyJwt { signer, audience } => {
                let audience = audience.as_deref().unwrap_or(issuer);
                let assertion = Claims::new(&self.client_id, &self.client_id, audience, now)?
                    .sign(&**signer)?;
                form.push(
                    "client_assertion_type",
                    b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                );
                form.push("client_assertion", assertion.expose());
            }
        }
        Ok(None)
    }
}

fn basic(client_id: &str, secret: &[u8]) -> Option<HeaderValue> {
    let pair = Form::pair(client_id.as_bytes(), secret);
    let encoded = Secret::from_text(STANDARD.encode(pair.as_bytes()));
    // Base64 is a valid header value.
    let mut value = HeaderValue::from_maybe_shared(encoded.to_wiped_bytes("Basic ")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Debug for ClientAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match self.method {
            Method::None => "none",
            Method::Basic(_) => "client_secret_basic",
            Method::Post(_) => "client_secret_post",
            Method::PrivateKeyJwt { .. } => "private_key_jwt",
        };
        f.debug_struct("ClientAuthentication")
            .field("client_id", &self.client_id)
            .field("method", &method)
            .finish()
    }
}
