//! The limits on guessing passwords, by a manual clock.

use tower_token_broker::clock::Timestamp;

use super::*;

fn throttle() -> (Throttle, Clock) {
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_795_500_000));
    (Throttle::new(ThrottleOptions::default(), clock.clone()), clock)
}

fn at(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

/// Fails once; returns the wait if the attempt was refused.
fn fail(throttle: &Throttle, name: &str, address: Option<IpAddr>) -> Option<Throttled> {
    throttle.begin(name, address).map(drop).err()
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
fn s524_a_stranger_does_not_keep_a_user_out() {
    let (throttle, _clock) = throttle();
    throttle.begin("alice", at(1)).unwrap().succeeded();
    // From all addresses of a network, at one account, until the limit of all.
    let refused = (2..=255).filter(|last| fail(&throttle, "alice", at(*last)).is_some());
    assert_eq!(refused.count(), 254 - 99, "S524");
    throttle.begin("alice", at(1)).unwrap().succeeded();
    let attempts = (0..5).filter(|_| fail(&throttle, "alice", at(1)).is_none()).count();
    assert_eq!(attempts, 5, "S524: at the usual place, all attempts are left");
}

#[test]
fn s524_one_address_leaves_attempts_for_others() {
    let (throttle, clock) = throttle();
    let names = |from: u32| (from..from + 100).map(|number| format!("user{number}"));
    let refused = names(0).filter_map(|name| fail(&throttle, &name, at(1)));
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), 75, "S524: spraying");
    assert!(refused.iter().all(|refused| refused.limit == Limit::Strangers));
    assert_eq!(fail(&throttle, "bob", at(2)), None, "S524");
    clock.advance(refused[0].wait);
    assert_eq!(fail(&throttle, "carol", at(1)), None, "S524: refilled");
}

#[test]
fn attempts_at_the_same_time_count_each() {
    let (throttle, _clock) = throttle();
    let open: Vec<_> = (0..8).map(|_| throttle.begin("alice", at(1))).collect();
    assert_eq!(open.iter().filter(|attempt| attempt.is_ok()).count(), 5);
    // One of them was right.
    open.into_iter().find_map(Result::ok).unwrap().succeeded();
    assert_eq!(fail(&throttle, "alice", at(1)), None);
}

#[test]
fn addresses_count_by_network() {
    let v6 = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let (throttle, _clock) = throttle();
    for host in 0..5 {
        let address = v6(&format!("2001:db8::{host}"));
        assert_eq!(fail(&throttle, "alice", address), None);
    }
    assert!(fail(&throttle, "alice", v6("2001:db8::ffff:1")).is_some());
    assert_eq!(fail(&throttle, "alice", v6("2001:db8:0:1::1")), None);
    let mapped = v6("::ffff:192.0.2.1");
    assert_eq!(address_key(mapped.unwrap()), address_key(at(1).unwrap()));
}

#[test]
fn s522_the_tables_do_not_grow_without_bound() {
    let options = ThrottleOptions { attempts_per_minute: 60_000, ..ThrottleOptions::default() };
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_795_500_000));
    let throttle = Throttle::new(options, clock.clone());
    for number in 0..u32::try_from(MOST_ENTRIES).unwrap() + 100 {
        let address = Some(IpAddr::V4((number * 7).into()));
        assert_eq!(fail(&throttle, "alice", address), None, "S522");
        // All within the time for which a failure counts.
        clock.advance(Duration::from_millis(20));
    }
    let counts = throttle.0.counts.lock();
    assert!(counts.pairs.len() <= MOST_ENTRIES && counts.addresses.len() <= MOST_ENTRIES);
}

#[test]
fn without_an_address_only_the_limit_of_all_holds() {
    let (throttle, _clock) = throttle();
    let allowed = (0..200).filter(|_| fail(&throttle, "alice", None).is_none()).count();
    assert_eq!(allowed, 100);
}
