//! A policy of your own, put together with rules: `OfficeClients` knows which clients are the office's, and what they may send.
//!
//! Run: cargo run --release --bin your_own_policy
//!
//! It sends a few calls through the stack, without a socket, and prints what came out. A type of your own, a closure and rules are policies
//! alike. Refused: what no part allows; what the exception names, whatever the others say; where two parts must agree, what one denies.
//! Try: add a client to the office, or a rule, and run it again.

use std::{convert::Infallible, error::Error};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_token_broker::{
    BrokerStack,
    audit::Tracing,
    authenticate::JwtVerifier,
    body::RequestBody,
    principal::{Principal, Resource},
    scope_filter::{Arguments, Call, Decision, Policy, PolicyExt as _, Rules, tools},
};

/// Only clients of the office get anything at all; and what they send stays in the house.
struct OfficeClients {
    clients: Vec<&'static str>,
}

impl Policy for OfficeClients {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        if !self.clients.contains(&caller.client()) {
            // Said as what does not exist: a stranger learns nothing of what there is.
            return Decision::deny(call);
        }
        // In a list the arguments are not known; the tool is listed, and judged again when it is called.
        if let Call::Tool { name: "send_mail", arguments } = call
            && Arguments::as_json(arguments).is_some_and(|text| !text.contains("@example.com\""))
        {
            return Decision::deny(call);
        }
        Decision::allow()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let office = OfficeClients { clients: vec!["desk"] };
    let rules = Rules::new().allow(tools(["get_*", "send_mail"])).allow(tools(["delete_*"]).with_scope("crm:admin"));
    let secrets = |_: &Principal, call: &Call<'_>| {
        let is_secret = matches!(call, Call::Tool { name, .. } if name.ends_with("_secret"));
        if is_secret { Decision::allow() } else { Decision::deny(call) }
    };
    // Both must allow; and what the closure names is nobody's.
    let policy = office.and(rules).unless(secrets);

    let resource = Resource::parse("https://broker.example.com/crm/mcp")?;
    let issuer = Issuer::new("https://broker.example.com", SigningKeys::generate(Algorithm::Es256)?);
    let broker = BrokerStack::for_resource(resource.as_str())
        .audit(Tracing::new())
        .authenticate(JwtVerifier::new(issuer.name(), issuer.keys()))
        .scope_filter(policy)
        .credential_for_handler()
        .build()?;
    let service = broker.layer(service_fn(async |_: Request<RequestBody<Full<Bytes>>>| {
        let done = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
        Ok::<_, Infallible>(
            Response::builder().header("content-type", "application/json").body(Full::from(done)).unwrap_or_default(),
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
        let token = issuer.mint(Mint::for_user("alice").client(client).resource(&resource))?.into_text();
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        );
        let request = Request::post(resource.as_str())
            .header("host", resource.authority())
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(Full::from(call))?;
        let Ok(answer) = service.clone().oneshot(request).await;
        let (status, challenge) = (answer.status(), answer.headers().get("www-authenticate").cloned());
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        let is_error = body.windows(7).any(|window| window == b"\"error\"");
        let said = match (status.as_u16(), challenge) {
            (403, Some(challenge)) => format!("needs a scope: {}", challenge.to_str()?),
            (200, _) if !is_error => "allowed".to_owned(),
            _ => "denied".to_owned(),
        };
        say(&format!("{client} calls {tool} {arguments}: {said}"));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
