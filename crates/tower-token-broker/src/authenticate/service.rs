//! The `Service`: authenticates a request before calling the inner service.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    CutBody, PresentedToken, ResponseFuture, VerifyError, VerifyRequest, VerifyToken,
    body::Guarded,
    cors, head_limits,
    layer::Shared,
    refuser::Refuser,
    verdict_cache::{Admitted, RefusedToken, VerdictKey},
};
use crate::{
    alarm::Alarm,
    audit::Trail,
    body::ResponseBody,
    dialect::Dialect,
    inbound::{self, PeerCertificate},
    principal::{Confirmation, Principal, Verified},
    refusal::Reason,
    revocation::Standing,
};

/// The service that [`AuthenticateLayer`](super::AuthenticateLayer) creates.
pub struct Authenticate<S, V> {
    inner: S,
    verifier: Arc<V>,
    shared: Arc<Shared>,
}

impl<S, V> Authenticate<S, V> {
    pub(super) const fn new(inner: S, verifier: Arc<V>, shared: Arc<Shared>) -> Self {
        Self { inner, verifier, shared }
    }
}

impl<S, V, B, R> Service<Request<B>> for Authenticate<S, V>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    V: VerifyToken,
    R: Body<Data = Bytes>,
{
    type Response = Response<ResponseBody<CutBody<R>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let page = self.shared.allowed_hosts.page(&request);
        self.respond(request).to(page)
    }
}

impl<S, V> Authenticate<S, V> {
    fn respond<B, R>(&mut self, mut request: Request<B>) -> ResponseFuture<S, B>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        V: VerifyToken,
        R: Body<Data = Bytes>,
    {
        let shared = &self.shared;
        let dialect = Dialect::of(&request); // how this client receives refusals
        let trail = request.extensions().get::<Trail>().cloned();
        let refuser = Refuser::new(dialect, shared, trail.clone());
        let Some(trail) = trail else {
            tracing::error!(
                alarm = Alarm::LayerMissing.code(),
                missing = "audit",
                "the audit layer is missing: put AuditLayer outside of AuthenticateLayer"
            );
            return ResponseFuture::refused(refuser.refuse(Reason::MissingLayer));
        };
        // Remove any forged extension; only this layer may insert it.
        request.extensions_mut().remove::<Principal>();
        request.extensions_mut().remove::<Standing>();
        if let Err(reason) =
            head_limits::admit(&request).and_then(|()| shared.allowed_hosts.admit(&request))
        {
            return ResponseFuture::refused(refuser.refuse(reason));
        }
        if let Some(response) = cors::preflight(&request) {
            return ResponseFuture::ready(response);
        }
        // N467: hyper hands a connection over whatever the status of the response.
        inbound::forbid_upgrade(&mut request);
        // Removed first, so that no inner service can see or forward it.
        let token = match PresentedToken::take(&mut request) {
            Ok(token) => token,
            Err(reason) => return ResponseFuture::refused(refuser.refuse(reason)),
        };
        // N260: a replica that may have missed a revocation accepts nothing, and a process that
        // shuts down starts nothing.
        if let Err(reason) = shared.revocations.admits() {
            return ResponseFuture::refused(refuser.refuse(reason));
        }
        let certificate = request.extensions().get::<PeerCertificate>();
        let key = VerdictKey::new(&token, certificate);
        let known =
            shared.verdicts.recall(&key, &shared.clock, &shared.revocations).or_else(|| {
                let recalled = self.verifier.recall(&shared.verify_request(&token, &request))?;
                Some(shared.judge(&key, recalled))
            });
        let known = known.map(|verdict| confirmed(verdict, certificate));
        match known {
            // A cached verdict: no await, no box.
            Some(Ok(admitted)) => match shared.admit(&mut request, &admitted, trail) {
                Ok(guarded) => ResponseFuture::inner(self.inner.call(request), guarded, refuser),
                Err(reason) => ResponseFuture::refused(refuser.refuse(reason)),
            },
            Some(Err(refused)) => ResponseFuture::refused(refuser.refuse_token(&refused)),
            // The future takes the service that was polled ready; its clone stays.
            None => {
                let unready = self.inner.clone();
                let ready = mem::replace(&mut self.inner, unready);
                let (verifier, of_future) = (Arc::clone(&self.verifier), Arc::clone(shared));
                // The future below takes the request, so these are copied for the verifier.
                let (method, uri) =
                    (request.method().clone(), inbound::original_uri(&request).clone());
                let certificate = certificate.cloned();
                let verdict = Box::pin(async move {
                    let Shared { resource, clock, .. } = &*of_future;
                    let mut asked =
                        VerifyRequest::new(&token, resource, clock).request(&method, &uri);
                    asked.peer_certificate = certificate.as_ref();
                    let found = of_future.bounded(verifier.verify(&asked)).await;
                    let verdict = of_future.judge(&key, found);
                    // The process may have begun to shut down during the verification.
                    of_future.revocations.admits().map_err(RefusedToken::from)?;
                    confirmed(verdict, certificate.as_ref())
                });
                ResponseFuture::verifying(
                    verdict,
                    ready,
                    request,
                    Arc::clone(shared),
                    trail,
                    refuser,
                )
            }
        }
    }
}

impl Shared {
    fn verify_request<'a, B>(
        &'a self,
        token: &'a PresentedToken,
        request: &'a Request<B>,
    ) -> VerifyRequest<'a> {
        VerifyRequest::new(token, &self.resource, &self.clock)
            .request(request.method(), inbound::original_uri(request))
            .connection(request.extensions())
    }

    /// Bounds a verification, so that one that hangs refuses its request.
    async fn bounded(
        &self,
        verifying: impl Future<Output = Result<Verified, VerifyError>>,
    ) -> Result<Verified, VerifyError> {
        // N405
        tokio::time::timeout(self.verify_timeout, verifying).await.unwrap_or_else(|_| {
            tracing::error!(
                alarm = Alarm::VerifierTimeout.code(),
                resource = self.resource.as_str(),
                timeout = ?self.verify_timeout,
                "the verifier did not verify a token in time"
            );
            Err(VerifyError::for_now(Reason::VerifierTimeout))
        })
    }

    fn judge(
        &self,
        key: &VerdictKey,
        found: Result<Verified, VerifyError>,
    ) -> Result<Admitted, RefusedToken> {
        self.verdicts.judge(key, found, &self.resource, &self.clock, &self.revocations)
    }

    /// Inserts the caller into the request and the trail. From here on, a revocation cuts the
    /// response. Fails if the audit log has no place for another request of this user.
    pub(super) fn admit<B>(
        &self,
        request: &mut Request<B>,
        admitted: &Admitted,
        trail: Trail,
    ) -> Result<Guarded, Reason> {
        trail.admitted(&admitted.principal)?;
        let standing = Standing::new(
            &self.revocations,
            &self.clock,
            &admitted.principal,
            admitted.epoch,
            admitted.ends_at,
        );
        request.extensions_mut().insert(admitted.principal.clone());
        request.extensions_mut().insert(standing.clone());
        Ok(Guarded::new(standing, trail))
    }
}

/// Checks the certificate of each request: a verdict is about the token, the proof is the client's.
fn confirmed(
    verdict: Result<Admitted, RefusedToken>,
    certificate: Option<&PeerCertificate>,
) -> Result<Admitted, RefusedToken> {
    let admitted = verdict?;
    let is_confirmed = match admitted.principal.confirmation() {
        None => true,
        Some(Confirmation::CertificateThumbprint(thumbprint)) => certificate
            .is_some_and(|found| *URL_SAFE_NO_PAD.encode(found.thumbprint()) == **thumbprint),
        // A bearer token has no such proof (RFC 9449 §7.1).
        Some(Confirmation::JwkThumbprint(_)) => false,
    };
    if is_confirmed {
        return Ok(admitted);
    }
    Err(RefusedToken::known(Reason::ConfirmationFailed, &admitted.principal))
}

impl<S: Clone, V> Clone for Authenticate<S, V> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            verifier: Arc::clone(&self.verifier),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, V> fmt::Debug for Authenticate<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate")
            .field("resource", &self.shared.resource)
            .finish_non_exhaustive()
    }
}
