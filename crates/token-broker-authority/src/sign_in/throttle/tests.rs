//! The limits on guessing passwords, by a manual clock.

use tower_token_broker::clock::Timestamp;

use super::*;

fn throttle() -> (Throttle, Clock) {
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_795_500_000));
    (Throttle::new(ThrottleOptions::default(), clock.clone()), clock)
}

fn at(last: u8) -> Network {
    Network::of(Some(([192, 0, 2, last], 50_000).into()))
}

fn v6(address: &str) -> Network {
    Network::of(Some((address.parse::<std::net::IpAddr>().unwrap(), 50_000).into()))
}

/// Fails once; returns the wait if the attempt was refused.
fn fail(throttle: &Throttle, name: &str, network: Network) -> Option<Throttled> {
    throttle.begin(name, network, None).map(drop).err()
}

/// Fails once in a browser in which the user has signed in before.
fn fail_at_device(throttle: &Throttle, name: &str, device: u8) -> Option<Throttled> {
    throttle.begin(name, at(1), Some(DeviceId::for_test(device))).map(drop).err()
}

#[test]
fn s523_pauses_double_up_to_the_longest() {
    let (throttle, clock) = throttle();
    for _ in 0..5 {
        assert_eq!(fail(&throttle, "alice", at(1)), None, "S523");
    }
    for seconds in [30, 60, 120, 240, 480, 900, 900] {
        let wait = Duration::from_secs(seconds);
        let refused = Throttled { wait, limit: Limit::Pair, is_first: true };
        assert_eq!(fail(&throttle, "alice", at(1)), Some(refused), "S523");
        // Only the first refusal is reported, and refusals do not make the pause longer.
        let again = Throttled { is_first: false, ..refused };
        assert_eq!(fail(&throttle, "alice", at(1)), Some(again), "S523");
        clock.advance(wait);
        assert_eq!(fail(&throttle, "alice", at(1)), None, "S523 after {seconds}");
    }
    clock.advance(Duration::from_secs(3_600));
    for _ in 0..5 {
        assert_eq!(fail(&throttle, "alice", at(1)), None, "S523: forgotten");
    }
}

#[test]
fn s524_one_address_leaves_attempts_for_others() {
    let (throttle, clock) = throttle();
    let names = |from: u32| (from..from + 100).map(|number| format!("user{number}"));
    let refused = names(0).filter_map(|name| fail(&throttle, &name, at(1)));
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), 90, "S524: spraying");
    assert!(refused.iter().all(|refused| refused.limit == Limit::Strangers));
    assert_eq!(fail(&throttle, "bob", at(2)), None, "S524");
    clock.advance(refused[0].wait);
    assert_eq!(fail(&throttle, "carol", at(1)), None, "S524: refilled");
}

#[test]
fn s524_one_site_leaves_attempts_for_others() {
    let (throttle, _clock) = throttle();
    let networks = |site: u32| (0..200).map(move |net| v6(&format!("2001:db8:{site}:{net:x}::1")));
    let failed = |site| networks(site).filter(|net| fail(&throttle, "a", *net).is_none()).count();
    assert_eq!([failed(1), failed(2), failed(3)], [25; 3], "S524");
    assert_eq!(fail(&throttle, "bob", at(2)), None, "S524");
}

#[test]
fn s525_strangers_keep_no_user_out_of_a_known_browser() {
    let (throttle, _clock) = throttle();
    // From all addresses of a network, at one account, until the limit of all.
    let refused = (2..=255).filter(|last| fail(&throttle, "alice", at(*last)).is_some());
    assert_eq!(refused.count(), 254 - 100, "S525");
    assert_eq!(fail(&throttle, "alice", at(1)).unwrap().limit, Limit::Strangers);
    for device in 1..=20 {
        let attempts = (0..6).filter(|_| fail_at_device(&throttle, "alice", device).is_none());
        assert_eq!(attempts.count(), 5, "S525: each has its own reserve");
    }
    // Its own pauses hold, and it has no other attempts.
    let refused = fail_at_device(&throttle, "alice", 1).unwrap();
    assert_eq!((refused.limit, refused.wait), (Limit::Pair, Duration::from_secs(30)), "S525");
}

#[test]
fn s525_a_known_browser_takes_nothing_from_others() {
    let (throttle, _clock) = throttle();
    for device in 1..=100 {
        for _ in 0..6 {
            let _refused = fail_at_device(&throttle, "alice", device);
        }
    }
    let attempts = (0..6).filter(|_| fail(&throttle, "alice", at(1)).is_none()).count();
    assert_eq!(attempts, 5, "S525: the address has its own");
    let attempts = (2..=200).filter(|last| fail(&throttle, "bob", at(*last)).is_none()).count();
    assert_eq!(attempts, 95, "S525: and so have all");
}

#[test]
fn the_right_password_counts_in_no_limit() {
    let (throttle, _clock) = throttle();
    for number in 0..1_000 {
        throttle.begin(&format!("user{number}"), at(1), None).unwrap().succeeded();
    }
    for _ in 0..4 {
        assert_eq!(fail(&throttle, "alice", at(1)), None);
    }
    throttle.begin("alice", at(1), None).unwrap().succeeded();
    let attempts = (0..6).filter(|_| fail(&throttle, "alice", at(1)).is_none()).count();
    assert_eq!(attempts, 5, "failures before it are forgotten");
}

#[test]
fn s527_an_attempt_without_a_verdict_does_not_count() {
    let (throttle, clock) = throttle();
    for _ in 0..1_000 {
        throttle.begin("alice", at(1), None).unwrap().withdrawn();
        let device = Some(DeviceId::for_test(1));
        throttle.begin("alice", at(1), device).unwrap().withdrawn();
    }
    for _ in 0..5 {
        assert_eq!(fail(&throttle, "alice", at(1)), None, "S527");
        assert_eq!(fail_at_device(&throttle, "alice", 1), None, "S527");
    }
    assert!(fail(&throttle, "alice", at(1)).is_some(), "S527: failures before it still count");
    // In a pause, the attempt after it is allowed again, and the next pause is not longer.
    clock.advance(Duration::from_secs(30));
    throttle.begin("alice", at(1), None).unwrap().withdrawn();
    assert_eq!(fail(&throttle, "alice", at(1)), None, "S527");
    let refused = fail(&throttle, "alice", at(1)).unwrap();
    assert_eq!(refused.wait, Duration::from_secs(60), "S527");
}

#[test]
fn s527_a_withdrawal_does_not_end_the_pause_of_another_attempt() {
    let (throttle, clock) = throttle();
    let open: Vec<_> = (0..5).map(|_| throttle.begin("alice", at(1), None).unwrap()).collect();
    clock.advance(Duration::from_secs(30));
    let slow = throttle.begin("alice", at(1), None).unwrap();
    clock.advance(Duration::from_secs(60));
    let next = throttle.begin("alice", at(1), None).unwrap();
    slow.withdrawn();
    assert!(fail(&throttle, "alice", at(1)).is_some(), "S527");
    drop((open, next));
}

#[test]
fn attempts_at_the_same_time_count_each() {
    let (throttle, _clock) = throttle();
    let open: Vec<_> = (0..8).map(|_| throttle.begin("alice", at(1), None)).collect();
    assert_eq!(open.iter().filter(|attempt| attempt.is_ok()).count(), 5);
    // One of them was right.
    open.into_iter().find_map(Result::ok).unwrap().succeeded();
    assert_eq!(fail(&throttle, "alice", at(1)), None);
}

#[test]
fn addresses_count_by_network() {
    let (throttle, _clock) = throttle();
    for host in 0..5 {
        assert_eq!(fail(&throttle, "alice", v6(&format!("2001:db8::{host}"))), None);
    }
    assert!(fail(&throttle, "alice", v6("2001:db8::ffff:1")).is_some());
    assert_eq!(fail(&throttle, "alice", v6("2001:db8:0:1::1")), None);
    assert_eq!(v6("::ffff:192.0.2.1"), at(1));
}

#[test]
fn s522_the_tables_do_not_grow_without_bound() {
    let options = ThrottleOptions { attempts_per_minute: 60_000, ..ThrottleOptions::default() };
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_795_500_000));
    let throttle = Throttle::new(options, clock.clone());
    for number in 0..u32::try_from(MOST_ENTRIES).unwrap() + 100 {
        let address = std::net::IpAddr::V4((number * 7).into());
        let network = Network::of(Some((address, 50_000).into()));
        assert_eq!(fail(&throttle, "alice", network), None, "S522");
        // All within the time for which a failure counts.
        clock.advance(Duration::from_millis(20));
    }
    let counts = throttle.0.counts.lock();
    assert!(counts.pairs.len() <= MOST_ENTRIES && counts.networks.len() <= MOST_ENTRIES);
}

#[test]
fn without_an_address_only_the_limit_of_all_holds() {
    let (throttle, _clock) = throttle();
    let allowed =
        (0..200).filter(|_| fail(&throttle, "alice", Network::of(None)).is_none()).count();
    assert_eq!(allowed, 100);
}
