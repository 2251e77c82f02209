//! The decision, from top to bottom.

use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{
    CutBody, PresentedToken, ResponseFuture, VerifyToken,
    future::{Guarded, Refuser},
    head,
    layer::Recipe,
    verdicts::{Admitted, Refused},
};
use crate::{
    audit::Trail, body::ResponseBody, dialect::Dialect, principal::Principal, refusal::Reason, revocation::Standing,
};

/// Made by [`AuthenticateLayer`](super::AuthenticateLayer).
pub struct Authenticate<S, V> {
    inner: S,
    verifier: Arc<V>,
    recipe: Arc<Recipe>,
}

impl<S, V> Authenticate<S, V> {
    pub(super) const fn new(inner: S, verifier: Arc<V>, recipe: Arc<Recipe>) -> Self {
        Self { inner, verifier, recipe }
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let recipe = &self.recipe;
        let dialect = Dialect::of(&request); // how this client wants a refusal said
        let trail = request.extensions().get::<Trail>().cloned();
        let refuser = Refuser::new(dialect, recipe, trail.clone());
        let Some(trail) = trail else {
            tracing::error!("the audit layer is missing: put AuditLayer outside of AuthenticateLayer");
            return ResponseFuture::refused(refuser.refuse(Reason::MissingLayer));
        };
        // What only this layer may put there was put there by somebody else: it goes.
        request.extensions_mut().remove::<Principal>();
        request.extensions_mut().remove::<Standing>();
        if let Err(reason) = head::admit(&request).and_then(|()| recipe.visitors.admit(&request)) {
            return ResponseFuture::refused(refuser.refuse(reason));
        }
        // Taken off first, so that no service further in, ours or not, can meet or forward it.
        let token = match PresentedToken::take_off(&mut request) {
            Ok(token) => token,
            Err(reason) => return ResponseFuture::refused(refuser.refuse(reason)),
        };
        // N260: a replica that may have missed a revoke trusts nothing.
        if let Err(reason) = recipe.revocations.fresh() {
            return ResponseFuture::refused(refuser.refuse(reason));
        }
        let known = recipe.verdicts.recall(&token, &recipe.clock, &recipe.revocations).or_else(|| {
            let recalled = self.verifier.recall(&token, &recipe.resource)?;
            Some(recipe.judge(&token, recalled))
        });
        match known {
            // A token seen before: no await, no box.
            Some(Ok(admitted)) => {
                let guarded = recipe.admit(&mut request, &admitted, trail);
                ResponseFuture::inner(self.inner.call(request), guarded, refuser)
            }
            Some(Err(refused)) => ResponseFuture::refused(refuser.refuse_token(&refused)),
            // The service that was polled ready goes along, its clone stays.
            None => {
                let unready = self.inner.clone();
                let ready = mem::replace(&mut self.inner, unready);
                let (verifier, of_future) = (Arc::clone(&self.verifier), Arc::clone(recipe));
                let verdict = Box::pin(async move {
                    let found = verifier.verify(&token, &of_future.resource).await;
                    of_future.judge(&token, found)
                });
                ResponseFuture::verifying(verdict, ready, request, Arc::clone(recipe), trail, refuser)
            }
        }
    }
}

impl Recipe {
    fn judge(
        &self,
        token: &PresentedToken,
        found: Result<crate::principal::Verified, super::VerifyError>,
    ) -> Result<Admitted, Refused> {
        self.verdicts.judge(token, found, &self.resource, &self.clock, &self.revocations)
    }

    /// Writes down who it is, for the services further in and for the record; from here on a revoke cuts the answer.
    pub(super) fn admit<B>(&self, request: &mut Request<B>, admitted: &Admitted, trail: Trail) -> Guarded {
        let standing =
            Standing::new(&self.revocations, &self.clock, &admitted.principal, admitted.epoch, admitted.ends_at);
        trail.identified(&admitted.principal);
        request.extensions_mut().insert(admitted.principal.clone());
        request.extensions_mut().insert(standing.clone());
        Guarded::new(standing, trail)
    }
}

impl<S: Clone, V> Clone for Authenticate<S, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), verifier: Arc::clone(&self.verifier), recipe: Arc::clone(&self.recipe) }
    }
}

impl<S, V> fmt::Debug for Authenticate<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticate").field("resource", &self.recipe.resource).finish_non_exhaustive()
    }
}
