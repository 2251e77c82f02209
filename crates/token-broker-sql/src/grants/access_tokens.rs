//! The list of access tokens as one value, which is sealed.

use token_broker_store::AccessToken;
use tower_token_broker::{Secret, clock::Timestamp, principal::Scopes};

/// Version of the format below.
const FORMAT: u8 = 1;

/// Encodes tokens: each text is preceded by its length, numbers are big-endian.
pub(super) fn encode(tokens: &[AccessToken]) -> Secret {
    let texts: Vec<_> = tokens
        .iter()
        .map(|token| (token.requested.to_string(), token.scopes.to_string()))
        .collect();
    let length = |(token, (requested, scopes)): (&AccessToken, &(String, String))| {
        octets(&token.secret).len() + requested.len() + scopes.len() + PER_TOKEN
    };
    // As long as needed from the start, so that no copy of a token stays where it was moved from.
    let mut encoded = Vec::with_capacity(1 + tokens.iter().zip(&texts).map(length).sum::<usize>());
    encoded.push(FORMAT);
    for (token, (requested, scopes)) in tokens.iter().zip(&texts) {
        for part in [octets(&token.secret), requested.as_bytes(), scopes.as_bytes()] {
            encoded.extend((part.len() as u64).to_be_bytes());
            encoded.extend_from_slice(part);
        }
        let numbers =
            [token.obtained_at.unix_millis(), token.expires_at.unix_millis(), token.version];
        for number in numbers {
            encoded.extend(number.to_be_bytes());
        }
        encoded.push(token.forced.into());
    }
    Secret::new(encoded)
}

/// Decodes what [`encode`] returned; `None` for all other input.
pub(super) fn decode(encoded: &Secret) -> Option<Vec<AccessToken>> {
    let (format, rest) = octets(encoded).split_first()?;
    if *format != FORMAT {
        return None;
    }
    let mut input = Input(rest);
    let mut tokens = Vec::new();
    while !input.0.is_empty() {
        let secret = Secret::new(input.part()?.to_vec());
        let (requested, scopes) = (input.scopes()?, input.scopes()?);
        let obtained_at = Timestamp::from_unix_millis(input.number()?);
        let expires_at = Timestamp::from_unix_millis(input.number()?);
        let mut token = AccessToken::new(secret, scopes, obtained_at, expires_at);
        token.requested = requested;
        token.version = input.number()?;
        token.forced = match input.take(1)? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        tokens.push(token);
    }
    Some(tokens)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn scopes(&mut self) -> Option<Scopes> {
        Scopes::parse(std::str::from_utf8(self.part()?).ok()?).ok()
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens on their way to and from encryption")]
fn octets(secret: &Secret) -> &[u8] {
    secret.expose()
}

/// Three lengths, three numbers and a mark.
const PER_TOKEN: usize = 6 * 8 + 1;
