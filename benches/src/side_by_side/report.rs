//! Results, as text and as JSON.

use std::{fmt::Write as _, fs};

use serde::Serialize;

use super::{Outcome, statistics::Spread};

/// The object that `--json` prints. Spreads are over turns; ratios are to the first variant of the
/// case in the same turn.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this object.
    pub(crate) schema: u32,
    pub(crate) quick: bool,
    pub(crate) machine: Machine,
    pub(crate) threads_a_proxy: usize,
    pub(crate) cases: Vec<CaseReport>,
    pub(crate) steady: Option<SteadyReport>,
    pub(crate) footprint: Option<FootprintReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
}

impl Machine {
    pub(crate) fn this() -> Outcome<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let model =
            cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Ok(Self {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            processors: std::thread::available_parallelism()?.get(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        })
    }
}

/// Latency in an open loop, measured from the time when a request was due.
#[derive(Debug, Serialize)]
pub(crate) struct SteadyReport {
    /// Capacity of the durable stack in a closed loop over as many connections.
    pub(crate) capacity_per_second: f64,
    pub(crate) rate_per_second: f64,
    pub(crate) turns: usize,
    pub(crate) fdatasync_us: Spread,
    pub(crate) bare_p50_us: Spread,
    pub(crate) bare_p99_us: Spread,
    pub(crate) durable_p50_us: Spread,
    pub(crate) durable_p99_us: Spread,
    pub(crate) p50_added_in_fdatasyncs: Spread,
    pub(crate) p99_added_in_fdatasyncs: Spread,
}

#[derive(Debug, Serialize)]
pub(crate) struct FootprintReport {
    pub(crate) bare_start_ms: Spread,
    pub(crate) bare_idle_bytes: Spread,
    /// Time from the start of the durable stack to its first response.
    pub(crate) start_ms: Spread,
    pub(crate) idle_bytes: Spread,
    pub(crate) cached: Vec<CachedReport>,
    pub(crate) binaries: Vec<SizeReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CachedReport {
    pub(crate) users: usize,
    /// Memory with all grants in the store and none in the caches.
    pub(crate) resident_before_bytes: u64,
    pub(crate) resident_bytes: u64,
    pub(crate) bytes_a_pair: f64,
    pub(crate) bytes_a_pair_without_token: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct SizeReport {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct CaseReport {
    pub(crate) name: String,
    pub(crate) connections: usize,
    pub(crate) requests: usize,
    pub(crate) turns: usize,
    pub(crate) fdatasync_us: Spread,
    pub(crate) others_busy: f64,
    pub(crate) variants: Vec<VariantReport>,
}

#[derive(Debug, Serialize)]
pub(crate) struct VariantReport {
    pub(crate) name: String,
    pub(crate) cpu_us: Spread,
    pub(crate) cpu_ratio: Spread,
    pub(crate) per_second: Spread,
    pub(crate) per_second_ratio: Spread,
    pub(crate) p50_us: Spread,
    pub(crate) p50_ratio: Spread,
    /// Additional wait of the median request at the durable stack, compared with the bare proxy.
    pub(crate) p50_added_in_fdatasyncs: Option<Spread>,
    pub(crate) p99_us: Spread,
    pub(crate) p99_ratio: Spread,
    pub(crate) p99_added_in_fdatasyncs: Option<Spread>,
}

impl CaseReport {
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{}: {} connections, {} turns of {} requests; one fdatasync {:.0} us; others had \
             {:.0} % of the busy time\n",
            self.name,
            self.connections,
            self.turns,
            self.requests,
            self.fdatasync_us.median,
            self.others_busy * 100.0
        );
        text.push_str(concat!(
            "                     CPU/request (us)   ratio               requests/s   ratio",
            "    p50 (us)  ratio   p99 (us)  ratio\n"
        ));
        for variant in &self.variants {
            // Writing to a String cannot fail.
            writeln!(
                text,
                "  {:18} {:8.1}            {:5.2} ({:.2}..{:.2})   {:8.0}     {:5.2}    \
                 {:8.0}  {:5.2}   {:8.0}  {:5.2}",
                variant.name,
                variant.cpu_us.median,
                variant.cpu_ratio.median,
                variant.cpu_ratio.least,
                variant.cpu_ratio.most,
                variant.per_second.median,
                variant.per_second_ratio.median,
                variant.p50_us.median,
                variant.p50_ratio.median,
                variant.p99_us.median,
                variant.p99_ratio.median,
            )
            .unwrap_or_default();
        }
        text
    }
}

impl SteadyReport {
    pub(crate) fn to_text(&self) -> String {
        format!(
            "steady: {:.0} requests/s, half of the durable stack's {:.0}; {} turns; one fdatasync \
             {:.0} us\n\
             \x20 p50 {:.0} us (bare {:.0}), {:.2} fdatasyncs more ({:.2}..{:.2})\n\
             \x20 p99 {:.0} us (bare {:.0}), {:.2} fdatasyncs more ({:.2}..{:.2})\n",
            self.rate_per_second,
            self.capacity_per_second,
            self.turns,
            self.fdatasync_us.median,
            self.durable_p50_us.median,
            self.bare_p50_us.median,
            self.p50_added_in_fdatasyncs.median,
            self.p50_added_in_fdatasyncs.least,
            self.p50_added_in_fdatasyncs.most,
            self.durable_p99_us.median,
            self.bare_p99_us.median,
            self.p99_added_in_fdatasyncs.median,
            self.p99_added_in_fdatasyncs.least,
            self.p99_added_in_fdatasyncs.most,
        )
    }
}

impl FootprintReport {
    pub(crate) fn to_text(&self) -> String {
        const MIB: f64 = 1024.0 * 1024.0;
        let mut text = format!(
            "memory: idle {:.1} MiB (bare {:.1}); first response {:.0} ms after the start (bare \
             {:.0})\n",
            self.idle_bytes.median / MIB,
            self.bare_idle_bytes.median / MIB,
            self.start_ms.median,
            self.bare_start_ms.median
        );
        for cached in &self.cached {
            // Writing to a String cannot fail.
            writeln!(
                text,
                "  {} users cached: {:.1} MiB, {:.0} bytes per pair without the token",
                cached.users,
                cached.resident_bytes as f64 / MIB,
                cached.bytes_a_pair_without_token
            )
            .unwrap_or_default();
        }
        for binary in &self.binaries {
            writeln!(text, "  {}: {:.1} MiB on disk", binary.name, binary.bytes as f64 / MIB)
                .unwrap_or_default();
        }
        text
    }
}
