//! Authorization codes.

use tower_token_broker::{
    Secret,
    clock::Timestamp,
    principal::{Resource, Scopes, User},
};

use super::{
    ClientId, Family, FamilyId, LookupHash, SessionId,
    limits::{self, text},
};
use crate::StoreError;

/// The meaning of an authorization code. The code itself is not stored, only its [`LookupHash`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Code {
    /// The user that consented.
    pub user: User,
    /// The client for which it was issued.
    pub client: ClientId,
    /// Redirect URI of the authorization request, as it was given.
    pub redirect_uri: Box<str>,
    /// Resource of the authorization request (RFC 8707).
    pub resource: Resource,
    /// Scopes that the user allowed.
    pub scopes: Scopes,
    /// PKCE challenge, method `S256` (RFC 7636 §4.2).
    pub challenge: Box<str>,
    /// Browser session in which the user consented.
    pub session: SessionId,
    /// ID of the token family that begins when the code is redeemed.
    pub family: FamilyId,
    /// When the user last signed in.
    pub authenticated_at: Timestamp,
    /// When the code was issued.
    pub issued_at: Timestamp,
    /// When it expires: from this instant on, it is not redeemed.
    pub expires_at: Timestamp,
}

impl Code {
    /// Creates a code without scopes, redirect URI and challenge, whose user signed in when it was
    /// issued.
    pub fn new(
        user: User,
        client: ClientId,
        resource: Resource,
        ids: (SessionId, FamilyId),
        (issued_at, expires_at): (Timestamp, Timestamp),
    ) -> Self {
        let (session, family) = ids;
        Self {
            user,
            client,
            redirect_uri: "".into(),
            resource,
            scopes: Scopes::none(),
            challenge: "".into(),
            session,
            family,
            authenticated_at: issued_at,
            issued_at,
            expires_at,
        }
    }

    /// Sets the redirect URI.
    #[must_use = "returns the changed code"]
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.redirect_uri = uri.into();
        self
    }

    /// Sets the scopes.
    #[must_use = "returns the changed code"]
    pub fn scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Sets the PKCE challenge.
    #[must_use = "returns the changed code"]
    pub fn challenge(mut self, challenge: &str) -> Self {
        self.challenge = challenge.into();
        self
    }

    /// Sets when the user last signed in.
    #[must_use = "returns the changed code"]
    pub const fn authenticated_at(mut self, at: Timestamp) -> Self {
        self.authenticated_at = at;
        self
    }

    /// Checks what every store checks before it stores a code.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        limits::user(&self.user)?;
        limits::client(self.client.as_str())?;
        limits::uri("the redirect URI", &self.redirect_uri)?;
        limits::resource(&self.resource)?;
        limits::scopes(&self.scopes)?;
        text("the PKCE challenge", &self.challenge, 128)?;
        limits::id("the session ID", self.session.as_str())?;
        limits::id("the family ID", self.family.as_str())
    }
}

/// A code in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredCode {
    /// The code.
    pub code: Code,
    /// Whether it was used.
    pub state: CodeState,
}

impl StoredCode {
    /// Creates a stored code. Only stores call this.
    pub const fn new(code: Code, state: CodeState) -> Self {
        Self { code, state }
    }
}

/// State of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each")]
pub enum CodeState {
    /// It was neither redeemed nor ended. It may have expired.
    Unused,
    /// It was redeemed at this instant.
    Redeemed(Timestamp),
    /// It was ended at this instant, without having been redeemed.
    Ended(Timestamp),
}

/// Request to redeem a code. The token family begins in the same step, with generation 1.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "does nothing unless it is used"]
pub struct RedeemCode {
    /// Hash of the code.
    pub code: LookupHash,
    /// Current time.
    pub now: Timestamp,
    /// [`KeyedFamily::key`](super::KeyedFamily::key) of the new family: 32 random octets.
    pub key: Secret,
    /// [`Family::idle_until`] of the new family.
    pub idle_until: Timestamp,
    /// [`Family::ends_at`] of the new family.
    pub ends_at: Timestamp,
}

impl RedeemCode {
    /// Creates a request.
    pub const fn new(
        code: LookupHash,
        now: Timestamp,
        key: Secret,
        (idle_until, ends_at): (Timestamp, Timestamp),
    ) -> Self {
        Self { code, now, key, idle_until, ends_at }
    }

    /// Checks what every store checks before it begins a family.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]
    pub fn check(&self) -> Result<(), StoreError> {
        match limits::octets(&self.key) {
            Family::KEY_LENGTH => Ok(()),
            _ => Err(StoreError::Invalid { field: "the family key", limit: Family::KEY_LENGTH }),
        }
    }
}

/// Outcome of a [`RedeemCode`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle each")]
#[must_use = "the code may not have been redeemed"]
pub enum Redemption {
    /// The code is redeemed now, and this family has begun.
    First(Code, Family),
    /// It was redeemed before, at this instant. Its family may have ended since.
    Again(Code, Timestamp),
    /// It was ended.
    Ended(Code),
    /// It expired, without having been redeemed.
    Expired(Code),
    /// There is no such code.
    Unknown,
}

/// A store of authorization codes.
///
/// Each method is one step that is atomic, and durable when it returns. A step whose future is
/// dropped has either taken effect completely or not at all. Methods fail with
/// [`StoreError::Unreachable`]; further errors are listed at each.
pub trait CodeStore: Send + Sync + 'static {
    /// Stores a code.
    ///
    /// # Errors
    /// [`StoreError::Invalid`]; [`StoreError::Exists`] if a code has this hash or this family ID.
    ///
    /// # Cancellation
    /// The code is stored or not.
    fn put_code(
        &self,
        hash: &LookupHash,
        code: &Code,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns a code, in any state and also after it expired.
    ///
    /// # Errors
    /// [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// Reads only.
    fn code(
        &self,
        hash: &LookupHash,
    ) -> impl Future<Output = Result<Option<StoredCode>, StoreError>> + Send;

    /// Redeems a code, if it is unused and has not expired, and begins its token family. Of several
    /// calls, one returns [`Redemption::First`]; when another returns [`Redemption::Again`], the
    /// family is in the store and can be ended.
    ///
    /// Check client, redirect URI and PKCE verifier before, with [`CodeStore::code`].
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a key of another length; [`StoreError::Exists`] if there is a
    /// family with this ID, and the code stays unused; [`StoreError::UnreadableRow`]
    ///
    /// # Cancellation
    /// The code is redeemed and the family has begun, or neither.
    fn redeem_code(
        &self,
        request: &RedeemCode,
    ) -> impl Future<Output = Result<Redemption, StoreError>> + Send;

    /// Ends an unused code, so that it is not redeemed, and returns whether it did.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// The code is ended or not; a retry is safe.
    fn end_code(
        &self,
        hash: &LookupHash,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Removes codes that expired before this instant, at most `limit`, and returns their number.
    /// The replay of a code that was removed is that of an unknown one: keep codes for some hours.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`]
    ///
    /// # Cancellation
    /// Each code is removed or not; a retry is safe.
    fn remove_codes(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send;
}
