//! The one writer: chains what came together, and has the sink write it, as often as it takes.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{runtime::Runtime, sync::oneshot};

use super::{
    log::{AuditError, Core},
    queue::Batch,
    record::{Event, Records},
    sink::{AuditSink, Resumed, SinkError},
};
use crate::{clock::Clock, request_id::random_bits};

/// The wait before a group that failed comes again for the first time; each further one is twice as
/// long.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// The longest wait between two tries of a group.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

struct Writer<S> {
    sink: S,
    core: Arc<Core>,
    clock: Clock,
    next: u64,
    last_hash: [u8; 32],
    /// The group that is written, and then the buffer of the next one.
    records: Records,
}

/// Starts the writer on a thread of its own. Without a thread or a runtime nothing is ever let
/// through.
pub(super) fn start<S: AuditSink>(sink: S, core: &Arc<Core>, clock: Clock) {
    let writer = Writer {
        sink,
        core: Arc::clone(core),
        clock,
        next: 0,
        last_hash: [0; 32],
        records: Records::default(),
    };
    let thread = thread::Builder::new().name("token-broker-audit".into()).spawn(move || {
        let core = Arc::clone(&writer.core);
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => tell(writer.run(&runtime)),
            Err(error) => {
                tracing::error!(%error, "the audit log has no runtime; nothing is let through");
                drop(core.queue.has_ended());
            }
        }
    });
    if let Err(error) = thread {
        tracing::error!(%error, "the audit log has no thread; nothing is let through");
        drop(core.queue.has_ended());
    }
}

impl<S: AuditSink> Writer<S> {
    /// Gives those who wait for the end.
    fn run(mut self, runtime: &Runtime) -> Vec<oneshot::Sender<()>> {
        runtime.block_on(self.resume());
        let mut spare = Batch::default();
        while let Some(mut batch) = self.core.queue.next(mem::take(&mut spare)) {
            let flushed = mem::take(&mut batch.flushed);
            runtime.block_on(async {
                self.write(&mut batch).await;
                // Nothing is under way: the door that a hanging write closed may open again, and
                // what was refused is written.
                self.write_counted().await;
            });
            self.core.open();
            tell(flushed);
            spare = batch.emptied();
        }
        // From here on who comes is refused, and nobody is counted behind the last record.
        let closing = self.core.queue.has_ended();
        runtime.block_on(async {
            self.write_counted().await;
            self.write_events([Event::Close]).await;
        });
        closing
    }

    async fn resume(&mut self) {
        let mut wait = TRY_AGAIN;
        let resumed: Resumed = loop {
            match caught(async { self.sink.resume().await }).await {
                Ok(resumed) => break resumed,
                Err(error) => {
                    self.core.close("what is written can't be read");
                    tracing::error!(%error, "the audit log can't go on where it stopped; no request is let through");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        };
        let first = match resumed.last {
            Some((sequence, hash)) => {
                (self.next, self.last_hash) = (sequence + 1, hash);
                Event::Open { dropped_bytes: resumed.dropped_bytes }
            }
            None => Event::Start { chain: random_bits() },
        };
        // After a crash each open intent gets its terminal record.
        let lost = resumed.open_requests.iter().map(|request| Event::Lost { request });
        let unknown = resumed.open_refreshes.iter();
        let unknown =
            unknown.map(|(request, refresh)| Event::LostRefresh { request, refresh: *refresh });
        self.write_events([first].into_iter().chain(lost).chain(unknown)).await;
        self.core.open();
    }

    async fn write_counted(&mut self) {
        let counted = self.core.take_counted();
        if !counted.is_empty() {
            let events = counted.into_iter().map(|(reason, (count, since))| Event::Counted {
                reason,
                count,
                since,
            });
            self.write_events(events).await;
        }
    }

    async fn write_events<'e>(&mut self, events: impl IntoIterator<Item = Event<'e>>) {
        let (at, mut batch) = (self.clock.now(), Batch::default());
        events.into_iter().for_each(|event| batch.push(at, &event));
        self.write(&mut batch).await;
    }

    /// Chains the records and has the sink write them, as often as it takes.
    async fn write(&mut self, batch: &mut Batch) {
        self.records.clear();
        for (kind, members) in batch.iter() {
            self.last_hash = self.records.append(kind, members, self.next, &self.last_hash);
            self.next += 1;
        }
        if self.records.is_empty() {
            return;
        }
        let mut wait = TRY_AGAIN;
        loop {
            let mut write = pin!(caught(async { self.sink.write(&self.records).await }));
            let written = match tokio::time::timeout(self.core.deadline, &mut write).await {
                Ok(written) => written,
                Err(_elapsed) => {
                    // A write that hangs is awaited further, never repeated beside itself.
                    self.core.close("the sink hangs");
                    refuse(batch);
                    write.await
                }
            };
            match written {
                Ok(()) => break,
                Err(error) => {
                    self.core.close("the sink failed");
                    tracing::error!(%error, records = self.records.len(), "the audit sink failed; the records are kept");
                    // Who waits for these records is refused now, not at the deadline.
                    refuse(batch);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        if let Some(group) = batch.take_waiting() {
            group.settle(Ok(()));
        }
        self.records.shrink();
    }
}

fn refuse(batch: &mut Batch) {
    if let Some(group) = batch.take_waiting() {
        group.settle(Err(AuditError));
    }
}

fn tell(waiters: Vec<oneshot::Sender<()>>) {
    for waiter in waiters {
        // Who no longer waits is not told.
        waiter.send(()).unwrap_or_default();
    }
}

/// P288: a sink that panics is a sink that failed: its group comes again, and the log lives on.
async fn caught<T>(call: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    let mut call = pin!(call);
    std::future::poll_fn(move |cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)))
            .unwrap_or_else(|_panic| Poll::Ready(Err(SinkError::new("it panicked"))))
    })
    .await
}
