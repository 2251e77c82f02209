//! One request with a body on its connection, which can be ended from outside: the transport of an
//! [`Upload`](tower_token_broker::upload::Upload).

use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Extensions, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{body::Incoming, rt::Executor};
use hyper_util::{
    client::legacy::{Error as ClientError, ResponseFuture, connect::CaptureConnection},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use tower_token_broker::upload::Transport;

use super::{service::BoxError, shared_connections::Occupied};
use crate::closable_stream::{self, CloseHandle};

type PolledFrame = Poll<Option<Result<Frame<Bytes>, hyper::Error>>>;

/// The place of a body that the client still holds.
const HELD: u64 = u64::MAX;

/// One request on its connection.
pub(super) struct Carrier {
    /// Whether every connection of the client is HTTP/2; otherwise the connection knows.
    is_h2_only: bool,
    captured: CaptureConnection,
    close_handle: OnceLock<CloseHandle>,
    /// When the client dropped the request body, in the order of flushes.
    dropped_at: AtomicU64,
    is_reset: AtomicBool,
    waiting: Mutex<Waiting>,
    /// hyper's work that sends the body of an HTTP/2 stream. Locked while it runs.
    sending: Mutex<Option<Work>>,
    /// hyper's future of the response. Locked while it is polled.
    requesting: Mutex<Option<ResponseFuture>>,
    _place: Occupied,
}

/// The two directions of an HTTP/2 stream, which end the stream when both are dropped.
#[derive(Default)]
struct Waiting {
    /// The task that sends the request body.
    sender: Option<Waker>,
    /// The reader of the response body.
    reader: Option<Waker>,
    response: Option<Incoming>,
}

impl Carrier {
    pub(super) fn new(captured: CaptureConnection, is_h2_only: bool, place: Occupied) -> Arc<Self> {
        Arc::new(Self {
            is_h2_only,
            captured,
            close_handle: OnceLock::new(),
            dropped_at: AtomicU64::new(HELD),
            is_reset: AtomicBool::new(false),
            waiting: Mutex::default(),
            sending: Mutex::default(),
            requesting: Mutex::default(),
            _place: place,
        })
    }

    /// Waits for the response, until the request is reset.
    pub(super) async fn response_to(
        self: &Arc<Self>,
        request: ResponseFuture,
    ) -> Option<Result<Response<Incoming>, ClientError>> {
        /// Drops the request if no one waits for its response any more.
        struct Requesting<'a>(&'a Carrier);

        impl Drop for Requesting<'_> {
            fn drop(&mut self) {
                let request = self.0.requesting.lock().take();
                drop(request);
            }
        }

        *self.requesting.lock() = Some(request);
        let requesting = Requesting(self);
        poll_fn(|cx| {
            let mut slot = requesting.0.requesting.lock();
            let polled = match slot.as_mut() {
                Some(request) if !requesting.0.is_reset() => Pin::new(request).poll(cx).map(Some),
                Some(_) | None => Poll::Ready(None),
            };
            // A reset in between found it locked.
            if requesting.0.is_reset() && polled.is_pending() {
                return Poll::Ready(None);
            }
            polled
        })
        .await
    }

    /// Takes the response body, so that a reset drops it.
    pub(super) fn hold(&self, response: Incoming) {
        if !self.is_reset() {
            self.waiting.lock().response = Some(response);
        }
        // A reset in between.
        if self.is_reset() {
            drop(self.waiting.lock().response.take());
        }
    }

    /// Drops the response body.
    pub(super) fn release(&self) {
        let response = self.waiting.lock().response.take();
        drop(response);
    }

    /// Polls the response body. `None` once it was reset.
    pub(super) fn poll_response(&self, cx: &mut Context<'_>) -> Option<PolledFrame> {
        let mut waiting = self.waiting.lock();
        let polled = Pin::new(waiting.response.as_mut()?).poll_frame(cx);
        waiting.reader = polled.is_pending().then(|| cx.waker().clone());
        drop(waiting);
        Some(polled)
    }

    /// Reads the response body's state.
    pub(super) fn response<T>(&self, read: impl FnOnce(&Incoming) -> T) -> Option<T> {
        self.waiting.lock().response.as_ref().map(read)
    }

    /// Keeps the connection from being used again.
    pub(super) fn poison(&self) {
        if let Some(connected) = self.captured.connection_metadata().as_ref() {
            connected.poison();
        }
    }

    fn is_reset(&self) -> bool {
        self.is_reset.load(Ordering::SeqCst)
    }

    /// Whether the connection is HTTP/2; `None` if there is none yet.
    fn is_h2(&self) -> Option<bool> {
        let connection = self.captured.connection_metadata();
        connection.as_ref().map(|connected| self.is_h2_only || connected.is_negotiated_h2())
    }

    fn close_handle(&self) -> Option<&CloseHandle> {
        if let Some(close_handle) = self.close_handle.get() {
            return Some(close_handle);
        }
        let mut extras = Extensions::new();
        self.captured.connection_metadata().as_ref()?.get_extras(&mut extras);
        let close_handle = extras.remove::<CloseHandle>()?;
        Some(self.close_handle.get_or_init(|| close_handle))
    }

    /// Notes the handle that closes the connection, if the response has it.
    pub(super) fn arrived_on(&self, extensions: &Extensions) {
        if let Some(close_handle) = extensions.get::<CloseHandle>() {
            // The same one, if it is known already.
            drop(self.close_handle.set(close_handle.clone()));
        }
    }
}

impl Transport for Carrier {
    fn is_written(&self) -> bool {
        let dropped_at = self.dropped_at.load(Ordering::SeqCst);
        // Without a connection, nothing was sent.
        dropped_at != HELD && self.close_handle().is_none_or(|it| it.is_flushed_since(dropped_at))
    }

    fn reset(&self) {
        self.is_reset.store(true, Ordering::SeqCst);
        // What is running is dropped after this step of it.
        let request = self.requesting.try_lock().and_then(|mut it| it.take());
        drop(request);
        match self.is_h2() {
            // hyper resets a stream, and discards what it holds of it, when both directions are
            // dropped.
            Some(true) => {
                let waiting = std::mem::take(&mut *self.waiting.lock());
                let Waiting { sender, reader, response } = waiting;
                drop(response);
                let work = self.sending.try_lock().and_then(|mut sending| sending.take());
                drop(work);
                [sender, reader].into_iter().flatten().for_each(Waker::wake);
            }
            Some(false) => self.close(),
            // Without a connection, nothing was sent.
            None => {}
        }
    }

    fn close(&self) {
        if let Some(close_handle) = self.close_handle() {
            close_handle.close();
        }
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("is_reset", &self.is_reset()).finish_non_exhaustive()
    }
}

/// The request body that hyper takes. The carrier learns when it is dropped.
pub(super) struct CarriedBody {
    body: UnsyncBoxBody<Bytes, BoxError>,
    carrier: Option<Arc<Carrier>>,
    /// The last byte of a frame, on HTTP/2. hyper sends a frame only when the peer's window covers
    /// all that it sent before. So when it drops the body, no window delays what it took.
    last_byte: Option<Bytes>,
    was_polled: bool,
}

impl CarriedBody {
    pub(super) const fn new(
        body: UnsyncBoxBody<Bytes, BoxError>,
        carrier: Option<Arc<Carrier>>,
    ) -> Self {
        Self { body, carrier, last_byte: None, was_polled: false }
    }
}

impl Body for CarriedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let is_h2 = this.carrier.as_ref().is_some_and(|carrier| carrier.is_h2() == Some(true));
        if let Some(carrier) = this.carrier.as_ref() {
            if carrier.is_reset() {
                return Poll::Ready(Some(Err("the request was ended".into())));
            }
            if is_h2 && !this.was_polled {
                StreamExecutor::was_polled(carrier);
            }
            this.was_polled = true;
        }
        if let Some(last) = this.last_byte.take() {
            return Poll::Ready(Some(Ok(Frame::data(last))));
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        match polled {
            Poll::Ready(Some(Ok(frame))) if is_h2 => match frame.into_data() {
                Ok(mut data) => {
                    if data.len() > 1 {
                        this.last_byte = Some(data.split_off(data.len().saturating_sub(1)));
                    }
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(frame) => Poll::Ready(Some(Ok(frame))),
            },
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.last_byte.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.last_byte.as_ref().map_or(0, |last| last.len() as u64);
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(inner.lower().saturating_add(rest));
        hint
    }
}

impl Drop for CarriedBody {
    fn drop(&mut self) {
        // Before the body itself is dropped, whose watch reads it.
        if let Some(carrier) = &self.carrier {
            carrier.dropped_at.store(closable_stream::now(), Ordering::SeqCst);
        }
    }
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// The carrier whose body was polled for the first time, and the task that polled it.
    static POLLED: RefCell<Option<(tokio::task::Id, Weak<Carrier>)>> = const { RefCell::new(None) };
}

/// Runs hyper's tasks. It can drop the one that sends the body of an HTTP/2 stream.
///
/// hyper polls the body of a request for the first time in the task of its connection. If the body
/// does not end there, the next task that the connection creates sends the rest of it; otherwise
/// that task waits for the response, and to drop it is right, too. If hyper changes this, a stream
/// that the peer does not read is not reset, and its connection is closed a second later instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamExecutor;

impl StreamExecutor {
    fn was_polled(carrier: &Arc<Carrier>) {
        let Some(task) = tokio::task::try_id() else { return };
        POLLED.with_borrow_mut(|polled| *polled = Some((task, Arc::downgrade(carrier))));
    }

    fn polled() -> Option<Arc<Carrier>> {
        let (task, carrier) = POLLED.take()?;
        carrier.upgrade().filter(|_| tokio::task::try_id() == Some(task))
    }
}

impl Executor<Work> for StreamExecutor {
    fn execute(&self, work: Work) {
        let executor = TokioExecutor::new();
        match Self::polled() {
            Some(carrier) => {
                *carrier.sending.lock() = Some(work);
                executor.execute(UntilReset(carrier));
            }
            None => executor.execute(work),
        }
    }
}

/// Runs the work that sends a body, until its request is reset.
struct UntilReset(Arc<Carrier>);

impl Future for UntilReset {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let carrier = &*self.0;
        let mut sending = carrier.sending.lock();
        carrier.waiting.lock().sender = Some(cx.waker().clone());
        let ended = match sending.as_mut() {
            Some(work) if !carrier.is_reset() => work.as_mut().poll(cx),
            Some(_) | None => Poll::Ready(()),
        };
        if ended.is_ready() || carrier.is_reset() {
            let work = sending.take();
            drop(sending);
            drop(work);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
