//! An event stream, filtered event by event. A request whose response is withheld gets an error.

use std::{
    collections::VecDeque,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

use super::{
    judged::{Judged, Listening},
    layer::Shared,
    policy::Policy,
    response::OwnPermission,
};
use crate::{
    alarm::Alarm,
    audit::Trail,
    dialect::Dialect,
    mcp::{
        addressee::{addressees, is_same_id},
        response::Found,
        sse::{self, EventTooLong, Events},
    },
    principal::Principal,
    refusal::Reason,
    sealing::RequestStates,
};

/// The event that replaces one that cannot be judged.
const WITHHELD: &[u8] = b": withheld\n\n";
const UNREADABLE: &str = "the response of the server cannot be read";
const TOO_LONG: &str = "an event of the server was too long";
/// The time without an event after which a client whose response may have been withheld gets an
/// error.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// The filter of one event stream.
pub(super) struct EventFilter<P> {
    shared: Arc<Shared<P>>,
    principal: Principal,
    states: Option<RequestStates>,
    permission: Option<OwnPermission>,
    trail: Trail,
    dialect: Dialect,
    events: Events,
    ready: VecDeque<Bytes>,
    debt: Debt,
    agreed: Option<String>,
    ended: bool,
}

/// The response that the client of the stream still awaits.
struct Debt {
    /// The id of the request that the stream responds to, until its response has passed.
    awaited: Option<Bytes>,
    /// Whether any id may be responded to here: a stream of a session that is resumed.
    of_session: bool,
    /// The reason for which the response may have been withheld.
    withheld: Option<Reason>,
    /// Whether an event was withheld that may have been the response.
    may_have_responded: bool,
    /// Whether silence means that the response does not come.
    ends_in_silence: bool,
    silence: Option<Pin<Box<Sleep>>>,
}

/// One step of reading a stream.
pub(super) enum Step<E> {
    /// Something may be ready, or the stream has ended.
    Read,
    Trailers(Frame<Bytes>),
    Failed(E),
}

impl<P: Policy> EventFilter<P> {
    pub(super) fn new(
        shared: Arc<Shared<P>>,
        principal: Principal,
        judged: &Judged,
        trail: Trail,
    ) -> Self {
        let awaited = judged.dialect().message_id().cloned();
        let debt = Debt {
            of_session: matches!(judged.listening(), Some(Listening::Session)),
            ends_in_silence: judged.listening().is_none(),
            awaited,
            withheld: None,
            may_have_responded: false,
            silence: None,
        };
        Self {
            events: Events::new(shared.limits.max_response),
            shared,
            principal,
            states: judged.states().cloned(),
            permission: OwnPermission::of(judged),
            trail,
            dialect: judged.dialect().clone(),
            ready: VecDeque::new(),
            debt,
            agreed: None,
            ended: false,
        }
    }

    /// Returns the next event that was judged.
    pub(super) fn next_ready(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// Returns the number of events that are ready.
    pub(super) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Returns the memory of the events that are ready, without the first ones, in bytes.
    pub(super) fn ready_bytes_after(&self, first: usize) -> usize {
        let after = self.ready.range(first.min(self.ready.len())..);
        after.map(|event| event.len().saturating_add(size_of::<Bytes>())).sum()
    }

    /// Whether no event follows those that are ready.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether no event is ready.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Whether the response to the request has passed.
    pub(super) const fn has_responded(&self) -> bool {
        self.debt.awaited.is_none()
    }

    /// Returns the revision that the response to `initialize` agrees on.
    pub(super) fn agreed(&self) -> Option<&str> {
        self.agreed.as_deref()
    }

    /// Reads what the server has sent.
    pub(super) fn step<R: Body<Data = Bytes>>(
        &mut self,
        inner: Pin<&mut R>,
        cx: &mut Context<'_>,
    ) -> Poll<Step<R::Error>> {
        let frame = match inner.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => return self.silence(cx),
        };
        self.debt.silence = None;
        Poll::Ready(match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.take(data);
                    Step::Read
                }
                Err(trailers) => Step::Trailers(trailers),
            },
            // The client receives the error of ours instead.
            Some(Err(_)) if self.settle() => Step::Read,
            Some(Err(error)) => {
                self.ended = true;
                Step::Failed(error)
            }
            // An unfinished event was not judged, and every reader discards it.
            None => {
                self.settle();
                self.ended = true;
                Step::Read
            }
        })
    }

    /// Waits for silence after an event was withheld that may have been the response.
    fn silence<E>(&mut self, cx: &mut Context<'_>) -> Poll<Step<E>> {
        let debt = &self.debt;
        if !debt.is_due() || !debt.may_have_responded || !debt.ends_in_silence {
            return Poll::Pending;
        }
        let silence = self.debt.silence.get_or_insert_with(|| Box::pin(sleep(SILENCE)));
        if silence.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.settle();
        Poll::Ready(Step::Read)
    }

    /// Responds to the request if its response may have been withheld, and ends the stream. Returns
    /// whether it did.
    // K501: a client would wait until its own timeout.
    fn settle(&mut self) -> bool {
        let Some(reason) = self.debt.withheld.filter(|_| self.debt.is_due()) else { return false };
        let id = self.debt.awaited.take();
        self.ready.push_back(self.dialect.error_event(UNREADABLE, id.as_ref()));
        self.trail.cut(reason);
        self.ended = true;
        true
    }

    fn take(&mut self, chunk: Bytes) {
        self.events.push(chunk);
        while !self.ended {
            match self.events.next_event() {
                Ok(Some(event)) => self.judge(event),
                Ok(None) => return,
                // K228: an event over the limit ends the stream.
                Err(EventTooLong) => {
                    self.warn("it exceeds the limit, and the stream ends");
                    let id = self.debt.awaited.take();
                    self.ready.push_back(self.dialect.error_event(TOO_LONG, id.as_ref()));
                    self.trail.cut(Reason::ResponseUnreadable);
                    self.ended = true;
                }
            }
        }
    }

    fn judge(&mut self, event: Bytes) {
        // An event without data is a comment, a retry time, or an id to resume from.
        let Some(data) = sse::data(&event).filter(|data| !data.is_empty()) else {
            return self.ready.push_back(event);
        };
        match self.shared.filtered(&self.principal, self.states.as_ref(), &data) {
            Ok(filtered) => {
                if filtered.responds_to.is_some_and(|id| self.debt.is_awaited(id)) {
                    self.debt.awaited = None;
                    self.agreed = filtered.agreed.map(std::borrow::Cow::into_owned);
                }
                self.ready.extend(match filtered.found {
                    Found::Nothing => Some(event.clone()),
                    Found::Changed(changed) => Some(sse::with_data(&event, changed)),
                    Found::NotForThisCaller => None,
                });
            }
            // K230, K504: an event that cannot be judged is left out. Later ones can.
            Err(unjudgeable) => {
                self.warn(&unjudgeable.to_string());
                self.withhold(&data, unjudgeable.reason());
            }
        }
    }

    /// Replaces an event. A request that it responds to, as far as it can be read, gets an error at
    /// once.
    fn withhold(&mut self, data: &[u8], reason: Reason) {
        self.trail.withheld(reason);
        self.ready.push_back(Bytes::from_static(WITHHELD));
        self.debt.withheld.get_or_insert(reason);
        let addressees = addressees(data, &self.shared.json);
        // K501: after a withheld notification, the response may still come.
        self.debt.may_have_responded |= addressees.may_respond;
        for id in addressees.ids {
            if self.debt.is_awaited(id) {
                self.settle();
                return;
            }
            if self.debt.of_session {
                let id = Bytes::copy_from_slice(id.as_bytes());
                self.ready.push_back(self.dialect.error_event(UNREADABLE, Some(&id)));
            }
        }
    }

    fn warn(&self, why: &str) {
        tracing::warn!(
            alarm = Alarm::ResponseWithheld.code(),
            request.id = %self.trail.request_id(),
            why,
            "an event of the server cannot be judged and was left out"
        );
    }

    /// Ends a stream that the policy no longer allows.
    pub(super) fn check_permission(&mut self) {
        let Some(permission) = &mut self.permission else { return };
        if let Err(reason) = permission.check(&self.shared, &self.principal, &self.trail)
            && !self.ended
        {
            self.trail.cut(reason);
            self.ready.clear();
            self.ended = true;
        }
    }
}

impl Debt {
    fn is_due(&self) -> bool {
        self.awaited.is_some() && self.withheld.is_some()
    }

    fn is_awaited(&self, id: &str) -> bool {
        let awaited = self.awaited.as_deref().and_then(|id| std::str::from_utf8(id).ok());
        awaited.is_some_and(|awaited| is_same_id(awaited, id))
    }
}
