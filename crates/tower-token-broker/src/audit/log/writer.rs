//! The writer: chains each batch and has the sink write it, retrying until it succeeds.

use std::{
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{runtime::Runtime, sync::oneshot};

use super::{core::Core, error::AuditError, flood::Take, queue::Batch};
use crate::{
    alarm::Alarm,
    audit::{
        record::{Event, Records, SegmentOf},
        segment::WriterName,
        sink::{AuditSink, Resumed, SinkError},
    },
    clock::Clock,
    request_id::random_bits,
};

/// Delay before a failed batch is retried for the first time. It doubles with each further retry.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// The longest delay between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

struct Writer<S> {
    sink: S,
    core: Arc<Core>,
    clock: Clock,
    next: u64,
    last_hash: [u8; 32],
    /// The chain of a new log. Drawn before the thread starts: a process that ends meanwhile has no
    /// random numbers any more, and the cryptographic library would abort it.
    new_chain: [u8; 16],
    /// Writer and chain, if the sink writes segments.
    segment: Option<(WriterName, [u8; 16])>,
    /// The batch being written; afterwards the buffer of the next one.
    records: Records,
}

/// Starts the writer on its own thread. Without a thread or a runtime, every request is refused.
pub(super) fn start<S: AuditSink>(sink: S, core: &Arc<Core>, clock: Clock) {
    let writer = Writer {
        sink,
        core: Arc::clone(core),
        clock,
        next: 0,
        last_hash: [0; 32],
        new_chain: random_bits(),
        segment: None,
        records: Records::default(),
    };
    let thread = thread::Builder::new().name("token-broker-audit".into()).spawn(move || {
        let core = Arc::clone(&writer.core);
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => signal(writer.run(&runtime)),
            Err(error) => {
                not_started(&error, "no runtime");
                drop(core.queue.has_ended());
            }
        }
    });
    if let Err(error) = thread {
        not_started(&error, "no thread");
        drop(core.queue.has_ended());
    }
}

impl<S: AuditSink> Writer<S> {
    /// Writes until the log ends. Returns the callers that wait for the end.
    fn run(mut self, runtime: &Runtime) -> Vec<oneshot::Sender<()>> {
        runtime.block_on(self.resume());
        let mut spare = Batch::default();
        while let Some(mut batch) = self.core.queue.next(mem::take(&mut spare)) {
            let flushed = mem::take(&mut batch.flushed);
            let is_due = batch.counts_are_due || !flushed.is_empty();
            runtime.block_on(async {
                self.end_segment().await;
                self.write(&mut batch).await;
                // Everything is written: the log may open again if a hanging write had closed it,
                // and the counted refusals are written when they are due.
                self.write_counted(if is_due { Take::All } else { Take::Due }).await;
            });
            self.core.open();
            signal(flushed);
            spare = batch.emptied();
        }
        // From here on, callers are refused, and none is counted after the last record.
        let closing = self.core.queue.has_ended();
        runtime.block_on(async {
            self.write_counted(Take::All).await;
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
                    self.core.close("the written records cannot be read");
                    tracing::error!(
                        alarm = Alarm::AuditNotResumed.code(),
                        %error,
                        "the audit log cannot be continued: every request is refused"
                    );
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        };
        let chain = resumed.segmented.as_ref().and_then(|chain| chain.name);
        let chain = chain.unwrap_or(self.new_chain);
        self.segment = resumed.segmented.map(|segmented| (segmented.writer, chain));
        // A copy: the events are written with `self`.
        let segment = self.segment.clone();
        let first = match resumed.last {
            Some(last) => {
                (self.next, self.last_hash) = (last.sequence + 1, last.hash);
                let segment = segment.as_ref().map(|(writer, chain)| SegmentOf::new(writer, chain));
                Event::Open { dropped_bytes: resumed.dropped_bytes, segment }
            }
            None => {
                let writer = segment.as_ref().map(|(writer, _)| writer.as_str());
                Event::Start { chain, writer }
            }
        };
        // After a crash, each open request and each open token request gets its terminal record.
        let lost = resumed.open.iter().map(Event::Lost);
        let unknown = resumed.open_token_requests.iter();
        let unknown = unknown.map(|(of, number)| Event::LostTokenRequest { of, number: *number });
        self.write_events([first].into_iter().chain(lost).chain(unknown)).await;
        self.core.open();
    }

    /// Chains the end of a segment and the beginning of the next one, if the sink calls for it.
    /// They are written with the next batch.
    async fn end_segment(&mut self) {
        let now = self.clock.now();
        let end = caught(async { Ok(self.sink.segment_end(now)) }).await;
        let (Ok(Some(end)), Some((writer, chain))) = (end, &self.segment) else { return };
        let carried = end.open.len() + end.open_token_requests.len();
        let segment = SegmentOf::new(writer, chain);
        let marks = [Event::SegmentEnd, Event::SegmentStart { segment, carried: carried as u64 }];
        let open = end.open.iter().map(Event::Carried);
        let token_requests = end.open_token_requests.iter();
        let token_requests =
            token_requests.map(|(of, number)| Event::CarriedTokenRequest { of, number: *number });
        let mut batch = Batch::default();
        let events = marks.into_iter().chain(open).chain(token_requests);
        events.for_each(|event| batch.push(now, &event));
        self.chain(&batch);
    }

    async fn write_counted(&mut self, take: Take) {
        let counted: Vec<_> = self.core.take_counted(take, self.clock.moment()).collect();
        if !counted.is_empty() {
            self.write_events(counted).await;
        }
    }

    async fn write_events<'e>(&mut self, events: impl IntoIterator<Item = Event<'e>>) {
        let (at, mut batch) = (self.clock.now(), Batch::default());
        events.into_iter().for_each(|event| batch.push(at, &event));
        self.write(&mut batch).await;
    }

    /// Chains the records and has the sink write them, retrying until it succeeds.
    async fn write(&mut self, batch: &mut Batch) {
        self.chain(batch);
        if self.records.is_empty() {
            return;
        }
        let mut wait = TRY_AGAIN;
        loop {
            let mut write = pin!(caught(async { self.sink.write(&self.records).await }));
            let written = match tokio::time::timeout(self.core.timeout, &mut write).await {
                Ok(written) => written,
                Err(_elapsed) => {
                    // A write that hangs is awaited, never started again in parallel.
                    self.core.close("the sink hangs");
                    refuse(batch);
                    write.await
                }
            };
            match written {
                Ok(()) => break,
                Err(error) => {
                    self.core.close("the sink failed");
                    tracing::error!(
                        alarm = Alarm::AuditSinkFailed.code(),
                        %error,
                        records = self.records.len(),
                        "the audit sink failed; the records are kept"
                    );
                    // Callers that wait for these records are refused now, not at their timeout.
                    refuse(batch);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        if let Some(group) = batch.take_waiting() {
            group.settle(Ok(()));
        }
        self.records.clear();
        self.records.shrink();
    }

    /// Appends the records of a batch to those that are written next.
    fn chain(&mut self, batch: &Batch) {
        for (kind, members) in batch.iter() {
            self.last_hash = self.records.append(kind, members, self.next, &self.last_hash);
            self.next += 1;
        }
    }
}

fn not_started(error: &io::Error, cause: &'static str) {
    tracing::error!(
        alarm = Alarm::AuditNotStarted.code(),
        %error,
        cause,
        "the audit log could not start: every request is refused"
    );
}

fn refuse(batch: &mut Batch) {
    if let Some(group) = batch.take_waiting() {
        group.settle(Err(AuditError));
    }
}

fn signal(waiters: Vec<oneshot::Sender<()>>) {
    for waiter in waiters {
        // The receiver may be gone.
        waiter.send(()).unwrap_or_default();
    }
}

/// A sink that panics has failed: its batch is retried, and the log continues.
// P288.
async fn caught<T>(call: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    let mut call = pin!(call);
    std::future::poll_fn(move |cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)))
            .unwrap_or_else(|_panic| Poll::Ready(Err(SinkError::new("it panicked"))))
    })
    .await
}
