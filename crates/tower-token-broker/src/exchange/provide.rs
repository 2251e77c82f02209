//! The trait that provides the credential for one upstream request.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode};

use super::{credential::Credential, credential::Upstream};
use crate::{
    audit::{Operation, Trail},
    principal::{Principal, Scopes},
    refusal::{Reason, Refusal},
};

/// The reasons why no credential is available. Closed: a new cause is a new variant, and the
/// compiler reports every place that must handle it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The user has no grant yet.
    #[error("no account is connected for this server; send the user to the connect page")]
    ConnectRequired,
    /// The grant does not cover what this operation needs; the user must connect again.
    #[error("the grant lacks scopes that this operation needs: {missing}")]
    ScopeRequired {
        /// The missing scopes.
        missing: Scopes,
    },
    /// The authorization server or the store is not available at the moment.
    #[error("the credential is not available at the moment; try again later")]
    Unavailable {
        /// The time after which a retry may help.
        retry_after: Option<Duration>,
    },
    /// The grant was revoked by the user, the operator or the authorization server.
    #[error("the grant was revoked; the user must connect again")]
    Revoked,
    /// The policy of the authorization server forbids it; connecting again does not help.
    #[error("the authorization server's policy forbids it")]
    RefusedByPolicy,
}

impl CredentialError {
    /// Returns the refusal that the caller receives.
    pub fn to_refusal(&self) -> Refusal {
        match self {
            Self::ConnectRequired => Refusal::new(Reason::ConnectRequired),
            Self::ScopeRequired { .. } => Refusal::new(Reason::UpstreamScopeRequired),
            Self::Revoked => Refusal::new(Reason::GrantRevoked),
            Self::Unavailable { retry_after } => {
                let refusal = Refusal::new(Reason::CredentialUnavailable);
                match retry_after {
                    Some(wait) => refusal.retry_after(*wait),
                    None => refusal,
                }
            }
            Self::RefusedByPolicy => Refusal::new(Reason::AuthorizationServerPolicy),
        }
    }
}

/// A request for one credential.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CredentialRequest<'a> {
    /// The user for whom the request is sent.
    pub caller: &'a Principal,
    /// The account that the caller chose, where a user has several at one server.
    pub account: Option<&'a str>,
    /// The upstream scopes that the rule needs, in addition to the operator's.
    pub scopes: &'a Scopes,
    /// The operation that the client requested.
    pub operation: &'a Operation,
    /// The trail in which a use of a secret (a refresh token) is recorded before it.
    pub trail: &'a Trail,
}

impl<'a> CredentialRequest<'a> {
    /// Creates a request for this caller and these scopes; the account is that of the broker token.
    pub fn new(
        caller: &'a Principal,
        scopes: &'a Scopes,
        operation: &'a Operation,
        trail: &'a Trail,
    ) -> Self {
        Self { caller, account: caller.account(), scopes, operation, trail }
    }
}

/// The refusal of a credential by the upstream.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct UpstreamRefusal<'a> {
    /// The credential.
    pub credential: &'a Credential,
    /// The status of the response: 401, or 200 with a gRPC status of its own.
    pub status: StatusCode,
    /// The challenge of the response (`WWW-Authenticate`), if it had one.
    pub challenge: Option<&'a HeaderValue>,
    /// The user for whom the request was sent, and the trail of the request, if they are known.
    pub request: Option<(&'a Principal, &'a Trail)>,
}

impl<'a> UpstreamRefusal<'a> {
    /// Creates the refusal of this credential with a 401.
    pub const fn new(credential: &'a Credential) -> Self {
        Self { credential, status: StatusCode::UNAUTHORIZED, challenge: None, request: None }
    }

    /// Sets status and challenge of the response.
    #[must_use = "returns the changed request"]
    pub const fn response(
        mut self,
        status: StatusCode,
        challenge: Option<&'a HeaderValue>,
    ) -> Self {
        self.status = status;
        self.challenge = challenge;
        self
    }

    /// Sets the user for whom the request was sent, and its trail.
    #[must_use = "returns the changed request"]
    pub const fn request(mut self, caller: &'a Principal, trail: &'a Trail) -> Self {
        self.request = Some((caller, trail));
        self
    }
}

/// Provides the credential for one upstream request, and handles its refusal by the upstream.
/// Sources: stored grants, a static secret, your own.
pub trait ProvideCredential: Send + Sync + 'static {
    /// Returns the only upstream to which these credentials and their requests are sent.
    fn upstream(&self) -> &Upstream;

    /// Returns a credential that is available without waiting; by default none. It must be this
    /// caller's, stay valid for at least a moment, and cover the scopes of the rule in addition to
    /// the operator's.
    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        let _ = request;
        None
    }

    /// Provides the credential: from the store, refreshed, exchanged. A source that uses a secret
    /// for it (a refresh token) first lets the trail record that intent.
    ///
    /// # Errors
    /// The reason why no credential is available.
    ///
    /// # Cancellation
    /// May be dropped at any await. Work that must finish (a refresh) runs in an owned task.
    fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> impl Future<Output = Result<Credential, CredentialError>> + Send;

    /// Handles an upstream 401. Invalidates only the version that the credential names, so that a
    /// hundred refusals at once cause one refresh. The exchange layer waits for it at most as long
    /// as for a credential.
    ///
    /// # Cancellation
    /// As for [`ProvideCredential::credential`].
    fn refused(&self, refusal: &UpstreamRefusal<'_>) -> impl Future<Output = ()> + Send;

    /// Returns the page where this caller connects an account, bound to the caller, without
    /// waiting; by default none. It is called whenever the caller must connect: there is no grant,
    /// it was revoked or refused, or it has too few scopes.
    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        let _ = caller;
        None
    }

    /// Returns the page where this caller connects an account with these scopes in addition, those
    /// that a rule needs; by default [`connect_url`](ProvideCredential::connect_url).
    fn step_up_url(&self, caller: &Principal, scopes: &Scopes) -> Option<Box<str>> {
        let _ = scopes;
        self.connect_url(caller)
    }
}

impl<P: ProvideCredential> ProvideCredential for Arc<P> {
    fn upstream(&self) -> &Upstream {
        P::upstream(self)
    }

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        P::recall(self, request)
    }

    fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> impl Future<Output = Result<Credential, CredentialError>> + Send {
        P::credential(self, request)
    }

    fn refused(&self, refusal: &UpstreamRefusal<'_>) -> impl Future<Output = ()> + Send {
        P::refused(self, refusal)
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        P::connect_url(self, caller)
    }

    fn step_up_url(&self, caller: &Principal, scopes: &Scopes) -> Option<Box<str>> {
        P::step_up_url(self, caller, scopes)
    }
}

/// A credential source whose type is erased, for programs that choose one by configuration and for
/// lists of different sources. Cheap to clone.
#[derive(Clone)]
pub struct BoxProvideCredential(Arc<dyn ErasedProvideCredential>);

impl BoxProvideCredential {
    /// Erases the type of a source.
    pub fn new(source: impl ProvideCredential) -> Self {
        Self(Arc::new(source))
    }
}

impl fmt::Debug for BoxProvideCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxProvideCredential").field(self.0.upstream()).finish()
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

trait ErasedProvideCredential: Send + Sync {
    fn upstream(&self) -> &Upstream;
    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential>;
    fn credential<'a>(
        &'a self,
        request: &'a CredentialRequest<'_>,
    ) -> Boxed<'a, Result<Credential, CredentialError>>;
    fn refused<'a>(&'a self, refusal: &'a UpstreamRefusal<'_>) -> Boxed<'a, ()>;
    fn connect_url(&self, caller: &Principal) -> Option<Box<str>>;
    fn step_up_url(&self, caller: &Principal, scopes: &Scopes) -> Option<Box<str>>;
}

impl<P: ProvideCredential> ErasedProvideCredential for P {
    fn upstream(&self) -> &Upstream {
        P::upstream(self)
    }

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        P::recall(self, request)
    }

    fn credential<'a>(
        &'a self,
        request: &'a CredentialRequest<'_>,
    ) -> Boxed<'a, Result<Credential, CredentialError>> {
        Box::pin(P::credential(self, request))
    }

    fn refused<'a>(&'a self, refusal: &'a UpstreamRefusal<'_>) -> Boxed<'a, ()> {
        Box::pin(P::refused(self, refusal))
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        P::connect_url(self, caller)
    }

    fn step_up_url(&self, caller: &Principal, scopes: &Scopes) -> Option<Box<str>> {
        P::step_up_url(self, caller, scopes)
    }
}

impl ProvideCredential for BoxProvideCredential {
    fn upstream(&self) -> &Upstream {
        self.0.upstream()
    }

    fn recall(&self, request: &CredentialRequest<'_>) -> Option<Credential> {
        self.0.recall(request)
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        self.0.credential(request).await
    }

    async fn refused(&self, refusal: &UpstreamRefusal<'_>) {
        self.0.refused(refusal).await;
    }

    fn connect_url(&self, caller: &Principal) -> Option<Box<str>> {
        self.0.connect_url(caller)
    }

    fn step_up_url(&self, caller: &Principal, scopes: &Scopes) -> Option<Box<str>> {
        self.0.step_up_url(caller, scopes)
    }
}
