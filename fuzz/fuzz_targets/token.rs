//! Any header and any claims (after a NUL), signed with our key: an accepted token is one of the
//! profile, for the user that serde_json reads. The same bytes as a token are never accepted.

#![no_main]

use std::sync::OnceLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use token_broker_fuzz::{ready, text, theirs};
use tower_token_broker::{
    Secret,
    authenticate::{
        PresentedToken, VerifyRequest, VerifyToken,
        jwt::{JwtVerifier, Keys},
    },
    clock::{Clock, Timestamp},
    principal::{Principal, Resource},
    refusal::Reason,
};

const ISSUER: &str = "https://broker.example.com";
const RESOURCE: &str = "https://broker.example.com/crm/mcp";
const NOW: u64 = 1_800_000_000;

struct World {
    key: Ed25519KeyPair,
    verifier: JwtVerifier,
    resource: Resource,
    clock: Clock,
}

fuzz_target!(|bytes: &[u8]| {
    static WORLD: OnceLock<World> = OnceLock::new();
    let world = WORLD.get_or_init(World::new);
    assert!(world.verify(bytes).is_err(), "nobody else signs");
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (header, claims) = (&bytes[..at], &bytes[at + 1..]);
    let encoded = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let signature = world.key.sign(signed.as_bytes());
    let token = format!("{signed}.{}", encoded(signature.as_ref()));
    let Ok(principal) = world.verify(token.as_bytes()) else { return };

    let header = theirs(header);
    assert_eq!(text(&header, "alg"), Some("EdDSA"));
    assert!(
        text(&header, "typ").is_some_and(|media| media.to_ascii_lowercase().ends_with("at+jwt"))
    );
    assert!(
        ["jwk", "jku", "x5c", "x5u", "crit", "b64", "zip", "enc"]
            .iter()
            .all(|name| header.get(name).is_none())
    );
    let claims = theirs(claims);
    let claim = |name| text(&claims, name);
    assert_eq!((claim("iss"), claim("sub")), (Some(ISSUER), Some(principal.subject())));
    assert_eq!(
        (claim("client_id"), claim("jti")),
        (Some(principal.client()), Some(principal.token_id()))
    );
    assert_eq!(claim("token_family"), principal.family());
    let audience = claims.get("aud").map(|aud| aud.as_array().map_or(aud, |all| &all[0]));
    assert_eq!(audience.and_then(Value::as_str), Some(RESOURCE));
    let scopes = |text: &str| {
        text.split(' ')
            .filter(|token| !token.is_empty())
            .all(|token| principal.scopes().contains(token))
    };
    assert!(claim("scope").is_none_or(scopes));
    let time = |name: &str| claims[name].as_u64().expect("an integer");
    assert_eq!(principal.expires_at().unix_seconds(), time("exp"));
    assert!(time("exp") + 30 > NOW && time("iat") <= NOW + 30);
    assert!(claims.get("nbf").is_none() || time("nbf") <= NOW + 30);
    let mut link = (principal.actor(), claims.get("act"));
    while let (Some(actor), Some(claim)) = link {
        assert_eq!(text(claim, "sub"), Some(actor.user().subject()));
        assert_eq!(text(claim, "iss").unwrap_or(ISSUER), actor.user().issuer());
        link = (actor.before(), claim.get("act"));
    }
    assert!(matches!(link, (None, None)), "as many links");

    let other = [&[token.as_bytes()[0] ^ 1], &token.as_bytes()[1..]].concat();
    assert!(world.verify(&other).is_err(), "each byte is signed");
});

impl World {
    fn new() -> Self {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes");
        let x = URL_SAFE_NO_PAD.encode(key.public_key().as_ref());
        let keys = Keys::parse(
            format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"{x}"}}]}}"#)
                .as_bytes(),
        );
        let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
        let verifier = JwtVerifier::new(ISSUER, keys.expect("one key"));
        let resource = Resource::parse(RESOURCE).expect("a resource");
        Self { key, verifier, resource, clock }
    }

    fn verify(&self, token: &[u8]) -> Result<Principal, Reason> {
        let token = PresentedToken::new(Secret::new(token.to_vec()));
        let request = VerifyRequest::new(&token, &self.resource, &self.clock);
        let verified = ready(self.verifier.verify(&request));
        verified
            .map(|verified| Principal::for_test(&verified))
            .map_err(|rejected| rejected.reason())
    }
}
