//! The trial that decides whether a plane stays here or is left to libdeflate: what repeats at any distance would save.

use crate::counts::{LITERALS, SymbolCounts};
use crate::logarithm::{STEPS, log2};
use crate::parse::{Parsed, Segment, Sequence};
use crate::symbols::{self, FARTHEST};
use std::ops::Range;

/// Smallest size in bytes of the part of a plane that is tried. A smaller plane is tried as a whole.
const TRIED: usize = 32 << 10;

/// A plane is left to libdeflate if repeats would save more than one bit in 40.
const SAVED: u64 = 40;

/// Number of bytes at the beginning of a repeat by which it is found.
const FOUND_BY: usize = 4;

/// Number of places for hashes, as a power of two.
const TABLE_BITS: u32 = 13;

/// Estimated bits of a match without those that follow the code of its distance.
const MATCH_BITS: u64 = 11;

/// The last position of each hash of bytes.
#[derive(Debug, Default)]
pub(crate) struct Trial(Vec<u32>);

impl Trial {
    /// Returns true if repeats at any distance would make this plane much smaller.
    pub(crate) fn is_better_elsewhere(&mut self, data: &[u8], parsed: &Parsed) -> bool {
        let tried = busiest(&parsed.segments);
        let size = |Segment { counts, .. }: &Segment| counts.bits() + counts.extra_bits() * STEPS;
        let own: u64 = parsed.segments[tried.clone()].iter().map(size).sum();
        self.saved(data, parsed, tried) * SAVED > own
    }

    /// Estimates what repeats at any distance would save among the literals of these segments, in [`STEPS`] of a bit.
    fn saved(&mut self, data: &[u8], parsed: &Parsed, segments: Range<usize>) -> u64 {
        self.0.clear();
        self.0.resize(1 << TABLE_BITS, 0);
        let first = segments.start.checked_sub(1).map_or(0, |before| parsed.segments[before].end);
        let mut sequences = parsed.sequences[first..].iter();
        let mut saved = 0;
        let (mut number, begin) = (first, parsed.segments.get(segments.start).map_or(0, |first| first.bytes.start));
        for Segment { bytes, end, counts } in &parsed.segments[segments] {
            let literals = costs_of_literals(counts);
            let mut at = bytes.start;
            for &Sequence { literals: count, length, .. } in sequences.by_ref().take(*end - number) {
                let end = at + count as usize;
                saved += self.saved_in(&data[begin..end], at - begin, &literals);
                at = end + usize::from(length);
            }
            number = *end;
        }
        saved
    }

    /// Does the same for the literals from `at` to the end of `data`.
    #[inline(always)]
    fn saved_in(&mut self, data: &[u8], mut at: usize, literals: &[u32; LITERALS]) -> u64 {
        let mut saved = 0;
        while let Some(bytes) = data[at..].first_chunk::<FOUND_BY>() {
            // Fibonacci hashing: the golden ratio as a fraction of 2^32.
            let hash = u32::from_le_bytes(*bytes).wrapping_mul(0x9e37_79b1) >> (32 - TABLE_BITS);
            let last = std::mem::replace(&mut self.0[hash as usize], at as u32 + 1) as usize;
            let Some(before) =
                last.checked_sub(1).filter(|&last| at - last <= FARTHEST && data[last..].first_chunk() == Some(bytes))
            else {
                at += 1;
                continue;
            };
            let repeats = data[at..].iter().zip(&data[before..]).take_while(|(now, before)| now == before);
            let (mut length, mut cost) = (0, 0);
            for (literal, _) in repeats {
                length += 1;
                cost += u64::from(literals[usize::from(*literal)]);
            }
            let bits = MATCH_BITS + u64::from(symbols::of_distance(at - before).extra_bits);
            saved += cost.saturating_sub(bits * STEPS);
            at += length;
        }
        saved
    }
}

/// Returns the segments with the most literals among those that follow each other and have [`TRIED`] bytes: what is
/// covered by matches here needs no others.
fn busiest(all: &[Segment]) -> Range<usize> {
    let literals = |range: Range<usize>| -> u64 { all[range].iter().map(|segment| segment.counts.literals()).sum() };
    let mut best = (0, 0..0);
    let (mut start, mut bytes) = (0, 0);
    for end in 0..all.len() {
        bytes += all[end].bytes.len();
        while bytes - all[start].bytes.len() >= TRIED {
            bytes -= all[start].bytes.len();
            start += 1;
        }
        let found = literals(start..end + 1);
        if found > best.0 {
            best = (found, start..end + 1);
        }
    }
    best.1
}

/// Returns the estimated size of each literal in [`STEPS`] of a bit.
fn costs_of_literals(counts: &SymbolCounts) -> [u32; LITERALS] {
    let total = log2(counts.literals.iter().sum());
    let mut costs = [0; LITERALS];
    for (cost, &count) in costs.iter_mut().zip(&counts.literals) {
        *cost = total.saturating_sub(log2(count)) as u32;
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: Range<usize>, literals: u32) -> Segment {
        let mut counts = SymbolCounts::NONE;
        counts.literals[7] = literals;
        Segment { bytes, end: 0, counts }
    }

    #[test]
    fn the_part_with_the_most_literals_is_tried() {
        let whole = [segment(0..TRIED, 5), segment(TRIED..2 * TRIED, 9), segment(2 * TRIED..2 * TRIED + 8, 3)];
        assert_eq!(busiest(&whole), 1..3, "the last one is short");
        assert_eq!(busiest(&whole[..2]), 1..2);
        assert_eq!(busiest(&whole[..1]), 0..1);
        let quarter = TRIED / 4;
        let quarters: Vec<Segment> = [9, 0, 0, 0, 8, 8, 0]
            .into_iter()
            .enumerate()
            .map(|(at, literals)| segment(at * quarter..(at + 1) * quarter, literals))
            .collect();
        assert_eq!(busiest(&quarters), 2..6);
        assert_eq!(busiest(&[segment(0..TRIED, 0)]), 0..0, "there is nothing to try");
    }

    #[test]
    fn repeats_far_away_in_a_large_part_are_no_repeats() {
        // Two segments, of which the first is as large as it can become by a match at its end.
        let first = (32 << 10) + symbols::LONGEST - 1;
        let length = first + (32 << 10) - 1;
        let mut number = 1_u32;
        let data: Vec<u8> = std::iter::repeat_with(|| {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (number >> 24) as u8
        })
        .take(length)
        .collect();
        let counts = |bytes: Range<usize>| {
            let mut counts = SymbolCounts::NONE;
            data[bytes].iter().for_each(|byte| counts.literals[usize::from(*byte)] += 1);
            counts
        };
        let parsed = Parsed {
            sequences: [first, length - first]
                .map(|literals| Sequence { literals: literals as u32, length: 0, distance: 0 })
                .into(),
            segments: [0..first, first..length]
                .into_iter()
                .enumerate()
                .map(|(at, bytes)| Segment { bytes: bytes.clone(), end: at + 1, counts: counts(bytes) })
                .collect(),
        };
        assert_eq!(busiest(&parsed.segments), 0..2);
        assert!(!Trial::default().is_better_elsewhere(&data, &parsed));
    }
}
