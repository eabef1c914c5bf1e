//! Hashes by which texts are recognized, where very many of them are to be compared and cannot all be kept.

use std::hash::{BuildHasher as _, RandomState};

/// Makes hashes of texts. They hold within this process only, so that texts that share one cannot be prepared.
#[derive(Debug, Default)]
pub struct TextHasher([RandomState; 2]);

impl TextHasher {
    /// Returns a hash of 128 bits: among a thousand million texts, two share one with a probability of 10^-21.
    pub fn hash(&self, text: &str) -> u128 {
        let [high, low] = self.0.each_ref().map(|state| u128::from(state.hash_one(text)));
        high << 64 | low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_tell_texts_apart() {
        let hasher = TextHasher::default();
        let (a, b) = (hasher.hash("a"), hasher.hash("b"));
        assert_eq!(a, hasher.hash("a"));
        assert!(a >> 64 != b >> 64 && a as u64 != b as u64 && (a >> 64) as u64 != a as u64);
    }
}
