//! Where the bytes of a plane repeat those at a fixed distance before: one bit a position, 64 positions at a time.
//!
//! Bytes that do not repeat cost almost nothing here, since a word of zeros is passed at once.

use crate::symbols::{LONGEST, SHORTEST};

/// Number of positions in a word.
pub(crate) const WORD: usize = 64;

/// A set of positions in a plane, and words of zeros after its end.
#[derive(Debug, Default)]
pub(crate) struct RepeatPositions(Vec<u64>);

/// Number of words after the end of a plane, so that the words after any position can be read.
const PADDING: usize = 2;

impl RepeatPositions {
    /// Removes all positions, and makes room for those of a plane of this length.
    pub(crate) fn clear(&mut self, length: usize) {
        self.0.clear();
        self.0.resize(length.div_ceil(WORD) + PADDING, 0);
    }

    /// Sets the positions at which the plane that begins at `start` repeats the bytes at this distance before.
    pub(crate) fn find(&mut self, data: &[u8], start: usize, length: usize, distance: usize) {
        self.clear(length);
        // Before the first position that has a byte so far before it, nothing repeats.
        let mut at = distance.saturating_sub(start).min(length);
        let one = |at: usize| u64::from(data[start + at] == data[start + at - distance]) << (at % WORD);
        while at < length && !at.is_multiple_of(WORD) {
            self.0[at / WORD] |= one(at);
            at += 1;
        }
        if at < length {
            let now = data[start + at..start + length].as_chunks::<WORD>().0;
            let before = data[start + at - distance..start + length - distance].as_chunks::<WORD>().0;
            let words = &mut self.0[at / WORD..];
            for ((word, now), before) in words.iter_mut().zip(now).zip(before) {
                *word = equal(now, before);
            }
            at += now.len() * WORD;
        }
        while at < length {
            self.0[at / WORD] |= one(at);
            at += 1;
        }
    }

    /// The words, with those after the end of the plane.
    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    /// Adds positions in the word with this number.
    pub(crate) fn add(&mut self, word: usize, positions: u64) {
        self.0[word] |= positions;
    }

    /// Number of words that hold positions of the plane.
    pub(crate) fn count_of_words(&self) -> usize {
        self.0.len() - PADDING
    }

    /// Adds the positions at which matches begin: from which [`SHORTEST`] and more positions are in another set for the same plane.
    pub(crate) fn add_starts(&mut self, other: &RepeatPositions) {
        for (starts, words) in self.0.iter_mut().zip(other.0.windows(2)) {
            *starts |= (1..SHORTEST as u32).fold(words[0], |all, shift| all & shifted(words, shift));
        }
    }

    /// Adds the positions at which a doubled pair begins, "aabb", if `nearest` are the positions of bytes that repeat
    /// the one before them, except those of `covered`. Returns their number.
    pub(crate) fn add_pairs(&mut self, nearest: &RepeatPositions, covered: &RepeatPositions) -> usize {
        let mut count = 0;
        for ((pairs, words), covered) in self.0.iter_mut().zip(nearest.0.windows(2)).zip(&covered.0) {
            *pairs = shifted(words, 1) & shifted(words, 3) & !covered;
            count += pairs.count_ones() as usize;
        }
        count
    }

    /// Sets the positions that are in one of two sets for the same plane.
    pub(crate) fn union(&mut self, one: &RepeatPositions, other: &RepeatPositions) {
        self.0.clear();
        self.0.extend(one.0.iter().zip(&other.0).map(|(one, other)| one | other));
    }

    /// Returns true if this position is in the set.
    #[inline(always)]
    pub(crate) fn has(&self, position: usize) -> bool {
        self.0[position / WORD] >> (position % WORD) & 1 > 0
    }

    /// Returns the 64 positions that begin at this one.
    #[inline(always)]
    pub(crate) fn from(&self, position: usize) -> u64 {
        let shift = (position % WORD) as u32;
        // In two steps, since a shift by 64 has no meaning.
        self.0[position / WORD] >> shift | self.0[position / WORD + 1] << 1 << (WORD as u32 - 1 - shift)
    }

    /// Returns the first position of the set from `position` to before `end`.
    #[inline(always)]
    pub(crate) fn next(&self, position: usize, end: usize) -> Option<usize> {
        let mut word = position / WORD;
        let mut found = *self.0.get(word)? >> (position % WORD) << (position % WORD);
        while found == 0 {
            word += 1;
            if word * WORD >= end {
                return None;
            }
            found = self.0[word];
        }
        Some(word * WORD + found.trailing_zeros() as usize).filter(|&found| found < end)
    }

    /// Returns how many positions from this one on are in the set without a gap, up to [`LONGEST`].
    #[inline(always)]
    pub(crate) fn run(&self, position: usize) -> usize {
        let first = (!self.from(position)).trailing_zeros() as usize;
        if first < WORD { first } else { self.long_run(position) }
    }

    /// Returns the same for a run that is longer than a word.
    fn long_run(&self, position: usize) -> usize {
        let mut run = WORD;
        while run < LONGEST && (position + run) / WORD < self.count_of_words() {
            let more = (!self.from(position + run)).trailing_zeros() as usize;
            run += more;
            if more < WORD {
                break;
            }
        }
        run.min(LONGEST)
    }
}

/// Returns the word that begins `shift` positions after the first of two.
#[inline(always)]
fn shifted(words: &[u64], shift: u32) -> u64 {
    words[0] >> shift | words[1] << (WORD as u32 - shift)
}

/// Returns a bit for each byte that is the same in both.
#[inline(always)]
fn equal(now: &[u8; WORD], before: &[u8; WORD]) -> u64 {
    /// Moves the lowest bit of each byte to the byte's number in the highest byte.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    // In two steps, of which a compiler makes vector instructions of the first.
    let mut equal = [0; WORD];
    for at in 0..WORD {
        equal[at] = u8::from(now[at] == before[at]);
    }
    let mut all = 0;
    for (at, eight) in equal.as_chunks::<8>().0.iter().enumerate() {
        all |= (u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) << (8 * at);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn positions_are_those_of_equal_bytes(
            data in proptest::collection::vec(0..3_u8, 0..400), start in 0..200_usize, distance in 1..300_usize,
        ) {
            let start = start.min(data.len());
            let length = data.len() - start;
            let mut found = RepeatPositions::default();
            found.find(&data, start, length, distance);
            let mut starts = RepeatPositions::default();
            starts.clear(length);
            starts.add_starts(&found);
            let wanted = |at: usize| start + at >= distance && data[start + at] == data[start + at - distance];
            for at in 0..length {
                prop_assert_eq!(found.has(at), wanted(at));
                let run = (at..length).take_while(|&at| wanted(at)).count();
                prop_assert_eq!(found.run(at), run.min(LONGEST));
                prop_assert_eq!(starts.has(at), run >= 3);
                prop_assert_eq!(found.next(at, length), (at..length).find(|&at| wanted(at)));
            }
        }
    }
}
