//! Redeems authorization codes.

use bytes::Bytes;
use http::Response;
use token_broker_store::authority::{
    AuthorityStore, Code, CodeState, Family, LookupHash, RedeemCode, Redemption,
};
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    audit::{FamilyEndCause, TokenGrant},
    clock::Timestamp,
    principal::Initiator,
};

use super::{INVALID_GRANT, NOT_STORED, TokenEndpoint, check_resource, missing, pkce};
use crate::{
    client::authentication::AuthenticatedClient, oauth_error::EndpointError, params::Params,
    random, request::EndpointRequest,
};

/// Longest code that is looked up, in bytes.
const MAX_CODE: usize = 256;

impl<S: AuthorityStore> TokenEndpoint<S> {
    pub(super) async fn redeem(
        &self,
        request: &EndpointRequest,
        params: &Params,
    ) -> Result<Response<Bytes>, EndpointError> {
        let code = params.get("code").ok_or(missing("code is missing"))?;
        let verifier = params.get("code_verifier");
        // F129: nothing was guessed yet, so it ends nothing.
        if verifier.is_some_and(|verifier| !pkce::is_verifier(verifier)) {
            return Err(missing("code_verifier has 43 to 128 unreserved characters"));
        }
        let client = self.clients.authenticate(request, params).await?;
        let code = Some(code).filter(|code| code.len() <= MAX_CODE).ok_or(INVALID_GRANT)?;
        let hash = self.lookup.code(&Secret::from_text(code.to_owned()));
        let found = self.store.code(&hash).await.map_err(|_| NOT_STORED)?;
        let found = found.ok_or(INVALID_GRANT)?;
        let is_right =
            verifier.is_some_and(|verifier| pkce::matches(verifier, &found.code.challenge));
        match found.state {
            CodeState::Redeemed(at) => {
                return self.replayed(request, &client, &found.code, (at, is_right)).await;
            }
            CodeState::Ended(_) => return Err(INVALID_GRANT),
            CodeState::Unused => {}
        }
        self.check(params, &client, &found.code)?;
        if !is_right {
            // F128: a code that someone tries verifiers on is lost to all.
            self.store.end_code(&hash, self.now()).await.map_err(|_| NOT_STORED)?;
            return Err(INVALID_GRANT);
        }
        if self.is_revoked(&found.code) {
            return Err(INVALID_GRANT);
        }
        let key = random::key().map_err(|_| EndpointError::unavailable("no random numbers"))?;
        match self.begin_family(hash, &key).await? {
            Redemption::First(_, family) => {
                self.mark_used(&client, family.created_at).await?;
                let scopes = family.scopes.clone();
                let grant = (&scopes, TokenGrant::AuthorizationCode);
                self.tokens(request, &family, &key, grant).await
            }
            // F502: another request was first.
            Redemption::Again(code, at) => {
                self.replayed(request, &client, &code, (at, is_right)).await
            }
            // F130
            Redemption::Ended(_) | Redemption::Expired(_) | Redemption::Unknown => {
                Err(INVALID_GRANT)
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.broker.clock().now()
    }

    // F126: of another client, or for another redirect URI or resource. The code is kept,
    // because the sender has not shown that it is theirs.
    fn check(
        &self,
        params: &Params,
        client: &AuthenticatedClient,
        code: &Code,
    ) -> Result<(), EndpointError> {
        if client.id() != code.client.as_str() {
            return Err(INVALID_GRANT);
        }
        // OAuth 2.1 §4.1.3: optional, and if present the same.
        if params.get("redirect_uri").is_some_and(|uri| *uri != *code.redirect_uri) {
            return Err(INVALID_GRANT);
        }
        check_resource(params, &code.resource)
    }

    fn is_revoked(&self, code: &Code) -> bool {
        let (user, client) = (&code.user, code.client.as_str());
        self.permits(user, client, &code.resource, (code.family.as_str(), code.issued_at)).is_err()
    }

    async fn begin_family(
        &self,
        hash: LookupHash,
        key: &Secret,
    ) -> Result<Redemption, EndpointError> {
        let now = self.now();
        let ends_at = now.plus(self.settings.refresh_absolute_lifetime);
        let idle_until = now.plus(self.settings.refresh_idle_lifetime);
        let redeem = RedeemCode::new(hash, now, key.clone(), (idle_until, ends_at));
        self.store.redeem_code(&redeem).await.map_err(|_| NOT_STORED)
    }

    // F124
    async fn replayed(
        &self,
        request: &EndpointRequest,
        client: &AuthenticatedClient,
        code: &Code,
        (redeemed_at, is_right): (Timestamp, bool),
    ) -> Result<Response<Bytes>, EndpointError> {
        let is_own = client.id() == code.client.as_str() && is_right;
        let is_repeated = self.now() < redeemed_at.plus(self.settings.code_replay_grace) && is_own;
        if !is_repeated {
            let family = self.store.family(&code.family).await.map_err(|_| NOT_STORED)?;
            if let Some(family) = family.map(|keyed| keyed.family)
                && family.end.is_none()
            {
                self.end_replayed(request, &family, client, FamilyEndCause::CodeReplay).await?;
            }
        }
        Err(INVALID_GRANT)
    }

    pub(super) async fn end_replayed(
        &self,
        request: &EndpointRequest,
        family: &Family,
        client: &AuthenticatedClient,
        cause: FamilyEndCause,
    ) -> Result<(), EndpointError> {
        tracing::warn!(
            alarm = Alarm::TokenReplayed.code(),
            family = family.id.as_str(),
            cause = cause.as_str(),
            "a code or refresh token was presented again: its family is ended"
        );
        let initiator = Initiator::client(client.id());
        self.families.end(Some(request), family, cause, &initiator).await
    }
}
