//! The authenticated caller of a request.

use std::sync::Arc;

use super::{Actor, Confirmation, Resource, Scopes, User, Verified, verified::Proof};
use crate::{clock::Timestamp, json::Value};

/// The authenticated caller of a request. Only the authenticate layer creates one, so holding one
/// is the check. Cheap to clone.
///
/// Services find it in the extensions of the request:
///
/// ```
/// # use tower_token_broker::principal::Principal;
/// fn found(request: &http::Request<()>) -> Option<&Principal> {
///     request.extensions().get::<Principal>()
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Principal(Arc<Proof>);

impl Principal {
    pub(crate) fn of(verified: &Verified) -> Self {
        Self(Arc::clone(&verified.0))
    }

    /// Returns the caller as the audit writes it; computed once.
    pub(crate) fn in_record(&self, write: impl FnOnce(&Self) -> Vec<u8>) -> &[u8] {
        self.0.in_record.get_or_init(|| write(self).into())
    }

    /// Creates a principal for tests.
    #[cfg(feature = "test-util")]
    pub fn for_test(verified: &Verified) -> Self {
        Self::of(verified)
    }

    /// Returns issuer and subject.
    pub fn user(&self) -> &User {
        &self.0.user
    }

    /// Returns the subject, as the issuer names it (`sub`).
    pub fn subject(&self) -> &str {
        self.0.user.subject()
    }

    /// Returns the issuer of the token (`iss`).
    pub fn issuer(&self) -> &str {
        self.0.user.issuer()
    }

    /// Returns the OAuth client that holds the token (`client_id`).
    pub fn client(&self) -> &str {
        &self.0.client
    }

    /// Returns the ID of the token (`jti`).
    pub fn token_id(&self) -> &str {
        &self.0.token_id
    }

    /// Returns the token family, if the issuer names one.
    pub fn family(&self) -> Option<&str> {
        self.0.family.as_deref()
    }

    /// Returns the actor that acts for the user (`act`), if there is one.
    pub fn actor(&self) -> Option<&Actor> {
        self.0.actor.as_ref()
    }

    /// Returns the scopes of the token.
    pub fn scopes(&self) -> &Scopes {
        &self.0.scopes
    }

    /// Returns the protected resource for which the token was issued.
    pub fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// Returns the groups or roles that the token names; empty if it names none.
    pub fn groups(&self) -> &[Box<str>] {
        self.0.more.as_ref().map_or(&[], |more| &more.groups)
    }

    /// Returns the authentication context class (`acr`), if the token has one.
    pub fn acr(&self) -> Option<&str> {
        self.0.more.as_ref()?.acr.as_deref()
    }

    /// Returns the account for which the token was issued, if it names one.
    pub fn account(&self) -> Option<&str> {
        self.0.more.as_ref()?.account.as_deref()
    }

    /// Returns the key to which the token is bound (`cnf`), if it is.
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.0.more.as_ref()?.confirmation.as_ref()
    }

    /// Returns a claim that the verifier was configured to keep; `None` if the token has no such
    /// claim.
    pub fn claim(&self, name: &str) -> Option<Value<'_>> {
        self.0.more.as_ref()?.claims.get(name).map(|raw| Value::known(raw))
    }

    /// Returns the claims that the verifier was configured to keep, in the order of their names.
    pub fn claims(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let claims = self.0.more.iter().flat_map(|more| &more.claims);
        claims.map(|(name, raw)| (&**name, Value::known(raw)))
    }

    /// Returns the time at which the token was issued (`iat`).
    pub fn issued_at(&self) -> Timestamp {
        self.0.issued_at
    }

    /// Returns the time of expiry (`exp`, without leeway).
    pub fn expires_at(&self) -> Timestamp {
        self.0.expires_at
    }
}

/// A principal cannot be created from a vouched token:
///
/// ```compile_fail,E0624
/// # use tower_token_broker::principal::{Principal, Verified};
/// fn forged(verified: &Verified) -> Principal {
///     Principal::of(verified)
/// }
/// ```
///
/// The same without the mistake compiles:
///
/// ```
/// # use tower_token_broker::principal::{Principal, Verified};
/// fn found(_verified: &Verified, request: &http::Request<()>) -> Option<Principal> {
///     request.extensions().get::<Principal>().cloned()
/// }
/// ```
#[cfg(doctest)]
struct OnlyByTheLayer;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::TokenTimes;

    #[test]
    fn a_principal_has_the_claims_that_were_kept() {
        let at = Timestamp::from_unix_seconds(1);
        let times = TokenTimes { id: "t", issued_at: at, expires_at: at };
        let resource = Resource::parse("https://h.example").unwrap();
        let plain = Verified::vouch(User::new("i", "alice"), "c", resource, times);
        let limits = crate::json::Limits::default();
        let department = Value::parse(br#""sales""#, &limits).unwrap();
        let kept = plain.clone().with_groups(["staff", "eu"]).with_acr("mfa").with_account("work");
        let kept = Principal::of(&kept.with_claim("department", department));
        assert_eq!(kept.groups(), &["staff".into(), "eu".into()]);
        assert_eq!((kept.acr(), kept.account()), (Some("mfa"), Some("work")));
        assert_eq!(kept.claim("department").and_then(Value::as_str).as_deref(), Some("sales"));
        assert!(kept.claim("salary").is_none() && kept.confirmation().is_none());
        let claims: Vec<_> = kept.claims().map(|(name, value)| (name, value.raw())).collect();
        assert_eq!(claims, [("department", r#""sales""#)]);
        let plain = Principal::of(&plain);
        assert!(
            plain.groups().is_empty()
                && plain.acr().is_none()
                && plain.claim("department").is_none()
        );
        assert_eq!(plain.claims().count(), 0);
    }
}
