//! Names in other spellings than that of a rule, over real sockets: a denied name is denied in
//! every spelling that some server reads as this name, and an allowed one in its own only.

use http::Method;
use token_broker_tests::{
    harness::Broker,
    upstream::{ScriptedServer, json},
    wire,
};
use tower_token_broker::scope_filter::{
    Call, Decision, PolicyExt as _, Rules, http, methods, policy_fn, prompts, resources, tools,
};

use crate::hostile_case::{Case, run};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// Returns a POST of a call with a valid token.
fn post(broker: &Broker, method: &str, params: &str) -> Vec<u8> {
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    wire::post("/mcp", broker.host(), &[("authorization", &bearer)], &body)
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[tokio::test]
async fn j421_a_denied_resource_is_denied_in_every_spelling() {
    let allowed = || Rules::new().allow(resources(["*"]));
    let denied = || resources(["file:///data/secret/*"]);
    let closure = policy_fn(|_, call: &Call<'_>| {
        if call.may_name("file:///data/secret/*") {
            Decision::deny(call)
        } else {
            Decision::allow()
        }
    });
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let by_rule = Broker::in_front_of(&upstream).policy(allowed().deny(denied())).start().await;
    let unless = allowed().unless(Rules::new().allow(denied()));
    let by_exception = Broker::in_front_of(&upstream).policy(unless).start().await;
    let by_closure = Broker::in_front_of(&upstream).policy(closure).start().await;
    for broker in [by_rule, by_exception, by_closure] {
        let read =
            |uri: &str| post(&broker, "resources/read", &format!(r#"{{"uri":{}}}"#, quoted(uri)));
        let mut rows = vec![
            Case::passes("J421 another", read("file:///data/secrets/x")),
            Case::passes("J421 another", read("file:///data/public/secret%20x")),
        ];
        for uri in [
            "file:///data/secret/x",
            "file:///data//secret/x",
            "file:///data/secret%2Fx",
            "file:///data/secret%2fx",
            "file:///data/secret%252Fx",
            "file:///data/Secret/x",
            "file:///data/secret./x",
            "file:///data/secret%20/x",
            "file:///data/secret;v=1/x",
            "file:///data\\secret\\x",
            "file:///data/secret%00/x",
            "file:///data/ſecret/x",
            "file:///data／secret／x",
            "file:///data/se\u{200b}cret/x",
            "file:///data/%C0%AE/secret/x",
            "file:///data/%u0073ecret/x",
            "file:/data/secret/x",
            "file://localhost/data/secret/x",
            "FILE:///data/secret/x",
            "file:///data/secret/x?a#b",
            "file:///data/secret/{name}",
            "/data/secret/x",
        ] {
            rows.push(Case::refused("J421", read(uri), 200, "filter.resource_denied"));
            let watched = format!(r#"{{"uri":{}}}"#, quoted(uri));
            let watch = post(&broker, "resources/subscribe", &watched);
            rows.push(Case::refused("J421", watch, 200, "filter.resource_denied"));
            let named = format!(r#"{{"ref":{{"type":"ref/resource","uri":{}}}}}"#, quoted(uri));
            let complete = post(&broker, "completion/complete", &named);
            rows.push(Case::refused("J421", complete, 200, "filter.resource_denied"));
        }
        run(&broker, &upstream, rows).await;
        broker.done().await;
    }
}

#[tokio::test]
async fn j421_a_denied_uri_inside_a_text_is_denied() {
    let rules = Rules::new().allow(resources(["*"])).deny(resources(["file:///data/secret/*"]));
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).policy(rules).start().await;
    let read =
        |uri: &str| post(&broker, "resources/read", &format!(r#"{{"uri":{}}}"#, quoted(uri)));
    let mut rows = vec![
        Case::passes("J421 another", read("jar:file:///data/secrets/x!/y")),
        Case::passes("J421 another", read("note:///secret/x")),
        Case::passes("J421 another", read("<file:///data/public/x>")),
    ];
    let zeros = format!("file:///data/&#{}115;ecret/x", "0".repeat(100));
    for uri in [
        zeros.as_str(),
        "file&colon;&sol;&sol;&sol;data&sol;secret&sol;x",
        "file:///data/public&sol;&period;&period;/secret/x",
        "file:&bsol;&bsol;&bsol;data&bsol;secret&bsol;x",
        "file:///data/&#115ecret/x",
        "file:///data/\\163ecret/x",
        "file:///data/\\u{0000000000073}ecret/x",
        "url:file:///data/secret/x",
        "<URL:file:///data/secret/x>",
        "\"file:///data/secret/x\"",
        "“file:///data/secret/x”",
        "local_file:///data/secret/x",
        "netdoc:/data/secret/x",
        "jar:file:///data/secret/x!/y",
        "view-source:x-y:file:/data/secret/x",
        "https://a.example/?u=file%3A///data/secret/x",
        "//localhost/data/secret/x",
        "file:///data/sec{x}ret/x",
        "file:///data/&#115;ecret/x",
        "file:///data/\\u0073ecret/x",
    ] {
        rows.push(Case::refused("J421", read(uri), 200, "filter.resource_denied"));
    }
    run(&broker, &upstream, rows).await;
    broker.done().await;
}

#[tokio::test]
async fn j421_a_denied_host_is_denied_in_every_spelling() {
    let rules = Rules::new().allow(resources(["*"])).deny(resources([
        "https://intra.example/*",
        "http://10.0.0.1/*",
        "crm://hr/*",
    ]));
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).policy(rules).start().await;
    let read =
        |uri: &str| post(&broker, "resources/read", &format!(r#"{{"uri":{}}}"#, quoted(uri)));
    let mut rows = vec![
        Case::passes("J421 another", read("https://extra.example/x")),
        Case::passes("J421 another", read("//extra.example/x")),
        Case::passes("J421 another", read("feed://extra.example/x")),
        Case::passes("J421 another", read("http://10.0.0.2/x")),
        Case::passes("J421 another", read("http://[fe80::a00:1]/x")),
        Case::passes("J421 another", read("erp://hr/x")),
        Case::passes("J421 another", read("blob:https://extra.example/x")),
    ];
    for uri in [
        "//intra.example/x",
        "//INTRA.example:443/x",
        "///intra.example/x",
        "\\\\intra.example\\x",
        "blob:https://intra.example/x",
        "feed:https://intra.example/x",
        "feed://intra.example/x",
        "filesystem:https://intra.example/temporary/x",
        "view-source:https://intra.example/x",
        "url(https://intra.example/x)",
        "https://a.example/r?to=https://intra.example/x",
        "https://a.example/https://intra.example/x",
        "http://[::ffff:10.0.0.1]/x",
        "http://[::10.0.0.1]/x",
        "http://[64:ff9b::a00:1]/x",
        "http://[2002:a00:1::]/x",
        "http://167772161/x",
        "http://010.0.0.1/x",
        "http://10.0.0.1./x",
        "//10.0.0.1/x",
        "//hr/x",
        "<crm://hr/x>",
    ] {
        rows.push(Case::refused("J421", read(uri), 200, "filter.resource_denied"));
    }
    run(&broker, &upstream, rows).await;
    broker.done().await;
}

#[tokio::test]
async fn j429_a_name_that_costs_too_much_is_refused() {
    let mut rules = Rules::new().allow(resources(["*"])).allow(tools(["*"])).allow(prompts(["*"]));
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let open = Broker::in_front_of(&upstream).policy(rules.clone()).start().await;
    for number in 0..50 {
        let uri = format!("file:///*a*a*a*b{number}/*");
        rules = rules.deny(resources([uri.as_str()])).deny(tools([uri.as_str()]));
    }
    let broker = Broker::in_front_of(&upstream).policy(rules).start().await;
    let fill = |text: &str| format!("file:///{}{text}", "a".repeat(16_000 - text.len()));
    let read = |broker: &Broker, uri: &str| {
        post(broker, "resources/read", &format!(r#"{{"uri":{}}}"#, quoted(uri)))
    };
    let named = |method: &str, name: &str| {
        post(&broker, method, &format!(r#"{{"name":{}}}"#, quoted(name)))
    };
    let many = fill(&"?".repeat(62));
    let mut rows = vec![
        Case::passes("J429 usual", read(&broker, "https://api.example.com/v1/a?b=c&d=e#f")),
        Case::passes("J429 usual", named("tools/call", "get_item (v2)")),
        // No denial of a prompt compares it.
        Case::passes("J429 no denial", named("prompts/get", &fill("\0"))),
    ];
    for text in [
        many.as_str(),
        &fill(&"u:file:/".repeat(40)),
        &fill(&"{?".repeat(30)),
        &"ab:".repeat(5_000),
        &"a".repeat(17_000),
    ] {
        let refused = read(&broker, text);
        rows.push(Case::refused("J429", refused, 400, "filter.member_too_large"));
    }
    let controls: String = (1..32).filter_map(char::from_u32).collect();
    let refused = named("tools/call", &fill(&controls));
    rows.push(Case::refused("J429", refused, 400, "filter.member_too_large"));
    run(&broker, &upstream, rows).await;
    run(&open, &upstream, [Case::passes("J429 no denial", read(&open, &many))]).await;
    broker.done().await;
    open.done().await;
}

#[tokio::test]
async fn j422_a_denied_name_is_denied_in_every_spelling() {
    let rules = Rules::new()
        .allow(tools(["*"]))
        .allow(prompts(["*"]))
        .allow(methods(["*"]))
        .deny(tools(["get_salary"]))
        .deny(prompts(["salary*"]))
        .deny(methods(["logging/setLevel"]));
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).policy(rules).start().await;
    let named = |method: &str, name: &str| {
        post(&broker, method, &format!(r#"{{"name":{}}}"#, quoted(name)))
    };
    let mut rows = vec![
        Case::passes("J422 another", named("tools/call", "get_salaries")),
        Case::passes("J422 another", named("prompts/get", "my_salary")),
        Case::passes("J422 another", post(&broker, "logging/getLevel", "{}")),
    ];
    for name in [
        "get_salary",
        "GET_SALARY",
        "get_salary ",
        " get_salary",
        "get_salary.",
        "get-salary",
        "get_ſalary",
        "get_salary\0",
        "get_salary\0.txt",
        "get_salary\n",
        "get\u{200d}_salary",
        "ｇｅｔ_salary",
        "get%5Fsalary",
        "get_salary/",
        "\"get_salary\"",
        "“get_salary”",
        "get_salary()",
        "<get_salary>",
        "get\\u005fsalary",
        "get&#95;salary",
        "get\u{2800}salary",
        "get_sa\u{301}lary\u{8}",
    ] {
        let reason = "filter.tool_denied";
        // An accent makes another name.
        if name.contains('\u{301}') {
            rows.push(Case::passes("J422 another", named("tools/call", name)));
        } else {
            rows.push(Case::refused("J422", named("tools/call", name), 200, reason));
        }
    }
    for name in ["salary", "Salary_2026", "\u{feff}salary_2026", "ｓalary%5F2026"] {
        let (get, reason) = (named("prompts/get", name), "filter.prompt_denied");
        rows.push(Case::refused("J422", get, 200, reason));
    }
    for method in ["logging/setLevel", "logging/setlevel", "Logging/SetLevel", "logging//setLevel"]
    {
        rows.push(Case::refused("J422", post(&broker, method, "{}"), 200, "filter.method_denied"));
    }
    // A method that some server reads as a method of MCP is not judged by its own name.
    for method in ["Tools/call", "tools/call ", "tools//call", "tools%2Fcall", "TOOLS/CALL"] {
        rows.push(Case::refused("J423", named(method, "get_salary"), 200, "filter.method_denied"));
    }
    run(&broker, &upstream, rows).await;
    broker.done().await;
}

#[tokio::test]
async fn j420_members_in_another_case_are_refused() {
    let is_mine = |arguments: tower_token_broker::json::Value<'_>| {
        arguments.get("owner").is_none_or(|owner| owner.as_str().as_deref() == Some("me"))
    };
    let rules = Rules::new().allow(tools(["read"]).when(is_mine)).allow(tools(["write"]));
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).policy(rules).start().await;
    let call = |tool: &str, arguments: &str| {
        post(&broker, "tools/call", &format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#))
    };
    let mut rows = vec![
        Case::passes("J420", call("read", r#"{"owner":"me"}"#)),
        // No rule reads these objects.
        Case::passes("J420", call("write", r#"{"owner":"me","Owner":"ceo"}"#)),
        Case::passes("J420", call("read", r#"{"owner":"me","filter":{"a":1,"A":2}}"#)),
    ];
    for arguments in [
        r#"{"owner":"me","Owner":"ceo"}"#,
        r#"{"OWNER":"ceo","owner":"me"}"#,
        r#"{"owner":"me","\u004fwner":"ceo"}"#,
        r#"{"owner":"me","own_er":"ceo"}"#,
        r#"{"owner":"me","ｏwner":"ceo"}"#,
        r#"{"owner":"me","owner\u0000":"ceo"}"#,
        r#"{"Owner":"ceo"}"#,
        r#"{"owner":"me","owner ":"ceo"}"#,
        r#"{"owner":"me","own.er":"ceo"}"#,
        r#"{"owner":"me","owner[]":"ceo"}"#,
        r#"{"owner":"me","owner\u0301":"ceo"}"#,
        r#"{"owner":"me","owner\u200b":"ceo"}"#,
        r#"{"owner":"me","owner.id":"ceo"}"#,
        r#"{"owner":"me","__proto__":{"owner":"ceo"}}"#,
        r#"{"__proto__":{"owner":"ceo"}}"#,
        r#"{"x":{"constructor":{"prototype":{"owner":"ceo"}}}}"#,
    ] {
        let read = call("read", arguments);
        rows.push(Case::refused("J420", read, 400, "filter.case_variant"));
    }
    // The same for the members that name what is called.
    for params in [
        r#"{"name":"write","ﬁle":1,"argument\u017f":{}}"#,
        r#"{"name":"write","n_ame":"read"}"#,
        r#"{"name":"write","name ":"read"}"#,
        r#"{"name":"write","arguments.owner":"ceo"}"#,
        r#"{"name":"write","arguments[owner]":"ceo"}"#,
        r#"{"name":"write","__proto__":{"arguments":{"owner":"ceo"}}}"#,
    ] {
        let write = post(&broker, "tools/call", params);
        rows.push(Case::refused("J420", write, 400, "filter.case_variant"));
    }
    run(&broker, &upstream, rows).await;
    broker.done().await;
}

#[tokio::test]
async fn j424_a_path_has_one_spelling() {
    let rules = Rules::new()
        .allow(http(Method::GET, "/{*rest}"))
        .deny(http(Method::GET, "/mcp/admin/{*rest}"));
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).policy(rules).plain_http().start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let get = |path: &str| {
        let (host, bearer) = (broker.host(), &bearer);
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {bearer}\r\n");
        format!("{head}connection: close\r\n\r\n").into_bytes()
    };
    let mut rows = vec![
        Case::passes("J424 another", get("/mcp/administrators/x")),
        Case::passes("J424 another", get("/mcp/caf%C3%A9%20%EF%BC%88a%EF%BC%89")),
    ];
    for path in [
        "/mcp/admin/x",
        "/mcp/ADMIN/x",
        "/mcp/admin./x",
        "/mcp/admin%20/x",
        "/mcp/%EF%BD%81dmin/x",
        "/mcp/a%CC%80/%C0%AE%C0%AE/x",
        "/mcp/%FF",
        "/mcp/a%EF%BC%8Fx",
        "/mcp/%EF%BC%8E%EF%BC%8E/x",
        "/mcp/a%EF%BC%BCx",
        "/mcp/%u002e%u002e/x",
        "/mcp/%2e%2e/x",
        "/mcp/..;/x",
        "/mcp/..%20/x",
        "/mcp/caf%c3%a9",
        "/mcp/adm%E2%80%8Bin/x",
        "/mcp/a%C2%85b",
    ] {
        rows.push(Case::refused("J424", get(path), 403, "filter.request_denied"));
    }
    run(&broker, &upstream, rows).await;
    broker.done().await;
}

#[tokio::test]
async fn h420_connection_removes_no_header_that_was_judged() {
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker =
        Broker::in_front_of(&upstream).policy(Rules::new().allow(tools(["*"]))).start().await;
    let bearer = format!("Bearer {}", broker.token("items:read"));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let body = concat!(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"é","arguments":{},"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#
    );
    let judged = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "=?base64?w6k=?="),
        ("mcp-param-region", "eu"),
        ("traceparent", parent),
    ];
    for (case, connection) in [
        ("H420 none", "close"),
        ("H420", "close, mcp-name"),
        ("H420", "mcp-method, Mcp-Protocol-Version, close"),
        ("H420", "MCP-PARAM-REGION,\tclose"),
        ("H420", "traceparent, tracestate, close"),
        ("H420", "content-type, accept, close"),
    ] {
        let sent = [("authorization", bearer.as_str()), ("connection", connection)];
        let request = wire::post("/mcp", broker.host(), &[&sent[..], &judged].concat(), body);
        run(&broker, &upstream, [Case::passes(case, request)]).await;
        let received = upstream.received().pop().unwrap();
        for (name, value) in judged {
            assert_eq!(received.values(name), [value], "{case} {connection}: {name}");
        }
        assert_eq!(received.values("content-type"), ["application/json"], "{case}");
        assert!(received.headers.get("connection").is_none(), "{case}");
    }
    // Two values of one parameter, or of one trace, are read differently.
    let twice = |name: &'static str, value: &'static str| {
        let sent = [("authorization", bearer.as_str()), (name, value)];
        wire::post("/mcp", broker.host(), &[&sent[..], &judged].concat(), body)
    };
    let rows = [
        Case::refused("H420", twice("mcp-param-region", "us"), 400, "filter.header_mismatch"),
        Case::passes("H420", twice("traceparent", parent)),
    ];
    run(&broker, &upstream, rows).await;
    let received = upstream.received().pop().unwrap();
    assert!(received.values("traceparent").is_empty(), "H420");
    broker.done().await;
}
