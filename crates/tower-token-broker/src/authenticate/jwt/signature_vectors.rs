//! Wycheproof's ECDSA and Ed25519 files and the CCTV vectors, verified by the function that
//! verifies tokens.

use std::{io::Write as _, path::PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value as Json, json};

use super::{
    algorithm::{Algorithm, Algorithms},
    key::Key,
    keys::{KeySet, WantedKey},
};
use crate::clock::Clock;

#[test]
fn wycheproof_ecdsa_comes_out_as_it_says() {
    let Some(file) = read("wycheproof/ecdsa_secp256r1_sha256_p1363_test.json") else { return };
    let mut run = 0;
    for group in file["testGroups"].as_array().unwrap() {
        let point = hex(&group["publicKey"]["uncompressed"]);
        let jwk = json!({
            "kty": "EC", "crv": "P-256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        });
        let key = key(&jwk, Algorithm::Es256).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let verified = key.verify(&hex(&test["msg"]), &hex(&test["sig"]));
            assert_eq!(
                verified,
                test["result"] == "valid",
                "tcId {} {}",
                test["tcId"],
                test["comment"]
            );
            run += 1;
        }
    }
    assert_eq!(run, file["numberOfTests"].as_u64().unwrap());
}

#[test]
fn wycheproof_ed25519_comes_out_as_it_says() {
    let Some(file) = read("wycheproof/ed25519_test.json") else { return };
    let mut run = 0;
    for group in file["testGroups"].as_array().unwrap() {
        let x = URL_SAFE_NO_PAD.encode(hex(&group["publicKey"]["pk"]));
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        let key = key(&jwk, Algorithm::EdDsa).unwrap();
        for test in group["tests"].as_array().unwrap() {
            let verified = key.verify(&hex(&test["msg"]), &hex(&test["sig"]));
            assert_eq!(
                verified,
                test["result"] == "valid",
                "tcId {} {}",
                test["tcId"],
                test["comment"]
            );
            run += 1;
        }
    }
    assert_eq!(run, file["numberOfTests"].as_u64().unwrap());
}

/// Strict: keys and commitments of small order or with a second encoding are refused, and so are
/// signatures that only hold after multiplication by the cofactor. All others verify.
#[test]
fn b055_cctv_comes_out_strict() {
    let Some(vectors) = read("ed25519-cctv/ed25519vectors.json") else { return };
    let (mut run, mut accepted) = (0, 0);
    for vector in vectors.as_array().unwrap() {
        let flags: Vec<_> =
            vector["flags"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let has = |flag: &str| flags.contains(&flag);
        let weak_key = has("low_order_A") || has("non_canonical_A");
        let weak =
            weak_key || has("low_order_R") || has("non_canonical_R") || has("low_order_residue");
        let x = URL_SAFE_NO_PAD.encode(hex(&vector["key"]));
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
        let key = key(&jwk, Algorithm::EdDsa);
        assert_eq!(key.is_none(), weak_key, "B055 {} {flags:?}", vector["number"]);
        let verified = key.is_some_and(|key| {
            key.verify(vector["msg"].as_str().unwrap().as_bytes(), &hex(&vector["sig"]))
        });
        assert_eq!(verified, !weak, "B055 {} {flags:?}", vector["number"]);
        run += 1;
        accepted += u32::from(verified);
    }
    assert_eq!(run, 914);
    assert!(accepted > 0);
}

fn key(jwk: &Json, algorithm: Algorithm) -> Option<std::sync::Arc<Key>> {
    let set =
        KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes(), Algorithms::from(algorithm))
            .ok()?;
    set.find(
        &WantedKey { id: None, algorithm, claims: bytes::Bytes::new() },
        Clock::system().read(),
    )
    .ok()
}

fn hex(text: &Json) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    text.as_str()
        .unwrap()
        .as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Next to the repository, or at `TOKEN_BROKER_VECTORS`; a clone without the files reports that.
#[expect(clippy::disallowed_methods, reason = "a test's own environment and files")]
fn read(name: &str) -> Option<Json> {
    let root = std::env::var("TOKEN_BROKER_VECTORS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    match std::fs::read(root.join(name)) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(_) => {
            // `eprintln!` would be captured by the test harness if the test passes.
            let root = root.display();
            writeln!(std::io::stderr(), "NOT RUN: no {name} in {root}; set TOKEN_BROKER_VECTORS")
                .unwrap();
            None
        }
    }
}
