//! The load generator: raw sockets, prepared requests, and a check of each response.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use token_broker_benches::fixtures::{Call, HOST, PATH};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::{JoinSet, LocalSet},
};

use super::{
    Failure, Outcome,
    expected::Expected,
    process::Process,
    wire::{Message, Reader},
};

/// Pause after the last response of a proxy.
pub(crate) const SETTLE: Duration = Duration::from_millis(5);

/// A request without its token.
#[derive(Debug)]
pub(crate) struct Template {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Template {
    pub(crate) fn of(call: Call) -> Self {
        let body = call.request();
        let before = format!("POST {PATH} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer ");
        let after = format!(
            "\r\nuser-agent: bench/1\r\naccept: application/json, text/event-stream\r\n\
             content-type: application/json\r\nmcp-protocol-version: 2025-11-25\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { before: before.into_bytes(), after: after.into_bytes() }
    }

    fn write(&self, token: &str, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.before);
        into.extend_from_slice(token.as_bytes());
        into.extend_from_slice(&self.after);
    }
}

/// The requests to send, the number of connections, and the limits.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) template: Rc<Template>,
    /// Used in turn.
    pub(crate) tokens: Rc<[String]>,
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    /// Longest time. Requests that are left are not sent.
    pub(crate) longest: Duration,
    pub(crate) warm_up: WarmUp,
}

/// Whether each connection sends one request before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmUp {
    OneEach,
    /// For tokens that must be new to the proxy.
    None,
}

/// Results of a load.
#[derive(Debug)]
pub(crate) struct Driven {
    /// Measured requests.
    pub(crate) requests: usize,
    pub(crate) elapsed: Duration,
    /// CPU time of the measured process during these requests.
    pub(crate) cpu: Duration,
    /// In nanoseconds, sorted.
    pub(crate) latencies: Vec<u64>,
}

/// Sends the load in a closed loop: each connection sends its next request when it has received the
/// response to the last one.
pub(crate) fn drive(
    load: &Load,
    on: &Process,
    expected: &Rc<RefCell<Expected>>,
) -> Outcome<Driven> {
    let shared = Rc::new(Shared {
        next: Cell::new(0),
        latencies: RefCell::new(Vec::with_capacity(load.requests)),
        expected: Rc::clone(expected),
        load: load.clone(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(async {
        let mut clients = Vec::new();
        for _ in 0..load.connections {
            clients.push(Client::connect(on.address()).await?);
        }
        if load.warm_up == WarmUp::OneEach {
            // Concurrently, so that the proxy has as many connections to the upstream, too.
            let mut warm = JoinSet::new();
            for mut client in clients.drain(..) {
                let shared = Rc::clone(&shared);
                warm.spawn_local(async move {
                    client.call(&shared, 0).await?;
                    Ok::<_, Failure>(client)
                });
            }
            while let Some(client) = warm.join_next().await {
                clients.push(client??);
            }
        }
        let before = on.cpu()?;
        let started = now();
        let mut connections = JoinSet::new();
        for client in clients {
            connections.spawn_local(client.closed_loop(Rc::clone(&shared), started));
        }
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        let elapsed = started.elapsed();
        // The work of the proxy after the last responses counts, too.
        tokio::time::sleep(SETTLE).await;
        let cpu = on.cpu()?.saturating_sub(before);
        let mut latencies = shared.latencies.take();
        latencies.sort_unstable();
        Ok(Driven { requests: latencies.len(), elapsed, cpu, latencies })
    }))
}

/// State of all connections. They run on one thread, so cells are enough.
struct Shared {
    load: Load,
    next: Cell<usize>,
    latencies: RefCell<Vec<u64>>,
    expected: Rc<RefCell<Expected>>,
}

/// One connection.
pub(crate) struct Client {
    socket: TcpStream,
    reader: Reader,
    request: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Outcome<Self> {
        let socket = TcpStream::connect(to).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, reader: Reader::default(), request: Vec::new() })
    }

    async fn closed_loop(mut self, shared: Rc<Shared>, started: Instant) -> Outcome<()> {
        loop {
            let number = shared.next.get();
            if number >= shared.load.requests || started.elapsed() > shared.load.longest {
                return Ok(());
            }
            shared.next.set(number + 1);
            let took = self.call(&shared, number).await?;
            shared.latencies.borrow_mut().push(u64::try_from(took.as_nanos())?);
        }
    }

    async fn call(&mut self, shared: &Shared, number: usize) -> Outcome<Duration> {
        let (load, tokens) = (&shared.load, &shared.load.tokens);
        let token = tokens.get(number % tokens.len().max(1)).ok_or("no token")?;
        let sent = now();
        let response = self.exchange(&load.template, token).await?;
        let took = sent.elapsed();
        shared.expected.borrow_mut().check(&response)?;
        Ok(took)
    }

    pub(crate) async fn exchange(
        &mut self,
        template: &Template,
        token: &str,
    ) -> Outcome<Message<'_>> {
        template.write(token, &mut self.request);
        self.socket.write_all(&self.request).await?;
        let response = self.reader.next(&mut self.socket).await?;
        Ok(response.ok_or("the proxy closed the connection without a response")?)
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
