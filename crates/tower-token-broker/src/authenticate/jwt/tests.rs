//! Tokens and key sets that a verifier must refuse, by number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tower_service::Service;

use super::*;
use crate::{
    authenticate::{PresentedToken, VerifyError, VerifyRequest, VerifyToken},
    clock::{Clock, LEEWAY, Timestamp},
    json::Value,
    principal::{Confirmation, Resource, Verified},
    refusal::Reason,
    secret::Secret,
    tasks::Tasks,
};

pub(in crate::authenticate) const ISSUER: &str = "https://broker.example.com";
pub(in crate::authenticate) const RESOURCE: &str = "https://broker.example.com/crm/mcp";
pub(in crate::authenticate) const NOW: u64 = 1_800_000_000;

/// One key of each algorithm.
pub(in crate::authenticate) struct Signer {
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Signer {
    pub(in crate::authenticate) fn new() -> Self {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref()).unwrap(),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).unwrap(),
        }
    }

    fn ec_jwk(&self) -> Json {
        let point = self.ec.public_key().as_ref();
        let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "kid": "ec", "x": x, "y": y})
    }

    fn ed_jwk(&self) -> Json {
        let x = b64(self.ed.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x})
    }

    pub(in crate::authenticate) fn keys(&self) -> Keys {
        set([self.ec_jwk(), self.ed_jwk()]).unwrap()
    }

    /// Signs with the key that the header's `alg` names; any other `alg` with the EC key.
    fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
        let signature = if header.contains("\"EdDSA\"") {
            self.ed.sign(message.as_bytes()).as_ref().to_vec()
        } else {
            self.ec.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
        };
        format!("{message}.{}", b64(&signature))
    }

    pub(in crate::authenticate) fn sign(&self, header: &Json, claims: &Json) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn set(keys: impl IntoIterator<Item = Json>) -> Result<Keys, KeysError> {
    Keys::parse(json!({"keys": Vec::from_iter(keys)}).to_string().as_bytes())
}

pub(in crate::authenticate) fn header() -> Json {
    json!({"alg": "ES256", "typ": "at+jwt", "kid": "ec"})
}

pub(in crate::authenticate) fn claims() -> Json {
    json!({
        "iss": ISSUER, "aud": RESOURCE, "sub": "alice", "client_id": "inspector", "jti": "token-1",
        "iat": NOW, "nbf": NOW, "exp": NOW + 600, "scope": "crm:read crm:write",
        "token_family": "family-1",
    })
}

fn with(mut object: Json, name: &str, value: Json) -> Json {
    object[name] = value;
    object
}

fn without(mut object: Json, name: &str) -> Json {
    object.as_object_mut().unwrap().remove(name);
    object
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_unix_seconds(NOW))
}

/// A verifier, and the clock of its broker.
struct Timed(JwtVerifier, Clock);

async fn verify_by(Timed(verifier, clock): &Timed, token: &str) -> Result<Verified, VerifyError> {
    let token = PresentedToken::new(Secret::from_text(token.into()));
    let resource = Resource::parse(RESOURCE).unwrap();
    verifier.verify(&VerifyRequest::new(&token, &resource, clock)).await
}

async fn refused(keys: &Keys, token: &str) -> Option<Reason> {
    let verifier = Timed(JwtVerifier::new(ISSUER, keys), clock());
    verify_by(&verifier, token).await.err().map(|rejected| rejected.reason())
}

#[tokio::test]
async fn a_token_of_the_profile_proves_what_it_says() {
    let signer = Signer::new();
    for (header, claims) in [
        (header(), claims()),
        (json!({"alg": "EdDSA", "typ": "application/AT+JWT", "kid": "ed"}), claims()),
        (without(header(), "kid"), with(claims(), "aud", json!([RESOURCE]))),
    ] {
        let verifier = Timed(JwtVerifier::new(ISSUER, signer.keys()), clock());
        let claims = with(
            claims,
            "act",
            json!({"sub": "agent", "act": {"iss": "https://other.example", "sub": "first"}}),
        );
        let verified = verify_by(&verifier, &signer.sign(&header, &claims)).await.unwrap();
        let principal = crate::principal::Principal::of(&verified);
        assert_eq!(
            (principal.issuer(), principal.subject(), principal.client()),
            (ISSUER, "alice", "inspector")
        );
        assert_eq!((principal.token_id(), principal.family()), ("token-1", Some("family-1")));
        assert_eq!(principal.scopes().to_string(), "crm:read crm:write");
        assert_eq!(principal.expires_at(), Timestamp::from_unix_seconds(NOW + 600));
        let actor = principal.actor().unwrap();
        assert_eq!((actor.user().issuer(), actor.user().subject()), (ISSUER, "agent"));
        let before = actor.before().unwrap();
        assert_eq!(
            (before.user().issuer(), before.user().subject()),
            ("https://other.example", "first")
        );
        assert!(before.before().is_none());
    }
}

#[tokio::test]
async fn claims_beyond_the_profile_are_kept() {
    let signer = Signer::new();
    let kept = |claims: Json| {
        let verifier = JwtVerifier::new(ISSUER, signer.keys()).keep_claims(["department", "notes"]);
        let token = signer.sign(&header(), &claims);
        async move {
            let verified = verify_by(&Timed(verifier, clock()), &token).await.unwrap();
            crate::principal::Principal::of(&verified)
        }
    };
    let all = with(with(claims(), "department", json!("sales")), "salary", json!(1));
    let all = with(with(all, "groups", json!(["staff", "eu"])), "acr", json!("mfa"));
    let principal = kept(with(all, "cnf", json!({"x5t#S256": "c", "jkt": "k"}))).await;
    assert_eq!(principal.claim("department").and_then(Value::as_str).as_deref(), Some("sales"));
    assert!(principal.claim("salary").is_none(), "it was not asked for");
    assert_eq!(principal.groups(), &["staff".into(), "eu".into()]);
    assert_eq!(principal.acr(), Some("mfa"));
    let key = Confirmation::JwkThumbprint("k".into());
    assert_eq!(principal.confirmation(), Some(&key));

    let principal = kept(with(claims(), "cnf", json!({"x5t#S256": "c"}))).await;
    let certificate = Confirmation::CertificateThumbprint("c".into());
    assert_eq!(principal.confirmation(), Some(&certificate));

    let other = with(with(claims(), "groups", json!("staff")), "acr", json!(1));
    let principal = kept(other).await;
    assert_eq!((principal.groups(), principal.acr()), (&["staff".into()][..], None));
    assert!(principal.confirmation().is_none());
}

/// Claims in a form in which a policy, or the layer, would not see them.
pub(in crate::authenticate) fn unreadable_claims() -> Vec<(&'static str, Json)> {
    let mut rows: Vec<_> = [
        json!(null),
        json!(7),
        json!(true),
        json!({"staff": true}),
        json!({}),
        json!(["staff", 7]),
        json!([null]),
        json!([["staff"]]),
        json!([{"name": "staff"}]),
    ]
    .map(|groups| ("groups", groups))
    .into();
    rows.extend(
        [
            json!(null),
            json!("k"),
            json!(["k"]),
            json!({}),
            json!({"jwk": {}}),
            json!({"jku": "https://a.example"}),
            json!({"kid": "k"}),
            json!({"x5t": "c"}),
            json!({"JKT": "k"}),
            json!({"jkt": 7}),
            json!({"jkt": ""}),
            json!({"jkt": null}),
            json!({"jkt": ["k"]}),
            json!({"jkt": 7, "x5t#S256": "c"}),
            json!({"jkt": "k", "x5t#S256": 7}),
        ]
        .map(|cnf| ("cnf", cnf)),
    );
    rows
}

#[tokio::test]
async fn b497_b498_unreadable_groups_and_keys_are_refused() {
    let signer = Signer::new();
    let verifier = Timed(JwtVerifier::new(ISSUER, signer.keys()), clock());
    let refused = async |name: &str, value: &Json| {
        let token = signer.sign(&header(), &with(claims(), name, value.clone()));
        verify_by(&verifier, &token).await.err().map(|error| error.reason())
    };
    for (name, value) in unreadable_claims() {
        let case = format!("B497 B498 {name} {value}");
        assert_eq!(refused(name, &value).await, Some(Reason::JwtClaimType), "{case}");
    }
    for (name, value) in [
        ("groups", json!([])),
        ("groups", json!("staff")),
        ("groups", json!(["staff", "eu"])),
        ("cnf", json!({"jkt": "k"})),
        ("cnf", json!({"x5t#S256": "c", "jwk": {}})),
    ] {
        assert_eq!(refused(name, &value).await, None, "{name} {value}");
    }
}

#[tokio::test]
async fn b499_a_subject_is_only_the_named_claim() {
    let signer = Signer::new();
    for claim in ["oid", "employee", "Sub", "https://a.example/id"] {
        let profile = TokenProfile::rfc9068().subject_from(claim);
        let verifier = JwtVerifier::new(ISSUER, signer.keys()).profile(profile);
        let verifier = Timed(verifier, clock());
        for (value, expected) in [
            (None, Some(Reason::JwtMissingClaim)),
            (Some(json!("")), Some(Reason::JwtMissingClaim)),
            (Some(json!(null)), Some(Reason::JwtClaimType)),
            (Some(json!(7)), Some(Reason::JwtClaimType)),
            (Some(json!(["bob"])), Some(Reason::JwtClaimType)),
            (Some(json!("bob")), None),
        ] {
            let claims = match &value {
                Some(value) => with(claims(), claim, value.clone()),
                None => claims(),
            };
            let found = verify_by(&verifier, &signer.sign(&header(), &claims)).await;
            assert_eq!(found.err().map(|error| error.reason()), expected, "B499 {claim} {value:?}");
        }
    }
}

#[tokio::test]
async fn too_many_claims_are_refused() {
    let signer = Signer::new();
    let groups: Vec<_> = (0..1001).map(|number| number.to_string()).collect();
    let long = with(claims(), "notes", json!("n".repeat(5000)));
    let ignored = with(claims(), "other", json!("n".repeat(5000)));
    for (claims, refused) in [
        (long, Some(Reason::JwtClaimType)),
        (with(claims(), "groups", json!(groups)), Some(Reason::JwtClaimType)),
        (with(claims(), "groups", json!(groups[1..])), None),
        (ignored, None),
    ] {
        let verifier = JwtVerifier::new(ISSUER, signer.keys()).keep_claims(["notes"]);
        let verifier = Timed(verifier, clock());
        let verified = verify_by(&verifier, &signer.sign(&header(), &claims)).await;
        assert_eq!(verified.err().map(|error| error.reason()), refused);
    }
}

#[tokio::test]
async fn hostile_headers_are_refused_by_what_is_wrong() {
    let signer = Signer::new();
    let keys = signer.keys();
    for (case, header, reason) in [
        ("B026", with(header(), "alg", json!("none")), Reason::JwtAlgorithm),
        ("B026", with(header(), "alg", json!("None")), Reason::JwtAlgorithm),
        ("B026", with(header(), "alg", json!("nONE")), Reason::JwtAlgorithm),
        ("B026", with(header(), "alg", json!("es256")), Reason::JwtAlgorithm),
        ("B026", with(header(), "alg", json!(["ES256"])), Reason::JwtAlgorithm),
        ("B026", without(header(), "alg"), Reason::JwtAlgorithm),
        ("B027", with(header(), "alg", json!("HS256")), Reason::JwtAlgorithm),
        ("B028", with(header(), "kid", json!("ed")), Reason::JwtAlgorithmKeyMismatch),
        (
            "B028",
            json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "ec"}),
            Reason::JwtAlgorithmKeyMismatch,
        ),
        ("B028", with(header(), "alg", json!("RS256")), Reason::JwtAlgorithm),
        ("B029", with(header(), "kid", json!("../../../dev/null")), Reason::JwtKeyId),
        ("B029", with(header(), "kid", json!("' OR 1=1--")), Reason::JwtKeyId),
        ("B029", with(header(), "kid", json!("k".repeat(4096))), Reason::JwtKeyId),
        ("B029", with(header(), "kid", json!("e\0c")), Reason::JwtKeyId),
        ("B029", with(header(), "kid", json!("")), Reason::JwtKeyId),
        ("B029", with(header(), "kid", json!(1)), Reason::JwtKeyId),
        ("B029", with(header(), "kid", json!(["ec"])), Reason::JwtKeyId),
        ("B029", with(header(), "kid", Json::Null), Reason::JwtKeyId),
        ("B031", with(header(), "jku", json!("https://evil.example/jwks")), Reason::JwtHeaderKey),
        ("B031", with(header(), "x5u", json!("https://evil.example/cert")), Reason::JwtHeaderKey),
        ("B031", with(header(), "jwk", signer.ec_jwk()), Reason::JwtHeaderKey),
        ("B031", with(header(), "x5c", json!(["MIIB"])), Reason::JwtHeaderKey),
        ("B032", with(header(), "crit", json!(["exp"])), Reason::JwtCritical),
        ("B032", with(header(), "crit", json!(["bork"])), Reason::JwtCritical),
        ("B032", with(header(), "crit", json!([])), Reason::JwtCritical),
        ("B032", with(header(), "crit", json!("b64")), Reason::JwtCritical),
        ("B032", with(header(), "crit", json!(["not-there"])), Reason::JwtCritical),
        ("B032", with(header(), "b64", json!(false)), Reason::JwtCritical),
        ("B032", with(header(), "zip", json!("DEF")), Reason::JwtCritical),
        ("B035", with(header(), "enc", json!("A128GCM")), Reason::JwtFormat),
        ("typ", without(header(), "typ"), Reason::JwtType),
        ("typ", with(header(), "typ", json!("JWT")), Reason::JwtType),
        ("typ", with(header(), "typ", json!("id+jwt")), Reason::JwtType),
        ("typ", with(header(), "typ", json!("application/application/at+jwt")), Reason::JwtType),
        ("typ", with(header(), "typ", json!(1)), Reason::JwtType),
    ] {
        assert_eq!(
            refused(&keys, &signer.sign(&header, &claims())).await,
            Some(reason),
            "{case} {header}"
        );
    }
}

#[tokio::test]
async fn b027_a_public_key_is_no_hmac_secret() {
    let signer = Signer::new();
    let point = signer.ec.public_key().as_ref().to_vec();
    let text = signer.ec_jwk().to_string().into_bytes();
    for (secret, algorithm) in [
        (point.clone(), "HS256"),
        (point[1..].to_vec(), "HS256"),
        (text, "HS256"),
        (point, "ES256"),
    ] {
        let header = with(header(), "alg", json!(algorithm));
        let message = format!(
            "{}.{}",
            b64(header.to_string().as_bytes()),
            b64(claims().to_string().as_bytes())
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        let token = format!("{message}.{}", b64(tag.as_ref()));
        let expected =
            if algorithm == "HS256" { Reason::JwtAlgorithm } else { Reason::JwtSignature };
        assert_eq!(refused(&signer.keys(), &token).await, Some(expected), "B027");
    }
}

#[tokio::test]
async fn b030_without_a_kid_one_matching_key_is_tried() {
    let signer = Signer::new();
    let other = Signer::new();
    let token = signer.sign(&without(header(), "kid"), &claims());
    assert_eq!(refused(&signer.keys(), &token).await, None);
    let second = with(other.ec_jwk(), "kid", json!("second"));
    let three = set([signer.ec_jwk(), second, signer.ed_jwk()]).unwrap();
    assert_eq!(refused(&three, &token).await, Some(Reason::JwtKeyId));
    assert_eq!(refused(&three, &signer.sign(&header(), &claims())).await, None);
}

#[tokio::test]
async fn b035_what_is_no_compact_jws_is_refused() {
    let signer = Signer::new();
    let keys = signer.keys();
    let good = signer.sign(&header(), &claims());
    let [head, body, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    for token in [
        String::new(),
        "opaque-upstream-token".into(), // A023
        format!("{head}.{body}"),
        format!("{head}.{body}.{signature}.x"),
        format!("{head}.{body}.{signature}.x.y"),
        format!("{head}..{signature}"),
        format!(".{body}.{signature}"),
        ".".repeat(10_000),
        format!(r#"{{"payload":"{body}","protected":"{head}","signature":"{signature}"}}"#),
        format!(
            r#"{{"payload":"{body}","signatures":[{{"protected":"{head}","signature":"{}"}}]}}"#,
            signature
        ),
        format!(r#"{{"a.b.c":"{body}"}}"#),
    ] {
        assert_eq!(refused(&keys, &token).await, Some(Reason::JwtFormat), "B035 {token}");
    }
    assert_eq!(
        refused(&keys, &"a".repeat(16 * 1024 + 1)).await,
        Some(Reason::TokenTooLarge),
        "A015"
    );
    // The signature is checked last, and an empty one is invalid.
    assert_eq!(
        refused(&keys, &format!("{head}.{body}.")).await,
        Some(Reason::JwtSignature),
        "B026"
    );
}

#[tokio::test]
async fn b036_only_canonical_base64url_is_read() {
    let signer = Signer::new();
    let keys = signer.keys();
    let good = signer.sign(&header(), &claims());
    let [head, body, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    // 64 bytes are 86 characters; the last one has four unused bits.
    let (rest, last) = signature.split_at(85);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = alphabet.find(last).unwrap();
    let spare = char::from(alphabet.as_bytes()[value + 1]);
    for token in [
        format!("{head}=.{body}.{signature}"),
        format!("{head}.{body}==.{signature}"),
        format!("{head}.{body}.{signature}=="),
        format!("{head}.{body}.{rest}{spare}"),
        format!("{head}.{body}.{signature}AAA"),
        format!("+{head}.{body}.{signature}"),
        format!("{head}.{body}.{signature}/"),
        format!("{head}.{body}.?{signature}"),
        format!("{head}.{body}\n.{signature}"),
        format!("{head}. {body}.{signature}"),
        format!("{head}.{body}.{signature}\u{e9}"),
    ] {
        assert_eq!(refused(&keys, &token).await, Some(Reason::JwtEncoding), "B036 {token}");
    }
}

#[tokio::test]
async fn b037_doubled_members_and_broken_json_are_refused() {
    let signer = Signer::new();
    let keys = signer.keys();
    let good = claims().to_string();
    for (header, claims, reason) in [
        (
            r#"{"alg":"none","alg":"EdDSA","typ":"at+jwt"}"#,
            good.as_str(),
            Reason::JwtDuplicateMember,
        ),
        (r#"{"alg":"EdDSA","alg":"none","typ":"at+jwt"}"#, &good, Reason::JwtDuplicateMember),
        (r#"{"alg":"ES256","typ":"at+jwt","\u0061lg":"ES256"}"#, &good, Reason::JwtDuplicateMember),
        (r#"{"alg":"ES256","typ":"at+jwt","x":{"a":1,"a":2}}"#, &good, Reason::JwtDuplicateMember),
        (
            r#"{"alg":"ES256","typ":"at+jwt"} "#,
            r#"{"sub":"alice","sub":"root"}"#,
            Reason::JwtDuplicateMember,
        ),
        (r#"{"alg":"ES256","typ":"at+jwt",}"#, &good, Reason::JwtJson),
        (r#"["ES256"]"#, &good, Reason::JwtJson),
        ("\u{feff}{\"alg\":\"ES256\",\"typ\":\"at+jwt\"}", &good, Reason::JwtJson),
        (r#"{"alg":"ES256","typ":"at+jwt"}"#, "[]", Reason::JwtJson),
        (r#"{"alg":"ES256","typ":"at+jwt"}"#, "alice", Reason::JwtJson),
    ] {
        assert_eq!(
            refused(&keys, &signer.sign_text(header, claims)).await,
            Some(reason),
            "B037 {header} {claims}"
        );
    }
}

#[tokio::test]
async fn hostile_claims_are_refused_by_what_is_wrong() {
    let signer = Signer::new();
    let keys = signer.keys();
    let nested = |depth: usize| {
        (1..depth).fold(json!({"sub": "agent"}), |inner, _| json!({"sub": "agent", "act": inner}))
    };
    for (case, claims, reason) in [
        ("B040", without(claims(), "exp"), Some(Reason::JwtMissingClaim)),
        ("RFC 9068 §2.2 does not want it", without(claims(), "nbf"), None),
        ("B041", with(claims(), "nbf", Json::Null), Some(Reason::JwtClaimType)),
        ("B040", without(claims(), "iat"), Some(Reason::JwtMissingClaim)),
        ("B040", without(claims(), "sub"), Some(Reason::JwtMissingClaim)),
        ("B040", without(claims(), "jti"), Some(Reason::JwtMissingClaim)),
        ("B040", without(claims(), "client_id"), Some(Reason::JwtMissingClaim)),
        ("B040", without(claims(), "iss"), Some(Reason::JwtMissingClaim)),
        ("B040", without(claims(), "aud"), Some(Reason::JwtMissingClaim)),
        ("B040", with(claims(), "sub", json!("")), Some(Reason::JwtMissingClaim)),
        ("B040", with(claims(), "sub", json!(7)), Some(Reason::JwtClaimType)),
        ("B040", with(claims(), "jti", Json::Null), Some(Reason::JwtClaimType)),
        ("B040", with(claims(), "client_id", json!(["inspector"])), Some(Reason::JwtClaimType)),
        ("B040", with(claims(), "sub", json!("s".repeat(1025))), Some(Reason::JwtClaimType)),
        ("B041", with(claims(), "nbf", json!("4000000000")), Some(Reason::JwtClaimType)),
        ("B042", with(claims(), "nbf", json!(NOW + 31)), Some(Reason::JwtNotYetValid)),
        ("B042", with(claims(), "nbf", json!(NOW + 30)), None),
        ("B042", with(claims(), "iat", json!(NOW + 31)), Some(Reason::JwtNotYetValid)),
        ("B042", with(claims(), "iat", json!(NOW + 30)), None),
        (
            "B044",
            with(with(claims(), "iat", json!(NOW - 600)), "exp", json!(NOW - 31)),
            Some(Reason::JwtExpired),
        ),
        (
            "B044",
            with(with(claims(), "iat", json!(NOW - 600)), "exp", json!(NOW - 30)),
            Some(Reason::JwtExpired),
        ),
        ("B044", with(with(claims(), "iat", json!(NOW - 600)), "exp", json!(NOW - 29)), None),
        ("life", with(claims(), "exp", json!(NOW + 24 * 3600)), None),
        ("life", with(claims(), "exp", json!(NOW + 24 * 3600 + 1)), Some(Reason::JwtLifetime)),
        ("life", with(claims(), "exp", json!(NOW - 1)), Some(Reason::JwtLifetime)),
        ("B047", with(claims(), "aud", json!([])), Some(Reason::JwtAudience)),
        ("B047", with(claims(), "aud", json!("")), Some(Reason::JwtAudience)),
        ("B047", with(claims(), "aud", json!([""])), Some(Reason::JwtAudience)),
        ("B047", with(claims(), "aud", json!([null])), Some(Reason::JwtAudience)),
        ("B047", with(claims(), "aud", json!([RESOURCE, RESOURCE])), Some(Reason::JwtAudience)),
        ("B047", with(claims(), "aud", json!({"0": RESOURCE})), Some(Reason::JwtAudience)),
        ("B047", with(claims(), "aud", json!([RESOURCE, "other"])), Some(Reason::JwtAudience)),
        ("B047", with(claims(), "aud", json!(["other", RESOURCE])), Some(Reason::JwtAudience)),
        ("B047", with(claims(), "aud", json!([[RESOURCE]])), Some(Reason::JwtAudience)),
        (
            "A017",
            with(claims(), "aud", json!("https://broker.example.com/mail/mcp")),
            Some(Reason::WrongResource),
        ),
        (
            "A017",
            with(claims(), "aud", json!(["https://broker.example.com/crm/mcp/"])),
            Some(Reason::WrongResource),
        ),
        (
            "A017",
            with(claims(), "aud", json!("https://broker.example.com/CRM/mcp")),
            Some(Reason::WrongResource),
        ),
        (
            "B049",
            with(claims(), "iss", json!("https://broker.example.com/")),
            Some(Reason::JwtIssuer),
        ),
        (
            "B049",
            with(claims(), "iss", json!("https://Broker.example.com")),
            Some(Reason::JwtIssuer),
        ),
        (
            "B049",
            with(claims(), "iss", json!("https://xn--brker-jua.example.com")),
            Some(Reason::JwtIssuer),
        ),
        ("B049", with(claims(), "iss", json!([ISSUER])), Some(Reason::JwtClaimType)),
        ("scope", with(claims(), "scope", json!(["crm:read"])), Some(Reason::JwtClaimType)),
        ("scope", with(claims(), "scope", json!("crm:read\u{7}")), Some(Reason::JwtClaimType)),
        ("scope", with(claims(), "scope", Json::Null), Some(Reason::JwtClaimType)),
        ("scope", without(claims(), "scope"), None),
        ("family", with(claims(), "token_family", json!(1)), Some(Reason::JwtClaimType)),
        ("family", with(claims(), "token_family", json!("")), Some(Reason::JwtMissingClaim)),
        ("act", with(claims(), "act", json!("agent")), Some(Reason::JwtClaimType)),
        ("act", with(claims(), "act", json!({})), Some(Reason::JwtMissingClaim)),
        (
            "act",
            with(claims(), "act", json!({"sub": "a", "act": null})),
            Some(Reason::JwtClaimType),
        ),
        ("act", with(claims(), "act", nested(8)), None),
        ("act", with(claims(), "act", nested(9)), Some(Reason::JwtClaimType)),
    ] {
        assert_eq!(
            refused(&keys, &signer.sign(&header(), &claims)).await,
            reason,
            "{case} {claims}"
        );
    }
}

#[tokio::test]
async fn b039_a_time_is_an_integer_and_nothing_else() {
    let signer = Signer::new();
    let keys = signer.keys();
    for name in ["exp", "nbf", "iat"] {
        for value in [
            "\"1800000600\"",
            "1e400",
            "-1",
            "-0",
            "null",
            "[1800000600]",
            "9223372036854775808",
            "18446744073709551616",
            "1.5",
            "true",
            "1800000600.0",
            "1.8e9",
            "{}",
            "9007199254740993",
        ] {
            let placeholder = with(claims(), name, json!("@"));
            let claims = placeholder.to_string().replace("\"@\"", value);
            let token = signer.sign_text(&header().to_string(), &claims);
            assert_eq!(
                refused(&keys, &token).await,
                Some(Reason::JwtClaimType),
                "B039 {name} {value}"
            );
        }
    }
}

#[tokio::test]
async fn a_signature_for_another_message_is_refused() {
    let signer = Signer::new();
    let keys = signer.keys();
    let (good, other) =
        (signer.sign(&header(), &claims()), Signer::new().sign(&header(), &claims()));
    assert_eq!(refused(&keys, &other).await, Some(Reason::JwtSignature));
    let forged = with(claims(), "sub", json!("root"));
    let signature = good.rsplit('.').next().unwrap();
    let token = format!(
        "{}.{}.{signature}",
        b64(header().to_string().as_bytes()),
        b64(forged.to_string().as_bytes())
    );
    assert_eq!(refused(&keys, &token).await, Some(Reason::JwtSignature));
    // ECDSA of all zeros (CVE-2022-21449), and an Ed25519 commitment of small order.
    let message = good.rsplit_once('.').unwrap().0;
    assert_eq!(
        refused(&keys, &format!("{message}.{}", b64(&[0; 64]))).await,
        Some(Reason::JwtSignature)
    );
    let eddsa = signer.sign(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed"}), &claims());
    let message = eddsa.rsplit_once('.').unwrap().0;
    assert_eq!(
        refused(&keys, &format!("{message}.{}", b64(&[0; 64]))).await,
        Some(Reason::JwtSignature)
    );
}

#[test]
fn b052_b053_bad_keys_are_left_out_and_the_others_work() {
    let signer = Signer::new();
    let other = with(Signer::new().ec_jwk(), "kid", json!("other"));
    let rsa = json!({"kty": "RSA", "kid": "rsa", "n": b64(&[0xff; 128]), "e": "AQAB"});
    for (case, key, problem) in [
        ("B052", rsa, KeyError::UnsupportedType),
        (
            "B052",
            json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
            KeyError::UnsupportedType,
        ),
        (
            "B052",
            json!({"kty": "OKP", "crv": "X25519", "x": b64(&[9; 32])}),
            KeyError::UnsupportedType,
        ),
        ("B052", with(other.clone(), "x", json!(b64(&[1; 32]))), KeyError::UnsoundPoint),
        ("B052", with(other.clone(), "x", json!(b64(&[1; 31]))), KeyError::Malformed),
        ("B052", with(other.clone(), "y", json!(7)), KeyError::Malformed),
        ("B052", without(other.clone(), "y"), KeyError::Malformed),
        (
            "B055",
            json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&[0; 32])}),
            KeyError::UnsoundPoint,
        ),
        ("B053", with(other.clone(), "d", json!(b64(&[1; 32]))), KeyError::Private),
        ("B053", json!({"kty": "oct", "k": "AAAA"}), KeyError::Private),
        ("B053", with(other.clone(), "use", json!("enc")), KeyError::OtherPurpose),
        ("B053", with(other.clone(), "key_ops", json!(["encrypt"])), KeyError::OtherPurpose),
        ("B053", with(other.clone(), "key_ops", json!(["sign"])), KeyError::OtherPurpose),
        ("B053", with(other.clone(), "key_ops", json!("verify")), KeyError::Malformed),
        ("B053", with(other.clone(), "key_ops", json!(["verify", "verify"])), KeyError::Malformed),
        ("B028", with(other.clone(), "alg", json!("ES384")), KeyError::OtherPurpose),
        ("B028", with(other.clone(), "alg", json!("EdDSA")), KeyError::OtherPurpose),
        ("B029", with(other.clone(), "kid", json!(7)), KeyError::Malformed),
        ("B029", with(other.clone(), "kid", json!("a\nb")), KeyError::Malformed),
        ("B029", with(other.clone(), "kid", json!("k".repeat(257))), KeyError::Malformed),
        ("B053", with(other.clone(), "kty", json!(7)), KeyError::Malformed),
        ("B053", without(other.clone(), "kty"), KeyError::Malformed),
        ("B053", with(other.clone(), "crv", json!(7)), KeyError::Malformed),
        ("B053", with(other.clone(), "use", json!(7)), KeyError::Malformed),
        ("B053", with(other.clone(), "key_ops", json!([7])), KeyError::Malformed),
        ("B053", json!({"kty": "OKP", "crv": "Ed25519"}), KeyError::Malformed),
        ("B053", with(Signer::new().ed_jwk(), "y", json!(b64(&[1; 32]))), KeyError::Malformed),
        ("B053", json!("key"), KeyError::Malformed),
    ] {
        assert_eq!(set([key.clone()]).err(), Some(KeysError::NoneUsable), "{case} {key}");
        let keys = set([signer.ec_jwk(), key.clone()]).unwrap();
        assert_eq!((keys.len(), keys.problems()), (1, vec![(1, problem)]), "{case} {key}");
    }
    let doubled =
        set([signer.ec_jwk(), with(other.clone(), "kid", json!("ec")), signer.ed_jwk()]).unwrap();
    assert_eq!(
        (doubled.len(), doubled.problems()),
        (1, vec![(1, KeyError::DuplicateKeyId)]),
        "B053"
    );
    for key in [
        with(other.clone(), "use", json!("sig")),
        with(other.clone(), "key_ops", json!(["sign", "verify"])),
        with(other, "alg", json!("ES256")),
    ] {
        assert_eq!(set([key.clone()]).map(|keys| keys.problems()).unwrap(), [], "{key}");
    }
}

#[test]
fn a_key_set_is_bounded_and_strict() {
    let key = Signer::new().ec_jwk();
    for (text, error) in [
        (String::new(), KeysError::NotAKeySet),
        ("[]".into(), KeysError::NotAKeySet),
        (r#"{"keys":{}}"#.into(), KeysError::NotAKeySet),
        (r#"{"keys":[],"keys":[]}"#.into(), KeysError::NotAKeySet),
        (r#"{"keys":[]}"#.into(), KeysError::NoneUsable),
        (format!(r#"{{"keys":[{key}]}}{}"#, " ".repeat(64 * 1024)), KeysError::TooLarge),
        (format!(r#"{{"keys":[{key}{}]}}"#, ",0".repeat(100)), KeysError::TooLarge),
    ] {
        assert_eq!(Keys::parse(text.as_bytes()).err(), Some(error), "{text}");
    }
    assert!(Keys::parse(format!(r#"{{"keys":[{key}{}]}}"#, ",0".repeat(99)).as_bytes()).is_ok());
}

#[tokio::test]
async fn b061_a_retired_key_is_refused() {
    let (signer, next) = (Signer::new(), Signer::new());
    let keys = signer.keys();
    let clock = clock();
    let verifier = Timed(JwtVerifier::new(ISSUER, &keys), clock.clone());
    let token = signer.sign(&header(), &claims());
    keys.retire("ec", clock.now().plus(Duration::from_secs(60)));
    assert!(verify_by(&verifier, &token).await.is_ok(), "within its grace");
    clock.advance(Duration::from_secs(60));
    assert_eq!(verify_by(&verifier, &token).await.unwrap_err().reason(), Reason::JwtKeyRetired);
    // Also without its `kid`.
    let nameless = signer.sign(&without(header(), "kid"), &claims());
    assert_eq!(verify_by(&verifier, &nameless).await.unwrap_err().reason(), Reason::JwtKeyId);

    keys.replace(&set([with(next.ec_jwk(), "kid", json!("next"))]).unwrap(), clock.read());
    assert_eq!(verify_by(&verifier, &token).await.unwrap_err().reason(), Reason::JwtKeyRetired);
    let eddsa = signer.sign(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed"}), &claims());
    assert_eq!(
        verify_by(&verifier, &eddsa).await.unwrap_err().reason(),
        Reason::JwtKeyRetired,
        "gone with the old set"
    );
    let new = next.sign(&with(header(), "kid", json!("next")), &claims());
    assert!(verify_by(&verifier, &new).await.is_ok());

    keys.replace(&signer.keys(), clock.read());
    assert_eq!(keys.retires_at("ec"), Some(clock.now()));
    for gone in [&token, &eddsa, &new] {
        let reason = verify_by(&verifier, gone).await.unwrap_err().reason();
        assert_eq!(reason, Reason::JwtKeyRetired, "a later set has it again");
    }
}

#[tokio::test]
async fn n401_a_wrong_clock_extends_no_grace_period() {
    let day = Duration::from_secs(24 * 3600);
    for grace in [Duration::ZERO, Duration::from_secs(60)] {
        let (signer, clock) = (Signer::new(), clock());
        let keys = signer.keys();
        let verifier = Timed(JwtVerifier::new(ISSUER, &keys), clock.clone());
        let (token, right) = (signer.sign(&header(), &claims()), clock.now());
        clock.set_wall_clock(right.plus(day));
        keys.retire_after("ec", grace, clock.read());
        clock.set_wall_clock(right);
        clock.advance(grace);
        let refused = verify_by(&verifier, &token).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::JwtKeyRetired, "N401 {grace:?}");
    }
}

#[test]
fn b061_retirements_of_present_keys_are_kept() {
    let signer = Signer::new();
    let (keys, now) = (signer.keys(), clock().now());
    keys.retire("ec", now);
    for number in 0..2 * Keys::MAX_KEYS {
        keys.retire(&number.to_string(), now);
    }
    assert_eq!(keys.retires_at("ec"), Some(now));
    assert_eq!(keys.retires_at("0"), None, "bounded");
}

/// A key server that responds as configured, when it is released, and counts requests.
#[derive(Clone)]
struct KeyServer {
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<(u16, String)>>,
    gate: Arc<tokio::sync::Semaphore>,
}

impl KeyServer {
    fn new(keys: &[Json]) -> Self {
        let answer = (200, json!({"keys": keys}).to_string());
        Self {
            asked: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
            gate: Arc::new(tokio::sync::Semaphore::new(tokio::sync::Semaphore::MAX_PERMITS)),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Service<Request<Bytes>> for KeyServer {
    type Response = Response<Bytes>;
    type Error = std::io::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        assert_eq!(request.uri(), "https://keys.example/jwks");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let this = self.clone();
        Box::pin(async move {
            this.gate.acquire().await.unwrap().forget();
            let (status, body) = this.answer.lock().clone();
            if status == 0 {
                return Err(std::io::Error::other("down"));
            }
            Ok(Response::builder().status(status).body(body.into()).unwrap())
        })
    }
}

fn remote(server: &KeyServer, clock: &Clock, tasks: &Tasks) -> Timed {
    let url = "https://keys.example/jwks".parse().unwrap();
    let keys = RemoteKeys::build(server.clone(), url, clock, tasks);
    Timed(JwtVerifier::new(ISSUER, keys), clock.clone())
}

async fn outcome(verifier: &Timed, token: &str) -> Option<Reason> {
    verify_by(verifier, token).await.err().map(|rejected| rejected.reason())
}

#[tokio::test]
async fn remote_keys_are_fetched_once_for_all_waiters() {
    let signer = Signer::new();
    let (clock, tasks) = (clock(), Tasks::new());
    let server = KeyServer::new(&[signer.ec_jwk()]);
    server.gate.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let verifier = remote(&server, &clock, &tasks);
    let token = signer.sign(&header(), &claims());
    let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(outcome(&verifier, &token))).collect();
    for wait in &mut waiting {
        assert!(std::future::poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending())).await);
    }
    drop(waiting.remove(0));
    server.gate.add_permits(1);
    for wait in waiting {
        assert_eq!(wait.await, None);
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn b029_unknown_kids_cause_one_fetch_per_cool_down() {
    let signer = Signer::new();
    let (clock, tasks) = (clock(), Tasks::new());
    let server = KeyServer::new(&[signer.ec_jwk()]);
    let verifier = remote(&server, &clock, &tasks);
    assert_eq!(outcome(&verifier, &signer.sign(&header(), &claims())).await, None);
    for number in 0..20 {
        let token = signer.sign(&with(header(), "kid", json!(format!("../{number}"))), &claims());
        assert_eq!(outcome(&verifier, &token).await, Some(Reason::JwtKeyId));
    }
    assert_eq!(server.asked(), 1);
    // After the cool-down, a new key is found.
    let next = Signer::new();
    *server.answer.lock() =
        (200, json!({"keys": [with(next.ec_jwk(), "kid", json!("next"))]}).to_string());
    clock.advance(Duration::from_secs(30));
    let token = next.sign(&with(header(), "kid", json!("next")), &claims());
    assert_eq!(outcome(&verifier, &token).await, None);
    assert_eq!(server.asked(), 2);
    assert_eq!(
        outcome(&verifier, &signer.sign(&header(), &claims())).await,
        Some(Reason::JwtKeyRetired),
        "B061"
    );
}

#[tokio::test]
async fn a_missing_key_returns_after_the_cool_down() {
    let signer = Signer::new();
    let (clock, tasks) = (clock(), Tasks::new());
    let server = KeyServer::new(&[signer.ec_jwk(), signer.ed_jwk()]);
    let verifier = remote(&server, &clock, &tasks);
    let token = signer.sign(&header(), &claims());
    assert_eq!(outcome(&verifier, &token).await, None);
    *server.answer.lock() = (200, json!({"keys": [signer.ed_jwk()]}).to_string());
    clock.advance(Duration::from_secs(30));
    let unknown = signer.sign(&with(header(), "kid", json!("other")), &claims());
    assert_eq!(outcome(&verifier, &unknown).await, Some(Reason::JwtKeyId));
    assert_eq!(server.asked(), 2);
    assert_eq!(outcome(&verifier, &token).await, Some(Reason::JwtKeyRetired));
    *server.answer.lock() = (200, json!({"keys": [signer.ec_jwk(), signer.ed_jwk()]}).to_string());
    assert_eq!(outcome(&verifier, &token).await, Some(Reason::JwtKeyRetired));
    assert_eq!(server.asked(), 2, "B029: within the cool-down");
    clock.advance(Duration::from_secs(30));
    assert_eq!(outcome(&verifier, &token).await, None);
    assert_eq!(server.asked(), 3);
}

#[tokio::test]
async fn after_a_long_idle_time_keys_are_awaited() {
    let signer = Signer::new();
    let (clock, tasks) = (clock(), Tasks::new());
    let server = KeyServer::new(&[signer.ec_jwk()]);
    let verifier = remote(&server, &clock, &tasks);
    let token = signer.sign(&header(), &with(claims(), "exp", json!(NOW + 24 * 3600)));
    assert_eq!(outcome(&verifier, &token).await, None);
    clock.advance(Duration::from_secs(30 * 60));
    *server.answer.lock() = (500, String::new());
    assert_eq!(outcome(&verifier, &token).await, None, "the old ones, if there are no newer");
    assert_eq!(server.asked(), 2);
    *server.answer.lock() = (200, json!({"keys": [signer.ed_jwk()]}).to_string());
    clock.advance(Duration::from_secs(30));
    assert_eq!(outcome(&verifier, &token).await, Some(Reason::JwtKeyRetired), "B061");
    assert_eq!(server.asked(), 3);
}

#[tokio::test]
async fn a_bad_set_never_replaces_a_good_one() {
    let signer = Signer::new();
    let token = signer.sign(&header(), &claims());
    let long = with(claims(), "exp", json!(NOW + 24 * 3600));
    let long = signer.sign(&header(), &long);
    for bad in [
        (0, String::new()),
        (500, "{}".into()),
        (200, r#"{"keys":[]}"#.into()),
        (200, "<html>".into()),
    ] {
        let (clock, tasks) = (clock(), Tasks::new());
        let server = KeyServer::new(&[signer.ec_jwk()]);
        let verifier = remote(&server, &clock, &tasks);
        assert_eq!(outcome(&verifier, &token).await, None);
        *server.answer.lock() = bad.clone();
        clock.advance(Duration::from_secs(15 * 60 - 1));
        assert_eq!(outcome(&verifier, &long).await, None);
        assert_eq!(server.asked(), 1, "not due yet");
        clock.advance(Duration::from_secs(1));
        assert_eq!(outcome(&verifier, &long).await, None);
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
        assert_eq!(server.asked(), 2);
        assert_eq!(outcome(&verifier, &long).await, None, "{bad:?}");
        // The largest age of the set.
        clock.advance(Duration::from_secs(24 * 3600 - 15 * 60));
        assert_eq!(outcome(&verifier, &long).await, Some(Reason::KeysUnavailable), "{bad:?}");
    }
}

#[tokio::test]
async fn without_any_keys_the_verifier_can_not_tell() {
    let signer = Signer::new();
    let (clock, tasks) = (clock(), Tasks::new());
    let server = KeyServer::new(&[]);
    let verifier = remote(&server, &clock, &tasks);
    let token = signer.sign(&header(), &claims());
    for _ in 0..3 {
        let rejected = verify_by(&verifier, &token).await.unwrap_err();
        assert_eq!(rejected, VerifyError::for_now(Reason::KeysUnavailable));
    }
    assert_eq!(server.asked(), 1);
    // Fetched again sooner than for an unknown `kid`, because all requests are refused.
    *server.answer.lock() = (200, json!({"keys": [signer.ec_jwk()]}).to_string());
    clock.advance(Duration::from_secs(1));
    assert_eq!(outcome(&verifier, &token).await, None);
    assert_eq!(LEEWAY, Duration::from_secs(30), "B044: fixed, and never more than 60 s");
}
