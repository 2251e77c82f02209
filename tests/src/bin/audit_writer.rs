//! A process that writes to an audit folder, for a test that kills it and changes its files.
//!
//! Sends requests through the audit layer, many at a time; each one passes if its intent is
//! durable. Prints one line for each that passed (`use ID`), `closed` after some were refused,
//! `refused` while they are, `open` when they pass again, and `done` after an end in order. It ends
//! when its standard input does.

use std::{
    convert::Infallible,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use tokio::task::JoinSet;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};
use tower_token_broker::{
    Broker,
    audit::{AuditFolder, AuditLayer, Intent, SegmentLimits, Trail, WriterName},
    clock::{Clock, Timestamp},
    principal::Scopes,
    stack::StackConfig,
};

/// Requests at a time.
const WAVE: usize = 128;
/// The time that passes while one process writes, by its clock.
const SPAN: Duration = Duration::from_secs(2 * 24 * 60 * 60);
/// Between two waves while the log is closed.
const PAUSE: Duration = Duration::from_millis(5);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument =
        move || arguments.next().ok_or("audit_writer FOLDER WRITER REQUESTS BYTES SECONDS");
    let (folder, writer) = (argument()?, WriterName::parse(&argument()?)?);
    let requests: usize = argument()?.parse()?;
    let limits = SegmentLimits::default().max_bytes(argument()?.parse()?);
    let clock = Clock::manual(Timestamp::from_unix_seconds(argument()?.parse()?));
    let sink = AuditFolder::open_with(folder, &writer, limits)?;
    let broker = Broker::builder().audit(sink).clock(clock.clone()).build()?;
    let layer = AuditLayer::new(&broker, &StackConfig::new("https://broker.example.com/")?);
    let service = layer.layer(service_fn(pass));
    let step = SPAN / u32::try_from(requests / WAVE + 1)?;
    let (mut passed, mut is_closed) = (0, false);
    // The other process decides when this one ends: it may be about to change a file.
    let is_ending = Arc::new(AtomicBool::new(false));
    let ending = Arc::clone(&is_ending);
    std::thread::spawn(move || {
        let read = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ending.store(read.is_ok(), Ordering::SeqCst);
    });
    while passed < requests || !is_ending.load(Ordering::SeqCst) {
        let refused = wave(&service).await?;
        passed += WAVE - refused;
        clock.advance(step);
        match (is_closed, refused > 0) {
            (false, true) => say("closed")?,
            (true, true) => say("refused")?,
            (true, false) => say("open")?,
            (false, false) => {}
        }
        is_closed = refused > 0;
        if is_closed {
            tokio::time::sleep(PAUSE).await;
        }
    }
    broker.shutdown(Duration::from_secs(60)).await?;
    say("done")?;
    Ok(())
}

/// Sends requests together, and returns how many were refused.
async fn wave<S>(service: &S) -> Result<usize, Box<dyn std::error::Error>>
where
    S: Service<Request<String>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    S::Response: HasStatus + Send,
{
    let mut requests = JoinSet::new();
    for _ in 0..WAVE {
        let service = service.clone();
        requests.spawn(async move {
            let response = service.oneshot(Request::new(String::new())).await;
            response.map(|response| response.is_refused())
        });
    }
    let mut refused = 0;
    while let Some(response) = requests.join_next().await {
        refused += usize::from(response??);
    }
    Ok(refused)
}

trait HasStatus {
    fn is_refused(&self) -> bool;
}

impl<B> HasStatus for Response<B> {
    fn is_refused(&self) -> bool {
        self.status() == StatusCode::SERVICE_UNAVAILABLE
    }
}

/// The inner service: a call that uses a credential passes only with the receipt of its intent.
async fn pass(request: Request<String>) -> Result<Response<String>, Infallible> {
    let mut response = Response::new(String::new());
    let scopes = Scopes::none();
    let intent = Intent::new("crm", "https://crm.example.com:443", &scopes, None);
    let trail = request.extensions().get::<Trail>();
    let is_passed = match trail {
        Some(trail) => match trail.intent(intent).await {
            Ok(_receipt) => say(&format!("use {}", trail.request_id())).is_ok(),
            Err(_unavailable) => false,
        },
        None => false,
    };
    if !is_passed {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// Prints a line with one write, so that it is there as a whole if the process is killed next.
fn say(line: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{line}\n").as_bytes())?;
    output.flush()
}
