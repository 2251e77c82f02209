//! The name of a user in the log: a keyed hash.

use std::{fmt, sync::LazyLock};

use aws_lc_rs::{hmac, rand::SystemRandom};
use tower_token_broker::principal::User;

/// Returns the `principal.id` of a user, with a key of this process: lines of one process can be
/// compared, and the name is not in the log. `None` without a random key.
// R518: the audit has the name, found by the request ID.
pub(crate) fn principal_id(user: &User) -> Option<impl fmt::Display> {
    static KEY: LazyLock<Option<hmac::Key>> =
        LazyLock::new(|| hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok());
    let mut keyed = hmac::Context::with_key(KEY.as_ref()?);
    // The length keeps the parts apart.
    keyed.update(&user.issuer().len().to_be_bytes());
    keyed.update(user.issuer().as_bytes());
    keyed.update(user.subject().as_bytes());
    let tag = keyed.sign();
    let first = tag.as_ref().first_chunk().copied().unwrap_or_default();
    Some(format!("{:016x}", u64::from_be_bytes(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r518_each_user_has_an_id_that_does_not_name_it() {
        let id = |issuer: &str, subject: &str| {
            principal_id(&User::new(issuer, subject)).unwrap().to_string()
        };
        let ana = id("https://a.example", "ana");
        assert_eq!(ana, id("https://a.example", "ana"), "R518");
        assert_eq!(ana.len(), 16, "R518");
        for (issuer, subject) in
            [("https://a.example", "bob"), ("https://b.example", "ana"), ("https://a.example", "")]
        {
            assert_ne!(ana, id(issuer, subject), "R518");
        }
        assert_ne!(id("ab", "c"), id("a", "bc"), "R518");
        assert!(!ana.contains("ana"), "R518");
    }
}
