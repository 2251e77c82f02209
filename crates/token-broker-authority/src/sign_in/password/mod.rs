//! Passwords of local accounts: their rules, their hashes, and the pool that computes them.

mod hash;
mod phc;
mod pool;
mod rules;

pub use hash::{HashCost, HashCostError};
pub use pool::{Busy, Passwords, PasswordsOptions};
pub(crate) use pool::{Check, CheckError, Place};
pub use rules::{NewPasswordError, Password};
