//! Which entries of a list belong to a subset: the ten modes of EDP.

use edp_protocol::Digest;

/// A rule by which entries are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Subset {
    /// The first entries.
    First(usize),
    /// The last entries.
    Last(usize),
    /// The first, the middle one, and the last.
    FirstMiddleLast,
    /// A random selection without repetition, in the order of the list. The same seed selects the same entries.
    Random {
        /// Number of entries.
        count: usize,
        /// The seed.
        seed: u64,
    },
    /// Every entry whose index is a multiple of this step.
    EveryNth(usize),
    /// The given number of entries, evenly spread from the first to the last.
    Spread(usize),
    /// The given number of entries from the beginning, and the same number from the end.
    Bookends(usize),
    /// Entries by their indices from 0, in the order given. Those that the list does not have are left out.
    Indices(Vec<usize>),
    /// The given percentage of the list, from the beginning, but at least one entry.
    Percentage(f64),
    /// Every second entry.
    Alternating,
}

impl Subset {
    /// Returns the indices of the entries that a list of `total` entries has of this subset.
    pub fn of(&self, total: usize) -> Vec<usize> {
        let spread = |count: usize| match count {
            0 => Vec::new(),
            1 => (0..total.min(1)).collect(),
            count if count >= total => (0..total).collect(),
            count => (0..count).map(|i| i * (total - 1) / (count - 1)).collect(),
        };
        match self {
            Subset::First(count) => (0..total.min(*count)).collect(),
            Subset::Last(count) => (total.saturating_sub(*count)..total).collect(),
            Subset::FirstMiddleLast => match total {
                0..=2 => (0..total).collect(),
                _ => vec![0, total / 2, total - 1],
            },
            Subset::Random { count, seed } => {
                let mut all: Vec<usize> = (0..total).collect();
                all.sort_by_cached_key(|index| Digest::of(format!("{seed} {index}").as_bytes()).as_str().to_owned());
                all.truncate(*count);
                all.sort_unstable();
                all
            }
            Subset::EveryNth(step) => (0..total).step_by((*step).max(1)).collect(),
            Subset::Spread(count) => spread(*count),
            Subset::Bookends(count) if count.saturating_mul(2) >= total => (0..total).collect(),
            Subset::Bookends(count) => (0..*count).chain(total - count..total).collect(),
            Subset::Indices(indices) => indices.iter().copied().filter(|index| *index < total).collect(),
            Subset::Percentage(percent) => {
                let count = (total as f64 * percent / 100.0).floor() as usize;
                (0..total.min(count.max(1))).collect()
            }
            Subset::Alternating => (0..total).step_by(2).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_are_those_of_edp() {
        for (subset, wanted) in [
            (Subset::First(3), vec![0, 1, 2]),
            (Subset::Last(2), vec![15, 16]),
            (Subset::Last(99), (0..17).collect()),
            (Subset::FirstMiddleLast, vec![0, 8, 16]),
            (Subset::EveryNth(10), vec![0, 10]),
            (Subset::Spread(5), vec![0, 4, 8, 12, 16]),
            (Subset::Spread(17), (0..17).collect()),
            (Subset::Spread(1), vec![0]),
            (Subset::Spread(0), vec![]),
            (Subset::Bookends(3), vec![0, 1, 2, 14, 15, 16]),
            (Subset::Bookends(9), (0..17).collect()),
            (Subset::Bookends(usize::MAX), (0..17).collect()),
            (Subset::Indices(vec![5, 99, 0, 5]), vec![5, 0, 5]),
            (Subset::Percentage(5.0), vec![0]),
            (Subset::Percentage(50.0), (0..8).collect()),
            (Subset::Percentage(100.0), (0..17).collect()),
            (Subset::Alternating, (0..17).step_by(2).collect()),
        ] {
            assert_eq!(subset.of(17), wanted, "{subset:?}");
        }
        for total in 0..3 {
            assert_eq!(Subset::FirstMiddleLast.of(total), (0..total).collect::<Vec<_>>());
            assert_eq!(Subset::Spread(5).of(total), (0..total).collect::<Vec<_>>());
        }
        assert!(Subset::Percentage(50.0).of(0).is_empty());
    }

    #[test]
    fn chance_repeats_with_its_seed_and_takes_no_entry_twice() {
        let of = |seed| Subset::Random { count: 5, seed }.of(17);
        assert_eq!(of(1), of(1));
        assert!((2..50).any(|seed| of(seed) != of(1)));
        let mut seen = [false; 17];
        for seed in 0..100 {
            let chosen = of(seed);
            assert!(chosen.len() == 5 && chosen.is_sorted_by(|a, b| a < b), "{chosen:?}");
            chosen.into_iter().for_each(|index| seen[index] = true);
        }
        assert_eq!(seen, [true; 17], "every entry may be chosen");
        assert_eq!(Subset::Random { count: 99, seed: 0 }.of(3), [0, 1, 2]);
    }
}
