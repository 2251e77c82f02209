//! An operator revokes alice while a stream of hers is open.

use tower_token_broker::principal::Initiator;

use super::{GET, Scenario, WATCH, client::refused};
use crate::{DemoError, Sabotage, raw_http::Request};

impl Scenario<'_> {
    /// The user is revoked while a stream is open.
    pub(super) async fn while_alice_is_revoked(
        &mut self,
        greedy: &str,
        ticketed: &str,
    ) -> Result<(), DemoError> {
        let setup = self.setup;
        let at_crm = |message| Request {
            to: setup.wire.address(),
            path: "/crm/mcp",
            token: greedy,
            message: Some(message),
        };
        let target = match self.sabotage {
            Some(Sabotage::RevokeNobody) => None,
            Some(Sabotage::RevokeAtOneServer) => Some(setup.server(&setup.crm)?),
            _ => Some(setup.alice()),
        };
        let revoke = async {
            if let Some(target) = target {
                // The revoke takes effect even if its record is not durable yet.
                drop(setup.broker.revoke(target, &Initiator::operator("demo")).await);
            }
        };
        let (watched, ended) = at_crm(WATCH).stream(revoke).await?;
        let events = watched.text.matches("data:").count();
        let how = if ended { "then the stream ends" } else { "and the stream continues" };
        self.step(
            "The client watches for changes. Meanwhile an operator revokes alice's access",
            format!("{events} of 400 events, {how}"),
        )
        .await?;
        (self.marks.crm_revoked, self.marks.tickets_revoked) = (self.crm, self.tickets);
        let (again, other) = (at_crm(GET).response().await?, self.get_ticket(ticketed).await?);
        self.step(
            "The client calls both servers again",
            format!("{} for the CRM, {} for Tickets", refused(&again), refused(&other)),
        )
        .await
    }
}
