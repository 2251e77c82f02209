//! Tokens that are revoked at their authorization server, later, or not.

use super::*;

#[tokio::test]
async fn n533_a_late_revocation_does_not_end_a_new_connection() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    mail.change(|mail| mail.revocation = 503);
    story.connect("mail", &mail).await.unwrap();
    story.disconnect("mail").await;
    until("N533", || revoked(&mail) == 1).await;
    story.clock.advance(Duration::from_secs(1));
    story.connect("mail", &mail).await.unwrap();
    mail.change(|mail| mail.revocation = 200);
    story.later();
    until("N533", || story.outcomes() == ["replaced"]).await;
    assert_eq!(revoked(&mail), 1, "N533");
    // Nor do tokens with too many scopes, which are not used.
    mail.change(|mail| mail.grants = Some("mail:read admin".to_owned()));
    let refused = story.connect("mail", &mail).await.unwrap_err();
    assert!(matches!(refused, ConnectError::WiderScopes { .. }), "N533 {refused:?}");
    until("N533", || story.outcomes() == ["replaced", "replaced"]).await;
    assert_eq!(revoked(&mail), 1, "N533");
    assert_eq!(story.state("mail").await, ConnectionState::Connected, "N533");
}

#[tokio::test]
async fn n265_what_can_be_set_right_is_tried_for_a_week() {
    let mail = AccountServer::start().await;
    let story = Story::with([server("mail", &mail)]);
    story.connect("mail", &mail).await.unwrap();
    mail.change(|mail| mail.revocation = 404);
    story.disconnect("mail").await;
    let mut attempts = 1;
    until("N265", || revoked(&mail) == attempts).await;
    for status in [401, 403, 503] {
        mail.change(|mail| mail.revocation = status);
        story.later();
        attempts += 1;
        until("N265", || revoked(&mail) == attempts).await;
    }
    assert!(story.outcomes().is_empty(), "N265");
    story.clock.advance(Duration::from_secs(8 * 24 * 3600));
    until("N265", || story.outcomes() == ["given_up"]).await;
    assert_eq!(revoked(&mail), attempts, "N265");
}

/// Returns a revocation of bob's tokens that is due.
fn due(number: usize, server: &str, issuer: &str) -> PendingRevocation {
    let key = GrantKey::new(User::new("i", "bob"), server, Account::default_account());
    let token = RevokedToken::new(
        RevokedTokenKind::Refresh,
        Secret::from_text(format!("refresh-token-of-bob-{number}")),
    );
    PendingRevocation::new(
        RevocationId::new(&format!("r{number}")),
        (key, GrantId::new(&format!("g{number}"))),
        issuer,
        vec![token],
        now(),
    )
}

/// Starts an authorization server that closes each connection, and returns its URL and the number
/// of connections.
async fn closed_connections() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (url, count)
}

#[tokio::test]
async fn n534_a_server_that_is_down_delays_no_other_revocation() {
    let (mail, (down, connections)) = (AccountServer::start().await, closed_connections().await);
    let fixed = |path: &str| format!("{down}{path}").parse().unwrap();
    let broken = ConnectServer::new("broken", &format!("{down}/mcp"), guarded()).unwrap();
    let broken = broken
        .issuer(&down)
        .client(client())
        .authorization_endpoint(fixed("/authorize"))
        .token_endpoint(fixed("/token"))
        .revocation_endpoint(fixed("/revoke"));
    let (here, story) = (mail.server.url(""), Story::with([]));
    story.connector.replace_servers([broken, server("mail", &mail).issuer(&here).client(client())]);
    for number in 0..200 {
        story.store.put_revocation(&due(number, "broken", &down)).await.unwrap();
    }
    story.store.put_revocation(&due(200, "mail", &here)).await.unwrap();
    // One that fails in between ends nothing else.
    story.store.fail("postpone_revocation", Failure::Refused(StoreError::Unreachable), 1);
    assert_eq!(story.connector.revoke_due().await.unwrap(), 201, "N534");
    assert_eq!((revoked(&mail), story.outcomes()), (1, vec!["revoked".to_owned()]), "N534");
    // It is not asked again in the same turn: the attempts that ran at the same time are all, with
    // one repetition of each at most.
    let asked = connections.load(Ordering::SeqCst);
    assert!((1..=32).contains(&asked), "N534 {asked}");
}
