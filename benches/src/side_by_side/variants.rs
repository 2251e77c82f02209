//! Variants of a proxy: the role of the child process, and its settings.

use std::path::{Path, PathBuf};

use super::{Outcome, expected::Lists, process::Process, turns::Bench};

#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) lists: Lists,
    pub(crate) audit: Audit,
    /// Number of tokens that it has seen before the first turn.
    pub(crate) seen_before: usize,
    role: &'static str,
    settings: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    None,
    /// The sink discards records.
    Dropped,
    /// A file on the disk that is synced.
    Durable,
    /// A folder of segments on the disk that are synced.
    Folder,
}

impl Variant {
    pub(crate) fn bare() -> Self {
        Self::of("bare", "bare", Audit::None)
    }

    pub(crate) fn noop() -> Self {
        Self::of("four-noop-layers", "noop", Audit::None)
    }

    pub(crate) fn haproxy() -> Self {
        Self::of("haproxy-jwt-verify", "haproxy", Audit::None)
    }

    pub(crate) fn gateway() -> Self {
        Self::of("gateway", "gateway", Audit::Folder)
    }

    pub(crate) fn dropped() -> Self {
        Self::of("stack-sink-drops", "stack", Audit::Dropped)
    }

    pub(crate) fn durable() -> Self {
        Self::of("stack-durable", "stack", Audit::Durable)
    }

    fn of(name: &str, role: &'static str, audit: Audit) -> Self {
        let lists = if audit == Audit::None { Lists::Whole } else { Lists::Filtered };
        Self { name: name.to_owned(), lists, audit, role, seen_before: 0, settings: Vec::new() }
    }

    pub(crate) fn named(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    pub(crate) fn with(mut self, setting: &'static str, number: usize) -> Self {
        self.settings.push((setting, number.to_string()));
        self
    }

    pub(crate) const fn seen_before(mut self, tokens: usize) -> Self {
        self.seen_before = tokens;
        self
    }

    pub(crate) fn audit_file(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.jsonl", self.name))
    }

    pub(crate) fn start(&self, bench: &Bench<'_>) -> Outcome<Process> {
        let text =
            |path: &Path| path.to_str().map(str::to_owned).ok_or("the folder's name is not UTF-8");
        let mut settings = self.settings.clone();
        settings.push(("upstream", bench.upstream.address().to_string()));
        settings.push(("threads", bench.options.threads.to_string()));
        settings.push(("dir", text(bench.dir)?));
        if self.audit == Audit::Durable {
            settings.push(("audit", text(&self.audit_file(bench.dir))?));
        }
        Process::start(self.role, &settings)
    }
}
