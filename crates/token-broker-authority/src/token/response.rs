//! The token response (RFC 6749 §5.1), and the record before it.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use token_broker_store::authority::AuthorityStore;
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    audit::{IssuedToken, Note, TokenGrant},
    clock::Timestamp,
    principal::{Initiator, Scopes},
};

use super::{TokenEndpoint, standing::Authorization};
use crate::{
    issue::{BrokerToken, Mint},
    oauth_error::{EndpointError, no_store_json},
    request::{EndpointRequest, record},
};

/// The content of an access token.
pub(super) struct Issue<'a> {
    pub(super) authorization: Authorization<'a>,
    pub(super) scopes: &'a Scopes,
    pub(super) grant: TokenGrant,
    /// The time of the request, before anything was read from the store: a revocation that ends
    /// what was read is later, and covers the token.
    // F510
    pub(super) requested_at: Timestamp,
    /// No access token outlives its family.
    pub(super) family_ends_at: Timestamp,
}

/// An access token with its record.
pub(super) struct Issued {
    token: BrokerToken,
    lifetime: Duration,
    requested_at: Timestamp,
}

impl<S: AuthorityStore> TokenEndpoint<S> {
    /// Mints an access token, and records it.
    pub(super) async fn issue_access_token(
        &self,
        request: &EndpointRequest,
        issue: &Issue<'_>,
    ) -> Result<Issued, EndpointError> {
        let Authorization { user, client, resource, family, .. } = issue.authorization;
        let left = issue.requested_at.until(issue.family_ends_at);
        let lifetime = self.settings.access_token_lifetime.min(left).max(Duration::from_secs(1));
        let mint = Mint::for_user(user.subject())
            .client(client)
            .resource(resource)
            .scopes(issue.scopes.clone())
            .family(family)
            .lifetime(lifetime);
        let token = self.keyring.mint(&mint, issue.requested_at).map_err(|error| {
            tracing::error!(
                alarm = Alarm::SigningFailed.code(),
                %error,
                "a broker token could not be signed"
            );
            EndpointError::unavailable("no token can be signed at the moment")
        })?;
        let issued = IssuedToken {
            user,
            client,
            resource,
            scopes: issue.scopes,
            token: token.id(),
            family: Some(family),
            expires: token.expires_at(),
        };
        let note = request.with_peer(Note::token_issued_for(issued, issue.grant));
        record(&self.broker, &Initiator::client(client), note).await?;
        Ok(Issued { token, lifetime, requested_at: issue.requested_at })
    }
}

impl Issued {
    /// Returns the response, with a refresh token. Tokens and scopes need no escape in JSON:
    /// base64url, dots, and the characters of RFC 6749 §3.3, which has no quotation mark and no
    /// backslash.
    pub(super) fn response(
        &self,
        refresh_token: &Secret,
        scopes: &Scopes,
        now: Timestamp,
    ) -> Response<Bytes> {
        #[expect(clippy::disallowed_methods, reason = "returned to its client")]
        let texts = (self.token.secret().expose_text(), refresh_token.expose_text());
        let (access, refresh) = (texts.0.unwrap_or_default(), texts.1.unwrap_or_default());
        let seconds =
            self.lifetime.as_secs().saturating_sub(self.requested_at.until(now).as_secs());
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
}
