//! Blocks of a deflate stream (RFC 1951, sections 3.2.3 to 3.2.7).

use crate::bits::{BitWriter, BlockBits};
use crate::counts::SymbolCounts;
use crate::huffman;
use crate::parse::{Parsed, Segment, Sequence};
use crate::symbols::{self, DISTANCES, END_OF_BLOCK, LITERALS_AND_LENGTHS, LONGEST};
use std::ops::Range;

/// The longest code of a literal or length. With it, the codes of four literals and seven waiting bits fit into 64
/// bits.
const MOST_LITERAL_BITS: usize = 14;

/// The longest codes of a distance and of a length of codes, by the format.
const MOST_DISTANCE_BITS: usize = 15;
const MOST_CODE_LENGTH_BITS: usize = 7;

/// Sizes in bits of the beginning of a block: whether it is the last, and its type.
const BLOCK_BITS: u32 = 3;

/// Types of blocks.
const STORED: u64 = 0;
const DYNAMIC: u64 = 2;

/// Largest number of bytes of a stored block, and the size in bits of what is before them: the beginning, filled to a
/// byte, the length, and its complement.
const MOST_STORED: usize = 65_535;
const STORED_BITS: u64 = 8 + 32;

/// The trees of a block, and its header.
struct Trees {
    literal_lengths: [u8; LITERALS_AND_LENGTHS],
    distance_lengths: [u8; DISTANCES],
    /// The lengths of the codes of both trees in the form of the header.
    header: Vec<HeaderSymbol>,
    header_lengths: [u8; CODE_LENGTHS],
}

/// Number of symbols for the lengths of codes.
const CODE_LENGTHS: usize = 19;

/// The order in which a header has the lengths of the codes of these symbols, by the format.
const CODE_LENGTH_ORDER: [usize; CODE_LENGTHS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// A symbol of a header, and the bits that follow its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HeaderSymbol {
    symbol: u8,
    extra: u8,
    extra_bits: u8,
}

/// Merges segments as long as they cost less in one block than in two. Returns the number of segments and the counts of
/// each block.
pub(crate) fn merge(segments: &[Segment]) -> Vec<(Range<usize>, SymbolCounts)> {
    let mut blocks: Vec<(Range<usize>, SymbolCounts)> = Vec::new();
    let mut last_cost = 0;
    for (at, segment) in segments.iter().enumerate() {
        let cost = segment.counts.cost();
        if let Some((range, counts)) = blocks.last_mut() {
            let mut both = counts.clone();
            both.add(&segment.counts);
            let cost_of_both = both.cost();
            if cost_of_both <= last_cost + cost {
                (*counts, last_cost) = (both, cost_of_both);
                range.end = at + 1;
                continue;
            }
        }
        blocks.push((at..at + 1, segment.counts.clone()));
        last_cost = cost;
    }
    blocks
}

/// Writes segments as blocks. If `last` is true, the last of them ends the stream.
pub(crate) fn write(data: &[u8], parsed: &Parsed, last: bool, out: &mut BitWriter) {
    let Parsed { sequences, segments } = parsed;
    let mut first = 0;
    for (range, mut counts) in merge(segments) {
        counts.add_end();
        let bytes = segments[range.start].bytes.start..segments[range.end - 1].bytes.end;
        let end = segments[range.end - 1].end;
        let is_last = last && range.end == segments.len();
        let trees = Trees::of(&counts);
        let size = trees.size(&counts);
        if size < stored_size(bytes.len()) {
            out.block(size, |out| {
                out.put(u64::from(is_last) | DYNAMIC << 1, BLOCK_BITS);
                trees.write_header(out);
                trees.write_sequences(data, bytes.start, &sequences[first..end], out);
            });
        } else {
            write_stored(&data[bytes], is_last, out);
        }
        first = end;
    }
}

/// Returns the number of bits that bytes take in stored blocks, at most.
fn stored_size(bytes: usize) -> u64 {
    bytes as u64 * 8 + bytes.div_ceil(MOST_STORED) as u64 * STORED_BITS
}

/// Writes bytes as they are.
pub(crate) fn write_stored(bytes: &[u8], last: bool, out: &mut BitWriter) {
    let mut rest = bytes;
    loop {
        let (block, others) = rest.split_at(rest.len().min(MOST_STORED));
        rest = others;
        let is_last = last && rest.is_empty();
        out.block(BLOCK_BITS.into(), |out| out.put(u64::from(is_last) | STORED << 1, BLOCK_BITS));
        out.align();
        let length = block.len() as u16;
        out.extend(&[length.to_le_bytes(), (!length).to_le_bytes()].concat());
        out.extend(block);
        if rest.is_empty() {
            return;
        }
    }
}

impl Trees {
    fn of(counts: &SymbolCounts) -> Trees {
        let literal_lengths = huffman::lengths(&counts.literals, MOST_LITERAL_BITS);
        let distance_lengths = huffman::lengths(&counts.distances, MOST_DISTANCE_BITS);
        let header = header(Self::used(&literal_lengths, END_OF_BLOCK + 1), Self::used(&distance_lengths, 1));
        let mut frequencies = [0; CODE_LENGTHS];
        header.iter().for_each(|entry| frequencies[usize::from(entry.symbol)] += 1);
        let header_lengths = huffman::lengths(&frequencies, MOST_CODE_LENGTH_BITS);
        Trees { literal_lengths, distance_lengths, header, header_lengths }
    }

    /// Returns the lengths up to the last symbol with a code, and at least `least` of them.
    fn used(lengths: &[u8], least: usize) -> &[u8] {
        let used = lengths.iter().rposition(|&length| length > 0).map_or(0, |last| last + 1);
        &lengths[..used.max(least)]
    }

    /// Number of lengths in the order of the format that a header has.
    fn count_of_code_lengths(&self) -> usize {
        let last = CODE_LENGTH_ORDER.iter().rposition(|&symbol| self.header_lengths[symbol] > 0);
        last.map_or(0, |last| last + 1).max(4)
    }

    /// Returns the number of bits of a block with these counts.
    fn size(&self, counts: &SymbolCounts) -> u64 {
        let codes = |counts: &[u32], lengths: &[u8]| -> u64 {
            counts.iter().zip(lengths).map(|(&count, &length)| u64::from(count) * u64::from(length)).sum()
        };
        let header: u64 = self.header.iter().map(|entry| self.bits_of(entry)).sum();
        let fixed = u64::from(BLOCK_BITS) + 5 + 5 + 4 + 3 * self.count_of_code_lengths() as u64;
        let symbols = codes(&counts.literals, &self.literal_lengths) + codes(&counts.distances, &self.distance_lengths);
        fixed + header + symbols + counts.extra_bits()
    }

    /// Returns the number of bits of a symbol of the header.
    fn bits_of(&self, entry: &HeaderSymbol) -> u64 {
        u64::from(self.header_lengths[usize::from(entry.symbol)]) + u64::from(entry.extra_bits)
    }

    fn write_header(&self, out: &mut BlockBits<'_>) {
        let literals = Self::used(&self.literal_lengths, END_OF_BLOCK + 1).len();
        let distances = Self::used(&self.distance_lengths, 1).len();
        out.put(literals as u64 - 257, 5);
        out.put(distances as u64 - 1, 5);
        out.put(self.count_of_code_lengths() as u64 - 4, 4);
        out.flush();
        for &symbol in &CODE_LENGTH_ORDER[..self.count_of_code_lengths()] {
            out.put(self.header_lengths[symbol].into(), 3);
            out.flush();
        }
        let codes = huffman::codes(&self.header_lengths);
        for entry in &self.header {
            let symbol = usize::from(entry.symbol);
            out.put(codes[symbol].into(), self.header_lengths[symbol].into());
            out.put(entry.extra.into(), entry.extra_bits.into());
            out.flush();
        }
    }

    /// Writes sequences, the first of which begins at the byte `at`, and the end of the block.
    fn write_sequences(&self, data: &[u8], at: usize, sequences: &[Sequence], out: &mut BlockBits<'_>) {
        let codes = huffman::codes(&self.literal_lengths);
        let mut literals = [Code::NONE; 256];
        for (symbol, literal) in literals.iter_mut().enumerate() {
            *literal = Code::new(codes[symbol], self.literal_lengths[symbol]);
        }
        let mut lengths = [(0, 0); LONGEST + 1];
        for (length, entry) in lengths.iter_mut().enumerate().skip(symbols::SHORTEST) {
            let found = symbols::of_length(length);
            let code_bits = u32::from(self.literal_lengths[found.symbol]);
            *entry = (u32::from(codes[found.symbol]) | found.extra << code_bits, code_bits + found.extra_bits);
        }
        let distance_codes = huffman::codes(&self.distance_lengths);
        let mut at = at;
        for sequence in sequences {
            let end = at + sequence.literals as usize;
            write_literals(&data[at..], end - at, &literals, out);
            if sequence.length > 0 {
                let (bits, count) = lengths[usize::from(sequence.length)];
                out.put(bits.into(), count);
                let distance = symbols::of_distance(sequence.distance.into());
                let code_bits = u32::from(self.distance_lengths[distance.symbol]);
                let bits = u64::from(distance_codes[distance.symbol]) | u64::from(distance.extra) << code_bits;
                out.put(bits, code_bits + distance.extra_bits);
                out.flush();
            }
            at = end + usize::from(sequence.length);
        }
        out.put(codes[END_OF_BLOCK].into(), self.literal_lengths[END_OF_BLOCK].into());
        out.flush();
    }
}

/// The code of a literal, and above it the number of its bits: one value, so that it is loaded at once.
#[derive(Clone, Copy)]
struct Code(u32);

impl Code {
    const NONE: Code = Code(0);

    fn new(bits: u16, count: u8) -> Code {
        Code(u32::from(bits) | u32::from(count) << 16)
    }

    #[inline(always)]
    fn bits(self) -> u64 {
        u64::from(self.0 & 0xffff)
    }

    #[inline(always)]
    fn count(self) -> u32 {
        self.0 >> 16
    }

    /// Returns the bits of this code and the other after it, and their number.
    #[inline(always)]
    fn with(self, other: Code) -> (u64, u32) {
        (self.bits() | other.bits() << self.count(), self.count() + other.count())
    }
}

/// Number of literals that are written at once.
const AT_ONCE: usize = 4;

/// Which of the last literals of a run are written, by how many are left.
const LEFT: [[u32; AT_ONCE]; AT_ONCE] =
    [[0, 0, 0, 0], [u32::MAX, 0, 0, 0], [u32::MAX, u32::MAX, 0, 0], [u32::MAX, u32::MAX, u32::MAX, 0]];

/// Writes `count` literals from the beginning of `data`.
#[inline(always)]
fn write_literals(data: &[u8], count: usize, codes: &[Code; 256], out: &mut BlockBits<'_>) {
    let mut write = |bytes: [u8; AT_ONCE], kept: [u32; AT_ONCE]| {
        let code = |at: usize| Code(codes[usize::from(bytes[at])].0 & kept[at]);
        // Two and two, so that the shifts do not wait for each other.
        let (low, low_count) = code(0).with(code(1));
        let (high, high_count) = code(2).with(code(3));
        out.put(low | high << low_count, low_count + high_count);
        out.flush();
    };
    let (fours, rest) = data[..count].as_chunks::<AT_ONCE>();
    for four in fours {
        write(*four, [u32::MAX; AT_ONCE]);
    }
    // Most runs are short, and nothing predicts how many literals are left of them; so four are read, and as many
    // written as belong to the run.
    let left = LEFT[count % AT_ONCE];
    match data[count - rest.len()..].first_chunk() {
        Some(four) => write(*four, left),
        None => {
            let mut four = [0; AT_ONCE];
            four[..rest.len()].copy_from_slice(rest);
            write(four, left);
        }
    }
}

/// Returns the lengths of the codes of both trees as the symbols of a header, with repetitions.
fn header(literals: &[u8], distances: &[u8]) -> Vec<HeaderSymbol> {
    let lengths = [literals, distances].concat();
    let mut header = Vec::new();
    for run in lengths.chunk_by(|first, second| first == second) {
        let (length, mut left) = (run[0], run.len());
        let mut push = |symbol, extra: usize, extra_bits| {
            header.push(HeaderSymbol { symbol, extra: extra as u8, extra_bits });
        };
        if length > 0 {
            push(length, 0, 0);
            left -= 1;
        }
        while left > 0 {
            let taken = match (length, left) {
                (0, 11..) => {
                    let taken = left.min(138);
                    push(18, taken - 11, 7);
                    taken
                }
                (0, 3..) => {
                    push(17, left - 3, 3);
                    left
                }
                (1.., 3..) => {
                    let taken = left.min(6);
                    push(16, taken - 3, 2);
                    taken
                }
                _ => {
                    push(length, 0, 0);
                    1
                }
            };
            left -= taken;
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_repeat_lengths() {
        let symbols =
            |lengths: &[u8]| header(lengths, &[]).iter().map(|entry| (entry.symbol, entry.extra)).collect::<Vec<_>>();
        assert_eq!(symbols(&[5, 5, 5]), [(5, 0), (5, 0), (5, 0)]);
        assert_eq!(symbols(&[5; 4]), [(5, 0), (16, 0)]);
        assert_eq!(symbols(&[5; 8]), [(5, 0), (16, 3), (5, 0)]);
        assert_eq!(symbols(&[0, 0, 1]), [(0, 0), (0, 0), (1, 0)]);
        assert_eq!(symbols(&[0; 10]), [(17, 7)]);
        assert_eq!(symbols(&[0; 140]), [(18, 127), (0, 0), (0, 0)]);
    }
}
