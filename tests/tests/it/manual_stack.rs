//! The four layers stacked without `BrokerStack`: together they work, and if one is missing, every
//! request is refused.

use axum::Router;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, proxy, serve},
    upstream::{ScriptedServer, json},
    wire,
};
use token_broker_upstream::StaticSecret;
use tower::ServiceBuilder;
use tower_token_broker::{
    audit::AuditLayer,
    authenticate::{AuthenticateLayer, JwtVerifier},
    exchange::{CallerLayer, ExchangeLayer},
    scope_filter::{Rules, ScopeFilterLayer, tools},
    stack::StackConfig,
};

use super::mounts;

struct Layers {
    audit: AuditLayer,
    authenticate: AuthenticateLayer<JwtVerifier>,
    scope_filter: ScopeFilterLayer<Rules>,
    exchange: ExchangeLayer<StaticSecret>,
    caller: CallerLayer,
}

impl Layers {
    fn of(broker: &Broker, secret: StaticSecret) -> Self {
        let config = StackConfig::new(broker.resource().as_str()).unwrap();
        let (handle, verifier) =
            (broker.handle(), JwtVerifier::new(ISSUER, broker.issuer().keys()));
        let rules = Rules::new().allow(tools(["get_*", "stream_*"]));
        Self {
            audit: AuditLayer::new(handle, &config),
            authenticate: AuthenticateLayer::new(handle, &config, verifier).unwrap(),
            scope_filter: ScopeFilterLayer::new(handle, &config, rules),
            exchange: ExchangeLayer::new(handle, &config, secret).unwrap(),
            caller: CallerLayer::new(handle),
        }
    }
}

#[tokio::test]
async fn manually_stacked_layers_serve() {
    let items = mounts::Items::start().await;
    let (listener, _, secret, broker) =
        Broker::in_front_of(&items.scripted).prepare_for_handler().await;
    let Layers { audit, authenticate, scope_filter, exchange, .. } = Layers::of(&broker, secret);
    let stacked =
        ServiceBuilder::new().layer(audit).layer(authenticate).layer(scope_filter).layer(exchange);
    serve(listener, Router::new().fallback_service(stacked.service(proxy())));
    mounts::serves_a_pass_a_refusal_and_a_stream(&broker, &items).await;
}

/// Sends a valid call through an incomplete stack: 500, nothing is sent, and the error log names
/// the missing layer.
///
/// If the audit layer is present, there is a record.
async fn is_refused_loudly(
    case: &str,
    requests: u64,
    said: &str,
    stack: impl FnOnce(Layers) -> Router,
) {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let (listener, _, secret, broker) = Broker::in_front_of(&upstream).prepare_for_handler().await;
    serve(listener, stack(Layers::of(&broker, secret)));
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let call = wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL);
    broker.ledger().sent(requests, &call);
    let response = wire::send(broker.address(), &call).await;
    broker.ledger().received(&response);
    assert_eq!(response.status, 500, "{case}: {}", response.text());
    assert_eq!(response.header("cache-control"), Some("no-store"), "{case}");
    let records = broker.records().await;
    for result in records.iter().filter(|record| record["count"].is_u64()) {
        assert_eq!(
            (&result["reason"], &result["uses"]),
            (&"stack.missing_layer".into(), &0.into()),
            "{case}: {result}"
        );
    }
    let logs = String::from_utf8(broker.ledger().logs()).unwrap();
    assert!(logs.lines().any(|line| line.contains("ERROR") && line.contains(said)), "{case}");
    broker.done_unsent().await;
}

#[tokio::test]
async fn h169_a_missing_layer_is_a_logged_500() {
    is_refused_loudly("no audit", 0, "the audit layer is missing", |layers| {
        let Layers { authenticate, scope_filter, exchange, .. } = layers;
        let stack = ServiceBuilder::new().layer(authenticate).layer(scope_filter).layer(exchange);
        Router::new().fallback_service(stack.service(proxy()))
    })
    .await;
    is_refused_loudly("no authenticate", 1, "authenticate layer is missing", |layers| {
        let Layers { audit, scope_filter, exchange, .. } = layers;
        let stack = ServiceBuilder::new().layer(audit).layer(scope_filter).layer(exchange);
        Router::new().fallback_service(stack.service(proxy()))
    })
    .await;
    is_refused_loudly("no scope filter", 1, "no proof of the scope filter layer", |layers| {
        let Layers { audit, authenticate, exchange, .. } = layers;
        let stack = ServiceBuilder::new().layer(audit).layer(authenticate).layer(exchange);
        Router::new().fallback_service(stack.service(proxy()))
    })
    .await;
    is_refused_loudly("only audit", 1, "no proof of the authenticate layer", |layers| {
        let Layers { audit, exchange, .. } = layers;
        Router::new()
            .fallback_service(ServiceBuilder::new().layer(audit).layer(exchange).service(proxy()))
    })
    .await;
    is_refused_loudly("only exchange", 0, "no proof of the audit layer", |layers| {
        Router::new()
            .fallback_service(ServiceBuilder::new().layer(layers.exchange).service(proxy()))
    })
    .await;
    is_refused_loudly("misordered", 1, "authenticate layer is missing", |layers| {
        let Layers { audit, authenticate, scope_filter, exchange, .. } = layers;
        let stack = ServiceBuilder::new()
            .layer(audit)
            .layer(scope_filter)
            .layer(authenticate)
            .layer(exchange);
        Router::new().fallback_service(stack.service(proxy()))
    })
    .await;
}

#[tokio::test]
async fn h169_a_missing_layer_is_a_500_for_handlers() {
    is_refused_loudly("no scope filter", 1, "no proof of the scope filter layer", |layers| {
        let Layers { audit, authenticate, caller, .. } = layers;
        let stack = ServiceBuilder::new().layer(audit).layer(authenticate).layer(caller);
        Router::new().fallback_service(stack.service(proxy()))
    })
    .await;
    is_refused_loudly("only audit", 1, "no proof of the authenticate layer", |layers| {
        let stack = ServiceBuilder::new().layer(layers.audit).layer(layers.caller);
        Router::new().fallback_service(stack.service(proxy()))
    })
    .await;
    is_refused_loudly("only caller", 0, "no proof of the audit layer", |layers| {
        Router::new().fallback_service(ServiceBuilder::new().layer(layers.caller).service(proxy()))
    })
    .await;
}

#[tokio::test]
async fn h169_without_exchange_the_proxy_sends_nothing() {
    let upstream = ScriptedServer::start(|_| json("{}")).await;
    let (listener, _, secret, broker) = Broker::in_front_of(&upstream).prepare_for_handler().await;
    let Layers { audit, authenticate, scope_filter, .. } = Layers::of(&broker, secret);
    let stack = ServiceBuilder::new().layer(audit).layer(authenticate).layer(scope_filter);
    serve(listener, Router::new().fallback_service(stack.service(proxy())));
    let response = broker.call_with(&[], CALL).await;
    assert_eq!(response.status, 500, "{}", response.text());
    let records = broker.records().await;
    let result = records.iter().find(|record| record["count"].is_u64()).unwrap();
    assert_eq!(
        (&result["reason"], &result["uses"]),
        (&"stack.missing_layer".into(), &0.into()),
        "{result}"
    );
    broker.done_unsent().await;
}
