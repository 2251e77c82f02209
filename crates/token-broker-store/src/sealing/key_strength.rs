//! Texts and octets that are no random key.

/// Number of octets of a key.
use super::aead::KEY;

/// The reason why a line of a key file is no key. It contains no part of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WeakKey {
    /// A placeholder in place of a key, such as `changeme`.
    #[error("it is a placeholder")]
    Placeholder,
    /// A character outside of base64url, or padding.
    #[error("it is not base64url (A-Z, a-z, 0-9, '-' and '_', without '=')")]
    Encoding,
    /// Not 32 octets.
    #[error("it has {octets} octets instead of 32 (43 characters of base64url)")]
    Length {
        /// Number of octets.
        octets: usize,
    },
    /// All octets are zero.
    #[error("all of its octets are zero")]
    Zeros,
    /// Octets that repeat or count.
    #[error("its octets are not random: they repeat, or count")]
    Pattern,
    /// The octets are a text: a password, or a key that was encoded twice.
    #[error("its octets are a text, not random octets")]
    Text,
}

/// Refuses a placeholder, such as `changeme`.
pub(super) fn refuse_placeholder(text: &str) -> Result<(), WeakKey> {
    let plain: String =
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    if PLACEHOLDERS.iter().any(|known| plain.contains(known)) {
        return Err(WeakKey::Placeholder);
    }
    Ok(())
}

/// Refuses octets that no random source has produced. A random key is refused once in 10^10.
// O283: a key that can be guessed protects nothing.
pub(super) fn refuse_weak(octets: &[u8; KEY]) -> Result<(), WeakKey> {
    if octets.iter().all(|octet| *octet == 0) {
        return Err(WeakKey::Zeros);
    }
    let mut seen = [false; 256];
    for octet in octets {
        if let Some(seen) = seen.get_mut(usize::from(*octet)) {
            *seen = true;
        }
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    let mut steps =
        octets.iter().zip(octets.iter().skip(1)).map(|(one, next)| next.wrapping_sub(*one));
    let first = steps.next();
    if distinct < FEWEST_DISTINCT || steps.all(|step| Some(step) == first) {
        return Err(WeakKey::Pattern);
    }
    if octets.iter().all(|octet| octet.is_ascii_graphic() || octet.is_ascii_whitespace()) {
        return Err(WeakKey::Text);
    }
    Ok(())
}

/// Random octets have about 30 distinct values, and fewer than 16 once in 10^10.
const FEWEST_DISTINCT: usize = 16;

/// In lower case, without other characters than letters and digits.
const PLACEHOLDERS: &[&str] = &[
    "changeme",
    "changethis",
    "replaceme",
    "replacethis",
    "yourkey",
    "yoursecret",
    "keyhere",
    "secrethere",
    "insertkey",
    "insecure",
    "placeholder",
    "example",
    "password",
    "secretkey",
    "masterkey",
    "xxxxxxxx",
];
