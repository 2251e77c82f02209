//! The tokens of a revocation as one value, which is sealed.

use token_broker_store::connect::{RevokedToken, RevokedTokenKind};
use tower_token_broker::Secret;

/// Version of the format below.
const FORMAT: u8 = 1;
const REFRESH: u8 = 1;
const ACCESS: u8 = 2;
/// Kind and length.
const PER_TOKEN: usize = 1 + 8;

/// Encodes tokens: each is preceded by its kind and its length, which is big-endian.
pub(super) fn encode(tokens: &[RevokedToken]) -> Secret {
    // As long as needed from the start, so that no copy of a token stays where it was moved from.
    let length: usize = tokens.iter().map(|token| octets(&token.secret).len() + PER_TOKEN).sum();
    let mut encoded = Vec::with_capacity(1 + length);
    encoded.push(FORMAT);
    for token in tokens {
        encoded.push(match token.kind {
            RevokedTokenKind::Refresh => REFRESH,
            RevokedTokenKind::Access => ACCESS,
        });
        let token = octets(&token.secret);
        encoded.extend((token.len() as u64).to_be_bytes());
        encoded.extend_from_slice(token);
    }
    Secret::new(encoded)
}

/// Decodes what [`encode`] returned; `None` for all other input.
pub(super) fn decode(encoded: &Secret) -> Option<Vec<RevokedToken>> {
    let (format, mut rest) = octets(encoded).split_first()?;
    if *format != FORMAT {
        return None;
    }
    let mut tokens = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        let kind = match *kind {
            REFRESH => RevokedTokenKind::Refresh,
            ACCESS => RevokedTokenKind::Access,
            _ => return None,
        };
        let (length, after) = after.split_first_chunk()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (token, after) = after.split_at_checked(length)?;
        tokens.push(RevokedToken::new(kind, Secret::new(token.to_vec())));
        rest = after;
    }
    Some(tokens)
}

#[expect(clippy::disallowed_methods, reason = "tokens on their way to and from encryption")]
fn octets(secret: &Secret) -> &[u8] {
    secret.expose()
}
