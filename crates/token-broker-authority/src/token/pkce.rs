//! Proof key for code exchange (RFC 7636): S256 only.

use aws_lc_rs::{constant_time, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Returns whether a text can be an S256 challenge: 43 characters of base64url.
// D093: a challenge that no verifier has would end in a code that no client can use.
pub(crate) fn is_challenge(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok_and(|digest| digest.len() == 32)
}

/// Returns whether a text is a verifier (RFC 7636 §4.1): 43 to 128 unreserved characters.
// F129
pub(crate) fn is_verifier(text: &str) -> bool {
    let is_unreserved =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&text.len()) && text.bytes().all(is_unreserved)
}

/// Returns whether this is the verifier of the challenge, in constant time.
pub(crate) fn matches(verifier: &str, challenge: &str) -> bool {
    let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
    let computed = URL_SAFE_NO_PAD.encode(digest);
    constant_time::verify_slices_are_equal(computed.as_bytes(), challenge.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7636_matches() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(is_verifier(verifier) && is_challenge(challenge));
        assert!(matches(verifier, challenge));
        for other in [challenge, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl", ""] {
            assert!(!matches(other, challenge), "F128 {other}");
        }
    }

    #[test]
    fn f129_length_and_alphabet_are_checked() {
        for (length, is_valid) in [(0, false), (42, false), (43, true), (128, true), (129, false)] {
            assert_eq!(is_verifier(&"a".repeat(length)), is_valid, "F129 {length}");
        }
        for character in ["+", "/", "=", " ", "\u{e9}"] {
            assert!(!is_verifier(&format!("{}{character}", "a".repeat(43))), "{character}");
        }
    }

    #[test]
    fn d093_what_no_digest_encodes_is_no_challenge() {
        for text in [
            "",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM=",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cN",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw+cM",
        ] {
            assert!(!is_challenge(text), "{text}");
        }
    }
}
