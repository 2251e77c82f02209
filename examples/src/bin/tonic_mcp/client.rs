//! The client: it holds broker tokens, and prints what it receives.

use std::error::Error;

use token_broker_grpc::{
    Revision, call,
    mcp::v1::{Frame, mcp_client::McpClient},
};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;
use tower_token_broker::prelude::*;

/// Plays the client. Returns all that it received.
pub(crate) async fn story(
    broker: &Broker,
    origin: String,
    alice: &str,
    bob: &str,
) -> Result<String, Box<dyn Error>> {
    let mut client = McpClient::new(tonic::transport::Endpoint::new(origin)?.connect().await?);
    let mut received = String::new();
    for (what, token, tool) in [
        ("allowed", alice, "get_contact"),
        ("denied", alice, "delete_contact"),
        ("needs a scope", alice, "create_contact"),
        ("connect required", bob, "get_contact"),
    ] {
        let seen = match client.call(request(token, tool)?).await {
            Ok(response) => std::str::from_utf8(&response.get_ref().json)?.to_owned(),
            Err(status) => {
                received.push_str(&format!("{:?}", status.metadata()));
                seen(&status)
            }
        };
        println!("{what}: {seen}");
        received.push_str(&seen);
    }
    let mut stream = client.stream(request(alice, "get_contact")?).await?.into_inner();
    let first = stream.message().await?.ok_or("the stream has no first message")?;
    let first = std::str::from_utf8(&first.json)?;
    println!("streamed: {first}");
    received.push_str(first);
    broker.revoke(RevocationTarget::Everything, &Initiator::operator("example")).await?;
    let ended = stream.message().await.err().ok_or("the stream was not cut")?;
    println!("revoked in mid-stream: {}", seen(&ended));
    received.push_str(&seen(&ended));
    Ok(received)
}

/// Returns a call of a tool, with a broker token and with the metadata that agrees with it.
fn request(token: &str, tool: &str) -> Result<Request<Frame>, Box<dyn Error>> {
    let message =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
    let mut request = call(Revision::V2025_11_25, "tools/call", Some(tool), message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}

/// Renders all that a client sees of a refusal: status, text, reason and details.
fn seen(status: &Status) -> String {
    let details = status.get_error_details();
    let mut seen = format!("{:?}: {}", status.code(), status.message());
    if let Some(info) = details.error_info() {
        let scope =
            info.metadata.get("scope").map(|scope| format!(", scope {scope}")).unwrap_or_default();
        seen.push_str(&format!(" [{}{scope}]", info.reason));
    }
    let code = status.metadata().get("mcp-error-code").and_then(|code| code.to_str().ok());
    seen.push_str(&code.map(|code| format!(" mcp-error-code {code}")).unwrap_or_default());
    for link in details.help().iter().flat_map(|help| &help.links) {
        seen.push_str(&format!(" {}", link.url));
    }
    seen
}
