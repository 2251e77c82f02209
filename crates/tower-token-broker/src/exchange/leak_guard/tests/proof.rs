//! Tests of what proves a credential of another user.

use super::*;
use crate::exchange::Origin;

const UUID: &str = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
pub(super) const RANDOM: &str = "Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB6iM3";

fn origin(uri: &str) -> Origin {
    Origin::of(&uri.parse().unwrap()).unwrap()
}

fn tails_at(secret: &str, server: &str) -> Arc<SecretTails> {
    let tails = SecretTails::of(&Secret::from_text(secret.to_owned())).unwrap();
    Arc::new(tails.at(&origin(server)))
}

pub(super) fn use_one(registry: &Arc<Registry>, name: &str, secret: &str) {
    Watched::new(registry, &user(name)).add(&tails(secret), None).unwrap();
}

pub(super) fn passes(registry: &Arc<Registry>, text: &str) -> bool {
    let alice = Watched::new(registry, &user("alice"));
    masked(&alice, text) == (text.to_owned(), 0)
}

/// All of `secret` is masked in a response to alice, in each of these forms.
fn assert_masked(registry: &Arc<Registry>, secret: &str, case: &str) {
    let alice = Watched::new(registry, &user("alice"));
    for form in [secret.to_owned(), base64(secret), base64(&format!("ab{secret}")), hex(secret)] {
        let (masked, times) = masked(&alice, &format!("\"{form}\""));
        let stars = masked.matches('*').count();
        assert!(times == 1 && stars + 6 >= form.len(), "{case} {secret}: {form} {masked}");
    }
    assert_eq!(masked(&alice, secret).0, "*".repeat(secret.len()), "{case} {secret}");
}

#[test]
fn i449_parts_of_a_credential_that_are_no_secret_pass() {
    let header = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
    let claims = base64("{\"tenant\":\"acme\",\"aud\":\"crm\"}");
    for (secret, part) in [
        (format!("{RANDOM}.{UUID}"), UUID.to_owned()),
        (format!("{UUID}-{RANDOM}"), UUID.to_owned()),
        (format!("{RANDOM}{}", "0".repeat(40)), "0".repeat(200)),
        (format!("{RANDOM}.tools.eu-west-1.example.com"), "tools.eu-west-1.example.com".into()),
        (format!("{RANDOM}_structuredContent.inputSchema"), "structuredContent.inputSchema".into()),
        (format!("{header}.{claims}.9fK2xQ7aLw3nZpR8sVtYb1"), header.to_owned()),
        (format!("{header}.{claims}.9fK2xQ7aLw3nZpR8sVtYb1"), format!("{header}.{claims}.x")),
        (format!("{header}.{claims}."), claims),
        (format!("{RANDOM}.123456789012345678901234"), "123456789012345678901234".into()),
        (format!("{RANDOM}-20260101120000-20270101120000"), "20260101120000-20270101120000".into()),
        (
            format!("{RANDOM}.{}", base64("production-cluster-of-acme")),
            "production-cluster-of-acme".into(),
        ),
        (
            format!("{RANDOM}.{}", base64("production-cluster-of-acme")),
            base64("production-cluster-of-acme"),
        ),
        (format!("{RANDOM}-abababababababababababab"), "ab".repeat(40)),
        (format!("{RANDOM}-application/vnd.acme.v3+json"), "application/vnd.acme.v3+json".into()),
        // A window is no proof, although it is random.
        (RANDOM.to_owned(), RANDOM[19..].to_owned()),
        (RANDOM.to_owned(), RANDOM[8..30].to_owned()),
    ] {
        let registry = registry();
        use_one(&registry, "bob", &secret);
        for form in [part.clone(), base64(&part), hex(&part), format!("{{\"id\":\"{part}\"}}")] {
            assert!(passes(&registry, &form), "I449 {secret} {form}");
        }
        let tail = &secret[secret.len().saturating_sub(64)..];
        assert_masked(&registry, tail, "I449");
    }
}

#[test]
fn i440_pieces_that_are_proof_are_masked() {
    for (secret, piece) in [
        (RANDOM.to_owned(), &RANDOM[10..]),
        (RANDOM.to_owned(), &RANDOM[..24]),
        (RANDOM.to_owned(), &RANDOM[5..29]),
        (format!("acme-{RANDOM}"), RANDOM),
        (format!("acme_{RANDOM}.{UUID}"), &RANDOM[7..]),
        (format!("{RANDOM}.tools.eu-west-1.example.com"), &RANDOM[8..]),
        (format!("{RANDOM}{}", "0".repeat(20)), &RANDOM[7..33]),
        (UUID.to_owned(), UUID),
        (format!("pat-na1-{UUID}"), &*format!("pat-na1-{UUID}")),
    ] {
        let registry = registry();
        use_one(&registry, "bob", &secret);
        assert_masked(&registry, piece, "I440");
    }
}

#[test]
fn i450_what_credentials_have_in_common_passes() {
    let suffix = "-7Kp2Lm9Qr4Tz8Wv3Xb6Nc1Hd5Gf0";
    let [one, two] = ["9fK2xQ7aLw3nZpR8sVtYb1cDeGhJ", "Hn3vTc6yRb9mWk4pLd7sQx2fJg5zAa"];
    for (users, secrets) in [
        // Of two users, of one user whose token rotates, at other distances from the end.
        (["bob", "carol"], [format!("{one}{suffix}"), format!("{two}{suffix}")]),
        (["bob", "bob"], [format!("{one}{suffix}"), format!("{two}{suffix}")]),
        (["bob", "carol"], [format!("{one}{suffix}"), format!("{two}{suffix}.a1b")]),
        (["bob", "carol"], [format!("{suffix}{one}"), format!("{suffix}{two}")]),
    ] {
        let registry = registry();
        use_one(&registry, users[0], &secrets[0]);
        // One credential is not enough to know; only its end is searched for.
        assert_eq!(passes(&registry, suffix), secrets[0].starts_with(suffix), "I450");
        use_one(&registry, users[1], &secrets[1]);
        assert!(passes(&registry, suffix), "I450 {secrets:?}");
        // Both are used again: each has found better windows.
        for (user, secret) in users.iter().zip(&secrets) {
            use_one(&registry, user, secret);
        }
        assert!(passes(&registry, suffix), "I450 {secrets:?}");
        for (secret, own) in secrets.iter().zip([one, two]) {
            assert_masked(&registry, secret, "I450");
            assert_masked(&registry, &own[2..], "I450");
        }
    }
}

#[test]
fn i450_common_parts_are_remembered_after_expiry() {
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_800_000_000));
    let registry = Arc::new(Registry::new(100, clock.clone()));
    let suffix = "-7Kp2Lm9Qr4Tz8Wv3Xb6Nc1Hd5Gf0";
    for number in 0..2 {
        use_one(&registry, "bob", &format!("{}{suffix}", distinct(number)));
    }
    clock.advance(Duration::from_secs(7200));
    (10..80).for_each(|number| use_one(&registry, "bob", &distinct(number)));
    assert_eq!(registry.len(), 70, "I450");
    let secret = format!("{}{suffix}", distinct(4));
    use_one(&registry, "carol", &secret);
    assert!(passes(&registry, suffix), "I450");
    assert_masked(&registry, &secret, "I450");
    assert_masked(&registry, &distinct(4), "I450");
}

#[test]
fn i450_a_secret_within_another_is_masked() {
    let registry = registry();
    // One password, for two servers that expect it otherwise.
    use_one(&registry, "bob", RANDOM);
    use_one(&registry, "bob", &format!("v1-{RANDOM}"));
    use_one(&registry, "bob", &format!("Basic {}", base64(&format!("bob:{RANDOM}"))));
    use_one(&registry, "bob", RANDOM);
    assert_masked(&registry, RANDOM, "I450");
    assert_masked(&registry, &format!("v1-{RANDOM}"), "I450");
}

#[test]
fn i451_words_are_masked_only_at_their_own_server() {
    let words = "structuredContent.application/json";
    let [own, other] = ["https://a.example.com", "https://b.example.com"];
    for (secret, passes_elsewhere) in
        [(words, true), ("1234567890123456", true), (UUID, false), (RANDOM, false)]
    {
        let registry = registry();
        let bob = Watched::new(&registry, &user("bob"));
        bob.add(&tails_at(secret, own), None).unwrap();
        for (server, passes) in [(own, false), (other, passes_elsewhere)] {
            let alice = Watched::new(&registry, &user("alice"));
            alice.add(&tails_at(TOKEN, server), None).unwrap();
            let times = masked(&alice, &format!("\"{secret}\"")).1;
            assert_eq!(times == 0, passes, "I451 {secret} {server}");
        }
    }
}

#[test]
fn i452_other_encodings_are_masked() {
    let list = |write: fn(u8) -> String, between: &str| {
        TOKEN.bytes().map(write).collect::<Vec<_>>().join(between)
    };
    let utf_16 = |big: bool| {
        let zeros = |byte: u8| {
            if big { format!("\0{}", char::from(byte)) } else { format!("{}\0", char::from(byte)) }
        };
        each(TOKEN, zeros)
    };
    for watched in [used(TOKEN), used_by_bob(TOKEN)] {
        for form in [
            each(TOKEN, |byte| format!("&#{byte:09};")),
            each(TOKEN, |byte| format!("&#x{byte:07x};")),
            each(TOKEN, |byte| format!("&#{}{byte};", "0".repeat(40))),
            each(TOKEN, |byte| format!("&#{byte}")),
            each(TOKEN, |byte| format!("%u00{byte:02X}")),
            each(TOKEN, |byte| format!("\\{byte:03o}")),
            each(TOKEN, |byte| format!("\\U{byte:08x}")),
            TOKEN.replace('+', "&plus;").replace('/', "&sol;").replace('_', "&lowbar;"),
            list(|byte| format!("{byte:02x}"), ":"),
            list(|byte| format!("{byte:02X}"), " "),
            list(|byte| format!("{byte:02x}"), "-"),
            list(|byte| format!("{byte:02x}"), "\n"),
            list(|byte| format!("0x{byte:02x}"), ", "),
            list(|byte| byte.to_string(), ","),
            list(|byte| byte.to_string(), ", "),
            list(|byte| byte.to_string(), ",\n    "),
            utf_16(true),
            utf_16(false),
            each(TOKEN, |byte| format!("{}\0\0\0", char::from(byte))),
            base64(&utf_16(false)),
            hex(&utf_16(true)),
            each(&utf_16(false), |byte| format!("\\u{byte:04x}")),
            percent(&utf_16(true)),
        ] {
            let text = format!("is {form} so");
            let (out, times) = masked(&watched, &text);
            assert!(times >= 1 && out.len() == text.len(), "I452 {form:?}");
            assert!(!out.contains(&form[4..form.len() - 4]), "I452 {form:?}");
            assert!(hits(&watched, out.as_bytes()).is_empty(), "I452 {form:?}");
            assert!(out.starts_with("is ") && out.ends_with(" so"), "I452 {out:?}");
            let (log, _) = AuditLog::in_memory();
            let (trail, _terminal) = Trail::for_test(&log);
            for size in [1, 7, 50, 1000] {
                let chunks = text.as_bytes().chunks(size);
                let passed = passed(&watched, Framing::None, &trail, chunks);
                assert_eq!(String::from_utf8(passed).unwrap(), out, "I452 {size} {form:?}");
            }
        }
    }
}

#[test]
fn lists_of_other_numbers_pass() {
    let numbers: Vec<String> = (0..500_u32).map(|at| (at * 7 % 251).to_string()).collect();
    for watched in [used(TOKEN), used_by_bob(TOKEN)] {
        for between in [",", ", ", " ", ":", "\n", ".", "-"] {
            let text = numbers.join(between);
            assert_eq!(masked(&watched, &text), (text.clone(), 0), "{between:?}");
        }
    }
}

#[test]
fn i450_common_parts_make_no_credential_change_places() {
    let registry = registry();
    let suffix = "-7Kp2Lm9Qr4Tz8Wv3Xb6Nc1Hd5Gf0";
    let all: Vec<_> = (0..4).map(|number| tails(&format!("key{number}{suffix}"))).collect();
    let use_all = || {
        all.iter().for_each(|one| Watched::new(&registry, &user("bob")).add(one, None).unwrap());
    };
    (0..3).for_each(|_| use_all());
    let entries = || -> Vec<_> {
        all.iter().map(|one| one.registered(|known| known.entries[0].clone()).unwrap()).collect()
    };
    let before = entries();
    use_all();
    assert!(before.iter().zip(entries()).all(|(one, other)| Arc::ptr_eq(one, &other)), "I450");
    for number in 0..4 {
        assert_masked(&registry, &format!("key{number}{suffix}"), "I450");
    }
}

proptest! {
    #[test]
    fn i449_other_pieces_of_credentials_pass(
        token in "[A-Za-z0-9]{34}",
        first in 0..10_usize,
        length in 15..19_usize,
    ) {
        let registry = registry();
        use_one(&registry, "bob", &token);
        prop_assert!(passes(&registry, &token[first..first + length]));
        prop_assert!(!passes(&registry, &token));
    }
}
