//! The levels of the grid that a variable has.

use std::fmt;
use std::sync::Arc;

/// Largest number of levels of a grid that is accepted.
pub(crate) const MAX_LEVELS: usize = 1000;

/// The levels of the grid that a variable has, from the surface down. A model run may write some of its levels only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelSet(Arc<[usize]>);

impl LevelSet {
    /// Returns the uppermost `count` levels.
    pub fn uppermost(count: usize) -> LevelSet {
        LevelSet((0..count).collect())
    }

    /// Returns a set of levels, counted from 0 at the surface. Returns `None` if there are none, or if they are not in
    /// ascending order.
    pub fn new(levels: &[usize]) -> Option<LevelSet> {
        let ascending = levels.windows(2).all(|pair| pair[0] < pair[1]);
        (!levels.is_empty() && ascending).then(|| LevelSet(levels.into()))
    }

    /// Returns the number of levels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there are no levels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the levels in ascending order, counted from 0 at the surface.
    pub fn levels(&self) -> &[usize] {
        &self.0
    }

    /// Returns the position of a level in the set.
    pub fn position(&self, level: usize) -> Option<usize> {
        self.0.binary_search(&level).ok()
    }

    /// Returns true if each level but the first is the one below the level before it.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.0.windows(2).all(|pair| pair[0] + 1 == pair[1])
    }

    /// Returns the elements of a profile of the grid at these levels, as far as the profile reaches.
    pub fn select<T: Copy>(&self, profile: &[T]) -> Vec<T> {
        self.0.iter().filter_map(|level| profile.get(*level).copied()).collect()
    }

    /// Returns the faces between and around these levels, counted from 0 at the surface; `None` if they are not
    /// contiguous.
    pub fn faces(&self) -> Option<LevelSet> {
        let (first, last) = (*self.0.first()?, *self.0.last()?);
        self.is_contiguous().then(|| LevelSet((first..last + 2).collect()))
    }
}

/// Levels are counted from 1 in texts, as the model counts them.
impl fmt::Display for LevelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0[..], self.is_contiguous()) {
            ([], _) => f.write_str("none"),
            ([only], _) => write!(f, "{}", only + 1),
            ([first, .., last], true) => write!(f, "{} to {}", first + 1, last + 1),
            (levels, false) => {
                let texts: Vec<String> = levels.iter().map(|level| (level + 1).to_string()).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_selected_and_named() {
        for (levels, text, faces) in [
            (&[0, 1, 2][..], "1 to 3", Some(&[0, 1, 2, 3][..])),
            (&[4], "5", Some(&[4, 5])),
            (&[0, 4, 9], "1, 5, 10", None),
        ] {
            let set = LevelSet::new(levels);
            assert_eq!(set.as_ref().map(ToString::to_string).as_deref(), Some(text));
            let found = set.as_ref().and_then(LevelSet::faces);
            assert_eq!(found.as_ref().map(LevelSet::levels), faces);
            let profile: Vec<f32> = (0..10).map(|level| level as f32).collect();
            let want: Vec<f32> = levels.iter().map(|level| *level as f32).collect();
            assert_eq!(set.as_ref().map(|set| set.select(&profile)), Some(want));
            assert_eq!(set.and_then(|set| set.position(4)), levels.iter().position(|level| *level == 4));
        }
        assert_eq!(LevelSet::new(&[0, 1]), Some(LevelSet::uppermost(2)));
        for wrong in [&[][..], &[1, 0], &[3, 3]] {
            assert_eq!(LevelSet::new(wrong), None);
        }
    }
}
