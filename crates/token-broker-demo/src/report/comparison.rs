//! The measurements before and after the broker, next to each other.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;

use crate::{
    checks::Evidence,
    upstream::{Seen, fingerprint},
    wiretap::requests,
};

/// One measurement, before and after the broker.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The thing that was measured.
    pub what: &'static str,
    /// Without the broker.
    pub before: String,
    /// With the broker.
    pub after: String,
}

pub(super) fn of(evidence: &Evidence) -> Vec<Comparison> {
    let tools = |received: &str| received.matches("\"inputSchema\"").count().to_string();
    let records = evidence.records();
    let counted = |to: usize| -> u64 {
        let known = records.iter().take(to);
        known.filter_map(|record| record["count"].as_u64()).sum()
    };
    let (before, after) = (evidence.crm_before(), evidence.crm_after());
    let broker_tokens: Vec<_> =
        evidence.broker_tokens.iter().map(|token| fingerprint(token)).collect();
    vec![
        Comparison {
            what: "tools that the client sees",
            before: tools(&evidence.before),
            after: tools(&evidence.received()),
        },
        Comparison {
            what: "scopes of the token at the CRM",
            before: scopes(before),
            after: scopes(after),
        },
        Comparison {
            what: "the client's token at the CRM itself, past MCP and broker",
            before: statuses(before.iter().filter(|seen| seen.door == "api")),
            after: statuses(after.iter().filter(|seen| broker_tokens.contains(&seen.token))),
        },
        Comparison {
            what: "requests of the client in the audit log",
            before: format!("{} of {}", counted(evidence.marks.audit_before), before.len()),
            after: format!("{} of {}", counted(records.len()), requests(&evidence.sent)),
        },
    ]
}

/// Writes the rows of a table.
pub(super) fn table(f: &mut fmt::Formatter<'_>, rows: &[Comparison]) -> fmt::Result {
    const LEFT: usize = 29;
    const MIDDLE: usize = 35;
    const RIGHT: usize = 28;
    writeln!(f, "  {:LEFT$} | {:MIDDLE$} | after", "", "before")?;
    for row in rows {
        let cells = [
            super::wrap(row.what, LEFT),
            super::wrap(&row.before, MIDDLE),
            super::wrap(&row.after, RIGHT),
        ];
        writeln!(f, "  {}-+-{}-+-{}", "-".repeat(LEFT), "-".repeat(MIDDLE), "-".repeat(RIGHT))?;
        for line in 0..cells.iter().map(Vec::len).max().unwrap_or_default() {
            let [what, before, after] =
                cells.each_ref().map(|cell| cell.get(line).map_or("", String::as_str));
            let text = format!("  {what:LEFT$} | {before:MIDDLE$} | {after}");
            writeln!(f, "{}", text.trim_end())?;
        }
    }
    Ok(())
}

fn scopes(log: &[Seen]) -> String {
    let uses = log.iter().filter(|seen| seen.door == "mcp" && seen.status == 200);
    let all: BTreeSet<_> = uses.map(|seen| seen.scopes.as_str()).collect();
    all.into_iter().collect::<Vec<_>>().join(", or ")
}

fn statuses<'s>(log: impl Iterator<Item = &'s Seen>) -> String {
    let text = |status| match status {
        200 => "works".to_owned(),
        status => format!("refused ({status})"),
    };
    let all: BTreeSet<_> = log.map(|seen| text(seen.status)).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}
