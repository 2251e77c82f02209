//! The tables of docs/performance.md.

use std::fmt::Write as _;

use super::{
    report::{CaseReport, FootprintReport, Report, SteadyReport},
    statistics::Spread,
};

pub(crate) fn tables(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "Measured on {}, {} processors, Linux {}; {} thread per proxy{}.\n\n",
        machine.processor,
        machine.processors,
        machine.kernel,
        report.threads_a_proxy,
        if report.quick { "; a run with `--quick`" } else { "" }
    );
    let (growth, others): (Vec<_>, Vec<_>) =
        report.cases.iter().partition(|case| case.name.starts_with("growth"));
    if !others.is_empty() {
        text.push_str("### Side by side\n\n");
        cases(&mut text, &others);
    }
    if let Some(steady) = &report.steady {
        text.push_str(&steady_text(steady));
    }
    if !growth.is_empty() {
        text.push_str("### Growth\n\n");
        cases(&mut text, &growth);
    }
    if let Some(footprint) = &report.footprint {
        text.push_str(&footprint_text(footprint));
    }
    text
}

fn cases(text: &mut String, cases: &[&CaseReport]) {
    text.push_str(
        "| case | variant | CPU per request | CPU ratio | requests/s ratio | p50 ratio | p99 \
         ratio | p50 added, in fdatasyncs |\n\
         |---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for case in cases {
        for variant in &case.variants {
            // Writing to a String cannot fail.
            writeln!(
                text,
                "| {} | {} | {:.1} µs | {} | {} | {} | {} | {} |",
                case.name,
                variant.name,
                variant.cpu_us.median,
                ratio(&variant.cpu_ratio),
                ratio(&variant.per_second_ratio),
                ratio(&variant.p50_ratio),
                ratio(&variant.p99_ratio),
                variant.p50_added_in_fdatasyncs.as_ref().map_or(String::new(), ratio),
            )
            .unwrap_or_default();
        }
    }
    let busiest = cases.iter().max_by(|one, other| one.others_busy.total_cmp(&other.others_busy));
    if let Some(case) = busiest {
        let share = case.others_busy * 100.0;
        writeln!(
            text,
            "\nOther processes had at most {share:.0} % of the busy time ({}).\n",
            case.name
        )
        .unwrap_or_default();
    }
}

fn steady_text(steady: &SteadyReport) -> String {
    format!(
        "### At a steady rate\n\n{:.0} requests/s, half of the capacity of the durable stack \
         over as many connections; one fdatasync {:.0} µs.\n\n\
         | | bare | durable stack | added, in fdatasyncs |\n|---|--:|--:|--:|\n\
         | p50 | {:.0} µs | {:.0} µs | {} |\n| p99 | {:.0} µs | {:.0} µs | {} |\n\n",
        steady.rate_per_second,
        steady.fdatasync_us.median,
        steady.bare_p50_us.median,
        steady.durable_p50_us.median,
        ratio(&steady.p50_added_in_fdatasyncs),
        steady.bare_p99_us.median,
        steady.durable_p99_us.median,
        ratio(&steady.p99_added_in_fdatasyncs),
    )
}

fn footprint_text(footprint: &FootprintReport) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let mut text = format!(
        "### Memory, start and size\n\n| | bare | durable stack |\n|---|--:|--:|\n\
         | idle, after the first response | {:.1} MiB | {:.1} MiB |\n\
         | from start to first response | {:.0} ms | {:.0} ms |\n\n\
         | users cached | resident before | resident | bytes per pair without the token |\n\
         |--:|--:|--:|--:|\n",
        footprint.bare_idle_bytes.median / MIB,
        footprint.idle_bytes.median / MIB,
        footprint.bare_start_ms.median,
        footprint.start_ms.median,
    );
    for cached in &footprint.cached {
        // Writing to a String cannot fail.
        writeln!(
            text,
            "| {} | {:.1} MiB | {:.1} MiB | {:.0} |",
            cached.users,
            cached.resident_before_bytes as f64 / MIB,
            cached.resident_bytes as f64 / MIB,
            cached.bytes_a_pair_without_token
        )
        .unwrap_or_default();
    }
    for binary in &footprint.binaries {
        writeln!(
            text,
            "\nThe binary `{}`: {:.1} MiB on disk.",
            binary.name,
            binary.bytes as f64 / MIB
        )
        .unwrap_or_default();
    }
    text
}

fn ratio(spread: &Spread) -> String {
    format!("{:.2} ({:.2}..{:.2})", spread.median, spread.least, spread.most)
}
