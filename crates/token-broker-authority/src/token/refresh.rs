//! Refreshes: rotation with the grace for stale generations.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use token_broker_store::authority::{Advance, AdvanceFamily, AuthorityStore, ClientId, Family};
use tower_token_broker::{
    alarm::Alarm,
    audit::{FamilyEndCause, TokenGrant},
    clock::Timestamp,
    principal::{Initiator, Scopes},
};

use super::{
    INVALID_GRANT, NOT_STORED, TokenEndpoint, check_resource, missing,
    refresh_token::{self, RefreshToken},
    response::Issue,
    standing::{Authorization, Standing},
};
use crate::{
    authorize::without_ignored,
    client::authentication::AuthenticatedClient,
    oauth_error::{EndpointError, ErrorCode},
    params::Params,
    request::EndpointRequest,
};

/// The age of a refresh token.
enum Age {
    /// The current generation.
    Current,
    /// Superseded, and within its grace.
    Stale,
    /// Superseded before its grace, so that someone else has used it.
    Replayed,
    /// Never issued.
    Unknown,
}

impl<S: AuthorityStore> TokenEndpoint<S> {
    pub(super) async fn refresh(
        &self,
        request: &EndpointRequest,
        params: &Params,
    ) -> Result<Response<Bytes>, EndpointError> {
        let requested_at = self.broker.clock().now();
        let token = params.get("refresh_token").ok_or(missing("refresh_token is missing"))?;
        let client = self.clients.authenticate(request, params).await?;
        let token = RefreshToken::parse(token).ok_or(INVALID_GRANT)?;
        let found = self.store.family(&token.family).await.map_err(|_| NOT_STORED)?;
        let found = found.ok_or(INVALID_GRANT)?;
        // F506: the key of an ended family is erased.
        let key = found.key.as_ref().filter(|key| token.is_derived_from(key));
        let key = key.ok_or(INVALID_GRANT)?;
        let mut family = found.family;
        self.check_client(&client, &family)?;
        if family.has_ended(self.broker.clock().now()) {
            return Err(INVALID_GRANT);
        }
        let scopes = narrowed(params, &family.scopes)?;
        check_resource(params, &family.resource)?;
        self.check_family_stands(request, &family).await?;
        loop {
            let grant = match self.age(token.generation, &family) {
                Age::Unknown => return Err(INVALID_GRANT),
                Age::Replayed => {
                    // F131
                    let cause = FamilyEndCause::RefreshReplay;
                    self.end_replayed(request, &family, &client, cause).await?;
                    return Err(INVALID_GRANT);
                }
                Age::Stale => TokenGrant::StaleRefreshToken,
                Age::Current => match self.advance(&family).await? {
                    Advance::Advanced(advanced) => {
                        family = advanced;
                        TokenGrant::RefreshToken
                    }
                    // F501: another process was first. This token is stale now, or its family has
                    // ended.
                    Advance::Stale(current) => {
                        family = current;
                        continue;
                    }
                    Advance::Ended(_) | Advance::Unknown => return Err(INVALID_GRANT),
                },
            };
            self.mark_used(&client, family.last_used_at).await?;
            let issue = Issue {
                authorization: Authorization::of_family(&family),
                scopes: &scopes,
                grant,
                requested_at,
                family_ends_at: family.ends_at,
            };
            let issued = self.issue_access_token(request, &issue).await?;
            let refresh = refresh_token::derive(key, &family.id, family.generation);
            return Ok(issued.response(&refresh, &scopes, self.broker.clock().now()));
        }
    }

    /// Notes the use of a client, so that it is not removed if it registered itself, and its
    /// document is kept if it has one.
    pub(super) async fn mark_used(
        &self,
        client: &AuthenticatedClient,
        at: Timestamp,
    ) -> Result<(), EndpointError> {
        self.clients.mark_in_use(client);
        if client.is_registered() {
            let marked = self.store.mark_client_used(&ClientId::new(client.id()), at).await;
            marked.map_err(|_| NOT_STORED)?;
        }
        Ok(())
    }

    // F134
    fn check_client(
        &self,
        client: &AuthenticatedClient,
        family: &Family,
    ) -> Result<(), EndpointError> {
        if client.id() == family.client.as_str() {
            return Ok(());
        }
        tracing::warn!(
            alarm = Alarm::TokenOfAnotherClient.code(),
            family = family.id.as_str(),
            "a client presented the refresh token of another one"
        );
        Err(INVALID_GRANT)
    }

    fn age(&self, generation: u64, family: &Family) -> Age {
        let current = family.generation;
        if generation == current {
            return Age::Current;
        }
        if generation > current {
            return Age::Unknown;
        }
        let grace = self.settings.stale_generation_grace;
        // The predecessor, as long as the current generation was not used: its response may have
        // been lost, however long ago.
        if current.checked_sub(generation) == Some(1) {
            return Age::Stale;
        }
        let now = self.broker.clock().now();
        match family.superseded_at(generation) {
            Some(at) if now < at.plus(grace) => Age::Stale,
            _ => Age::Replayed,
        }
    }

    async fn advance(&self, family: &Family) -> Result<Advance, EndpointError> {
        let now = self.broker.clock().now();
        let idle_until = now.plus(self.settings.refresh_idle_lifetime);
        // The clocks of replicas differ a little.
        let kept = self.settings.stale_generation_grace.saturating_add(Duration::from_secs(60));
        let request = AdvanceFamily::new(
            family.id.clone(),
            family.generation,
            now,
            (idle_until, now.minus(kept)),
        );
        self.store.advance_family(&request).await.map_err(|_| NOT_STORED)
    }

    /// Checks that the authorization of a family is still valid. One that was revoked is ended.
    async fn check_family_stands(
        &self,
        request: &EndpointRequest,
        family: &Family,
    ) -> Result<(), EndpointError> {
        match self.standing_of(Authorization::of_family(family)).await? {
            Standing::Stands => Ok(()),
            // A block can be ended, and an account can be enabled again.
            Standing::Suspended => Err(INVALID_GRANT),
            Standing::Revoked => {
                // The revocation is forgotten after a day, the family is not.
                let (cause, by) = (FamilyEndCause::Revoked, Initiator::system("authority"));
                self.families.end(Some(request), family, cause, &by).await?;
                Err(INVALID_GRANT)
            }
        }
    }
}

/// Returns the scopes of the access token: all that were granted, or fewer.
// F133
fn narrowed(params: &Params, granted: &Scopes) -> Result<Scopes, EndpointError> {
    let Some(requested) = params.get("scope") else { return Ok(granted.clone()) };
    let refused = EndpointError::new(
        ErrorCode::InvalidScope,
        "the scope is malformed, or was not granted; leave it out to keep what was granted",
    );
    let requested = Scopes::parse(requested).map_err(|_| refused)?;
    let requested = without_ignored(&requested, granted);
    if requested.is_empty() {
        return Ok(granted.clone());
    }
    if granted.contains_all(&requested) { Ok(requested) } else { Err(refused) }
}
