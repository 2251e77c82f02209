//! The response body that masks every echo.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{Watched, search::mask};
#[cfg(feature = "grpc")]
use crate::exchange::grpc;
use crate::{alarm::Alarm, audit::Trail, body::BodyError, header_rules};

pin_project! {
    /// The response body without any echo of the credentials that were used for it.
    #[derive(Debug)]
    pub struct LeakGuardBody<R> {
        #[pin]
        inner: R,
        guard: Option<Guard>,
    }
}

#[derive(Debug)]
struct Guard {
    watched: Watched,
    trail: Trail,
    held: BytesMut,
    after_held: Option<Frame<Bytes>>,
    ended: bool,
    /// Rewrites the status that ends a gRPC response.
    #[cfg(feature = "grpc")]
    grpc: Option<grpc::End>,
}

impl<R> LeakGuardBody<R> {
    pub(crate) fn new(inner: R, watched: Watched, trail: Trail) -> Self {
        let guard = Guard {
            watched,
            trail,
            held: BytesMut::new(),
            after_held: None,
            ended: false,
            #[cfg(feature = "grpc")]
            grpc: None,
        };
        Self { inner, guard: Some(guard) }
    }

    /// Also checks the gRPC status in the trailers.
    #[cfg(feature = "grpc")]
    pub(in crate::exchange) fn of_grpc(mut self, end: grpc::End) -> Self {
        if let Some(guard) = &mut self.guard {
            guard.grpc = Some(end);
        }
        self
    }
}

// Without a credential there is nothing to guard. tower-http's timeout creates bodies by `Default`.
impl<R: Default> Default for LeakGuardBody<R> {
    fn default() -> Self {
        Self { inner: R::default(), guard: None }
    }
}

impl Guard {
    /// Returns the bytes of `data`, and of those held back before it, that may be passed on now.
    fn pass(&mut self, data: Bytes) -> Bytes {
        let few = self.watched.now();
        let all = few.as_slice();
        let is_clean = |text: &[u8]| {
            all.iter().all(|one| one.find(text, 0).is_none() && one.unfinished(text) == 0)
        };
        if self.held.is_empty() && is_clean(&data) {
            return data;
        }
        self.held.extend_from_slice(&data);
        let masked = mask(all, &mut self.held);
        self.report(masked);
        let unfinished = all.iter().map(|one| one.unfinished(&self.held)).max().unwrap_or(0);
        let whole = self.held.len() - unfinished;
        self.held.split_to(whole).freeze()
    }

    fn report(&self, masked: u64) {
        if masked > 0 {
            tracing::error!(
                alarm = Alarm::UpstreamEcho.code(),
                request.id = %self.trail.request_id(),
                times = masked,
                "the upstream echoed a credential; it was masked"
            );
            self.trail.echo_masked(masked);
        }
    }
}

impl<R: Body<Data = Bytes>> Body for LeakGuardBody<R> {
    type Data = Bytes;
    type Error = BodyError<R::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut this = self.project();
        let Some(guard) = this.guard else {
            return this.inner.poll_frame(cx).map_err(BodyError::Inner);
        };
        loop {
            if let Some(frame) = guard.after_held.take() {
                return Poll::Ready(Some(Ok(frame)));
            }
            if guard.ended {
                return Poll::Ready(None);
            }
            match ready!(this.inner.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let passed = guard.pass(data);
                        if !passed.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(passed))));
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().map(|mut fields| {
                            header_rules::remove_from_response(&mut fields);
                            guard.report(guard.watched.mask_fields(&mut fields));
                            #[cfg(feature = "grpc")]
                            if let Some(end) = &guard.grpc {
                                end.rewrite(&guard.trail, &mut fields);
                            }
                            Frame::trailers(fields)
                        });
                        let trailers = trailers.unwrap_or_else(|other| other);
                        if guard.held.is_empty() {
                            return Poll::Ready(Some(Ok(trailers)));
                        }
                        guard.after_held = Some(trailers);
                        return Poll::Ready(Some(Ok(Frame::data(guard.held.split().freeze()))));
                    }
                },
                Some(Err(error)) => {
                    guard.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Inner(error))));
                }
                None => {
                    guard.ended = true;
                    // The bytes that were held back began like a secret and were none.
                    let rest = guard.held.split().freeze();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.guard {
            Some(guard) => {
                guard.held.is_empty()
                    && guard.after_held.is_none()
                    && (guard.ended || self.inner.is_end_stream())
            }
            None => self.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        if let Some(guard) = &self.guard {
            let held = guard.held.len() as u64;
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper.saturating_add(held));
            }
            hint.set_lower(hint.lower().saturating_add(held));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{exchange::leak_guard::SecretForms, secret::Secret};

    const TOKEN: &str = "tbm-9fK2+xQ/7aLw_3nZ-pR8sVtYb1cDeGhJ";

    #[tokio::test]
    async fn held_bytes_pass_before_trailers_and_end() {
        use http_body_util::{BodyExt as _, Full};

        let (log, _) = crate::audit::AuditLog::in_memory();
        let begun = format!("so it begins: {}", TOKEN.get(..20).unwrap());
        for has_trailers in [true, false] {
            let (trail, _terminal) = Trail::for_test(&log);
            let watched = Watched::default();
            let forms = SecretForms::of(&Secret::from_text(TOKEN.to_owned())).unwrap();
            watched.add(Arc::new(forms));
            // The same credential twice is searched for once.
            watched.add(watched.now().as_slice()[0].clone());
            assert_eq!(watched.now().as_slice().len(), 1);
            let mut fields = http::HeaderMap::new();
            fields.insert("x-echo", TOKEN.parse().unwrap());
            let trailers = has_trailers.then_some(Ok(fields));
            let inner =
                Full::<Bytes>::from(begun.clone()).with_trailers(std::future::ready(trailers));
            let mut body = LeakGuardBody::new(inner, watched, trail);
            let mut text = Vec::new();
            let mut after = None;
            while let Some(frame) = body.frame().await {
                match frame.unwrap().into_data() {
                    Ok(data) => {
                        assert!(after.is_none(), "data behind trailers");
                        text.extend_from_slice(&data);
                    }
                    Err(trailers) => after = trailers.into_trailers().ok(),
                }
            }
            assert_eq!(text, begun.as_bytes());
            let echo = after.map(|fields| fields["x-echo"].clone());
            assert_eq!(echo.is_some(), has_trailers);
            assert!(echo.is_none_or(|echo| echo == "*".repeat(TOKEN.len())));
            assert!(body.frame().await.is_none(), "asked once more behind its end");
        }
    }
}
