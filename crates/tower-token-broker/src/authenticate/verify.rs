//! The trait that verifies a presented token, and the types in its signature.

use std::{fmt, pin::Pin, sync::Arc};

use http::{Extensions, Method, Uri};

use crate::{
    clock::Clock,
    inbound::PeerCertificate,
    principal::{Resource, Verified},
    refusal::Reason,
    secret::Secret,
};

/// A token as a client presented it: removed from the request, hashed once, never printed.
#[derive(Clone)]
pub struct PresentedToken(Arc<Presented>);

struct Presented {
    secret: Secret,
    digest: [u8; 32],
}

impl PresentedToken {
    /// Takes the bytes of a token and computes their SHA-256 hash.
    pub fn new(secret: Secret) -> Self {
        #[expect(clippy::disallowed_methods, reason = "only its digest is used as a key")]
        let hashed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.expose());
        let mut digest = [0; 32];
        digest.copy_from_slice(hashed.as_ref());
        Self(Arc::new(Presented { secret, digest }))
    }

    /// Returns the token itself.
    pub fn secret(&self) -> &Secret {
        &self.0.secret
    }

    /// Returns the SHA-256 hash of the whole token: the key for anything that is cached about it.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }
}

impl fmt::Debug for PresentedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresentedToken")
    }
}

/// The reasons why a token is refused, or cannot be verified at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token was refused: {}", reason.code())]
pub struct VerifyError {
    reason: Reason,
    remember: bool,
}

impl VerifyError {
    /// Refuses because of these bytes (and the client certificate): the verdict may be cached for a
    /// few seconds.
    pub const fn because(reason: Reason) -> Self {
        Self { reason, remember: true }
    }

    /// Refuses for now, because keys are unavailable or the token is not valid yet. Nothing is
    /// cached.
    pub const fn for_now(reason: Reason) -> Self {
        Self { reason, remember: false }
    }

    /// Returns the reason.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns whether the verdict may be cached, because the same bytes will be refused again.
    pub const fn may_be_remembered(&self) -> bool {
        self.remember
    }
}

/// One token to verify, and the request that presented it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct VerifyRequest<'a> {
    /// The token.
    pub token: &'a PresentedToken,
    /// The protected resource for which it must be issued.
    pub resource: &'a Resource,
    /// The clock of the broker, which decides about `exp`, `nbf` and `iat`.
    pub clock: &'a Clock,
    /// The method of the request.
    pub method: &'a Method,
    /// The URI of the request, before a router removed a prefix (feature `axum`).
    pub uri: &'a Uri,
    /// The certificate of the client, with mutual TLS.
    pub peer_certificate: Option<&'a PeerCertificate>,
}

impl<'a> VerifyRequest<'a> {
    /// Creates a request for a token without an HTTP request: `GET /`, and no certificate.
    pub fn new(token: &'a PresentedToken, resource: &'a Resource, clock: &'a Clock) -> Self {
        static ROOT: std::sync::LazyLock<Uri> = std::sync::LazyLock::new(|| Uri::from_static("/"));
        Self { token, resource, clock, method: &Method::GET, uri: &ROOT, peer_certificate: None }
    }

    /// Sets the method and URI of the request.
    #[must_use = "returns the changed request"]
    pub const fn request(mut self, method: &'a Method, uri: &'a Uri) -> Self {
        self.method = method;
        self.uri = uri;
        self
    }

    /// Sets what the server recorded about the connection.
    pub(crate) fn connection(mut self, extensions: &'a Extensions) -> Self {
        self.peer_certificate = extensions.get();
        self
    }
}

/// Verifies presented tokens for a resource: JWT, introspection, your own.
///
/// The authenticate layer caches the results per stack, by the hash of the whole token and the
/// client certificate, except [`Verified::for_this_request`] and [`VerifyError::for_now`]. It also
/// compares the certificate with the one that the token names, checks revocation, and compares
/// [`Verified::resource`] with its own. A verifier does none of these. A token that is valid for
/// longer than [`Revocations::RETENTION`](crate::revocation::Revocations::RETENTION) is refused
/// (`jwt.lifetime`), because a revocation is not kept that long.
pub trait VerifyToken: Send + Sync + 'static {
    /// Returns a result that is available without waiting; by default none. For verifiers with
    /// their own cache.
    fn recall(&self, request: &VerifyRequest<'_>) -> Option<Result<Verified, VerifyError>> {
        let _ = request;
        None
    }

    /// Verifies the token. After
    /// [`Limits::verify_timeout`](crate::limits::Limits::verify_timeout) the call is dropped, and
    /// the request is refused with 503 (`authn.verifier_timeout`).
    ///
    /// # Errors
    /// The reason why the token is not accepted.
    ///
    /// # Cancellation
    /// May be dropped at any await; work that must finish (a fetch of keys) belongs in an owned
    /// task.
    fn verify(
        &self,
        request: &VerifyRequest<'_>,
    ) -> impl Future<Output = Result<Verified, VerifyError>> + Send;

    /// Returns the issuers to name in the protected-resource metadata (RFC 9728 §2). By default
    /// there are none, and the stack must name one.
    fn authorization_servers(&self) -> &[Box<str>] {
        &[]
    }
}

impl<V: VerifyToken> VerifyToken for Arc<V> {
    fn recall(&self, request: &VerifyRequest<'_>) -> Option<Result<Verified, VerifyError>> {
        V::recall(self, request)
    }

    fn verify(
        &self,
        request: &VerifyRequest<'_>,
    ) -> impl Future<Output = Result<Verified, VerifyError>> + Send {
        V::verify(self, request)
    }

    fn authorization_servers(&self) -> &[Box<str>] {
        V::authorization_servers(self)
    }
}

/// A verifier whose type is erased, for programs that choose one by configuration. Cheap to clone.
#[derive(Clone)]
pub struct BoxVerifyToken(Arc<dyn Erased>);

impl BoxVerifyToken {
    /// Erases the type of a verifier.
    pub fn new(verifier: impl VerifyToken) -> Self {
        Self(Arc::new(verifier))
    }
}

type Verifying<'a> = Pin<Box<dyn Future<Output = Result<Verified, VerifyError>> + Send + 'a>>;

trait Erased: Send + Sync {
    fn recall(&self, request: &VerifyRequest<'_>) -> Option<Result<Verified, VerifyError>>;
    fn verify<'a>(&'a self, request: &'a VerifyRequest<'_>) -> Verifying<'a>;
    fn authorization_servers(&self) -> &[Box<str>];
}

impl<V: VerifyToken> Erased for V {
    fn recall(&self, request: &VerifyRequest<'_>) -> Option<Result<Verified, VerifyError>> {
        VerifyToken::recall(self, request)
    }

    fn verify<'a>(&'a self, request: &'a VerifyRequest<'_>) -> Verifying<'a> {
        Box::pin(VerifyToken::verify(self, request))
    }

    fn authorization_servers(&self) -> &[Box<str>] {
        VerifyToken::authorization_servers(self)
    }
}

impl VerifyToken for BoxVerifyToken {
    fn recall(&self, request: &VerifyRequest<'_>) -> Option<Result<Verified, VerifyError>> {
        self.0.recall(request)
    }

    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        self.0.verify(request).await
    }

    fn authorization_servers(&self) -> &[Box<str>] {
        self.0.authorization_servers()
    }
}

impl fmt::Debug for BoxVerifyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxVerifyToken")
    }
}
