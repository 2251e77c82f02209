//! Completions over real sockets: their arguments are judged like those of a call, and what they do
//! not name allows nothing.

use token_broker_tests::{
    harness::Broker,
    upstream::{ScriptedServer, json},
    wire,
};
use tower_token_broker::{
    json::Value,
    scope_filter::{Rules, prompts, resources},
};

use crate::hostile_case::{Case, run};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"completion":{"values":[]}}}"#;

fn owner_is(value: &'static str) -> impl Fn(Value<'_>) -> bool + Send + Sync + 'static {
    move |arguments| {
        let owner = arguments.get("owner");
        owner.is_some_and(|owner| owner.as_str().as_deref() == Some(value))
    }
}

/// Returns a completion with these parameters.
fn complete(broker: &Broker, params: &str) -> Vec<u8> {
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let body =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{params}}}"#);
    wire::post("/mcp", broker.host(), &[("authorization", &bearer)], &body)
}

#[tokio::test]
async fn j427_a_completion_is_judged_by_its_arguments() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let allows = Rules::new().allow(prompts(["report"]).when(owner_is("me")));
    let denies = Rules::new()
        .allow(prompts(["*"]))
        .deny(prompts(["report"]).when(owner_is("ceo")))
        .deny(prompts(["hidden"]));
    for (rules, reason) in [(allows, "filter.arguments_denied"), (denies, "filter.prompt_denied")] {
        let broker = Broker::in_front_of(&upstream).policy(rules).start().await;
        let of = |rest: &str| {
            complete(
                &broker,
                &format!(r#"{{"ref":{{"type":"ref/prompt","name":"report"}}{rest}}}"#),
            )
        };
        let with = |value: &str| {
            let context = format!(r#""context":{{"arguments":{{"owner":"{value}"}}}}"#);
            format!(r#","argument":{{"name":"x","value":"v"}},{context}"#)
        };
        let mut rows = vec![Case::passes("J427 known", of(&with("me")))];
        for rest in [
            "",
            r#","argument":{"name":"owner","value":"ceo"}"#,
            r#","argument":{"name":"owner","value":""}"#,
            r#","argument":{"name":"x","value":"v"}"#,
            r#","argument":{"name":"x","value":"v"},"context":{}"#,
            r#","argument":{"name":"x","value":"v"},"context":{"arguments":{}}"#,
            // Two values of one argument.
            r#","argument":{"name":"owner","value":"me"},"context":{"arguments":{"owner":"ceo"}}"#,
            r#","argument":{"name":"owner","value":"ceo"},"context":{"arguments":{"owner":"me"}}"#,
        ] {
            rows.push(Case::refused("J427", of(rest), 200, reason));
        }
        rows.push(Case::refused("J427", of(&with("ceo")), 200, reason));
        for (rest, reason) in [
            (r#","argument":{"name":"x","value":1}"#, "filter.not_a_message"),
            (r#","argument":["owner"]"#, "filter.not_a_message"),
            (r#","context":{"arguments":{"owner":["me"]}}"#, "filter.not_a_message"),
            (r#","Argument":{"name":"owner","value":"me"}"#, "filter.case_variant"),
            (r#","argument":{"name":"x","value":"v","Value":"w"}"#, "filter.case_variant"),
            (r#","context":{"arguments":{},"arguments.owner":"ceo"}"#, "filter.case_variant"),
            (r#","context":{"arguments":{"owner":"me","owner ":"ceo"}}"#, "filter.case_variant"),
            (
                r#","argument":{"name":"Owner","value":""},"context":{"arguments":{"owner":"me"}}"#,
                "filter.case_variant",
            ),
        ] {
            rows.push(Case::refused("J427", of(rest), 400, reason));
        }
        run(&broker, &upstream, rows).await;
        broker.done().await;
    }
}

#[tokio::test]
async fn j428_a_completion_is_judged_as_the_resource_that_it_names() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let rules = Rules::new()
        .allow(resources(["file:///data/*", "crm://contacts/*"]))
        .deny(resources(["file:///data/secret/*", "crm://contacts/hr/*"]));
    let broker = Broker::in_front_of(&upstream).policy(rules).start().await;
    let of = |template: &str, name: &str, value: &str, rest: &str| {
        let reference = format!(r#"{{"type":"ref/resource","uri":"{template}"}}"#);
        let argument = format!(r#"{{"name":"{name}","value":"{value}"}}"#);
        complete(&broker, &format!(r#"{{"ref":{reference},"argument":{argument}{rest}}}"#))
    };
    let mut rows = vec![
        Case::passes("J428 another", of("file:///data/{path}", "path", "public/x", "")),
        Case::passes("J428 another", of("file:///data/{path}", "path", "", "")),
        Case::passes("J428 another", of("crm://contacts/{team}/{id}", "id", "7", "")),
        Case::passes("J428 another", of("crm://contacts/{team}/{id}", "team", "sales", "")),
    ];
    let team = |team: &str| format!(r#","context":{{"arguments":{{"team":"{team}"}}}}"#);
    for request in [
        of("file:///data/{path}", "path", "secret/", ""),
        of("file:///data/{path}", "path", "SECRET%2Fplan", ""),
        of("file:///data/{+path}", "path", "secret/x", ""),
        of("file:///data/{path}", "Path", "secret/x", ""),
        of("file:///data/{path*}", "path", "secret", ""),
        of("file:///data/{path:6}/x", "path", "secret-not", ""),
        of("file:///data/{a}{b}/x", "a", "sec", r#","context":{"arguments":{"b":"ret"}}"#),
        // Outside of what is allowed.
        of("file:///data/{path}", "path", "../etc/", ""),
        of("file:///data/{path}", "path", "..", ""),
        of("crm://contacts/{team}/{id}", "id", "7", &team("hr")),
        of("crm://contacts/{team}/{id}", "team", "hr", ""),
        of("crm://contacts/{team}/{id}", "team", "sales", &team("hr")),
        of("crm://contacts/{team}/{id}", "team", "hr", &team("sales")),
    ] {
        rows.push(Case::refused("J428", request, 200, "filter.resource_denied"));
    }
    // Two arguments of the context may be meant.
    let twice = r#","context":{"arguments":{"Path":"public/x","path":"secret/x"}}"#;
    let request = of("file:///data/{path}/{id}", "id", "7", twice);
    rows.push(Case::refused("J428", request, 400, "filter.case_variant"));
    // J429: a template of 1500 bytes and a value of 100 KB.
    let (repeated, value) = ("{a}".repeat(500), "x".repeat(100_000));
    for template in
        [format!("file:///data/{repeated}"), format!("file:///data/{}", repeated.get(3..).unwrap())]
    {
        let request = of(&template, "a", &value, "");
        rows.push(Case::refused("J429", request, 400, "filter.member_too_large"));
    }
    // A denied one is not expanded.
    let request = of(&format!("file:///etc/{repeated}"), "a", &value, "");
    rows.push(Case::refused("J429", request, 200, "filter.resource_denied"));
    let request = of(&format!("file:///data/{}", "a".repeat(17_000)), "a", "", "");
    rows.push(Case::refused("J429", request, 400, "filter.member_too_large"));
    run(&broker, &upstream, rows).await;
    broker.done().await;
}
