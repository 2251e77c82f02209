//! Checks of access: what passes, with which scopes, and when it ends.

use std::collections::BTreeSet;

use super::{Check, Logs, check, count, text, yes};
use crate::{
    scenario::Marks,
    upstream::{Seen, fingerprint},
};

impl Logs<'_> {
    pub(super) fn the_raw_token_works_without_the_broker(&self) -> Check {
        let through = count(self.evidence.crm_before(), ("api", "/api/contacts", 200)) > 0;
        let before = self.records.iter().take(self.evidence.marks.audit_before);
        let known = before.filter(|record| record["count"].is_u64()).count();
        check(
            (
                "raw_token_works_behind_the_servers_back",
                "Before: the client's token opens the CRM's plain API, and no one records it",
            ),
            through && known == 0,
            format!(
                "the CRM's own log has the request: {}; records of it in the audit log: {known}",
                yes(through)
            ),
        )
    }

    pub(super) fn the_hidden_tool_is_not_listed(&self) -> Check {
        let existed = self.evidence.before.contains("\"delete_contact\"");
        let listed = self.received.contains("\"list_contacts\"");
        let shown = self.received.contains("\"delete_contact\"");
        check(
            ("hidden_tool_is_not_listed", "A tool that no rule allows is not shown to the client"),
            existed && listed && !shown,
            format!(
                "delete_contact in the lists that the client received: before {}, after {}; other \
                 tools after: {}",
                yes(existed),
                yes(shown),
                yes(listed)
            ),
        )
    }

    pub(super) fn an_allowed_call_reaches_the_upstream(&self) -> Check {
        let calls = count(self.after(), ("mcp", "tools/call get_contact", 200));
        check(
            ("allowed_call_reaches_the_upstream", "An allowed call reaches the server"),
            calls > 0,
            format!("calls of get_contact in the CRM's own log: {calls}"),
        )
    }

    pub(super) fn a_denied_call_never_reaches_the_upstream(&self) -> Check {
        let calls = self.after().filter(|seen| seen.what.contains("delete_contact")).count();
        let denied = self.results().filter(|record| record["name"] == "delete_contact");
        let records = denied.filter(|record| record["reason"] == "filter.tool_denied").count();
        let refused = self.received.contains("-32602");
        check(
            (
                "denied_call_never_reaches_the_upstream",
                "A call that no rule allows never reaches the server",
            ),
            calls == 0 && records > 0 && refused,
            format!(
                "calls of delete_contact in the CRM's own log: {calls}; refusals in the audit log: \
                 {records}; the client received an error: {}",
                yes(refused)
            ),
        )
    }

    pub(super) fn a_missing_scope_is_named(&self) -> Check {
        let challenge = self.received.contains("error=\"insufficient_scope\"")
            && self.received.contains("scope=\"crm:read crm:write\"");
        let refused = self.refused("filter.insufficient_scope");
        let created = count(self.after(), ("mcp", "tools/call create_contact", 200));
        check(
            (
                "missing_scope_is_asked_for_and_then_enough",
                "A missing scope is named to the client, and is enough once alice allows it",
            ),
            challenge && refused == 1 && created == 1,
            format!(
                "the refusal names all scopes that are needed: {}; calls refused: {refused}; calls \
                 that passed afterwards: {created}",
                yes(challenge)
            ),
        )
    }

    pub(super) fn the_upstream_sees_the_operators_scopes(&self) -> Check {
        let [crm, tickets] = &self.evidence.operators_scopes;
        let of_crm = self.after().map(|seen| (seen, crm));
        let all = of_crm.chain(self.evidence.tickets.iter().map(|seen| (seen, tickets)));
        // Other endpoints have no scopes.
        let has_scopes = |seen: &Seen| ["mcp", "api", "token", "authorize"].contains(&seen.door);
        let uses: Vec<_> =
            all.filter(|(seen, _)| has_scopes(seen) && matches!(seen.status, 200 | 303)).collect();
        let other = uses.iter().filter(|(seen, scopes)| seen.scopes != **scopes).count();
        check(
            (
                "upstream_sees_the_operators_scopes",
                "The servers see the scopes that the operator chose, whatever the client requests",
            ),
            !uses.is_empty() && other == 0,
            format!(
                "requests at the servers with \"{crm}\" or \"{tickets}\": {}; with other scopes: \
                 {other}",
                uses.len() - other
            ),
        )
    }

    pub(super) fn a_hundred_calls_are_one_refresh(&self) -> Check {
        let Marks { crm_expired, crm_refreshed, .. } = self.evidence.marks;
        let during = self.evidence.crm.get(crm_expired..crm_refreshed).unwrap_or_default();
        let refreshes = during.iter().filter(|seen| seen.door == "token").count();
        let calls = during.iter().filter(|seen| seen.door == "mcp" && seen.status == 200).count();
        check(
            (
                "hundred_calls_are_one_refresh",
                "100 calls with an expired token cause one refresh, and all succeed",
            ),
            refreshes == 1 && calls >= 100,
            format!(
                "requests at the CRM's token endpoint: {refreshes}; calls that succeeded: {calls}"
            ),
        )
    }

    pub(super) fn the_broker_token_is_good_for_one_server(&self) -> Check {
        let prints: Vec<_> =
            self.evidence.broker_tokens.iter().map(|token| fingerprint(token)).collect();
        let tried: Vec<_> = self.after().filter(|seen| prints.contains(&seen.token)).collect();
        let refused = !tried.is_empty() && tried.iter().all(|seen| seen.status == 401);
        let elsewhere = self.refused("authn.resource");
        check(
            (
                "broker_token_is_good_for_one_server_alone",
                "A stolen broker token is worth nothing around the broker, or at another server",
            ),
            refused && elsewhere == 1,
            format!(
                "refused by the CRM itself: {}; refused by the broker for the other server: \
                 {elsewhere} of 1",
                yes(refused)
            ),
        )
    }

    pub(super) fn a_revoke_ends_the_open_stream(&self) -> Check {
        let cut = self.results().filter(|record| record["outcome"] == "cut");
        let cut = cut.filter(|record| record["reason"] == "authn.revoked").count();
        let ended = self.evidence.received.iter().any(|bytes| {
            let text = text(bytes);
            text.contains("notifications/progress")
                && text.ends_with("0\r\n\r\n")
                && !text.contains("watch_contacts done")
        });
        check(
            ("revoke_ends_the_open_stream", "Revoking alice ends her open stream"),
            cut == 1 && ended,
            format!(
                "streams cut in the audit log: {cut}; the client saw the stream end early: {}",
                yes(ended)
            ),
        )
    }

    pub(super) fn a_revoke_ends_access_at_both_servers(&self) -> Check {
        let Marks { crm_revoked, tickets_revoked, .. } = self.evidence.marks;
        let later = self.evidence.crm.iter().skip(crm_revoked).count()
            + self.evidence.tickets.iter().skip(tickets_revoked).count();
        let refused = self.results().filter(|record| record["outcome"] == "refused");
        let refused = refused.filter(|record| record["reason"] == "authn.revoked");
        let refused: BTreeSet<_> =
            refused.filter_map(|record| record["resource"].as_str()).collect();
        check(
            ("revoke_shuts_both_servers", "Revoking alice ends her access at both servers"),
            later == 0 && refused.len() == 2,
            format!(
                "servers for which the broker refused: {} of 2; requests at the servers \
                 afterwards: {later}",
                refused.len()
            ),
        )
    }
}
