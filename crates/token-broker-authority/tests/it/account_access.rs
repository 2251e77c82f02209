//! The access of clients on the account page: listed, and ended.

use token_broker_authority::{pages::ConnectionsView, sign_in::ClientAccess};
use token_broker_store::authority::FamilyId;
use tower_token_broker::principal::User;

use crate::support::*;

fn user(name: &str) -> User {
    User::new(ISSUER, name)
}

async fn view(server: &Server, name: &str) -> ConnectionsView {
    server.authority.clients(&user(name)).await.unwrap()
}

#[tokio::test]
async fn the_account_page_lists_and_ends_access() {
    let server = Server::start().await;
    let (one, other) = (server.family().await, server.family().await);
    let listed = view(&server, "alice").await;
    assert_eq!((listed.clients.len(), listed.has_more), (2, false));
    for client in &listed.clients {
        assert!(client.identity.is_some(), "its registration is found");
        let family = &client.families[0];
        assert_eq!((&*family.server, family.scopes.len()), ("CRM", 1));
        assert_eq!(&*family.scopes[0], "Read contacts");
    }
    // One is ended, and the other is not.
    let of = |id: &str| listed.clients.iter().find(|client| &*client.id == id).unwrap();
    let family = of(&one.0).families[0].id.clone();
    assert!(server.authority.end(&user("alice"), &family).await.unwrap());
    assert_eq!(server.refresh(&one.0, &one.1).await.error(), "invalid_grant");
    assert_eq!(server.refresh(&other.0, &other.1).await.status, 200);
    assert_eq!(view(&server, "alice").await.clients.len(), 1);
    server.authority.end_all(&user("alice")).await.unwrap();
    assert!(view(&server, "alice").await.clients.is_empty());
}

#[tokio::test]
async fn a_family_that_cannot_be_read_hides_no_other_one() {
    let server = Server::start().await;
    let (one, other) = (server.family().await, server.family().await);
    let listed = view(&server, "alice").await;
    assert_eq!(listed.unreadable, 0);
    let damaged = listed.clients.iter().find(|client| *client.id == *one.0).unwrap();
    server.store.damage(&FamilyId::new(&damaged.families[0].id));
    let listed = view(&server, "alice").await;
    let ids: Vec<_> = listed.clients.iter().map(|client| &*client.id).collect();
    assert_eq!((ids, listed.unreadable), (vec![&*other.0], 1));
    // Our trouble, which costs its client no sign-in.
    let reply = server.refresh(&one.0, &one.1).await;
    assert_eq!((reply.status, &*reply.error()), (503, "temporarily_unavailable"), "F507");
    // Ending everything ends it, too.
    server.authority.end_all(&user("alice")).await.unwrap();
    assert_eq!(view(&server, "alice").await.unreadable, 0);
}

#[tokio::test]
async fn q304_another_user_neither_sees_nor_ends_access() {
    let server = Server::start().await;
    let (client, token) = server.family().await;
    assert!(view(&server, "mallory").await.clients.is_empty(), "Q304");
    let family = view(&server, "alice").await.clients[0].families[0].id.clone();
    for family in [&*family, "unknown", "", "\0"] {
        server.authority.end(&user("mallory"), family).await.unwrap();
    }
    server.authority.end_all(&user("mallory")).await.unwrap();
    assert_eq!(server.refresh(&client, &token).await.status, 200, "Q304");
}
