//! Random values of the connect flow.

use aws_lc_rs::{digest, rand};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tower_token_broker::Secret;

/// Returns a value of 256 random bits, as base64url.
pub(super) fn secret() -> Secret {
    let mut octets = zeroize::Zeroizing::new([0; 32]);
    fill(&mut *octets);
    Secret::from_text(URL_SAFE_NO_PAD.encode(*octets))
}

/// Returns an ID of 128 random bits. It never begins with a hyphen, which a command would take for
/// an option.
pub(super) fn id() -> String {
    let mut octets = [0; 16];
    fill(&mut octets);
    format!("{:032x}", u128::from_be_bytes(octets))
}

/// Returns the PKCE challenge of a verifier (RFC 7636 §4.2).
#[expect(clippy::disallowed_methods, reason = "reviewed: only its hash leaves")]
pub(super) fn challenge(verifier: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose()))
}

fn fill(octets: &mut [u8]) {
    rand::fill(octets).expect("the system's source of randomness does not fail once it is seeded");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        // RFC 7636, appendix B.
        let verifier = Secret::from_text("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into());
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
