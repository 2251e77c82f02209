//! `token-broker users`, for the accounts of `[login]`.

use std::{collections::HashSet, io::Read as _, path::Path};

use aws_lc_rs::rand;
use token_broker_authority::sign_in::{
    Password, Passwords, PasswordsOptions, first_account_link, new_subject,
};
use token_broker_sql::SqlStore;
use token_broker_store::{
    StoreError,
    authority::{
        AccountCreation, AccountStore as _, LocalAccount, NewAccount, PageRequest,
        SessionStore as _, SetPassword, UserName,
    },
};
use tower_token_broker::{
    Secret,
    audit::Note,
    principal::User,
    revocation::{RevocationChange, RevocationStore as _, Sequence},
};

use super::{CommandError, Session, issuer};
use crate::{
    configuration::{Login, Tokens, secret_of_file},
    escaped::escaped,
    gateway,
};

/// Number of rows that are read at once.
const PAGE: usize = 500;
/// Longest text that is read from stdin.
const LONGEST_INPUT: u64 = 64 * 1024;

/// A local account, as `users list` shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShownUser {
    /// The account; `None` for a blocked user without one.
    pub account: Option<LocalAccount>,
    /// The subject.
    pub subject: Box<str>,
    /// The issuer.
    pub issuer: Box<str>,
    /// Whether all requests of the user are refused.
    pub is_blocked: bool,
}

impl Session<'_> {
    /// Creates an account. Without a file, it has a password for one sign-in, which is returned.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn add_user(
        &self,
        name: &str,
        password_file: Option<&Path>,
    ) -> Result<String, CommandError> {
        self.login()?;
        let name = user_name(name)?;
        let (hash, once) = new_password(&name, password_file).await?;
        let mut account =
            NewAccount::new(&new_subject(), name.clone(), hash, self.broker.clock().now());
        if once.is_some() {
            account = account.must_change_password();
        }
        self.note("users add", Some(name.as_str())).await?;
        match self.stores.sql.create_account(&account).await? {
            AccountCreation::Created(account) => {
                let created = format!(
                    "account {} created, subject {}",
                    escaped(account.name.as_str()),
                    account.subject
                );
                Ok(with_password(created, once.as_ref()))
            }
            AccountCreation::NameTaken => Err(CommandError::Argument(format!(
                "there is an account {} already",
                quoted(&name)
            ))),
        }
    }

    /// Sets the password of an account, and ends its sessions in browsers.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn set_password(
        &self,
        name: &str,
        password_file: Option<&Path>,
    ) -> Result<String, CommandError> {
        let account = self.account(name).await?;
        let (hash, once) = new_password(&account.name, password_file).await?;
        let mut request = SetPassword::new(&account.subject, hash);
        if once.is_some() {
            request = request.must_change_password();
        }
        self.note("users passwd", Some(account.name.as_str())).await?;
        let (user, log) = (self.user_of(&account), self.broker.audit_log());
        log.note(&self.initiator, Note::password_changed(&user)).await?;
        if self.stores.sql.set_password(&request).await?.is_none() {
            log.note(&self.initiator, Note::password_change_failed(&user)).await?;
            return Err(no_account(name));
        }
        // Their codes end, too.
        let now = self.broker.clock().now();
        self.stores.sql.end_sessions(&user, now).await?;
        let done = format!(
            "the password of {} is set, and its browsers are signed out; applications keep their \
             access",
            quoted(&account.name)
        );
        Ok(with_password(done, once.as_ref()))
    }

    /// Disables an account: its requests are refused, it cannot sign in, and the access of all its
    /// applications has ended. With `disconnects`, the accounts that the user connected at servers
    /// are disconnected, too.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn disable(&self, name: &str, disconnects: bool) -> Result<String, CommandError> {
        let account = self.account(name).await?;
        let user = self.user_of(&account);
        // A log that takes no record delays no end of access.
        let noted = self.note("users disable", Some(account.name.as_str())).await;
        // The block comes first: it also ends what is issued at this moment.
        self.set_block(&user).await?;
        self.stores.sql.disable_account(&account.subject).await?.ok_or_else(|| no_account(name))?;
        let mut ended = families(self.end_access(Some(&user), None).await?);
        if disconnects {
            let count = self.end_grants(Some(&user), None).await?;
            let noun = if count == 1 { "account" } else { "accounts" };
            ended = format!("{ended} and {count} connected {noun}");
        }
        self.has_revoked().await;
        noted.map_err(CommandError::done_not_recorded)?;
        Ok(format!("{} is disabled; {ended} ended", quoted(&account.name)))
    }

    /// Enables an account. Its applications must ask again.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn enable(&self, name: &str) -> Result<String, CommandError> {
        let account = self.account(name).await?;
        self.note("users enable", Some(account.name.as_str())).await?;
        let enabled = self.stores.sql.enable_account(&account.subject).await?;
        enabled.ok_or_else(|| no_account(name))?;
        self.unset_block(&self.user_of(&account)).await?;
        self.has_revoked().await;
        Ok(format!("{} is enabled; its applications must ask again", quoted(&account.name)))
    }

    /// Returns all accounts, and all blocked users.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn users(&self) -> Result<Vec<ShownUser>, CommandError> {
        self.note("users list", None).await?;
        let mut blocked = self.blocked_users().await?;
        let mut users = Vec::new();
        if matches!(self.configuration.tokens, Tokens::Login(_)) {
            let mut page = PageRequest::first().limit(PAGE);
            loop {
                let found = self.stores.sql.accounts(&page).await?;
                self.leave_out("accounts", &found.unreadable);
                for account in found.rows {
                    let user = self.user_of(&account);
                    users.push(ShownUser {
                        subject: account.subject.clone(),
                        issuer: user.issuer().into(),
                        is_blocked: blocked.remove(&user),
                        account: Some(account),
                    });
                }
                match found.next {
                    Some(next) => page = PageRequest::after(&next).limit(PAGE),
                    None => break,
                }
            }
        }
        let name = |user: &ShownUser| user.account.as_ref().map(|of| of.name.as_str().to_owned());
        users.sort_by_cached_key(name);
        let mut others: Vec<_> = blocked.into_iter().collect();
        others.sort_by(|one, other| one.subject().cmp(other.subject()));
        users.extend(others.into_iter().map(|user| ShownUser {
            account: None,
            subject: user.subject().into(),
            issuer: user.issuer().into(),
            is_blocked: true,
        }));
        Ok(users)
    }

    /// Makes the one-time link for the first account, which replaces the last one.
    ///
    /// # Errors
    /// [`CommandError`]
    pub async fn link(&self) -> Result<Secret, CommandError> {
        let login = self.login()?;
        let first = PageRequest::first().limit(1);
        if !self.stores.sql.accounts(&first).await?.is_empty() {
            let why = "there is an account already; `token-broker users add NAME` creates another";
            return Err(CommandError::Argument(why.to_owned()));
        }
        self.note("users link", None).await?;
        let site = gateway::site(self.configuration, login)?;
        Ok(first_account_link(&self.stores.sql, &site, self.broker.clock().now()).await?)
    }

    /// Returns the user whom an argument names: by subject or, with `[login]`, also by the name of
    /// the account.
    ///
    /// # Errors
    /// With `[login]`, there is no such account.
    pub async fn user(&self, text: &str) -> Result<User, CommandError> {
        let issuer = issuer(self.configuration);
        if !matches!(self.configuration.tokens, Tokens::Login(_)) {
            return Ok(User::new(&*issuer, text));
        }
        match self.account(text).await {
            Ok(account) => Ok(self.user_of(&account)),
            // A user whose row cannot be read can be blocked, by subject.
            Err(CommandError::Store(StoreError::UnreadableRow { .. })) => {
                Ok(User::new(&*issuer, text))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the account with this subject, as in the records, or with this name.
    async fn account(&self, name: &str) -> Result<LocalAccount, CommandError> {
        self.login()?;
        if let Some(account) = self.stores.sql.account(name).await? {
            return Ok(account);
        }
        let found = self.stores.sql.account_by_name(&user_name(name)?).await?;
        found.map(|found| found.account).ok_or_else(|| no_account(name))
    }

    fn user_of(&self, account: &LocalAccount) -> User {
        User::new(&*issuer(self.configuration), &*account.subject)
    }

    pub(super) fn login(&self) -> Result<&Login, CommandError> {
        match &self.configuration.tokens {
            Tokens::Login(login) => Ok(login),
            Tokens::Jwt { .. } | Tokens::Introspection { .. } | Tokens::Trial { .. } => {
                let why = "this gateway has no accounts and clients of its own: `[login]` is not \
                           set; `users block` and `tokens revoke` take the subjects and clients \
                           of the identity provider";
                Err(CommandError::Argument(why.to_owned()))
            }
        }
    }

    async fn blocked_users(&self) -> Result<HashSet<User>, CommandError> {
        let mut blocked = HashSet::new();
        let mut after = Sequence::START;
        loop {
            let entries = read_after(&self.stores.sql, after).await?;
            let is_last = entries.len() < PAGE;
            for (place, entry) in entries {
                after = place;
                match entry.change {
                    RevocationChange::Blocked(user) => drop(blocked.insert(user)),
                    RevocationChange::Unblocked(user) => drop(blocked.remove(&user)),
                    RevocationChange::Revoked(_) | _ => {}
                }
            }
            if is_last {
                return Ok(blocked);
            }
        }
    }
}

async fn read_after(
    store: &SqlStore,
    after: Sequence,
) -> Result<Vec<(Sequence, tower_token_broker::revocation::RevocationEntry)>, CommandError> {
    let read = store.read_after(after, PAGE).await;
    read.map_err(|_| CommandError::Store(StoreError::Unreachable))
}

fn user_name(text: &str) -> Result<UserName, CommandError> {
    UserName::parse(text).map_err(|error| CommandError::Argument(error.to_string()))
}

fn no_account(name: &str) -> CommandError {
    let name = escaped(name);
    CommandError::Argument(format!("no account is named {name}; `token-broker users list`"))
}

fn quoted(name: &UserName) -> String {
    escaped(name.as_str())
}

/// Returns a number of token families in words.
pub(super) fn families(count: usize) -> String {
    match count {
        0 => "no token family".to_owned(),
        1 => "1 token family".to_owned(),
        count => format!("{count} token families"),
    }
}

/// Returns the hash of the password in a file. Without a file, returns that of a new password, and
/// the password.
async fn new_password(
    name: &UserName,
    file: Option<&Path>,
) -> Result<(Secret, Option<Secret>), CommandError> {
    let (secret, is_new) = match file {
        Some(path) => (password_of(path).map_err(CommandError::Argument)?, false),
        None => (generated(), true),
    };
    #[expect(clippy::disallowed_methods, reason = "reviewed: hashed here")]
    let text = secret.expose_text().unwrap_or_default();
    let password = Password::new(text, name.as_str())
        .map_err(|error| CommandError::Argument(error.to_string()))?;
    let hash = Passwords::new(PasswordsOptions::default()).hash(&password).await;
    let hash = hash.map_err(|error| CommandError::Argument(error.to_string()))?;
    Ok((Secret::from_text(hash), is_new.then_some(secret)))
}

/// Reads a password from a file, or from stdin if its name is `-`.
fn password_of(path: &Path) -> Result<Secret, String> {
    if path != Path::new("-") {
        return secret_of_file(path);
    }
    let mut line = Vec::new();
    let mut input = std::io::stdin().take(LONGEST_INPUT);
    input.read_to_end(&mut line).map_err(|error| format!("stdin cannot be read: {error}"))?;
    if line.ends_with(b"\n") {
        line.pop();
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    Ok(Secret::new(line))
}

/// Characters that cannot be mistaken for each other: 32, so that five bits choose one.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Returns a password of 100 random bits.
fn generated() -> Secret {
    let mut octets = [0; 20];
    rand::fill(&mut octets)
        .expect("the system's source of randomness does not fail once it is seeded");
    let mut text = String::new();
    for (place, octet) in octets.into_iter().enumerate() {
        if place > 0 && place % 5 == 0 {
            text.push('-');
        }
        let chosen = ALPHABET.get(usize::from(octet) % ALPHABET.len());
        text.push(chosen.copied().map_or('-', char::from));
    }
    Secret::from_text(text)
}

fn with_password(done: String, once: Option<&Secret>) -> String {
    #[expect(clippy::disallowed_methods, reason = "reviewed: printed to its operator, once")]
    match once.and_then(|secret| secret.expose_text()) {
        None => done,
        Some(password) => format!(
            "{done}\npassword for the first sign-in, which then asks for another: {password}"
        ),
    }
}

impl ShownUser {
    /// Returns the user's state in words.
    pub(super) fn state(&self) -> &'static str {
        match &self.account {
            None => "blocked",
            Some(account) if !account.enabled => "disabled",
            Some(_) if self.is_blocked => "blocked",
            Some(account) if account.must_change_password => "must change the password",
            Some(_) => "enabled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_counted() {
        assert_eq!(
            [0, 1, 2].map(families),
            ["no token family", "1 token family", "2 token families"]
        );
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test")]
    fn each_password_is_another_one_and_follows_the_rules() {
        let passwords: HashSet<String> =
            (0..100).map(|_| generated().expose_text().unwrap().to_owned()).collect();
        assert_eq!(passwords.len(), 100);
        assert!(passwords.iter().all(|text| Password::new(text, "alice").is_ok()));
    }
}
