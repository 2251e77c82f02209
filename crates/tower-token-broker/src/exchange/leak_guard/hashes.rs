//! Keyed hashes of pieces of a text, and a filter of those that occur in credentials.

use std::sync::atomic::{AtomicU64, Ordering};

use super::registry::{GRAM, WINDOW, WINDOWS};

/// Bits of the filter for each entry: one for each gram of a window, one for each gram with its
/// offset, two for the window. At most an eighth of the bits are set.
const BITS: usize = WINDOWS * (2 * GRAM + 2) * 8;

/// Excludes texts that contain no window, without a lock. It is only added to, and built again with
/// each sweep.
pub(super) struct Filter {
    words: Box<[AtomicU64]>,
    shift: u32,
}

impl Filter {
    pub(super) fn for_entries(entries: usize) -> Self {
        let bits = entries.saturating_mul(BITS).next_power_of_two();
        let words = (0..bits / 64).map(|_| AtomicU64::new(0)).collect();
        Self { words, shift: 64 - bits.trailing_zeros() }
    }

    #[inline]
    fn bit(&self, hash: u64, salt: u64) -> usize {
        usize::try_from(hash.wrapping_mul(salt) >> self.shift).unwrap_or(0)
    }

    #[inline]
    pub(super) fn gram(&self, gram: u32) -> usize {
        self.bit(gram.into(), SALTS[0])
    }

    #[inline]
    pub(super) fn gram_at(&self, gram: u32, offset: usize) -> usize {
        self.bit((u64::from(gram) << 4) + offset as u64, SALTS[1])
    }

    #[inline]
    pub(super) fn window(&self, hash: u64) -> [usize; 2] {
        [self.bit(hash, SALTS[2]), self.bit(hash, SALTS[3])]
    }

    #[inline]
    pub(super) fn has(&self, bit: usize) -> bool {
        self.words
            .get(bit / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) >> (bit % 64) & 1 == 1)
    }

    pub(super) fn set(&self, bit: usize) {
        if let Some(word) = self.words.get(bit / 64) {
            word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }
}

/// Odd numbers, so that a product has no two equal results.
const SALTS: [u64; 4] =
    [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0xD6E8_FEB8_6659_FD93];

/// The bit by which the cases of a letter differ, in each byte. It is set before hashing.
const FOLDED: u64 = 0x2020_2020_2020_2020;

/// The key of the hashes, random for each registry.
pub(super) struct Key([u64; 4]);

impl Key {
    pub(super) fn generate() -> Self {
        let mut key = [0; 4];
        for part in &mut key {
            let mut bytes = [0; 8];
            // Without randomness, texts could be made that cost more, but none that pass.
            if aws_lc_rs::rand::fill(&mut bytes).is_ok() {
                *part = u64::from_le_bytes(bytes);
            }
        }
        Self(key)
    }

    #[inline]
    pub(super) fn gram(&self, text: &[u8], at: usize) -> Option<u32> {
        let [one, other, ..] = self.0;
        let hash = fold(load(text, at)? ^ one, other | 1);
        Some(u32::try_from(hash >> 32).unwrap_or(0))
    }

    #[inline]
    pub(super) fn window(&self, window: &[u8]) -> Option<u64> {
        let [one, other, third, fourth] = self.0;
        let (first, last) = (load(window, 0)?, load(window, WINDOW - 8)?);
        let hash = fold(first ^ third, one | 1) ^ fold(last ^ fourth, other | 1).rotate_left(32);
        Some(fold(hash ^ third, fourth | 1))
    }

    pub(super) fn digest(&self, text: &[u8]) -> u64 {
        let [one, other, third, fourth] = self.0;
        let mut hash = third ^ text.len() as u64;
        for chunk in text.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            let word = u64::from_le_bytes(word) | FOLDED;
            hash = fold(hash ^ word ^ one, other | 1).wrapping_add(fourth ^ word);
        }
        fold(hash ^ fourth, third | 1)
    }
}

#[inline]
fn load(text: &[u8], at: usize) -> Option<u64> {
    let bytes = text.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes) | FOLDED)
}

#[inline]
fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
    let high = u64::try_from(product >> 64).unwrap_or(0);
    low ^ high
}
