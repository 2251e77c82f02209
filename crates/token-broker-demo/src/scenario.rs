//! The steps of the client, and what it receives.

use std::time::Duration;

use rmcp::{
    RoleClient, ServiceExt as _,
    model::{CallToolRequestParams, PaginatedRequestParams},
    service::{Peer, RunningService},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use tower_token_broker::principal::Initiator;

use crate::{
    DemoError, Sabotage,
    raw_http::{self, Request},
    setup::{EVERY_SCOPE, Setup},
    upstream::Upstream,
};

/// A step of the client, in plain words.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct Step {
    /// `before` or `after` the broker.
    pub part: &'static str,
    /// Action of the client.
    pub did: String,
    /// Result that the client received.
    pub heard: String,
}

/// Lengths of the logs at the turning points of the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) crm_before: usize,
    pub(crate) audit_before: usize,
    pub(crate) crm_expired: usize,
    pub(crate) crm_refreshed: usize,
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

const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
const GET: &str = concat!(
    r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","#,
    r#""params":{"name":"get_contact","arguments":{}}}"#
);
const WATCH: &str = concat!(
    r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","#,
    r#""params":{"name":"watch_contacts","arguments":{},"_meta":{"progressToken":"p"}}}"#
);

/// Number of concurrent calls when the upstream token has expired.
const CROWD: usize = 100;

/// Time that open calls have at the end.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) async fn run(setup: &Setup, sabotage: Option<Sabotage>) -> Result<Outcome, DemoError> {
    let mut scenario = Steps { steps: Vec::new(), part: "before" };
    let mut marks = Marks::default();
    let before = scenario.with_the_upstream_token(setup, &mut marks).await?;
    scenario.part = "after";
    let (reader, writer, greedy) = scenario.with_broker_tokens(setup, &mut marks, sabotage).await?;
    let ticketed = scenario.at_other_places(setup, &reader).await?;
    act_unseen(setup, sabotage).await?;
    scenario.while_alice_is_revoked(setup, &mut marks, sabotage, &greedy, &ticketed).await?;
    setup.broker.shutdown(GRACE).await.map_err(DemoError::new)?;
    Ok(Outcome {
        steps: scenario.steps,
        marks,
        before,
        broker_tokens: vec![reader, writer, greedy, ticketed],
    })
}

impl Steps {
    /// Before: the client holds the upstream's own token. Returns what it received.
    async fn with_the_upstream_token(
        &mut self,
        setup: &Setup,
        marks: &mut Marks,
    ) -> Result<String, DemoError> {
        let crm = &setup.crm;
        let raw = crm.raw_access_token("contacts:read contacts:write export");
        let direct = |path, message| Request { to: crm.address(), path, token: &raw, message };
        let list = direct("/mcp", Some(LIST)).response().await?;
        self.step(
            "lists the tools of the MCP server, with the upstream's own token",
            format!("{}, all six tools", list.status),
        );
        let api = direct("/api/contacts", None).response().await?;
        self.step(
            "uses the same token at the API, past the MCP server",
            match api.status {
                200 => "200, the data: no tool call, no policy, no record".to_owned(),
                status => format!("{status}"),
            },
        );
        let received = format!("{}\n{}", list.text, api.text);
        setup.broker.audit_log().flush().await?;
        marks.audit_before = std::fs::read_to_string(setup.audit_file())?.lines().count();
        marks.crm_before = crm.log().len();
        Ok(received)
    }

    /// After: the client holds broker tokens. Returns them: for reading, for writing, and one with
    /// every scope.
    async fn with_broker_tokens(
        &mut self,
        setup: &Setup,
        marks: &mut Marks,
        sabotage: Option<Sabotage>,
    ) -> Result<(String, String, String), DemoError> {
        let crm = &setup.crm;
        let reader = setup.token(crm, "crm:read").await?;
        self.step(
            "requests access with crm:read; alice signs in with her browser, and allows it",
            "a broker token".to_owned(),
        );
        let client = connect(&setup.url(crm), &reader).await?;
        let tools =
            client.list_tools(None::<PaginatedRequestParams>).await.map_err(DemoError::new)?;
        let names: Vec<_> = tools.tools.iter().map(|tool| tool.name.to_string()).collect();
        self.step("lists the tools, with a broker token", names.join(", "));
        let called = call(&client, "get_contact").await;
        self.step("calls get_contact", called);
        let denied = call(&client, "delete_contact").await;
        self.step("calls delete_contact, which is not in its list", denied);
        let refused = call(&client, "create_contact").await;
        self.step("calls create_contact", refused);
        drop(client.cancel().await);

        let writer = setup.token(crm, "crm:read crm:write").await?;
        let client = connect(&setup.url(crm), &writer).await?;
        let created = call(&client, "create_contact").await;
        self.step(
            "requests access with that scope, too, which alice allows, and calls create_contact",
            created,
        );
        drop(client.cancel().await);

        let greedy = setup.token(crm, EVERY_SCOPE).await?;
        let client = connect(&setup.url(crm), &greedy).await?;
        let called = call(&client, "get_contact").await;
        self.step(
            "requests access with every scope, which alice allows, and calls get_contact",
            called,
        );

        crm.expire_access_tokens();
        marks.crm_expired = crm.log().len();
        let good = crowd(setup, &client, crm, sabotage).await;
        marks.crm_refreshed = crm.log().len();
        self.step(
            "makes 100 calls at once, after the upstream's token has expired",
            format!("{good} of {CROWD} succeed"),
        );
        drop(client.cancel().await);
        Ok((reader, writer, greedy))
    }

    /// The client uses its token where it is not valid. Returns a token for the other server.
    async fn at_other_places(&mut self, setup: &Setup, reader: &str) -> Result<String, DemoError> {
        let crm = &setup.crm;
        let stolen = Request { to: crm.address(), path: "/mcp", token: reader, message: Some(GET) }
            .response()
            .await?;
        let elsewhere = Request {
            to: setup.wire.address(),
            path: "/tickets/mcp",
            token: reader,
            message: Some(GET),
        };
        let elsewhere = elsewhere.response().await?;
        let result =
            format!("{} at the upstream, {} at the other server", stolen.status, elsewhere.status);
        self.step("uses its broker token at the upstream itself, and at the other server", result);

        let ticketed = setup.token(&setup.tickets, "crm:read").await?;
        let tickets = Request {
            to: setup.wire.address(),
            path: "/tickets/mcp",
            token: &ticketed,
            message: Some(GET),
        };
        let first = tickets.response().await?;
        self.step("calls the other server with a token for it", format!("{}", first.status));
        Ok(ticketed)
    }

    /// The user is revoked while a stream is open.
    async fn while_alice_is_revoked(
        &mut self,
        setup: &Setup,
        marks: &mut Marks,
        sabotage: Option<Sabotage>,
        greedy: &str,
        ticketed: &str,
    ) -> Result<(), DemoError> {
        let crm = &setup.crm;
        let tickets = Request {
            to: setup.wire.address(),
            path: "/tickets/mcp",
            token: ticketed,
            message: Some(GET),
        };
        let watch = Request {
            to: setup.wire.address(),
            path: "/crm/mcp",
            token: greedy,
            message: Some(WATCH),
        };
        let target = match sabotage {
            Some(Sabotage::RevokeNobody) => None,
            Some(Sabotage::RevokeAtOneServer) => Some(setup.server(crm)?),
            _ => Some(setup.alice()),
        };
        let revoke = async {
            if let Some(target) = target {
                // The revoke takes effect even if its record is not durable yet.
                drop(setup.broker.revoke(target, &Initiator::operator("demo")).await);
            }
        };
        let (watched, ended) = watch.stream(revoke).await?;
        let events = watched.text.matches("data:").count();
        let how = if ended { "then the stream ends" } else { "and the stream continues" };
        self.step(
            "watches for changes; meanwhile alice is revoked",
            format!("{} and {events} events, {how}", watched.status),
        );
        (marks.crm_revoked, marks.tickets_revoked) = (crm.log().len(), setup.tickets.log().len());
        let again = Request {
            to: setup.wire.address(),
            path: "/crm/mcp",
            token: greedy,
            message: Some(GET),
        };
        let (again, other) = (again.response().await?, tickets.response().await?);
        self.step(
            "makes the same calls again, at both servers",
            format!("{} and {}", again.status, other.status),
        );
        Ok(())
    }
}

/// Acts around the broker, for a demo that must fail.
async fn act_unseen(setup: &Setup, sabotage: Option<Sabotage>) -> Result<(), DemoError> {
    let crm = &setup.crm;
    if sabotage == Some(Sabotage::UseTheTokenUnseen) {
        let token = crm.raw_access_token("contacts:read");
        Request { to: crm.address(), path: "/mcp", token: &token, message: Some(GET) }
            .response()
            .await?;
    }
    if sabotage == Some(Sabotage::LeaveARouteUnwatched) {
        Request { to: setup.wire.address(), path: "/unwatched", token: "", message: None }
            .response()
            .await?;
    }
    Ok(())
}

struct Steps {
    steps: Vec<Step>,
    part: &'static str,
}

impl Steps {
    fn step(&mut self, did: &str, heard: String) {
        self.steps.push(Step { part: self.part, did: did.to_owned(), heard });
    }
}

type Client = RunningService<RoleClient, ()>;

async fn connect(url: &str, token: &str) -> Result<Client, DemoError> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token);
    config.max_concurrent_requests = CROWD;
    ().serve(StreamableHttpClientTransport::from_config(config)).await.map_err(DemoError::new)
}

async fn call(client: &Peer<RoleClient>, tool: &'static str) -> String {
    match client.call_tool(CallToolRequestParams::new(tool)).await {
        Ok(result) => result
            .content
            .first()
            .and_then(|block| block.as_text())
            .map_or_else(String::new, |text| text.text.clone()),
        // The error itself, without the text of the transport.
        Err(rmcp::ServiceError::McpError(error)) => {
            format!("error {}: {}", error.code.0, error.message)
        }
        Err(rmcp::ServiceError::TransportSend(_)) => {
            "403: the call needs a scope that the token lacks".to_owned()
        }
        Err(_) => "no response".to_owned(),
    }
}

/// Makes many calls at once, and returns how many succeeded.
async fn crowd(
    setup: &Setup,
    client: &Client,
    crm: &Upstream,
    sabotage: Option<Sabotage>,
) -> usize {
    if sabotage == Some(Sabotage::RefreshFromElsewhere) {
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
    good
}
