//! What was measured, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::statistics::Spread;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) quick: bool,
    pub(crate) cases: Vec<CaseReport>,
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
    pub(crate) p99_us: Spread,
    pub(crate) p99_ratio: Spread,
}

impl CaseReport {
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "{}: {} connections, {} turns of {} requests; one fdatasync {:.0} us; others had {:.0} % of the busy time\n",
            self.name,
            self.connections,
            self.turns,
            self.requests,
            self.fdatasync_us.median,
            self.others_busy * 100.0
        );
        text.push_str("                     CPU/request (us)   ratio               requests/s   ratio    p50 (us)  ratio   p99 (us)  ratio\n");
        for variant in &self.variants {
            // Writing to a String can't fail.
            writeln!(
                text,
                "  {:18} {:8.1}            {:5.2} ({:.2}..{:.2})   {:8.0}     {:5.2}    {:8.0}  {:5.2}   {:8.0}  {:5.2}",
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
