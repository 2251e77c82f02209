//! `Debug` output of types that contain secrets: it shows none.

use std::fmt::Debug;

use http::{HeaderValue, Request, header};
use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKey, SigningKeys};
use token_broker_outbound::{Guard, GuardedClient};
use token_broker_store::{
    AccessToken, Account, BoxGrantStore, Grant, GrantKey, MemoryGrants, Renewal,
};
use token_broker_tests::marker_scan::Scan;
use token_broker_upstream::{
    AuthorizationServer, ClientAuthentication, ClientCredentials, SecurityToken, StaticSecret,
    StoredGrants, TokenType, UserSecrets,
};
use tower_token_broker::{
    Broker, Secret,
    audit::InMemory,
    authenticate::{PresentedToken, TestTokens},
    clock::Timestamp,
    exchange::{Credential, Upstream},
    principal::{GrantId, Resource, Scopes, User},
    scope_filter::Rules,
    sealing::SealingKeys,
};

const MARKER: &str = "tbm-R310-vK2sQ9xLr7Wd0aHs4NfYc8TgUe";

fn secret() -> Secret {
    Secret::from_text(MARKER.into())
}

fn shown(name: &str, value: &impl Debug, scan: &mut Scan) {
    let text = format!("{value:?} {value:#?}");
    assert!(!text.trim().is_empty());
    scan.source(name, text);
}

#[test]
fn r310_debug_output_contains_no_secret() {
    let mut scan = Scan::new();
    scan.secret("the secret", MARKER).received(MARKER.as_bytes());
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let upstream = Upstream::parse("items", "https://items.example.com/mcp").unwrap();
    let (from, until) = (Timestamp::from_unix_seconds(1), Timestamp::from_unix_seconds(600));

    shown("Secret", &secret(), &mut scan);
    shown("PresentedToken", &PresentedToken::new(secret()), &mut scan);
    shown("TestTokens", &TestTokens::new().user(MARKER, "alice", &resource), &mut scan);
    shown("Credential", &Credential::vouch(secret(), upstream.origin().clone()), &mut scan);
    let of_all = StaticSecret::new(secret(), upstream.clone()).unwrap();
    shown("StaticSecret", &of_all, &mut scan);
    let of_each = UserSecrets::new(upstream.clone());
    let alice = User::new("https://broker.example.com", "alice");
    of_each.set(&alice, &Account::default_account(), secret()).unwrap();
    shown("UserSecrets", &of_each, &mut scan);
    let access = AccessToken::new(secret(), Scopes::none(), from, until);
    let key =
        GrantKey::new(User::new("https://i.example", "alice"), "items", Account::default_account());
    let grant = Grant::new(GrantId::new("g"), key, "https://as.example")
        .refresh_token(secret())
        .access_token(access.clone());
    shown("AccessToken", &access, &mut scan);
    shown("Grant", &grant, &mut scan);
    let grants = MemoryGrants::new();
    shown("Renewal", &Renewal::new(Some(secret()), Some(access)), &mut scan);
    shown("GrantSummary", &grant.to_summary(), &mut scan);
    grants.insert(grant).unwrap();
    shown("MemoryGrants", &grants, &mut scan);
    shown("BoxGrantStore", &BoxGrantStore::new(grants.clone()), &mut scan);
    let server = |client| {
        AuthorizationServer::new(
            "https://as.example",
            "https://as.example/token".parse().unwrap(),
            client,
        )
    };
    for client in [
        ClientAuthentication::basic("broker", secret()),
        ClientAuthentication::post("broker", secret()),
    ] {
        shown("ClientAuthentication", &client, &mut scan);
        shown("AuthorizationServer", &server(client), &mut scan);
    }
    let basic = || server(ClientAuthentication::basic("broker", secret()));
    let client = || GuardedClient::new(&Guard::new()).unwrap();
    let sealing_keys = SealingKeys::new(MARKER.as_bytes().first_chunk().unwrap());
    let broker = Broker::builder().audit(InMemory::new()).sealing_keys(sealing_keys).build();
    let broker = broker.unwrap();
    let stored = StoredGrants::new(&broker, grants, upstream.clone(), basic(), client());
    shown("StoredGrants", &stored, &mut scan);
    let own = ClientCredentials::new(&broker, upstream.clone(), basic(), client());
    shown("ClientCredentials", &own, &mut scan);
    let tokens = TestTokens::new().user(MARKER, "alice", &resource);
    let stack = broker
        .protect(resource.as_str())
        .authenticate(tokens)
        .scope_filter(Rules::new())
        .exchange(StaticSecret::new(secret(), upstream).unwrap());
    shown("Broker", &broker, &mut scan);
    shown("BrokerStack", &stack, &mut scan);
    shown("BrokerLayer", &stack.build().unwrap(), &mut scan);
    shown("SecurityToken", &SecurityToken::new(TokenType::AccessToken, secret()), &mut scan);
    shown("SealingKeys", &SealingKeys::new(MARKER.as_bytes().first_chunk().unwrap()), &mut scan);

    // Signed texts and signing keys have their own markers.
    let key = SigningKey::generate(Algorithm::Es256).unwrap();
    let (private, key_shown) = (hexadecimal(&key), format!("{key:?} {key:#?}"));
    assert!(!key_shown.contains(&private));
    let issuer = Issuer::new("https://broker.example.com", SigningKeys::new(key).unwrap());
    let token = issuer.mint(Mint::for_user("alice").client("c").resource(&resource)).unwrap();
    let shown_token = format!("{token:?} {token:#?} {issuer:?} {issuer:#?}");
    let text = token.into_text();
    assert!(
        !shown_token.contains(&text) && !shown_token.contains(text.rsplit('.').next().unwrap())
    );

    // On a request it is marked sensitive, so that logging middleware hides it.
    let mut value = HeaderValue::from_str(&format!("Bearer {MARKER}")).unwrap();
    value.set_sensitive(true);
    let request = Request::get("/").header(header::AUTHORIZATION, value).body(()).unwrap();
    shown("Request", &request, &mut scan);
    scan.run().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test must know the value that it searches for")]
fn hexadecimal(key: &SigningKey) -> String {
    key.pkcs8().expose().iter().map(|byte| format!("{byte:02x}")).collect()
}
