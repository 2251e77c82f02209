//! Faults of the local accounts.

use token_broker_store::{
    StoreError,
    authority::{
        AccountCreation, AccountStore, AccountWithPassword, CreateFirstAccount, FirstAccount,
        LinkState, LocalAccount, LookupHash, NewAccount, Page, PageRequest, SetPassword, UserName,
    },
};
use tower_token_broker::clock::Timestamp;

use super::{Fault, Faulty};

impl Faulty {
    /// Creates the account in any case.
    async fn create_anyway(&self, new: &NewAccount) -> Result<FirstAccount, StoreError> {
        Ok(match self.store.create_account(new).await? {
            AccountCreation::Created(account) => FirstAccount::Created(account),
            AccountCreation::NameTaken => FirstAccount::NotFirst,
        })
    }
}

impl AccountStore for Faulty {
    async fn create_account(&self, account: &NewAccount) -> Result<AccountCreation, StoreError> {
        let is_free = self.store.account_by_name(&account.name).await?.is_none();
        if self.has(Fault::AccountRaces) {
            self.race.wait().await;
        }
        match self.store.create_account(account).await? {
            AccountCreation::NameTaken
                if self.has(Fault::AccountNameIsTakenTwice)
                    || (is_free && self.has(Fault::AccountRaces)) =>
            {
                Ok(AccountCreation::Created(LocalAccount::of(account)))
            }
            outcome => Ok(outcome),
        }
    }

    async fn create_first_account(
        &self,
        request: &CreateFirstAccount,
    ) -> Result<FirstAccount, StoreError> {
        let now = request.account.now;
        let before = self.store.first_account_link(&request.link, now).await?;
        if self.has(Fault::LinkRaces) {
            self.race.wait().await;
        }
        match self.store.create_first_account(request).await? {
            FirstAccount::NotFirst if self.has(Fault::LinkForAnyAccount) => {
                self.create_anyway(&request.account).await
            }
            FirstAccount::LinkInvalid | FirstAccount::NotFirst
                if self.has(Fault::LinkRaces) && matches!(before, LinkState::Valid { .. }) =>
            {
                self.create_anyway(&request.account).await
            }
            FirstAccount::Created(account) if self.has(Fault::LinkIsNotUsedUp) => {
                let later = now.plus(std::time::Duration::from_secs(60));
                self.store.put_first_account_link(&request.link, later).await?;
                Ok(FirstAccount::Created(account))
            }
            outcome => Ok(outcome),
        }
    }

    async fn put_first_account_link(
        &self,
        link: &LookupHash,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let is_endless = self.has(Fault::LinkNeverExpires);
        let expires_at =
            if is_endless { Timestamp::from_unix_millis(u64::MAX) } else { expires_at };
        self.store.put_first_account_link(link, expires_at).await
    }

    async fn first_account_link(
        &self,
        link: &LookupHash,
        now: Timestamp,
    ) -> Result<LinkState, StoreError> {
        self.store.first_account_link(link, now).await
    }

    async fn account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        let mut found = self.store.account(subject).await?;
        if let Some(account) = found.as_mut().filter(|_| self.has(Fault::AccountLosesMustChange)) {
            account.must_change_password = false;
        }
        Ok(found)
    }

    async fn account_by_name(
        &self,
        name: &UserName,
    ) -> Result<Option<AccountWithPassword>, StoreError> {
        self.store.account_by_name(name).await
    }

    async fn set_password(
        &self,
        request: &SetPassword,
    ) -> Result<Option<LocalAccount>, StoreError> {
        let mut request = request.clone();
        if self.has(Fault::PasswordOfAnyEpoch) {
            request.expected_epoch = None;
        }
        self.store.set_password(&request).await
    }

    async fn rehash_password(&self, account: &AccountWithPassword) -> Result<bool, StoreError> {
        let mut account = account.clone();
        if self.has(Fault::RehashOfAnyEpoch)
            && let Some(current) = self.store.account(&account.account.subject).await?
        {
            account.account.epoch = current.epoch;
        }
        self.store.rehash_password(&account).await
    }

    async fn enable_account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        self.store.enable_account(subject).await
    }

    async fn disable_account(&self, subject: &str) -> Result<Option<LocalAccount>, StoreError> {
        if self.has(Fault::DisableRaisesAgain) {
            self.store.enable_account(subject).await?;
        }
        self.store.disable_account(subject).await
    }

    async fn accounts(&self, page: &PageRequest) -> Result<Page<LocalAccount>, StoreError> {
        Ok(self.page(self.store.accounts(page).await?))
    }
}
