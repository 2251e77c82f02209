//! Roles of child processes. A child prints its address, and ends when its standard input is
//! closed.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    thread,
};

use tokio::{net::TcpListener, sync::oneshot};
use tower_token_broker::tasks::Tasks;

use super::{Outcome, gateway, haproxy, proxies, upstream};

/// First argument of a child process.
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

/// Runs a role until the parent closes the standard input, or dies.
pub(crate) fn play(name: &str, setting: &Setting) -> Outcome<()> {
    // One thread: on two cores the load generator and the upstream need the other one, and no task
    // moves between threads. `--threads` measures with more.
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
        if name == "gateway" {
            return gateway::run(setting, closed).await;
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
                other => Err(format!("unknown role {other}").into()),
            }
        };
        tokio::select! {
            // Either may be dropped: the process ends.
            played = role => played,
            _ = closed => Ok(()),
        }
    })
}

/// Prints the address of this role for the parent, and the process that does the work.
pub(crate) fn announce(address: &SocketAddr, worker: Option<u32>) -> io::Result<()> {
    let worker = worker.unwrap_or_else(std::process::id);
    let mut out = io::stdout();
    writeln!(out, "LISTENING {address} {worker}")?;
    out.flush()
}

fn standard_input_closes() -> oneshot::Receiver<()> {
    let (closed, wait) = oneshot::channel();
    thread::spawn(move || {
        // No one writes to it: the read returns when it is closed, or when the parent dies.
        drop(io::stdin().read(&mut [0]));
        closed.send(()).unwrap_or_default();
    });
    wait
}
