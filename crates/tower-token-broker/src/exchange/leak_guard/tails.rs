//! The parts of a secret that a response must not contain.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwapOption;
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{entry::Entry, evidence::Evidence};
use crate::{clock::Timestamp, exchange::credential::Origin, secret::Secret};

/// Number of bytes that are searched for, at the end of a longer secret: JWTs differ at their end,
/// not at their beginning.
pub(super) const TAIL: usize = 64;
/// A value after a scheme is at least as long; a shorter one is a part of the secret.
const SHORTEST_AFTER_SCHEME: usize = 8;
/// A password that is shorter is a placeholder, and the user name is the secret.
const SHORTEST_PASSWORD: usize = 4;

/// A part of a secret: at most its last 64 bytes.
pub(super) type Tail = Zeroizing<Box<[u8]>>;

/// The parts of one secret that a response must not contain: the end of the value as sent, without
/// its scheme; of a value for `Basic` (RFC 7617) also the password that it encodes.
pub(crate) struct SecretTails {
    tails: Vec<Tail>,
    /// The evidence in each of them.
    evidence: Vec<Evidence>,
    /// The server that receives the secret.
    server: Option<Origin>,
    registered: ArcSwapOption<Registered>,
}

/// The entries that a registry has for the tails of one secret.
pub(super) struct Registered {
    /// The registry's number.
    pub(super) registry: u64,
    pub(super) expires_at: Option<Timestamp>,
    /// One for each tail that can be registered, each once.
    pub(super) entries: Vec<Arc<Entry>>,
}

impl SecretTails {
    /// Returns the parts; `None` if the secret is empty, and so must not be sent.
    #[expect(clippy::disallowed_methods, reason = "the guard must know what it looks for")]
    pub(crate) fn of(secret: &Secret) -> Option<Self> {
        let value = secret.expose();
        let sent = without_scheme(value);
        if sent.is_empty() {
            return None;
        }
        let pair = basic(value);
        // I442: the value as sent, and the password in it.
        let parts: Vec<&[u8]> =
            [sent].into_iter().chain(pair.iter().flat_map(|pair| parts_of_basic(pair))).collect();
        Some(Self {
            tails: parts.iter().map(|part| tail(part)).collect(),
            evidence: parts.iter().map(|part| Evidence::of(part)).collect(),
            server: None,
            registered: ArcSwapOption::empty(),
        })
    }

    /// Sets the server that receives the secret.
    pub(crate) fn at(self, server: &Origin) -> Self {
        Self { server: Some(server.clone()), ..self }
    }

    pub(super) fn tails(&self) -> &[Tail] {
        &self.tails
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = (&Tail, Evidence)> {
        self.tails.iter().zip(self.evidence.iter().copied())
    }

    /// Returns the length of the shortest part.
    pub(crate) fn shortest(&self) -> usize {
        self.tails.iter().map(|tail| tail.len()).min().unwrap_or(0)
    }

    pub(super) fn server(&self) -> Option<&Origin> {
        self.server.as_ref()
    }

    /// Calls `read` with what was registered last.
    pub(super) fn registered<T>(&self, read: impl FnOnce(&Registered) -> T) -> Option<T> {
        self.registered.load().as_deref().map(read)
    }

    pub(super) fn set_registered(&self, registered: Registered) {
        self.registered.store(Some(Arc::new(registered)));
    }

    /// Returns whether the search for `other` is the same, in constant time for equal lengths.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.tails.len() == other.tails.len()
            && self.server == other.server
            && self.tails.iter().zip(&other.tails).all(|(one, other)| one.ct_eq(other).into())
    }
}

impl fmt::Debug for SecretTails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretTails")
    }
}

fn tail(part: &[u8]) -> Tail {
    Zeroizing::new(part.get(part.len().saturating_sub(TAIL)..).unwrap_or(part).into())
}

/// Returns the secret itself out of a whole header value: an echo may omit the scheme (`token
/// ghp_…`).
fn without_scheme(value: &[u8]) -> &[u8] {
    let last = value.rsplit(|byte| *byte == b' ').next().unwrap_or(value);
    if last.len() < SHORTEST_AFTER_SCHEME { value } else { last }
}

/// Returns user name, colon and password of a value for `Basic`.
fn basic(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    LENIENT.decode(rest.trim_ascii()).ok().map(Zeroizing::new)
}

/// Returns the secrets among user name and password. The password is one. The user name is one only
/// where an API key takes its place: the password is missing or a placeholder, or the user name
/// looks random.
fn parts_of_basic(pair: &[u8]) -> Vec<&[u8]> {
    let colon = pair.iter().position(|byte| *byte == b':').unwrap_or(pair.len());
    let user = pair.get(..colon).unwrap_or_default();
    let password = pair.get(colon + 1..).unwrap_or_default();
    let mut parts = Vec::new();
    if password.len() >= SHORTEST_PASSWORD {
        parts.push(password);
    }
    let is_key = looks_random(user) && user.len() >= 16 && !user.contains(&b'@');
    if user.len() >= SHORTEST_PASSWORD && (is_key || parts.is_empty()) {
        parts.push(user);
    }
    parts
}

/// Returns whether a text has letters and digits, or changes its case often. Words do not.
pub(super) fn looks_random(text: &[u8]) -> bool {
    let has_digit = text.iter().any(u8::is_ascii_digit);
    let has_letter = text.iter().any(u8::is_ascii_alphabetic);
    let changes = text
        .iter()
        .zip(text.iter().skip(1))
        .filter(|(one, next)| {
            one.is_ascii_alphabetic()
                && next.is_ascii_alphabetic()
                && one.is_ascii_uppercase() != next.is_ascii_uppercase()
        })
        .count();
    (has_digit && has_letter) || changes >= 4
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose;

    use super::*;

    fn tails(secret: &str) -> Vec<String> {
        let tails = SecretTails::of(&Secret::from_text(secret.to_owned())).unwrap();
        tails.tails().iter().map(|tail| String::from_utf8(tail.to_vec()).unwrap()).collect()
    }

    #[test]
    fn an_empty_secret_has_no_tails() {
        assert!(SecretTails::of(&Secret::from_text(String::new())).is_none());
    }

    #[test]
    fn i442_of_basic_the_password_is_secret() {
        for (pair, secrets) in [
            ("alice:pa55-w0rd-xyz", &["pa55-w0rd-xyz"][..]),
            ("alice@example.com:hunter22", &["hunter22"]),
            ("alice:with:colon", &["with:colon"]),
            ("sk_live_9fK2xQ7aLw3nZ:", &["sk_live_9fK2xQ7aLw3nZ"]),
            ("ghp_9fK2xQ7aLw3nZpR8:x-oauth-basic", &["x-oauth-basic", "ghp_9fK2xQ7aLw3nZpR8"]),
            ("9fK2xQ7aLw3nZpR8:X", &["9fK2xQ7aLw3nZpR8"]),
        ] {
            let coded = general_purpose::STANDARD.encode(pair);
            let all = tails(&format!("bAsic {coded}"));
            assert_eq!(all[0], coded, "I442 {pair}");
            assert_eq!(&all[1..], secrets, "I442 {pair}");
        }
        assert_eq!(tails("Basic not*base64"), ["not*base64"]);
    }

    #[test]
    fn words_do_not_look_random() {
        for (text, random) in [
            ("my-service-account", false),
            ("correct-horse-battery", false),
            ("ApplicationJson", false),
            ("9fK2xQ7aLw3nZpR", true),
            ("aBcDeFgHiJkLmNo", true),
        ] {
            assert_eq!(looks_random(text.as_bytes()), random, "{text}");
        }
    }
}
