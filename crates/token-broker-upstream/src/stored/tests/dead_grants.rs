//! Refusals of a refresh: which of them end a grant, which need the user, and which do neither.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn refuses(status: u16, body: &'static str) -> Mode {
    Mode::Says(status, body, "")
}

fn state(broker: &Harness) -> (GrantState, u64) {
    (broker.grant().state, broker.grant().version)
}

/// Lets a minute pass, and refreshes the grant of another user at the same server.
async fn another_grant_is_refreshed(broker: &Harness) {
    let bob = User::new("https://broker.example.com", "bob");
    let of_bob = Grant::new(GrantId::new("bob"), key(bob.clone()), ISSUER)
        .granted(scopes("crm:read"))
        .refresh_token(secret("rt-0"));
    broker.grants.put(of_bob).await.unwrap();
    broker.clock.advance(Duration::from_secs(60));
    broker.server.state.rotated.store(0, Ordering::SeqCst);
    assert!(broker.credential(caller_for(bob), "").await.is_ok());
    // The other grant is the server's current one now.
    broker.server.state.rotated.store(0, Ordering::SeqCst);
}

#[tokio::test]
async fn g480_a_known_code_ends_the_grant_at_any_status() {
    for (status, body) in [
        (200, r#"{"error":"bad_refresh_token","error_description":"x"}"#),
        (200, r#"{"ok":false,"error":"invalid_refresh_token"}"#),
        (200, r#"{"ok":false,"error":"token_revoked"}"#),
        (200, r#"{"ok":false,"error":"token_expired"}"#),
        (200, r#"{"error":"invalid_code"}"#),
        (200, r#"{"error":"invalid_grant"}"#),
        (201, r#"{"error":"invalid_grant"}"#),
        (400, r#"{"error":"INVALID_GRANT"}"#),
        (400, r#"{"error":"invalid_grant","x":1,"x":2}"#),
        (400, r#"{"status":"BAD_REFRESH_TOKEN","message":"missing or unknown refresh token"}"#),
        (400, r#"{"errorCode":"invalid_grant","errorSummary":"x"}"#),
        (400, r#"{"error":{"code":"invalid_grant","message":"x"}}"#),
        (401, r#"{"error":"invalid_grant"}"#),
        (403, r#"{"error":"invalid_grant"}"#),
        (404, r#"{"error":"invalid_grant"}"#),
        (422, r#"{"error":"invalid_grant"}"#),
    ] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(refuses(status, body));
        assert_eq!(broker.get().await.unwrap_err(), revoked(), "G480 {status} {body}");
        assert_eq!(state(&broker), (GrantState::EndedByServer, 1), "G480 {status} {body}");
        assert_eq!(broker.refreshes().await, ["intent", "grant_ended"]);
    }
}

#[tokio::test]
async fn g517_a_code_that_may_be_about_something_else_counts_only_if_it_lasts() {
    for (status, body) in [
        (401, r#"{"error":"token_expired"}"#),
        (400, r#"{"error":"token_expired"}"#),
        (401, r#"{"code":"token_expired"}"#),
        (403, r#"{"status":"token_revoked"}"#),
        (404, r#"{"error":"invalid_code"}"#),
        (400, r#"{"error_code":"token_revoked","message":"the API key was revoked"}"#),
        (400, r#"{"error":{"code":"token_expired","message":"x"}}"#),
        (200, r#"{"error":{"type":"invalid_code"}}"#),
        (401, r#"{"error":"login_required"}"#),
        (403, r#"{"code":"consent_required"}"#),
    ] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(refuses(status, body));
        assert!(is_unavailable(&broker.get().await), "G517 {status} {body}");
        assert_eq!(state(&broker), (GrantState::Active, 1), "G517 {status} {body}");
        refused_for(&broker, HOUR / 2, || refuses(status, body)).await;
        another_grant_is_refreshed(&broker).await;
        refused_for(&broker, HOUR / 2, || refuses(status, body)).await;
        assert_eq!(state(&broker), (GrantState::NeedsUser, 1), "G517 {status} {body}");
    }
    // The codes of a refresh token end it in each of these places.
    for body in [r#"{"code":"invalid_grant"}"#, r#"{"error_code":"INVALID_REFRESH_TOKEN"}"#] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(refuses(401, body));
        assert_eq!(broker.get().await.unwrap_err(), revoked(), "G517 {body}");
    }
}

#[tokio::test]
async fn g517_a_status_that_is_not_of_the_endpoint_ends_no_grant() {
    for status in [407, 408, 421, 425, 429, 431, 500, 502, 503, 504] {
        for body in [r#"{"error":"invalid_grant"}"#, r#"{"error":"login_required"}"#] {
            let broker = Harness::with(grant(HOUR * 2)).await;
            broker.server.next(refuses(status, body));
            assert!(is_unavailable(&broker.get().await), "G517 {status} {body}");
            assert_eq!(state(&broker), (GrantState::Active, 1), "G517 {status} {body}");
        }
    }
}

#[tokio::test]
async fn g518_a_dead_grant_without_a_code_of_its_own_needs_the_user() {
    let ok = || refuses(200, r#"{"ok":false,"message":"please log in"}"#);
    let in_turn = {
        let turn = std::sync::atomic::AtomicUsize::new(0);
        move || match turn.fetch_add(1, Ordering::SeqCst) % 2 {
            0 => refuses(400, r#"{"error":"invalid_request"}"#),
            _ => refuses(403, r#"{"error":"access_denied"}"#),
        }
    };
    let cases: [Box<dyn Fn() -> Mode>; 8] = [
        Box::new(ok),
        Box::new(in_turn),
        Box::new(|| refuses(400, "refresh token expired")),
        Box::new(|| refuses(401, r#"["refresh token expired"]"#)),
        Box::new(|| refuses(403, "")),
        Box::new(|| refuses(200, "error=expired")),
        Box::new(|| refuses(204, "")),
        Box::new(|| refuses(500, r#"{"error":"invalid_grant"}"#)),
    ];
    for (case, mode) in cases.into_iter().enumerate() {
        let broker = Harness::with(grant(HOUR * 2)).await;
        refused_for(&broker, HOUR / 2, &mode).await;
        another_grant_is_refreshed(&broker).await;
        assert_eq!(state(&broker).0, GrantState::Active, "G518 {case}: not before an hour");
        refused_for(&broker, HOUR / 2, &mode).await;
        assert_eq!(state(&broker), (GrantState::NeedsUser, 1), "G518 {case}");
        broker.clock.advance(HOUR);
        assert!(broker.get().await.is_ok(), "G518 {case}: a success revives it");
        assert_eq!((broker.grant().state, broker.grant().refused), (GrantState::Active, None));
    }
}

#[tokio::test]
async fn g480_an_outage_never_ends_a_grant() {
    for mode in [
        refuses(500, r#"{"error":"invalid_grant"}"#),
        refuses(503, r#"{"error":"bad_refresh_token"}"#),
        refuses(429, r#"{"error":"invalid_grant"}"#),
        refuses(401, r#"{"error":"invalid_client"}"#),
        refuses(200, r#"{"error":"invalid_client"}"#),
        refuses(400, "<html>invalid_grant</html>"),
        refuses(403, ""),
        refuses(200, "<html>"),
        refuses(400, r#"["invalid_grant"]"#),
        refuses(400, r#"{"error":"invalid_grant","error":"x"}"#),
        refuses(400, r#"{"error":"invalid_grant"#),
        refuses(400, r#"{"error_description":"invalid_grant: refresh token revoked"}"#),
        refuses(
            403,
            r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
        ),
        refuses(400, r#"{"error":"temporarily_unavailable"}"#),
        Mode::Drops,
    ] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(mode);
        assert!(is_unavailable(&broker.get().await), "G480");
        assert_eq!(state(&broker), (GrantState::Active, 1), "G480");
        broker.clock.advance(Duration::from_secs(30));
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G480");
        assert_eq!(broker.grant().refused, None, "G480: a success ends the row");
    }
}

#[tokio::test]
async fn g480_the_operator_adds_codes() {
    let body = r#"{"error":"E4711"}"#;
    for (grants_end, refused, state) in [
        (true, revoked(), GrantState::EndedByServer),
        (false, connect_required(), GrantState::NeedsUser),
    ] {
        let configure = |at: AuthorizationServer| match grants_end {
            true => at.grant_ended_codes(["another"]).grant_ended_codes(["e4711"]),
            false => at.user_required_codes(["E4711"]),
        };
        let broker = Harness::over(grant(HOUR * 2), |grants| grants, configure).await;
        broker.server.next(refuses(400, body));
        assert_eq!(broker.get().await.unwrap_err(), refused, "G480");
        assert_eq!(broker.grant().state, state, "G480");
    }
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(refuses(400, body));
    assert!(is_unavailable(&broker.get().await), "without the setting");
}

#[tokio::test]
async fn g480_a_user_who_must_act_is_sent_to_connect() {
    for code in
        ["interaction_required", "login_required", "consent_required", "account_selection_required"]
    {
        let body: &'static str = Box::leak(format!(r#"{{"error":"{code}"}}"#).into_boxed_str());
        let broker = Harness::with(grant(HOUR * 2)).await;
        broker.server.next(refuses(400, body));
        assert_eq!(broker.get().await.unwrap_err(), connect_required(), "{code}");
        assert_eq!(state(&broker), (GrantState::NeedsUser, 1), "{code}: the token is kept");
        // Tried again each hour, and not more often.
        for _ in 0..59 {
            broker.clock.advance(Duration::from_secs(60));
            assert_eq!(broker.get().await.unwrap_err(), connect_required(), "{code}");
        }
        assert_eq!(broker.server.posts().len(), 1, "{code}");
        broker.clock.advance(Duration::from_secs(60));
        assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "{code}");
        assert_eq!(state(&broker), (GrantState::Active, 2), "{code}: a success revives it");
        assert_eq!(broker.server.posts().len(), 2, "{code}");
    }
}

#[tokio::test]
async fn g480_a_valid_access_token_is_used_to_its_end() {
    let broker = Harness::with(grant(HOUR / 100 * 90)).await;
    for _ in 0..9 {
        broker.server.next(refuses(400, r#"{"error":"login_required"}"#));
    }
    for minute in 0..6 {
        let token = broker.get().await.map(|credential| number(&credential));
        assert_eq!(token, Ok(0), "at {minute} min");
        broker.all_landed().await;
        broker.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(broker.get().await.unwrap_err(), connect_required());
    assert_eq!(broker.server.posts().len(), 1);
}

/// A refusal that names a dead grant only in text for people.
fn atlassian() -> Mode {
    refuses(
        403,
        r#"{"error":"unauthorized_client","error_description":"refresh_token is invalid"}"#,
    )
}

/// Refreshes each minute for this time, refused each time.
async fn refused_for(broker: &Harness, time: Duration, mode: impl Fn() -> Mode) {
    let end = broker.clock.now().plus(time);
    while broker.clock.now() < end {
        broker.server.state.modes.lock().clear();
        broker.server.next(mode());
        assert!(broker.get().await.is_err());
        broker.clock.advance(Duration::from_secs(60));
    }
    broker.server.state.modes.lock().clear();
}

#[tokio::test]
async fn g481_refusals_for_an_hour_need_the_user() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    refused_for(&broker, HOUR / 2, atlassian).await;
    another_grant_is_refreshed(&broker).await;
    assert_eq!(state(&broker).0, GrantState::Active, "G481: not before an hour");
    refused_for(&broker, HOUR / 2, atlassian).await;
    assert_eq!(state(&broker), (GrantState::NeedsUser, 1), "G481");
    assert_eq!(broker.get().await.unwrap_err(), connect_required(), "G481");
    assert!(broker.grant().refresh_token.unwrap().matches(&secret("rt-0")), "G481: it is kept");
    let posts = broker.server.posts().len();
    refused_for(&broker, HOUR * 5, atlassian).await;
    let tries = broker.server.posts().len() - posts;
    assert!((4..=5).contains(&tries), "G481: {tries} in five hours");
    broker.clock.advance(HOUR);
    assert_eq!(broker.get().await.map(|credential| number(&credential)), Ok(1), "G481");
    assert_eq!((broker.grant().state, broker.grant().refused), (GrantState::Active, None));
}

#[tokio::test]
async fn g481_while_no_grant_succeeds_it_takes_three_days() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    refused_for(&broker, DAY * 3 - HOUR, atlassian).await;
    assert_eq!(state(&broker), (GrantState::Active, 1), "G481: the server may be at fault");
    refused_for(&broker, HOUR * 2, atlassian).await;
    assert_eq!(state(&broker), (GrantState::NeedsUser, 1), "G481");
}

#[tokio::test]
async fn g481_only_refusals_of_the_endpoint_count() {
    let never: [fn() -> Mode; 10] = [
        || refuses(500, r#"{"error":"unauthorized_client"}"#),
        || refuses(429, r#"{"error":"unauthorized_client"}"#),
        || refuses(403, "<html>forbidden</html>"),
        || refuses(200, "\n<html>sign in</html>"),
        || refuses(403, "\u{feff}<!DOCTYPE html>"),
        || Mode::Says(403, "forbidden", "content-type: text/HTML; charset=utf-8\r\n"),
        || Mode::Says(403, "x", "content-encoding: br\r\n"),
        || refuses(503, "down"),
        || refuses(401, r#"{"error":"invalid_client"}"#),
        || refuses(400, r#"{"error":"temporarily_unavailable"}"#),
    ];
    for outage in never {
        let broker = Harness::with(grant(HOUR * 2)).await;
        refused_for(&broker, HOUR, outage).await;
        another_grant_is_refreshed(&broker).await;
        refused_for(&broker, HOUR / 6, outage).await;
        assert_eq!(state(&broker), (GrantState::Active, 1), "G481: an outage");
        assert_eq!(broker.grant().refused, None, "G481");
    }
}

#[tokio::test]
async fn g481_an_outage_in_between_hides_no_refusal() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    refused_for(&broker, HOUR / 2, atlassian).await;
    refused_for(&broker, Duration::from_secs(120), || refuses(502, "")).await;
    another_grant_is_refreshed(&broker).await;
    refused_for(&broker, HOUR / 2, atlassian).await;
    assert_eq!(state(&broker).0, GrantState::NeedsUser, "G481");
}

#[tokio::test]
async fn g481_the_state_and_the_time_outlive_the_process() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    refused_for(&broker, DAY, atlassian).await;
    for _ in 0..2 {
        broker.clock.advance(DAY - Duration::from_secs(60));
        refused_for(&broker, Duration::from_secs(60), atlassian).await;
    }
    assert_eq!(broker.grant().state, GrantState::Active, "G481");
    broker.clock.advance(Duration::from_secs(60));
    let restarted = broker.restarted();
    broker.server.next(atlassian());
    let refused = credential_of(&restarted, caller(), "", &broker.trail).await.unwrap_err();
    assert_eq!(refused, connect_required(), "G481");
    assert_eq!(broker.grant().state, GrantState::NeedsUser, "G481");
    let again = broker.restarted();
    let refused = credential_of(&again, caller(), "", &broker.trail).await.unwrap_err();
    assert_eq!(refused, connect_required(), "G481");
}

#[tokio::test]
async fn g513_two_refusals_far_apart_need_no_user() {
    let second = Duration::from_secs(1);
    let (short, long) = (Duration::from_secs(600), DAY);
    for (gap, refusals, others_succeed, state) in [
        // While other grants succeed: an hour without a gap of more than ten minutes.
        (short, 6, true, GrantState::Active),
        (short, 7, true, GrantState::NeedsUser),
        (short + second, 20, true, GrantState::Active),
        (HOUR, 2, true, GrantState::Active),
        (HOUR, 50, true, GrantState::Active),
        (DAY - HOUR, 2, true, GrantState::Active),
        // Otherwise: three days without a gap of more than a day.
        (short, 20, false, GrantState::Active),
        (long, 3, false, GrantState::Active),
        (long, 4, false, GrantState::NeedsUser),
        (long + second, 10, false, GrantState::Active),
        (DAY * 3, 2, false, GrantState::Active),
        (DAY * 3, 2, true, GrantState::Active),
    ] {
        let broker = Harness::with(grant(HOUR * 2)).await;
        for refusal in 0..refusals {
            if refusal > 0 {
                broker.clock.advance(gap.saturating_sub(Duration::from_secs(60)));
                match others_succeed {
                    true => another_grant_is_refreshed(&broker).await,
                    false => broker.clock.advance(Duration::from_secs(60)),
                }
            }
            broker.server.next(atlassian());
            assert!(broker.get().await.is_err(), "G513");
        }
        assert_eq!(broker.grant().state, state, "G513 {gap:?} {refusals} {others_succeed}");
        assert_eq!(broker.grant().version, 1, "G513");
    }
}

#[tokio::test]
async fn g516_no_setting_ends_a_grant_over_a_client_or_an_outage() {
    let codes = [
        "invalid_client",
        "incorrect_client_credentials",
        "bad_client_secret",
        "invalid_client_id",
        "rate_limited",
        "ratelimited",
        "internal_error",
        "server_error",
        "temporarily_unavailable",
        "slow_down",
    ];
    let configured: [fn(AuthorizationServer, &str) -> AuthorizationServer; 3] = [
        |at, _| at,
        |at, code| at.grant_ended_codes([code]),
        |at, code| at.user_required_codes([code]),
    ];
    for code in codes.into_iter().flat_map(|code| [code.to_owned(), code.to_ascii_uppercase()]) {
        for configure in configured {
            for status in [200, 400, 401] {
                let body = format!(r#"{{"error":"{code}"}}"#);
                let configure = |at| configure(at, &code);
                let broker = Harness::over(grant(HOUR * 2), |grants| grants, configure).await;
                broker.server.next(refuses(status, Box::leak(body.into_boxed_str())));
                assert!(is_unavailable(&broker.get().await), "G516 {status} {code}");
                assert_eq!(state(&broker), (GrantState::Active, 1), "G516 {status} {code}");
                assert_eq!(broker.grant().refused, None, "G516 {status} {code}");
            }
        }
    }
    // The control: the same settings count for any other code.
    let body = refuses(400, r#"{"error":"invalid_clients"}"#);
    let configure = |at: AuthorizationServer| at.grant_ended_codes(["invalid_clients"]);
    let broker = Harness::over(grant(HOUR * 2), |grants| grants, configure).await;
    broker.server.next(body);
    assert_eq!(broker.get().await.unwrap_err(), revoked());
}

#[tokio::test]
async fn g481_a_clock_ahead_for_a_moment_needs_no_user() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    refused_for(&broker, HOUR / 12, atlassian).await;
    broker.server.next(atlassian());
    let refused = a_day_ahead(&broker.clock, async {
        broker.clock.set_wall_clock(now().plus(DAY * 9));
        broker.get().await
    })
    .await;
    assert!(is_unavailable(&refused), "G481");
    assert_eq!(state(&broker).0, GrantState::Active, "G481");
}

#[tokio::test]
async fn g480_a_grant_that_needs_the_user_can_end() {
    let broker = Harness::with(grant(HOUR * 2)).await;
    broker.server.next(refuses(400, r#"{"error":"login_required"}"#));
    assert_eq!(broker.get().await.unwrap_err(), connect_required());
    broker.clock.advance(HOUR);
    broker.server.next(refuses(400, r#"{"error":"invalid_grant"}"#));
    assert_eq!(broker.get().await.unwrap_err(), revoked());
    assert_eq!(broker.grant().state, GrantState::EndedByServer);
}
