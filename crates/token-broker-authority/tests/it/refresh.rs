//! Refresh tokens: rotation, stale generations, replays, and what ends them.

use std::time::Duration;

use token_broker_store::authority::{AccountStore, FamilyStore};
use tower_token_broker::{
    principal::{Initiator, User},
    revocation::RevocationTarget,
};

use crate::support::*;

async fn next(server: &Server, client: &str, token: &str) -> String {
    let reply = server.refresh(client, token).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    text(&reply.json()["refresh_token"])
}

#[tokio::test]
async fn the_predecessor_obtains_the_same_successor_until_that_was_used() {
    let server = Server::start().await;
    let (client, first) = server.family().await;
    let second = next(&server, &client, &first).await;
    for _ in 0..3 {
        // The response was lost, and the client was away for a day.
        server.clock.advance(minutes(24 * 60));
        assert_eq!(next(&server, &client, &first).await, second);
    }
    let third = next(&server, &client, &second).await;
    server.clock.advance(minutes(10));
    assert_eq!(server.refresh(&client, &first).await.error(), "invalid_grant", "F131");
    assert_eq!(server.refresh(&client, &third).await.error(), "invalid_grant", "F131");
}

#[tokio::test]
async fn a_client_without_metadata_refreshes_at_the_default_path() {
    let server = Server::start().await;
    let (client, token) = server.family().await;
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", &*token), ("client_id", &*client)];
    let reply = server.post("/token", &form).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let again = text(&reply.json()["refresh_token"]);
    assert_eq!(next(&server, &client, &token).await, again, "the same endpoint");
    assert_eq!(server.get("/token").await.status, server.get("/oauth/token").await.status);
    let metadata = server.get("/.well-known/oauth-authorization-server").await.json();
    assert_eq!(metadata["token_endpoint"], format!("{ISSUER}/oauth/token"), "there is one name");
}

#[tokio::test]
async fn f131_a_stale_generation_is_accepted_for_ten_minutes() {
    let server = Server::start().await;
    let (client, first) = server.family().await;
    let mut current = first.clone();
    for _ in 0..20 {
        current = next(&server, &client, &current).await;
        server.clock.advance(Duration::from_secs(5));
    }
    // Of 20 generations, all within the grace.
    assert_eq!(next(&server, &client, &first).await, current);
    server.clock.advance(Duration::from_secs(600 - 100 - 1));
    assert_eq!(next(&server, &client, &first).await, current, "F131: a second before its end");
    let issued = server.recorded("token_issued").await;
    let stale = issued.iter().filter(|issued| issued["stale"] == true).count();
    assert_eq!((issued.len(), stale), (23, 2), "the record marks them");
    server.clock.advance(Duration::from_secs(1));
    assert_eq!(server.refresh(&client, &first).await.error(), "invalid_grant", "F131");
    let ended = server.recorded("family_ended").await;
    assert_eq!(ended[0]["what"], "refresh_replay", "F131");
    assert_eq!(server.refresh(&client, &current).await.error(), "invalid_grant");
    let targets: Vec<_> =
        server.recorded("revoked").await.iter().map(|record| text(&record["what"])).collect();
    assert_eq!(targets, ["family"], "the access tokens die, too");
}

#[tokio::test]
async fn without_a_grace_only_the_predecessor_is_accepted() {
    let server = Server::start_with(|_, builder| {
        let mut settings = token_broker_authority::AuthoritySettings::default();
        settings.token.stale_generation_grace = Duration::ZERO;
        builder.server(crm()).settings(settings)
    })
    .await;
    let (client, first) = server.family().await;
    let second = next(&server, &client, &first).await;
    assert_eq!(next(&server, &client, &first).await, second);
    next(&server, &client, &second).await;
    assert_eq!(server.refresh(&client, &first).await.error(), "invalid_grant");
}

#[tokio::test]
async fn f133_a_refused_refresh_consumes_nothing() {
    let server = Server::start_with(|_, builder| builder.server(crm()).server(hr())).await;
    let client = server.register(&[REDIRECT]).await;
    let query = authorization(&client);
    let code = server.code_for(&client, &with(&query, "scope", "crm:read crm:write")).await;
    let token = text(&server.redeem(&client, &code).await.json()["refresh_token"]);
    let other = server.register(&[REDIRECT]).await;
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", &*token), ("client_id", &client)];
    for (name, value, error) in [
        ("scope", "crm:read crm:admin", "invalid_scope"),
        ("scope", "hr:read", "invalid_scope"),
        ("scope", "crm:read\u{7}", "invalid_scope"),
        ("resource", HR, "invalid_target"),
        ("client_id", &*other, "invalid_grant"),
        ("client_id", "nobody", "invalid_client"),
    ] {
        let reply = server.post("/oauth/token", &with(&form, name, value)).await;
        assert_eq!(reply.error(), error, "F133 F134 {name}={value}");
    }
    let mut two = form.to_vec();
    two.extend([("resource", CRM), ("resource", CRM)]);
    assert_eq!(server.post("/oauth/token", &two).await.error(), "invalid_target");
    // Fewer scopes, once: what was granted is kept.
    let reply = server.post("/oauth/token", &with(&form, "scope", "crm:read")).await;
    assert_eq!(reply.json()["scope"], "crm:read");
    let token = text(&reply.json()["refresh_token"]);
    let reply = server.refresh(&client, &token).await;
    assert_eq!(reply.json()["scope"], "crm:read crm:write");
    assert_eq!(server.recorded("family_ended").await.len(), 0);
}

#[tokio::test]
async fn f134_a_token_of_another_client_is_no_use() {
    let server = Server::start().await;
    let (client, token) = server.family().await;
    let other = server.register(&[REDIRECT]).await;
    for _ in 0..3 {
        assert_eq!(server.refresh(&other, &token).await.error(), "invalid_grant", "F134");
    }
    next(&server, &client, &token).await;
}

#[tokio::test]
async fn f506_what_no_key_derived_is_no_token_and_ends_nothing() {
    let server = Server::start().await;
    let (client, token) = server.family().await;
    let of_later = token.replacen(".1.", ".2.", 1);
    let of_none = token.replacen("tbr_", "tbr_x", 1);
    for forged in ["", "x", "tbr_", "tbr_a.1.b", &of_later, &of_none, &"x".repeat(10_000)] {
        let reply = server.refresh(&client, forged).await;
        let expected = if forged.is_empty() { "invalid_request" } else { "invalid_grant" };
        assert_eq!(reply.error(), expected, "{forged:.20}");
    }
    next(&server, &client, &token).await;
}

#[tokio::test]
async fn a_family_ends_when_it_is_idle_and_when_it_is_old() {
    let server = Server::start().await;
    let day = minutes(24 * 60);
    let (client, token) = server.family().await;
    server.clock.advance(day * 30);
    assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant", "idle");
    let (client, mut token) = server.family().await;
    for _ in 0..6 {
        server.clock.advance(day * 29);
        token = next(&server, &client, &token).await;
    }
    server.clock.advance(day * 6 - Duration::from_secs(60));
    let reply = server.refresh(&client, &token).await.json();
    assert_eq!(reply["expires_in"], 60, "no access token outlives its family");
    server.clock.advance(Duration::from_secs(60));
    let token = text(&reply["refresh_token"]);
    assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant", "180 days");
}

#[tokio::test]
async fn f505_revocations_and_blocks_are_asked_at_each_refresh() {
    let (issuer, alice) = (|| ISSUER.into(), User::new(ISSUER, "alice"));
    let olga = Initiator::operator("olga");
    for of in ["user", "client", "everything"] {
        let server = Server::start().await;
        let (client, token) = server.family().await;
        let target = match of {
            "user" => RevocationTarget::User(alice.clone()),
            "client" => RevocationTarget::Client { issuer: issuer(), id: client.as_str().into() },
            _ => RevocationTarget::Everything,
        };
        server.broker.revoke(target, &olga).await.unwrap();
        assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant", "{of}");
        // The revocation is forgotten, the family is over.
        server.clock.advance(minutes(48 * 60));
        assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant", "{of}");
        let ended = server.recorded("family_ended").await;
        assert_eq!((ended.len(), &ended[0]["what"]), (1, &"revoked".into()), "{of}");
        let code = server.code(&client).await;
        assert_eq!(server.redeem(&client, &code).await.status, 200, "{of}: a new consent");
    }
    let server = Server::start().await;
    let (client, token) = server.family().await;
    server.broker.block(&alice, &olga).await.unwrap();
    assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant");
    server.broker.unblock(&alice, &olga).await.unwrap();
    next(&server, &client, &token).await;
}

#[tokio::test]
async fn f505_a_disabled_account_refreshes_nothing() {
    use token_broker_store::authority::{NewAccount, UserName};
    use tower_token_broker::Secret;
    let server = Server::start().await;
    let hash = Secret::from_text("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into());
    let name = UserName::parse("alice").unwrap();
    let account = NewAccount::new("alice", name, hash, server.clock.now());
    drop(server.store.create_account(&account).await.unwrap());
    let (client, token) = server.family().await;
    let second = next(&server, &client, &token).await;
    server.store.disable_account("alice").await.unwrap();
    assert_eq!(server.refresh(&client, &second).await.error(), "invalid_grant");
    server.store.enable_account("alice").await.unwrap();
    next(&server, &client, &second).await;
}

#[tokio::test]
async fn all_access_of_a_user_is_ended_at_once() {
    let server = Server::start().await;
    let (client, token) = server.family().await;
    let (other, other_token) = server.family().await;
    let alice = User::new(ISSUER, "alice");
    let target = RevocationTarget::User(alice.clone());
    let ended = server.authority.end_access(&target, &Initiator::user(&alice)).await;
    assert_eq!(ended, Ok(2));
    server.clock.advance(Duration::from_secs(1));
    for (client, token) in [(client, token), (other, other_token)] {
        assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant");
    }
    let (client, token) = server.family().await;
    let page = server
        .store
        .families(
            &token_broker_store::authority::FamilyFilter::all().active_at(server.clock.now()),
            &token_broker_store::authority::PageRequest::first(),
        )
        .await
        .unwrap();
    let family = page.rows[0].id.clone();
    server.authority.end_family(&family, &User::new(ISSUER, "bob")).await.unwrap();
    let token = next(&server, &client, &token).await;
    server.authority.end_family(&family, &alice).await.unwrap();
    assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant");
}
