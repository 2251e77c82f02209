//! Explanations of numbers and words that may look odd in this run.

use super::rows::is_handshake;
use crate::checks::Evidence;

pub(super) fn of(evidence: &Evidence) -> Vec<String> {
    let mut notes = Vec::new();
    let (marks, crm) = (&evidence.marks, &evidence.crm);
    let during = crm.get(marks.crm_expired..marks.crm_refreshed).unwrap_or_default();
    let late = during.iter().filter(|seen| seen.door == "mcp" && seen.status == 401).count();
    if late > 0 {
        notes.push(format!(
            "401 for {late} of the 100 calls: the broker did not know yet that the CRM had let its \
             token expire. It refreshed the token once and sent again what was refused, so that \
             all calls succeeded. The number differs from run to run."
        ));
    }
    let all = || crm.iter().chain(&evidence.tickets);
    if all().any(|seen| seen.status == 401 && seen.token.is_empty()) {
        notes.push(
            "A request without a token, refused with 401: that is how the broker finds out where \
             the users of a server sign in."
                .to_owned(),
        );
    }
    if evidence.records().iter().any(|record| {
        record["outcome"] == "dropped"
            && !is_handshake(record["method"].as_str().unwrap_or_default())
    }) {
        notes.push(
            "dropped: the client closed the connection once it had read its result. Nothing is \
             missing."
                .to_owned(),
        );
    }
    notes.push(
        "cut, before the record of the revoke: a revoke takes effect first, and is recorded then."
            .to_owned(),
    );
    notes.push(
        "Secrets in play: the tokens that the servers issued, and received again from the broker. \
         They were searched for as they are, and in hexadecimal, percent and base64 encoding."
            .to_owned(),
    );
    notes.push(
        "Not shown above, and complete in `demo --json`: the start of each MCP connection \
         (initialize), and the records that announce each use of a token."
            .to_owned(),
    );
    notes
}
