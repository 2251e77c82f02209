//! Your own policy, combined with rules: `OfficeClients` knows the clients of the office and limits
//! what they may send.
//!
//! Run: cargo run --release --bin your_own_policy
//!
//! It sends a few calls through the stack, without a socket, and prints the decisions. Your own
//! type, a closure and rules are policies alike. Refused: a call that no part allows; a call that
//! the exception names, whatever the others allow; with `and`, a call that one of the two denies.
//! Try: add a client to the office, or a rule, and run it again.

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{convert::Infallible, error::Error};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use tower::{ServiceExt as _, service_fn};
use tower_token_broker::{
    audit::TracingSink,
    body::RequestBody,
    prelude::*,
    scope_filter::{Arguments, Call, Decision, Policy, policy_fn},
};

/// Only clients of the office may call anything, and they send mail only within the company.
struct OfficeClients {
    clients: Vec<&'static str>,
}

impl Policy for OfficeClients {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        if !self.clients.contains(&caller.client()) {
            // Refused like a tool that does not exist: a stranger does not learn which tools do.
            return Decision::deny(call).by_rule("office-clients");
        }
        // In a list the arguments are unknown. The tool is listed, and judged again when called.
        if let Call::Tool { arguments, .. } = call
            && call.may_name("send_mail")
            && Arguments::as_json(arguments).is_some_and(|text| !text.contains("@example.com\""))
        {
            return Decision::deny(call).by_rule("mail-stays-inside");
        }
        Decision::allow()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let office = OfficeClients { clients: vec!["desk"] };
    let rules = Rules::new()
        .allow(tools(["get_*", "send_mail"]))
        .allow(tools(["delete_*"]).with_scope("crm:admin"));
    let secrets = policy_fn(|_, call| {
        // In every spelling: some servers take `GET_SECRET` for `get_secret`.
        let is_secret = matches!(call, Call::Tool { .. }) && call.may_name("*_secret");
        if is_secret { Decision::allow() } else { Decision::deny(call) }
    });
    // Both must allow, and a call that the closure names is denied to everyone.
    let policy = office.and(rules).unless(secrets);

    let resource = Resource::parse("https://broker.example.com/crm/mcp")?;
    let keys = SigningKeys::generate(Algorithm::Es256)?;
    let issuer = Issuer::new("https://broker.example.com", keys);
    let broker = Broker::builder().audit(TracingSink::new()).build()?;
    let layer = broker
        .protect(resource.as_str())
        .authenticate(JwtVerifier::new(issuer.name(), issuer.keys()))
        .scope_filter(policy)
        .credential_for_handler()
        .build()?;
    let service = layer.layer(service_fn(async |_: Request<RequestBody<Full<Bytes>>>| {
        let done = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
        Ok::<_, Infallible>(
            Response::builder()
                .header("content-type", "application/json")
                .body(Full::from(done))
                .unwrap_or_default(),
        )
    }));

    for (client, tool, arguments) in [
        ("desk", "get_contact", "{}"),
        ("stranger", "get_contact", "{}"),
        ("desk", "get_secret", "{}"),
        ("desk", "delete_contact", "{}"),
        ("desk", "send_mail", r#"{"to":"ada@example.com"}"#),
        ("desk", "send_mail", r#"{"to":"eve@evil.example"}"#),
    ] {
        let token =
            issuer.mint(Mint::for_user("alice").client(client).resource(&resource))?.into_text();
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let request = Request::post(resource.as_str())
            .header("host", resource.authority())
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Full::from(call))?;
        let Ok(response) = service.clone().oneshot(request).await;
        let (status, challenge) =
            (response.status(), response.headers().get("www-authenticate").cloned());
        let body =
            response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        let is_error = body.windows(7).any(|window| window == b"\"error\"");
        let decision = match (status.as_u16(), challenge) {
            (403, Some(challenge)) => format!("needs a scope: {}", challenge.to_str()?),
            (200, _) if !is_error => "allowed".to_owned(),
            _ => "denied".to_owned(),
        };
        println!("{client} calls {tool} {arguments}: {decision}");
    }
    Ok(())
}
