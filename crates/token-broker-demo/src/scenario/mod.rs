//! The steps of the client and of alice, and the results that they receive.

mod accounts;
mod calls;
mod client;
mod revoke;

use std::ops::Range;

use crate::{DemoError, Sabotage, browser::Account, raw_http::Request, setup::Setup};

/// A step, in plain words.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Step {
    /// `before` or `after` the broker.
    pub part: &'static str,
    /// Action of the client or the user.
    pub did: String,
    /// Result that the client received.
    pub heard: String,
    /// Positions in the log of the CRM.
    pub crm: Range<usize>,
    /// Positions in the log of the ticket server.
    pub tickets: Range<usize>,
    /// Positions in the audit log.
    pub audit: Range<usize>,
}

/// Lengths of the logs at the turning points of the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) crm_before: usize,
    pub(crate) audit_before: usize,
    pub(crate) crm_expired: usize,
    pub(crate) crm_refreshed: usize,
    pub(crate) tickets_disconnected: usize,
    pub(crate) crm_revoked: usize,
    pub(crate) tickets_revoked: usize,
}

pub(crate) struct Outcome {
    pub(crate) steps: Vec<Step>,
    pub(crate) marks: Marks,
    /// Bytes that the client received without a broker.
    pub(crate) before: String,
    /// Broker tokens that were used.
    pub(crate) broker_tokens: Vec<String>,
}

/// The scenario up to now.
struct Scenario<'s> {
    setup: &'s Setup,
    sabotage: Option<Sabotage>,
    part: &'static str,
    steps: Vec<Step>,
    marks: Marks,
    broker_tokens: Vec<String>,
    /// Lengths of the logs at the end of the last step.
    crm: usize,
    tickets: usize,
    audit: usize,
}

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const GET: &str = concat!(
    r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","#,
    r#""params":{"name":"get_contact","arguments":{}}}"#
);
const GET_TICKET: &str = concat!(
    r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","#,
    r#""params":{"name":"get_ticket","arguments":{}}}"#
);
const WATCH: &str = concat!(
    r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","#,
    r#""params":{"name":"watch_contacts","arguments":{},"_meta":{"progressToken":"p"}}}"#
);

pub(crate) async fn run(setup: &Setup, sabotage: Option<Sabotage>) -> Result<Outcome, DemoError> {
    let audit = setup.settled_audit().await?.lines().count();
    let mut scenario = Scenario {
        setup,
        sabotage,
        part: "before",
        steps: Vec::new(),
        marks: Marks::default(),
        broker_tokens: Vec::new(),
        crm: 0,
        tickets: 0,
        audit,
    };
    let before = scenario.with_the_upstream_token().await?;
    scenario.part = "after";
    let (reader, greedy) = scenario.with_broker_tokens().await?;
    scenario.at_other_places(&reader).await?;
    let ticketed = scenario.with_another_account().await?;
    scenario.act_unseen().await?;
    scenario.while_alice_is_revoked(&greedy, &ticketed).await?;
    Ok(Outcome {
        steps: scenario.steps,
        marks: scenario.marks,
        before,
        broker_tokens: scenario.broker_tokens,
    })
}

impl Scenario<'_> {
    /// Before: the client holds the upstream's own token. Returns what it received.
    async fn with_the_upstream_token(&mut self) -> Result<String, DemoError> {
        let crm = &self.setup.crm;
        let raw = crm.raw_access_token("contacts:read contacts:write export");
        let direct = |path, message| Request { to: crm.address(), path, token: &raw, message };
        let list = direct("/mcp", Some(LIST)).response().await?;
        let tools = list.text.matches("\"inputSchema\"").count();
        self.step("The client lists the tools of the CRM", format!("{tools} tools")).await?;
        let api = direct("/api/contacts", None).response().await?;
        self.step(
            "The client, or a thief, uses the same token at the CRM's plain API, without MCP",
            match api.status {
                200 => {
                    "all contacts: no tool was called, no rule asked, nothing recorded".to_owned()
                }
                status => format!("refused with {status}"),
            },
        )
        .await?;
        self.marks.audit_before = self.audit;
        self.marks.crm_before = self.crm;
        Ok(format!("{}\n{}", list.text, api.text))
    }

    /// Lets alice allow the client these scopes at the CRM.
    async fn token(&mut self, scopes: &str) -> Result<String, DemoError> {
        let token = self.setup.token(&self.setup.crm, scopes, Account::Connect).await?;
        self.broker_tokens.push(token.clone());
        Ok(token)
    }

    /// Calls the other server.
    async fn get_ticket(&self, token: &str) -> Result<crate::raw_http::Response, DemoError> {
        let to = self.setup.wire.address();
        let request = Request { to, path: "/tickets/mcp", token, message: Some(GET_TICKET) };
        Ok(request.response().await?)
    }

    /// Acts around the broker, for a demo that must fail.
    async fn act_unseen(&self) -> Result<(), DemoError> {
        let crm = &self.setup.crm;
        if self.sabotage == Some(Sabotage::UseTheTokenUnseen) {
            let token = crm.raw_access_token("contacts:read");
            Request { to: crm.address(), path: "/mcp", token: &token, message: Some(GET) }
                .response()
                .await?;
        }
        if self.sabotage == Some(Sabotage::LeaveARouteUnwatched) {
            let to = self.setup.wire.address();
            Request { to, path: "/unwatched", token: "", message: None }.response().await?;
        }
        Ok(())
    }

    /// Ends a step, with what was logged meanwhile.
    async fn step(&mut self, did: &str, heard: String) -> Result<(), DemoError> {
        let audit = self.setup.settled_audit().await?.lines().count();
        let (crm, tickets) = (self.setup.crm.log().len(), self.setup.tickets.log().len());
        self.steps.push(Step {
            part: self.part,
            did: did.to_owned(),
            heard,
            crm: self.crm..crm,
            tickets: self.tickets..tickets,
            audit: self.audit..audit,
        });
        (self.crm, self.tickets, self.audit) = (crm, tickets, audit);
        Ok(())
    }
}
