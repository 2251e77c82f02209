//! Rows of the authority for the tests.

use std::time::Duration;

use token_broker_sql::SqlStore;
use token_broker_store::authority::{
    AccountCreation, AccountStore, AddSigningKey, AuthorityStore, Client, ClientId, ClientStore,
    Code, CodeStore, Family, FamilyId, KeyTimes, LookupKey, NewAccount, RedeemCode, Redemption,
    RegisterClient, Registration, Session, SessionId, SessionStore, SigningKey, SigningKeyStore,
    UserName,
};
use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::{Resource, Scopes, User},
};

use crate::support::{now, secret};

pub(crate) fn after(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

pub(crate) fn user(subject: &str) -> User {
    User::new("https://broker.example.com", subject)
}

/// Key of a family, made of its name.
pub(crate) fn family_key(name: &str) -> Secret {
    let octets = format!("family key of {name} ").into_bytes();
    Secret::new(octets.into_iter().cycle().take(Family::KEY_LENGTH).collect())
}

pub(crate) fn code(name: &str) -> Code {
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let ids = (SessionId::new(&format!("s-{name}")), FamilyId::new(&format!("f-{name}")));
    Code::new(user(name), ClientId::new("inspector"), resource, ids, (now(), after(60)))
        .redirect_uri("http://127.0.0.1/callback")
        .scopes(Scopes::parse("crm:read").unwrap())
        .challenge("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
}

/// Value of the code or the cookie of this user.
pub(crate) fn value(name: &str) -> Secret {
    secret(&format!("value of {name}"))
}

pub(crate) fn redeem(keys: &LookupKey, name: &str) -> RedeemCode {
    let ends = (after(30 * 86_400), after(180 * 86_400));
    RedeemCode::new(keys.code(&value(name)), now(), family_key(name), ends)
}

/// Stores one row of each kind for this user, and a second code that is not redeemed.
pub(crate) async fn fill(store: &SqlStore, name: &str) {
    let keys = store.lookup_key().await.unwrap();
    let id = ClientId::new(name);
    let mut client = Client::new(id.clone(), now());
    client.redirect_uris = vec!["http://127.0.0.1/callback".into()];
    let secret_hash = keys.client_secret(&id, &value(name));
    let registration = RegisterClient::new(client, u64::MAX).secret(secret_hash);
    let registered = store.register_client(&registration).await.unwrap();
    assert_eq!(registered, Registration::Registered);

    store.put_code(&keys.code(&value(name)), &code(name)).await.unwrap();
    let outcome = store.redeem_code(&redeem(&keys, name)).await.unwrap();
    assert!(matches!(outcome, Redemption::First(..)), "{outcome:?}");
    let unused = format!("{name}-unused");
    store.put_code(&keys.code(&value(&unused)), &code(&unused)).await.unwrap();

    let session =
        Session::new(SessionId::new(&format!("s-{name}")), user(name), now(), after(43_200));
    store.put_session(&keys.session(&value(name)), &session).await.unwrap();

    let account = NewAccount::new(
        &format!("a-{name}"),
        UserName::parse(name).unwrap(),
        secret(&format!("password hash of {name}")),
        now(),
    );
    let created = store.create_account(&account).await.unwrap();
    assert!(matches!(created, AccountCreation::Created(_)), "{created:?}");

    let generation = store.signing_keys().await.unwrap().generation;
    let private_key = secret(&format!("private key of {name}"));
    let times = KeyTimes::new(now(), after(3_600));
    let key = SigningKey::new(&format!("k-{name}"), "ES256", private_key, times);
    assert!(store.add_signing_key(&AddSigningKey::new(generation, key)).await.unwrap());
}
