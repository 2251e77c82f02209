//! The response body that masks every echo.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    Framing, Watched,
    lists::{is_of_list, list_at_end},
    mask::mask,
    search::{Hit, LONGEST_FORM, Search},
};
#[cfg(feature = "grpc")]
use crate::exchange::grpc;
use crate::{audit::Trail, body::BodyError, exchange::headers::ReturnedFields};

pin_project! {
    /// The response body without any credential: those that were used for it, and those of others.
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
    framing: Framing,
    /// The last run of characters that may be a part of a secret.
    held: BytesMut,
    /// Whether all of it is a list of numbers.
    holds_list: bool,
    after_held: Option<Frame<Bytes>>,
    ended: bool,
    /// The trailers that pass.
    fields: ReturnedFields,
    /// Rewrites the status that ends a gRPC response.
    #[cfg(feature = "grpc")]
    grpc: Option<grpc::End>,
}

impl<R> LeakGuardBody<R> {
    pub(crate) fn new(inner: R, framing: Framing, watched: Watched, trail: Trail) -> Self {
        let guard = Guard {
            watched,
            trail,
            framing,
            held: BytesMut::new(),
            holds_list: false,
            after_held: None,
            ended: false,
            fields: ReturnedFields::ToHandler,
            #[cfg(feature = "grpc")]
            grpc: None,
        };
        Self { inner, guard: Some(guard) }
    }

    /// Lets only these trailers pass.
    pub(in crate::exchange) fn returning(mut self, fields: ReturnedFields) -> Self {
        if let Some(guard) = &mut self.guard {
            guard.fields = fields;
        }
        self
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
    fn pass(&mut self, mut data: Bytes) -> Bytes {
        let after_border = self.framing.after_border(&data);
        let watched = self.watched.clone();
        let used = watched.used();
        let search = watched.search(&used);
        if self.held.is_empty() {
            let hits = search.hits(&data, self.watched.user());
            if hits.is_empty() {
                let held = self.to_hold(&search, &data, after_border);
                let passed = data.len() - held;
                self.hold(data.get(passed..).unwrap_or_default());
                data.truncate(passed);
                return data;
            }
            self.held.extend_from_slice(&data);
            return self.mask_and_pass(&search, &hits, after_border);
        }
        let known = self.held.len();
        self.held.extend_from_slice(&data);
        // I445: the bytes of a run are searched once, however small its chunks are.
        if after_border.is_none()
            && self.held.len() <= 2 * LONGEST_FORM
            && (self.continues_list(known)
                || (known..self.held.len()).all(|at| search.joins(&self.held, at)))
        {
            return Bytes::new();
        }
        let hits = search.hits(&self.held, self.watched.user());
        self.mask_and_pass(&search, &hits, after_border)
    }

    /// Masks the hits in the available bytes and returns those that may be passed on. A hit in the
    /// run at the end is held back unmasked, because the rest of the secret may follow.
    fn mask_and_pass(
        &mut self,
        search: &Search<'_>,
        hits: &[Hit],
        after_border: Option<usize>,
    ) -> Bytes {
        let length = self.held.len();
        let held = self.to_hold(search, &self.held, after_border);
        let mut passed = length - held;
        if held > 0 && !hits.is_empty() {
            let after = self.framing.after_event(&self.held, length);
            let border = length - after.min(after_border.unwrap_or(length));
            for hit in hits.iter().rev().filter(|hit| hit.start >= border) {
                if hit.end > passed {
                    passed = passed.min(hit.start);
                }
            }
        }
        let whole: Vec<Hit> = hits.iter().filter(|hit| hit.start < passed).copied().collect();
        mask(&mut self.held, &whole).report(&self.trail);
        let passed = self.held.split_to(passed).freeze();
        self.holds_list = list_at_end(&self.held) == self.held.len();
        passed
    }

    fn hold(&mut self, data: &[u8]) {
        self.held.extend_from_slice(data);
        self.holds_list = list_at_end(data) == data.len();
    }

    fn continues_list(&self, known: usize) -> bool {
        let new = self.held.get(known..).unwrap_or_default();
        self.holds_list && new.iter().all(|byte| is_of_list(*byte))
    }

    /// Returns how many bytes at the end of `text` are held back: a run that may continue, but
    /// nothing before a border.
    fn to_hold(&self, search: &Search<'_>, text: &[u8], after_border: Option<usize>) -> usize {
        let held = search.unfinished(text).min(after_border.unwrap_or(usize::MAX));
        self.framing.after_event(text, held)
    }

    /// Returns the bytes that were held back, at the end of the body.
    fn rest(&mut self) -> Bytes {
        let used = self.watched.used();
        let hits = self.watched.search(&used).hits(&self.held, self.watched.user());
        mask(&mut self.held, &hits).report(&self.trail);
        self.held.split().freeze()
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
                            guard.watched.mask_fields(&mut fields, &guard.trail);
                            guard.fields.retain_in(&mut fields);
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
                        return Poll::Ready(Some(Ok(Frame::data(guard.rest()))));
                    }
                },
                Some(Err(error)) => {
                    guard.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Inner(error))));
                }
                None => {
                    guard.ended = true;
                    let rest = guard.rest();
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
    use crate::{exchange::leak_guard::SecretTails, secret::Secret};

    const TOKEN: &str = "tbm-9fK2+xQ/7aLw_3nZ-pR8sVtYb1cDeGhJ";

    #[tokio::test]
    async fn held_bytes_pass_before_trailers_and_end() {
        use http_body_util::{BodyExt as _, Full};

        let (log, _) = crate::audit::AuditLog::in_memory();
        let begun = format!("so it begins: {}", TOKEN.get(..20).unwrap());
        for has_trailers in [true, false] {
            let (trail, _terminal) = Trail::for_test(&log);
            let watched = Watched::default();
            let tails = SecretTails::of(&Secret::from_text(TOKEN.to_owned())).unwrap();
            watched.add(&Arc::new(tails), None).unwrap();
            let mut fields = http::HeaderMap::new();
            fields.insert("x-echo", TOKEN.parse().unwrap());
            let trailers = has_trailers.then_some(Ok(fields));
            let inner =
                Full::<Bytes>::from(begun.clone()).with_trailers(std::future::ready(trailers));
            let mut body = LeakGuardBody::new(inner, Framing::None, watched, trail);
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
