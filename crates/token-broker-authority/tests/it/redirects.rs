//! No request makes a redirect to a URI that the client did not register.

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use crate::support::*;

/// Values that attackers try, and those of a valid request.
fn value() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        REDIRECT,
        "https://client.example/cb",
        "https://evil.example/cb",
        "http://127.0.0.1:1/callback",
        "http://127.0.0.1:1@evil.example/callback",
        "//evil.example",
        "/sign-in",
        "javascript:alert(1)",
        "code",
        "S256",
        "plain",
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        CRM,
        "crm:read",
        "none",
        "xyz",
        "a\r\nlocation: https://evil.example",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => "[ -~]{0,40}"]
}

fn changes() -> impl Strategy<Value = Vec<(usize, String)>> {
    prop::collection::vec((0..12_usize, value()), 0..4)
}

#[tokio::test]
async fn d085_no_request_redirects_to_an_unregistered_uri() {
    let server = Server::start_with(|_, builder| {
        let mut settings = token_broker_authority::AuthoritySettings::default();
        settings.authorize.per_address =
            token_broker_authority::Quota::new(u32::MAX, std::time::Duration::from_secs(1 << 40));
        builder.server(crm()).settings(settings)
    })
    .await;
    let client = server.register(&["http://127.0.0.1/callback", "https://client.example/cb"]).await;
    let names = [
        "response_type",
        "client_id",
        "redirect_uri",
        "state",
        "code_challenge",
        "code_challenge_method",
        "resource",
        "scope",
        "prompt",
        "request",
        "response_mode",
        "x",
    ];
    let mut runner = TestRunner::deterministic();
    let mut redirects = 0;
    for _ in 0..400 {
        let changes = changes().new_tree(&mut runner).unwrap().current();
        let mut query: Vec<(String, String)> = authorization(&client)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for (number, (at, value)) in changes.into_iter().enumerate() {
            let name = names[at].to_owned();
            // Replaced, or added a second time.
            if number % 3 != 2 {
                query.retain(|(known, _)| *known != name);
            }
            query.push((name, value));
        }
        let query: Vec<_> = query.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut replies = vec![server.authorize_as("alice", &query).await];
        if replies[0].status == 200 {
            let page = replies[0].json();
            replies.push(server.decide("alice", &page, "deny").await);
        }
        for reply in replies {
            assert!(!reply.headers.contains_key("set-cookie"));
            let Some(location) = reply.location() else { continue };
            redirects += 1;
            let port = location
                .strip_prefix("http://127.0.0.1:")
                .and_then(|rest| rest.split_once("/callback?"))
                .is_some_and(|(port, _)| port.parse::<u16>().is_ok());
            let is_registered = port || location.starts_with("https://client.example/cb?");
            assert!(is_registered, "{location} for {query:?}");
            assert_eq!(reply.redirect_param("iss").as_deref(), Some(ISSUER), "{location}");
        }
    }
    assert!(redirects > 100, "the cases reach the redirects: {redirects}");
}
