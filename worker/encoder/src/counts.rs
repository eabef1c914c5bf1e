//! How often symbols occur in a part of a stream, and what they cost.

use crate::logarithm::{STEPS, log2};
use crate::symbols::{self, DISTANCES, END_OF_BLOCK, LITERALS_AND_LENGTHS};

/// Number of literals.
pub(crate) const LITERALS: usize = 256;

/// How often each symbol occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SymbolCounts {
    /// Literals, and lengths of matches.
    pub(crate) literals: [u32; LITERALS_AND_LENGTHS],
    /// Distances of matches.
    pub(crate) distances: [u32; DISTANCES],
}

/// Estimated size of the header of a block in bits: what every header has, and half bits for each symbol that it names.
const HEADER_BITS: u64 = 60;
const HEADER_HALF_BITS_OF_SYMBOL: u64 = 7;

impl SymbolCounts {
    pub(crate) const NONE: SymbolCounts =
        SymbolCounts { literals: [0; LITERALS_AND_LENGTHS], distances: [0; DISTANCES] };

    /// Adds those of another part.
    pub(crate) fn add(&mut self, other: &SymbolCounts) {
        self.literals.iter_mut().zip(&other.literals).for_each(|(count, other)| *count += other);
        self.distances.iter_mut().zip(&other.distances).for_each(|(count, other)| *count += other);
    }

    /// Counts a match.
    #[inline(always)]
    pub(crate) fn add_match(&mut self, length: usize, distance: usize) {
        self.literals[symbols::of_length(length).symbol] += 1;
        self.distances[symbols::of_distance(distance).symbol] += 1;
    }

    /// Estimates the size of a block of these symbols with its header, in [`STEPS`] of a bit, without the bits that
    /// follow codes.
    pub(crate) fn cost(&self) -> u64 {
        let used = self.literals.iter().chain(&self.distances).filter(|&&count| count > 0).count() as u64;
        let header = (HEADER_BITS + used * HEADER_HALF_BITS_OF_SYMBOL / 2) * STEPS;
        header + self.bits()
    }

    /// Estimates the size of the codes of these symbols in [`STEPS`] of a bit.
    pub(crate) fn bits(&self) -> u64 {
        entropy(&self.literals) + entropy(&self.distances)
    }

    /// Number of literals.
    pub(crate) fn literals(&self) -> u64 {
        self.literals[..LITERALS].iter().copied().map(u64::from).sum()
    }

    /// Estimates the mean size of a literal in [`STEPS`] of a bit, or returns `None` if there are no literals.
    pub(crate) fn cost_of_literal(&self) -> Option<u64> {
        let total = log2(self.literals.iter().sum());
        let literals = &self.literals[..LITERALS];
        let bits: u64 = literals.iter().map(|&count| u64::from(count) * total.saturating_sub(log2(count))).sum();
        bits.checked_div(self.literals())
    }

    /// Returns the number of bits that follow the codes of lengths and distances.
    pub(crate) fn extra_bits(&self) -> u64 {
        let of = |counts: &[u32], bits: fn(usize) -> u32| -> u64 {
            counts.iter().enumerate().map(|(symbol, &count)| u64::from(count) * u64::from(bits(symbol))).sum()
        };
        of(&self.literals, symbols::extra_bits_of_length) + of(&self.distances, symbols::extra_bits_of_distance)
    }

    /// Counts the end of a block.
    pub(crate) fn add_end(&mut self) {
        self.literals[END_OF_BLOCK] += 1;
    }
}

/// Returns the size of the codes of symbols that occur so often, if codes had fractions of bits.
fn entropy(counts: &[u32]) -> u64 {
    let total = log2(counts.iter().sum());
    counts.iter().map(|&count| u64::from(count) * total.saturating_sub(log2(count))).sum()
}

/// Counts of literals, in four tables, so that equal bytes after each other do not wait for the same counter.
#[derive(Debug)]
pub(crate) struct LiteralCounts([[u32; LITERALS]; 4]);

impl LiteralCounts {
    pub(crate) const NONE: LiteralCounts = LiteralCounts([[0; LITERALS]; 4]);

    /// Counts `count` bytes from the beginning of `data`.
    #[inline(always)]
    pub(crate) fn add(&mut self, data: &[u8], count: usize) {
        let (fours, rest) = data[..count].as_chunks::<4>();
        let [first, second, third, fourth] = &mut self.0;
        for four in fours {
            first[usize::from(four[0])] += 1;
            second[usize::from(four[1])] += 1;
            third[usize::from(four[2])] += 1;
            fourth[usize::from(four[3])] += 1;
        }
        // Without a branch on how many bytes are left, which nothing predicts.
        match data[count - rest.len()..].first_chunk::<4>() {
            Some(four) => {
                first[usize::from(four[0])] += u32::from(!rest.is_empty());
                second[usize::from(four[1])] += u32::from(rest.len() > 1);
                third[usize::from(four[2])] += u32::from(rest.len() > 2);
            }
            None => rest.iter().for_each(|&byte| first[usize::from(byte)] += 1),
        }
    }

    /// Moves the counts to those of a part.
    pub(crate) fn take(&mut self, counts: &mut SymbolCounts) {
        for table in &mut self.0 {
            counts.literals.iter_mut().zip(table).for_each(|(count, own)| *count += std::mem::take(own));
        }
    }
}
