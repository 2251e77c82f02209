//! Endpoints that the gateway does not have: status, debug and administration, and the verification
//! of tokens for others.

use token_broker_tests::{
    marker_scan::Scan,
    person::{App, Browser},
    wire::{self, RawResponse},
};

use crate::{
    gateway::items,
    login::{PASSWORD, add},
    setup::{SECRET, Setup},
};

/// Where other products have pages about themselves.
const PAGES: &[&str] = &[
    "/metrics",
    "/metrics/",
    "/prometheus",
    "/debug",
    "/debug/pprof/",
    "/debug/pprof/heap",
    "/debug/vars",
    "/debug/requests",
    "/config",
    "/config.json",
    "/config_dump",
    "/token-broker.toml",
    "/token-broker.key",
    "/token-broker.db",
    "/audit",
    "/.env",
    "/.git/config",
    "/env",
    "/actuator",
    "/actuator/env",
    "/actuator/heapdump",
    "/heapdump",
    "/trace",
    "/logs",
    "/status",
    "/server-status",
    "/stats",
    "/version",
    "/info",
    "/userinfo",
    "/oauth/userinfo",
    "/oauth2/userinfo",
    "/.pomerium/",
    "/whoami",
    "/me",
    "/admin",
    "/admin/users",
    "/admin/config",
    "/api",
    "/api/users",
    "/api/tokens",
    "/users",
    "/tokens",
    "/grants",
    "/clients",
    // The same in other spellings, and below paths that are served.
    "//metrics",
    "/%6Detrics",
    "/livez/../metrics",
    "/readyz/metrics",
    "/crm",
    "/crm/metrics",
    "/crm/mcp/metrics",
    "/crm/mcp/../../metrics",
    "/oauth",
    "/oauth/admin",
    "/.well-known",
    "/.well-known/",
];

/// Where other authorization servers verify tokens for others (RFC 7662).
const INTROSPECTION: &[&str] = &[
    "/introspect",
    "/introspection",
    "/oauth/introspect",
    "/oauth/introspection",
    "/oauth/token/introspect",
    "/oauth/token_info",
    "/oauth/tokeninfo",
    "/oauth2/introspect",
    "/tokeninfo",
    "/crm/mcp/introspect",
];

fn get(setup: &Setup, path: &str, bearer: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {bearer}\
         \r\n\r\n",
        setup.address
    )
    .into_bytes()
}

fn post(setup: &Setup, path: &str, bearer: Option<&str>, form: &str) -> Vec<u8> {
    let bearer = bearer.map(|token| format!("Bearer {token}"));
    let mut fields = vec![("content-type", "application/x-www-form-urlencoded")];
    fields.extend(bearer.iter().map(|bearer| ("authorization", &**bearer)));
    wire::post(path, &setup.address.to_string(), &fields, form)
}

/// Sends a request that must find nothing, and adds the response to the scan.
async fn absent(setup: &Setup, case: &str, request: &[u8], scan: &mut Scan) {
    let response = wire::send(setup.address, request).await;
    assert_eq!(response.status, 404, "{case}: {}", response.text());
    assert_eq!(response.text(), NOT_FOUND, "{case}");
    scan.source(case.to_owned(), response.raw);
}

const NOT_FOUND: &str = r#"{"error":"not_found","error_description":"no server has this path"}"#;

async fn document(setup: &Setup, path: &str) -> RawResponse {
    wire::send(setup.address, &get(setup, path, "none")).await
}

#[tokio::test]
async fn f144_r319_a_gateway_with_sign_in_serves_nothing_about_itself() {
    let setup = Setup::new(items().await).await.with_login("");
    add(&setup, "alice");
    let serving = setup.serve();
    let app = App::register(setup.address, "Editor").await;
    let other = App::register(setup.address, "Other").await;
    let mut browser = Browser::at(setup.address);
    let tokens = app.connect(&mut browser, "crm", ("alice", PASSWORD)).await;
    assert_eq!(setup.call(&tokens.access).await.status, 200);
    let mut scan = Scan::new();
    let secrets = [
        ("the upstream's secret", SECRET),
        ("the access token", &*tokens.access),
        ("the refresh token", &*tokens.refresh),
        ("the password", PASSWORD),
    ];
    for (what, secret) in secrets {
        scan.secret(what, secret).received(secret.as_bytes());
    }
    for path in PAGES {
        let request = get(&setup, path, &tokens.access);
        absent(&setup, &format!("R319 GET {path}"), &request, &mut scan).await;
        let request = post(&setup, path, Some(&tokens.access), "");
        absent(&setup, &format!("R319 POST {path}"), &request, &mut scan).await;
    }
    // By the client of the token, by another one, with and without a token of its own.
    for path in INTROSPECTION {
        for token in [&tokens.access, &tokens.refresh] {
            for client in [&app.client_id, &other.client_id] {
                let form = format!("token={token}&client_id={client}");
                for bearer in [None, Some(&*tokens.access)] {
                    let case = format!("F144 {path} {client} {}", bearer.is_some());
                    let request = post(&setup, path, bearer, &form);
                    absent(&setup, &case, &request, &mut scan).await;
                }
            }
        }
    }
    // The page for users names applications, and no token.
    let page = browser.open("/connections").await;
    assert!(page.has("Editor"), "R319 {}", page.text());
    scan.source("the page of alice", page.response.raw.clone());
    let page = Browser::at(setup.address).open("/connections").await;
    assert!(!page.has("Editor"), "R319: of alice only");
    assert_eq!(scan.run(), Ok(()), "R319");
    // No document names such an endpoint, so that no client looks for it.
    for path in ["oauth-authorization-server", "openid-configuration"] {
        let path = format!("/.well-known/{path}");
        let document = document(&setup, &path).await;
        assert_eq!(document.status, 200, "{path}");
        let metadata = document.json();
        assert!(metadata["revocation_endpoint"].is_string(), "{metadata}");
        for member in metadata.as_object().unwrap().keys() {
            let is_absent = !member.contains("introspection") && !member.contains("userinfo");
            assert!(is_absent, "F144 {member}");
        }
    }
    serving.stop();
}

#[tokio::test]
async fn f144_r319_a_gateway_of_an_identity_provider_serves_less() {
    let setup = Setup::new(items().await).await;
    let serving = setup.serve();
    let token = setup.token("alice");
    assert_eq!(setup.call(&token).await.status, 200);
    let mut scan = Scan::new();
    for (what, secret) in [("the upstream's secret", SECRET), ("the token", &*token)] {
        scan.secret(what, secret).received(secret.as_bytes());
    }
    let of_login = ["/oauth/token", "/oauth/authorize", "/oauth/register", "/oauth/revoke"];
    let pages = ["/sign-in", "/connections", "/", "/.well-known/oauth-authorization-server"];
    for path in PAGES.iter().chain(&of_login).chain(&pages) {
        let request = get(&setup, path, &token);
        absent(&setup, &format!("R319 GET {path}"), &request, &mut scan).await;
    }
    for path in INTROSPECTION {
        let request = post(&setup, path, None, &format!("token={token}"));
        absent(&setup, &format!("F144 {path}"), &request, &mut scan).await;
    }
    // Those that are there report whether it is ready, and no more.
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ready\n")] {
        let response = document(&setup, path).await;
        assert_eq!((response.status, response.text()), (200, text), "R319");
    }
    assert_eq!(scan.run(), Ok(()), "R319");
    serving.stop();
}
