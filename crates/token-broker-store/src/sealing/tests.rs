//! Hostile cases of sealed values and of key files.

use std::{collections::HashSet, fs, io::Write as _, path::PathBuf, thread};

use aws_lc_rs::aead::{AES_128_GCM_SIV, AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_token_broker::Secret;

use super::*;

const SECRET: &str = "1//0gRefreshTokenOfAlice";

fn context() -> SealingContext {
    SealingContext::new("grant").text("https://i.example").text("alice").text("refresh_token")
}

#[expect(clippy::disallowed_methods, reason = "a value of a test")]
fn text(secret: &Secret) -> &str {
    secret.expose_text().unwrap()
}

fn ring() -> KeyRing {
    KeyRing::parse(text(&KeyRing::generate_line())).unwrap()
}

fn secret() -> Secret {
    Secret::from_text(SECRET.to_owned())
}

#[tokio::test]
async fn o272_no_flipped_bit_opens() {
    let (data_key, keys) = (DataKey::generate(), ring());
    let sealed = data_key.seal(&context(), &secret());
    assert_eq!(text(&data_key.open(&context(), &sealed).unwrap()), SECRET);
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(data_key.open(&context(), &flipped).is_err(), "O272 bit {bit}");
    }
    let keys = BoxKeyWrap::new(keys);
    let wrapped = data_key.wrap(&keys, &context()).await.unwrap();
    for bit in 0..wrapped.bytes.len() * 8 {
        let mut flipped = wrapped.clone();
        flipped.bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = DataKey::unwrap(&keys, &flipped, &context()).await;
        assert_eq!(opened.err(), Some(KeyWrapError::Unreadable), "O272 bit {bit} of the key");
    }
    for bit in 0..wrapped.key_id.as_str().len() * 8 {
        let mut id = wrapped.key_id.as_str().as_bytes().to_vec();
        id[bit / 8] ^= 1 << (bit % 8);
        let Ok(id) = String::from_utf8(id) else { continue };
        let flipped = WrappedKey::new(KeyId::new(&id), wrapped.bytes.clone());
        let opened = DataKey::unwrap(&keys, &flipped, &context()).await;
        assert_eq!(opened.err(), Some(KeyWrapError::UnknownKey { key_id: KeyId::new(&id) }));
    }
}

#[test]
fn o273_no_other_length_or_version_opens() {
    let data_key = DataKey::generate();
    let sealed = data_key.seal(&context(), &secret());
    for length in 0..sealed.len() {
        assert!(data_key.open(&context(), &sealed[..length]).is_err(), "O273 {length}");
        assert!(data_key.open(&context(), &sealed[length + 1..]).is_err(), "O273 {length}");
    }
    for more in [&[0][..], &[0; 16], &sealed] {
        assert!(data_key.open(&context(), &[&sealed, more].concat()).is_err(), "O273");
        assert!(data_key.open(&context(), &[more, &sealed].concat()).is_err(), "O273");
    }
    for version in (0..=u8::MAX).filter(|version| *version != sealed[0]) {
        let mut other = sealed.clone();
        other[0] = version;
        assert!(data_key.open(&context(), &other).is_err(), "O273 version {version}");
    }
}

#[test]
fn o272_no_value_opens_in_another_context() {
    let data_key = DataKey::generate();
    let sealed = data_key.seal(&context(), &secret());
    for other in [
        SealingContext::new("grant").text("https://i.example").text("bob").text("refresh_token"),
        SealingContext::new("grant").text("https://i.example").text("alice").text("access_tokens"),
        SealingContext::new("shared").text("https://i.example").text("alice").text("refresh_token"),
        SealingContext::new("grant").text("https://i.examplealice").text("refresh_token"),
        context().number(0),
    ] {
        assert!(data_key.open(&other, &sealed).is_err(), "O272 {other:?}");
    }
    assert!(DataKey::generate().open(&context(), &sealed).is_err(), "O272 another key");
}

#[test]
fn o278_no_nonce_repeats() {
    const THREADS: usize = 8;
    const EACH: usize = 125_000;
    let data_key = &DataKey::generate();
    let nonces = thread::scope(|scope| {
        let run = || {
            let seal = |_| <[u8; 12]>::try_from(&data_key.seal(&context(), &secret())[9..21]);
            (0..EACH).map(seal).collect::<Result<Vec<_>, _>>().unwrap()
        };
        let running: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<HashSet<_>>()
    });
    assert_eq!(nonces.len(), THREADS * EACH, "O278");
}

#[tokio::test]
async fn o277_no_other_ring_unwraps() {
    let data_key = DataKey::generate();
    let wrapped = data_key.wrap(&BoxKeyWrap::new(ring()), &context()).await.unwrap();
    let other = BoxKeyWrap::new(ring());
    let opened = DataKey::unwrap(&other, &wrapped, &context()).await.err();
    let key_id = wrapped.key_id.clone();
    assert_eq!(opened, Some(KeyWrapError::UnknownKey { key_id }), "O277");
    // Also if the dump is edited to name the key that is given.
    let renamed = WrappedKey::new(other.current(), wrapped.bytes);
    let opened = DataKey::unwrap(&other, &renamed, &context()).await.err();
    assert_eq!(opened, Some(KeyWrapError::Unreadable), "O277");
}

#[test]
fn o283_keys_that_can_be_guessed_are_refused() {
    let encode = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
    let counting: Vec<u8> = (0..32).collect();
    let descending: Vec<u8> = (0..32).rev().map(|octet| octet * 7).collect();
    for (line, reason) in [
        (encode(&[0; 32]), WeakKey::Zeros),
        (encode(&[0x5a; 32]), WeakKey::Pattern),
        (encode(&b"\x01\x9b\xf0\x33".repeat(8)), WeakKey::Pattern),
        (encode(&[&[0; 24][..], b"\x83\x1f\xa0\xcc\x55\x07\xee\x91"].concat()), WeakKey::Pattern),
        (encode(&counting), WeakKey::Pattern),
        (encode(&descending), WeakKey::Pattern),
        (encode(b"correct horse battery staple 123"), WeakKey::Text),
        (encode(b"dGhpcyBpcyBub3QgYSByYW5kb20ga2V5"), WeakKey::Text),
        (encode(&counting[..16]), WeakKey::Length { octets: 16 }),
        (encode(&[7; 33]), WeakKey::Length { octets: 33 }),
        (encode(&[7; 64]), WeakKey::Length { octets: 64 }),
        ("AAAA".into(), WeakKey::Length { octets: 3 }),
        ("changeme".into(), WeakKey::Placeholder),
        ("CHANGE-ME".into(), WeakKey::Placeholder),
        ("<your key here>".into(), WeakKey::Placeholder),
        ("your_secret_here".into(), WeakKey::Placeholder),
        ("password".into(), WeakKey::Placeholder),
        (format!("{}=", encode(&[9; 32])), WeakKey::Encoding),
        ("key = abc".into(), WeakKey::Encoding),
        ("\u{feff}AAAA".into(), WeakKey::Encoding),
        ("ab+/".into(), WeakKey::Encoding),
    ] {
        let good = KeyRing::generate_line();
        let text = format!("# the keys\n{}\n\n{line}\n", text(&good));
        let error = KeyRing::parse(&text).unwrap_err();
        assert_eq!(error, KeyRingError::Weak { line: 4, reason }, "O283 {line}");
        let printed = format!("{error} {error:?}");
        assert!(!printed.contains(&line), "O283 {printed}");
        assert!(printed.contains("openssl rand"), "O283 {printed}");
    }
    for empty in ["", "\n", "# only a comment\n"] {
        assert_eq!(KeyRing::parse(empty).err(), Some(KeyRingError::Empty), "O283");
    }
    let line = KeyRing::generate_line();
    let twice = format!("{0}\n{0}", text(&line));
    assert_eq!(KeyRing::parse(&twice).err(), Some(KeyRingError::Repeated { line: 2 }), "O283");
    let many: String = (0..65).map(|_| text(&KeyRing::generate_line()).to_owned() + "\n").collect();
    assert_eq!(KeyRing::parse(&many).err(), Some(KeyRingError::TooLong), "O283");
}

#[cfg(unix)]
#[test]
fn o283_a_key_file_that_others_may_use_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broker.key");
    let line = KeyRing::generate_line();
    fs::write(&path, text(&line)).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o660, 0o777, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = KeyRing::read_file(&path).unwrap_err();
        assert_eq!(error, KeyRingError::Mode { path: path.clone(), mode }, "O283 {mode:o}");
        assert!(error.to_string().contains("chmod 600"), "O283 {error}");
        assert!(!error.to_string().contains(text(&line)), "O283 {error}");
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(KeyRing::read_file(&path).unwrap().key_ids().count(), 1, "{mode:o}");
    }
    let missing = KeyRing::read_file(&folder.path().join("none")).unwrap_err();
    assert!(matches!(missing, KeyRingError::File { .. }), "{missing}");
}

#[tokio::test]
async fn o283_one_key_for_two_purposes_is_two_keys() {
    let octets = [&[0x91; 8][..], &(0_u8..24).map(|octet| octet * 11).collect::<Vec<_>>()].concat();
    let line = URL_SAFE_NO_PAD.encode(&octets);
    let keys = BoxKeyWrap::new(KeyRing::parse(&line).unwrap());
    let wrapped = DataKey::generate().wrap(&keys, &context()).await.unwrap();
    // As octets of a data key, the key-encryption key opens nothing that it has wrapped.
    let as_data_key = {
        let raw = Secret::new(octets.clone());
        let wrapped = keys.wrap(&raw, context().as_bytes()).await.unwrap();
        DataKey::unwrap(&keys, &wrapped, &context()).await.unwrap()
    };
    let wrapping = SealingContext::new("wrapped key").part(context().as_bytes());
    for context in [context(), wrapping] {
        assert!(as_data_key.open(&context, &wrapped.bytes).is_err(), "O283");
    }
    // Neither does its ID show any of its octets.
    let id = URL_SAFE_NO_PAD.decode(keys.current().as_str()).unwrap();
    assert!(!octets.windows(4).any(|part| id.windows(4).any(|of_id| of_id == part)), "O283");
}

#[tokio::test]
async fn the_first_key_wraps_and_all_unwrap() {
    let (old, new) = (KeyRing::generate_line(), KeyRing::generate_line());
    let before = BoxKeyWrap::new(KeyRing::parse(text(&old)).unwrap());
    let both = KeyRing::parse(&format!("{}\n{}", text(&new), text(&old))).unwrap();
    let after = BoxKeyWrap::new(KeyRing::parse(text(&new)).unwrap());
    let data_key = DataKey::generate();
    let sealed = data_key.seal(&context(), &secret());
    let wrapped = data_key.wrap(&before, &context()).await.unwrap();
    let both = BoxKeyWrap::new(both);
    let again = DataKey::unwrap(&both, &wrapped, &context()).await.unwrap();
    let rewrapped = again.wrap(&both, &context()).await.unwrap();
    assert_eq!(rewrapped.key_id, after.current());
    let opened = DataKey::unwrap(&after, &rewrapped, &context()).await.unwrap();
    assert_eq!(text(&opened.open(&context(), &sealed).unwrap()), SECRET);
    assert!(DataKey::unwrap(&after, &wrapped, &context()).await.is_err());
}

#[test]
fn wycheproof_aes_gcm_siv_comes_out_as_it_says() {
    let Some(file) = read("wycheproof/aes_gcm_siv_test.json") else { return };
    let (mut run, mut valid) = (0, 0);
    for group in file["testGroups"].as_array().unwrap() {
        let algorithm = if group["keySize"] == 256 { &AES_256_GCM_SIV } else { &AES_128_GCM_SIV };
        for test in group["tests"].as_array().unwrap() {
            let field = |name: &str| hex(test[name].as_str().unwrap());
            let key = LessSafeKey::new(UnboundKey::new(algorithm, &field("key")).unwrap());
            let nonce = || Nonce::try_assume_unique_for_key(&field("iv")).unwrap();
            let aad = || Aad::from(field("aad"));
            let mut sealed = [field("ct"), field("tag")].concat();
            let opened = key.open_in_place(nonce(), aad(), &mut sealed).map(|text| text.to_vec());
            let name = format!("tcId {} {}", test["tcId"], test["comment"]);
            if test["result"] == "valid" {
                assert_eq!(opened, Ok(field("msg")), "{name}");
                let mut sealing = field("msg");
                key.seal_in_place_append_tag(nonce(), aad(), &mut sealing).unwrap();
                assert_eq!(sealing, [field("ct"), field("tag")].concat(), "{name}");
                valid += 1;
            } else {
                assert!(opened.is_err(), "{name}");
            }
            run += 1;
        }
    }
    assert_eq!(run, file["numberOfTests"].as_u64().unwrap());
    assert!(valid > 0 && valid < run);
}

fn hex(text: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(digits).collect()
}

/// Next to the repository, or at `TOKEN_BROKER_VECTORS`; a clone without the files reports that.
#[expect(clippy::disallowed_methods, reason = "a test's own environment and files")]
fn read(name: &str) -> Option<serde_json::Value> {
    let root = std::env::var("TOKEN_BROKER_VECTORS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    match fs::read(root.join(name)) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(_) => {
            let root = root.display();
            writeln!(std::io::stderr(), "NOT RUN: no {name} in {root}; set TOKEN_BROKER_VECTORS")
                .unwrap();
            None
        }
    }
}
