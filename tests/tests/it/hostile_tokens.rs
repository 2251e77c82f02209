//! Hostile tokens through a mounted stack, with keys from a key set on loopback.
//!
//! Each token is refused for its own reason with one terminal record, and no request reaches the
//! upstream.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use token_broker_authority::issue::Mint;
use token_broker_outbound::{Guard, GuardedClient};
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, SECRET, base64url},
    upstream::{ScriptedServer, json as json_response},
    wire::{self, RawResponse},
};
use tower_token_broker::{
    authenticate::jwt::RemoteKeys,
    clock::{Clock, Timestamp},
    principal::Resource,
};

use crate::hostile_case::{Case, run};

/// A broker that fetches its issuer's keys and has a fixed clock.
pub(crate) struct Fetching {
    pub(crate) broker: Broker,
    pub(crate) upstream: ScriptedServer,
    pub(crate) key_set: ScriptedServer,
    pub(crate) keys: Arc<Mutex<String>>,
    pub(crate) clock: Clock,
    /// Returns the time of its clock, in seconds.
    pub(crate) now: u64,
}

impl Fetching {
    pub(crate) async fn start() -> Self {
        let now = Clock::system().now().unix_seconds();
        let clock = Clock::manual(Timestamp::from_unix_seconds(now));
        let keys = Arc::new(Mutex::new(String::new()));
        let served = Arc::clone(&keys);
        let key_set = ScriptedServer::start(move |_| json_response(&served.lock())).await;
        let client = GuardedClient::new(&Guard::new().allow_loopback("127.0.0.1")).unwrap();
        let url = key_set.url("/jwks").parse().unwrap();
        let upstream = ScriptedServer::start(|_| json_response("{}")).await;
        let broker = Broker::in_front_of(&upstream)
            .with_clock(clock.clone())
            .keys(move |handle| RemoteKeys::new(handle, client, url))
            .start()
            .await;
        *keys.lock() = broker.issuer().jwks();
        Self { broker, upstream, key_set, keys, clock, now }
    }

    /// Returns a call with a token.
    pub(crate) fn call(&self, token: &str) -> Vec<u8> {
        wire::post(
            "/mcp",
            self.broker.host(),
            &[("authorization", &format!("Bearer {token}"))],
            CALL,
        )
    }

    /// The challenge for every invalid token, whatever its defect.
    fn challenge(&self) -> String {
        format!(
            "Bearer error=\"invalid_token\", \
             error_description=\"the token is not valid for this resource\", \
             resource_metadata=\"{}\"",
            self.broker.resource().metadata_url()
        )
    }

    pub(crate) fn refused(&self, case: &'static str, token: &str, reason: &'static str) -> Case {
        Case::refused(case, self.call(token), 401, reason).challenge(self.challenge())
    }

    pub(crate) fn run(&self, rows: impl Into<Vec<Case>>) -> impl Future<Output = Vec<RawResponse>> {
        run(&self.broker, &self.upstream, rows)
    }

    /// Header and claims of a valid token.
    pub(crate) fn good(&self) -> Parts {
        let token = self.broker.token("items:read");
        let part = |at: usize| {
            let bytes = URL_SAFE_NO_PAD.decode(token.split('.').nth(at).unwrap()).unwrap();
            std::str::from_utf8(&bytes).unwrap().parse::<Value>().unwrap()
        };
        Parts { header: part(0), claims: part(1) }
    }

    pub(crate) fn signed(&self, parts: &Parts) -> String {
        self.broker.sign(&parts.header.to_string(), &parts.claims.to_string())
    }

    fn with_header(&self, name: &str, value: impl Into<Value>) -> String {
        let mut parts = self.good();
        parts.header[name] = value.into();
        self.signed(&parts)
    }

    pub(crate) fn with_claims<const N: usize>(&self, claims: [(&str, Value); N]) -> String {
        let mut parts = self.good();
        for (name, value) in claims {
            parts.claims[name] = value;
        }
        self.signed(&parts)
    }

    fn without_claim(&self, name: &str) -> String {
        let mut parts = self.good();
        parts.claims.as_object_mut().unwrap().remove(name);
        self.signed(&parts)
    }
}

pub(crate) struct Parts {
    pub(crate) header: Value,
    pub(crate) claims: Value,
}

#[tokio::test]
async fn key_headers_are_checked_before_key_lookup() {
    let fetching = Fetching::start().await;
    let Fetching { broker, .. } = &fetching;
    let (header, claims) = (fetching.good().header, fetching.good().claims.to_string());
    let valid = broker.token("items:read");
    let (head, signature) = valid.rsplit_once('.').unwrap();
    let unsigned = |alg: &str| {
        let header = json!({"alg": alg, "typ": "at+jwt"}).to_string();
        format!("{}.{}.", base64url(header.as_bytes()), base64url(claims.as_bytes()))
    };
    // The public key, in each form that a library may take for a shared secret.
    let jwk = broker.issuer().jwks().parse::<Value>().unwrap()["keys"][0].clone();
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let point = [&[4][..], &coordinate("x"), &coordinate("y")].concat();
    let algorithm = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\
                      \x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let der = [&algorithm[..], &point].concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(&der)
    );
    let by_hmac = |secret: &[u8]| {
        let mut header = header.clone();
        header["alg"] = "HS256".into();
        let message = format!(
            "{}.{}",
            base64url(header.to_string().as_bytes()),
            base64url(claims.as_bytes())
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", base64url(tag.as_ref()))
    };
    let header_text = header.to_string();
    let unused_bits = {
        let mut bits = signature.to_owned();
        let last = bits.pop().unwrap();
        // 64 bytes end in 2 bits of the last character; the 4 other bits are set.
        bits.push(match last {
            'A' => 'P',
            'Q' => 'f',
            'g' => 'v',
            _ => '_',
        });
        format!("{head}.{bits}")
    };
    let refused = |case, token: &str, reason| fetching.refused(case, token, reason);
    let flattened = r#"{"payload":"e30","protected":"e30","signature":"e30"}"#;
    let general = r#"{"payload":"e30","signatures":[{"protected":"e30","signature":"e30"}]}"#;

    fetching
        .run([
            refused("B026", &unsigned("none"), "jwt.alg"),
            refused("B026", &unsigned("None"), "jwt.alg"),
            refused("B026", &unsigned("nONE"), "jwt.alg"),
            refused("B026", &fetching.with_header("alg", "none"), "jwt.alg"),
            refused("B027", &by_hmac(pem.as_bytes()), "jwt.alg"),
            refused("B027", &by_hmac(&der), "jwt.alg"),
            refused("B027", &by_hmac(jwk.to_string().as_bytes()), "jwt.alg"),
            refused("B027", &by_hmac(&point), "jwt.alg"),
            refused("B027", &by_hmac(&coordinate("x")), "jwt.alg"),
            refused("B028", &fetching.with_header("alg", "RS256"), "jwt.alg"),
            refused("B028", &fetching.with_header("alg", "PS256"), "jwt.alg"),
            refused("B029", &fetching.with_header("kid", "k".repeat(4096)), "jwt.kid"),
            refused("B029", &fetching.with_header("kid", "a\u{0}b"), "jwt.kid"),
            refused("B029", &fetching.with_header("kid", 7), "jwt.kid"),
            refused("B029", &fetching.with_header("kid", json!(["a"])), "jwt.kid"),
            refused(
                "B031",
                &fetching.with_header("jku", fetching.key_set.url("/mine")),
                "jwt.header_key",
            ),
            refused(
                "B031",
                &fetching.with_header("x5u", fetching.key_set.url("/mine")),
                "jwt.header_key",
            ),
            refused("B031", &fetching.with_header("jwk", jwk.clone()), "jwt.header_key"),
            refused(
                "B031",
                &fetching.with_header("x5c", json!([STANDARD.encode(&der)])),
                "jwt.header_key",
            ),
            refused("B032", &fetching.with_header("crit", json!(["exp"])), "jwt.crit"),
            refused("B032", &fetching.with_header("crit", json!(["bork"])), "jwt.crit"),
            refused("B032", &fetching.with_header("crit", json!([])), "jwt.crit"),
            refused("B032", &fetching.with_header("crit", "b64"), "jwt.crit"),
            refused("B032", &fetching.with_header("b64", false), "jwt.crit"),
            refused("B032", &fetching.with_header("zip", "DEF"), "jwt.crit"),
            refused("B035", &format!("{valid}.a.b"), "jwt.format"),
            refused("B035", &format!("{valid}.a"), "jwt.format"),
            refused("B035", head, "jwt.format"),
            refused("B035", "one", "jwt.format"),
            refused("B035", &".".repeat(10_000), "jwt.format"),
            refused("B035", flattened, "jwt.format"),
            refused("B035", general, "jwt.format"),
            refused("B036", &format!("{head}.{signature}=="), "jwt.encoding"),
            refused("B036", &format!("{head}.{}+/", signature.get(..84).unwrap()), "jwt.encoding"),
            refused(
                "B036",
                &format!("{head}.{}?{}", signature.get(..7).unwrap(), signature.get(8..).unwrap()),
                "jwt.encoding",
            ),
            refused("B036", &unused_bits, "jwt.encoding"),
            Case::refused(
                "B036 a space",
                fetching.call(&format!("{head}. {signature}")),
                400,
                "authn.malformed",
            ),
            Case::refused_by_server(
                "B036 a line end",
                fetching.call(&format!("{head}.\n{signature}")),
                400,
            ),
            refused(
                "B037",
                &broker.sign(&header_text.replacen('{', r#"{"alg":"none","#, 1), &claims),
                "jwt.duplicate_member",
            ),
            refused(
                "B037",
                &broker.sign(&header_text.replacen('}', r#","alg":"none"}"#, 1), &claims),
                "jwt.duplicate_member",
            ),
            refused("typ", &fetching.with_header("typ", "JWT"), "jwt.typ"),
            refused("typ", &fetching.with_header("typ", Value::Null), "jwt.typ"),
            refused("A023", SECRET, "jwt.format"),
        ])
        .await;
    assert!(fetching.key_set.received().is_empty(), "no key lookup and no other request");
    // A023, too: no response, record or trace-level log line contains the token.
    broker.done_unsent().await;
}

#[tokio::test]
async fn signature_and_claims_are_checked() {
    let fetching = Fetching::start().await;
    let Fetching { broker, now, .. } = &fetching;
    let valid = broker.token("items:read");
    let (head, signature) = valid.rsplit_once('.').unwrap();
    let header = fetching.good().header.to_string();
    let claims = fetching.good().claims.to_string();
    let exp = fetching.good().claims["exp"].to_string();
    let exp_as = |text: &str| {
        broker.sign(&header, &claims.replace(&format!("\"exp\":{exp}"), &format!("\"exp\":{text}")))
    };
    let begins = |at: u64| fetching.with_claims([("nbf", at.into())]);
    let ends = |at: u64| {
        let began: Value = (now - 7200).into();
        fetching.with_claims([("iat", began.clone()), ("nbf", began), ("exp", at.into())])
    };
    let audience = |value: Value| fetching.with_claims([("aud", value)]);
    let issuer = |text: &str| fetching.with_claims([("iss", text.into())]);
    let subject = |text: &str| fetching.with_claims([("sub", text.into())]);
    let other = Resource::parse("https://broker.example.com/other/mcp").unwrap();
    let for_other = broker
        .issuer()
        .mint(Mint::for_user("alice").client("test-client").resource(&other))
        .unwrap();
    let ours = broker.resource().as_str();
    let signature_of_another =
        if signature.starts_with('A') { "B" } else { "A" }.to_owned() + signature.get(1..).unwrap();
    let refused = |case, token: &str, reason| fetching.refused(case, token, reason);

    fetching
        .run([
            refused("B026", &format!("{head}."), "jwt.signature"),
            refused("B028", &fetching.with_header("alg", "EdDSA"), "jwt.alg_key_mismatch"),
            refused("B029", &fetching.with_header("kid", "../../../dev/null"), "jwt.kid"),
            refused("B029", &fetching.with_header("kid", "' OR 1=1--"), "jwt.kid"),
            refused("signature", &format!("{head}.{signature_of_another}"), "jwt.signature"),
            refused(
                "B037",
                &broker.sign(&header, &claims.replacen('{', r#"{"sub":"root","#, 1)),
                "jwt.duplicate_member",
            ),
            refused("B039", &exp_as("\"9999999999\""), "jwt.claim_type"),
            refused("B039", &exp_as("1e400"), "jwt.claim_type"),
            refused("B039", &exp_as("-1"), "jwt.claim_type"),
            refused("B039", &exp_as("null"), "jwt.claim_type"),
            refused("B039", &exp_as("[9999999999]"), "jwt.claim_type"),
            refused("B039", &exp_as("9223372036854775808"), "jwt.claim_type"),
            refused("B039", &exp_as("18446744073709551616"), "jwt.claim_type"),
            refused("B039", &exp_as("9999999999.5"), "jwt.claim_type"),
            refused("B039", &exp_as("true"), "jwt.claim_type"),
            refused("B040", &fetching.without_claim("exp"), "jwt.missing_claim"),
            refused("B040", &fetching.without_claim("iat"), "jwt.missing_claim"),
            refused("B040", &fetching.without_claim("jti"), "jwt.missing_claim"),
            refused("B040", &fetching.without_claim("client_id"), "jwt.missing_claim"),
            refused("B040", &fetching.without_claim("sub"), "jwt.missing_claim"),
            refused("B040", &subject(""), "jwt.missing_claim"),
            refused(
                "B041",
                &fetching.with_claims([("nbf", "9999999999".into())]),
                "jwt.claim_type",
            ),
            // The leeway is 30 s: a token is valid from 30 s before `nbf` until 30 s after `exp`.
            refused("B042", &begins(now + 31), "jwt.not_yet_valid"),
            Case::passes("B042", fetching.call(&begins(now + 30))),
            refused("B044", &ends(now - 31), "jwt.expired"),
            refused("B044", &ends(now - 30), "jwt.expired"),
            Case::passes("B044", fetching.call(&ends(now - 29))),
            refused("B047", &audience(json!([])), "jwt.aud"),
            refused("B047", &audience("".into()), "jwt.aud"),
            refused("B047", &audience(json!([null])), "jwt.aud"),
            refused("B047", &audience(json!({"0": ours})), "jwt.aud"),
            refused("B047", &audience(json!([ours, ours])), "jwt.aud"),
            refused("B049", &issuer(&format!("{ISSUER}/")), "jwt.iss"),
            refused("B049", &issuer(&ISSUER.to_uppercase()), "jwt.iss"),
            refused("B049 a Cyrillic o", &issuer("https://br\u{43e}ker.example.com"), "jwt.iss"),
            refused(
                "B049 the same in punycode",
                &issuer("https://xn--brker-jye.example.com"),
                "jwt.iss",
            ),
            refused("A017", &for_other.into_text(), "authn.resource"),
            Case::passes("a good one", fetching.call(&valid)),
        ])
        .await;
    assert_eq!(
        fetching.key_set.received().len(),
        1,
        "B029: one fetch in a window, whatever kids were made up"
    );
    // In the next window there is one more fetch, however many requests need it.
    fetching.clock.advance(Duration::from_secs(31));
    for _ in 0..3 {
        fetching.run([refused("B029", &fetching.with_header("kid", "another"), "jwt.kid")]).await;
    }
    assert_eq!(fetching.key_set.received().len(), 2, "B029");
    broker.done().await;
}

#[tokio::test]
async fn a015_an_overlong_token_causes_no_key_lookup() {
    let fetching = Fetching::start().await;
    // Valid except for its length: the padding is a claim that is ignored.
    let of_length = |bytes: usize| {
        (0..)
            .map(|padding| {
                fetching
                    .with_claims([("padding", "x".repeat((bytes - 700) * 3 / 4 + padding).into())])
            })
            .find(|token| token.len() >= bytes)
            .unwrap()
    };
    let lengths: BTreeSet<_> =
        [of_length(16 * 1024), of_length(16 * 1024 + 1)].iter().map(String::len).collect();
    assert_eq!(lengths, BTreeSet::from([16 * 1024, 16 * 1024 + 1]));
    fetching
        .run([Case::refused(
            "A015",
            fetching.call(&of_length(16 * 1024 + 1)),
            400,
            "authn.too_large",
        )])
        .await;
    assert!(
        fetching.key_set.received().is_empty(),
        "A015: no key was looked for, so no signature was computed"
    );
    fetching.run([Case::passes("A015", fetching.call(&of_length(16 * 1024)))]).await;
    assert_eq!(fetching.key_set.received().len(), 1);
    fetching.broker.done().await;
}
