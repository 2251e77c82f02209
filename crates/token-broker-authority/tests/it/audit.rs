//! Nothing is issued that cannot be recorded.

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn f503_nothing_is_issued_without_a_record() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let page = server.authorize_as("alice", &authorization(&client)).await.json();
    let code = server.code(&client).await;
    let (other, token) = server.family().await;
    server.records.fail();
    let unavailable = |reply: &Reply| {
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(!reply.body.contains("token\":"), "{reply:?}");
    };
    let registration = json!({"redirect_uris": [REDIRECT]});
    unavailable(&server.post_json("/oauth/register", &registration).await);
    unavailable(&server.redeem(&client, &code).await);
    unavailable(&server.refresh(&other, &token).await);
    let consent = server.decide("alice", &page, "allow").await;
    assert_eq!((consent.status, &*consent.page_error()), (503, "authz.unavailable"));
    server.records.work();
    while !server.broker.audit_log().is_open() {
        tokio::task::yield_now().await;
    }
    // The code and the refresh token of the requests that failed are still good.
    let reply = server.redeem(&client, &code).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let reply = server.refresh(&other, &token).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    // The code of the consent that was not recorded is not.
    assert_eq!(server.decide("alice", &page, "allow").await.page_error(), "consent.replayed");
}

#[tokio::test]
async fn each_record_names_its_initiator() {
    let server = Server::start().await;
    let (client, token) = server.family().await;
    server.refresh(&client, &token).await;
    for (kind, initiator) in [
        ("key_published", "system"),
        ("client_registered", "anonymous"),
        ("consent", "user"),
        ("code_issued", "user"),
        ("token_issued", "client"),
    ] {
        for record in server.recorded(kind).await {
            assert_eq!(record["initiator"], initiator, "{record}");
            assert_eq!(record.get("peer").is_some(), kind != "key_published", "{record}");
        }
    }
    let issued = server.recorded("token_issued").await;
    let grants: Vec<_> = issued.iter().map(|record| text(&record["grant_type"])).collect();
    assert_eq!(grants, ["authorization_code", "refresh_token"]);
    let family = &server.recorded("code_issued").await[0]["family"];
    assert!(issued.iter().all(|record| record["family"] == *family));
}

#[tokio::test]
async fn no_secret_is_in_a_record_or_an_error() {
    let server = Server::start().await;
    let metadata = json!({"redirect_uris": [REDIRECT]});
    let registered = server.post_json("/oauth/register", &metadata).await.json();
    let secret = text(&registered["client_secret"]);
    let client = server.register(&[REDIRECT]).await;
    let page = server.authorize_as("alice", &authorization(&client)).await.json();
    let code = server.decide("alice", &page, "allow").await.redirect_param("code").unwrap();
    let tokens = server.redeem(&client, &code).await.json();
    let (access, refresh) = (text(&tokens["access_token"]), text(&tokens["refresh_token"]));
    let replies = [
        server.redeem(&client, &code).await,
        server.refresh("nobody", &refresh).await,
        server.post("/oauth/revoke", &[("token", &refresh), ("client_id", &client)]).await,
        server.decide("alice", &page, "allow").await,
    ];
    server.broker.audit_log().flush().await.unwrap();
    let mut all = server.records.lines().join("\n");
    replies.iter().for_each(|reply| all.push_str(&format!("{reply:?}")));
    for (name, secret) in
        [("secret", secret), ("code", code), ("access token", access), ("refresh token", refresh)]
    {
        assert!(secret.len() >= 43, "{name}: 256 bits");
        assert!(!all.contains(&secret), "{name}");
    }
}
