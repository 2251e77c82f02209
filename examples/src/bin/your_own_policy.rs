//! A policy of your own, put together with rules: `OfficeClients` knows which clients are the office's, and what they may do.
//!
//! Run: cargo run --release --bin your_own_policy
//!
//! It decides on a few calls and prints what came out: a type of your own, a closure and rules are policies alike.
//! Refused: what no part allows; what the exception names, whatever the others say; and where two parts must agree, what one denies.

use std::{error::Error, time::Duration};

use tower_token_broker::{
    clock::Clock,
    principal::{Person, Principal, Resource, TokenTimes, Verified},
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

fn main() -> Result<(), Box<dyn Error>> {
    let office = OfficeClients { clients: vec!["desk"] };
    let rules = Rules::new().allow(tools(["get_*", "send_mail"])).allow(tools(["delete_*"]).with_scope("crm:admin"));
    let secrets = |_: &Principal, call: &Call<'_>| {
        let is_secret = matches!(call, Call::Tool { name, .. } if name.ends_with("_secret"));
        if is_secret { Decision::allow() } else { Decision::deny(call) }
    };
    // Both must allow; and what the closure names is nobody's.
    let policy = office.and(rules).unless(secrets);

    let resource = Resource::parse("https://broker.example.com/crm/mcp")?;
    let (desk, stranger) = (caller(&resource, "desk"), caller(&resource, "stranger"));
    for (who, caller, name, arguments) in [
        ("the desk", &desk, "get_contact", "{}"),
        ("a stranger", &stranger, "get_contact", "{}"),
        ("the desk", &desk, "get_secret", "{}"),
        ("the desk", &desk, "delete_contact", "{}"),
        ("the desk", &desk, "send_mail", r#"{"to":"ada@example.com"}"#),
        ("the desk", &desk, "send_mail", r#"{"to":"eve@evil.example"}"#),
    ] {
        let decision = policy.decide(caller, &Call::Tool { name, arguments: Arguments::of_object(arguments) });
        let said = match decision {
            Decision::Allow(_) => "allowed".to_owned(),
            Decision::Deny(reason) => format!("denied ({})", reason.code()),
            Decision::NeedsScope(scopes) => format!("needs {scopes}"),
        };
        say(&format!("{who} calls {name} {arguments}: {said}"));
    }
    Ok(())
}

/// Behind the authenticate layer the caller comes from the token; here, as in a test of your own, it is made by hand.
fn caller(resource: &Resource, client: &str) -> Principal {
    let now = Clock::system().now();
    let times = TokenTimes { id: "t1", issued_at: now, expires_at: now.plus(Duration::from_secs(600)) };
    let alice = Person::new("https://broker.example.com", "alice");
    Principal::for_test(&Verified::vouch(alice, client, resource.clone(), times))
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
