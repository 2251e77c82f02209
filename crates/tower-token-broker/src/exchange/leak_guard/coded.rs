//! Bytes that characters of base64 or hexadecimal encode.

/// A run of characters that encode bytes. Single bytes are decoded, so that a run that cannot
/// contain a secret is not decoded as a whole.
#[derive(Clone, Copy)]
pub(super) struct Coded<'a> {
    chars: &'a [u8],
    coding: Coding,
}

/// How characters encode bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Base64, both alphabets.
    Base64,
    /// Hexadecimal, both cases.
    Hex,
}

impl Coding {
    /// Number of characters in a group. A run may begin within a group.
    pub(super) const fn group(self) -> usize {
        match self {
            Self::Base64 => 4,
            Self::Hex => 2,
        }
    }

    /// Number of bytes that a group encodes.
    const fn bytes(self) -> usize {
        match self {
            Self::Base64 => 3,
            Self::Hex => 1,
        }
    }

    /// The shortest secret that is searched for in this coding: a shorter form has less than eight
    /// characters and occurs by chance.
    pub(super) const fn shortest_secret(self) -> usize {
        match self {
            Self::Base64 => 6,
            Self::Hex => 4,
        }
    }

    /// Number of characters that encode so many bytes, at least.
    pub(super) const fn chars_for(self, bytes: usize) -> usize {
        (bytes * self.group()).div_ceil(self.bytes())
    }

    /// Returns the first of the two characters that encode a byte.
    #[inline(always)]
    pub(super) const fn first_char(self, at: usize) -> usize {
        match self {
            Self::Base64 => at + at / 3,
            Self::Hex => at * 2,
        }
    }

    #[inline(always)]
    pub(super) fn has(self, char: u8) -> bool {
        self.value(char) != NO_VALUE
    }

    #[inline(always)]
    fn value(self, char: u8) -> u8 {
        let values = match self {
            Self::Base64 => &BASE64,
            Self::Hex => &HEX,
        };
        values.get(usize::from(char)).copied().unwrap_or(NO_VALUE)
    }
}

impl<'a> Coded<'a> {
    pub(super) const fn new(chars: &'a [u8], coding: Coding) -> Self {
        Self { chars, coding }
    }

    /// Returns the number of bytes that are encoded.
    pub(super) const fn len(&self) -> usize {
        self.chars.len() * self.coding.bytes() / self.coding.group()
    }

    #[inline(always)]
    pub(super) fn byte(&self, at: usize) -> u8 {
        let first = self.coding.first_char(at);
        let value = |at: usize| self.chars.get(at).map_or(0, |char| self.coding.value(*char));
        let (high, low) = (value(first), value(first + 1));
        match (self.coding, at % 3) {
            (Coding::Hex, _) => high << 4 | low,
            (Coding::Base64, 0) => high << 2 | low >> 4,
            (Coding::Base64, 1) => high << 4 | low >> 2,
            (Coding::Base64, _) => high << 6 | low,
        }
    }

    /// Decodes a part.
    #[inline(always)]
    pub(super) fn part(&self, mut start: usize, end: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(end - start);
        if self.coding == Coding::Base64 {
            while start < end && !start.is_multiple_of(3) {
                bytes.push(self.byte(start));
                start += 1;
            }
            // Whole groups are decoded together.
            let chars = self.chars.get(self.coding.first_char(start)..).unwrap_or_default();
            for group in chars.chunks_exact(4).take(end.saturating_sub(start) / 3) {
                if let [one, two, three, four] = group {
                    let [one, two, three, four] =
                        [one, two, three, four].map(|char| self.coding.value(*char));
                    bytes.extend_from_slice(&[
                        one << 2 | two >> 4,
                        two << 4 | three >> 2,
                        three << 6 | four,
                    ]);
                    start += 3;
                }
            }
        }
        bytes.extend((start..end).map(|at| self.byte(at)));
        bytes
    }
}

const NO_VALUE: u8 = u8::MAX;
const BASE64: [u8; 256] = values(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    &[(b'-', 62), (b'_', 63)],
);
const HEX: [u8; 256] = values(
    b"0123456789abcdef",
    &[(b'A', 10), (b'B', 11), (b'C', 12), (b'D', 13), (b'E', 14), (b'F', 15)],
);

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const fn values(digits: &[u8], others: &[(u8, u8)]) -> [u8; 256] {
    let mut values = [NO_VALUE; 256];
    let mut value = 0_u8;
    while (value as usize) < digits.len() {
        values[digits[value as usize] as usize] = value;
        value += 1;
    }
    let mut other = 0;
    while other < others.len() {
        values[others[other].0 as usize] = others[other].1;
        other += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    use proptest::prelude::*;

    use super::{super::readings::Origin, *};

    proptest! {
        #[test]
        fn coded_bytes_are_decoded_at_each_position(
            bytes in prop::collection::vec(any::<u8>(), 1..60),
        ) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            for (text, coding) in
                [(STANDARD_NO_PAD.encode(&bytes), Coding::Base64), (hex, Coding::Hex)]
            {
                let coded = Coded::new(text.as_bytes(), coding);
                prop_assert_eq!(coded.len(), bytes.len());
                for start in 0..bytes.len().min(7) {
                    prop_assert_eq!(coded.part(start, coded.len()), &bytes[start..]);
                }
                let chars = Origin::Text(5);
                let origin = Origin::Coded { chars: &chars, coding, first: 0 };
                prop_assert_eq!(origin.span(0, bytes.len()), (5, 5 + text.len()));
                let last = origin.part(bytes.len() - 1, bytes.len()).span(0, 1);
                prop_assert_eq!(last, (3 + text.len(), 5 + text.len()));
            }
        }
    }
}
