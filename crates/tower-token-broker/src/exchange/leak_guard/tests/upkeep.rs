//! Tests of which credentials the registry holds, and when it is searched.

use super::{
    proof::{RANDOM, passes, use_one},
    *,
};

#[test]
fn i448_a_later_expiry_counts() {
    let start = Timestamp::from_unix_seconds(1_800_000_000);
    let at = |seconds| Some(start.plus(Duration::from_secs(seconds)));
    for (first, second, lives) in [
        (at(60), at(9000), true),
        (at(9000), at(60), true),
        (at(60), None, false),
        (at(60), at(90), false),
    ] {
        // By the same credential, and by another one with the same secret.
        for is_same in [true, false] {
            let clock = Clock::manual(start);
            let registry = Arc::new(Registry::new(1000, clock.clone()));
            let one = tails(TOKEN);
            let other = if is_same { Arc::clone(&one) } else { tails(TOKEN) };
            let bob = Watched::new(&registry, &user("bob"));
            bob.add(&one, first).unwrap();
            bob.add(&other, second).unwrap();
            clock.advance(Duration::from_secs(7200));
            (0..100).for_each(|number| use_one(&registry, "bob", &distinct(number)));
            assert_eq!(passes(&registry, TOKEN), !lives, "I448 {first:?} {second:?} {is_same}");
        }
    }
}

#[test]
fn i448_the_least_recently_used_leave_first() {
    let start = Timestamp::from_unix_seconds(1_800_000_000);
    let clock = Clock::manual(start);
    let registry = Arc::new(Registry::new(64, clock.clone()));
    let expires_at = Some(start.plus(Duration::from_secs(100_000)));
    let all: Vec<_> = (0..64).map(|number| tails(&distinct(number))).collect();
    let bob = || Watched::new(&registry, &user("bob"));
    for one in &all {
        clock.advance(Duration::from_secs(1));
        bob().add(one, expires_at).unwrap();
    }
    // The oldest is used again, so it is the newest.
    clock.advance(Duration::from_secs(1));
    bob().add(&all[0], expires_at).unwrap();
    bob().add(&tails(TOKEN), expires_at).unwrap();
    assert!(!passes(&registry, &distinct(0)), "I448");
    assert!(passes(&registry, &distinct(1)), "I448");
}

#[test]
fn i448_a_credential_that_returned_is_noted_quickly() {
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
    let registry = Arc::new(Registry::new(2, clock.clone()));
    let bob = || Watched::new(&registry, &user("bob"));
    let one = tails(TOKEN);
    bob().add(&one, None).unwrap();
    for number in 0..8 {
        clock.advance(Duration::from_secs(1));
        bob().add(&tails(&distinct(number)), None).unwrap();
    }
    let entries = || one.registered(|known| known.entries.clone()).unwrap();
    assert!(entries().iter().all(|entry| !entry.is_current()), "I448: it left");
    bob().add(&one, None).unwrap();
    let again = entries();
    assert!(again.iter().all(|entry| entry.is_current()), "I448");
    // From now on, a use is noted on that entry; nothing is registered again.
    clock.advance(Duration::from_secs(1));
    let before = again[0].last_used();
    bob().add(&one, None).unwrap();
    assert!(Arc::ptr_eq(&entries()[0], &again[0]) && again[0].last_used() > before, "I448");
}

#[test]
fn a_registry_with_only_this_credential_is_not_searched() {
    let registry = registry();
    let alice = Watched::new(&registry, &user("alice"));
    let shortest = |watched: &Watched| watched.search(&watched.used()).shortest();
    assert_eq!(shortest(&alice), usize::MAX);
    let one = tails(TOKEN);
    alice.add(&one, None).unwrap();
    assert_eq!(shortest(&alice), TOKEN.len());
    // The same one, used by another user.
    Watched::new(&registry, &user("bob")).add(&one, None).unwrap();
    assert_eq!(shortest(&alice), TOKEN.len());
    use_one(&registry, "bob", RANDOM);
    assert_eq!(shortest(&alice), 15);
    assert_eq!(masked(&alice, RANDOM).1, 1);
    // Nor is it left out for one that is no longer registered.
    let small = Arc::new(Registry::new(1, Clock::system()));
    let alice = Watched::new(&small, &user("alice"));
    alice.add(&tails(TOKEN), None).unwrap();
    use_one(&small, "bob", RANDOM);
    assert_eq!(masked(&alice, RANDOM).1, 1);
}
