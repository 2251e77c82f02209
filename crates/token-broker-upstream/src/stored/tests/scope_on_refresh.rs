//! Servers that refuse `scope` at a refresh.

use super::*;

/// Responds like a server that knows no `scope` at a refresh, and names these scopes in its tokens.
fn refusing_scope(status: u16, granted: Option<&'static str>) -> impl Fn(&str) -> Reply {
    let rotated = AtomicUsize::new(0);
    move |request| {
        if form_value(request, "scope").is_some() {
            return Reply::Says(status, "", r#"{"error":"invalid_scope"}"#.to_owned());
        }
        let current = format!("rt-{}", rotated.load(Ordering::SeqCst));
        if form_value(request, "refresh_token") != Some(&current) {
            return Reply::Says(400, "", r#"{"error":"invalid_grant"}"#.to_owned());
        }
        let number = rotated.fetch_add(1, Ordering::SeqCst) + 1;
        let scope = granted.map_or_else(String::new, |scope| format!(r#","scope":"{scope}""#));
        let tokens = format!(r#""access_token":"at-{number}","refresh_token":"rt-{number}""#);
        Reply::Says(200, "", format!(r#"{{{tokens},"expires_in":1800{scope}}}"#))
    }
}

async fn at_server(
    grant: Grant,
    reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    configure: impl FnOnce(AuthorizationServer) -> AuthorizationServer,
) -> Harness {
    let mut broker = Harness::with(grant).await;
    broker.server.endpoint = Endpoint::start(reply).await;
    let store = broker.grants.clone();
    broker.provider = Arc::new(provider(&broker.broker, &broker.server, store, configure));
    broker
}

/// A grant of exactly the operator's scopes.
fn narrow() -> Grant {
    grant(HOUR * 2).granted(scopes("crm:read"))
}

fn with_scope(broker: &Harness) -> Vec<bool> {
    broker.server.posts().iter().map(|post| form_value(post, "scope").is_some()).collect()
}

#[tokio::test]
async fn g482_a_refused_scope_is_left_out_once_and_from_then_on() {
    for status in [400, 401, 403, 200, 422] {
        let broker = at_server(narrow(), refusing_scope(status, Some("crm:read")), |at| at).await;
        let token = broker.get().await.unwrap();
        assert_eq!((number(&token), token.scopes()), (1, &scopes("crm:read")), "G482 {status}");
        assert_eq!(with_scope(&broker), [true, false], "G482 {status}");
        let kept = broker.grant();
        assert_eq!((kept.open_attempts, kept.backoff), (0, Backoff::default()), "G482 {status}");
        broker.clock.advance(HOUR / 2);
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(2), "G482");
        assert_eq!(with_scope(&broker), [true, false, false], "G482 {status}: remembered");
        let each = ["intent", "failed", "intent", "issued", "intent", "issued"];
        assert_eq!(broker.refreshes().await, each, "G482 {status}: each request has its record");
    }
}

#[tokio::test]
async fn g482_an_operator_can_turn_scope_off() {
    let omit = AuthorizationServer::omit_scope_on_refresh;
    let broker = at_server(narrow(), refusing_scope(400, None), omit).await;
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G482");
    assert_eq!(with_scope(&broker), [false], "G482");
}

#[tokio::test]
async fn g482_wider_tokens_are_not_used() {
    let wide = || grant(HOUR * 2);
    for (granted, configure) in [
        (Some("crm:read crm:write"), false),
        (Some("crm:read,crm:admin"), false),
        // Without `scope` in request and response, the token has all that the user agreed to
        // (RFC 6749 §6).
        (None, false),
        (None, true),
    ] {
        let configure = |at: AuthorizationServer| match configure {
            true => at.omit_scope_on_refresh(),
            false => at,
        };
        let broker = at_server(wide(), refusing_scope(400, granted), configure).await;
        let refused = broker.get().await.unwrap_err();
        assert_eq!(refused, CredentialError::RefusedByPolicy, "G482 {granted:?}");
        assert!(broker.grant().refresh_token.unwrap().matches(&secret("rt-1")), "G482");
    }
    let narrowed = at_server(wide(), refusing_scope(400, Some("crm:read")), |at| at).await;
    assert!(narrowed.get().await.is_ok(), "G482");
}

#[tokio::test]
async fn g482_a_refusal_that_repeats_is_no_loop() {
    let reply = |_: &str| Reply::Says(400, "", r#"{"error":"invalid_scope"}"#.to_owned());
    let broker = at_server(narrow(), reply, |at| at).await;
    assert!(is_unavailable(&broker.get().await), "G482");
    assert_eq!(with_scope(&broker), [true, false], "G482");
    assert_eq!(broker.grant().state, GrantState::Active, "G482");
    broker.clock.advance(Duration::from_secs(5));
    assert!(is_unavailable(&broker.get().await), "G482");
    assert_eq!(with_scope(&broker), [true, false, true, false], "G482");
}

#[tokio::test]
async fn g482_a_description_is_no_reason_to_leave_scope_out() {
    for body in [
        r#"{"error":"invalid_request","error_description":"invalid_scope"}"#,
        r#"{"error_description":"scope is not allowed here"}"#,
        "invalid_scope",
    ] {
        let reply = move |_: &str| Reply::Says(400, "", body.to_owned());
        let broker = at_server(narrow(), reply, |at| at).await;
        assert!(is_unavailable(&broker.get().await), "G482 {body}");
        assert_eq!(with_scope(&broker), [true], "G482 {body}");
    }
}

#[tokio::test]
async fn g482_one_grant_changes_no_other() {
    let broker = at_server(narrow(), refusing_scope(400, None), |at| at).await;
    assert!(broker.get().await.is_ok());
    let bob = User::new("https://broker.example.com", "bob");
    let of_bob = Grant::new(GrantId::new("bob"), key(bob.clone()), ISSUER)
        .granted(scopes("crm:read"))
        .refresh_token(secret("rt-1"));
    broker.grants.put(of_bob).await.unwrap();
    assert!(broker.credential(caller_for(bob), "").await.is_ok());
    assert_eq!(with_scope(&broker), [true, false, true, false], "G482");
}

#[tokio::test]
async fn g514_a_refused_scope_is_sent_again_after_an_hour() {
    let broker = at_server(narrow(), refusing_scope(400, None), |at| at).await;
    assert!(broker.get().await.is_ok());
    broker.clock.advance(HOUR - Duration::from_secs(1));
    assert!(broker.get().await.is_ok());
    assert_eq!(with_scope(&broker), [true, false, false], "G514");
    // The refresh without `scope` has not prolonged it.
    broker.clock.advance(HOUR / 2);
    assert!(broker.get().await.is_ok());
    assert_eq!(with_scope(&broker), [true, false, false, true, false], "G514");
}

/// Refuses `scope` in the first request, and responds to one without `scope` with this.
fn refusing_once(without_scope: Reply) -> impl Fn(&str) -> Reply {
    let (posts, without_scope) = (AtomicUsize::new(0), Mutex::new(Some(without_scope)));
    move |request| {
        let first = posts.fetch_add(1, Ordering::SeqCst) == 0;
        match form_value(request, "scope") {
            Some(_) if first => Reply::Says(400, "", r#"{"error":"invalid_scope"}"#.to_owned()),
            Some(_) => {
                let tokens = r#""access_token":"at","refresh_token":"rt","scope":"crm:read""#;
                Reply::Says(200, "", format!(r#"{{{tokens},"expires_in":3600}}"#))
            }
            None => without_scope.lock().take().unwrap(),
        }
    }
}

#[tokio::test]
async fn g514_one_refused_scope_has_no_lasting_effect() {
    let says = |status, body: &str| Reply::Says(status, "", body.to_owned());
    for (case, without_scope) in [
        ("wider tokens", says(200, r#"{"access_token":"at"}"#)),
        ("wider tokens by name", says(200, r#"{"access_token":"at","scope":"crm:admin"}"#)),
        ("no token", says(200, r#"{"refresh_token":"rt-1"}"#)),
        ("refused again", says(400, r#"{"error":"invalid_scope"}"#)),
        ("another refusal", says(400, r#"{"error":"invalid_request"}"#)),
        ("an outage", says(503, "")),
    ] {
        let broker = at_server(grant(HOUR * 2), refusing_once(without_scope), |at| at).await;
        assert!(broker.get().await.is_err(), "G514 {case}");
        assert_eq!(with_scope(&broker), [true, false], "G514 {case}");
        broker.clock.advance(Duration::from_secs(60));
        let token = broker.get().await;
        assert_eq!(
            token.map(|token| token.scopes().clone()),
            Ok(scopes("crm:read")),
            "G514 {case}"
        );
        assert_eq!(with_scope(&broker), [true, false, true], "G514 {case}");
    }
}

#[tokio::test]
async fn g514_a_refresh_token_next_to_a_refused_scope_is_kept_and_used() {
    let posts = AtomicUsize::new(0);
    let reply = move |request: &str| match posts.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Says(400, "", r#"{"error":"invalid_scope"}"#.to_owned()),
        _ if form_value(request, "scope").is_some() => {
            let body = r#"{"error":"invalid_scope","refresh_token":"rt-1"}"#;
            Reply::Says(200, "", body.to_owned())
        }
        _ if form_value(request, "refresh_token") == Some("rt-1") => {
            Reply::Says(200, "", r#"{"access_token":"at","scope":"crm:read"}"#.to_owned())
        }
        _ => Reply::Says(503, "", String::new()),
    };
    let broker = at_server(narrow(), reply, |at| at).await;
    assert!(broker.get().await.is_err(), "G514: the server fails without `scope`");
    broker.clock.advance(Duration::from_secs(60));
    assert!(broker.get().await.is_ok(), "G514");
    assert_eq!(with_scope(&broker), [true, false, true, false], "G514");
    assert!(broker.grant().refresh_token.unwrap().matches(&secret("rt-1")), "G514");
}
