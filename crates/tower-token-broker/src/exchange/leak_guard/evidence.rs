//! The bytes of a credential that prove it when a part of it is found.

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};

use super::tails::TAIL;

/// A shorter piece of letters and digits is no evidence by itself.
const SHORTEST_PIECE: usize = 6;
/// Number of decoded bytes that are text by chance in fewer than one of a million tokens.
const TEXT: usize = 15;
/// Longest block whose repetition is recognized.
const LONGEST_BLOCK: usize = 16;
/// Number of bytes before the tail that are looked at, too.
const BEFORE: usize = 64;

/// The bytes of a tail that prove the secret, as bits; bit 0 is the first byte of the tail.
///
/// Other data may contain what a credential only carries: the name of a host, member or product, a
/// number, padding, the ID of a tenant, the claims of a JWT. If such a piece counted, it would be
/// masked in the responses of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Bytes that occur nowhere else: any sufficient number of them is evidence.
    pub(super) random: u64,
    /// Bytes of UUIDs and encoded texts, which are evidence only with the whole tail.
    pub(super) identifying: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Words, numbers, padding.
    Plain,
    Identifying,
    Random,
}

impl Evidence {
    /// Returns the evidence in the tail of a secret.
    pub(super) fn of(secret: &[u8]) -> Self {
        let first = secret.len().saturating_sub(TAIL + BEFORE);
        let text = secret.get(first..).unwrap_or(secret);
        let mut kinds = vec![Kind::Plain; text.len()];
        random_pieces(text, &mut kinds);
        // I449: structure is no evidence, even if it looks random.
        encoded_texts(text, &mut kinds);
        uuids(text, &mut kinds);
        if let Some(claims) = claims_of_jwt(secret) {
            let claims = claims.saturating_sub(first);
            set(&mut kinds, 0, claims, Kind::Identifying);
            set(&mut kinds, claims, text.len(), Kind::Random);
        }
        repetitions(text, &mut kinds);
        let tail = kinds.get(text.len().saturating_sub(TAIL)..).unwrap_or_default();
        let bits = |of: Kind| {
            let set = tail.iter().enumerate().filter(|(_, kind)| **kind == of);
            set.fold(0, |bits, (at, _)| bits | 1 << at)
        };
        Self { random: bits(Kind::Random), identifying: bits(Kind::Identifying) }
    }
}

fn set(kinds: &mut [Kind], start: usize, end: usize, kind: Kind) {
    let end = end.min(kinds.len());
    kinds.get_mut(start..end).unwrap_or_default().fill(kind);
}

/// Returns the number of bytes before the signature.
fn claims_of_jwt(secret: &[u8]) -> Option<usize> {
    let dots = secret.iter().filter(|byte| **byte == b'.').count();
    let last = secret.iter().rposition(|byte| *byte == b'.')?;
    (secret.starts_with(b"eyJ") && dots >= 2).then_some(last + 1)
}

/// Marks pieces of letters and digits that change between these, or in case, more often than words
/// and versions do. Short pieces next to one, as of base64, belong to it.
fn random_pieces(text: &[u8], kinds: &mut [Kind]) {
    let mut pieces: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let piece = rest.get(..length).unwrap_or_default();
        let changes = changes(piece);
        let is_random = length >= SHORTEST_PIECE && changes >= 2 && changes * 6 >= length;
        if length > 0 {
            pieces.push((at, at + length, is_random));
        }
        at += length + 1;
    }
    let mut join = |from: &mut (usize, usize, bool), to: (usize, usize, bool)| {
        let (first, last) = (from.0.min(to.0), from.1.max(to.1));
        let gap = (from.1.min(to.1), from.0.max(to.0));
        let piece = text.get(from.0..from.1).unwrap_or_default();
        let is_part = piece.len() < SHORTEST_PIECE && changes(piece) > 0;
        from.2 |= to.2 && gap.1 == gap.0 + 1 && is_part;
        if from.2 && to.2 && gap.1 == gap.0 + 1 {
            set(kinds, first, last, Kind::Random);
        }
    };
    for at in 1..pieces.len() {
        if let Some([before, piece]) = pieces.get_mut(at - 1..=at) {
            join(piece, *before);
        }
    }
    for at in (1..pieces.len()).rev() {
        if let Some([before, piece]) = pieces.get_mut(at - 1..=at) {
            join(before, *piece);
        }
    }
    for (start, end, is_random) in pieces {
        if is_random {
            set(kinds, start, end, Kind::Random);
        }
    }
}

/// Counts the places where a letter follows a digit, a digit a letter, or a capital a small letter.
fn changes(piece: &[u8]) -> usize {
    let pairs = piece.iter().zip(piece.iter().skip(1));
    let is_change = |(one, next): &(&u8, &u8)| {
        one.is_ascii_digit() != next.is_ascii_digit()
            || (one.is_ascii_lowercase() && next.is_ascii_uppercase())
    };
    pairs.filter(is_change).count()
}

/// Marks base64 and hexadecimal text that encodes printable text.
fn encoded_texts(text: &[u8], kinds: &mut [Kind]) {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );
    let mut mark = |first: usize, bytes: &[u8], chars: fn(usize) -> usize| {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| matches!(byte, b' '..=b'~')).count();
            if length >= TEXT {
                let end = first + chars(at + length);
                set(kinds, first + chars(at), end, Kind::Identifying);
            }
            at += length + 1;
        }
    };
    let is_coded = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let mut start = 0;
    while start < text.len() {
        let rest = text.get(start..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| is_coded(byte)).count();
        let run = rest.get(..length).unwrap_or_default();
        for skipped in 0..length.min(4) {
            let url_safe = run.iter().skip(skipped).map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => *other,
            });
            let mut chars: Vec<u8> = url_safe.collect();
            chars.resize(chars.len().next_multiple_of(4), b'A');
            if let Ok(bytes) = LENIENT.decode(&chars) {
                mark(start + skipped, &bytes, |bytes| (bytes * 4).div_ceil(3));
            }
        }
        start += length + 1;
    }
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for skipped in 0..text.len().min(2) {
        let pairs = text.get(skipped..).unwrap_or_default().chunks_exact(2);
        let bytes: Vec<u8> = pairs
            .map(|pair| match pair {
                [high, low] => digit(high).zip(digit(low)).map_or(0, |(high, low)| high << 4 | low),
                _ => 0,
            })
            .collect();
        mark(skipped, &bytes, |bytes| bytes * 2);
    }
}

/// Marks UUIDs (RFC 9562 §4). Without hyphens, only random ones differ from other numbers.
fn uuids(text: &[u8], kinds: &mut [Kind]) {
    let is_hex = |at: usize| text.get(at).is_some_and(u8::is_ascii_hexdigit);
    for start in 0..text.len() {
        if start > 0 && is_hex(start - 1) {
            continue;
        }
        let is_long = (0..36).all(|at| match at {
            8 | 13 | 18 | 23 => text.get(start + at) == Some(&b'-'),
            at => is_hex(start + at),
        });
        let is_short = (0..32).all(|at| is_hex(start + at))
            && text.get(start + 12) == Some(&b'4')
            && matches!(text.get(start + 16), Some(b'8' | b'9' | b'a' | b'b' | b'A' | b'B'));
        let length = if is_long { 36 } else { 32 };
        if (is_long || is_short) && !is_hex(start + length) {
            set(kinds, start, start + length, Kind::Identifying);
        }
    }
}

/// Marks repeated blocks and sequences: `0000`, `abcabcabc`, `12345678`.
fn repetitions(text: &[u8], kinds: &mut [Kind]) {
    for block in 1..=LONGEST_BLOCK {
        let least = if block == 1 { 3 } else { 6 };
        let is_repeated = |at: usize| text.get(at) == text.get(at - block);
        mark_runs(text.len(), block, least, is_repeated, kinds);
    }
    for next in [u8::wrapping_add, u8::wrapping_sub] {
        let continues = |at: usize| {
            text.get(at - 1).zip(text.get(at)).is_some_and(|(one, other)| next(*one, 1) == *other)
        };
        mark_runs(text.len(), 1, 3, continues, kinds);
    }
}

/// Marks each position from `distance` on that is one of at least so many for which `is_marked`
/// holds, with the block before the first of them.
fn mark_runs(
    length: usize,
    distance: usize,
    least: usize,
    is_marked: impl Fn(usize) -> bool,
    kinds: &mut [Kind],
) {
    let mut at = distance;
    while at < length {
        let run = (at..length).take_while(|at| is_marked(*at)).count();
        if run >= least {
            set(kinds, at - distance, at + run, Kind::Plain);
        }
        at += run + 1;
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    /// Shows random bytes as `r` and identifying bytes as `i`.
    fn shown(secret: &str) -> String {
        let evidence = Evidence::of(secret.as_bytes());
        let shown = (0..secret.len().min(TAIL)).map(|at| match at {
            at if evidence.random >> at & 1 == 1 => 'r',
            at if evidence.identifying >> at & 1 == 1 => 'i',
            _ => '.',
        });
        shown.collect()
    }

    #[test]
    fn i449_structure_is_no_evidence() {
        for secret in [
            "my-service-account",
            "correct-horse-battery",
            "https://tools.eu-west-1.example.com:8443/v2",
            "ApplicationJsonStructuredContent",
            "application/vnd.acme.v3+json",
            "prod-eu1-k8s-acme-crm2-2026",
            "00000000000000000000000000000000",
            "1234567890123456",
            "1700000000000000001",
            "abcdefghijklmnop",
            "a1b2a1b2a1b2a1b2a1b2",
            "structuredContent",
            "",
        ] {
            assert_eq!(shown(secret), ".".repeat(secret.len()), "I449 {secret}");
        }
        for secret in [
            "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
            "3F2504E04F8941D39A0C0305E82C3301",
            "cHJvZHVjdGlvbi1jbHVzdGVyLWZvci1hY21lIQ",
            "70726f64756374696f6e2d636c75737465722d666f722d61636d65",
        ] {
            let is_evidence = shown(secret).contains('r');
            assert!(!is_evidence && shown(secret).contains("iiiiiiiiii"), "I449 {secret}");
        }
    }

    #[test]
    fn random_bytes_are_evidence() {
        for secret in [
            "9fK2xQ7aLw3nZpR8sVtYb1cDeGhJ",
            "Zq8wLr2VxKd0aHs7NfYc4TgUeJ1PoB6iM3",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "9fK2-xQ_7aLw_3nZ-pR8sVtYb1cDeGhJ",
        ] {
            assert_eq!(shown(secret), "r".repeat(secret.len()), "{secret}");
        }
        assert_eq!(
            shown("acme-9fK2xQ7aLw3nZpR8.3f2504e0-4f89-41d3-9a0c-0305e82c3301.acme"),
            format!(".....{}{}.....", "r".repeat(17), "i".repeat(36))
        );
    }

    #[test]
    fn i449_of_a_jwt_the_signature_is_evidence() {
        let signed = URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\"}")
            + "."
            + &URL_SAFE_NO_PAD.encode("{\"sub\":\"alice\",\"k\":\"9fK2xQ7aLw3nZpR8\"}")
            + ".";
        let jwt = format!("{signed}tyh-VfuzIxCyGYDlkBA7DfyjrqmSHu6pQ2hoZuFqUSL");
        assert_eq!(shown(&jwt), "i".repeat(21) + &"r".repeat(43), "I449 {jwt}");
        assert!(!shown(&signed).contains('r'), "I449 {signed}");
    }
}
