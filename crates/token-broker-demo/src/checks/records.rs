//! Checks of the audit log, and of the places where no secret may be.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Check, Logs, check, joined};
use crate::{upstream::fingerprint, wiretap::requests};

impl Logs<'_> {
    pub(super) fn requests_equal_terminal_records(&self) -> Check {
        let requests = requests(&self.evidence.sent);
        let counted: u64 = self.records.iter().filter_map(|record| record["count"].as_u64()).sum();
        check(
            ("requests_equal_terminal_records", "Each request of the client is in the audit log"),
            requests > 0 && requests == counted,
            format!("requests that the client sent: {requests}; in the audit log: {counted}"),
        )
    }

    pub(super) fn the_audit_chain_holds(&self) -> Check {
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
            ("audit_chain_holds", "No record of the audit log was changed or removed"),
            lines > 0 && links == lines,
            format!("records whose hash follows from the record before: {links} of {lines}"),
        )
    }

    pub(super) fn every_use_had_an_intent(&self) -> Check {
        let is_broker_token = |print: &str| {
            self.evidence.broker_tokens.iter().any(|token| fingerprint(token) == print)
        };
        let at_mcp = self
            .both()
            .filter(|seen| seen.door == "mcp" && !seen.token.is_empty())
            .filter(|seen| !is_broker_token(&seen.token))
            .count() as u64;
        let uses: u64 = self.results().filter_map(|record| record["uses"].as_u64()).sum();
        let intents = self.of_kind("intent").count() as u64;
        let announced = self.of_kind("token_request").count();
        let posts = self.both().filter(|seen| seen.door == "token").count();
        check(
            ("every_use_had_an_intent", "Each use of a real token was recorded before it happened"),
            at_mcp > 0 && at_mcp == uses && intents >= uses && posts == announced,
            format!(
                "uses in the servers' own logs: {at_mcp}, in the audit log: {uses}, announced \
                 there: {intents}; token requests: {posts}, announced: {announced}"
            ),
        )
    }

    pub(super) fn no_upstream_token_came_back(&self) -> Check {
        let in_play = self.evidence.secrets.iter().filter(|secret| {
            let print = fingerprint(secret);
            self.both().any(|seen| seen.token == print)
        });
        let in_play = in_play.count();
        let (pages, store) = (self.evidence.pages.join("\n"), joined(&self.evidence.store));
        let haystacks = [&self.received, &self.evidence.audit, &pages, &store];
        let found = self.evidence.secrets.iter().filter(|secret| {
            forms(secret)
                .iter()
                .any(|form| haystacks.iter().any(|haystack| haystack.contains(form.as_str())))
        });
        let found = found.count();
        check(
            (
                "no_upstream_token_came_back",
                "No real token is anywhere but at the servers and, encrypted, in the store",
            ),
            in_play > 0 && found == 0 && haystacks.iter().all(|haystack| !haystack.is_empty()),
            format!(
                "{in_play} secrets in play; found at the client, in the broker's pages, in the \
                 audit log or in the files of the store: {found}"
            ),
        )
    }
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
