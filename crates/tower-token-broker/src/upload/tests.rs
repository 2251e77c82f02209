//! Tests of uploads without a client: their ends, and what they report.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Waker,
};

use super::*;
use crate::{
    clock::{Clock, Timestamp},
    revocation::{RevocationTarget, Revocations},
};

/// An owner that keeps what uploads report.
#[derive(Default)]
struct Reports(Mutex<Vec<Option<End>>>);

impl Owner for Reports {
    fn upload_is_over(&self, end: Option<End>) {
        self.0.lock().push(end);
    }
}

/// A transport that counts its calls.
#[derive(Default)]
struct Counts {
    is_written: std::sync::atomic::AtomicBool,
    resets: AtomicUsize,
    closes: AtomicUsize,
}

impl Transport for Counts {
    fn is_written(&self) -> bool {
        self.is_written.load(Ordering::SeqCst)
    }

    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn close(&self) {
        self.closes.fetch_add(1, Ordering::SeqCst);
    }
}

struct World {
    revocations: Revocations,
    reports: Arc<Reports>,
    transport: Arc<Counts>,
    upload: Upload,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_unix_seconds(1_000));
        let revocations = Revocations::new(clock.clone());
        let ends_at = Timestamp::from_unix_seconds(2_000);
        let principal = crate::revocation::tables::tests::principal(1_000);
        let epoch = revocations.epoch();
        let standing = Standing::new(&revocations, &clock, &principal, epoch, ends_at);
        let reports = Arc::new(Reports::default());
        let owner: Weak<Reports> = Arc::downgrade(&reports);
        let upload = Upload::open(Some(&standing), owner, &Limits::default(), true);
        let transport = Arc::new(Counts::default());
        upload.carried_by(&transport);
        Self { revocations, reports, transport, upload }
    }

    fn counts(&self) -> (usize, usize) {
        let Counts { resets, closes, .. } = &*self.transport;
        (resets.load(Ordering::SeqCst), closes.load(Ordering::SeqCst))
    }

    fn reports(&self) -> Vec<Option<End>> {
        self.reports.0.lock().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoke_ends_it_before_it_returns() {
    let world = World::new();
    let mut watch = world.upload.watch();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(watch.poll_ended(&mut cx).is_pending());
    assert!(world.upload.poll_ended(&mut cx).is_pending());
    world.revocations.revoke(RevocationTarget::Everything);
    assert_eq!(world.counts(), (1, 0));
    assert_eq!(world.reports(), [Some(End::Cut(Reason::Revoked))]);
    assert_eq!(watch.poll_ended(&mut cx), Poll::Ready(Ended::Cut));
    assert_eq!(world.upload.poll_ended(&mut cx), Poll::Ready(Reason::Revoked));
    // Once.
    world.revocations.revoke(RevocationTarget::Everything);
    assert_eq!(world.counts(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn n462_a_reset_without_effect_closes_the_connection() {
    for has_effect in [true, false] {
        let world = World::new();
        let watch = world.upload.watch();
        world.upload.abandon();
        let held = (!has_effect).then_some(watch);
        tokio::time::sleep(RESET_TIMEOUT * 2).await;
        assert_eq!(world.counts(), (1, usize::from(!has_effect)), "has effect: {has_effect}");
        drop(held);
    }
}

/// A transport that holds the request body until it is reset or closed.
#[derive(Default)]
struct Holding(Mutex<Option<Box<dyn Watch>>>);

impl Transport for Holding {
    fn is_written(&self) -> bool {
        false
    }

    fn reset(&self) {
        let body = self.0.lock().take();
        drop(body);
    }

    fn close(&self) {
        self.reset();
    }
}

#[tokio::test(start_paused = true)]
async fn n462_a_reset_may_drop_the_request_body() {
    type End = fn(&World);
    let ends: [(&str, End); 4] = [
        ("revoked", |world| {
            world.revocations.revoke(RevocationTarget::Everything);
        }),
        ("abandoned", |world| world.upload.abandon()),
        ("broken off", |world| world.upload.watch().broke_off()),
        ("revoked, in its grace", |world| {
            world.upload.start_grace();
            world.revocations.revoke(RevocationTarget::Everything);
        }),
    ];
    for (case, end) in ends {
        let world = World::new();
        let holding = Arc::new(Holding(Mutex::new(Some(world.upload.watch()))));
        world.upload.carried_by(&holding);
        end(&world);
        assert!(holding.0.lock().is_none() && world.upload.is_over(), "N462 {case}");
        assert!(!world.reports().is_empty(), "N462 {case}");
    }
    // It had ended before.
    let world = World::new();
    world.upload.abandon();
    let holding = Arc::new(Holding(Mutex::new(Some(world.upload.watch()))));
    world.upload.carried_by(&holding);
    assert!(holding.0.lock().is_none(), "N462");
    // Closed by the clock, after a reset that had no effect.
    let world = World::new();
    world.upload.abandon();
    let holding = Arc::new(Holding::default());
    world.upload.carried_by(&holding);
    *holding.0.lock() = Some(world.upload.watch());
    tokio::time::sleep(RESET_TIMEOUT * 2).await;
    assert!(holding.0.lock().is_none(), "N462");
}

#[tokio::test(start_paused = true)]
async fn it_is_over_when_its_bytes_are_written() {
    let world = World::new();
    let watch = world.upload.watch();
    assert!(!world.upload.is_over());
    world.upload.start_grace();
    drop(watch);
    assert!(!world.upload.is_over(), "taken, and not written");
    assert_eq!(world.reports(), []);
    world.transport.is_written.store(true, Ordering::SeqCst);
    assert!(world.upload.is_over());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.reports(), [None], "reported once");
    assert_eq!(world.counts(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn n463_grace_and_silence_end_it() {
    let (idle, late) = (World::new(), World::new());
    let mut watches = [idle.upload.watch(), late.upload.watch()];
    late.upload.start_grace();
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(late.reports(), []);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(late.reports(), [Some(End::Grace)]);
    watches.iter_mut().for_each(|watch| watch.pass(&Bytes::from_static(b"x")).unwrap());
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(idle.reports(), [], "counted from the last frame");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(idle.reports(), [Some(End::Idle)]);
}

#[test]
fn a_transport_of_an_ended_upload_is_reset_at_once() {
    let world = World::new();
    world.upload.abandon();
    let late = Arc::new(Counts::default());
    world.upload.carried_by(&late);
    assert_eq!(late.resets.load(Ordering::SeqCst), 1);
}

#[test]
fn a_sent_request_does_not_reset_its_connection() {
    let world = World::new();
    drop(world.upload.watch());
    world.transport.is_written.store(true, Ordering::SeqCst);
    world.revocations.revoke(RevocationTarget::Everything);
    assert_eq!(world.counts(), (0, 0), "another request may be on it");
}
