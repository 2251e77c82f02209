//! Log lines of refusals: the received value next to the expected one.

use token_broker_authority::issue::Mint;
use token_broker_tests::{
    harness::{Broker, CALL},
    logs::capture,
    upstream::{ScriptedServer, json},
    wire,
};
use tower_token_broker::principal::{Resource, Scopes};

const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

#[tokio::test]
async fn a521_a_refused_host_is_logged_once_at_info() {
    let captured = capture();
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let bearer = format!("Bearer {}", broker.token("crm:read"));
    let fields = [("authorization", bearer.as_str())];
    let mark = captured.mark();
    let long = "a".repeat(2000) + ".example";
    for host in ["evil.example", "127.0.0.1", "e\u{202e}\u{e9}.example", "\"quoted\"", "", &long] {
        let response = broker.send(&wire::post("/mcp", host, &fields, CALL)).await;
        assert_eq!(response.status, 421, "{host}");
        // The client does not learn what is expected.
        assert!(!response.text().contains(broker.host()), "{host}");
    }
    let two = [("authorization", bearer.as_str()), ("host", "evil.example")];
    assert_eq!(broker.send(&wire::post("/mcp", broker.host(), &two, CALL)).await.status, 421);
    let passed = broker.send(&wire::post("/mcp", broker.host(), &fields, CALL)).await;
    assert_eq!(passed.status, 200);
    let text = String::from_utf8(captured.since(mark)).unwrap();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.contains("a request for another host")).collect();
    assert_eq!(lines.len(), 7, "{lines:?}");
    let allowed = format!("allowed=[\"{}\"]", broker.host());
    for (number, line) in lines.iter().enumerate() {
        assert!(line.contains(if number == 0 { " INFO " } else { "DEBUG " }), "{line}");
        assert!(line.contains(&allowed) && line.len() < 1000, "{line}");
        assert!(!line.contains('\u{202e}'), "{line}");
    }
    assert!(lines[0].contains("received=[\"evil.example\"]"), "{}", lines[0]);
    assert!(lines[3].contains(r#"received=["\"quoted\""]"#), "{}", lines[3]);
    let both = format!("received=[\"{}\", \"evil.example\"]", broker.host());
    assert!(lines[6].contains(&both), "{}", lines[6]);
    broker.done().await;
}

#[tokio::test]
async fn a522_a_refused_audience_is_logged_at_debug() {
    let captured = capture();
    let upstream = ScriptedServer::start(|_| json(RESULT)).await;
    let broker = Broker::in_front_of(&upstream).start().await;
    let ours = format!("http://{}/mcp", broker.host());
    let mark = captured.mark();
    let other = |resource: &str| {
        let mint = Mint::for_user("alice").client("client").scopes(Scopes::none());
        let mint = mint.resource(&Resource::parse(resource).unwrap());
        broker.issuer().mint(mint).unwrap().into_text()
    };
    let long = format!("https://other.example/{}", "a".repeat(1500));
    let with_a_slash = format!("{ours}/");
    for resource in [&with_a_slash, "https://other.example/mcp", &long] {
        let token = other(resource);
        let bearer = format!("Bearer {token}");
        let fields = [("authorization", bearer.as_str())];
        let response = broker.send(&wire::post("/mcp", broker.host(), &fields, CALL)).await;
        assert_eq!(response.status, 401, "{resource}");
        let text = String::from_utf8(captured.since(mark)).unwrap();
        assert!(!text.contains(&token), "{resource}");
        let line = text.lines().rfind(|line| line.contains("because of this claim")).unwrap();
        let shown = resource.get(..256).unwrap_or(resource);
        for part in ["DEBUG", "claim=\"aud\"", &format!("expected=[\"{ours}\"]"), shown] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(line.len() < 1000, "{line}");
    }
    broker.done_unsent().await;
}
