//! Checks of users' own accounts: connected, missing, disconnected.

use super::{Check, Logs, check, count, yes};

impl Logs<'_> {
    pub(super) fn each_account_is_connected_through_the_broker(&self) -> Check {
        let of = |upstream: &str| {
            self.of_kind("connected").filter(|record| record["upstream"] == upstream).count()
        };
        let logs = [("crm", self.evidence.crm_after()), ("tickets", &self.evidence.tickets)];
        let counts = logs.map(|(upstream, log)| {
            let allowed = count(log, ("authorize", "allow", 303));
            let redeemed = count(log, ("token", "authorization_code", 200));
            [allowed, redeemed, of(upstream)]
        });
        let [crm, tickets] = counts.map(|[allowed, redeemed, recorded]| {
            format!("allowed {allowed}, tokens issued {redeemed}, recorded {recorded}")
        });
        check(
            (
                "account_is_connected_through_the_broker",
                "Alice connected each account once, in her browser, and the broker has the tokens",
            ),
            counts == [[1; 3]; 2],
            format!("CRM: {crm}; Tickets: {tickets}"),
        )
    }

    pub(super) fn a_missing_account_is_asked_for(&self) -> Check {
        let link = self.received.contains("/connect/tickets?for=");
        let refused = self.refused("exchange.connect_required");
        let served = count(&self.evidence.tickets, ("mcp", "tools/call get_ticket", 200));
        check(
            (
                "missing_account_is_asked_for_and_then_enough",
                "A call without an account names the page to connect it, and passes afterwards",
            ),
            link && refused > 0 && served > 0,
            format!(
                "the client received a link: {}; calls refused for it: {refused}; calls that \
                 passed afterwards: {served}",
                yes(link)
            ),
        )
    }

    pub(super) fn a_disconnect_ends_the_account(&self) -> Check {
        let tickets = &self.evidence.tickets;
        let revoked = ["refresh_token", "access_token"];
        let revoked = revoked.map(|kind| count(tickets, ("revoke", kind, 200)));
        let told = self.of_kind("upstream_revocation");
        let told = told.filter(|record| record["outcome"] == "revoked").count();
        let later = tickets.iter().skip(self.evidence.marks.tickets_disconnected);
        let later = later.filter(|seen| seen.door == "mcp" && !seen.token.is_empty()).count();
        check(
            (
                "disconnect_ends_the_account_at_the_upstream",
                "Disconnecting ends the use of the account at once, and its tokens at the server",
            ),
            revoked == [1, 1] && told == 1 && later == 0,
            format!(
                "tokens revoked in the log of Tickets: {}; recorded in the audit log: {}; uses of \
                 the account afterwards: {later}",
                revoked.iter().sum::<usize>(),
                yes(told == 1)
            ),
        )
    }
}
