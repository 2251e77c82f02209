//! Revocation endpoint (RFC 7009).
//!
//! A refresh token of any generation ends its family, with all access tokens. An access token is
//! ended by its ID; after ten of one family, the next one ends the family (RFC 7009 §2.1 allows
//! it), so that no client fills the table of revocations. An expired one needs no revocation. A
//! token that is unknown, or another client's, has the same response as one that was revoked.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use token_broker_store::authority::{AuthorityStore, FamilyId};
use tower_token_broker::{
    Secret,
    audit::FamilyEndCause,
    authenticate::{PresentedToken, jwt::KeySource},
    clock::{LEEWAY, Timestamp},
    json::Value,
    principal::Initiator,
    revocation::RevocationTarget,
};

use crate::{
    client::authentication::AuthenticatedClient,
    limits::Network,
    oauth_error::{EndpointError, ErrorCode},
    request::EndpointRequest,
    token::{NOT_STORED, TokenEndpoint, refresh_token::RefreshToken, revoked_tokens::Step},
};

impl<S: AuthorityStore> TokenEndpoint<S> {
    /// Responds to a request to the revocation endpoint.
    ///
    /// # Cancellation
    /// A revocation that began is completed.
    pub(crate) async fn respond_to_revocation(&self, request: &EndpointRequest) -> Response<Bytes> {
        match self.revoke(request).await {
            Ok(()) => {
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = StatusCode::OK;
                let no_store = HeaderValue::from_static("no-store");
                response.headers_mut().insert(header::CACHE_CONTROL, no_store);
                response
            }
            Err(error) => error.response(),
        }
    }

    async fn revoke(&self, request: &EndpointRequest) -> Result<(), EndpointError> {
        let params = request.form()?;
        self.per_address.take(Network::of(request.peer)).map_err(EndpointError::too_many)?;
        let missing = EndpointError::new(ErrorCode::InvalidRequest, "token is missing");
        let token = params.get("token").ok_or(missing)?;
        let client = self.clients.authenticate(request, &params).await?;
        match RefreshToken::parse(token) {
            Some(token) => self.revoke_family(request, &client, &token).await,
            None => self.revoke_access_token(request, &client, token).await,
        }
    }

    async fn revoke_family(
        &self,
        request: &EndpointRequest,
        client: &AuthenticatedClient,
        token: &RefreshToken,
    ) -> Result<(), EndpointError> {
        let found = self.store.family(&token.family).await.map_err(|_| NOT_STORED)?;
        let Some(found) = found else { return Ok(()) };
        let is_ours = found.key.as_ref().is_some_and(|key| token.is_derived_from(key));
        // F141
        if !is_ours || client.id() != found.family.client.as_str() {
            return Ok(());
        }
        // F143
        let initiator = Initiator::client(client.id());
        let cause = FamilyEndCause::Client;
        Ok(self.families.end(Some(request), &found.family, cause, &initiator).await?)
    }

    async fn revoke_access_token(
        &self,
        request: &EndpointRequest,
        client: &AuthenticatedClient,
        token: &str,
    ) -> Result<(), EndpointError> {
        let presented = PresentedToken::new(Secret::from_text(token.to_owned()));
        let keys = KeySource::from(self.keyring.keys());
        let clock = self.broker.clock();
        let Ok(verified) = keys.verify(&presented, clock).await else {
            return Ok(());
        };
        let claims = verified.claims();
        let text = |name| claims.get(name).and_then(Value::as_str);
        let is_own = text("iss").as_deref() == Some(&*self.issuer)
            && text("client_id").as_deref() == Some(client.id());
        let Some(id) = text("jti").filter(|_| is_own) else { return Ok(()) };
        // F509: no verifier accepts it any more.
        let expires = claims.get("exp").and_then(Value::as_u64).unwrap_or_default();
        if clock.now() >= Timestamp::from_unix_seconds(expires).plus(LEEWAY) {
            return Ok(());
        }
        // Tokens without a family are issued by the operator.
        let family = text("token_family");
        let step = family.as_deref().map_or(Step::Token, |family| self.revoked.begin(family, &id));
        if step == Step::Nothing {
            return Ok(());
        }
        let initiator = Initiator::client(client.id());
        if step == Step::Family
            && let Some(family) = family.as_deref()
        {
            let found = self.store.family(&FamilyId::new(family)).await.map_err(|_| NOT_STORED)?;
            if let Some(found) = found {
                let cause = FamilyEndCause::Client;
                let ended = self.families.end(Some(request), &found.family, cause, &initiator);
                return Ok(ended.await?);
            }
        }
        let target =
            RevocationTarget::Token { issuer: Arc::from(&*self.issuer), id: Arc::from(&*id) };
        self.broker.revoke(target, &initiator).await.map_err(|_| {
            EndpointError::unavailable("the token could not be revoked everywhere; try again")
        })?;
        if let Some(family) = family.as_deref() {
            self.revoked.stored(family, &id);
        }
        Ok(())
    }
}
