//! Group B, and A015, A017, A023: hostile tokens through the mounted stack. Each is refused for its own reason, with one terminal record,
//! and no request reaches the upstream.

use base64::Engine as _;
use serde_json::{Value, json};
use token_broker_authority::issue::Mint;
use token_broker_tests::{
    harness::{Broker, CALL, ISSUER, SECRET, base64url},
    upstream::{Scripted, json as json_answer},
    wire,
};
use tower_token_broker::principal::Resource;

struct Parts {
    header: Value,
    claims: Value,
}

impl Parts {
    /// Of a token that is good.
    fn good(broker: &Broker) -> Self {
        let token = broker.token("items:read");
        let part = |at: usize| {
            let text = token.split('.').nth(at).unwrap();
            let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
            std::str::from_utf8(&bytes).unwrap().parse::<Value>().unwrap()
        };
        Self { header: part(0), claims: part(1) }
    }

    fn header(mut self, name: &str, value: Value) -> Self {
        self.header[name] = value;
        self
    }

    fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims[name] = value;
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(name);
        self.header.as_object_mut().unwrap().remove(name);
        self
    }

    fn signed(&self, broker: &Broker) -> String {
        broker.sign(&self.header.to_string(), &self.claims.to_string())
    }
}

#[tokio::test]
async fn hostile_tokens_are_refused_for_their_own_reason() {
    let upstream = Scripted::start(|_| json_answer("{}")).await;
    let broker = Broker::before(&upstream).start().await;
    let good = || Parts::good(&broker);
    let sign = |parts: Parts| parts.signed(&broker);
    let now = good().claims["iat"].as_u64().unwrap();
    let valid = broker.token("items:read");
    let (head, signature) = valid.rsplit_once('.').unwrap();
    let raw_claims = |text: &str| broker.sign(&good().header.to_string(), text);
    let claims_text = good().claims.to_string();
    let exp_as = |text: &str| {
        raw_claims(&claims_text.replace(&format!("\"exp\":{}", good().claims["exp"]), &format!("\"exp\":{text}")))
    };
    let header_text = good().header.to_string();

    let cases: Vec<(&str, String, &str)> = vec![
        (
            "B026",
            format!("{}.{}.", base64url(br#"{"alg":"none","typ":"at+jwt"}"#), base64url(claims_text.as_bytes())),
            "jwt.",
        ),
        ("B026", sign(good().header("alg", "None".into())), "jwt.alg"),
        ("B026", format!("{head}."), "jwt."),
        ("B027", sign(good().header("alg", "HS256".into())), "jwt.alg"),
        ("B028", sign(good().header("alg", "EdDSA".into())), "jwt.alg_key_mismatch"),
        ("B028", sign(good().header("alg", "RS256".into())), "jwt.alg"),
        ("B029", sign(good().header("kid", "../../../dev/null".into())), "jwt.kid"),
        ("B029", sign(good().header("kid", "' OR 1=1--".into())), "jwt.kid"),
        ("B029", sign(good().header("kid", "k".repeat(4096).into())), "jwt.kid"),
        ("B029", sign(good().header("kid", "a\u{0}b".into())), "jwt.kid"),
        ("B029", sign(good().header("kid", 7.into())), "jwt.kid"),
        ("B029", sign(good().header("kid", json!(["a"]))), "jwt.kid"),
        ("B031", sign(good().header("jku", "https://evil.example/jwks".into())), "jwt.header_key"),
        ("B031", sign(good().header("x5u", "https://evil.example/x5u".into())), "jwt.header_key"),
        ("B031", sign(good().header("jwk", json!({"kty": "EC"}))), "jwt.header_key"),
        ("B031", sign(good().header("x5c", json!(["MII"]))), "jwt.header_key"),
        ("B032", sign(good().header("crit", json!(["exp"]))), "jwt.crit"),
        ("B032", sign(good().header("crit", json!(["bork"]))), "jwt.crit"),
        ("B032", sign(good().header("crit", json!([]))), "jwt.crit"),
        ("B032", sign(good().header("crit", "b64".into())), "jwt.crit"),
        ("B032", sign(good().header("b64", false.into())), "jwt.crit"),
        ("B032", sign(good().header("zip", "DEF".into())), "jwt.crit"),
        ("B035", format!("{valid}.a.b"), "jwt.format"),
        ("B035", format!("{valid}.a"), "jwt.format"),
        ("B035", head.to_owned(), "jwt.format"),
        ("B035", "one".into(), "jwt.format"),
        ("B035", ".".repeat(10_000), "jwt.format"),
        ("B036", format!("{head}.{signature}=="), "jwt.encoding"),
        ("B036", format!("{head}.{}+/", signature.get(..84).unwrap()), "jwt.encoding"),
        ("B037", broker.sign(&header_text.replacen('{', r#"{"alg":"none","#, 1), &claims_text), "jwt.duplicate_member"),
        ("B037", broker.sign(&header_text.replacen('}', r#","alg":"none"}"#, 1), &claims_text), "jwt.duplicate_member"),
        ("B037", raw_claims(&claims_text.replacen('{', r#"{"sub":"root","#, 1)), "jwt.duplicate_member"),
        ("B039", exp_as("\"9999999999\""), "jwt.claim_type"),
        ("B039", exp_as("1e400"), "jwt.claim_type"),
        ("B039", exp_as("-1"), "jwt.claim_type"),
        ("B039", exp_as("null"), "jwt.claim_type"),
        ("B039", exp_as("[9999999999]"), "jwt.claim_type"),
        ("B039", exp_as("9223372036854775808"), "jwt.claim_type"),
        ("B039", exp_as("18446744073709551616"), "jwt.claim_type"),
        ("B039", exp_as("9999999999.5"), "jwt.claim_type"),
        ("B039", exp_as("true"), "jwt.claim_type"),
        ("B040", sign(good().without("exp")), "jwt.missing_claim"),
        ("B040", sign(good().without("iat")), "jwt.missing_claim"),
        ("B040", sign(good().without("nbf")), "jwt.missing_claim"),
        ("B040", sign(good().without("jti")), "jwt.missing_claim"),
        ("B040", sign(good().without("client_id")), "jwt.missing_claim"),
        ("B040", sign(good().without("sub")), "jwt.missing_claim"),
        ("B040", sign(good().claim("sub", "".into())), "jwt.missing_claim"),
        ("B041", sign(good().claim("nbf", "9999999999".into())), "jwt.claim_type"),
        ("B042", sign(good().claim("nbf", (now + 3600).into()).claim("exp", (now + 7200).into())), "jwt.not_yet_valid"),
        (
            "B044",
            sign(
                good()
                    .claim("iat", (now - 7200).into())
                    .claim("nbf", (now - 7200).into())
                    .claim("exp", (now - 60).into()),
            ),
            "jwt.expired",
        ),
        ("B047", sign(good().claim("aud", json!([]))), "jwt.aud"),
        ("B047", sign(good().claim("aud", "".into())), "jwt.aud"),
        ("B047", sign(good().claim("aud", json!([null]))), "jwt.aud"),
        ("B047", sign(good().claim("aud", json!({"0": broker.resource().as_str()}))), "jwt.aud"),
        ("B047", sign(good().claim("aud", json!([broker.resource().as_str(), broker.resource().as_str()]))), "jwt.aud"),
        ("B049", sign(good().claim("iss", format!("{ISSUER}/").into())), "jwt.iss"),
        ("B049", sign(good().claim("iss", ISSUER.to_uppercase().into())), "jwt.iss"),
        ("typ", sign(good().header("typ", "JWT".into())), "jwt.typ"),
        ("typ", sign(good().without("typ")), "jwt.typ"),
        (
            "signature",
            format!("{head}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, signature.get(1..).unwrap()),
            "jwt.signature",
        ),
        ("A023", SECRET.to_owned(), "jwt.format"),
    ];
    // One token after the other, so that each record is its own.
    let (mut requests, mut descriptions) = (0, std::collections::BTreeSet::new());
    for (case, token, reason) in cases {
        let bearer = format!("Bearer {token}");
        let answer = broker.send(&wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)).await;
        requests += 1;
        assert_eq!(answer.status, 401, "{case}: {}", answer.text());
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{case}: {challenge}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
        descriptions.insert(challenge.to_owned());
        let records = broker.expect_records(requests).await;
        let last = records.iter().rev().find(|record| record["count"].is_u64()).unwrap();
        let found = last["reason"].as_str().unwrap();
        let is_it = if reason.ends_with('.') { found.starts_with(reason) } else { found == reason };
        assert!(is_it, "{case}: {found} instead of {reason}");
    }
    assert_eq!(descriptions.len(), 1, "one fixed description for all causes: {descriptions:?}");
    broker.done_unsent().await;
}

#[tokio::test]
async fn a_token_is_good_for_the_resource_it_names_and_no_other() {
    let upstream = Scripted::start(|_| json_answer("{}")).await;
    let broker = Broker::before(&upstream).start().await;
    let other = Resource::parse("https://broker.example.com/other/mcp").unwrap();
    let mint = Mint::for_person("alice").client("test-client").resource(&other);
    let bearer = format!("Bearer {}", broker.issuer().mint(mint).unwrap().into_text());
    let answer = broker.send(&wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)).await;
    assert_eq!(answer.status, 401, "A017");
    let records = broker.expect_records(1).await;
    assert!(records.iter().any(|record| record["reason"] == "authn.resource"), "A017: {records:#?}");
    broker.done_unsent().await;
}

#[tokio::test]
async fn a015_a_token_over_the_limit_is_refused_before_any_cryptography() {
    let upstream = Scripted::start(|_| json_answer("{}")).await;
    let broker = Broker::before(&upstream).start().await;
    let bearer = format!("Bearer {}", "a".repeat(16 * 1024 + 1));
    let answer = broker.send(&wire::post("/mcp", broker.host(), &[("authorization", &bearer)], CALL)).await;
    assert_eq!(answer.status, 400);
    let records = broker.expect_records(1).await;
    assert!(records.iter().any(|record| record["reason"] == "authn.too_large"), "{records:#?}");
    broker.done_unsent().await;
}
