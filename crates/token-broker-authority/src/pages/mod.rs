//! The pages that users see: pure functions from views to HTML, one style sheet, and the headers of
//! every page.
//!
//! The pages work without scripts, from 320 px on, in light and dark, by keyboard and with a screen
//! reader. They load nothing but the style sheet.
//!
//! - Text from outside (names of clients, scopes, user names) is rendered by `outside.rs`: escaped,
//!   truncated, and with characters that hide or reorder text made visible.
//! - Each response has the headers of `headers.rs`: no scripts, no frames, no storing, no referrer
//!   to another origin.
//!
//! # Sources
//! Content Security Policy Level 3; WCAG 2.2, level AA; RFC 9700 §4.16 (clickjacking).

mod accounts;
mod connect;
mod connections;
mod consent;
mod error;
mod first_account;
mod headers;
mod layout;
mod outside;
mod password;
mod sign_in;
mod signed_out;
mod site;
mod style;
mod times;

pub(crate) use connect::{ConnectProblem, ConnectView, connect, connect_problem};
pub(crate) use connections::{Accounts, Notice, connections};
pub use connections::{ClientFamily, ConnectedClient, ConnectionsView};
pub(crate) use consent::consent;
pub(crate) use error::{PageError, authorize_error, error, refused_request};
pub(crate) use first_account::{FirstAccountProblem, FirstAccountView, first_account};
pub(crate) use headers::harden;
pub(crate) use password::{PasswordProblem, PasswordView, password};
pub(crate) use sign_in::{SignInProblem, SignInView, sign_in};
pub(crate) use signed_out::{SignedOut, signed_out};
pub use site::{Site, SiteError};
#[cfg(feature = "axum")]
pub(crate) use style::style_path;
pub(crate) use style::style_sheet;

#[cfg(test)]
mod tests;
