//! Cached verdicts: their owners, lifetime and cost.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER},
    upstream::{ScriptedServer, json as json_response},
    wire,
};
use tower_token_broker::revocation::RevocationTarget;

use crate::{
    hostile_case::{Case, run},
    hostile_tokens::Fetching,
};

/// Changes the last significant character of the signature: for 64 bytes, the last but one has no
/// unused bits.
fn with_another_signature(token: &str) -> String {
    let at = token.len() - 3;
    let other = if token.as_bytes()[at] == b'A' { 'B' } else { 'A' };
    let mut changed = token.to_owned();
    changed.replace_range(at..=at, &other.to_string());
    changed
}

#[tokio::test]
async fn g158_tokens_with_a_common_prefix_are_distinct() {
    let fetching = Fetching::start().await;
    // Claims are sorted by name, so two tokens differ only after the padding.
    let padded =
        |id: &str| fetching.with_claims([("a", json!("x".repeat(600))), ("jti", json!(id))]);
    let (one, other) = (padded("one"), padded("two"));
    let alike = one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    assert!(alike > 512, "{alike}");
    let forged = with_another_signature(&one);
    assert!(
        forged.bytes().zip(one.bytes()).take_while(|(forged, one)| forged == one).count()
            > one.len() - 4
    );
    let rows = [
        Case::passes("G158", fetching.call(&one)),
        fetching.refused("G158", &forged, "jwt.signature"),
        Case::passes("G158", fetching.call(&other)),
        fetching.refused("G158", &with_another_signature(&other), "jwt.signature"),
        Case::passes("G158", fetching.call(&one)),
    ];
    fetching.run(rows).await;
    fetching.broker.done().await;
}

#[tokio::test]
async fn g159_verifiers_do_not_share_verdicts() {
    let (first, second) = (
        ScriptedServer::start(|_| json_response("{}")).await,
        ScriptedServer::start(|_| json_response("{}")).await,
    );
    let (one, other) =
        (Broker::in_front_of(&first).start().await, Broker::in_front_of(&second).start().await);
    let call = |broker: &Broker, token: &str| {
        wire::post("/mcp", broker.host(), &[("authorization", &format!("Bearer {token}"))], CALL)
    };
    let token = one.token("items:read");
    run(&one, &first, [Case::passes("G159", call(&one, &token))]).await;
    run(&other, &second, [Case::refused("G159", call(&other, &token), 401, "jwt.kid")]).await;
    one.done().await;
    other.done_unsent().await;
}

#[tokio::test]
async fn g161_a_premature_token_is_accepted_later() {
    let fetching = Fetching::start().await;
    // The leeway is 30 s: 40 s before `nbf`, the token is premature for 10 s.
    let early = fetching
        .with_claims([("nbf", json!(fetching.now + 40)), ("exp", json!(fetching.now + 300))]);
    fetching.run([fetching.refused("G161", &early, "jwt.not_yet_valid")]).await;
    fetching.clock.advance(Duration::from_secs(15));
    fetching.run([Case::passes("G161", fetching.call(&early))]).await;
    fetching.broker.done().await;
}

#[tokio::test]
async fn n268_a_policy_change_applies_to_the_next_call() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use tower_token_broker::{
        principal::Principal,
        scope_filter::{Call, Decision},
    };

    let list =
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_item"},{"name":"other"}]}}"#;
    let upstream = ScriptedServer::start(move |_| json_response(list)).await;
    let removed = Arc::new(AtomicBool::new(false));
    let decides = Arc::clone(&removed);
    let policy = move |_: &Principal, call: &Call<'_>| {
        let is_removed =
            matches!(call, Call::Tool { name: "get_item", .. }) && decides.load(Ordering::SeqCst);
        if is_removed { Decision::deny(call) } else { Decision::allow() }
    };
    let broker = Broker::in_front_of(&upstream).policy(policy).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let post =
        |message: &str| wire::post("/mcp", broker.host(), &[("authorization", &bearer)], message);
    let listed = post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let rows = [Case::passes("N268", post(CALL)), Case::passes("N268", listed.clone()).body(list)];
    run(&broker, &upstream, rows).await;
    removed.store(true, Ordering::SeqCst);
    let rows = [
        Case::refused("N268", post(CALL), 200, "filter.tool_denied"),
        Case::passes("N268", listed)
            .body(r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"other"}]}}"#),
    ];
    run(&broker, &upstream, rows).await;
    broker.done().await;
}

#[tokio::test]
async fn s321_responses_are_no_oracle() {
    let fetching = Fetching::start().await;
    let revoked = fetching.with_claims([("jti", json!("to be revoked"))]);
    fetching.run([Case::passes("S321", fetching.call(&revoked))]).await;
    let revoked_id = RevocationTarget::Token { issuer: ISSUER.into(), id: "to be revoked".into() };
    assert!(fetching.broker.revoke(revoked_id).await.was_known());
    let rows = [
        fetching.refused(
            "S321",
            &with_another_signature(&fetching.with_claims([])),
            "jwt.signature",
        ),
        fetching.refused(
            "S321",
            &fetching.with_claims([
                ("iat", json!(fetching.now - 300)),
                ("exp", json!(fetching.now - 60)),
            ]),
            "jwt.expired",
        ),
        fetching.refused(
            "S321",
            &fetching.with_claims([("aud", json!("https://other.example.com/mcp"))]),
            "authn.resource",
        ),
        fetching.refused("S321", &revoked, "authn.revoked"),
        fetching.refused("S321", "no.such.token", "jwt.encoding"),
    ];
    let responses = fetching.run(rows).await;
    let alike = |response: &wire::RawResponse| {
        (
            response.status,
            response.body.clone(),
            response.header("www-authenticate").map(str::to_owned),
        )
    };
    for response in &responses {
        assert_eq!(alike(response), alike(&responses[0]));
    }
    fetching.broker.done().await;
}
