//! What a child process is told to be, and its life: it says where it listens, and ends when its
//! standard input does.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    thread,
};

use tokio::{net::TcpListener, sync::oneshot};
use tower_token_broker::tasks::Tasks;

use super::{Outcome, haproxy, proxies, upstream};

/// The word by which the program knows that it is a child.
pub(crate) const WORD: &str = "role";

/// `name=value` pairs from the command line.
#[derive(Debug, Default)]
pub(crate) struct Setting(Vec<(String, String)>);

impl Setting {
    pub(crate) fn of(arguments: &[String]) -> Self {
        let pairs = arguments.iter().filter_map(|argument| argument.split_once('='));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn required(&self, name: &str) -> io::Result<&str> {
        self.get(name).ok_or_else(|| io::Error::other(format!("the role needs {name}=")))
    }

    pub(crate) fn number(&self, name: &str) -> Outcome<usize> {
        Ok(self.get(name).map_or(Ok(0), str::parse)?)
    }
}

/// Plays the role until the parent closes our standard input, or dies.
pub(crate) fn play(name: &str, setting: &Setting) -> Outcome<()> {
    // One thread: on two cores the load generator and the upstream need the other one, and nothing
    // is moved between threads by chance. Figures with more threads are a question of their own:
    // `--threads`.
    let runtime = match setting.number("threads")? {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        threads => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()?,
    };
    let closed = standard_input_closes();
    runtime.block_on(async {
        let tasks = Tasks::new();
        if name == "haproxy" {
            return haproxy::run(setting, closed).await;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        announce(&listener.local_addr()?, None)?;
        if name == "stack" {
            return proxies::stack(listener, setting, &tasks, closed).await;
        }
        let role = async {
            match name {
                "upstream" => Ok(upstream::serve(listener, &tasks).await?),
                "bare" => proxies::bare(listener, setting, &tasks).await,
                "noop" => proxies::noop(listener, setting, &tasks).await,
                other => Err(format!("there is no role {other}").into()),
            }
        };
        tokio::select! {
            // Either may be dropped: the process ends.
            played = role => played,
            _ = closed => Ok(()),
        }
    })
}

/// Tells the parent where this role listens, and which process does the work if it is not this one.
pub(crate) fn announce(address: &SocketAddr, worker: Option<u32>) -> io::Result<()> {
    let worker = worker.unwrap_or_else(std::process::id);
    let mut out = io::stdout();
    writeln!(out, "LISTENING {address} {worker}")?;
    out.flush()
}

fn standard_input_closes() -> oneshot::Receiver<()> {
    let (closed, wait) = oneshot::channel();
    thread::spawn(move || {
        // Nothing is ever written there: it ends, or the parent has died.
        drop(io::stdin().read(&mut [0]));
        closed.send(()).unwrap_or_default();
    });
    wait
}
