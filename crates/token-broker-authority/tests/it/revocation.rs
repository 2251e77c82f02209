//! The revocation endpoint (RFC 7009).

use crate::support::*;

async fn revoke(server: &Server, client: &str, token: &str) -> Reply {
    server.post("/oauth/revoke", &[("token", token), ("client_id", client)]).await
}

#[tokio::test]
async fn f143_a_refresh_token_of_any_generation_ends_its_family() {
    let server = Server::start().await;
    for stale in [false, true] {
        let (client, first) = server.family().await;
        let second = text(&server.refresh(&client, &first).await.json()["refresh_token"]);
        let token = if stale { &first } else { &second };
        let reply = revoke(&server, &client, token).await;
        assert_eq!((reply.status, &*reply.body), (200, ""), "F143");
        for token in [&first, &second] {
            assert_eq!(server.refresh(&client, token).await.error(), "invalid_grant", "F143");
        }
        // Again: as if it were the first time.
        assert_eq!(revoke(&server, &client, token).await.status, 200);
    }
    let ended = server.recorded("family_ended").await;
    assert_eq!(ended.len(), 2);
    assert!(ended.iter().all(|record| record["what"] == "client"));
    let revoked = server.recorded("revoked").await;
    assert!(revoked.iter().all(|record| record["what"] == "family"), "F143: access tokens");
    assert!(revoked.iter().all(|record| record["initiator"] == "client"));
}

#[tokio::test]
async fn f141_a_token_of_another_client_is_not_revoked() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let tokens = server.redeem(&client, &code).await.json();
    let (access, refresh) = (text(&tokens["access_token"]), text(&tokens["refresh_token"]));
    let other = server.register(&[REDIRECT]).await;
    for token in [&access, &refresh] {
        let reply = revoke(&server, &other, token).await;
        assert_eq!((reply.status, &*reply.body), (200, ""), "F141: nothing is told");
    }
    assert_eq!(server.recorded("revoked").await.len(), 0, "F141");
    assert_eq!(server.refresh(&client, &refresh).await.status, 200);
}

#[tokio::test]
async fn an_access_token_is_revoked_by_its_id() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let tokens = server.redeem(&client, &code).await.json();
    let reply = revoke(&server, &client, &text(&tokens["access_token"])).await;
    assert_eq!(reply.status, 200);
    let revoked = server.recorded("revoked").await;
    assert_eq!((revoked.len(), &revoked[0]["what"]), (1, &"token".into()));
    let issued = server.recorded("token_issued").await;
    assert_eq!(revoked[0]["token"], issued[0]["token"]);
    let refresh = text(&tokens["refresh_token"]);
    assert_eq!(server.refresh(&client, &refresh).await.status, 200, "the family lives");
}

#[tokio::test]
async fn what_is_no_token_is_as_good_as_revoked() {
    let server = Server::start().await;
    let client = server.register(&[REDIRECT]).await;
    for token in ["x", "a.b.c", "tbr_x.1.y", "eyJhbGciOiJub25lIn0.e30.", &"x".repeat(20_000)] {
        assert_eq!(revoke(&server, &client, token).await.status, 200, "{token:.20}");
    }
    assert_eq!(revoke(&server, &client, "").await.error(), "invalid_request");
    assert_eq!(revoke(&server, "nobody", "x").await.error(), "invalid_client");
    assert_eq!(server.get("/oauth/revoke?token=x").await.status, 405);
}
