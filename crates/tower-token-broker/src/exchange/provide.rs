//! The trait that gives the credential for one upstream request.

use std::{sync::Arc, time::Duration};

use super::{credential::Credential, credential::Upstream};
use crate::{
    audit::Trail,
    principal::{Principal, Scopes},
    refusal::{Reason, Refusal},
};

/// Why no credential can be given. Closed: a new cause is a new variant, and the compiler shows every place that must
/// answer it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The user has no grant yet.
    #[error("no account is connected for this server; send the user to the connect page")]
    ConnectRequired {
        /// Where to connect, if it is not where [`ProvideCredential::connect_url`] says.
        connect_url: Option<Box<str>>,
    },
    /// The grant does not cover what this operation needs; the user must connect again.
    #[error("the grant lacks scopes that this operation needs: {missing}")]
    ScopeRequired {
        /// What is missing.
        missing: Scopes,
        /// Where to connect, if it is not where [`ProvideCredential::connect_url`] says.
        connect_url: Option<Box<str>>,
    },
    /// The authorization server or the store can't be asked at the moment.
    #[error("the credential can't be had at the moment; try again later")]
    Unavailable {
        /// When trying again may help.
        retry_after: Option<Duration>,
    },
    /// The grant was ended: by the user, the operator or the authorization server.
    #[error("the grant was revoked; the user must connect again")]
    Revoked {
        /// Where to connect, if it is not where [`ProvideCredential::connect_url`] says.
        connect_url: Option<Box<str>>,
    },
    /// The authorization server's policy forbids it; connecting again does not help.
    #[error("the authorization server's policy forbids it")]
    RefusedByPolicy,
}

impl CredentialError {
    /// As the caller is told.
    pub fn to_refusal(&self) -> Refusal {
        let (reason, connect_url) = match self {
            Self::ConnectRequired { connect_url } => (Reason::ConnectRequired, connect_url),
            Self::ScopeRequired { connect_url, .. } => (Reason::UpstreamScopeRequired, connect_url),
            Self::Revoked { connect_url } => (Reason::GrantRevoked, connect_url),
            Self::Unavailable { retry_after } => {
                let refusal = Refusal::new(Reason::CredentialUnavailable);
                return match retry_after {
                    Some(wait) => refusal.retry_after(*wait),
                    None => refusal,
                };
            }
            Self::RefusedByPolicy => (Reason::AuthorizationServerPolicy, &None),
        };
        match connect_url {
            Some(url) => Refusal::new(reason).connect_at(url),
            None => Refusal::new(reason),
        }
    }
}

/// Gives the credential for one upstream request, and hears when the upstream refused it: stored grants, a static
/// secret, yours.
pub trait ProvideCredential: Send + Sync + 'static {
    /// The one upstream that these credentials are for: requests are sent there, and nowhere else.
    fn upstream(&self) -> &Upstream;

    /// What is at hand without waiting; by default nothing. Only a credential that is good for at least a moment more,
    /// of this caller, that covers `need`: the scopes of the rule, beside the operator's own.
    fn recall(&self, caller: &Principal, need: &Scopes) -> Option<Credential> {
        let (_, _) = (caller, need);
        None
    }

    /// Gets the credential: from the store, refreshed, exchanged. A provider that uses a secret to get it (a refresh
    /// token) has the `trail` write that intent first.
    ///
    /// # Errors
    /// Why there is none.
    ///
    /// # Cancellation
    /// May be dropped at any await: what must finish (a refresh) runs in an owned task.
    fn credential(
        &self,
        caller: &Principal,
        need: &Scopes,
        trail: &Trail,
    ) -> impl Future<Output = Result<Credential, CredentialError>> + Send;

    /// The upstream refused this credential (401). Ends only the version it names: a hundred at once are one refresh.
    /// It is waited for as long as for a credential, and the request goes on.
    ///
    /// # Cancellation
    /// As for [`ProvideCredential::credential`].
    fn refused(&self, credential: &Credential) -> impl Future<Output = ()> + Send;

    /// The page where this caller connects an account, bound to the caller; by default there is none. Asked for whatever
    /// the caller must connect for: no grant, one that was ended or refused, or one with too few scopes. It answers at once.
    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        let _ = caller;
        None
    }
}

impl<P: ProvideCredential> ProvideCredential for Arc<P> {
    fn upstream(&self) -> &Upstream {
        P::upstream(self)
    }

    fn recall(&self, caller: &Principal, need: &Scopes) -> Option<Credential> {
        P::recall(self, caller, need)
    }

    fn credential(
        &self,
        caller: &Principal,
        need: &Scopes,
        trail: &Trail,
    ) -> impl Future<Output = Result<Credential, CredentialError>> + Send {
        P::credential(self, caller, need, trail)
    }

    fn refused(&self, credential: &Credential) -> impl Future<Output = ()> + Send {
        P::refused(self, credential)
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        P::connect_url(self, caller)
    }
}
