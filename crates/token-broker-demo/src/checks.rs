//! Checks of the upstreams' own logs, the audit file and the bytes on the client's connections.
//! None of them reads what the scenario reports.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    scenario::Marks,
    setup::OPERATORS_SCOPES,
    sign_in::TOKEN_PATH,
    upstream::{Seen, fingerprint},
};

/// A statement that must hold.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Name, which never changes.
    pub name: &'static str,
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
    /// Every secret that the upstreams issued.
    pub(crate) secrets: Vec<String>,
    pub(crate) broker_tokens: Vec<String>,
}

pub(crate) fn run(evidence: &Evidence) -> Vec<Check> {
    let records: Vec<Value> = evidence.audit.lines().filter_map(|line| line.parse().ok()).collect();
    let logs = Logs { evidence, records: &records, received: joined(&evidence.received) };
    vec![
        logs.the_raw_token_works_without_the_broker(),
        logs.the_hidden_tool_is_not_listed(),
        logs.an_allowed_call_reaches_the_upstream(),
        logs.a_denied_call_never_reaches_the_upstream(),
        logs.a_missing_scope_is_named(),
        logs.the_upstream_sees_the_operators_scopes(),
        logs.a_hundred_calls_are_one_refresh(),
        logs.the_broker_token_is_good_for_one_server(),
        logs.a_revoke_ends_the_open_stream(),
        logs.a_revoke_ends_access_at_both_servers(),
        logs.requests_equal_terminal_records(),
        logs.the_audit_chain_holds(),
        logs.every_use_had_an_intent(),
        logs.no_upstream_token_came_back(),
    ]
}

struct Logs<'a> {
    evidence: &'a Evidence,
    records: &'a [Value],
    received: String,
}

impl Logs<'_> {
    fn the_raw_token_works_without_the_broker(&self) -> Check {
        let before = self.evidence.crm.get(..self.evidence.marks.crm_before).unwrap_or_default();
        let through = before.iter().any(|seen| seen.door == "api" && seen.status == 200);
        let known = self
            .records
            .iter()
            .take(self.evidence.marks.audit_before)
            .filter(|r| r["count"].is_u64())
            .count();
        check(
            "raw_token_works_behind_the_servers_back",
            through && known == 0,
            format!(
                "the upstream's log has the API call: {through}; the audit had {known} records of \
                 it"
            ),
        )
    }

    fn the_hidden_tool_is_not_listed(&self) -> Check {
        let existed = self.evidence.before.contains("\"delete_contact\"");
        let listed = self.received.contains("\"list_contacts\"");
        let hidden = !self.received.contains("\"delete_contact\"");
        check(
            "hidden_tool_is_not_listed",
            existed && listed && hidden,
            format!(
                "on the wire before: {existed}; after: other tools {listed}, the hidden one {}",
                !hidden
            ),
        )
    }

    fn an_allowed_call_reaches_the_upstream(&self) -> Check {
        let calls = self
            .after()
            .filter(|seen| seen.what == "tools/call get_contact" && seen.status == 200)
            .count();
        check(
            "allowed_call_reaches_the_upstream",
            calls > 0,
            format!("the upstream's log has {calls} calls of get_contact"),
        )
    }

    fn a_denied_call_never_reaches_the_upstream(&self) -> Check {
        let calls = self.after().filter(|seen| seen.what.contains("delete_contact")).count();
        let records = self
            .results()
            .filter(|r| r["reason"] == "filter.tool_denied" && r["name"] == "delete_contact")
            .count();
        let refused = self.received.contains("-32602");
        check(
            "denied_call_never_reaches_the_upstream",
            calls == 0 && records > 0 && refused,
            format!(
                "at the upstream {calls}; refusals in the audit {records}; the client received an \
                 error: {refused}"
            ),
        )
    }

    fn a_missing_scope_is_named(&self) -> Check {
        let challenge = self.received.contains("error=\"insufficient_scope\"")
            && self.received.contains("scope=\"crm:read crm:write\"");
        let refused = self.results().filter(|r| r["reason"] == "filter.insufficient_scope").count();
        let created = self
            .after()
            .filter(|seen| seen.what == "tools/call create_contact" && seen.status == 200)
            .count();
        check(
            "missing_scope_is_asked_for_and_then_enough",
            challenge && refused == 1 && created == 1,
            format!(
                "challenge on the wire: {challenge}; refused {refused} time; \
                 then created {created} time"
            ),
        )
    }

    fn the_upstream_sees_the_operators_scopes(&self) -> Check {
        let logs = || {
            self.evidence
                .crm
                .iter()
                .skip(self.evidence.marks.crm_before)
                .chain(&self.evidence.tickets)
        };
        let uses: Vec<_> =
            logs().filter(|seen| seen.status == 200).map(|seen| seen.scopes.as_str()).collect();
        let other: Vec<_> = uses.iter().filter(|scopes| **scopes != OPERATORS_SCOPES).collect();
        check(
            "upstream_sees_the_operators_scopes",
            !uses.is_empty() && other.is_empty(),
            format!(
                "{} requests with \"{OPERATORS_SCOPES}\", {} with others",
                uses.len() - other.len(),
                other.len()
            ),
        )
    }

    fn a_hundred_calls_are_one_refresh(&self) -> Check {
        let Marks { crm_expired, crm_refreshed, .. } = self.evidence.marks;
        let during = self.evidence.crm.get(crm_expired..crm_refreshed).unwrap_or_default();
        let refreshes = during.iter().filter(|seen| seen.door == "token").count();
        let calls = during.iter().filter(|seen| seen.door == "mcp" && seen.status == 200).count();
        check(
            "hundred_calls_are_one_refresh",
            refreshes == 1 && calls >= 100,
            format!(
                "at the token endpoint {refreshes} request; at the MCP server {calls} calls that \
                 succeeded"
            ),
        )
    }

    fn the_broker_token_is_good_for_one_server(&self) -> Check {
        let prints: Vec<_> =
            self.evidence.broker_tokens.iter().map(|token| fingerprint(token)).collect();
        let tried: Vec<_> = self.after().filter(|seen| prints.contains(&seen.token)).collect();
        let refused = !tried.is_empty() && tried.iter().all(|seen| seen.status == 401);
        let elsewhere = self.results().filter(|r| r["reason"] == "authn.resource").count();
        check(
            "broker_token_is_good_for_one_server_alone",
            refused && elsewhere == 1,
            format!(
                "refused by the upstream: {refused}; refused at the other server {elsewhere} time"
            ),
        )
    }

    fn a_revoke_ends_the_open_stream(&self) -> Check {
        let cut = self
            .results()
            .filter(|r| r["outcome"] == "cut" && r["reason"] == "authn.revoked")
            .count();
        let ended = self.evidence.received.iter().any(|bytes| {
            let text = text(bytes);
            text.contains("notifications/progress")
                && text.ends_with("0\r\n\r\n")
                && !text.contains("watch_contacts done")
        });
        check(
            "revoke_ends_the_open_stream",
            cut == 1 && ended,
            format!("streams cut in the audit: {cut}; the stream ended early on the wire: {ended}"),
        )
    }

    fn a_revoke_ends_access_at_both_servers(&self) -> Check {
        let Marks { crm_revoked, tickets_revoked, .. } = self.evidence.marks;
        let later = self.evidence.crm.iter().skip(crm_revoked).count()
            + self.evidence.tickets.iter().skip(tickets_revoked).count();
        let refused: std::collections::BTreeSet<_> = self
            .results()
            .filter(|r| r["outcome"] == "refused" && r["reason"] == "authn.revoked")
            .filter_map(|r| r["resource"].as_str())
            .collect();
        check(
            "revoke_shuts_both_servers",
            later == 0 && refused.len() == 2,
            format!(
                "servers that refused: {}; requests at the upstreams after it: {later}",
                refused.len()
            ),
        )
    }

    fn requests_equal_terminal_records(&self) -> Check {
        let sent = joined(&self.evidence.sent);
        let requests = sent
            .split("\r\n")
            .filter(|line| {
                let mut words = line.rsplitn(3, ' ');
                // The authorization server has records of other kinds.
                let is_http = words.next() == Some("HTTP/1.1")
                    && words
                        .next()
                        .is_some_and(|target| target.starts_with('/') && target != TOKEN_PATH);
                is_http
                    && words.next().is_some_and(|rest| {
                        ["POST", "GET", "DELETE"].iter().any(|method| rest.ends_with(method))
                    })
            })
            .count() as u64;
        let counted: u64 = self.records.iter().filter_map(|record| record["count"].as_u64()).sum();
        check(
            "requests_equal_terminal_records",
            requests > 0 && requests == counted,
            format!("requests on the wire {requests}; counted by the audit {counted}"),
        )
    }

    fn the_audit_chain_holds(&self) -> Check {
        let mut previous = vec![0; 32];
        let mut links = 0;
        for line in self.evidence.audit.lines() {
            let Some((head, _)) = line.rsplit_once(",\"hash\":") else { break };
            let hash =
                digest(&SHA256, &[previous.as_slice(), head.as_bytes()].concat()).as_ref().to_vec();
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let record: Value = line.parse().unwrap_or_default();
            let member = |name: &str| record.get(name).cloned().unwrap_or_default();
            if member("hash") != hex.as_str() || member("seq").as_u64() != Some(links) {
                break;
            }
            previous = hash;
            links += 1;
        }
        let lines = self.evidence.audit.lines().count() as u64;
        check(
            "audit_chain_holds",
            lines > 0 && links == lines,
            format!("{links} of {lines} records follow from the ones before"),
        )
    }

    fn every_use_had_an_intent(&self) -> Check {
        let at_mcp = self
            .after()
            .chain(&self.evidence.tickets)
            .filter(|seen| seen.door == "mcp")
            .filter(|seen| {
                !self.evidence.broker_tokens.iter().any(|token| fingerprint(token) == seen.token)
            })
            .count() as u64;
        let uses: u64 = self.results().filter_map(|r| r["uses"].as_u64()).sum();
        let intents = self.records.iter().filter(|r| r["kind"] == "intent").count() as u64;
        let refreshes = self.records.iter().filter(|r| r["kind"] == "token_request").count();
        let posts =
            self.after().chain(&self.evidence.tickets).filter(|seen| seen.door == "token").count();
        check(
            "every_use_had_an_intent",
            at_mcp > 0 && at_mcp == uses && intents >= uses && posts == refreshes,
            format!(
                "at the upstreams {at_mcp} uses, in the audit {uses}, intents {intents}; refreshes \
                 {posts}, intents {refreshes}"
            ),
        )
    }

    fn no_upstream_token_came_back(&self) -> Check {
        let in_play = self.evidence.secrets.iter().filter(|secret| {
            let print = fingerprint(secret);
            self.after().chain(&self.evidence.tickets).any(|seen| seen.token == print)
        });
        let in_play = in_play.count();
        let haystacks = [self.received.as_str(), self.evidence.audit.as_str()];
        let found = self.evidence.secrets.iter().filter(|secret| {
            forms(secret)
                .iter()
                .any(|form| haystacks.iter().any(|haystack| haystack.contains(form.as_str())))
        });
        let found = found.count();
        check(
            "no_upstream_token_came_back",
            in_play > 0 && found == 0,
            format!(
                "{in_play} secrets in play; found on the client's wire or in the audit: {found}"
            ),
        )
    }

    /// Returns what the CRM saw since the broker is in front of it.
    fn after(&self) -> impl Iterator<Item = &Seen> {
        self.evidence.crm.iter().skip(self.evidence.marks.crm_before)
    }

    fn results(&self) -> impl Iterator<Item = &Value> {
        self.records.iter().filter(|record| record["kind"] == "result")
    }
}

fn check(name: &'static str, pass: bool, found: String) -> Check {
    Check { name, pass, found }
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn joined(all: &[Vec<u8>]) -> String {
    all.iter().map(|bytes| text(bytes)).collect::<Vec<_>>().join("\n")
}

/// Returns a secret as it is, in hexadecimal, percent-encoded, and in base64 at every alignment.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![
        secret.to_owned(),
        secret.bytes().map(|byte| format!("{byte:02x}")).collect(),
        secret.bytes().map(|byte| format!("%{byte:02X}")).collect(),
    ];
    for skip in 0..3_usize {
        let padded = [vec![b' '; skip], secret.as_bytes().to_vec()].concat();
        let coded = STANDARD.encode(&padded);
        let from = (skip * 8).div_ceil(6);
        forms.extend(coded.get(from..padded.len() * 8 / 6).map(str::to_owned));
    }
    forms
}
