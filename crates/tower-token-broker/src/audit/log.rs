//! The one owned writer behind all trails: order, chain, group commit, and the door that a failing sink closes.

use std::{
    collections::BTreeMap,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    thread,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use super::{
    record::{Entry, Event, Record, RefreshOutcome},
    sink::{AuditSink, Resumed, SinkError},
};
use crate::{
    clock::{Clock, Timestamp},
    refusal::Reason,
    revocation::Revoked,
};

/// Records that one group takes at most.
const LARGEST_GROUP: usize = 4096;
/// The wait before a group that failed comes again for the first time; each further one is twice as long.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// The longest wait between two tries of a group.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The audit log. Cheap to clone; share one between all stacks of a process.
///
/// It has a thread of its own, `token-broker-audit`, which ends, after the last record, when the last clone is gone or at
/// [`AuditLog::close`]. Requests wait with tokio's timer: the runtime they run on must have one.
#[derive(Clone)]
pub struct AuditLog(pub(super) Arc<Shared>);

pub(super) struct Shared {
    queue: mpsc::Sender<Message>,
    pub(super) clock: Clock,
    pub(super) deadline: Duration,
    door: Arc<Door>,
    refreshes: AtomicU64,
}

/// Whether anything may be used at the moment; and the refusals that were made while nothing could be written.
///
/// It begins open: nothing is used before its own intent is durable, whatever the door says.
struct Door {
    open: AtomicBool,
    counted: Mutex<BTreeMap<Reason, (u64, Timestamp)>>,
    /// Tells a writer without work that there is something to open or to write.
    wake: Notify,
}

pub(super) enum Message {
    Entry(Entry, Option<oneshot::Sender<()>>),
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// A place in the queue that was kept for a record that must be written.
pub(super) type Place = mpsc::OwnedPermit<Message>;

/// A record on its way: answered when it is durable.
#[derive(Debug)]
pub(super) struct Written(oneshot::Receiver<()>);

/// The log can't make a record durable at the moment: nothing may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log can't make the record durable")]
#[expect(clippy::exhaustive_structs, reason = "whoever is told this must do the same, whatever the cause: nothing")]
pub struct AuditUnavailable;

/// What has a default in an [`AuditLog`].
#[derive(Clone, Debug)]
#[must_use = "options do nothing until a log is started with them"]
pub struct AuditOptions {
    clock: Clock,
    deadline: Duration,
    queue: usize,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { clock: Clock::system(), deadline: Duration::from_millis(1500), queue: 65_536 }
    }
}

impl AuditOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another clock than the system's, for the times in the records.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long a request waits for its intent to be durable; 1.5 s by default. Then it is refused, and the door is closed.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How many records may wait or be owed: each open request owes one. 65 536 by default; one more request is refused. At
    /// least 2: a request needs a place for its intent and one for its result.
    pub const fn queue(mut self, records: usize) -> Self {
        self.queue = records;
        self
    }
}

impl<S: AuditSink> From<S> for AuditLog {
    fn from(sink: S) -> Self {
        Self::start(sink, AuditOptions::default())
    }
}

impl AuditLog {
    /// Starts the log with these options. If the system gives it no thread, it is never open: each request is refused.
    #[must_use]
    pub fn start<S: AuditSink>(sink: S, options: AuditOptions) -> Self {
        let (queue, messages) = mpsc::channel(options.queue.clamp(2, Semaphore::MAX_PERMITS));
        let door = Arc::new(Door { open: AtomicBool::new(true), counted: Mutex::default(), wake: Notify::new() });
        let writer = Writer {
            sink,
            messages,
            door: Arc::clone(&door),
            clock: options.clock.clone(),
            deadline: options.deadline,
            next: 0,
            last_hash: [0; 32],
            closing: Vec::new(),
        };
        let thread = thread::Builder::new().name("token-broker-audit".into()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(writer.run()),
                // The queue closes with the writer, so every request is refused.
                Err(error) => tracing::error!(%error, "the audit log has no runtime; nothing is let through"),
            }
        });
        if let Err(error) = thread {
            // The queue went with the writer, so every request is refused.
            tracing::error!(%error, "the audit log has no thread; nothing is let through");
        }
        let AuditOptions { clock, deadline, .. } = options;
        Self(Arc::new(Shared { queue, clock, deadline, door, refreshes: AtomicU64::new(0) }))
    }

    /// Whether the last records could be written.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.door.open.load(Ordering::Acquire) && !self.0.queue.is_closed()
    }

    /// Waits until all that was recorded before is durable.
    ///
    /// # Errors
    /// The sink does not take it within the deadline.
    ///
    /// # Cancellation
    /// Dropped, the records are written all the same.
    pub async fn flush(&self) -> Result<(), AuditUnavailable> {
        let (done, wait) = oneshot::channel();
        let flush = async {
            self.0.queue.send(Message::Flush(done)).await.map_err(|_| AuditUnavailable)?;
            wait.await.map_err(|_| AuditUnavailable)
        };
        tokio::time::timeout(self.0.deadline, flush).await.map_err(|_| AuditUnavailable)?
    }

    /// Ends the log: lets no new request in, waits for the result of each open one, writes `close`, and returns when that is
    /// durable. To be called once, when the server has stopped to take requests.
    ///
    /// # Errors
    /// A request was still open after `within`, the sink failed until then, or the log was closed before. The log goes on to
    /// wait, but the process need not: what is open when it ends is recorded as `unknown` by the next one.
    ///
    /// # Cancellation
    /// Dropped, the log ends all the same.
    pub async fn close(&self, within: Duration) -> Result<(), AuditUnavailable> {
        let (done, wait) = oneshot::channel();
        let close = async {
            self.0.queue.send(Message::Close(done)).await.map_err(|_| AuditUnavailable)?;
            wait.await.map_err(|_| AuditUnavailable)
        };
        tokio::time::timeout(within, close).await.map_err(|_| AuditUnavailable)?
    }

    /// Records that something was revoked, and waits until that is durable. Call it beside
    /// [`Revocations::revoke`](crate::revocation::Revocations::revoke), which does not wait.
    ///
    /// # Errors
    /// The record could not be made durable in time; the revoke holds all the same.
    ///
    /// # Cancellation
    /// Dropped, the record is written all the same.
    pub async fn note_revoked(&self, what: &Revoked) -> Result<(), AuditUnavailable> {
        let (what, id) = what.in_words();
        self.0.write(Event::Revoked { what, id: id.into() }).await
    }
}

impl Shared {
    /// Keeps the place of a record that must be written; none if the door is closed or the queue is full.
    pub(super) fn place(&self) -> Result<Place, AuditUnavailable> {
        if !self.door.open.load(Ordering::Acquire) {
            return Err(AuditUnavailable);
        }
        self.queue.clone().try_reserve_owned().map_err(|_| AuditUnavailable)
    }

    pub(super) fn entry(&self, event: Event) -> Entry {
        Entry { at: self.clock.now(), event }
    }

    /// Writes into a kept place; nobody waits.
    pub(super) fn settle(&self, place: Place, event: Event) {
        drop(place.send(Message::Entry(self.entry(event), None)));
    }

    /// Writes, and waits until it is durable.
    pub(super) async fn write(&self, event: Event) -> Result<(), AuditUnavailable> {
        self.durable(self.enqueue(event)?).await
    }

    /// Puts a record onto its way.
    pub(super) fn enqueue(&self, event: Event) -> Result<Written, AuditUnavailable> {
        if !self.door.open.load(Ordering::Acquire) {
            return Err(AuditUnavailable);
        }
        let (durable, wait) = oneshot::channel();
        let message = Message::Entry(self.entry(event), Some(durable));
        self.queue.try_send(message).map_err(|_| AuditUnavailable)?;
        Ok(Written(wait))
    }

    /// Waits for a record that is on its way.
    pub(super) async fn durable(&self, Written(wait): Written) -> Result<(), AuditUnavailable> {
        match tokio::time::timeout(self.deadline, wait).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_dropped)) => Err(AuditUnavailable),
            Err(_elapsed) => {
                // P288: a sink that hangs closes the door; the writer opens it when it is through.
                self.door.close("the sink does not answer in time");
                Err(AuditUnavailable)
            }
        }
    }

    /// Counts a refusal that can't be written now.
    pub(super) fn count(&self, reason: Reason) {
        let now = self.clock.now();
        self.door.counted.lock().entry(reason).or_insert((0, now)).0 += 1;
        self.door.wake.notify_one();
    }

    pub(super) fn next_refresh(&self) -> u64 {
        self.refreshes.fetch_add(1, Ordering::Relaxed)
    }
}

impl Door {
    fn close(&self, why: &str) {
        if self.open.swap(false, Ordering::AcqRel) {
            tracing::error!(why, "the audit log is closed: no request is let through until it can write again");
        }
        // It may be closed in the moment in which the writer is through: nothing else would wake it.
        self.wake.notify_one();
    }

    fn open(&self) {
        if !self.open.swap(true, Ordering::AcqRel) {
            tracing::info!("the audit log is open");
        }
    }
}

struct Writer<S> {
    sink: S,
    messages: mpsc::Receiver<Message>,
    door: Arc<Door>,
    clock: Clock,
    deadline: Duration,
    next: u64,
    last_hash: [u8; 32],
    /// Who waits for the end; with the first of them the queue takes no more.
    closing: Vec<oneshot::Sender<()>>,
}

impl<S: AuditSink> Writer<S> {
    async fn run(mut self) {
        self.resume().await;
        let door = Arc::clone(&self.door);
        let mut messages = Vec::new();
        loop {
            let mut flushed = Vec::new();
            tokio::select! {
                // Both branches may be dropped: `recv_many` keeps what it did not hand out, `notified` leaves its permit.
                received = self.messages.recv_many(&mut messages, LARGEST_GROUP) => {
                    if received == 0 {
                        break;
                    }
                    flushed = self.group(mem::take(&mut messages)).await;
                }
                () = door.wake.notified() => {}
            }
            // Nothing is under way: the door that a hanging write closed may open again, and what was refused is written.
            self.write_counted().await;
            door.open();
            tell(flushed);
        }
        self.write_counted().await;
        self.write(vec![Event::Close], Vec::new()).await;
        tell(mem::take(&mut self.closing));
    }

    async fn resume(&mut self) {
        let mut wait = TRY_AGAIN;
        let resumed: Resumed = loop {
            match caught(async { self.sink.resume().await }).await {
                Ok(resumed) => break resumed,
                Err(error) => {
                    self.door.close("what is written can't be read");
                    tracing::error!(%error, "the audit log can't go on where it stopped; no request is let through");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        };
        let mut events = Vec::new();
        match resumed.last {
            Some((sequence, hash)) => {
                (self.next, self.last_hash) = (sequence + 1, hash);
                events.push(Event::Open { dropped_bytes: resumed.dropped_bytes });
            }
            None => events.push(Event::Start { chain: random_bits() }),
        }
        // After a crash each open intent gets its terminal record.
        let lost = resumed.open_requests.into_iter().map(|request| Event::Lost { request });
        let unknown = resumed.open_refreshes.into_iter().map(|(request, refresh)| Event::RefreshResult {
            request,
            refresh,
            outcome: RefreshOutcome::Unknown,
        });
        events.extend(lost.chain(unknown));
        self.write(events, Vec::new()).await;
        self.door.open();
    }

    /// Writes what was received together, and says who waits for it to be durable and for what was counted.
    async fn group(&mut self, messages: Vec<Message>) -> Vec<oneshot::Sender<()>> {
        let (mut entries, mut durable, mut flushed) = (Vec::with_capacity(messages.len()), Vec::new(), Vec::new());
        for message in messages {
            match message {
                Message::Entry(entry, waiter) => {
                    entries.push(entry);
                    durable.extend(waiter);
                }
                Message::Flush(waiter) => flushed.push(waiter),
                Message::Close(waiter) => {
                    // What has its place still comes through: the queue ends behind the last open request.
                    self.messages.close();
                    self.closing.push(waiter);
                }
            }
        }
        self.write_entries(entries, durable).await;
        flushed
    }

    async fn write_counted(&mut self) {
        let counted = mem::take(&mut *self.door.counted.lock());
        if !counted.is_empty() {
            let events = counted.into_iter().map(|(reason, (count, since))| Event::Counted { reason, count, since });
            self.write(events.collect(), Vec::new()).await;
        }
    }

    async fn write(&mut self, events: Vec<Event>, durable: Vec<oneshot::Sender<()>>) {
        let at = self.clock.now();
        self.write_entries(events.into_iter().map(|event| Entry { at, event }).collect(), durable).await;
    }

    /// Chains the entries and has the sink write them, as often as it takes.
    async fn write_entries(&mut self, entries: Vec<Entry>, mut durable: Vec<oneshot::Sender<()>>) {
        if entries.is_empty() {
            return;
        }
        let mut records = Vec::with_capacity(entries.len());
        for entry in &entries {
            let record = Record::of(entry, self.next, &self.last_hash);
            self.next += 1;
            self.last_hash = *record.hash();
            records.push(record);
        }
        let mut wait = TRY_AGAIN;
        loop {
            let mut write = Box::pin(caught(async { self.sink.write(&records).await }));
            let written = match tokio::time::timeout(self.deadline, &mut write).await {
                Ok(written) => written,
                Err(_elapsed) => {
                    // A write that hangs is awaited further, never repeated beside itself.
                    self.door.close("the sink hangs");
                    durable.clear();
                    write.await
                }
            };
            match written {
                Ok(()) => break,
                Err(error) => {
                    self.door.close("the sink failed");
                    tracing::error!(%error, records = records.len(), "the audit sink failed; the records are kept");
                    // Who waits for these records is refused now, not at the deadline.
                    durable.clear();
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        tell(durable);
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
    let mut call = Box::pin(call);
    std::future::poll_fn(move |cx| {
        catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx)))
            .unwrap_or_else(|_panic| Poll::Ready(Err(SinkError::new("it panicked"))))
    })
    .await
}

/// 128 random bits.
pub(super) fn random_bits() -> [u8; 16] {
    let mut bits = [0; 16];
    aws_lc_rs::rand::fill(&mut bits).expect("the system's source of randomness does not fail once it is seeded");
    bits
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_door_that_is_closed_while_nothing_is_under_way_opens_again() {
        let (log, _sink) = AuditLog::in_memory();
        log.flush().await.unwrap();
        // What a request does whose patience ends in the moment in which its record has become durable.
        log.0.door.close("too late");
        let open = async {
            while !log.is_open() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), open).await.expect("the door opens by itself");
    }

    #[tokio::test]
    async fn what_is_counted_while_nothing_is_under_way_is_written_at_once() {
        let (log, sink) = AuditLog::in_memory();
        log.flush().await.unwrap();
        let calls = sink.calls();
        log.0.count(Reason::AuditUnavailable);
        tokio::time::timeout(Duration::from_secs(20), sink.called(calls + 1)).await.expect("nothing else has to come");
        log.flush().await.unwrap();
        let kinds: Vec<_> = sink.records().iter().map(Record::kind).collect();
        assert_eq!(kinds, ["start", "result"]);
    }
}
