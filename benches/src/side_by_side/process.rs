//! Measured processes: starts them, reads their usage from the operating system, and ends them.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use super::{Outcome, role};

/// A child process with a role. It ends when its standard input is closed, which happens when this
/// value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    address: SocketAddr,
    /// The process that does the work: the child, or one that the child started.
    worker: u32,
}

impl Process {
    /// Starts this program in another role, and waits until it listens.
    pub(crate) fn start(name: &str, settings: &[(&str, String)]) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role::WORD).arg(name);
        command.args(settings.iter().map(|(name, value)| format!("{name}={value}")));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or("a child without standard output")?;
        let mut line = String::new();
        BufReader::new(output.take(256)).read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let (Some("LISTENING"), Some(address), Some(worker)) =
            (words.next(), words.next(), words.next())
        else {
            return Err(format!("{name} did not start: it printed {line:?}").into());
        };
        Ok(Self { address: address.parse()?, worker: worker.parse()?, input, child })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the CPU time of all threads so far, in user space and in the kernel.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        cpu_of(&Path::new("/proc").join(self.worker.to_string()))
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Outcome<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.worker))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("no VmRSS in /proc")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }

    /// Ends the process, and returns an error if it failed.
    pub(crate) fn end(mut self) -> Outcome<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a child ended with {status}").into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        // It ends by itself.
        drop(self.child.wait());
    }
}

/// Makes sleeps end on time: by default Linux makes each of them up to 50 us longer. Threads
/// inherit the setting.
pub(crate) fn sleep_exactly() -> io::Result<()> {
    fs::write("/proc/self/timerslack_ns", "1")
}

/// Returns the CPU time of this process so far.
pub(crate) fn own_cpu() -> io::Result<Duration> {
    cpu_of(Path::new("/proc/self"))
}

/// Returns the busy time of all processors so far.
pub(crate) fn busy_cpu() -> Outcome<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; a tick is 10 ms on all known Linux
    // systems.
    let busy = ticks
        .iter()
        .take(8)
        .enumerate()
        .filter(|(place, _)| !matches!(place, 3 | 4))
        .map(|(_, ticks)| ticks);
    Ok(Duration::from_millis(busy.sum::<u64>() * 10))
}

/// Sums the first number of each thread's `schedstat`: its CPU time in nanoseconds.
fn cpu_of(process: &Path) -> io::Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(process.join("task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let ran = text.split_whitespace().next().and_then(|ran| ran.parse::<u64>().ok());
        sum +=
            ran.ok_or_else(|| io::Error::other("this kernel counts no run time in schedstat"))?;
    }
    Ok(Duration::from_nanos(sum))
}
