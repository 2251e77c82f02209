//! Authorization codes.

use token_broker_store::{
    StoreError,
    authority::{
        ClientId, Code, CodeState, CodeStore, Family, FamilyId, LookupHash, RedeemCode, Redemption,
        SessionId, StoredCode,
    },
    sealing::SealingContext,
};
use tower_token_broker::{clock::Timestamp, principal::User};

use super::{contended, families, of_row, resource, scopes, sealed::Sealed};
use crate::{
    database::{Changes, Failure, Row, Value},
    store::SqlStore,
};

const KIND: &str = "code of family";
/// How often a redemption reads the code again. Each time, another one has changed it for good.
const ATTEMPTS: u32 = 3;

const INSERT: &str = "INSERT INTO codes (hash, issuer, subject, client, redirect_uri, resource, \
    scopes, challenge, session, family, authenticated_at, issued_at, expires_at, mac) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
    ON CONFLICT DO NOTHING RETURNING 1";
const LOAD: &str = "SELECT issuer, subject, client, redirect_uri, resource, scopes, challenge, \
    session, family, authenticated_at, issued_at, expires_at, redeemed_at, ended_at, mac \
    FROM codes WHERE hash = $1";
const REDEEM: &str = "UPDATE codes SET redeemed_at = $2 \
    WHERE hash = $1 AND redeemed_at IS NULL AND ended_at IS NULL RETURNING 1";
const END: &str = "UPDATE codes SET ended_at = $2 \
    WHERE hash = $1 AND redeemed_at IS NULL AND ended_at IS NULL RETURNING 1";
/// The filters that are not set are NULL.
const END_SELECTED: &str = "UPDATE codes SET ended_at = $6 \
    WHERE (CAST($1 AS TEXT) IS NULL OR (issuer = $1 AND subject = $2)) \
    AND (CAST($3 AS TEXT) IS NULL OR client = $3) \
    AND (CAST($4 AS BIGINT) IS NULL OR expires_at > $4) \
    AND (CAST($5 AS TEXT) IS NULL OR resource = $5) \
    AND redeemed_at IS NULL AND ended_at IS NULL RETURNING 1";
const END_OF_SESSION: &str = "UPDATE codes SET ended_at = $2 \
    WHERE session = $1 AND redeemed_at IS NULL AND ended_at IS NULL RETURNING 1";
const REMOVE: &str = "DELETE FROM codes WHERE hash IN (\
    SELECT hash FROM codes WHERE expires_at < $1 ORDER BY expires_at LIMIT $2) RETURNING 1";

impl CodeStore for SqlStore {
    async fn put_code(&self, hash: &LookupHash, code: &Code) -> Result<(), StoreError> {
        code.check()?;
        let (store, hash, code) = (self.clone(), *hash, code.clone());
        self.owned(async move {
            let mac = store.mac(&context(&hash, &code));
            let scopes = code.scopes.to_string();
            let values = [
                Value::Bytes(hash.as_bytes()),
                Value::Text(code.user.issuer()),
                Value::Text(code.user.subject()),
                Value::Text(code.client.as_str()),
                Value::Text(&code.redirect_uri),
                Value::Text(code.resource.as_str()),
                Value::Text(&scopes),
                Value::Text(&code.challenge),
                Value::Text(code.session.as_str()),
                Value::Text(code.family.as_str()),
                Value::from(code.authenticated_at),
                Value::from(code.issued_at),
                Value::from(code.expires_at),
                Value::Bytes(&mac),
            ];
            match store.write(INSERT, &values).await?.is_empty() {
                true => Err(StoreError::exists(KIND, code.family.as_str())),
                false => Ok(()),
            }
        })
        .await
    }

    async fn code(&self, hash: &LookupHash) -> Result<Option<StoredCode>, StoreError> {
        let rows = self.read(LOAD, &[Value::Bytes(hash.as_bytes())]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let family = row.text(8)?;
        self.parse_code(row, hash).map(Some).map_err(of_row(KIND, &family))
    }

    async fn redeem_code(&self, request: &RedeemCode) -> Result<Redemption, StoreError> {
        request.check()?;
        let (store, request) = (self.clone(), request.clone());
        self.owned(async move { store.redeem(&request).await }).await
    }

    async fn end_code(&self, hash: &LookupHash, now: Timestamp) -> Result<bool, StoreError> {
        let (store, hash) = (self.clone(), *hash);
        self.owned(async move {
            let values = [Value::Bytes(hash.as_bytes()), Value::from(now)];
            Ok(!store.write(END, &values).await?.is_empty())
        })
        .await
    }

    async fn remove_codes(&self, before: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let store = self.clone();
        self.owned(async move {
            let values = [Value::from(before), Value::from(limit as u64)];
            Ok(store.write(REMOVE, &values).await?.len())
        })
        .await
    }
}

impl SqlStore {
    async fn redeem(&self, request: &RedeemCode) -> Result<Redemption, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(StoredCode { code, state, .. }) = self.code(&request.code).await? else {
                return Ok(Redemption::Unknown);
            };
            match state {
                CodeState::Redeemed(at) => return Ok(Redemption::Again(code, at)),
                CodeState::Ended(_) => return Ok(Redemption::Ended(code)),
                CodeState::Unused if request.now >= code.expires_at => {
                    return Ok(Redemption::Expired(code));
                }
                CodeState::Unused => {}
            }
            let family = Family::begin(&code, request);
            let key = self.seal(&families::context(&family), &request.key).await?;
            match self.within(self.redeem_and_begin(request, &family, &key)).await {
                Ok(true) => return Ok(Redemption::First(code, family)),
                // Another process was first.
                Ok(false) => {}
                Err(Failure::Taken) => {
                    return Err(StoreError::exists(families::KIND, family.id.as_str()));
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(contended())
    }

    /// Redeems an unused code and stores its family; `false` if it is not unused.
    async fn redeem_and_begin(
        &self,
        request: &RedeemCode,
        family: &Family,
        key: &Sealed,
    ) -> Result<bool, Failure> {
        let mut changes = self.database.begin().await?;
        let values = [Value::Bytes(request.code.as_bytes()), Value::from(request.now)];
        if changes.run(REDEEM, &values).await?.is_empty() {
            return Ok(false);
        }
        families::insert(&mut changes, family, key).await?;
        changes.commit().await?;
        Ok(true)
    }

    fn parse_code(&self, row: &Row, hash: &LookupHash) -> Result<StoredCode, Failure> {
        let user = User::new(row.text(0)?, row.text(1)?);
        let ids = (SessionId::new(&row.text(7)?), FamilyId::new(&row.text(8)?));
        let times = (row.time(10)?, row.time(11)?);
        let code = Code::new(user, ClientId::new(&row.text(2)?), resource(row, 4)?, ids, times)
            .redirect_uri(&row.text(3)?)
            .scopes(scopes(row, 5)?)
            .challenge(&row.text(6)?)
            .authenticated_at(row.time(9)?);
        if !self.is_authentic(&context(hash, &code), &row.bytes(14)?) {
            return Err(Failure::Unreadable);
        }
        let state = match (row.optional_time(12)?, row.optional_time(13)?) {
            (Some(at), _) => CodeState::Redeemed(at),
            (None, Some(at)) => CodeState::Ended(at),
            (None, None) => CodeState::Unused,
        };
        Ok(StoredCode::new(code, state))
    }
}

/// Ends the unused codes that the filters of families select.
pub(super) async fn end_selected(
    changes: &mut Changes,
    filter: &[Value<'_>; families::FILTERS],
    now: Timestamp,
) -> Result<(), Failure> {
    let mut values = filter.to_vec();
    values.push(Value::from(now));
    changes.run(END_SELECTED, &values).await.map(drop)
}

/// Ends the unused codes of a user.
pub(super) async fn end_of_user(
    changes: &mut Changes,
    user: &User,
    now: Timestamp,
) -> Result<(), Failure> {
    let none = Value::OptionalText(None);
    let (issuer, subject) = (Value::Text(user.issuer()), Value::Text(user.subject()));
    let filter = [issuer, subject, none, Value::from(None::<Timestamp>), none];
    end_selected(changes, &filter, now).await
}

/// Ends the unused codes that were issued in a session.
pub(super) async fn end_of_session(
    changes: &mut Changes,
    session: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let values = [Value::Text(session), Value::from(now)];
    changes.run(END_OF_SESSION, &values).await.map(drop)
}

/// The columns that never change.
fn context(hash: &LookupHash, code: &Code) -> SealingContext {
    SealingContext::new("code")
        .part(hash.as_bytes())
        .text(code.user.issuer())
        .text(code.user.subject())
        .text(code.client.as_str())
        .text(&code.redirect_uri)
        .text(code.resource.as_str())
        .text(&code.scopes.to_string())
        .text(&code.challenge)
        .text(code.session.as_str())
        .text(code.family.as_str())
        .number(code.authenticated_at.unix_millis())
        .number(code.issued_at.unix_millis())
        .number(code.expires_at.unix_millis())
}
