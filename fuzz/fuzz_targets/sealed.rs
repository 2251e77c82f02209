//! A sealed text opens to its content for its own user and purpose. Any other text, and any changed
//! one, does not open.
//!
//! Two bytes define the change: the position, and the number of characters that the rest replaces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tower_token_broker::{
    clock::Timestamp,
    principal::{Principal, Resource, TokenTimes, User, Verified},
    readers::{open, seal},
    sealing::SealingKeys,
};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (at, length, bytes) = (usize::from(input.0), usize::from(input.1), input.2);
    let keys = SealingKeys::new(&[7; 32]).also_opening(&[8; 32]);
    let (alice, bob) = (caller("alice"), caller("bob"));
    assert_eq!(open(&keys, None, &alice, bytes), None, "nobody else seals");

    let state = Some("tools/call get_item");
    let sealed = seal(&keys, state, &alice, bytes);
    assert_eq!(open(&keys, state, &alice, sealed.as_bytes()).as_deref(), Some(bytes));
    for (purpose, whose) in [(None, &alice), (Some("tools/call get_items"), &alice), (state, &bob)]
    {
        assert_eq!(open(&keys, purpose, whose, sealed.as_bytes()), None);
    }
    // A text of an old key opens, too.
    let sealed =
        seal(&SealingKeys::new(&[8; 32]), None, &alice, b"a session of the upstream").into_bytes();
    assert!(open(&keys, None, &alice, &sealed).is_some());
    let at = at % (sealed.len() + 1);
    let end = (at + length).min(sealed.len());
    let changed = [&sealed[..at], bytes, &sealed[end..]].concat();
    assert!(changed == sealed || open(&keys, None, &alice, &changed).is_none(), "{changed:?}");
});

fn caller(subject: &str) -> Principal {
    let issued_at = Timestamp::from_unix_seconds(1);
    let times = TokenTimes { id: "t", issued_at, expires_at: issued_at };
    let resource = Resource::parse("https://broker.example.com/mcp").expect("a resource");
    Principal::for_test(&Verified::vouch(
        User::new("https://i.example", subject),
        "client",
        resource,
        times,
    ))
}
