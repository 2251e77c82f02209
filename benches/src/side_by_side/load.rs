//! The load generator: raw sockets, requests that were written before, and each answer compared
//! with what it must be.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use token_broker_benches::fixtures::{Ask, HOST, PATH};
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

/// How long a proxy is left alone behind its last answer.
pub(crate) const SETTLE: Duration = Duration::from_millis(5);

/// A request but for its token.
#[derive(Debug)]
pub(crate) struct Template {
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl Template {
    pub(crate) fn of(ask: Ask) -> Self {
        let body = ask.request();
        let before = format!("POST {PATH} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer ");
        let behind = format!(
            "\r\nuser-agent: bench/1\r\naccept: application/json, text/event-stream\r\ncontent-type: application/json\r\n\
             mcp-protocol-version: 2025-11-25\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { before: before.into_bytes(), behind: behind.into_bytes() }
    }

    fn write(&self, token: &str, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.before);
        into.extend_from_slice(token.as_bytes());
        into.extend_from_slice(&self.behind);
    }
}

/// What is sent, over how many connections, and when it is enough.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) template: Rc<Template>,
    /// Taken in turn.
    pub(crate) tokens: Rc<[String]>,
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    /// Whatever is left of the requests then is not sent.
    pub(crate) longest: Duration,
    pub(crate) warm_up: WarmUp,
}

/// Whether each connection sends one request before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarmUp {
    OneEach,
    /// For tokens that must not have been seen.
    None,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Driven {
    /// Those that were measured.
    pub(crate) requests: usize,
    pub(crate) elapsed: Duration,
    /// Of the measured process, during the measured requests.
    pub(crate) cpu: Duration,
    /// In nanoseconds, sorted.
    pub(crate) latencies: Vec<u64>,
}

/// Sends the load in a closed loop: each connection sends its next request when it has the answer
/// to the one before.
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
            // At once, so that the proxy has as many connections to the upstream, too.
            let mut warm = JoinSet::new();
            for mut client in clients.drain(..) {
                let shared = Rc::clone(&shared);
                warm.spawn_local(async move {
                    client.ask(&shared, 0).await?;
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
        // What the proxy still does for the last answers is its work, too.
        tokio::time::sleep(SETTLE).await;
        let cpu = on.cpu()?.saturating_sub(before);
        let mut latencies = shared.latencies.take();
        latencies.sort_unstable();
        Ok(Driven { requests: latencies.len(), elapsed, cpu, latencies })
    }))
}

/// What the connections share. They run on one thread: cells will do.
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
            let took = self.ask(&shared, number).await?;
            shared.latencies.borrow_mut().push(u64::try_from(took.as_nanos())?);
        }
    }

    async fn ask(&mut self, shared: &Shared, number: usize) -> Outcome<Duration> {
        let (load, tokens) = (&shared.load, &shared.load.tokens);
        let token = tokens.get(number % tokens.len().max(1)).ok_or("no token")?;
        let asked = now();
        let answer = self.exchange(&load.template, token).await?;
        let took = asked.elapsed();
        shared.expected.borrow_mut().check(&answer)?;
        Ok(took)
    }

    pub(crate) async fn exchange(
        &mut self,
        template: &Template,
        token: &str,
    ) -> Outcome<Message<'_>> {
        template.write(token, &mut self.request);
        self.socket.write_all(&self.request).await?;
        let answer = self.reader.next(&mut self.socket).await?;
        Ok(answer.ok_or("the proxy closed the connection in place of an answer")?)
    }
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
