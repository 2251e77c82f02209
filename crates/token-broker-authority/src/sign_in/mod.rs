//! Sign-in with local accounts, browser sessions, and the pages of a user's own account.
//!
//! [`BrowserPages`] handles the requests of browsers, and is the
//! [`Interaction`](crate::authorize::Interaction) of the authorize endpoint.
//!
//! | path | method | purpose |
//! |---|---|---|
//! | `/sign-in` | GET, POST | sign in, and continue to the waiting application |
//! | `/password` | GET, POST | choose another password |
//! | `/first-account` | GET, POST | create the first account, by its one-time link |
//! | `/connections` | GET, POST | applications with access; end it |
//! | `/sign-out` | POST | end the session of this browser |
//! | `/connect/{server}` | GET, POST | connect an account at a server |
//! | `/connect/{server}/callback` | GET | the return from its authorization server |
//! | `/assets/pages-….css` | GET | the style sheet |
//!
//! # Sessions
//! A session is 256 random bits in a cookie; the store has a keyed hash of them. It ends after 12
//! hours, when its user signs out, when the account is disabled, and when its password is set. Each
//! sign-in has a new one. Over https the cookie is named `__Host-token-broker-session`. Over http,
//! which is for loopback only, it is `token-broker-session-PORT`, without `Secure`: every program
//! on the same host that a browser visits receives it, so it is for trying out only.
//!
//! # Forged forms
//! Each form is checked by `Sec-Fetch-Site`, `Origin` and a token that is derived from the cookie.
//! The sign-in form has a cookie of its own, so that another site cannot sign a browser in as
//! someone else.
//!
//! # Guessing passwords
//! No limit belongs to an account by itself, so a stranger cannot keep a user out: attempts are
//! limited per account and address, per address, and for all addresses that are not known
//! ([`ThrottleOptions`]). Passwords are hashed with argon2id ([`HashCost`]), few at once
//! ([`Passwords`]). An unknown user name takes the same work and has the same response as a wrong
//! password.
//!
//! # Sources
//! OWASP Session Management, Password Storage, Authentication and Cross-Site Request Forgery
//! Prevention Cheat Sheets; NIST SP 800-63B-4; RFC 6265bis (cookies); RFC 9700 §4.16
//! (clickjacking); W3C Fetch Metadata.

mod access;
mod authority_access;
mod browser_pages;
mod browser_secret;
mod connect;
mod connections;
mod cookie;
mod csrf;
mod device;
mod first_account;
mod form;
mod interaction;
mod link;
mod local_accounts;
mod password;
mod password_change;
mod request;
#[cfg(feature = "axum")]
mod router;
mod sessions;
mod sign_in_form;
mod throttle;

pub use access::{AccessUnavailable, ClientAccess};
pub use browser_pages::{BrowserPages, BrowserPagesOptions};
pub(crate) use browser_secret::BrowserSecret;
pub use link::{first_account_link, new_subject};
pub use password::{
    Busy, HashCost, HashCostError, NewPasswordError, Password, Passwords, PasswordsOptions,
};
pub use request::BrowserRequest;
pub use throttle::ThrottleOptions;

#[cfg(test)]
mod test_pages;
#[cfg(test)]
mod tests;
