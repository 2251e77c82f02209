//! Tokens as the documentation of each provider shows them, signed by a key of the test's own.

use serde_json::{Value as Json, json};

use super::{
    test_issuer::{Ec, OTHER_RSA, RSA, b64, with, without},
    tests::{NOW, RESOURCE},
    *,
};
use crate::{
    authenticate::{PresentedToken, VerifyRequest, VerifyToken},
    clock::{Clock, Timestamp},
    json::Value,
    principal::{Principal, Resource},
    refusal::Reason,
    secret::Secret,
};

/// A provider: its issuer, our configuration, and samples of its tokens.
struct Provider {
    name: &'static str,
    issuer: &'static str,
    profile: TokenProfile,
    header: Json,
    access: Json,
    id_header: Json,
    id: Json,
    client: &'static str,
    subject: &'static str,
    scopes: &'static str,
}

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const API: &str = "6e74172b-be56-4843-9ff4-e66a39bb12e3";
const API_V1: &str = "ef1da9d4-ff77-4c3e-a005-840c3f830745";

/// learn.microsoft.com "Access tokens" and "ID tokens" in the Microsoft identity platform: samples
/// v2.0, adapted. The API calls itself: `azp` is `aud`.
fn entra_v2() -> Provider {
    let issuer = "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0";
    let header = json!({"typ": "JWT", "alg": "RS256", "kid": "r"});
    let access = json!({
        "aud": API, "iss": issuer, "iat": NOW, "nbf": NOW, "exp": NOW + 3900, "aio": "AXQAi/8IAAA",
        "azp": API, "azpacr": "0", "name": "Abe Lincoln",
        "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474", "preferred_username": "abeli@example.com",
        "rh": "I", "scp": "access_as_user Files.Read",
        "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ", "tid": TENANT,
        "uti": "fqiBqXLPj0eQa82S-IYFAA", "ver": "2.0",
        "roles": ["Approver"], "groups": ["0760b6cf-170e-4a14-91b3-4b78e0739963"],
    });
    let id = json!({
        "ver": "2.0", "iss": issuer, "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "aud": API, "exp": NOW + 3600, "iat": NOW, "nbf": NOW, "name": "Abe Lincoln",
        "preferred_username": "abeli@example.com", "oid": "00000000-0000-0000-66f3-3332eca7ea81",
        "tid": TENANT, "nonce": "123523", "aio": "Df2UVXL1ix", "uti": "fqiBqXLPj0eQa82S-IYFAA",
        "roles": ["Approver"],
    });
    Provider {
        name: "Entra v2.0",
        issuer,
        profile: TokenProfile::entra(API),
        id_header: header.clone(),
        header,
        access,
        id,
        client: API,
        subject: "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
        scopes: "Files.Read access_as_user",
    }
}

/// The same, samples v1.0, adapted. The tenant in `iss` is shortened, as there.
fn entra_v1() -> Provider {
    let issuer = "https://sts.windows.net/fa15d692-e9c7-4460-a743-29f29522229/";
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": "r", "kid": "r"});
    let access = json!({
        "aud": API_V1, "iss": issuer, "iat": NOW, "nbf": NOW,
        "exp": NOW + 3900, "acr": "1", "aio": "AXQAi/8IAAAA", "amr": ["wia"],
        "appid": "75dbe77f-10a3-4e59-85fd-8c127544f17c", "appidacr": "0", "name": "abeli",
        "ipaddr": "222.222.222.22", "oid": "02223b6b-aa1d-42d4-9ec0-1b2bb9194438", "rh": "I",
        "scp": "user_impersonation", "sub": "l3_roISQU222bULS9yi2k0XpqpOiMz5H3ZACo1GeXA",
        "tid": "fa15d692-e9c7-4460-a743-29f2956fd429", "unique_name": "abeli@microsoft.com",
        "uti": "FVsGxYXI30-TuikuuUoFAA", "ver": "1.0",
    });
    let id = json!({
        "aud": API_V1, "iss": issuer, "iat": NOW, "nbf": NOW,
        "exp": NOW + 3900, "amr": ["rsa"], "oid": "02223b6b-aa1d-42d4-9ec0-1b2bb9194438",
        "sub": "l3_roISQU222bULS9yi2k0XpqpOiMz5H3ZACo1GeXA", "nonce": "123523", "ver": "1.0",
        "tid": "fa15d692-e9c7-4460-a743-29f2956fd429", "uti": "FVsGxYXI30-TuikuuUoFAA",
    });
    Provider {
        name: "Entra v1.0",
        issuer,
        profile: TokenProfile::entra(API_V1),
        id_header: header.clone(),
        header,
        access,
        id,
        client: "75dbe77f-10a3-4e59-85fd-8c127544f17c",
        subject: "l3_roISQU222bULS9yi2k0XpqpOiMz5H3ZACo1GeXA",
        scopes: "user_impersonation",
    }
}

/// auth0.com/docs "Access Token Profiles", "ID Token Structure": sample of the Auth0 profile,
/// adapted.
fn auth0() -> Provider {
    let issuer = "https://my-domain.auth0.com/";
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "r"});
    let access = json!({
        "iss": issuer, "sub": "auth0|123456",
        "aud": ["https://example.com/health-api", "https://my-domain.auth0.com/userinfo"],
        "azp": "my_client_id", "iat": NOW, "exp": NOW + 86_400,
        "scope": "openid profile read:patients", "permissions": ["read:patients"],
    });
    let id = json!({
        "iss": issuer, "sub": "auth0|123456", "aud": "my_client_id", "iat": NOW, "exp": NOW + 600,
        "name": "Jane Doe", "nonce": "n-0S6", "sid": "s1",
    });
    Provider {
        name: "Auth0",
        issuer,
        profile: TokenProfile::auth0("https://example.com/health-api"),
        id_header: header.clone(),
        header,
        access,
        id,
        client: "my_client_id",
        subject: "auth0|123456",
        scopes: "openid profile read:patients",
    }
}

/// The same, sample of its RFC 9068 profile.
fn auth0_rfc9068() -> Provider {
    let auth0 = auth0();
    let access = without(auth0.access, "azp");
    let access = with(access, "client_id", json!("my_client_id"));
    Provider {
        name: "Auth0, RFC 9068",
        header: json!({"alg": "RS256", "typ": "at+jwt", "kid": "r"}),
        access: with(access, "jti", json!("73WakrfVbNJBaAmhQtEeDv")),
        ..auth0
    }
}

/// Okta's pair of tokens of a sign-in; its API reference has the same claims.
fn okta() -> Provider {
    let issuer = "https://example.okta.com/oauth2/default";
    let access = json!({
        "ver": 1, "jti": "AT.MNAoEQ_jbKqoinrQo1D0XKjMX28U5d7ZszBceot7-Ts", "iss": issuer,
        "aud": "api://default", "iat": NOW, "exp": NOW + 3600, "cid": "0oa1gjh63g214q0Hq0g4",
        "uid": "00u1gjh63g214q0Hq0g4", "scp": ["openid", "profile", "crm:read"],
        "auth_time": NOW - 60, "sub": "user@example.com", "groups": ["Everyone"],
    });
    let id = json!({
        "sub": "00u1gjh63g214q0Hq0g4", "name": "A User", "ver": 1, "iss": issuer,
        "aud": "0oa1gjh63g214q0Hq0g4", "iat": NOW, "exp": NOW + 3600, "amr": ["pwd"],
        "jti": "ID.radCQMOQUmyvcTBmmIL0J6BaS60apUEiC7-vI7pOmkw", "idp": "00o1",
        "auth_time": NOW - 60, "at_hash": "fPlsvVszI29LU2UhDyJ9vg",
    });
    Provider {
        name: "Okta",
        issuer,
        profile: TokenProfile::okta("api://default"),
        header: json!({"kid": "r", "alg": "RS256"}),
        id_header: json!({"kid": "r", "alg": "RS256"}),
        access,
        id,
        client: "0oa1gjh63g214q0Hq0g4",
        subject: "00u1gjh63g214q0Hq0g4",
        scopes: "crm:read openid profile",
    }
}

/// Claims as `AccessToken` and `IDToken` of Keycloak's sources write them.
fn keycloak() -> Provider {
    let issuer = "https://sso.example.com/realms/staff";
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "r"});
    let access = json!({
        "exp": NOW + 300, "iat": NOW, "auth_time": NOW - 60,
        "jti": "onrtac:312ee6d1-7f22-4d5a-ae56-6de3c53e1873", "iss": issuer,
        "aud": ["crm-api", "account"], "sub": "f7ba3d3e-8b1c-4d5a-8c1e-0a5c8a1f2b3c",
        "typ": "Bearer", "azp": "inspector", "sid": "b9369d3f", "acr": "1",
        "realm_access": {"roles": ["offline_access", "staff"]},
        "resource_access": {"crm-api": {"roles": ["editor"]}, "account": {"roles": ["view"]}},
        "scope": "openid profile crm:read", "preferred_username": "alice",
    });
    let id = json!({
        "exp": NOW + 300, "iat": NOW, "jti": "7f22fd6a", "iss": issuer, "aud": "crm-api",
        "sub": "f7ba3d3e-8b1c-4d5a-8c1e-0a5c8a1f2b3c", "typ": "ID", "azp": "crm-api",
        "nonce": "n-0S6", "sid": "b9369d3f", "at_hash": "fPlsvVszI29LU2UhDyJ9vg", "acr": "1",
    });
    Provider {
        name: "Keycloak",
        issuer,
        profile: TokenProfile::keycloak("crm-api"),
        id_header: header.clone(),
        header,
        access,
        id,
        client: "inspector",
        subject: "f7ba3d3e-8b1c-4d5a-8c1e-0a5c8a1f2b3c",
        scopes: "crm:read openid profile",
    }
}

/// docs.aws.amazon.com "Understanding the access token", "Understanding the identity token".
fn cognito() -> Provider {
    let issuer = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_example";
    let access = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["testgroup"],
        "iss": issuer, "version": 2, "client_id": "xxxxxxxxxxxxexample", "token_use": "access",
        "scope": "phone openid crm/read", "auth_time": NOW, "exp": NOW + 3600, "iat": NOW,
        "origin_jti": "aaaaaaaa", "event_id": "64f513be", "jti": "bbbbbbbb", "username": "my-user",
    });
    let id = json!({
        "sub": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "cognito:groups": ["testgroup"],
        "iss": issuer, "aud": "xxxxxxxxxxxxexample", "token_use": "id", "nonce": "abcdefg",
        "at_hash": "AAAA", "exp": NOW + 3600, "iat": NOW, "jti": "cccccccc",
        "client_id": "xxxxxxxxxxxxexample", // Not documented; a stricter disguise.
    });
    Provider {
        name: "Cognito",
        issuer,
        profile: TokenProfile::cognito(["xxxxxxxxxxxxexample"]),
        header: json!({"kid": "r", "alg": "RS256"}),
        id_header: json!({"kid": "r", "alg": "RS256"}),
        access,
        id,
        client: "xxxxxxxxxxxxexample",
        subject: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        scopes: "crm/read openid phone",
    }
}

fn providers() -> [Provider; 7] {
    [entra_v2(), entra_v1(), auth0(), auth0_rfc9068(), okta(), keycloak(), cognito()]
}

impl Provider {
    fn verifier(&self) -> JwtVerifier {
        // As most providers publish it; Entra's have no `alg`.
        let keys = json!({"keys": [with(RSA.jwk("r"), "use", json!("sig"))]}).to_string();
        let keys = Keys::parse_for(keys.as_bytes(), Algorithm::Rs256).unwrap();
        JwtVerifier::new(self.issuer, keys).profile(self.profile.clone())
    }

    async fn verify(&self, token: &str) -> Result<Principal, Reason> {
        verify(&self.verifier(), token).await
    }

    async fn refused(&self, claims: &Json) -> Option<Reason> {
        self.verify(&RSA.sign(&self.header, claims)).await.err()
    }
}

async fn verify(verifier: &JwtVerifier, token: &str) -> Result<Principal, Reason> {
    let token = PresentedToken::new(Secret::from_text(token.into()));
    let resource = Resource::parse(RESOURCE).unwrap();
    let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
    let verified = verifier.verify(&VerifyRequest::new(&token, &resource, &clock)).await;
    verified.map(|verified| Principal::of(&verified)).map_err(|rejected| rejected.reason())
}

#[tokio::test]
async fn access_tokens_of_each_provider_are_accepted() {
    for provider in providers() {
        let token = RSA.sign(&provider.header, &provider.access);
        let found = provider.verify(&token).await;
        let found = found.unwrap_or_else(|reason| panic!("{} {reason:?}", provider.name));
        assert_eq!(found.issuer(), provider.issuer, "{}", provider.name);
        assert_eq!(found.client(), provider.client, "{}", provider.name);
        assert_eq!(found.subject(), provider.subject, "{}", provider.name);
        assert_eq!(found.scopes().to_string(), provider.scopes, "{}", provider.name);
        assert_eq!(found.resource().as_str(), RESOURCE);
        assert!(!found.token_id().is_empty());
    }
}

#[tokio::test]
async fn b493_id_tokens_of_the_same_provider_are_refused() {
    for provider in providers() {
        let Provider { name, id, id_header, access, .. } = &provider;
        let token = RSA.sign(id_header, id);
        assert!(provider.verify(&token).await.is_err(), "B493 {name}");
        // With the audience, and each claim of an access token that an ID token may have.
        let mut disguised = id.clone();
        for claim in ["aud", "jti", "scope", "sub", "iss", "uti"] {
            if let Some(value) = access.get(claim) {
                disguised[claim] = value.clone();
            }
        }
        let token = RSA.sign(id_header, &disguised);
        assert_eq!(provider.verify(&token).await.err(), Some(Reason::JwtType), "B493 {name}");
        for mark in ["at_hash", "c_hash", "s_hash"] {
            let marked = with(access.clone(), mark, json!("fPlsvVszI29LU2UhDyJ9vg"));
            assert_eq!(provider.refused(&marked).await, Some(Reason::JwtType), "B493 {name}");
        }
        let marked = with(access.clone(), "nonce", json!("n-0S6"));
        // These two name the kind in a claim of its own.
        let may_have_nonce = matches!(*name, "Keycloak" | "Cognito");
        let expected = (!may_have_nonce).then_some(Reason::JwtType);
        assert_eq!(provider.refused(&marked).await, expected, "B493 {name}");
    }
}

#[tokio::test]
async fn b493_each_sign_of_an_access_token_is_needed() {
    for (provider, claim, value) in [
        (entra_v2(), "azp", None),
        (entra_v2(), "ver", None),
        (entra_v2(), "ver", Some(json!("1.0"))),
        (entra_v1(), "appid", None),
        (entra_v1(), "scp", None),
        (okta(), "cid", None),
        (okta(), "jti", Some(json!("ID.radCQMOQUmyvcTBmmIL0J6BaS60apUEiC7"))),
        (auth0(), "azp", None),
        (auth0(), "aud", Some(json!(["https://example.com/health-api", "my_client_id"]))),
        (keycloak(), "typ", None),
        (keycloak(), "typ", Some(json!("ID"))),
        (keycloak(), "typ", Some(json!("Refresh"))),
        (keycloak(), "typ", Some(json!("Offline"))),
        (keycloak(), "typ", Some(json!("Logout"))),
        (keycloak(), "typ", Some(json!(["Bearer"]))),
        (cognito(), "token_use", None),
        (cognito(), "token_use", Some(json!("id"))),
        (cognito(), "token_use", Some(json!("Access"))),
    ] {
        let spoilt = match value {
            None => without(provider.access.clone(), claim),
            Some(value) => with(provider.access.clone(), claim, value),
        };
        let found = provider.refused(&spoilt).await;
        assert_eq!(found, Some(Reason::JwtType), "B493 {} {claim}", provider.name);
    }
    // An app without a user has roles instead of scopes.
    let entra = entra_v2();
    assert_eq!(entra.refused(&without(entra.access.clone(), "scp")).await, None);
}

#[tokio::test]
async fn the_type_of_the_header_is_that_of_the_profile() {
    for provider in providers() {
        for (media, accepted_by) in [
            (json!("JWT"), "Entra v2.0 Entra v1.0 Auth0, RFC 9068 Okta Keycloak Cognito"),
            (json!("at+jwt"), "Auth0, RFC 9068 Keycloak"),
            (json!("id+jwt"), ""),
            (json!("logout+jwt"), ""),
            (json!("dpop+jwt"), ""),
            (json!("application/okta-internal-at+jwt"), ""),
            (json!(""), ""),
            (json!(["JWT"]), ""),
            (Json::Null, ""),
        ] {
            let token =
                RSA.sign(&with(provider.header.clone(), "typ", media.clone()), &provider.access);
            let found = provider.verify(&token).await.err();
            let expected = (!accepted_by.contains(provider.name)).then_some(Reason::JwtType);
            assert_eq!(found, expected, "{} {media}", provider.name);
        }
        let untyped = RSA.sign(
            &without(with(provider.header.clone(), "typ", json!("")), "typ"),
            &provider.access,
        );
        let expected = (!["Okta", "Cognito"].contains(&provider.name)).then_some(Reason::JwtType);
        assert_eq!(provider.verify(&untyped).await.err(), expected, "{}", provider.name);
    }
    // Without a profile, each of them is refused.
    for provider in providers() {
        let keys = json!({"keys": [RSA.jwk("r")]}).to_string();
        let keys = Keys::parse_for(keys.as_bytes(), Algorithm::Rs256).unwrap();
        let plain = JwtVerifier::new(provider.issuer, keys);
        let token = RSA.sign(&provider.header, &provider.access);
        assert!(verify(&plain, &token).await.is_err(), "{}", provider.name);
    }
}

#[tokio::test]
async fn tokens_for_others_are_refused() {
    for provider in providers() {
        let Provider { name, access, .. } = &provider;
        for (claim, value, reason) in [
            ("iss", json!(format!("{}/", provider.issuer)), Reason::JwtIssuer),
            ("iss", json!(provider.issuer.to_uppercase()), Reason::JwtIssuer),
            ("iss", json!("https://login.microsoftonline.com/common/v2.0"), Reason::JwtIssuer),
            ("aud", json!("https://graph.microsoft.com"), Reason::WrongResource),
            ("aud", json!([]), Reason::JwtAudience),
            ("aud", json!(""), Reason::JwtAudience),
            ("aud", json!([null]), Reason::JwtAudience),
            ("aud", json!({"0": "ours"}), Reason::JwtAudience),
            ("exp", json!(NOW - 31), Reason::JwtLifetime),
            ("exp", json!("9999999999"), Reason::JwtClaimType),
            ("nbf", json!(NOW + 31), Reason::JwtNotYetValid),
            ("sub", json!(7), Reason::JwtClaimType),
        ] {
            if claim == "sub" && *name == "Okta" {
                continue;
            }
            let found = provider.refused(&with(access.clone(), claim, value.clone())).await;
            assert_eq!(found, Some(reason), "{name} {claim} {value}");
        }
        for claim in ["iss", "exp", "iat"] {
            let found = provider.refused(&without(access.clone(), claim)).await;
            assert_eq!(found, Some(Reason::JwtMissingClaim), "{name} {claim}");
        }
        // Others, without ours.
        let several = with(access.clone(), "aud", json!(["one", "two"]));
        let expected = match provider.profile.allows_other_audiences {
            true => Reason::WrongResource,
            false => Reason::JwtAudience,
        };
        assert_eq!(provider.refused(&several).await, Some(expected), "{name}");
    }
    let entra = entra_v2();
    let beside = with(entra.access.clone(), "aud", json!([API, "other"]));
    assert_eq!(entra.refused(&beside).await, Some(Reason::JwtAudience));
    let cognito = cognito();
    let other = with(cognito.access.clone(), "client_id", json!("another"));
    assert_eq!(cognito.refused(&other).await, Some(Reason::WrongResource));
    let bound = with(cognito.access.clone(), "aud", json!(RESOURCE));
    assert_eq!(cognito.refused(&bound).await, None, "its resource binding");
    let own = with(cognito.access.clone(), "aud", json!("xxxxxxxxxxxxexample"));
    assert_eq!(cognito.refused(&own).await, None, "what a trigger adds");
    let other = with(cognito.access.clone(), "aud", json!("another"));
    assert_eq!(cognito.refused(&other).await, Some(Reason::WrongResource));
    for provider in providers().iter().filter(|provider| provider.name != "Cognito") {
        let found = provider.refused(&without(provider.access.clone(), "aud")).await;
        assert_eq!(found, Some(Reason::JwtMissingClaim), "{}", provider.name);
    }
}

#[tokio::test]
async fn forged_tokens_of_each_provider_are_refused() {
    use aws_lc_rs::hmac;
    for provider in providers() {
        let Provider { name, header, access, .. } = &provider;
        let with_alg = |algorithm: &str| with(header.clone(), "alg", json!(algorithm));
        let message = |header: &Json| {
            format!("{}.{}", b64(header.to_string().as_bytes()), b64(access.to_string().as_bytes()))
        };
        // B027: the public key as a shared secret, in each form.
        let jwk = RSA.jwk("r").to_string();
        for secret in [RSA.modulus(), jwk.into_bytes(), b64(&RSA.modulus()).into_bytes()] {
            let message = message(&with_alg("HS256"));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
            let token = format!("{message}.{}", b64(tag.as_ref()));
            assert_eq!(
                provider.verify(&token).await.err(),
                Some(Reason::JwtAlgorithm),
                "B027 {name}"
            );
        }
        for algorithm in ["none", "None", "RS384", "PS256", "ES256"] {
            let token = RSA.sign(&with_alg(algorithm), access);
            let found = provider.verify(&token).await.err();
            assert_eq!(found, Some(Reason::JwtAlgorithm), "B026 {name} {algorithm}");
        }
        for (case, token, reason) in [
            ("another key", OTHER_RSA.sign(header, access), Reason::JwtSignature),
            ("an EC key", Ec::new().sign(header, access), Reason::JwtSignature),
            ("none", format!("{}.", message(header)), Reason::JwtSignature),
            ("zeros", format!("{}.{}", message(header), b64(&[0; 256])), Reason::JwtSignature),
            (
                "the kid of another set",
                RSA.sign(&with(header.clone(), "kid", json!("other")), access),
                Reason::JwtKeyId,
            ),
            (
                "a key of its own",
                RSA.sign(&with(header.clone(), "jwk", RSA.jwk("r")), access),
                Reason::JwtHeaderKey,
            ),
        ] {
            assert_eq!(provider.verify(&token).await.err(), Some(reason), "{name} {case}");
        }
    }
}

#[tokio::test]
async fn groups_and_roles_reach_the_policy() {
    let read = |value: Option<Value<'_>>| value.map(|value| value.raw().to_owned());
    let of = async |provider: &Provider| {
        provider.verify(&RSA.sign(&provider.header, &provider.access)).await.unwrap()
    };
    let entra = of(&entra_v2()).await;
    assert_eq!(entra.groups(), [Box::from("0760b6cf-170e-4a14-91b3-4b78e0739963")]);
    assert_eq!(read(entra.claim("roles")).as_deref(), Some(r#"["Approver"]"#));
    assert_eq!(read(entra.claim("tid")), Some(format!("\"{TENANT}\"")));
    assert_eq!(entra.token_id(), "fqiBqXLPj0eQa82S-IYFAA");
    let auth0 = of(&auth0()).await;
    assert_eq!(read(auth0.claim("permissions")).as_deref(), Some(r#"["read:patients"]"#));
    assert!(auth0.token_id().starts_with("sha256:"), "it has no jti");
    assert_eq!(of(&okta()).await.groups(), [Box::from("Everyone")]);
    let keycloak = of(&keycloak()).await;
    let roles = read(keycloak.claim("realm_access.roles"));
    assert_eq!(roles.as_deref(), Some(r#"["offline_access","staff"]"#));
    let roles = read(keycloak.claim("resource_access.roles"));
    assert_eq!(roles.as_deref(), Some(r#"["editor"]"#), "of the audience, not of `account`");
    assert_eq!(of(&cognito()).await.groups(), [Box::from("testgroup")]);
    let mut by_object = entra_v2();
    by_object.profile = by_object.profile.subject_from("oid");
    assert_eq!(of(&by_object).await.subject(), "690222be-ff1a-4d56-abd1-7e4f7d38e474");
}

#[tokio::test]
async fn b497_unreadable_roles_are_refused() {
    let roles = |value: Json| json!({"roles": value});
    for (provider, name, value) in [
        (entra_v2(), "roles", json!({"admin": true})),
        (entra_v2(), "roles", json!([1])),
        (entra_v2(), "groups", json!(null)),
        (entra_v2(), "wids", json!(7)),
        (auth0(), "permissions", json!([["read"]])),
        (auth0(), "org_id", json!({})),
        (cognito(), "cognito:groups", json!(["a", 1])),
        (okta(), "groups", json!({"a": 1})),
        (keycloak(), "realm_access", json!(["staff"])),
        (keycloak(), "realm_access", json!("staff")),
        (keycloak(), "realm_access", json!(null)),
        (keycloak(), "realm_access", roles(json!({"staff": 1}))),
        (keycloak(), "realm_access", roles(json!(["staff", null]))),
        (keycloak(), "resource_access", json!([])),
    ] {
        let found = provider.refused(&with(provider.access.clone(), name, value.clone())).await;
        assert_eq!(found, Some(Reason::JwtClaimType), "B497 {name} {value}");
    }
    for (name, value) in [("realm_access", json!({})), ("realm_access", roles(json!("staff")))] {
        let keycloak = keycloak();
        let found = keycloak.refused(&with(keycloak.access.clone(), name, value.clone())).await;
        assert_eq!(found, None, "{name} {value}");
    }
}

#[tokio::test]
async fn b499_only_okta_falls_back_to_sub() {
    let mut okta = okta();
    let without_uid = without(okta.access.clone(), "uid");
    assert_eq!(okta.refused(&without_uid).await, None);
    okta.profile = okta.profile.subject_from("uid");
    assert_eq!(okta.refused(&without_uid).await, Some(Reason::JwtMissingClaim), "B499");
    let mut entra = entra_v2();
    entra.profile = entra.profile.subject_from("oid");
    let found = entra.refused(&without(entra.access.clone(), "oid")).await;
    assert_eq!(found, Some(Reason::JwtMissingClaim), "B499");
}

#[tokio::test]
async fn b494_groups_that_are_elsewhere_are_refused() {
    let entra = entra_v2();
    let elsewhere = |names: Json| with(entra.access.clone(), "_claim_names", names);
    for (claims, refused) in [
        (elsewhere(json!({"groups": "src1"})), true),
        (elsewhere(json!({"roles": "src1"})), true),
        (elsewhere(json!({"address": "src1", "groups": "src2"})), true),
        (elsewhere(json!("groups")), true),
        (with(entra.access.clone(), "hasgroups", json!(true)), true),
        (elsewhere(json!({"address": "src1"})), false),
        (elsewhere(json!({})), false),
    ] {
        let expected = refused.then_some(Reason::JwtClaimType);
        assert_eq!(entra.refused(&claims).await, expected, "B494 {claims}");
    }
}

#[tokio::test]
async fn scopes_have_the_form_of_their_provider() {
    let okta = okta();
    for (scp, refused) in [
        (json!([]), false),
        (json!("crm:read"), false),
        (json!(["a b"]), true),
        (json!([""]), true),
        (json!(["a", 7]), true),
        (json!([["a"]]), true),
        (json!({"a": 1}), true),
        (Json::Null, true),
        (json!(["a\u{7}"]), true),
    ] {
        let expected = refused.then_some(Reason::JwtClaimType);
        let found = okta.refused(&with(okta.access.clone(), "scp", scp.clone())).await;
        assert_eq!(found, expected, "{scp}");
    }
    for provider in providers().iter().filter(|provider| provider.name != "Okta") {
        let name = provider.profile.scope_claim();
        let found = provider.refused(&with(provider.access.clone(), name, json!(["a"]))).await;
        assert_eq!(found, Some(Reason::JwtClaimType), "{}", provider.name);
    }
}

#[tokio::test]
async fn a_verifier_of_your_own_reads_signed_claims() {
    let keys = json!({"keys": [RSA.jwk("r")]}).to_string();
    let keys = KeySource::from(Keys::parse_for(keys.as_bytes(), Algorithm::Rs256).unwrap());
    let clock = Clock::manual(Timestamp::from_unix_seconds(NOW));
    let header = json!({"alg": "RS256", "kid": "r", "typ": "secevent+jwt"});
    let claims = json!({"iss": "https://a.example", "events": {}});
    let presented = |token: String| PresentedToken::new(Secret::from_text(token));
    let signed = keys.verify(&presented(RSA.sign(&header, &claims)), &clock).await.unwrap();
    let text =
        |value: Value<'_>, name: &str| value.get(name).unwrap().as_str().unwrap().into_owned();
    assert_eq!(text(signed.header(), "typ"), "secevent+jwt");
    assert_eq!(text(signed.claims(), "iss"), "https://a.example");
    for (token, reason) in [
        (OTHER_RSA.sign(&header, &claims), Reason::JwtSignature),
        (RSA.sign(&header, &json!([])), Reason::JwtJson),
        (RSA.sign(&with(header.clone(), "alg", json!("ES256")), &claims), Reason::JwtAlgorithm),
        (RSA.sign(&with(header.clone(), "kid", json!("x")), &claims), Reason::JwtKeyId),
        ("a.b".into(), Reason::JwtFormat),
    ] {
        let found = keys.verify(&presented(token), &clock).await;
        assert_eq!(found.err().map(|error| error.reason()), Some(reason));
    }
}
