//! Which authorization requests are shown, and on which channel the others are refused.

use crate::support::*;

#[tokio::test]
async fn d085_no_browser_is_sent_to_a_uri_that_is_not_registered() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT, "https://client.example/cb"]).await;
    let query = authorization(&client);
    for (case, uri) in [
        ("D085", "https://evil.example/cb"),
        ("D085", "https://client.example/cb/"),
        ("D085", "https://client.example/cb?x=1"),
        ("D085", "https://client.example/CB"),
        ("D085", "https://client.example/x/../cb"),
        ("D085", "https://client.example/%2e%2e/cb"),
        ("D085", "https://client.example./cb"),
        ("D085", "https://client.example:8443/cb"),
        ("D085", "https://client.example.evil.example/cb"),
        ("D085", "https://client.example@evil.example/cb"),
        ("D085", "https://client.example/cb#fragment"),
        ("D087", "http://localhost:4711/callback"),
        ("D087", "http://[::1]:4711/callback"),
        ("D087", "http://127.0.0.1:4711/callback/x"),
        ("D087", "http://127.0.0.1:4711@evil.example/callback"),
        ("D090", "javascript:alert(1)"),
        ("D090", "data:text/html,x"),
        ("D090", "vbscript:x"),
        ("D090", "myapp://callback"),
    ] {
        let reply = server.authorize_as("alice", &with(&query, "redirect_uri", uri)).await;
        assert_eq!(
            (reply.status, &*reply.page_error()),
            (400, "authz.redirect_uri"),
            "{case} {uri}"
        );
        // Nor before the sign-in.
        let target = format!("/oauth/authorize?{}", encode(&with(&query, "redirect_uri", uri)));
        assert_eq!(server.get(&target).await.page_error(), "authz.redirect_uri", "{case} {uri}");
    }
    for port in ["http://127.0.0.1:1/callback", "http://127.0.0.1/callback"] {
        let reply = server.authorize_as("alice", &with(&query, "redirect_uri", port)).await;
        assert_eq!(reply.status, 200, "D087 {port}");
        assert_eq!(reply.json()["target"], "Loopback", "D087: the page warns");
    }
}

#[tokio::test]
async fn d086_the_redirect_uri_is_required() {
    let server = Server::start().await;
    for registered in [&[REDIRECT][..], &[REDIRECT, "https://client.example/cb"]] {
        let client = server.register(registered).await;
        let query = with(&authorization(&client), "redirect_uri", "");
        let reply = server.authorize_as("alice", &query).await;
        assert_eq!(reply.page_error(), "authz.redirect_uri", "D086");
    }
}

#[tokio::test]
async fn unknown_clients_get_a_page() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let query = authorization(&client);
    for id in [
        "nobody",
        "https://client.example/c.json",
        "https://127.0.0.1/c",
        "http://x/c",
        "https://x",
        "a\0b",
        &"x".repeat(3000),
    ] {
        let reply = server.authorize_as("alice", &with(&query, "client_id", id)).await;
        assert_eq!((reply.status, &*reply.page_error()), (400, "authz.client"), "{id}");
    }
    let reply = server.authorize_as("alice", &with(&query, "client_id", "")).await;
    assert_eq!(reply.page_error(), "authz.client");
}

#[tokio::test]
async fn d089_a_repeated_parameter_is_refused_on_the_right_channel() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let query = authorization(&client);
    let twice = |name: &'static str, value: &str| {
        let mut text = encode(&query);
        text.push_str(&format!("&{}", encode(&[(name, value)])));
        text
    };
    let cookie = [("cookie", "session=alice")];
    for (name, value, error) in [
        ("client_id", &*client, "authz.client"),
        ("client_id", "other", "authz.client"),
        ("redirect_uri", REDIRECT, "authz.redirect_uri"),
        ("redirect_uri", "https://evil.example/", "authz.redirect_uri"),
    ] {
        let target = format!("/oauth/authorize?{}", twice(name, value));
        let reply = server.request("GET", &target, &cookie, "").await;
        assert_eq!((reply.status, &*reply.page_error()), (400, error), "D089 {name}");
    }
    for (name, value, error, state) in [
        ("state", "other", "invalid_request", None),
        ("scope", "crm:read", "invalid_request", Some("xyz")),
        ("response_type", "code", "invalid_request", Some("xyz")),
        ("code_challenge", "x", "invalid_request", Some("xyz")),
        ("resource", HR, "invalid_target", Some("xyz")),
        ("resource", CRM, "invalid_target", Some("xyz")),
    ] {
        let target = format!("/oauth/authorize?{}", twice(name, value));
        let reply = server.request("GET", &target, &cookie, "").await;
        assert_eq!(reply.redirected_error(state), error, "D089 D095 {name}");
    }
}

#[tokio::test]
async fn d091_d109_invalid_parameters_are_refused_by_redirect() {
    let server = Server::start_with(|_, builder| builder.server(crm()).server(hr())).await;
    let client = server.register(&[REDIRECT]).await;
    let query = authorization(&client);
    let many = "a ".repeat(10_000);
    for (case, name, value, error) in [
        ("D091", "response_type", "token", "unsupported_response_type"),
        ("D091", "response_type", "code token", "unsupported_response_type"),
        ("D091", "response_type", "id_token", "unsupported_response_type"),
        ("D091", "response_type", "", "unsupported_response_type"),
        ("D091", "response_mode", "fragment", "invalid_request"),
        ("D091", "response_mode", "form_post", "invalid_request"),
        ("D092", "code_challenge", "", "invalid_request"),
        ("D092", "code_challenge", "short", "invalid_request"),
        ("D093", "code_challenge_method", "plain", "invalid_request"),
        ("D093", "code_challenge_method", "S512", "invalid_request"),
        ("D093", "code_challenge_method", "s256", "invalid_request"),
        ("D093", "code_challenge_method", "", "invalid_request"),
        ("D095", "resource", "https://broker.example.com/other/mcp", "invalid_target"),
        ("D095", "resource", "https://broker.example.com/crm/mcp#x", "invalid_target"),
        ("D095", "resource", "https://broker.example.com/crm/mcp/", "invalid_target"),
        ("D095", "resource", "https://broker.example.com/CRM/mcp", "invalid_target"),
        ("D095", "resource", "https://x@broker.example.com/crm/mcp", "invalid_target"),
        ("D096", "scope", "crm:admin", "invalid_scope"),
        ("D096", "scope", "crm:read hr:read", "invalid_scope"),
        ("D096", "scope", &many, "invalid_scope"),
        ("D096", "scope", "crm:read\r\nx", "invalid_scope"),
        ("D096", "scope", "crm:read\tcrm:write", "invalid_scope"),
        ("D109", "request", "eyJhbGciOiJub25lIn0.e30.", "request_not_supported"),
        ("D109", "request_uri", "http://169.254.169.254/", "request_uri_not_supported"),
        ("D109", "prompt", "none", "consent_required"),
    ] {
        let reply = server.authorize_as("alice", &with(&query, name, value)).await;
        assert_eq!(reply.redirected_error(Some("xyz")), error, "{case} {name}={value:.40}");
    }
}

#[tokio::test]
async fn d106_state_is_returned_octet_by_octet_or_refused() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let query = authorization(&client);
    let longest = "x".repeat(2048);
    for state in ["a&b=c#d%20+\"<>", "a b", "%", &longest] {
        let query = with(&query, "state", state);
        let reply = server.authorize_as("alice", &with(&query, "response_type", "")).await;
        assert_eq!(reply.redirected_error(Some(state)), "unsupported_response_type", "D106");
        let page = server.authorize_as("alice", &query).await.json();
        let reply = server.decide("alice", &page, "allow").await;
        assert_eq!(reply.redirect_param("state").as_deref(), Some(state), "D106");
    }
    let too_long = "x".repeat(2049);
    for state in ["a\r\nset-cookie: x=1", "a\0", "\u{e9}", &too_long, &"x".repeat(8192)] {
        let reply = server.authorize_as("alice", &with(&query, "state", state)).await;
        assert_eq!(reply.redirected_error(None), "invalid_request", "D106 {state:.20?}");
        assert!(!reply.headers.contains_key("set-cookie"), "D106");
    }
    // Deviates: clients without `state` are protected by PKCE and `iss`.
    let page = server.authorize_as("alice", &with(&query, "state", "")).await;
    let reply = server.decide("alice", &page.json(), "allow").await;
    assert_eq!((reply.redirect_param("state"), reply.status), (None, 303), "D106");
}

#[tokio::test]
async fn d095_the_case_of_the_host_is_canonicalized_once() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let resource = "HTTPS://Broker.EXAMPLE.com/crm/mcp";
    let query = authorization(&client);
    let query = with(&query, "resource", resource);
    let page = server.authorize_as("alice", &query).await.json();
    assert_eq!(page["servers"][0]["resource"], CRM, "D095");
}

#[tokio::test]
async fn scopes_of_openid_connect_mean_nothing_here() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let query = authorization(&client);
    for (scope, granted) in [
        ("", vec!["crm:read"]),
        ("openid profile email offline_access", vec!["crm:read"]),
        ("crm:write offline_access", vec!["crm:write"]),
        ("crm:read crm:write", vec!["crm:read", "crm:write"]),
    ] {
        let query = with(&query, "scope", scope);
        let page = server.authorize_as("alice", &with(&query, "prompt", "consent")).await.json();
        let scopes = page["servers"][0]["scopes"].as_array().unwrap().clone();
        let names: Vec<_> = scopes.iter().map(|scope| text(&scope["name"])).collect();
        assert_eq!(names, granted, "{scope}");
    }
}

#[tokio::test]
async fn d095_without_a_resource_the_user_chooses_the_server() {
    let only = Server::start().await;
    let client = only.register(&[REDIRECT]).await;
    let query = authorization(&client);
    let query = with(&query, "resource", "");
    let page = only.authorize_as("alice", &query).await.json();
    assert_eq!(page["servers"].as_array().unwrap().len(), 1);
    assert_eq!(only.decide("alice", &page, "allow").await.status, 303);

    let server = Server::start_with(|_, builder| builder.server(crm()).server(hr())).await;
    let client = server.register(&[REDIRECT]).await;
    let query = authorization(&client);
    let query = with(&with(&query, "resource", ""), "scope", "");
    let page = server.authorize_as("alice", &query).await.json();
    let titles: Vec<_> =
        page["servers"].as_array().unwrap().iter().map(|server| text(&server["title"])).collect();
    assert_eq!(titles, ["CRM", "Staff"]);
    let send = async |resource: Option<&str>| {
        let sealed = text(&page["sealed"]);
        let mut form = vec![("request", &*sealed), ("decision", "allow"), ("csrf", "csrf-alice")];
        form.extend(resource.map(|resource| ("resource", resource)));
        server.post_with("/oauth/consent", &form, &[("cookie", "session=alice")]).await
    };
    assert_eq!(send(None).await.page_error(), "authz.unreadable");
    assert_eq!(send(Some("https://evil.example/")).await.page_error(), "authz.unreadable");
    let reply = send(Some(HR)).await;
    let code = reply.redirect_param("code").unwrap();
    let form = with(&redemption(&client, &code), "resource", HR);
    let tokens = server.post("/oauth/token", &form).await;
    assert_eq!(tokens.json()["scope"], "hr:read", "D095");
}

#[tokio::test]
async fn requests_that_cannot_be_read_get_a_page() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let query = encode(&authorization(&client));
    for query in [
        format!("{query}&x=%zz"),
        format!("{query}&x=%C3"),
        format!("{query}&{}", vec!["x=1"; 100].join("&")),
    ] {
        let reply = server.get(&format!("/oauth/authorize?{query}")).await;
        assert_eq!((reply.status, &*reply.page_error()), (400, "authz.unreadable"));
    }
    for method in ["POST", "PUT", "DELETE"] {
        let reply = server.request(method, &format!("/oauth/authorize?{query}"), &[], "").await;
        assert_eq!((reply.status, reply.location()), (405, None), "{method}");
    }
}

#[tokio::test]
async fn too_many_requests_get_a_page() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let target = format!("/oauth/authorize?{}", encode(&authorization(&client)));
    for _ in 0..120 {
        assert_eq!(server.get(&target).await.status, 303);
    }
    let reply = server.get(&target).await;
    assert_eq!((reply.status, &*reply.page_error()), (429, "authz.rate_limited"));
    server.clock.advance(minutes(1));
    assert_eq!(server.get(&target).await.status, 303);
}
