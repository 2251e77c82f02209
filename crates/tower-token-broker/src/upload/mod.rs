//! Requests on their way to an upstream: ended when their token or grant is revoked, even if no one
//! polls them.
//!
//! The exchange layer opens an [`Upload`] for each request that it sends, and inserts it into the
//! extensions. It is shared by the request's body, the audit record, and the client that sends the
//! request. A revocation ends it before the call that revokes returns: the body fails, and the
//! client's [`Transport`] stops the rest, which the client may already have taken from the body.

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    body::{Ended, Watch},
    limits::Limits,
    refusal::Reason,
    revocation::{Observer, Registered, Standing},
};

#[cfg(test)]
mod tests;

/// Time for a reset to take effect, before the whole connection is closed.
const RESET_TIMEOUT: Duration = Duration::from_secs(1);

/// One request on its way to the upstream. Cheap to clone; clones are one upload.
///
/// A client that sends the requests of a stack takes it from their extensions, and calls
/// [`carried_by`](Self::carried_by). `Proxy` of `token-broker-outbound` does. For a client that
/// does not, a revocation ends the request body with an error, and what the client has taken from
/// the body before may still be sent.
#[derive(Clone)]
pub struct Upload(Arc<Inner>);

/// The connection that carries a request, as its client sees it.
///
/// The methods are called from any thread, also while the client polls the request body. They must
/// not block or panic. [`reset`](Self::reset) and [`close`](Self::close) may be called again, and
/// may drop the request body: the upload holds no lock when it calls them.
pub trait Transport: Send + Sync {
    /// Returns whether everything that the client took from the request body is written to the
    /// socket. Called after the body was dropped.
    fn is_written(&self) -> bool;

    /// Ends this request and nothing else: resets an HTTP/2 stream, or closes an HTTP/1 connection.
    fn reset(&self);

    /// Closes the connection. Called if the client still holds the request body one second after
    /// [`reset`](Self::reset).
    fn close(&self);
}

/// The record to which an upload belongs.
pub(crate) trait Owner: Send + Sync {
    /// Called when an upload is over, or was ended.
    fn upload_is_over(&self, end: Option<End>);
}

/// The reasons why an upload is ended before its body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The request's token or grant was revoked, or has expired.
    Cut(Reason),
    /// No frame passed for too long: the client sent none, or the upstream took none.
    Idle,
    /// The response is over, and the time that the upload has after it.
    Grace,
    /// The client broke it off.
    BrokenOff,
    /// The response is over in a way that ends the upload at once.
    Abandoned,
}

struct Inner {
    standing: Option<Standing>,
    owner: Weak<dyn Owner>,
    idle_timeout: Duration,
    grace: Duration,
    state: Mutex<State>,
    registered: OnceLock<Registered>,
}

struct State {
    /// Whether the client still holds the request body.
    is_held: bool,
    /// The reason of the end, and its time.
    ended: Option<(End, Instant)>,
    was_closed: bool,
    last_frame: Instant,
    grace: Option<Grace>,
    body: Option<Waker>,
    response: Option<Waker>,
    transport: Option<Arc<dyn Transport>>,
}

/// The time after the response. Until the upload is over, it keeps its owner, which no one else
/// may hold any more.
struct Grace {
    ends: Option<Instant>,
    _owner: Arc<dyn Owner>,
}

impl Upload {
    /// Opens an upload. `is_held` is whether the request has a body.
    pub(crate) fn open(
        standing: Option<&Standing>,
        owner: Weak<dyn Owner>,
        limits: &Limits,
        is_held: bool,
    ) -> Self {
        let state = State {
            is_held,
            ended: None,
            was_closed: false,
            last_frame: Instant::now(),
            grace: None,
            body: None,
            response: None,
            transport: None,
        };
        let upload = Self(Arc::new(Inner {
            standing: standing.cloned(),
            owner,
            idle_timeout: limits.upload_idle_timeout,
            grace: limits.upload_grace,
            state: Mutex::new(state),
            registered: OnceLock::new(),
        }));
        if let Some(standing) = standing {
            let observer: Weak<Inner> = Arc::downgrade(&upload.0);
            // Set once, here.
            drop(upload.0.registered.set(standing.observe(observer)));
        }
        upload
    }

    /// Names the transport of this request. If the upload has already ended, it is reset at once.
    pub fn carried_by<T: Transport + 'static>(&self, transport: &Arc<T>) {
        let has_ended = {
            let mut state = self.0.state.lock();
            state.transport = Some(Arc::<T>::clone(transport));
            state.ended.is_some()
        };
        if has_ended {
            transport.reset();
        }
    }

    /// Completes when the upload was ended, with the reason for a refusal.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.0.check();
        let mut state = self.0.state.lock();
        match state.ended {
            Some((End::Cut(reason), _)) => Poll::Ready(reason),
            Some((End::Idle | End::Grace | End::BrokenOff | End::Abandoned, _)) => {
                Poll::Ready(Reason::BodyIncomplete)
            }
            None => {
                note(&mut state.response, cx);
                Poll::Pending
            }
        }
    }

    /// Returns the watch that the request's body holds.
    pub(crate) fn watch(&self) -> Box<dyn Watch> {
        Box::new(Held(Self(Arc::clone(&self.0))))
    }

    /// Returns whether nothing more of the request reaches the upstream.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }

    /// Ends the upload after its grace, unless it is over before.
    pub(crate) fn start_grace(&self) {
        let ends = Instant::now().checked_add(self.0.grace);
        if let Some(owner) = self.0.owner.upgrade() {
            self.0.state.lock().grace = Some(Grace { ends, _owner: owner });
        }
    }

    /// Ends the upload at once.
    pub(crate) fn abandon(&self) {
        self.0.end(End::Abandoned);
    }
}

impl Inner {
    fn end(&self, end: End) {
        // N469: the connection of a request that was sent may carry another one by now.
        let was_sent = self.is_over();
        let (wakers, transport) = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some((end, Instant::now()));
            let transport = state.transport.clone().filter(|_| !was_sent);
            ([state.body.take(), state.response.take()], transport)
        };
        if let Some(transport) = transport {
            transport.reset();
        }
        wakers.into_iter().flatten().for_each(Waker::wake);
        self.report();
    }

    /// Ends the upload if its request was revoked. Its expiry ends it with the next frame or look.
    fn check(&self) {
        self.end_unless(Standing::check_revocations);
    }

    fn end_unless(&self, is_valid: fn(&Standing) -> Result<(), Reason>) {
        if let Some(Err(reason)) = self.standing.as_ref().map(is_valid) {
            self.end(End::Cut(reason));
        }
    }

    fn is_over(&self) -> bool {
        let transport = {
            let state = self.state.lock();
            if state.ended.is_some() {
                return true;
            }
            if state.is_held {
                return false;
            }
            state.transport.clone()
        };
        transport.is_none_or(|transport| transport.is_written())
    }

    fn report(&self) {
        let end = self.state.lock().ended.map(|(end, _)| end);
        if let Some(owner) = self.owner.upgrade() {
            owner.upload_is_over(end);
        }
        // Dropped outside of the lock.
        let grace = self.state.lock().grace.take();
        drop(grace);
    }

    /// Closes the connection if a reset had no effect.
    fn close_if_reset_failed(&self, now: Instant) {
        let transport = {
            let mut state = self.state.lock();
            let Some((_, at)) = state.ended else { return };
            let is_late = now.saturating_duration_since(at) >= RESET_TIMEOUT;
            if !state.is_held || state.was_closed || !is_late {
                return;
            }
            state.was_closed = true;
            state.transport.clone()
        };
        if let Some(transport) = transport {
            transport.close();
        }
    }
}

impl Observer for Inner {
    fn look(&self) {
        let now = Instant::now();
        let (has_ended, timed_out, waits) = {
            let state = self.state.lock();
            let is_idle = state.is_held
                && now.saturating_duration_since(state.last_frame) >= self.idle_timeout;
            let timed_out = match state.grace.as_ref().and_then(|grace| grace.ends) {
                Some(at) if at <= now => Some(End::Grace),
                Some(_) | None => is_idle.then_some(End::Idle),
            };
            (state.ended.is_some(), timed_out, state.grace.is_some())
        };
        if has_ended {
            return self.close_if_reset_failed(now);
        }
        self.end_unless(Standing::check);
        if waits && self.is_over() {
            self.report();
        } else if let Some(end) = timed_out {
            self.end(end);
        }
    }
}

/// Held by the body of a request, and dropped with it.
struct Held(Upload);

impl Watch for Held {
    fn pass(&mut self, _: &Bytes) -> Result<(), Ended> {
        self.0.0.state.lock().last_frame = Instant::now();
        Ok(())
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.0.0.end_unless(Standing::check);
        let mut state = self.0.0.state.lock();
        match state.ended {
            Some((End::Cut(_), _)) => return Poll::Ready(Ended::Cut),
            Some(_) => return Poll::Ready(Ended::Over),
            None => {}
        }
        note(&mut state.body, cx);
        Poll::Pending
    }

    fn broke_off(&mut self) {
        self.0.0.end(End::BrokenOff);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let waits = {
            let mut state = self.0.0.state.lock();
            state.is_held = false;
            state.body = None;
            state.grace.is_some()
        };
        if waits && self.0.is_over() {
            self.0.0.report();
        }
    }
}

fn note(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.0).finish()
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        f.debug_struct("Upload")
            .field("is_held", &state.is_held)
            .field("ended", &state.ended.map(|(end, _)| end))
            .finish_non_exhaustive()
    }
}
