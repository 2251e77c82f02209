//! The demo that stays: its lines for clients.

use std::net::SocketAddr;

use token_broker_demo as demo;

#[tokio::test(flavor = "multi_thread")]
async fn the_lines_for_clients_are_those_of_the_guide() {
    let running = demo::serve(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    assert!(running.report().pass, "{running}");
    let text = running.to_string().replace(&running.url(), "http://127.0.0.1:8080");
    let guide = include_str!("../../../../docs/getting-started.md");
    let url = "http://127.0.0.1:8080/crm/mcp";
    for line in [
        format!("claude mcp add --transport http crm {url}"),
        format!(r#"{{"mcpServers": {{"crm": {{"url": "{url}"}}}}}}"#),
        format!(r#"{{"servers": {{"crm": {{"type": "http", "url": "{url}"}}}}}}"#),
        format!("--cli --server-url {url} --transport http --method tools/list"),
        format!("curl -i {url}"),
    ] {
        let printed = text.replace(" \\\n                 ", " ");
        assert!(printed.contains(&line) && guide.contains(&line), "{line} in {text}");
    }
    let (user, password) = running.login();
    assert_eq!(user, "bob");
    assert!(text.contains(password) && password.len() >= 15);
    let last = text.lines().rev().find(|line| line.starts_with("Next: "));
    assert!(last.is_some_and(|line| line.contains("/connections")), "{text}");
    running.stop().await.unwrap();
}

#[tokio::test]
async fn each_run_has_another_password() {
    let mut passwords = Vec::new();
    for _ in 0..2 {
        let running = demo::serve(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        passwords.push(running.login().1.to_owned());
        running.stop().await.unwrap();
    }
    assert_ne!(passwords.first(), passwords.last());
}

#[tokio::test]
async fn an_address_for_others_is_refused() {
    let error = demo::serve(SocketAddr::from(([0, 0, 0, 0], 0))).await.unwrap_err();
    assert!(error.to_string().contains("not on loopback"), "{error}");
}
