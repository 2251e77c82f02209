//! The client with broker tokens for the CRM.

use rmcp::model::PaginatedRequestParams;

use super::{
    GET, Scenario,
    client::{Client, call, connect, refused},
};
use crate::{
    DemoError, Sabotage,
    raw_http::{self, Request},
};

/// Number of concurrent calls when the upstream token has expired.
const CROWD: usize = 100;

impl Scenario<'_> {
    /// After: the client holds broker tokens. Returns one for reading, and one with every scope.
    pub(super) async fn with_broker_tokens(&mut self) -> Result<(String, String), DemoError> {
        let url = self.setup.url(&self.setup.crm);
        let reader = self.token("crm:read").await?;
        self.step(
            "The client requests access to the CRM, to read. In her browser, alice signs in at the \
             broker, allows it, and connects her own CRM account",
            "a broker token".to_owned(),
        )
        .await?;
        let client = connect(&url, &reader, CROWD).await?;
        let tools =
            client.list_tools(None::<PaginatedRequestParams>).await.map_err(DemoError::new)?;
        let names: Vec<_> = tools.tools.iter().map(|tool| tool.name.to_string()).collect();
        self.step("The client lists the tools", names.join(", ")).await?;
        for (did, tool) in [
            ("The client calls get_contact", "get_contact"),
            ("The client calls delete_contact, which no rule allows", "delete_contact"),
            ("The client calls create_contact, with its token for reading", "create_contact"),
        ] {
            let heard = call(&client, tool).await;
            self.step(did, heard).await?;
        }
        drop(client.cancel().await);

        let writer = self.token("crm:read crm:write").await?;
        let client = connect(&url, &writer, CROWD).await?;
        let created = call(&client, "create_contact").await;
        drop(client.cancel().await);
        self.step(
            "The client requests access again, also to write, which alice allows. It calls \
             create_contact",
            created,
        )
        .await?;

        let greedy = self.token(&self.setup.crm.kind().broker_scopes()).await?;
        let client = connect(&url, &greedy, CROWD).await?;
        let called = call(&client, "get_contact").await;
        self.step(
            "The client requests every scope there is, which alice allows. It calls get_contact",
            called,
        )
        .await?;
        self.crowd(&client).await?;
        drop(client.cancel().await);
        Ok((reader, greedy))
    }

    /// Makes many calls at once, after the upstream's token has expired.
    async fn crowd(&mut self, client: &Client) -> Result<(), DemoError> {
        let (setup, crm) = (self.setup, &self.setup.crm);
        crm.expire_access_tokens();
        self.marks.crm_expired = crm.log().len();
        if self.sabotage == Some(Sabotage::RefreshFromElsewhere) {
            let form = "grant_type=refresh_token&refresh_token=another";
            drop(raw_http::exchange(crm.address(), "/token", &[], Some(form)).await);
        }
        let calls: Vec<_> = (0..CROWD)
            .map(|_| {
                let client = client.peer().clone();
                setup.tasks.spawn("demo-call", async move {
                    call(&client, "get_contact").await.ends_with("done")
                })
            })
            .collect();
        let mut good = 0;
        for call in calls {
            good += usize::from(call.await == Ok(true));
        }
        self.marks.crm_refreshed = crm.log().len();
        self.step(
            "The client makes 100 calls at once, after the CRM has let its own token expire",
            format!("{good} of {CROWD} succeed"),
        )
        .await
    }

    /// The client uses its token where it is not valid.
    pub(super) async fn at_other_places(&mut self, reader: &str) -> Result<(), DemoError> {
        let to = self.setup.crm.address();
        let stolen = Request { to, path: "/mcp", token: reader, message: Some(GET) };
        let stolen = stolen.response().await?;
        let elsewhere = self.get_ticket(reader).await?;
        let (stolen, elsewhere) = (refused(&stolen), refused(&elsewhere));
        let heard = format!("{stolen} by the CRM itself, {elsewhere} by the broker for Tickets");
        self.step(
            "The client, or a thief, uses the broker token for the CRM at the CRM itself, and at \
             the other server, Tickets",
            heard,
        )
        .await
    }
}
