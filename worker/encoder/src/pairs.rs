//! Pairs of bytes that occur twice: on a regular grid finer than the model's, each cell of the model appears twice or
//! more in a row, "aabb", and repeats with its neighbour at any distance.

use crate::repeats::{RepeatPositions, WORD};
use crate::symbols::FARTHEST;

/// Number of doubled pairs: of a first and a second byte.
const PAIRS: usize = 1 << 16;

/// A plane is searched for doubled pairs only if one begins at every 32nd position, on average, or more often.
const RARE: usize = 32;

/// Where doubled pairs occurred last, and matches that were found from that.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    /// For each doubled pair, the position in the chunk after its last one, or 0. There are none until they are needed.
    last: Option<Box<[u32; PAIRS]>>,
    /// True if there are pairs of this chunk among them.
    used: bool,
    /// Positions in the plane of doubled pairs that have occurred before.
    positions: RepeatPositions,
    /// For each word of positions, how many matches there are before it.
    ranks: Vec<u32>,
    /// The distances of the matches, in the order of their positions.
    distances: Vec<u16>,
    /// Positions in the plane of all doubled pairs, while it is searched.
    doubled: RepeatPositions,
}

impl Pairs {
    /// Forgets the pairs of the last chunk.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.used)
            && let Some(last) = &mut self.last
        {
            last.fill(0);
        }
    }

    /// Finds the doubled pairs in the plane that begins at `start`, and which of them occurred before. `nearest` are
    /// the positions of bytes that repeat the one before them, `starts` those at which longer repeats at other
    /// distances begin: pairs there are passed over.
    pub(crate) fn find(
        &mut self,
        data: &[u8],
        start: usize,
        length: usize,
        nearest: &RepeatPositions,
        starts: &RepeatPositions,
    ) {
        self.positions.clear(length);
        self.doubled.clear(length);
        self.distances.clear();
        self.ranks.clear();
        let count = self.doubled.add_pairs(nearest, starts);
        if count < length / RARE {
            self.ranks.resize(nearest.words().len(), 0);
            return;
        }
        let last = self.last.get_or_insert_with(|| Box::new([0; PAIRS]));
        self.used = true;
        // As many as there can be matches, and one place for what is no match.
        self.distances.resize(count + 1, 0);
        let distances = &mut self.distances[..];
        let (mut matches, plane) = (0, &data[start..start + length]);
        for (word, &doubled) in self.doubled.words().iter().enumerate() {
            self.ranks.push(matches as u32);
            let (mut doubled, mut found, begin) = (doubled, 0, word * WORD);
            while doubled > 0 {
                let bit = doubled.trailing_zeros();
                doubled &= doubled - 1;
                let at = begin + bit as usize;
                let Some(&[first, _, second]) = plane.get(at..).and_then(|rest| rest.first_chunk::<3>()) else { break };
                let position = (start + at) as u32 + 1;
                let last = &mut last[usize::from(u16::from_le_bytes([first, second]))];
                let before = std::mem::replace(last, position);
                // Without a branch, which nothing could predict: what is no match is overwritten by the next.
                let is_match = (before > 0) & (position - before <= FARTHEST as u32);
                if let Some(distance) = distances.get_mut(matches) {
                    *distance = (position - before) as u16;
                }
                matches += usize::from(is_match);
                found |= u64::from(is_match) << bit;
            }
            self.positions.add(word, found);
        }
    }

    /// The positions in the plane at which a match of at least four bytes was found.
    pub(crate) fn positions(&self) -> &RepeatPositions {
        &self.positions
    }

    /// Returns the distance of the match at a position of [`Pairs::positions`].
    #[inline(always)]
    pub(crate) fn distance(&self, position: usize) -> usize {
        let before = self.positions.words()[position / WORD] & ((1 << (position % WORD)) - 1);
        usize::from(self.distances[self.ranks[position / WORD] as usize + before.count_ones() as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(data: &[u8], start: usize) -> Vec<(usize, usize)> {
        let length = data.len() - start;
        let mut nearest = RepeatPositions::default();
        nearest.find(data, start, length, 1);
        let mut pairs = Pairs::default();
        let mut starts = RepeatPositions::default();
        starts.clear(length);
        starts.add_starts(&nearest);
        pairs.find(data, start, length, &nearest, &starts);
        (0..length).filter(|&at| pairs.positions().has(at)).map(|at| (at, pairs.distance(at))).collect()
    }

    #[test]
    fn doubled_pairs_are_found_at_any_distance() {
        let mut data = b"aabb-ccdd--aabb-ccdd".to_vec();
        assert_eq!(pairs(&data, 0), [(11, 11), (16, 11)]);
        assert_eq!(pairs(&data, 3), [(13, 11)], "what is before the plane was not seen");
        data.splice(4..4, (0..200).flat_map(|i| [100 + i % 7, i]));
        assert_eq!(pairs(&data, 0), [], "too few to be worth it");
    }

    #[test]
    fn longer_runs_are_no_pairs() {
        assert_eq!(pairs(b"aaabb--aaabb", 0), [(8, 7)]);
        assert_eq!(pairs(b"aabbb--aabbb", 0), [(7, 7)]);
    }

    #[test]
    fn pairs_too_far_away_are_no_matches() {
        for (distance, wanted) in [(FARTHEST, vec![(FARTHEST, FARTHEST)]), (FARTHEST + 1, vec![])] {
            let doubled: Vec<u8> =
                (0..distance as u32 / 4).flat_map(|i| [i as u8, i as u8, (i >> 8) as u8, (i >> 8) as u8]).collect();
            let mut data = [&b"zzyy"[..], &doubled].concat();
            data.resize(distance, b'-');
            data.extend(b"zzyy");
            let found = pairs(&data, 0).into_iter().filter(|&(at, _)| at >= distance).collect::<Vec<_>>();
            assert_eq!(found, wanted);
        }
    }
}
