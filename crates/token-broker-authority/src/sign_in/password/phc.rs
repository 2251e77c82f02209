//! The text of a password hash (PHC string format), of argon2id only.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

/// Longest salt and hash, in octets.
const MOST_OCTETS: usize = 64;

/// A password hash with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phc {
    /// Memory in KiB.
    pub(super) memory: u32,
    /// Number of passes.
    pub(super) passes: u32,
    /// Number of lanes.
    pub(super) lanes: u32,
    /// The salt.
    pub(super) salt: Vec<u8>,
    /// The hash.
    pub(super) hash: Vec<u8>,
}

impl Phc {
    /// Parses the text that [`Phc::to_text`] writes; `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (parameters, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let mut parameters = parameters.split(',');
        let mut parameter = |name| parameters.next()?.strip_prefix(name)?.parse().ok();
        let (memory, passes, lanes) = (parameter("m=")?, parameter("t=")?, parameter("p=")?);
        if parameters.next().is_some() {
            return None;
        }
        let octets = |text| {
            let octets = STANDARD_NO_PAD.decode(text).ok()?;
            (8..=MOST_OCTETS).contains(&octets.len()).then_some(octets)
        };
        let phc = Self { memory, passes, lanes, salt: octets(salt)?, hash: octets(hash)? };
        // One text for each value: no signs, no leading zeros.
        (phc.to_text() == text).then_some(phc)
    }

    /// Returns the work of computing the hash: the blocks that are computed.
    pub(super) const fn work(&self) -> u64 {
        self.memory as u64 * self.passes as u64
    }

    /// Writes the text.
    pub(super) fn to_text(&self) -> String {
        let Self { memory, passes, lanes, salt, hash } = self;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_written_form_is_parsed() {
        let text = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA";
        let phc = Phc::parse(text).unwrap();
        assert_eq!((phc.memory, phc.passes, phc.lanes), (19_456, 2, 1));
        assert_eq!((phc.salt.len(), phc.hash.len()), (16, 16));
        assert_eq!(phc.to_text(), text);
        for (from, to) in [
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("m=19456", "m=+19456"),
            ("m=19456", "m=019456"),
            ("m=19456", "m=-1"),
            ("m=19456", "m=99999999999"),
            ("t=2,p=1", "p=1,t=2"),
            ("p=1", "p=1,data=AA"),
            ("$AAAAAAAAAAAAAAAAAAAAAA$", "$AAAA$"),
            ("$AAAAAAAAAAAAAAAAAAAAAA$", "$AAAAAAAAAAAAAAAAAAAAAA==$"),
            ("$AAAAAAAAAAAAAAAAAAAAAA$", "$AAAAAAAAAAAAAAAAAAAAAA$$"),
        ] {
            assert_eq!(Phc::parse(&text.replacen(from, to, 1)), None, "{to}");
        }
        assert_eq!(Phc::parse(""), None);
    }
}
