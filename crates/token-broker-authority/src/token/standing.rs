//! Checks whether an authorization is still valid: before a code is redeemed, and at each refresh.

use token_broker_store::authority::{AuthorityStore, Code, Family};
use tower_token_broker::{
    clock::Timestamp,
    principal::{Resource, TokenTimes, User, Verified},
    refusal::Reason,
};

use super::{NOT_STORED, TokenEndpoint};
use crate::oauth_error::EndpointError;

/// An authorization of which tokens are requested.
#[derive(Clone, Copy)]
pub(super) struct Authorization<'a> {
    pub(super) user: &'a User,
    pub(super) client: &'a str,
    pub(super) resource: &'a Resource,
    pub(super) family: &'a str,
    /// When it began.
    pub(super) began: Timestamp,
}

/// Whether tokens of an authorization are issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are.
    Stands,
    /// Not while the user is blocked or the account disabled, which can be undone.
    Suspended,
    /// Never again.
    Revoked,
}

impl<'a> Authorization<'a> {
    pub(super) fn of_code(code: &'a Code) -> Self {
        Self {
            user: &code.user,
            client: code.client.as_str(),
            resource: &code.resource,
            family: code.family.as_str(),
            began: code.issued_at,
        }
    }

    pub(super) fn of_family(family: &'a Family) -> Self {
        Self {
            user: &family.user,
            client: family.client.as_str(),
            resource: &family.resource,
            family: family.id.as_str(),
            began: family.created_at,
        }
    }
}

impl<S: AuthorityStore> TokenEndpoint<S> {
    /// Returns whether an authorization is still valid: revocations, a block, a disabled account.
    ///
    /// # Errors
    /// It is not known at the moment. That costs no client its tokens.
    // F505, F507
    pub(super) async fn standing_of(
        &self,
        authorization: Authorization<'_>,
    ) -> Result<Standing, EndpointError> {
        let Authorization { user, client, resource, family, began } = authorization;
        let times = TokenTimes { id: "", issued_at: began, expires_at: self.broker.clock().now() };
        let verified = Verified::vouch(user.clone(), client, resource.clone(), times);
        match self.broker.revocations().permits(&verified.with_family(family)) {
            Ok(()) if self.is_enabled(user).await? => Ok(Standing::Stands),
            Ok(()) | Err(Reason::Blocked) => Ok(Standing::Suspended),
            Err(Reason::Revoked) => Ok(Standing::Revoked),
            Err(_) => Err(EndpointError::unavailable("revocations are not known at the moment")),
        }
    }

    /// Returns whether the account of a user is enabled. Users of other issuers have none here.
    async fn is_enabled(&self, user: &User) -> Result<bool, EndpointError> {
        if user.issuer() != &*self.issuer {
            return Ok(true);
        }
        let account = self.store.account(user.subject()).await.map_err(|_| NOT_STORED)?;
        Ok(account.is_none_or(|account| account.enabled))
    }
}
