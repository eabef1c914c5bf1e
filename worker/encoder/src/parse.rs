//! The choice of matches: a plane as literals and repeats of earlier bytes.

use crate::counts::{LiteralCounts, SymbolCounts};
use crate::logarithm::STEPS;
use crate::pairs::Pairs;
use crate::repeats::{RepeatPositions, WORD};
use crate::symbols::{self, LONGEST, SHORTEST};
use std::ops::Range;

/// Literals, and a match after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// Number of literals.
    pub(crate) literals: u32,
    /// Length of the match, or 0 if there is none.
    pub(crate) length: u16,
    /// Distance of the match.
    pub(crate) distance: u16,
}

/// A part of the data: the smallest that can be a block, or belong to one block with its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its bytes.
    pub(crate) bytes: Range<usize>,
    /// The number of the sequence after its last one.
    pub(crate) end: usize,
    /// How often symbols occur in it.
    pub(crate) counts: SymbolCounts,
}

/// Sequences of a part of a chunk, and the segments that they form.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) sequences: Vec<Sequence>,
    pub(crate) segments: Vec<Segment>,
}

/// Where the bytes of a plane repeat earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    /// The distances at which repeats are expected, with the estimated bits of the code of a match in [`UNIT`]s.
    distances: Vec<(usize, i32)>,
    /// For each of them, the positions that repeat the byte so far before.
    repeats: Vec<RepeatPositions>,
    /// Doubled pairs at any distance.
    pub(crate) pairs: Pairs,
    /// Positions at which a match at one of the distances may begin, and those at which any match may.
    starts: RepeatPositions,
    candidates: RepeatPositions,
}

/// A plane that is parsed.
#[derive(Debug, Clone)]
pub(crate) struct BytePlane<'a> {
    /// The chunk.
    pub(crate) data: &'a [u8],
    /// Index of the first byte of the plane.
    pub(crate) start: usize,
    /// Number of bytes of the plane.
    pub(crate) length: usize,
    /// Number of bytes of a segment.
    pub(crate) segment: usize,
}

/// A match, and what it saves.
#[derive(Debug, Clone, Copy)]
struct Choice {
    length: usize,
    distance: usize,
    /// Saved bits, in units of [`UNIT`].
    saved: i32,
}

/// Number of units of a bit.
const UNIT: i32 = 4;

/// Estimated bits of the codes: of the length of a match, and of its distance, if this is 1, one of the other distances
/// of the shape, or any.
const LENGTH_BITS: i32 = 6;
const NEAREST_BITS: i32 = 2;
const SHAPE_BITS: i32 = 3;
const ANY_BITS: i32 = 5;

/// Largest number of distances at which repeats are expected.
pub(crate) const MOST_DISTANCES: usize = 3;

/// Longer matches are taken without a look at those that begin later.
const LONG: usize = 40;

/// The positions after that of a doubled pair, as bits. If no repeat at the distances of the shape begins there, the
/// match of the pair is taken without a look at others.
const NEXT: u64 = 0b1111;

/// The number of later positions that are looked at, and the bits that a match there must save more.
const LATER: usize = 4;
const LATER_BITS: i32 = 1;

impl Matches {
    /// Finds the matches of the plane that begins at `start`. Repeats are expected at `distances`, the first of which
    /// is 1.
    pub(crate) fn find(&mut self, data: &[u8], start: usize, length: usize, distances: &[usize]) {
        let bits = |distance: usize| match distance {
            1 => NEAREST_BITS,
            _ => SHAPE_BITS + symbols::of_distance(distance).extra_bits as i32,
        };
        self.distances.clear();
        self.distances.extend(distances.iter().map(|&distance| (distance, (LENGTH_BITS + bits(distance)) * UNIT)));
        self.repeats.resize_with(self.distances.len(), RepeatPositions::default);
        for (repeats, &(distance, _)) in self.repeats.iter_mut().zip(&self.distances) {
            repeats.find(data, start, length, distance);
        }
        self.starts.clear(length);
        self.repeats.iter().for_each(|repeats| self.starts.add_starts(repeats));
        if let Some(nearest) = self.repeats.first() {
            self.pairs.find(data, start, length, nearest, &self.starts);
        }
        self.candidates.union(&self.starts, self.pairs.positions());
    }

    /// Returns for each distance the 64 positions from this one on.
    #[inline(always)]
    fn windows(&self, position: usize) -> [u64; MOST_DISTANCES] {
        let mut windows = [0; MOST_DISTANCES];
        windows.iter_mut().zip(&self.repeats).for_each(|(window, repeats)| *window = repeats.from(position));
        windows
    }

    /// Returns the positions after this one at which a match begins that does not continue one from before: others save
    /// less than that.
    #[inline(always)]
    fn begins(&self, position: usize, windows: &[u64; MOST_DISTANCES]) -> u64 {
        let pairs = self.pairs.positions().from(position);
        windows.iter().fold(pairs, |all, window| all | window & window >> 1 & window >> 2 & !(window << 1))
    }

    /// Returns the best match at a position. `literal` is the cost of a literal in [`UNIT`]s of a bit.
    #[inline(always)]
    fn best(&self, plane: &BytePlane<'_>, position: usize, windows: &[u64; MOST_DISTANCES], literal: i32) -> Choice {
        let mut best = Choice { length: 0, distance: 0, saved: 0 };
        for ((window, repeats), &(distance, bits)) in windows.iter().zip(&self.repeats).zip(&self.distances) {
            let length = match window.trailing_ones() as usize {
                WORD => repeats.run(position),
                length => length,
            };
            let saved = length as i32 * literal - bits;
            if length >= SHORTEST && saved > best.saved {
                best = Choice { length, distance, saved };
            }
        }
        if self.pairs.positions().has(position) {
            let pair = self.pair(plane, position, literal);
            if pair.saved > best.saved {
                best = pair;
            }
        }
        best
    }

    /// Returns the match of doubled pairs at a position that has one.
    #[inline(always)]
    fn pair(&self, plane: &BytePlane<'_>, position: usize, literal: i32) -> Choice {
        let distance = self.pairs.distance(position);
        let bits = LENGTH_BITS + ANY_BITS + symbols::of_distance(distance).extra_bits as i32;
        let length = self.length_of_pair(plane, position, distance);
        Choice { length, distance, saved: length as i32 * literal - bits * UNIT }
    }

    /// Returns how far a match of doubled pairs reaches.
    #[inline(always)]
    fn length_of_pair(&self, plane: &BytePlane<'_>, position: usize, distance: usize) -> usize {
        /// Number of bytes that are known to be equal.
        const KNOWN: usize = 4;
        let from = plane.start + position;
        let most = (plane.length - position).min(LONGEST);
        let now = &plane.data[from..from + most];
        let before = &plane.data[from - distance..from - distance + most];
        let mut length = KNOWN.min(most);
        while let (Some(now), Some(before)) = (now[length..].first_chunk::<8>(), before[length..].first_chunk::<8>()) {
            let differ = u64::from_le_bytes(*now) ^ u64::from_le_bytes(*before);
            if differ != 0 {
                return length + differ.trailing_zeros() as usize / 8;
            }
            length += 8;
        }
        length + now[length..].iter().zip(&before[length..]).take_while(|(now, before)| now == before).count()
    }
}

impl Parsed {
    /// Forgets the sequences.
    pub(crate) fn clear(&mut self) {
        self.sequences.clear();
        self.segments.clear();
    }

    /// Parses a plane and adds its sequences and segments.
    #[inline(never)]
    pub(crate) fn parse(&mut self, plane: &BytePlane<'_>, matches: &Matches) {
        let (mut position, end) = (0, plane.length);
        let mut open = Open {
            plane,
            literals_from: 0,
            segment_from: 0,
            segment_to: plane.segment.min(end),
            literal_counts: LiteralCounts::NONE,
            counts: SymbolCounts::NONE,
            literal: 8 * UNIT,
        };
        while let Some(found) = matches.candidates.next(position, end) {
            open.pass(found, self);
            let Some((from, choice)) = open.choose(matches, found) else {
                position = found + 1;
                continue;
            };
            open.pass(from, self);
            open.add(from, choice, self);
            // Every match has at least three bytes, so that the loop ends.
            assert!(choice.length >= SHORTEST, "a match of {} bytes", choice.length);
            position = from + choice.length;
        }
        open.pass(end, self);
        open.close(self);
    }
}

/// The segment that is being parsed.
struct Open<'a> {
    plane: &'a BytePlane<'a>,
    /// Positions of the first byte that belongs to no sequence, of the first of the segment, and of the first that
    /// belongs to the next segment, except that the last match of a segment may reach beyond.
    literals_from: usize,
    segment_from: usize,
    segment_to: usize,
    literal_counts: LiteralCounts,
    counts: SymbolCounts,
    /// The cost of a literal in [`UNIT`]s of a bit, as in the segment before.
    literal: i32,
}

impl Open<'_> {
    /// Chooses a match at this position or one of the next. Returns its position.
    #[inline(always)]
    fn choose(&self, matches: &Matches, mut position: usize) -> Option<(usize, Choice)> {
        if matches.starts.from(position) & NEXT == 0 {
            let pair = matches.pair(self.plane, position, self.literal);
            return (pair.saved > 0).then_some((position, pair));
        }
        let windows = matches.windows(position);
        let mut best = matches.best(self.plane, position, &windows, self.literal);
        if best.saved <= 0 {
            return None;
        }
        let begins = matches.begins(position, &windows) >> 1;
        for later in 0..LATER {
            let next = position + 1;
            if best.length >= LONG || begins >> later & 1 == 0 {
                break;
            }
            let later = matches.best(self.plane, next, &matches.windows(next), self.literal);
            if later.saved <= best.saved + LATER_BITS * UNIT {
                break;
            }
            (best, position) = (later, next);
        }
        Some((position, best))
    }

    /// Passes the literals up to `position`, and closes the segments that end before or there.
    #[inline(always)]
    fn pass(&mut self, position: usize, parsed: &mut Parsed) {
        while position >= self.segment_to && self.segment_from < self.plane.length {
            let to = self.segment_to.max(self.literals_from);
            if to > self.literals_from {
                self.push(to, 0, 0, parsed);
            }
            self.close(parsed);
        }
    }

    /// Adds a match.
    #[inline(always)]
    fn add(&mut self, position: usize, choice: Choice, parsed: &mut Parsed) {
        self.counts.add_match(choice.length, choice.distance);
        self.push(position, choice.length as u16, choice.distance as u16, parsed);
        self.literals_from = position + choice.length;
    }

    /// Adds a sequence with the literals up to `position`.
    #[inline(always)]
    fn push(&mut self, position: usize, length: u16, distance: u16, parsed: &mut Parsed) {
        let BytePlane { data, start, .. } = self.plane;
        self.literal_counts.add(&data[start + self.literals_from..], position - self.literals_from);
        parsed.sequences.push(Sequence { literals: (position - self.literals_from) as u32, length, distance });
        self.literals_from = position;
    }

    /// Closes the segment, unless it is empty, and begins the next.
    fn close(&mut self, parsed: &mut Parsed) {
        let end = self.literals_from;
        if end > self.segment_from {
            self.literal_counts.take(&mut self.counts);
            if let Some(cost) = self.counts.cost_of_literal() {
                self.literal = (cost * UNIT as u64 / STEPS) as i32;
            }
            let bytes = self.plane.start + self.segment_from..self.plane.start + end;
            let counts = std::mem::replace(&mut self.counts, SymbolCounts::NONE);
            parsed.segments.push(Segment { bytes, end: parsed.sequences.len(), counts });
        }
        self.segment_from = end;
        self.segment_to = (end + self.plane.segment).min(self.plane.length);
    }
}
