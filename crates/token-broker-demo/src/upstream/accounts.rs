//! The state of an upstream's authorization server: clients, codes, grants and tokens.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use super::MARKER;

/// Clients, codes, grants and tokens.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    clients: BTreeMap<String, Client>,
    codes: BTreeMap<String, Code>,
    grants: Vec<Grant>,
    /// Valid access tokens.
    access: BTreeMap<String, Access>,
    /// Every token and client secret.
    issued: BTreeSet<String>,
    pub(super) api_closed: bool,
}

#[derive(Debug)]
struct Client {
    secret: String,
    redirect_uris: Vec<String>,
}

/// The access that a user allowed, until the code is redeemed.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) client: String,
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) scopes: String,
}

#[derive(Debug)]
struct Grant {
    client: String,
    scopes: String,
    /// The one valid refresh token. Without one, the grant has ended.
    current: Option<String>,
    /// Refresh tokens that were used.
    spent: BTreeSet<String>,
}

#[derive(Debug)]
struct Access {
    scopes: String,
    /// Position of its grant.
    grant: Option<usize>,
}

/// The tokens of a response.
pub(super) struct Issued {
    pub(super) access_token: String,
    pub(super) refresh_token: String,
    pub(super) scopes: String,
}

impl Accounts {
    /// Registers a client (RFC 7591), and returns its ID and its secret.
    pub(super) fn register(&mut self, redirect_uris: Vec<String>) -> (String, String) {
        let (id, secret) = (format!("registered-{}", random(8)), self.issue());
        self.clients.insert(id.clone(), Client { secret: secret.clone(), redirect_uris });
        (id, secret)
    }

    /// Returns whether a client has registered this redirect URI.
    pub(super) fn has_redirect_uri(&self, client: &str, redirect_uri: &str) -> bool {
        let known = self.clients.get(client);
        known.is_some_and(|client| client.redirect_uris.iter().any(|known| known == redirect_uri))
    }

    /// Returns the client that a header field `Authorization: Basic` names, if its secret is right.
    pub(super) fn client_of(&self, basic: Option<&str>) -> Option<String> {
        let decoded = STANDARD.decode(basic?.strip_prefix("Basic ")?).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (id, secret) = text.split_once(':')?;
        (self.clients.get(id)?.secret == secret).then(|| id.to_owned())
    }

    /// Creates a code for what the user allowed.
    pub(super) fn code(&mut self, code: Code) -> String {
        let text = random(24);
        self.codes.insert(text.clone(), code);
        text
    }

    /// Redeems a code, once (RFC 6749 §4.1.3, RFC 7636 §4.6).
    pub(super) fn redeem(
        &mut self,
        code: &str,
        (client, redirect_uri, verifier): (&str, &str, &str),
    ) -> Option<Issued> {
        let code = self.codes.remove(code)?;
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let is_right = code.client == client
            && code.redirect_uri == redirect_uri
            && code.challenge == challenge;
        if !is_right {
            return None;
        }
        let (client, scopes) = (code.client, code.scopes);
        let spent = BTreeSet::new();
        self.grants.push(Grant { client, scopes: scopes.clone(), current: None, spent });
        Some(self.tokens(self.grants.len() - 1, scopes))
    }

    /// Refreshes, with rotation: each refresh token is good once, and its second use ends the grant
    /// (RFC 9700 §4.14.2). `None` if the token is not good; the scopes, if they are too many.
    pub(super) fn refresh(
        &mut self,
        token: &str,
        client: &str,
        scopes: &str,
    ) -> Option<Result<Issued, ()>> {
        if let Some(ended) = self.grants.iter().position(|grant| grant.spent.contains(token)) {
            self.end(ended);
            return None;
        }
        let is_of =
            |grant: &Grant| grant.current.as_deref() == Some(token) && grant.client == client;
        let position = self.grants.iter().position(is_of)?;
        let grant = self.grants.get_mut(position)?;
        let within: BTreeSet<_> = grant.scopes.split(' ').collect();
        let scopes = if scopes.is_empty() { grant.scopes.clone() } else { scopes.to_owned() };
        if !scopes.split(' ').all(|scope| within.contains(scope)) {
            return Some(Err(()));
        }
        grant.spent.extend(grant.current.take());
        Some(Ok(self.tokens(position, scopes)))
    }

    /// Revokes a token of a client (RFC 7009): with a refresh token, its whole grant.
    pub(super) fn revoke(&mut self, token: &str, client: &str) {
        let is_of =
            |grant: &Grant| grant.current.as_deref() == Some(token) && grant.client == client;
        if let Some(position) = self.grants.iter().position(is_of) {
            self.end(position);
        }
        self.access.remove(token);
    }

    /// Issues an access token that belongs to no grant.
    pub(super) fn raw_access_token(&mut self, scopes: &str) -> String {
        let token = self.issue();
        self.access.insert(token.clone(), Access { scopes: scopes.to_owned(), grant: None });
        token
    }

    /// Expires every access token.
    pub(super) fn expire_access_tokens(&mut self) {
        self.access.clear();
    }

    /// Returns the scopes of a valid access token.
    pub(super) fn scopes_of(&self, token: &str) -> Option<String> {
        self.access.get(token).map(|access| access.scopes.clone())
    }

    /// Returns every secret that was issued.
    pub(super) fn secrets(&self) -> Vec<String> {
        self.issued.iter().cloned().collect()
    }

    fn tokens(&mut self, position: usize, scopes: String) -> Issued {
        let (access_token, refresh_token) = (self.issue(), self.issue());
        if let Some(grant) = self.grants.get_mut(position) {
            grant.current = Some(refresh_token.clone());
        }
        let access = Access { scopes: scopes.clone(), grant: Some(position) };
        self.access.insert(access_token.clone(), access);
        Issued { access_token, refresh_token, scopes }
    }

    fn end(&mut self, position: usize) {
        if let Some(grant) = self.grants.get_mut(position) {
            grant.spent.extend(grant.current.take());
        }
        self.access.retain(|_, access| access.grant != Some(position));
    }

    fn issue(&mut self) -> String {
        let token = format!("{MARKER}{}", random(24));
        self.issued.insert(token.clone());
        token
    }
}

/// Returns random bytes in hexadecimal.
pub(crate) fn random(bytes: usize) -> String {
    let mut bits = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut bits)
        .expect("the system's source of randomness does not fail once it is seeded");
    bits.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLBACK: &str = "http://127.0.0.1/callback";

    fn challenge(verifier: &str) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))
    }

    fn allowed(accounts: &mut Accounts) -> (String, String) {
        let (client, _) = accounts.register(vec![CALLBACK.to_owned()]);
        let code = Code {
            client: client.clone(),
            redirect_uri: CALLBACK.to_owned(),
            challenge: challenge("v"),
            scopes: "a b".to_owned(),
        };
        (client, accounts.code(code))
    }

    #[test]
    fn a_code_is_redeemed_once_and_with_its_verifier() {
        let mut accounts = Accounts::default();
        let (client, code) = allowed(&mut accounts);
        assert!(accounts.redeem(&code, (&client, CALLBACK, "v")).is_some());
        assert!(accounts.redeem(&code, (&client, CALLBACK, "v")).is_none());
        for (other, redirect_uri, verifier) in
            [("x", CALLBACK, "v"), ("", "http://127.0.0.1/", "v"), ("", CALLBACK, "w")]
        {
            let (client, code) = allowed(&mut accounts);
            let client = if other.is_empty() { &*client } else { other };
            assert!(accounts.redeem(&code, (client, redirect_uri, verifier)).is_none());
        }
    }

    #[test]
    fn the_second_use_of_a_refresh_token_ends_the_grant() {
        let mut accounts = Accounts::default();
        let (client, code) = allowed(&mut accounts);
        let first = accounts.redeem(&code, (&client, CALLBACK, "v")).unwrap();
        assert!(accounts.refresh(&first.refresh_token, &client, "a c").unwrap().is_err());
        let second = accounts.refresh(&first.refresh_token, &client, "a").unwrap().unwrap();
        assert_eq!(accounts.scopes_of(&second.access_token).as_deref(), Some("a"));
        assert!(accounts.refresh(&first.refresh_token, &client, "a").is_none());
        assert!(accounts.refresh(&second.refresh_token, &client, "a").is_none());
        assert_eq!(accounts.scopes_of(&second.access_token), None);
    }

    #[test]
    fn a_revoked_refresh_token_ends_the_grant_of_its_client() {
        let mut accounts = Accounts::default();
        let (client, code) = allowed(&mut accounts);
        let tokens = accounts.redeem(&code, (&client, CALLBACK, "v")).unwrap();
        accounts.revoke(&tokens.refresh_token, "another");
        assert!(accounts.scopes_of(&tokens.access_token).is_some());
        accounts.revoke(&tokens.refresh_token, &client);
        assert_eq!(accounts.scopes_of(&tokens.access_token), None);
    }
}
