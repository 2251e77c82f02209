//! Checks of the upstreams' own logs, the audit file, the store's files, and the bytes that the
//! client and the browser received. None of them reads what the scenario reports.

mod access;
mod accounts;
mod records;

use serde_json::Value;

use crate::{scenario::Marks, upstream::Seen};

/// A statement that must hold.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Name, which never changes.
    pub name: &'static str,
    /// The statement, for people.
    pub title: &'static str,
    /// Whether the statement holds.
    pub pass: bool,
    /// Findings, and where they are from.
    pub found: String,
}

/// Everything that the checks may read.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) marks: Marks,
    pub(crate) before: String,
    pub(crate) crm: Vec<Seen>,
    pub(crate) tickets: Vec<Seen>,
    /// Contents of the audit file.
    pub(crate) audit: String,
    /// Bytes that the client sent and received, by connection.
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) received: Vec<Vec<u8>>,
    /// Pages of the broker that the browser received.
    pub(crate) pages: Vec<String>,
    /// Files of the broker's store.
    pub(crate) store: Vec<Vec<u8>>,
    /// Every secret that the upstreams issued.
    pub(crate) secrets: Vec<String>,
    pub(crate) broker_tokens: Vec<String>,
    /// Scopes that the operator configured for the CRM, and for the ticket server.
    pub(crate) operators_scopes: [String; 2],
}

impl Evidence {
    /// Returns the records of the audit file.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.audit.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Returns what the CRM saw before the broker was in front of it.
    pub(crate) fn crm_before(&self) -> &[Seen] {
        self.crm.get(..self.marks.crm_before).unwrap_or_default()
    }

    /// Returns what the CRM saw since the broker is in front of it.
    pub(crate) fn crm_after(&self) -> &[Seen] {
        self.crm.get(self.marks.crm_before..).unwrap_or_default()
    }

    /// Returns everything that the client received since the broker is there.
    pub(crate) fn received(&self) -> String {
        joined(&self.received)
    }
}

/// Runs all checks, in the order in which people read them.
pub(crate) fn run(evidence: &Evidence) -> Vec<Check> {
    let records = evidence.records();
    let logs = Logs { evidence, records: &records, received: evidence.received() };
    vec![
        logs.the_raw_token_works_without_the_broker(),
        logs.each_account_is_connected_through_the_broker(),
        logs.the_hidden_tool_is_not_listed(),
        logs.an_allowed_call_reaches_the_upstream(),
        logs.a_denied_call_never_reaches_the_upstream(),
        logs.a_missing_scope_is_named(),
        logs.the_upstream_sees_the_operators_scopes(),
        logs.a_hundred_calls_are_one_refresh(),
        logs.the_broker_token_is_good_for_one_server(),
        logs.a_missing_account_is_asked_for(),
        logs.a_disconnect_ends_the_account(),
        logs.a_revoke_ends_the_open_stream(),
        logs.a_revoke_ends_access_at_both_servers(),
        logs.requests_equal_terminal_records(),
        logs.every_use_had_an_intent(),
        logs.the_audit_chain_holds(),
        logs.no_upstream_token_came_back(),
    ]
}

struct Logs<'a> {
    evidence: &'a Evidence,
    records: &'a [Value],
    received: String,
}

impl<'a> Logs<'a> {
    /// Returns what the CRM saw since the broker is in front of it.
    fn after(&self) -> impl Iterator<Item = &'a Seen> {
        self.evidence.crm_after().iter()
    }

    /// Returns what both upstreams saw since the broker is in front of them.
    fn both(&self) -> impl Iterator<Item = &'a Seen> {
        self.after().chain(&self.evidence.tickets)
    }

    fn results(&self) -> impl Iterator<Item = &'a Value> {
        self.of_kind("result")
    }

    fn of_kind(&self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.records.iter().filter(move |record| record["kind"] == kind)
    }

    /// Returns the number of refusals for this reason.
    fn refused(&self, reason: &str) -> usize {
        self.results().filter(|result| result["reason"] == reason).count()
    }
}

fn check((name, title): (&'static str, &'static str), pass: bool, found: String) -> Check {
    Check { name, title, pass, found }
}

/// Returns the number of requests to this endpoint with this operation and status.
fn count<'s>(log: impl IntoIterator<Item = &'s Seen>, of: (&str, &str, u16)) -> usize {
    let (door, what, status) = of;
    let is = |seen: &&Seen| seen.door == door && seen.what == what && seen.status == status;
    log.into_iter().filter(is).count()
}

const fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn joined(all: &[Vec<u8>]) -> String {
    all.iter().map(|bytes| text(bytes)).collect::<Vec<_>>().join("\n")
}
