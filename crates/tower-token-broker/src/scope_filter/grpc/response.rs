//! Filters gRPC responses: messages of MCP one by one, others unchanged, and the final status.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body::{Body, Frame};

use super::{GrpcCall, request::ResponseForm, watch::Tripped};
use crate::{
    audit::{Counts, Trail},
    body::{BodyError, ResponseBody},
    dialect::Dialect,
    grpc::{
        frame::{self, FrameError, Limits, Message, Messages, Scanner},
        framed_mcp, metadata, typed_mcp,
    },
    mcp::response::{Entry, Found},
    principal::Principal,
    refusal::{Reason, Refusal},
    scope_filter::{
        body::FilterBody, judged::Judged, layer::Shared, policy::Policy, response::OwnPermission,
        service::Filtered,
    },
    sealing::{RequestStates, Session},
};

impl<P: Policy> GrpcCall<P> {
    pub(super) fn filter<R: Body<Data = Bytes>>(
        &self,
        response: Response<R>,
        judged: &Judged,
        form: ResponseForm,
        tripped: Tripped,
        counts: Arc<Counts>,
    ) -> Result<Filtered<R, P>, Reason> {
        if response.status() != StatusCode::OK || !metadata::is_grpc(response.headers()) {
            return Err(Reason::ResponseUnreadable);
        }
        let (mut parts, body) = response.into_parts();
        // The messages that pass are not compressed, and the layer states which codings it accepts.
        parts.headers.remove(metadata::ENCODING);
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.insert(metadata::ACCEPT_ENCODING, metadata::CODINGS);
        judged.kept().seal_session(&self.shared.keys, &self.principal, &mut parts.headers)?;
        let count = self.shared.max_messages();
        let limits =
            Limits { message: self.shared.limits.max_response, count, may_be_compressed: false };
        let reading = match form {
            ResponseForm::Untouched => Reading::Passing(Scanner::new(limits)),
            ResponseForm::Frame
            | ResponseForm::Frames
            | ResponseForm::Empty
            | ResponseForm::Typed(_) => Reading::Whole(Messages::new(limits.message), form),
        };
        let filter = GrpcFilter {
            shared: Arc::clone(&self.shared),
            principal: self.principal.clone(),
            states: judged.states().cloned(),
            permission: OwnPermission::of(judged),
            trail: self.trail.clone(),
            dialect: self.dialect.clone(),
            counts,
            tripped,
            reading,
            count,
            passed: 0,
            ready: VecDeque::new(),
            end: None,
            ended: false,
        };
        Ok(Response::from_parts(parts, ResponseBody::inner(FilterBody::grpc(body, filter))))
    }
}

/// Filters the messages of one response for its caller.
pub(in crate::scope_filter) struct GrpcFilter<P> {
    shared: Arc<Shared<P>>,
    principal: Principal,
    states: Option<RequestStates>,
    permission: Option<OwnPermission>,
    trail: Trail,
    dialect: Dialect,
    counts: Arc<Counts>,
    tripped: Tripped,
    reading: Reading,
    count: u64,
    passed: u64,
    ready: VecDeque<Bytes>,
    /// The reason that ends the stream after the messages that are ready.
    end: Option<Reason>,
    ended: bool,
}

enum Reading {
    /// Only the frame headers are read.
    Passing(Scanner),
    /// Messages are read one by one.
    Whole(Messages, ResponseForm),
}

type Polled<E> = Poll<Option<Result<Frame<Bytes>, BodyError<E>>>>;

impl<P: Policy> GrpcFilter<P> {
    pub(in crate::scope_filter) fn poll_frame<R: Body<Data = Bytes>>(
        &mut self,
        mut inner: Pin<&mut R>,
        cx: &mut Context<'_>,
    ) -> Polled<R::Error> {
        loop {
            self.check_permission();
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            // The reason that ended the request stream also ends the response.
            if let Some(reason) = self.end.or(self.tripped.reason()) {
                self.ended = true;
                self.trail.cut(reason);
                return Poll::Ready(Some(if self.is_inside() {
                    Err(BodyError::Limit)
                } else {
                    let refusal = Refusal::new(reason).at(self.principal.resource());
                    Ok(Frame::trailers(self.dialect.trailers(&refusal)))
                }));
            }
            let polled = ready!(inner.as_mut().poll_frame(cx));
            if self.tripped.reason().is_some() {
                continue;
            }
            match polled {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.take(data),
                    Err(mut trailers) => {
                        self.ended = true;
                        // A session id is sealed only in the headers.
                        if let Some(fields) = trailers.trailers_mut() {
                            Session::forget(fields);
                        }
                        let whole = !self.is_inside();
                        return Poll::Ready(Some(if whole {
                            Ok(trailers)
                        } else {
                            Err(BodyError::Unreadable)
                        }));
                    }
                },
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Inner(error))));
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(self.is_inside().then_some(Err(BodyError::Unreadable)));
                }
            }
        }
    }

    pub(in crate::scope_filter) fn is_end_stream<R: Body>(&self, inner: &R) -> bool {
        let nothing_to_say = self.ready.is_empty() && self.end.is_none();
        nothing_to_say && (self.ended || (inner.is_end_stream() && !self.is_inside()))
    }

    /// Ends a stream that the policy no longer allows.
    fn check_permission(&mut self) {
        let Some(permission) = self.permission.as_mut().filter(|_| !self.ended) else { return };
        if let Err(reason) = permission.check(&self.shared, &self.principal, &self.trail) {
            self.ready.clear();
            self.end = Some(reason);
        }
    }

    fn is_inside(&self) -> bool {
        match &self.reading {
            Reading::Passing(scanner) => scanner.is_inside(),
            // A message that was read but not passed does not count.
            Reading::Whole(messages, _) => {
                messages.is_inside() && self.end.is_none() && self.tripped.reason().is_none()
            }
        }
    }

    fn take(&mut self, data: Bytes) {
        match &mut self.reading {
            Reading::Passing(scanner) => {
                let (through, ended) = scanner.pass(data);
                self.counts.went_out(scanner.count());
                self.ready.extend((!through.is_empty()).then_some(through));
                self.end = ended.map(of_response);
            }
            Reading::Whole(messages, _) => {
                messages.push(&data);
                self.end = self.messages().err();
            }
        }
    }

    fn messages(&mut self) -> Result<(), Reason> {
        loop {
            let Reading::Whole(messages, form) = &mut self.reading else { return Ok(()) };
            let form = *form;
            let Some(message) = messages.next_message().map_err(of_response)? else {
                return Ok(());
            };
            let most = if form == ResponseForm::Frames { self.count } else { 1 };
            self.passed = self.passed.saturating_add(1);
            if self.passed > most {
                let is_stream = form == ResponseForm::Frames;
                return Err(if is_stream {
                    Reason::TooManyMessages
                } else {
                    Reason::ResponseUnreadable
                });
            }
            if let Some(filtered) = self.filtered(form, &message)? {
                self.counts.went_out(self.passed);
                self.ready.push_back(frame::framed(&filtered));
            }
        }
    }

    fn filtered(&self, form: ResponseForm, message: &Message) -> Result<Option<Bytes>, Reason> {
        let unreadable = Reason::ResponseUnreadable;
        if message.compressed {
            return Err(unreadable);
        }
        match form {
            ResponseForm::Frame | ResponseForm::Frames => {
                let json = framed_mcp::decode(&message.bytes).map_err(|_| unreadable)?;
                match self
                    .shared
                    .filtered(&self.principal, self.states.as_ref(), json)
                    .map_err(|_| unreadable)?
                    .found
                {
                    Found::Nothing => Ok(Some(message.bytes.clone())),
                    Found::Changed(json) => Ok(Some(framed_mcp::encode(&json).into())),
                    // K232: the notification is left out of a stream. It cannot be the only
                    // response to a request.
                    Found::NotForThisCaller if form == ResponseForm::Frames => Ok(None),
                    Found::NotForThisCaller => Err(unreadable),
                }
            }
            ResponseForm::Empty if message.bytes.is_empty() => Ok(Some(Bytes::new())),
            ResponseForm::Empty => Err(unreadable),
            ResponseForm::Typed(Some(of)) => {
                let is_visible = |entry: Entry<'_>| self.shared.is_visible(&self.principal, entry);
                let filtered =
                    typed_mcp::filter(of, &message.bytes, is_visible).map_err(|_| unreadable)?;
                Ok(Some(Bytes::from(filtered.into_owned())))
            }
            ResponseForm::Typed(None) | ResponseForm::Untouched => Ok(Some(message.bytes.clone())),
        }
    }
}

const fn of_response(error: FrameError) -> Reason {
    match error {
        FrameError::TooMany => Reason::TooManyMessages,
        FrameError::Unreadable | FrameError::TooLong | FrameError::Compressed => {
            Reason::ResponseUnreadable
        }
    }
}
