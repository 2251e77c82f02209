//! The MCP client of the scenario.

use rmcp::{
    RoleClient, ServiceExt as _,
    model::CallToolRequestParams,
    service::{Peer, RunningService},
    transport::{
        StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::Value;

use crate::{DemoError, raw_http::Response};

/// A client with an open connection.
pub(super) type Client = RunningService<RoleClient, ()>;

/// Connects to a server.
pub(super) async fn connect(
    url: &str,
    token: &str,
    concurrent: usize,
) -> Result<Client, DemoError> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(url).auth_header(token);
    config.max_concurrent_requests = concurrent;
    ().serve(StreamableHttpClientTransport::from_config(config)).await.map_err(DemoError::new)
}

/// Calls a tool, and returns the result as a text for people.
pub(super) async fn call(client: &Peer<RoleClient>, tool: &'static str) -> String {
    match client.call_tool(CallToolRequestParams::new(tool)).await {
        Ok(result) => result
            .content
            .first()
            .and_then(|block| block.as_text())
            .map_or_else(String::new, |text| text.text.clone()),
        // The error itself, without the text of the transport.
        Err(rmcp::ServiceError::McpError(error)) => format!("error: {}", error.message),
        Err(rmcp::ServiceError::TransportSend(_)) => {
            "refused with 403, which names the scope that is missing".to_owned()
        }
        Err(_) => "no response".to_owned(),
    }
}

/// Returns a response of a server as a text for people.
pub(super) fn heard(response: &Response) -> String {
    let body = response.body();
    let from = body.find('{').unwrap_or_default();
    let until = body.rfind('}').unwrap_or_default();
    let message: Value =
        body.get(from..=until).and_then(|text| text.parse().ok()).unwrap_or_default();
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    if let Some(link) = link_of(response) {
        let page = link.split_once("?for=").map_or(&*link, |(page, _)| page);
        return format!("a request to connect the account, at {page}?for=...");
    }
    match text("/result/content/0/text").or_else(|| text("/error/message")) {
        Some(text) => text.to_owned(),
        None => refused(response),
    }
}

/// Returns the status of a response as a text for people.
pub(super) fn refused(response: &Response) -> String {
    match response.status {
        200 => "served".to_owned(),
        status => format!("refused with {status}"),
    }
}

/// Returns the link of a "please connect" response.
pub(super) fn link_of(response: &Response) -> Option<String> {
    let (before, after) = response.body().split_once("/connect/")?;
    let (server, value) = after.split_once("?for=")?;
    let origin = before.rsplit(['"', ' ']).next()?;
    let value: String = value
        .chars()
        .take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'))
        .collect();
    Some(format!("{origin}/connect/{server}?for={value}"))
}
