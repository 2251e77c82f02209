//! Soundness of RSA public keys (RFC 7518 §3.3 and 6.3.1).

/// The only exponent that is accepted.
const EXPONENT: &[u8] = &[1, 0, 1];
/// Sizes of a modulus, in bits.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Returns whether modulus and exponent, most significant byte first, may be those of a key that
/// only its owner can sign with.
// B052: short, even, with another exponent than 65537, or from a generator known to be weak.
pub(super) fn is_sound(modulus: &[u8], exponent: &[u8]) -> bool {
    let Some((first, last)) = modulus.first().zip(modulus.last()) else { return false };
    // RFC 7518 §6.3.1.1: no zero octet before the value, which would also hide its size.
    let bits = modulus.len().saturating_mul(8).saturating_sub(first.leading_zeros() as usize);
    *first != 0
        && BITS.contains(&bits)
        && last & 1 == 1
        && exponent == EXPONENT
        && !has_small_factor(modulus)
        && !has_fingerprint_of_roca(modulus)
}

/// Odd primes for both tests below.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

fn has_small_factor(modulus: &[u8]) -> bool {
    PRIMES.into_iter().any(|prime| remainder(modulus, prime) == 0)
}

/// Returns whether the modulus is a power of 65537 modulo each small prime, as those of the
/// generator of CVE-2017-15361 are. Of other moduli, one in 2²⁷ or fewer is.
fn has_fingerprint_of_roca(modulus: &[u8]) -> bool {
    PRIMES.into_iter().all(|prime| {
        let (rest, step) = (remainder(modulus, prime), 65_537 % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * step % prime));
        powers.take(prime as usize).any(|power| power == rest)
    })
}

fn remainder(modulus: &[u8], prime: u32) -> u32 {
    modulus.iter().fold(0, |rest, byte| (rest << 8 | u32::from(*byte)) % prime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b052_a_weak_modulus_is_refused() {
        // 2^2047 + 9 · 2^64 + 1 has no factor below 168 and no fingerprint; found by search.
        let modulus = |bytes: usize, middle: u8, last: u8| {
            let mut modulus = vec![0; bytes];
            modulus[0] = 0x80;
            modulus[bytes - 9] = middle;
            modulus[bytes - 1] = last;
            modulus
        };
        let sound = (0..=255).map(|middle| modulus(256, middle, 1)).find(|n| is_sound(n, EXPONENT));
        let sound = sound.expect("most odd numbers without small factors are sound");
        for exponent in [&[1][..], &[3], &[1, 0, 0], &[0, 1, 0, 1], &[]] {
            assert!(!is_sound(&sound, exponent), "B052 {exponent:?}");
        }
        assert!(!is_sound(&[&[0], &sound[..]].concat(), EXPONENT), "B052 a zero before it");
        assert!(!is_sound(&sound[1..], EXPONENT), "B052 a zero at its beginning");
        assert!(!is_sound(&[], EXPONENT), "B052");
        let mut even = sound.clone();
        even[255] = 2;
        assert!(!is_sound(&even, EXPONENT), "B052 even");
        let mut short = sound.clone();
        short[0] = 0x7f;
        assert!(!is_sound(&short, EXPONENT), "B052 2047 bits");
        for bytes in [128, 1025] {
            let any = (0..=255).any(|middle| is_sound(&modulus(bytes, middle, 1), EXPONENT));
            assert!(!any, "B052 {bytes} bytes");
        }
    }
}
