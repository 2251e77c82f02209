//! Weak encodings of points of edwards25519.

/// The y coordinates of the eight points of small order, least significant byte first, without
/// sign.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    one(),
    // p − 1
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

const fn one() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
}

/// Returns whether the point has small order, or a non-canonical encoding (RFC 8032 §5.1.3: y below
/// p).
// B055: libraries differ on both. Refusing both agrees with every verifier of honest signatures.
pub(super) fn is_weak_point(encoded: &[u8; 32]) -> bool {
    let mut y = *encoded;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f; // the sign of x
    }
    SMALL_ORDER.contains(&y) || is_at_least_p(&y)
}

/// p = 2²⁵⁵ − 19: all bits are set, except for a first byte below 0xed.
fn is_at_least_p(y: &[u8; 32]) -> bool {
    match y {
        [first, middle @ .., last] => {
            *first >= 0xed && middle.iter().all(|byte| *byte == 0xff) && *last == 0x7f
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_canonical_encodings_are_weak() {
        let mut y = [0xff; 32];
        y[31] = 0x7f;
        for first in 0xed..=0xff {
            y[0] = first;
            assert!(is_weak_point(&y), "{first:x}");
        }
        y[0] = 0xeb;
        assert!(!is_weak_point(&y));
        // The base point.
        let mut base = [0x66; 32];
        base[0] = 0x58;
        assert!(!is_weak_point(&base));
    }
}
