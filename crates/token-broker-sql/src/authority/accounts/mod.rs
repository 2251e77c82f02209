//! Local accounts, and the one-time link for the first of them.

mod first;

use token_broker_store::{
    StoreError,
    authority::{
        AccountCreation, AccountStore, AccountWithPassword, CreateFirstAccount, FirstAccount,
        LinkState, LocalAccount, LookupHash, NewAccount, Page, PageRequest, SetPassword, UserName,
    },
    sealing::SealingContext,
};
use tower_token_broker::{Secret, clock::Timestamp};

use super::{
    count, of_row, page_of,
    sealed::{Sealed, SealedTable},
};
use crate::{
    database::{Changes, Failure, Row, Value},
    limits,
    store::SqlStore,
};

const KIND: &str = "account";
pub(super) const COUNTER: &str = "accounts";

pub(super) const SEALED: SealedTable = SealedTable {
    select_old: "SELECT subject, key_id, data_key, name FROM accounts \
        WHERE key_id <> $1 AND (CAST($2 AS TEXT) IS NULL OR subject > $2) \
        ORDER BY subject LIMIT $3",
    rewrap: "UPDATE accounts SET key_id = $1, data_key = $2 \
        WHERE subject = $3 AND data_key = $4 RETURNING 1",
    context: |row| Ok(context(&row.text(0)?, &row.text(3)?)),
};

const INSERT: &str = "INSERT INTO accounts (subject, name, name_key, enabled, \
    must_change_password, epoch, created_at, key_id, data_key, password_hash) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING 1";
const LOAD: &str = "SELECT subject, name, enabled, must_change_password, epoch, created_at \
    FROM accounts WHERE subject = $1";
const LOAD_BY_NAME: &str = "SELECT subject, name, enabled, must_change_password, epoch, \
    created_at, key_id, data_key, password_hash FROM accounts WHERE name_key = $1";
const LIST: &str = "SELECT subject, name, enabled, must_change_password, epoch, created_at \
    FROM accounts WHERE (CAST($1 AS TEXT) IS NULL OR subject > $1) ORDER BY subject LIMIT $2";
const SET_PASSWORD: &str = "UPDATE accounts SET must_change_password = $2, epoch = epoch + 1, \
    key_id = $4, data_key = $5, password_hash = $6 \
    WHERE subject = $1 AND (CAST($3 AS BIGINT) IS NULL OR epoch = $3) \
    RETURNING subject, name, enabled, must_change_password, epoch, created_at";
const REHASH: &str = "UPDATE accounts SET key_id = $3, data_key = $4, password_hash = $5 \
    WHERE subject = $1 AND epoch = $2 RETURNING 1";
const ENABLE: &str = "UPDATE accounts SET enabled = 1 WHERE subject = $1 \
    RETURNING subject, name, enabled, must_change_password, epoch, created_at";
/// An enabled account counts 1.
const DISABLE: &str = "UPDATE accounts SET epoch = epoch + enabled, enabled = 0 \
    WHERE subject = $1 \
    RETURNING subject, name, enabled, must_change_password, epoch, created_at";

impl AccountStore for SqlStore {
    async fn create_account(&self, new: &NewAccount) -> Result<AccountCreation, StoreError> {
        new.check()?;
        let (store, new) = (self.clone(), new.clone());
        self.owned(async move {
            let hash = store.seal_hash(&new).await?;
            if store.within(store.insert_account(&new, &hash)).await? {
                return Ok(AccountCreation::Created(LocalAccount::of(&new)));
            }
            match store.account_row(&new.subject).await? {
                Some(_) => Err(StoreError::exists(KIND, &new.subject)),
                None => Ok(AccountCreation::NameTaken),
            }
        })
        .await
    }

    async fn create_first_account(
        &self,
        request: &CreateFirstAccount,
    ) -> Result<FirstAccount, StoreError> {
        request.account.check()?;
        let (store, request) = (self.clone(), request.clone());
        self.owned(async move { store.create_first(&request).await }).await
    }

    async fn put_first_account_link(
        &self,
        link: &LookupHash,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let (store, link) = (self.clone(), *link);
        self.owned(async move { store.put_link(&link, expires_at).await }).await
    }

    async fn first_account_link(
        &self,
        link: &LookupHash,
        now: Timestamp,
    ) -> Result<LinkState, StoreError> {
        self.link_state(link, now).await
    }

    async fn account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        self.account_row(subject).await
    }

    async fn account_by_name(
        &self,
        name: &UserName,
    ) -> Result<Option<AccountWithPassword>, StoreError> {
        let rows = self.read(LOAD_BY_NAME, &[Value::Text(name.as_key())]).await?;
        let Some(row) = rows.first() else {
            self.open_decoy(name.as_key()).await?;
            return Ok(None);
        };
        let account = read(row)?;
        let context = context(&account.subject, account.name.as_str());
        let hash = match Sealed::read(row, 6) {
            Ok(Some(sealed)) => self.open_sealed(&context, &sealed).await,
            Ok(None) => Err(Failure::Unreadable),
            Err(failure) => Err(failure),
        };
        let hash = hash.map_err(of_row(KIND, &account.subject))?;
        Ok(Some(AccountWithPassword::new(account, hash)))
    }

    async fn set_password(
        &self,
        request: &SetPassword,
    ) -> Result<Option<LocalAccount>, StoreError> {
        request.check()?;
        let (store, request) = (self.clone(), request.clone());
        self.owned(async move {
            let subject = &request.subject;
            let hash = store.seal_hash_of(subject, &request.password_hash).await?;
            let Some(hash) = hash else { return Ok(None) };
            let mut values = vec![
                Value::Text(subject),
                Value::Int(request.must_change_password.into()),
                Value::from(request.expected_epoch),
            ];
            values.extend(hash.values());
            store.write(SET_PASSWORD, &values).await?.first().map(read).transpose()
        })
        .await
    }

    async fn rehash_password(&self, account: &AccountWithPassword) -> Result<bool, StoreError> {
        let (subject, epoch) = (account.account.subject.clone(), account.account.epoch);
        let hash = account.password_hash.clone();
        SetPassword::new(&subject, hash.clone()).check()?;
        let store = self.clone();
        self.owned(async move {
            let Some(hash) = store.seal_hash_of(&subject, &hash).await? else { return Ok(false) };
            let mut values = vec![Value::Text(&subject), Value::from(epoch)];
            values.extend(hash.values());
            Ok(!store.write(REHASH, &values).await?.is_empty())
        })
        .await
    }

    async fn enable_account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        self.change_account(ENABLE, subject).await
    }

    async fn disable_account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        self.change_account(DISABLE, subject).await
    }

    async fn accounts(&self, page: &PageRequest) -> Result<Page<LocalAccount>, StoreError> {
        let after = page.after.as_deref();
        if after.is_some_and(|after| !limits::is_storable(after, limits::ID)) {
            return Ok(Page::new(Vec::new(), None));
        }
        let size = page.size();
        let values = [Value::OptionalText(after), Value::from(size as u64 + 1)];
        let rows = self.read(LIST, &values).await?;
        page_of(&rows, size, read)
    }
}

impl SqlStore {
    async fn account_row(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        if !limits::is_storable(subject, limits::ID) {
            return Ok(None);
        }
        self.read(LOAD, &[Value::Text(subject)]).await?.first().map(read).transpose()
    }

    async fn change_account(
        &self,
        sql: &'static str,
        subject: &str,
    ) -> Result<Option<LocalAccount>, StoreError> {
        if !limits::is_storable(subject, limits::ID) {
            return Ok(None);
        }
        let (store, subject) = (self.clone(), subject.to_owned());
        self.owned(async move {
            store.write(sql, &[Value::Text(&subject)]).await?.first().map(read).transpose()
        })
        .await
    }

    async fn seal_hash(&self, new: &NewAccount) -> Result<Sealed, StoreError> {
        self.seal(&context(&new.subject, new.name.as_str()), &new.password_hash).await
    }

    /// Seals the hash of an account that exists. Its subject and its name never change.
    async fn seal_hash_of(
        &self,
        subject: &str,
        hash: &Secret,
    ) -> Result<Option<Sealed>, StoreError> {
        let Some(account) = self.account_row(subject).await? else { return Ok(None) };
        let context = context(&account.subject, account.name.as_str());
        Ok(Some(self.seal(&context, hash).await?))
    }

    /// Stores an account; `false` if its subject or its name is taken.
    async fn insert_account(&self, new: &NewAccount, hash: &Sealed) -> Result<bool, Failure> {
        // Dropped without a commit, it changes nothing.
        let mut changes = self.database.begin().await?;
        count(&mut changes, COUNTER, 1).await?;
        if !insert(&mut changes, new, hash).await? {
            return Ok(false);
        }
        changes.commit().await?;
        Ok(true)
    }
}

async fn insert(changes: &mut Changes, new: &NewAccount, hash: &Sealed) -> Result<bool, Failure> {
    let account = LocalAccount::of(new);
    let mut values = vec![
        Value::Text(&account.subject),
        Value::Text(account.name.as_str()),
        Value::Text(account.name.as_key()),
        Value::Int(account.enabled.into()),
        Value::Int(account.must_change_password.into()),
        Value::from(account.epoch),
        Value::from(account.created_at),
    ];
    values.extend(hash.values());
    Ok(!changes.run(INSERT, &values).await?.is_empty())
}

/// Reads the columns of an account, which are the first ones.
fn read(row: &Row) -> Result<LocalAccount, StoreError> {
    let subject = row.text(0)?;
    parse(row, &subject).map_err(of_row(KIND, &subject))
}

fn parse(row: &Row, subject: &str) -> Result<LocalAccount, Failure> {
    let name = UserName::parse(&row.text(1)?).map_err(|_| Failure::Unreadable)?;
    let mut account = LocalAccount::new(subject, name, row.time(5)?);
    account.enabled = flag(row, 2)?;
    account.must_change_password = flag(row, 3)?;
    account.epoch = row.number(4)?;
    Ok(account)
}

fn flag(row: &Row, column: usize) -> Result<bool, Failure> {
    match row.int(column)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Failure::Unreadable),
    }
}

/// The associated data of the password hash.
fn context(subject: &str, name: &str) -> SealingContext {
    SealingContext::new(KIND).text(subject).text(name)
}
