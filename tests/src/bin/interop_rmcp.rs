//! rmcp as a client that has only broker tokens, in both revisions.
//!
//! `tests/interop/rmcp/run` starts it and passes addresses and paths in environment variables.

#![expect(deprecated, reason = "sampling belongs to 2025-11-25, which is tested here")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test client may panic on failure"
)]

use std::{env, fs, process::ExitCode, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rmcp::{
    ClientHandler, ErrorData, RoleClient, ServiceError,
    model::{
        CallToolRequestParams, ClientCapabilities, ClientConfig, CreateMessageRequestParams,
        CreateMessageResult, ElicitRequestParams, ElicitResult, ElicitationAction, Implementation,
        ProgressNotificationParam, ProtocolVersion, Role, SamplingMessage,
        SamplingMessageContentBlock,
    },
    service::{
        ClientLifecycleMode, ClientServiceExt as _, NotificationContext, RequestContext,
        RunningService,
    },
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};
use token_broker_tests::wire;
use tokio::time::timeout;

/// User and model of the client.
#[derive(Clone, Debug, Default)]
struct User {
    progress: Arc<Mutex<Vec<f64>>>,
}

impl ClientHandler for User {
    fn get_info(&self) -> ClientConfig {
        let capabilities =
            ClientCapabilities::builder().enable_sampling().enable_elicitation().build();
        ClientConfig::new(capabilities, Implementation::new("interop", "1"))
    }

    async fn create_message(
        &self,
        _: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let message =
            SamplingMessage::new(Role::Assistant, SamplingMessageContentBlock::text("this one"));
        Ok(CreateMessageResult::new(message, "none".to_owned()))
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(json!({"word": "tea"})))
    }

    async fn on_progress(&self, at: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        self.progress.lock().push(at.progress);
    }
}

type Client = RunningService<RoleClient, User>;

#[derive(Default)]
struct Checks {
    failures: u32,
}

impl Checks {
    fn check(&mut self, what: &str, holds: bool, found: impl std::fmt::Debug) {
        self.failures += u32::from(!holds);
        if holds {
            print(&format!("  ok   {what}"))
        } else {
            print(&format!("  FAIL {what} {found:?}"))
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut checks = Checks::default();
    let discover =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    trial(&mut checks, "2025-11-25", ClientLifecycleMode::Initialize).await;
    trial(&mut checks, "2026-07-28", discover).await;
    print(&format!("{} failed", checks.failures));
    if checks.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn trial(checks: &mut Checks, revision: &str, lifecycle: ClientLifecycleMode) {
    print(&format!("rmcp, {revision}"));
    let (before, who) = (seen().len(), format!("rmcp-{revision}"));
    let reader = connect(&control("token", &who, "items:read").await, lifecycle.clone()).await;
    let names: Vec<_> = reader
        .list_all_tools()
        .await
        .expect("a list")
        .into_iter()
        .map(|tool| tool.name.into_owned())
        .collect();
    let lists = |name: &str| names.iter().any(|listed| listed == name);
    checks.check("the list has what is allowed", lists("get_item") && lists("update_item"), &names);
    checks.check("the list hides what is denied", !lists("delete_item"), &names);
    let called = call(&reader, "get_item", json!({"number": 7})).await;
    checks.check(
        "a call returns its result",
        called.as_deref().is_ok_and(|text| text == "item 7"),
        &called,
    );

    let denied = call(&reader, "delete_item", json!({"number": 7})).await;
    let unknown = call(&reader, "unknown_item", json!({"number": 7})).await;
    let same = match (&denied, &unknown) {
        (Err(ServiceError::McpError(denied)), Err(ServiceError::McpError(unknown))) => {
            denied.code.0 == -32602 && denied == unknown
        }
        _ => false,
    };
    checks.check(
        "a denied call is refused like an unknown tool, with -32602",
        same,
        (&denied, &unknown),
    );
    let needs = call(&reader, "update_item", json!({"number": 7})).await;
    let error = format!("{needs:?}");
    checks.check(
        "a call that lacks a scope is refused with its name",
        needs.is_err() && error.contains("items:write"),
        &error,
    );
    let writer = connect(&control("token", &who, "items:read items:write").await, lifecycle).await;
    let updated = call(&writer, "update_item", json!({"number": 7})).await;
    checks.check(
        "and passes with it",
        updated.as_deref().is_ok_and(|text| text == "item 7 is new"),
        &updated,
    );

    let counted = call(&writer, "count_slowly", json!({"to": 3})).await;
    // rmcp handles each notification in its own task: they arrive in any order, possibly after the
    // result.
    let all = async { until(|| writer.service().progress.lock().len() >= 3).await };
    drop(timeout(Duration::from_secs(5), all).await);
    let mut progress = writer.service().progress.lock().clone();
    progress.sort_by(f64::total_cmp);
    let came =
        counted.as_deref().is_ok_and(|text| text == "counted to 3") && progress == [1.0, 2.0, 3.0];
    checks.check("a streamed response completes, with its progress", came, (&counted, &progress));
    let asked = call(&writer, "ask_user", json!({})).await;
    checks.check(
        "an elicitation reaches the user",
        asked.as_deref().is_ok_and(|text| text == "the user says tea"),
        &asked,
    );
    if revision == "2025-11-25" {
        let sampled = call(&writer, "ask_model", json!({})).await;
        checks.check(
            "and sampling the model",
            sampled.as_deref().is_ok_and(|text| text == "the model says this one"),
            &sampled,
        );
    }

    writer.service().progress.lock().clear();
    let revoked = async {
        until(|| writer.service().progress.lock().len() >= 2).await;
        control("revoke", &who, "").await;
    };
    let watching =
        async { timeout(Duration::from_secs(10), call(&writer, "watch_items", json!({}))).await };
    let (watched, ()) = tokio::join!(watching, revoked);
    let at_the_end = writer.service().progress.lock().len();
    checks.check(
        "a stream of a revoked user ends with an error",
        matches!(watched, Ok(Err(_))),
        &watched,
    );
    // The server sends ten per second, so these are two seconds.
    checks.check("after fewer than twenty further events", at_the_end <= 22, at_the_end);
    let after =
        timeout(Duration::from_secs(10), call(&reader, "get_item", json!({"number": 8}))).await;
    checks.check("and later calls are refused", !matches!(after, Ok(Ok(_))), &after);

    let seen = seen().split_off(before);
    let versions: Vec<_> =
        seen.iter().filter_map(|entry| entry["mcp-protocol-version"].as_str()).collect();
    let is_spoken = !versions.is_empty() && versions.iter().all(|version| *version == revision);
    checks.check(&format!("the server saw {revision} on the wire"), is_spoken, &versions);
    let count = |name: &str| {
        seen.iter().filter(|entry| entry["name"] == name && entry["method"] == "tools/call").count()
    };
    checks.check(
        "the calls that were let through reached it",
        count("update_item") == 1 && count("watch_items") == 1,
        &seen,
    );
    let refused = ["delete_item", "unknown_item"].map(count);
    checks.check(
        "and no others: one before the revocation",
        refused == [0, 0] && count("get_item") == 1,
        &seen,
    );
    if revision == "2026-07-28" {
        let asked: Vec<_> = seen.iter().filter(|entry| entry["name"] == "ask_user").collect();
        let is_state =
            asked.len() == 2 && asked[0]["state"].is_null() && asked[1]["state"].is_string();
        checks.check("a result that requires input reached the user", is_state, &asked);
    }
}

async fn connect(token: &str, lifecycle: ClientLifecycleMode) -> Client {
    let config =
        StreamableHttpClientTransportConfig::with_uri(variable("GATEWAY")).auth_header(token);
    let transport = StreamableHttpClientTransport::from_config(config);
    User::default().serve_with_lifecycle(transport, lifecycle).await.expect("a connection")
}

/// Returns the text of the result.
async fn call(
    client: &Client,
    tool: &'static str,
    arguments: Value,
) -> Result<String, ServiceError> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let result =
        client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    Ok(result
        .content
        .first()
        .and_then(|block| block.as_text())
        .map(|text| text.text.clone())
        .unwrap_or_default())
}

/// Calls the control server of the gateway.
async fn control(what: &str, user: &str, scope: &str) -> String {
    let gateway = variable("CONTROL");
    let host = gateway.trim_start_matches("http://");
    let path = format!("/{what}?user={user}&scope={}", scope.replace(' ', "+"));
    let response =
        wire::send(host.parse().expect("an address"), &wire::post(&path, host, &[], "")).await;
    assert_eq!(response.status, 200, "{path}");
    response.text().to_owned()
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the log of the MCP server, one entry per request.
#[expect(clippy::disallowed_methods, reason = "the log is written by our own server")]
fn seen() -> Vec<Value> {
    let text = fs::read_to_string(variable("SEEN")).expect("the server's log");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[expect(clippy::disallowed_methods, reason = "addresses and paths are passed in the environment")]
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} in the environment"))
}

#[expect(clippy::print_stdout, reason = "the parent process reads the results")]
fn print(text: &str) {
    println!("{text}");
}
