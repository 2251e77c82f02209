//! The token response (RFC 6749 §5.1), and the record before it.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use token_broker_store::authority::{AuthorityStore, Family};
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    audit::{IssuedToken, Note, TokenGrant},
    principal::{Initiator, Scopes},
};

use super::{TokenEndpoint, refresh_token};
use crate::{
    issue::Mint,
    oauth_error::{EndpointError, no_store_json},
    request::{EndpointRequest, record},
};

impl<S: AuthorityStore> TokenEndpoint<S> {
    /// Mints the access token of a family, records it, and returns it with the refresh token of the
    /// family's current generation.
    pub(super) async fn tokens(
        &self,
        request: &EndpointRequest,
        family: &Family,
        key: &Secret,
        (scopes, grant): (&Scopes, TokenGrant),
    ) -> Result<Response<Bytes>, EndpointError> {
        let now = self.broker.clock().now();
        // No access token outlives its family.
        let left = now.until(family.ends_at);
        let lifetime = self.settings.access_token_lifetime.min(left).max(Duration::from_secs(1));
        let mint = Mint::for_user(family.user.subject())
            .client(family.client.as_str())
            .resource(&family.resource)
            .scopes(scopes.clone())
            .family(family.id.as_str())
            .lifetime(lifetime);
        let token = self.keyring.mint(&mint).map_err(|error| {
            tracing::error!(
                alarm = Alarm::SigningFailed.code(),
                %error,
                "a broker token could not be signed"
            );
            EndpointError::unavailable("no token can be signed at the moment")
        })?;
        let issued = IssuedToken {
            user: &family.user,
            client: family.client.as_str(),
            resource: &family.resource,
            scopes,
            token: token.id(),
            family: Some(family.id.as_str()),
            expires: token.expires_at(),
        };
        let note = request.with_peer(Note::token_issued_for(issued, grant));
        record(&self.broker, &Initiator::client(family.client.as_str()), note).await?;
        let refresh = refresh_token::derive(key, &family.id, family.generation);
        Ok(response(token.secret(), &refresh, lifetime, scopes))
    }
}

/// Tokens and scopes need no escape in JSON: base64url, dots, and the characters of RFC 6749 §3.3,
/// which has no quotation mark and no backslash.
fn response(
    access_token: &Secret,
    refresh_token: &Secret,
    lifetime: Duration,
    scopes: &Scopes,
) -> Response<Bytes> {
    #[expect(clippy::disallowed_methods, reason = "returned to its client")]
    let texts = (access_token.expose_text(), refresh_token.expose_text());
    let (access, refresh) = (texts.0.unwrap_or_default(), texts.1.unwrap_or_default());
    let seconds = lifetime.as_secs();
    let scope = scopes.to_string();
    let mut body = String::with_capacity(access.len() + refresh.len() + scope.len() + 128);
    for part in [
        r#"{"access_token":""#,
        access,
        r#"","token_type":"Bearer","expires_in":"#,
        &seconds.to_string(),
        r#","refresh_token":""#,
        refresh,
        r#"","scope":""#,
        &scope,
        r#""}"#,
    ] {
        body.push_str(part);
    }
    let body = Secret::from_text(body);
    no_store_json(StatusCode::OK, body.to_wiped_bytes(""))
}
