//! Redeems authorization codes.

use bytes::Bytes;
use http::Response;
use token_broker_store::authority::{
    AuthorityStore, Code, CodeState, Family, KeyedFamily, LookupHash, RedeemCode, Redemption,
};
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    audit::{FamilyEndCause, TokenGrant},
    clock::Timestamp,
    principal::Initiator,
};

use super::{
    INVALID_GRANT, NOT_STORED, TokenEndpoint, check_resource, missing, pkce, refresh_token,
    response::{Issue, Issued},
    standing::{Authorization, Standing},
};
use crate::{
    client::authentication::AuthenticatedClient, oauth_error::EndpointError, params::Params,
    random, request::EndpointRequest,
};

/// Longest code that is looked up, in bytes.
const MAX_CODE: usize = 256;

/// A code that a client presents.
struct Presented<'a> {
    request: &'a EndpointRequest,
    client: AuthenticatedClient,
    hash: LookupHash,
    code: Code,
    /// Whether the verifier is that of the challenge.
    is_right: bool,
    /// The time of the request.
    now: Timestamp,
}

impl<S: AuthorityStore> TokenEndpoint<S> {
    pub(super) async fn redeem(
        &self,
        request: &EndpointRequest,
        params: &Params,
    ) -> Result<Response<Bytes>, EndpointError> {
        let now = self.broker.clock().now();
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
        let code = found.code;
        let is_right = verifier.is_some_and(|verifier| pkce::matches(verifier, &code.challenge));
        let presented = Presented { request, client, hash, code, is_right, now };
        match found.state {
            CodeState::Redeemed(at) => return self.redeemed_before(params, &presented, at).await,
            CodeState::Ended(_) => return Err(INVALID_GRANT),
            CodeState::Unused => {}
        }
        presented.check(params)?;
        if !is_right {
            // F128: a code that someone tries verifiers on is lost to all.
            self.store.end_code(&hash, now).await.map_err(|_| NOT_STORED)?;
            return Err(INVALID_GRANT);
        }
        self.check_code_stands(&presented).await?;
        // F130
        if now >= presented.code.expires_at {
            return Err(INVALID_GRANT);
        }
        self.redeem_first(&presented).await
    }

    /// Redeems a code that was not redeemed when it was read.
    async fn redeem_first(
        &self,
        presented: &Presented<'_>,
    ) -> Result<Response<Bytes>, EndpointError> {
        let key = random::key().map_err(|_| EndpointError::unavailable("no random numbers"))?;
        let ends_at = presented.now.plus(self.settings.refresh_absolute_lifetime);
        // F507: the code is used up last, so that it can be redeemed after a failure.
        let issued = self.issue_for(presented, ends_at).await?;
        match self.begin_family(presented, &key, ends_at).await? {
            Redemption::First(_, family) => {
                self.unfinished.forget(&presented.hash);
                Ok(self.token_response(&issued, &family, &key))
            }
            // F502: another request was first. No one has the token that was minted.
            Redemption::Again(_, at) => self.replayed(presented, at).await,
            Redemption::Ended(_) | Redemption::Expired(_) | Redemption::Unknown => {
                Err(INVALID_GRANT)
            }
        }
    }

    fn token_response(&self, issued: &Issued, family: &Family, key: &Secret) -> Response<Bytes> {
        let refresh = refresh_token::derive(key, &family.id, family.generation);
        issued.response(&refresh, &family.scopes, self.broker.clock().now())
    }

    /// Mints and records the access token of a code.
    async fn issue_for(
        &self,
        presented: &Presented<'_>,
        family_ends_at: Timestamp,
    ) -> Result<Issued, EndpointError> {
        self.mark_used(&presented.client, presented.now).await?;
        let issue = Issue {
            authorization: Authorization::of_code(&presented.code),
            scopes: &presented.code.scopes,
            grant: TokenGrant::AuthorizationCode,
            requested_at: presented.now,
            family_ends_at,
        };
        self.issue_access_token(presented.request, &issue).await
    }

    async fn check_code_stands(&self, presented: &Presented<'_>) -> Result<(), EndpointError> {
        match self.standing_of(Authorization::of_code(&presented.code)).await? {
            Standing::Stands => Ok(()),
            Standing::Suspended | Standing::Revoked => Err(INVALID_GRANT),
        }
    }

    async fn begin_family(
        &self,
        presented: &Presented<'_>,
        key: &Secret,
        ends_at: Timestamp,
    ) -> Result<Redemption, EndpointError> {
        let now = presented.now;
        let idle_until = now.plus(self.settings.refresh_idle_lifetime);
        let redeem = RedeemCode::new(presented.hash, now, key.clone(), (idle_until, ends_at));
        self.store.redeem_code(&redeem).await.map_err(|_| {
            // F507: it may have been redeemed, and its client has no tokens.
            let until = presented.code.expires_at.plus(self.settings.code_replay_grace);
            self.unfinished.note(presented.hash, now, until);
            NOT_STORED
        })
    }

    /// Completes a redemption whose outcome was lost, or refuses a replay.
    async fn redeemed_before(
        &self,
        params: &Params,
        presented: &Presented<'_>,
        at: Timestamp,
    ) -> Result<Response<Bytes>, EndpointError> {
        let hash = &presented.hash;
        if !presented.is_own() || !self.unfinished.has(hash, at, presented.now) {
            self.unfinished.forget(hash);
            return self.replayed(presented, at).await;
        }
        presented.check(params)?;
        let found = self.store.family(&presented.code.family).await.map_err(|_| NOT_STORED)?;
        // Its tokens were never returned, so none of them can have been used.
        let Some((family, key)) = found.and_then(unused) else {
            self.unfinished.forget(hash);
            return self.replayed(presented, at).await;
        };
        self.check_code_stands(presented).await?;
        let issued = self.issue_for(presented, family.ends_at).await?;
        self.unfinished.forget(hash);
        Ok(self.token_response(&issued, &family, &key))
    }

    // F124
    async fn replayed(
        &self,
        presented: &Presented<'_>,
        redeemed_at: Timestamp,
    ) -> Result<Response<Bytes>, EndpointError> {
        let is_recent = presented.now < redeemed_at.plus(self.settings.code_replay_grace);
        if !(is_recent && presented.is_own()) {
            let found = self.store.family(&presented.code.family).await.map_err(|_| NOT_STORED)?;
            if let Some(family) = found.map(|keyed| keyed.family)
                && family.end.is_none()
            {
                let cause = FamilyEndCause::CodeReplay;
                self.end_replayed(presented.request, &family, &presented.client, cause).await?;
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
        Ok(self.families.end(Some(request), family, cause, &initiator).await?)
    }
}

impl Presented<'_> {
    /// Returns whether the client to which the code was issued presents it, with its verifier.
    fn is_own(&self) -> bool {
        self.client.id() == self.code.client.as_str() && self.is_right
    }

    // F126: of another client, or for another redirect URI or resource. The code is kept,
    // because the sender has not shown that it is theirs.
    fn check(&self, params: &Params) -> Result<(), EndpointError> {
        if self.client.id() != self.code.client.as_str() {
            return Err(INVALID_GRANT);
        }
        // OAuth 2.1 §4.1.3: optional, and if present the same.
        if params.get("redirect_uri").is_some_and(|uri| *uri != *self.code.redirect_uri) {
            return Err(INVALID_GRANT);
        }
        check_resource(params, &self.code.resource)
    }
}

/// Returns a family of which no token was used, with its key.
fn unused(keyed: KeyedFamily) -> Option<(Family, Secret)> {
    let KeyedFamily { family, key, .. } = keyed;
    let is_unused = family.generation == 1 && family.end.is_none();
    key.filter(|_| is_unused).map(|key| (family, key))
}
