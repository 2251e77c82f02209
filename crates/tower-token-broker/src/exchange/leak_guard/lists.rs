//! Bytes as lists of numbers: `61:62:63`, `61 62 63`, `0x61, 0x62`, `[97,98]`.

use super::readings::{Origin, Reading};

/// The base of the numbers in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// Two digits for each byte, or `0x` before them.
    Hex,
    /// Up to three digits for each byte.
    Decimal,
}

/// Fewest characters of a byte with what separates it from the next.
pub(super) const CHARS: usize = 3;
/// Shortest secret that is searched for in lists: a shorter one occurs by chance.
pub(super) const SHORTEST_SECRET: usize = 6;

/// Returns whether lists of numbers consist of this byte, among others.
#[inline]
pub(super) fn is_of_list(byte: u8) -> bool {
    OF_LISTS.get(usize::from(byte)).is_some_and(|is_of| *is_of)
}

/// Reads the numbers of a list. Others become a blank, which no secret contains.
pub(super) fn numbers(list: &[u8], origin: Origin<'_>, base: Base) -> Reading {
    let mut reading = Reading::with_capacity(list.len() / 2);
    let mut at = 0;
    while at < list.len() {
        let rest = list.get(at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if length > 0 {
            let number = rest.get(..length).and_then(|digits| number(digits, base));
            reading.push(number.unwrap_or(b' '), origin.span(at, at + length));
        }
        at += length.max(1);
    }
    reading
}

fn number(digits: &[u8], base: Base) -> Option<u8> {
    let (digits, radix, most) = match (digits, base) {
        ([b'0', b'x' | b'X', digits @ ..] | digits @ [_, _], Base::Hex) => (digits, 16, 2),
        (_, Base::Hex) => return None,
        (digits, Base::Decimal) => (digits, 10, 3),
    };
    if digits.is_empty() || digits.len() > most {
        return None;
    }
    let value = digits
        .iter()
        .try_fold(0, |value, digit| Some(value * radix + char::from(*digit).to_digit(radix)?))?;
    u8::try_from(value).ok()
}

/// Returns the length of the list at the end of a text, which may continue.
pub(super) fn list_at_end(text: &[u8]) -> usize {
    let length = text.iter().rev().take_while(|byte| is_of_list(**byte)).count();
    let (before, list) = text.split_at(text.len() - length);
    // The end of a word is no number.
    let is_letter = |byte: &&u8| byte.is_ascii_alphanumeric();
    let word = if before.last().is_some_and(|byte| byte.is_ascii_alphabetic()) {
        list.iter().take_while(is_letter).count()
    } else {
        0
    };
    let (mut at, mut begins) = (word, None);
    while at < length {
        let rest = list.get(at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let digits = rest.get(..digits).unwrap_or_default();
        // The last number may be incomplete.
        let is_number = number(digits, Base::Hex).or_else(|| number(digits, Base::Decimal));
        let is_last = digits.len() == rest.len() && digits.len() <= 4;
        match begins {
            _ if digits.is_empty() => {}
            Some(_) if is_number.is_some() || is_last => {}
            None if is_number.is_some() || is_last => begins = Some(at),
            _ => begins = None,
        }
        at += digits.len().max(1);
    }
    begins.map_or(0, |begins| length - begins)
}

#[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
const OF_LISTS: [bool; 256] = {
    let mut set = [false; 256];
    let mut rest: &[u8] = b"0123456789abcdefABCDEFxX :,;-._|\t\r\n";
    while let [byte, tail @ ..] = rest {
        set[*byte as usize] = true;
        rest = tail;
    }
    set
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_read() {
        for (list, base, read) in [
            ("61:62:63", Base::Hex, "abc"),
            ("61 62\n63", Base::Hex, "abc"),
            ("0x61, 0X62,0x63", Base::Hex, "abc"),
            ("61-6-63", Base::Hex, "a c"),
            ("97,98,\t99", Base::Decimal, "abc"),
            ("097|098|300", Base::Decimal, "ab "),
            ("616263", Base::Hex, " "),
        ] {
            let reading = numbers(list.as_bytes(), Origin::Text(4), base);
            assert_eq!(reading.bytes, read.as_bytes(), "{list}");
        }
        let reading = numbers(b"61:62:63", Origin::Text(4), Base::Hex);
        assert_eq!(reading.origin().span(1, 3), (7, 12));
    }

    #[test]
    fn a_list_at_the_end_may_continue() {
        for (text, length) in [
            ("[97, 98, ", 8),
            ("[97, 98, 9", 9),
            ("is 61:62:6", 7),
            ("{\"a\":1}\n", 0),
            ("it was added ", 0),
            ("a word", 0),
            ("one two three ", 0),
            ("one two three 61", 2),
            ("deadbeef 61 ", 3),
            ("61 deadbeef ", 0),
            ("", 0),
        ] {
            assert_eq!(list_at_end(text.as_bytes()), length, "{text:?}");
        }
    }
}
