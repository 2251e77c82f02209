//! Codes at the token endpoint.

use std::time::Duration;

use crate::support::*;

#[tokio::test]
async fn f124_a_code_that_is_replayed_ends_its_family() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    for (case, wait, form, ends) in [
        ("at once, by its own client", 0, redemption("", ""), false),
        ("within ten seconds", 9, redemption("", ""), false),
        ("after ten seconds", 10, redemption("", ""), true),
        ("without the verifier", 0, with(&redemption("", ""), "code_verifier", ""), true),
        ("with a wrong verifier", 0, with(&redemption("", ""), "code_verifier", WRONG), true),
    ] {
        let code = server.code(&client).await;
        let first = server.redeem(&client, &code).await;
        let refresh = text(&first.json()["refresh_token"]);
        server.clock.advance(Duration::from_secs(wait));
        let form = with(&form, "client_id", &client);
        let form = with(&form, "code", &code);
        assert_eq!(
            server.post("/oauth/token", &form).await.error(),
            "invalid_grant",
            "F124 {case}"
        );
        let reply = server.refresh(&client, &refresh).await;
        assert_eq!(reply.status == 200, !ends, "F124 {case}");
    }
    let ended = server.recorded("family_ended").await;
    assert_eq!(ended.len(), 3);
    assert!(ended.iter().all(|record| record["what"] == "code_replay"));
    assert!(ended.iter().all(|record| record["initiator"] == "client"));
    assert_eq!(server.recorded("revoked").await.len(), 3, "the access tokens, too");
}

const WRONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test]
async fn f124_another_client_that_replays_a_code_ends_its_family() {
    let server = Server::start().await;
    let (client, other) = (server.register(&[REDIRECT]).await, server.register(&[REDIRECT]).await);
    let code = server.code(&client).await;
    let refresh = text(&server.redeem(&client, &code).await.json()["refresh_token"]);
    assert_eq!(server.redeem(&other, &code).await.error(), "invalid_grant");
    assert_eq!(server.refresh(&client, &refresh).await.error(), "invalid_grant", "F124");
}

#[tokio::test]
async fn f126_a_stranger_does_not_burn_a_code() {
    let server = Server::start_with(|_, builder| builder.server(crm()).server(hr())).await;
    let (client, other) = (server.register(&[REDIRECT]).await, server.register(&[REDIRECT]).await);
    let code = server.code(&client).await;
    let form = redemption(&client, &code);
    for (case, form, error) in [
        ("another client", with(&form, "client_id", &other), "invalid_grant"),
        (
            "another redirect URI",
            with(&form, "redirect_uri", "http://127.0.0.1:1/callback"),
            "invalid_grant",
        ),
        ("another resource", with(&form, "resource", HR), "invalid_target"),
        ("no such client", with(&form, "client_id", "nobody"), "invalid_client"),
        ("no client", with(&form, "client_id", ""), "invalid_client"),
        (
            "a verifier of 42 characters",
            with(&form, "code_verifier", &"a".repeat(42)),
            "invalid_request",
        ),
    ] {
        let reply = server.post("/oauth/token", &form).await;
        assert_eq!(reply.error(), error, "F126 F129 {case}");
    }
    assert_eq!(server.redeem(&client, &code).await.status, 200, "F126: the code is still good");
}

#[tokio::test]
async fn f128_the_first_wrong_verifier_ends_the_code() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    for verifier in [WRONG, ""] {
        let code = server.code(&client).await;
        let form = with(&redemption(&client, &code), "code_verifier", verifier);
        assert_eq!(server.post("/oauth/token", &form).await.error(), "invalid_grant", "F128");
        assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant", "F128");
    }
    assert_eq!(server.recorded("token_issued").await.len(), 0);
}

#[tokio::test]
async fn f130_a_code_lives_for_a_minute() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let (early, late) = (server.code(&client).await, server.code(&client).await);
    server.clock.advance(Duration::from_millis(59_999));
    assert_eq!(server.redeem(&client, &early).await.status, 200);
    server.clock.advance(Duration::from_millis(1));
    assert_eq!(server.redeem(&client, &late).await.error(), "invalid_grant", "F130");
}

#[tokio::test]
async fn redirect_uri_and_resource_may_be_left_out() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let form = redemption(&client, &code);
    let form = with(&with(&form, "redirect_uri", ""), "resource", "");
    assert_eq!(server.post("/oauth/token", &form).await.status, 200);
}

#[tokio::test]
async fn f135_other_grant_types_are_refused() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let form = redemption(&client, &code);
    for (grant_type, error) in [
        ("password", "unsupported_grant_type"),
        ("implicit", "unsupported_grant_type"),
        ("client_credentials", "unsupported_grant_type"),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", "unsupported_grant_type"),
        ("Authorization_Code", "unsupported_grant_type"),
        ("", "invalid_request"),
    ] {
        let reply = server.post("/oauth/token", &with(&form, "grant_type", grant_type)).await;
        assert_eq!((reply.status, &*reply.error()), (400, error), "F135 {grant_type}");
    }
    let mut twice = form.clone();
    twice.push(("grant_type", "authorization_code"));
    assert_eq!(server.post("/oauth/token", &twice).await.error(), "invalid_request", "F135");
    assert_eq!(server.redeem(&client, &code).await.status, 200, "nothing was consumed");
}

#[tokio::test]
async fn f138_only_a_form_in_the_body_is_read() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let body = encode(&redemption(&client, &code));
    let form = ("content-type", "application/x-www-form-urlencoded");
    let long = format!("{body}&x={}", "x".repeat(1024 * 1024));
    for (case, method, target, fields, body, status) in [
        ("GET", "GET", format!("/oauth/token?{body}"), vec![], "", 405),
        ("PUT", "PUT", "/oauth/token".to_owned(), vec![form], &*body, 405),
        ("query", "POST", "/oauth/token?x=1".to_owned(), vec![form], &body, 400),
        ("no type", "POST", "/oauth/token".to_owned(), vec![], &body, 400),
        ("two types", "POST", "/oauth/token".to_owned(), vec![form, form], &body, 400),
        (
            "JSON",
            "POST",
            "/oauth/token".to_owned(),
            vec![("content-type", "application/json")],
            r#"{"grant_type":"authorization_code"}"#,
            400,
        ),
        (
            "multipart",
            "POST",
            "/oauth/token".to_owned(),
            vec![("content-type", "multipart/form-data; boundary=x")],
            "--x--",
            400,
        ),
        (
            "gzip",
            "POST",
            "/oauth/token".to_owned(),
            vec![form, ("content-encoding", "gzip")],
            &body,
            400,
        ),
    ] {
        let reply = server.request(method, &target, &fields, body).await;
        assert_eq!((reply.status, &*reply.error()), (status, "invalid_request"), "F138 {case}");
        assert_eq!(reply.headers["cache-control"], "no-store", "F139 {case}");
    }
    // The server may refuse before it has read the whole body.
    let head = format!(
        "POST /oauth/token HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        long.len()
    );
    let reply = server.send(head.as_bytes()).await;
    assert_eq!(reply.status, 413, "F138: 1 MiB");
    assert_eq!(server.redeem(&client, &code).await.status, 200, "nothing was consumed");
}

#[tokio::test]
async fn f136_clients_with_a_secret_authenticate_in_one_way() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let server = Server::start().await;
    let register = async |method: &str| {
        let metadata = serde_json::json!({
            "redirect_uris": [REDIRECT], "token_endpoint_auth_method": method,
        });
        let reply = server.post_json("/oauth/register", &metadata).await.json();
        (text(&reply["client_id"]), text(&reply["client_secret"]))
    };
    for method in ["client_secret_basic", "client_secret_post"] {
        let (client, secret) = register(method).await;
        let (other, other_secret) = register(method).await;
        let code = server.code(&client).await;
        let form = redemption(&client, &code);
        let basic = |client: &str, secret: &str| {
            format!("Basic {}", STANDARD.encode(format!("{client}:{secret}")))
        };
        let (good, wrong) = (basic(&client, &secret), basic(&client, "wrong"));
        let (swapped, others) = (basic(&client, &other_secret), basic(&other, &other_secret));
        let in_body = with(&form, "client_secret", &secret);
        let wrong_body = with(&form, "client_secret", "wrong");
        for (case, form, field) in [
            ("no secret", &form, None),
            ("wrong secret in the body", &wrong_body, None),
            ("wrong secret in the header", &form, Some(&wrong)),
            ("the secret of another client", &form, Some(&swapped)),
            ("another client in the header", &form, Some(&others)),
            ("both", &in_body, Some(&good)),
        ] {
            let fields: Vec<_> =
                field.map(|field| ("authorization", &**field)).into_iter().collect();
            let reply = server.post_with("/oauth/token", form, &fields).await;
            assert_eq!((reply.status, &*reply.error()), (401, "invalid_client"), "F136 {case}");
            assert!(reply.headers["www-authenticate"].as_bytes().starts_with(b"Basic"), "F136");
        }
        let reply = match method {
            "client_secret_basic" => {
                let form = with(&form, "client_id", "");
                server.post_with("/oauth/token", &form, &[("authorization", &good)]).await
            }
            _ => server.post("/oauth/token", &in_body).await,
        };
        assert_eq!(reply.status, 200, "{method}: {}", reply.body);
    }
    // A public client has no secret to present.
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let form = with(&redemption(&client, &code), "client_secret", "x");
    assert_eq!(server.post("/oauth/token", &form).await.error(), "invalid_client");
}

#[tokio::test]
async fn a_revoked_user_redeems_no_code() {
    use tower_token_broker::{
        principal::{Initiator, User},
        revocation::RevocationTarget,
    };
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let alice = RevocationTarget::User(User::new(ISSUER, "alice"));
    server.broker.revoke(alice, &Initiator::operator("olga")).await.unwrap();
    assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant");
}

#[tokio::test]
async fn too_many_requests_are_refused_with_the_time_to_wait() {
    let server = Server::start_with(|_, builder| {
        let mut settings = token_broker_authority::AuthoritySettings::default();
        settings.token.per_address = token_broker_authority::Quota::per_minute(3);
        builder.server(crm()).settings(settings)
    })
    .await;
    for _ in 0..3 {
        assert_eq!(server.refresh("nobody", "x").await.status, 401);
    }
    let reply = server.refresh("nobody", "x").await;
    assert_eq!((reply.status, &*reply.error()), (429, "temporarily_unavailable"));
    assert_eq!(reply.headers["retry-after"], "20");
    server.clock.advance(Duration::from_secs(20));
    assert_eq!(server.refresh("nobody", "x").await.status, 401);
}
