//! The end of access: complete, or an error, and a retry repeats what failed.

use std::{sync::Arc, time::Duration};

use token_broker_authority::{FamilyEnder, NotEnded};
use token_broker_store::authority::{
    AccountStore, ClientId, FamilyFilter, FamilyId, FamilyStore, NewAccount, PageRequest, UserName,
};
use tower_token_broker::{
    Broker, Secret,
    audit::InMemory,
    clock::Timestamp,
    principal::{Initiator, Resource, TokenTimes, User, Verified},
    refusal::Reason,
    revocation::RevocationTarget,
};

use crate::{
    faulty_store::{Fault, TestRevocations},
    support::*,
};

fn alice() -> User {
    User::new(ISSUER, "alice")
}

fn olga() -> Initiator {
    Initiator::operator("olga")
}

/// Returns the IDs of the families that have not ended.
async fn active(server: &Server) -> Vec<FamilyId> {
    let filter = FamilyFilter::all().active_at(server.clock.now());
    let page = server.store.inner.families(&filter, &PageRequest::first()).await.unwrap();
    page.rows.into_iter().map(|family| family.id).collect()
}

/// Each target that has families, by its kind.
fn targets(client: &str, family: &FamilyId) -> Vec<RevocationTarget> {
    vec![
        RevocationTarget::User(alice()),
        RevocationTarget::Client { issuer: ISSUER.into(), id: client.into() },
        RevocationTarget::Server(Resource::parse(CRM).unwrap()),
        RevocationTarget::Family { issuer: ISSUER.into(), id: family.as_str().into() },
        RevocationTarget::Everything,
    ]
}

async fn revoke(server: &Server, client: &str, token: &str) -> Reply {
    server.post("/oauth/revoke", &[("token", token), ("client_id", client)]).await
}

#[tokio::test]
async fn f508_a_retried_revocation_repeats_what_failed() {
    let revocations = TestRevocations::default();
    let server = Server::start_with_revocations(&revocations).await;
    for kind in ["refresh_token", "access_token"] {
        let client = server.register(&[REDIRECT]).await;
        let code = server.code(&client).await;
        let token = text(&server.redeem(&client, &code).await.json()[kind]);
        let before = revocations.kinds().len();
        revocations.fail(true);
        for _ in 0..2 {
            let reply = revoke(&server, &client, &token).await;
            assert_eq!((reply.status, &*reply.error()), (503, "temporarily_unavailable"), "{kind}");
        }
        revocations.fail(false);
        assert_eq!(revoke(&server, &client, &token).await.status, 200);
        assert_eq!(revocations.kinds().len(), before + 1, "F508: it is stored, {kind}");
    }
}

#[tokio::test]
async fn f508_a_replay_whose_end_failed_is_ended_by_the_next() {
    let revocations = TestRevocations::default();
    let server = Server::start_with_revocations(&revocations).await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let first = text(&server.redeem(&client, &code).await.json()["refresh_token"]);
    let other = server.register(&[REDIRECT]).await;
    revocations.fail(true);
    assert_eq!(server.redeem(&other, &code).await.status, 503, "F508");
    revocations.fail(false);
    assert_eq!(server.redeem(&other, &code).await.error(), "invalid_grant");
    assert_eq!(revocations.kinds(), ["family"], "F508");
    assert_eq!(server.refresh(&client, &first).await.error(), "invalid_grant");
}

#[tokio::test]
async fn f509_one_client_does_not_fill_the_table_of_revocations() {
    let revocations = TestRevocations::default();
    let server = Server::start_with_revocations(&revocations).await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let tokens = server.redeem(&client, &code).await.json();
    let mut access = vec![text(&tokens["access_token"])];
    let refresh = text(&tokens["refresh_token"]);
    for _ in 0..40 {
        access.push(text(&server.refresh(&client, &refresh).await.json()["access_token"]));
    }
    // The same one, again and again.
    for _ in 0..5 {
        assert_eq!(revoke(&server, &client, &access[0]).await.status, 200);
    }
    assert_eq!(revocations.kinds(), ["token"], "F509");
    for token in &access {
        assert_eq!(revoke(&server, &client, token).await.status, 200, "F509");
    }
    let kinds = revocations.kinds();
    let families = kinds.iter().filter(|kind| **kind == "family").count();
    assert_eq!((kinds.len(), families), (11, 1), "F509: {kinds:?}");
    assert_eq!(server.refresh(&client, &refresh).await.error(), "invalid_grant");
    assert_eq!(server.recorded("family_ended").await[0]["what"], "client");
}

#[tokio::test]
async fn f509_an_expired_access_token_needs_no_revocation() {
    let revocations = TestRevocations::default();
    let server = Server::start_with_revocations(&revocations).await;
    let client = server.register(&[REDIRECT]).await;
    let code = server.code(&client).await;
    let token = text(&server.redeem(&client, &code).await.json()["access_token"]);
    let lasting = {
        let code = server.code(&client).await;
        text(&server.redeem(&client, &code).await.json()["access_token"])
    };
    // A verifier still accepts it for the leeway.
    server.clock.advance(minutes(10) + Duration::from_secs(29));
    server.until_current().await;
    assert_eq!(revoke(&server, &client, &lasting).await.status, 200);
    assert_eq!(revocations.kinds(), ["token"], "F509");
    server.clock.advance(Duration::from_secs(1));
    server.until_current().await;
    assert_eq!(revoke(&server, &client, &token).await.status, 200);
    assert_eq!(revocations.kinds(), ["token"], "F509");
}

#[tokio::test]
async fn f508_an_end_of_all_that_failed_is_repeated() {
    for fails in ["revocation", "store", "response of the store"] {
        let revocations = TestRevocations::default();
        let server = Server::start_with_revocations(&revocations).await;
        for number in 0..5 {
            let (client, token) = server.family().await;
            let family = active(&server).await.remove(0);
            let target = targets(&client, &family).remove(number);
            let before = revocations.kinds().len();
            match fails {
                "revocation" => revocations.fail(true),
                "store" => {
                    server.store.fail("end_families", Fault::Before);
                    server.store.fail("end_family", Fault::Before);
                }
                _ => {
                    server.store.fail("end_families", Fault::After);
                    server.store.fail("end_family", Fault::After);
                }
            }
            for _ in 0..2 {
                let failed = server.authority.end_access(&target, &olga()).await;
                assert_eq!(failed, Err(NotEnded::default()), "F508 {fails} {target:?}");
            }
            if fails == "revocation" {
                assert_eq!(active(&server).await.len(), 1, "F508: not before it is revoked");
            }
            revocations.fail(false);
            server.store.work();
            let stored = revocations.kinds().len();
            server.authority.end_access(&target, &olga()).await.unwrap();
            let kinds = revocations.kinds();
            assert!(kinds.len() > stored.max(before), "F508: revoked again, {fails} {target:?}");
            assert_eq!(kinds.last(), Some(&target.kind()));
            assert_eq!(active(&server).await.len(), 0, "F508 {fails} {target:?}");
            // The revocation is forgotten, the family is over.
            server.clock.advance(minutes(48 * 60));
            server.until_current().await;
            assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant");
        }
    }
}

#[tokio::test]
async fn f508_a_code_ends_with_what_it_would_begin() {
    for number in 0..5 {
        let server = Server::start().await;
        // Another process on the store, as a command is, of which this one hears nothing.
        let other = server.replica().await;
        let (client, _) = server.family().await;
        let family = active(&server).await.remove(0);
        let codes = [server.code(&client).await, server.code(&client).await];
        let target = targets(&client, &family).remove(number);
        let is_of_one = matches!(target, RevocationTarget::Family { .. });
        let ended = other.authority.end_access(&target, &olga()).await;
        assert_eq!(ended, Ok(1), "{target:?}");
        for code in &codes {
            let reply = server.redeem(&client, code).await;
            let expected = if is_of_one { 200 } else { 400 };
            assert_eq!(reply.status, expected, "F508 {target:?}: {}", reply.body);
        }
        assert_eq!(active(&server).await.len(), if is_of_one { 2 } else { 0 }, "{target:?}");
    }
}

#[tokio::test]
async fn f508_the_access_of_one_client_to_one_user_ends() {
    let revocations = TestRevocations::default();
    let server = Server::start_with_revocations(&revocations).await;
    let (client, token) = server.family().await;
    let (other, other_token) = server.family().await;
    let code = server.code(&client).await;
    let id = ClientId::new(&client);
    let user = alice();
    let end =
        async |user: &User| server.authority.end_families(Some(user), Some(&id), &olga()).await;
    assert_eq!(end(&User::new(ISSUER, "bob")).await, Ok(0));
    for fault in [Fault::Before, Fault::After] {
        server.store.fail("end_families", fault);
        assert_eq!(end(&user).await, Err(NotEnded::default()), "F508 {fault:?}");
    }
    server.store.work();
    // Its family was ended, and is revoked again: the response before was lost.
    let before = revocations.kinds().len();
    assert_eq!(end(&user).await, Ok(0));
    assert_eq!(revocations.kinds().len(), before + 1, "F508");
    assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant");
    assert_eq!(server.redeem(&client, &code).await.error(), "invalid_grant");
    assert_eq!(server.refresh(&other, &other_token).await.status, 200);
    // A day later, there is nothing left to revoke.
    server.clock.advance(minutes(25 * 60));
    server.until_current().await;
    let before = revocations.kinds().len();
    assert_eq!(end(&user).await, Ok(0));
    assert_eq!(revocations.kinds().len(), before);
}

#[tokio::test]
async fn f508_what_is_not_named_does_not_end() {
    let server = Server::start_with(|_, builder| builder.server(crm()).server(hr())).await;
    let (client, token) = server.family().await;
    let code = server.code(&client).await;
    let id = || Arc::<str>::from(&*client);
    for target in [
        RevocationTarget::User(User::new(ISSUER, "bob")),
        RevocationTarget::User(User::new("https://other.example", "alice")),
        RevocationTarget::Client { issuer: "https://other.example".into(), id: id() },
        RevocationTarget::Client { issuer: ISSUER.into(), id: "other".into() },
        RevocationTarget::Server(Resource::parse(HR).unwrap()),
        RevocationTarget::Family { issuer: ISSUER.into(), id: "other".into() },
        RevocationTarget::Token { issuer: ISSUER.into(), id: "other".into() },
    ] {
        assert_eq!(server.authority.end_access(&target, &olga()).await, Ok(0), "{target:?}");
    }
    assert_eq!(server.redeem(&client, &code).await.status, 200);
    assert_eq!(server.refresh(&client, &token).await.status, 200);
    assert_eq!(active(&server).await.len(), 2);
}

#[tokio::test]
async fn f508_a_command_ends_families_for_good() {
    let server = Server::start().await;
    let hash = Secret::from_text("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into());
    let name = UserName::parse("alice").unwrap();
    let account = NewAccount::new("alice", name, hash, server.clock.now());
    drop(server.store.create_account(&account).await.unwrap());
    let (client, token) = server.family().await;
    // As `users disable` does, in a process of its own.
    let command = Broker::builder().audit(InMemory::new()).clock(server.clock.clone());
    let command = command.build().unwrap();
    server.store.disable_account("alice").await.unwrap();
    let ender = FamilyEnder::new(&command, ISSUER, Arc::new(server.store.clone()));
    let ended = ender.end_access(&RevocationTarget::User(alice()), &olga()).await;
    assert_eq!(ended, Ok(1));
    // Enabled again weeks later: the access of before does not come back.
    server.clock.advance(minutes(20 * 24 * 60));
    server.store.enable_account("alice").await.unwrap();
    assert_eq!(server.refresh(&client, &token).await.error(), "invalid_grant", "F508");
}

/// Returns whether an access token of `alice` is good in this process.
fn stands(server: &Server, client: &str, family: &FamilyId, token: &str) -> Result<(), Reason> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = str::from_utf8(&claims).unwrap().parse().unwrap();
    let issued_at = Timestamp::from_unix_seconds(claims["iat"].as_u64().unwrap());
    let times = TokenTimes { id: "t", issued_at, expires_at: server.clock.now() };
    let verified = Verified::vouch(alice(), client, Resource::parse(CRM).unwrap(), times);
    server.broker.revocations().permits(&verified.with_family(family.as_str()))
}

#[tokio::test]
async fn f510_a_token_issued_while_its_family_ends_is_refused() {
    for number in 0..3 {
        for held in ["the refresh", "the end"] {
            let server = Server::start().await;
            let issuing = server.replica().await;
            let (client, token) = server.family().await;
            let family = active(&server).await.remove(0);
            let target = targets(&client, &family).remove(number);
            let (authority, address) = (server.authority.clone(), issuing.address);
            let end = async || authority.end_access(&target, &olga()).await;
            let refresh = async || refresh_at(address, &client, &token).await;
            let tick = || server.clock.advance(Duration::from_secs(5));
            let reply = if held == "the refresh" {
                let gate = server.store.hold("advance_family", Fault::After);
                let ending = async {
                    gate.entered().await;
                    tick();
                    assert_eq!(end().await, Ok(1));
                    tick();
                    gate.release();
                };
                tokio::join!(refresh(), ending).0
            } else {
                let gate = server.store.hold("end_families", Fault::Before);
                let issuing = async {
                    gate.entered().await;
                    tick();
                    let reply = refresh().await;
                    tick();
                    gate.release();
                    reply
                };
                let (ended, reply) = tokio::join!(end(), issuing);
                assert_eq!(ended, Ok(1));
                reply
            };
            assert_eq!(reply.status, 200, "{held}: {}", reply.body);
            let access = text(&reply.json()["access_token"]);
            let stands = stands(&server, &client, &family, &access);
            assert_eq!(stands, Err(Reason::Revoked), "F510 {held} {target:?}");
        }
    }
}
