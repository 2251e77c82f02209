//! Local accounts in memory.

use tower_token_broker::clock::Timestamp;

use super::{Link, MemoryAuthority, Rows};
use crate::{
    StoreError,
    authority::{
        AccountCreation, AccountStore, AccountWithPassword, CreateFirstAccount, FirstAccount,
        LinkState, LocalAccount, LookupHash, NewAccount, Page, PageRequest, SetPassword, UserName,
    },
};

impl Rows {
    fn create(&mut self, new: &NewAccount) -> LocalAccount {
        let account = LocalAccount::of(new);
        let stored = AccountWithPassword::new(account.clone(), new.password_hash.clone());
        self.accounts.insert(account.subject.clone(), stored);
        account
    }

    fn link_state(&self, link: &LookupHash, now: Timestamp) -> LinkState {
        let is_valid = |held: &&Link| held.hash == *link && now < held.expires_at;
        match self.first_account_link.as_ref().filter(is_valid) {
            None => LinkState::Invalid,
            Some(held) if self.accounts.is_empty() => {
                LinkState::Valid { expires_at: held.expires_at }
            }
            Some(_) => LinkState::NotFirst,
        }
    }
}

impl AccountStore for MemoryAuthority {
    async fn create_account(&self, new: &NewAccount) -> Result<AccountCreation, StoreError> {
        new.check()?;
        let mut rows = self.rows.lock();
        if rows.accounts.contains_key(&new.subject) {
            return Err(StoreError::exists("account", &new.subject));
        }
        if rows.accounts.values().any(|stored| stored.account.name == new.name) {
            return Ok(AccountCreation::NameTaken);
        }
        Ok(AccountCreation::Created(rows.create(new)))
    }

    async fn create_first_account(
        &self,
        request: &CreateFirstAccount,
    ) -> Result<FirstAccount, StoreError> {
        request.account.check()?;
        let mut rows = self.rows.lock();
        Ok(match rows.link_state(&request.link, request.account.now) {
            LinkState::Invalid => FirstAccount::LinkInvalid,
            LinkState::NotFirst => FirstAccount::NotFirst,
            LinkState::Valid { .. } => {
                rows.first_account_link = None;
                FirstAccount::Created(rows.create(&request.account))
            }
        })
    }

    async fn put_first_account_link(
        &self,
        link: &LookupHash,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.rows.lock().first_account_link = Some(Link { hash: *link, expires_at });
        Ok(())
    }

    async fn first_account_link(
        &self,
        link: &LookupHash,
        now: Timestamp,
    ) -> Result<LinkState, StoreError> {
        Ok(self.rows.lock().link_state(link, now))
    }

    async fn account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        Ok(self.rows.lock().accounts.get(subject).map(|stored| stored.account.clone()))
    }

    async fn account_by_name(
        &self,
        name: &UserName,
    ) -> Result<Option<AccountWithPassword>, StoreError> {
        let rows = self.rows.lock();
        Ok(rows.accounts.values().find(|stored| stored.account.name == *name).cloned())
    }

    async fn set_password(
        &self,
        request: &SetPassword,
    ) -> Result<Option<LocalAccount>, StoreError> {
        request.check()?;
        let mut rows = self.rows.lock();
        let expected = |stored: &&mut AccountWithPassword| {
            request.expected_epoch.is_none_or(|epoch| epoch == stored.account.epoch)
        };
        Ok(rows.accounts.get_mut(&request.subject).filter(expected).map(|stored| {
            stored.password_hash = request.password_hash.clone();
            stored.account.must_change_password = request.must_change_password;
            stored.account.epoch = stored.account.epoch.saturating_add(1);
            stored.account.clone()
        }))
    }

    async fn rehash_password(&self, account: &AccountWithPassword) -> Result<bool, StoreError> {
        SetPassword::new("", account.password_hash.clone()).check()?;
        let mut rows = self.rows.lock();
        let same =
            |stored: &&mut AccountWithPassword| stored.account.epoch == account.account.epoch;
        Ok(rows.accounts.get_mut(&account.account.subject).filter(same).is_some_and(|stored| {
            stored.password_hash = account.password_hash.clone();
            true
        }))
    }

    async fn enable_account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        Ok(self.rows.lock().accounts.get_mut(subject).map(|stored| {
            stored.account.enabled = true;
            stored.account.clone()
        }))
    }

    async fn disable_account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        Ok(self.rows.lock().accounts.get_mut(subject).map(|stored| {
            if stored.account.enabled {
                stored.account.epoch = stored.account.epoch.saturating_add(1);
            }
            stored.account.enabled = false;
            stored.account.clone()
        }))
    }

    async fn accounts(&self, page: &PageRequest) -> Result<Page<LocalAccount>, StoreError> {
        let rows = self.rows.lock();
        let accounts = rows.accounts.values().map(|stored| stored.account.clone());
        Ok(page.page_of(accounts, |account| &account.subject))
    }
}
