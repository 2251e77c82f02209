//! Tests of token endpoints that refuse, fail, or respond with nonsense.

use super::*;

const REVOKED: CredentialError = CredentialError::Revoked;

#[tokio::test]
async fn x10_e119_a_response_without_the_requested_token_fails() {
    let huge = " ".repeat(2 * 1024 * 1024);
    let kind = r#""issued_token_type":"urn:ietf:params:oauth:token-type:access_token""#;
    let of = |members: &str| says(200, &format!("{{{members},{kind}}}"));
    for (case, reply) in [
        ("X10 2 MiB", says(200, &huge)),
        ("X10 2 MiB of an error", says(400, &huge)),
        ("X10 HTML", Reply::Says(200, "content-type: text/html\r\n", "<html>at-9</html>".into())),
        ("X10 no content", says(204, "")),
        ("X10 half JSON", says(200, r#"{"access_token":"#)),
        ("X10 compressed", Reply::Says(200, "content-encoding: gzip\r\n", "\u{1f}\u{8b}x".into())),
        ("E119 mac", of(r#""access_token":"a","token_type":"mac""#)),
        ("E119 N_A", of(r#""access_token":"a","token_type":"N_A""#)),
        ("E119 DPoP", of(r#""access_token":"a","token_type":"DPoP""#)),
        ("E119 no token", of(r#""token_type":"Bearer""#)),
        ("E119 token of two lines", of(r#""access_token":"a\r\nb","token_type":"Bearer""#)),
        ("E119 token is a number", of(r#""access_token":7,"token_type":"Bearer""#)),
        ("E119 doubled", of(r#""access_token":"a","access_token":"b","token_type":"Bearer""#)),
        (
            "E119 doubled unescaped",
            of(r#""access_token":"a","access\u005ftoken":"b","token_type":"Bearer""#),
        ),
        (
            "E119 scopes that are none",
            of(r#""access_token":"a","token_type":"Bearer","scope":"a\"b""#),
        ),
        ("E119 no kind", says(200, r#"{"access_token":"a","token_type":"Bearer"}"#)),
        (
            "E119 another kind",
            says(
                200,
                &tokens(1, "").replace("token-type:access_token", "token-type:refresh_token"),
            ),
        ),
        ("an error, but as a success", says(200, r#"{"error":"unknown"}"#)),
        ("a denial of a server that fails", says(500, r#"{"error":"access_denied"}"#)),
        ("E119 doubled error", says(400, r#"{"error":"access_denied","error":"x"}"#)),
        (
            "C067 a redirect",
            Reply::Says(307, "location: http://169.254.169.254/\r\n", String::new()),
        ),
        ("X08 half a response", Reply::BreaksOff(tokens(1, ""))),
        ("X08 a hang-up", Reply::HangsUp),
    ] {
        let broker = Harness::exchange().await;
        broker.next(reply);
        assert_eq!(broker.get().await.unwrap_err(), unavailable(5), "{case}");
        assert_eq!(broker.get().await.unwrap_err(), unavailable(5), "{case}: remembered");
        assert_eq!(broker.posts().len(), 1, "{case}");
        broker.clock.advance(Duration::from_secs(5));
        assert!(broker.get().await.is_ok(), "{case}: and tried again");
    }
}

#[tokio::test]
async fn e119_an_impossible_expiry_is_five_minutes() {
    for (expires_in, seconds) in [
        ("", 300),
        (r#","expires_in":-1"#, 300),
        (r#","expires_in":"3600""#, 3600),
        (r#","expires_in":1e308"#, 366 * 24 * 3600),
        (r#","expires_in":0"#, 0),
    ] {
        let broker = Harness::client_credentials().await;
        broker.next(says(
            200,
            &format!(r#"{{"access_token":"a","token_type":"bearer"{expires_in}}}"#),
        ));
        let credential = broker.get().await.unwrap();
        assert_eq!(
            credential.expires_at(),
            Some(now().plus(Duration::from_secs(seconds))),
            "E119 {expires_in}"
        );
    }
}

#[tokio::test]
async fn e119_a_token_in_an_unusual_response_is_used() {
    let kind = r#""issued_token_type":"urn:ietf:params:oauth:token-type:access_token""#;
    for (status, members) in [
        (201, r#""access_token":"u:g:s!|","token_type":"bearer""#),
        (200, r#""access_token":"a""#),
        (200, r#""access_token":"a","token_type":null,"scope":null,"expires_in":"""#),
        (200, r#""access_token":"a","refresh_token":{},"x":1,"x":2"#),
        (200, r#""access_token":"a","scope":["crm:read"]"#),
    ] {
        let broker = Harness::exchange().await;
        broker.next(says(status, &format!("{{{members},{kind}}}")));
        assert!(broker.get().await.is_ok(), "E119 {members}");
    }
}

#[tokio::test]
async fn an_error_counts_at_any_status() {
    for status in [200, 201, 400, 401, 403, 404, 422] {
        let broker = Harness::exchange().await;
        broker.next(says(status, r#"{"error":"invalid_grant"}"#));
        assert_eq!(broker.get().await.unwrap_err(), REVOKED, "{status}");
    }
    // Codes of providers are about refresh tokens, of which there is none here.
    let broker = Harness::exchange().await;
    broker.next(says(400, r#"{"error":"token_expired"}"#));
    assert_eq!(broker.get().await.unwrap_err(), unavailable(5));
}

#[tokio::test]
async fn each_error_of_the_server_has_its_meaning() {
    let connect = CredentialError::ConnectRequired;
    let scope = CredentialError::ScopeRequired { missing: scopes("crm:write") };
    for (error, need, of_a_user, of_the_broker) in [
        ("invalid_grant", "", REVOKED, CredentialError::RefusedByPolicy),
        ("interaction_required", "", connect.clone(), CredentialError::RefusedByPolicy),
        ("login_required", "", connect.clone(), CredentialError::RefusedByPolicy),
        ("consent_required", "", connect, CredentialError::RefusedByPolicy),
        ("invalid_target", "", CredentialError::RefusedByPolicy, CredentialError::RefusedByPolicy),
        ("access_denied", "", CredentialError::RefusedByPolicy, CredentialError::RefusedByPolicy),
        (
            "unauthorized_client",
            "",
            CredentialError::RefusedByPolicy,
            CredentialError::RefusedByPolicy,
        ),
        (
            "unsupported_grant_type",
            "",
            CredentialError::RefusedByPolicy,
            CredentialError::RefusedByPolicy,
        ),
        ("invalid_request", "", CredentialError::RefusedByPolicy, CredentialError::RefusedByPolicy),
        ("invalid_scope", "", CredentialError::RefusedByPolicy, CredentialError::RefusedByPolicy),
        ("invalid_scope", "crm:write", scope.clone(), scope),
        ("invalid_client", "", unavailable(5), unavailable(5)),
        ("temporarily_unavailable", "", unavailable(5), unavailable(5)),
        ("invalid_grant ", "", unavailable(5), unavailable(5)),
    ] {
        let exchange = Harness::exchange().await;
        exchange.next(denies(error));
        assert_eq!(exchange.get_for(&caller("ana"), need).await.unwrap_err(), of_a_user, "{error}");
        assert_eq!(
            exchange.get_for(&caller("ana"), need).await.unwrap_err(),
            of_a_user,
            "{error}: remembered"
        );
        assert_eq!(exchange.posts().len(), 1, "{error}");
        let own = Harness::client_credentials().await;
        own.next(denies(error));
        assert_eq!(own.get_for(&caller("ana"), need).await.unwrap_err(), of_the_broker, "{error}");
    }
}

#[tokio::test]
async fn g155_a_failure_of_one_user_affects_no_other() {
    for reply in [denies("access_denied"), says(500, ""), says(200, "<html>"), Reply::HangsUp] {
        let broker = Harness::exchange().await;
        broker.next(reply);
        assert!(broker.get_for(&caller("mallory"), "").await.is_err());
        assert!(broker.get_for(&caller("ana"), "").await.is_ok(), "G155");
    }
}

#[tokio::test]
async fn g155_a_failure_for_all_is_requested_once() {
    let broker = Harness::exchange().await;
    broker.next(Reply::Says(401, "", r#"{"error":"invalid_client"}"#.to_owned()));
    assert_eq!(broker.get().await.unwrap_err(), unavailable(5));
    for user in 0..100 {
        let refused = broker.get_for(&caller(&format!("user-{user}")), "").await.unwrap_err();
        assert_eq!(refused, unavailable(5), "G155");
    }
    assert_eq!(broker.posts().len(), 1, "G155");
    broker.clock.advance(Duration::from_secs(5));
    assert!(broker.get_for(&caller("bob"), "").await.is_ok(), "G155");
}

#[tokio::test]
async fn g403_a_server_that_fails_for_several_users_pauses_all() {
    for (reply, wait) in [
        ((|| Reply::Says(429, "retry-after: 90\r\n", String::new())) as fn() -> Reply, 90),
        (|| Reply::Says(503, "retry-after: 90\r\n", String::new()), 90),
        (|| says(500, ""), 5),
        (|| says(200, "<html>"), 5),
        (|| Reply::HangsUp, 5),
    ] {
        let broker = Harness::exchange().await;
        for user in ["ana", "bob", "eve"] {
            broker.next(reply());
            assert_eq!(broker.get_for(&caller(user), "").await.unwrap_err(), unavailable(wait));
        }
        // The response to one caller delays the others for at most a minute.
        let others_wait = wait.min(60);
        for user in 0..100 {
            let refused = broker.get_for(&caller(&format!("user-{user}")), "").await.unwrap_err();
            assert_eq!(refused, unavailable(others_wait), "G403");
        }
        assert_eq!(broker.posts().len(), 3, "G403");
        broker.clock.advance(Duration::from_secs(others_wait));
        assert!(broker.get_for(&caller("carol"), "").await.is_ok(), "G403");
    }
}

#[tokio::test]
async fn g403_refused_grants_of_many_users_pause_no_other() {
    let broker = Harness::exchange().await;
    for user in 0..10 {
        broker.next(denies("invalid_grant"));
        let refused = broker.get_for(&caller(&format!("user-{user}")), "").await.unwrap_err();
        assert_eq!(refused, REVOKED);
    }
    assert!(broker.get().await.is_ok(), "G403");
}

#[tokio::test]
async fn g401_a_token_is_used_no_longer_under_any_clock() {
    let day = HOUR * 24;
    for wrong in [now().plus(day), now().minus(day)] {
        let broker = Harness::exchange().await;
        broker.clock.set_wall_clock(wrong);
        assert_eq!(numbers(broker.get().await), Ok(1));
        broker.clock.set_wall_clock(now());
        broker.clock.advance(HOUR);
        assert_eq!(numbers(broker.get().await), Ok(2), "G401 {wrong}");
        // The system sleeps, and the monotonic clock does not run.
        broker.clock.set_wall_clock(now().plus(HOUR * 3));
        assert_eq!(numbers(broker.get().await), Ok(3), "G401 {wrong}");
    }
}

#[tokio::test]
async fn x09_an_outage_leaves_the_current_token_in_use() {
    let broker = Harness::exchange().await;
    broker.get().await.unwrap();
    broker.clock.advance(HOUR / 100 * 90);
    for _ in 0..100 {
        broker.next(says(500, "{}"));
    }
    for second in 0..600 {
        let outcome = broker.get().await;
        broker.all_landed().await;
        if second < 360 {
            assert_eq!(numbers(outcome), Ok(1), "X09 G155 at {second} s");
        } else {
            assert!(
                matches!(outcome, Err(CredentialError::Unavailable { .. })),
                "X09 G155 at {second} s"
            );
        }
        broker.clock.advance(Duration::from_secs(1));
    }
    let tries = broker.posts().len() - 1;
    assert!((10..=12).contains(&tries), "X09: {tries}");
    broker.next.lock().clear();
    broker.clock.advance(Duration::from_secs(60));
    assert!(broker.get().await.is_ok(), "X09");
    // The streak has ended: the next failure counts as the first.
    broker.next(says(500, ""));
    broker.clock.advance(HOUR);
    assert_eq!(broker.get().await.unwrap_err(), unavailable(5), "X09");
}

#[tokio::test]
async fn a_refused_user_loses_the_current_token() {
    let broker = Harness::exchange().await;
    broker.get().await.unwrap();
    broker.clock.advance(HOUR / 100 * 90);
    broker.next(denies("access_denied"));
    assert_eq!(numbers(broker.get().await), Ok(1), "the next one is requested in the background");
    broker.all_landed().await;
    assert_eq!(broker.get().await.unwrap_err(), CredentialError::RefusedByPolicy);
    assert_eq!(broker.posts().len(), 2);
}

#[tokio::test]
async fn a_closed_port_is_tried_once_for_all() {
    let closed = |_| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        AuthorizationServer::new(
            ISSUER,
            url.parse().unwrap(),
            ClientAuthentication::public("broker"),
        )
    };
    let broker = Harness::exchange_of(Assertion::of_caller(BROKER, sign), closed).await;
    for user in ["ana", "bob", "eve"] {
        assert_eq!(broker.get_for(&caller(user), "").await.unwrap_err(), unavailable(5));
    }
    let intents =
        broker.records.records().iter().filter(|record| record.kind() == "token_request").count();
    assert_eq!(intents, 1);
}

#[tokio::test]
async fn a_token_with_more_scopes_is_not_used() {
    let wide = || says(200, &tokens(7, r#","scope":"crm:read crm:admin""#));
    let broker = Harness::exchange().await;
    broker.next(wide());
    assert_eq!(broker.get().await.unwrap_err(), CredentialError::RefusedByPolicy);
    assert_eq!(broker.get().await.unwrap_err(), CredentialError::RefusedByPolicy, "remembered");
    assert_eq!(broker.posts().len(), 1);
    let subject = Assertion::of_caller(BROKER, sign);
    let tolerant = AuthorizationServer::dangerous_tolerate_wider_scopes;
    let tolerant = Harness::exchange_of(subject, tolerant).await;
    tolerant.next(wide());
    assert_eq!(tolerant.get().await.unwrap().scopes(), &scopes("crm:read crm:admin"));
}

#[tokio::test]
async fn other_or_fewer_scopes_are_recognized() {
    let broker = Harness::exchange().await;
    broker.next(says(200, &tokens(7, r#","scope":"crm:other""#)));
    assert_eq!(
        broker.get().await.unwrap_err(),
        CredentialError::RefusedByPolicy,
        "other ones are more, too"
    );
    let narrow = Harness::exchange().await;
    narrow.next(says(200, &tokens(7, r#","scope":"crm:read""#)));
    let lacking = CredentialError::ScopeRequired { missing: scopes("crm:write") };
    assert_eq!(narrow.get_for(&caller("ana"), "crm:write").await.unwrap_err(), lacking);
    assert_eq!(narrow.get_for(&caller("ana"), "crm:write").await.unwrap_err(), lacking);
    assert_eq!(narrow.posts().len(), 1, "it is kept as what it is");
}

#[tokio::test]
async fn a_refresh_token_that_nobody_asked_for_is_dropped() {
    let broker = Harness::exchange().await;
    broker.next(says(200, &tokens(1, r#","refresh_token":"rt-marker""#)));
    assert!(broker.get().await.is_ok());
    broker.clock.advance(HOUR);
    assert!(broker.get().await.is_ok());
    let posts = broker.posts();
    assert_eq!(posts.len(), 2);
    assert!(!posts[1].contains("rt-marker"), "{posts:?}");
    assert_eq!(
        field(&posts[1], "grant_type"),
        field(&posts[0], "grant_type"),
        "the next request has the same parameters"
    );
}

#[tokio::test]
async fn without_a_durable_intent_nobody_is_asked() {
    let broker = Harness::exchange().await;
    broker.records.fail();
    assert_eq!(broker.get().await.unwrap_err(), CredentialError::Unavailable { retry_after: None });
    assert_eq!(broker.posts().len(), 0);
}

#[tokio::test]
async fn each_post_is_between_intent_and_outcome() {
    for (reply, outcome) in [
        (None, "issued"),
        (Some(says(500, "")), "failed"),
        (Some(denies("invalid_grant")), "failed"),
        (Some(Reply::HangsUp), "unknown"),
    ] {
        let broker = Harness::exchange().await;
        broker.next.lock().extend(reply);
        broker.endpoint.close();
        let requested = async {
            broker.endpoint.until_asked(1).await;
            let intents = broker
                .records
                .records()
                .iter()
                .filter(|record| record.kind() == "token_request")
                .count();
            assert_eq!(intents, 1, "the intent is durable when the token endpoint is asked");
            broker.endpoint.open();
        };
        let (_, ()) = tokio::join!(broker.get(), requested);
        let result = loop {
            let lines = broker.records.lines();
            if let Some(line) = lines.iter().find(|line| line.contains("token_result")) {
                break line.clone();
            }
            tokio::task::yield_now().await;
        };
        assert!(result.contains(&format!(r#""outcome":"{outcome}""#)), "{result}");
        let lines = broker.records.lines().concat();
        assert!(!lines.contains("at-1") && !lines.contains("signature-marker"), "{lines}");
    }
}

#[tokio::test]
async fn nothing_that_can_be_printed_shows_a_secret() {
    let broker = Harness::exchange().await;
    let credential = broker.get().await.unwrap();
    assert!(broker.posts().concat().contains("signature-marker"), "the secrets were in play");
    let printed = format!("{:?} {:#?} {credential:?}", broker.provider, broker.provider);
    for marker in ["at-1", "client-marker", "Y2xpZW50LW1hcmtlcg", "signature-marker"] {
        assert!(!printed.contains(marker), "{marker} in {printed}");
    }
}

#[tokio::test]
async fn g401_a_failure_while_the_clock_was_ahead_is_retried_soon() {
    for reply in [says(500, ""), Reply::Says(503, "retry-after: 5\r\n", String::new())] {
        let broker = Harness::exchange().await;
        broker.next(reply);
        broker.clock.set_wall_clock(now().plus(HOUR * 24));
        assert!(broker.get().await.is_err());
        broker.clock.advance(Duration::from_secs(20));
        broker.clock.set_wall_clock(now().plus(Duration::from_secs(20)));
        broker.clock.advance(Duration::from_secs(600));
        assert!(broker.get().await.is_ok(), "G401");
    }
}

#[tokio::test]
async fn g403_a_limit_that_one_user_reached_affects_no_other() {
    let broker = Harness::exchange().await;
    broker.next(Reply::Says(429, "retry-after: 90\r\n", String::new()));
    assert_eq!(broker.get_for(&caller("mallory"), "").await.unwrap_err(), unavailable(90));
    assert!(broker.get_for(&caller("ana"), "").await.is_ok(), "G403");
}
