//! The order in which recipes are sent: time by time, and at one time large ones first.
//!
//! All datasets side by side load a store evenly: granules of 2-D fields cost many requests and little computing, those of
//! 3-D fields the reverse. A production ends sooner if its last granules are small. Recipes that read the same inputs are
//! sent together if that is asked for, wherever they are in this order.

use super::reading::due_rows;
use super::state::Due;
use super::{Ledger, LedgerError};
use edp_protocol::Digest;
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::MAX_GROUP;
use jiff::civil::{Date, DateTime};
use rusqlite::params;
use std::collections::HashSet;

/// Number of mates from which on no more are looked for, so that the window is not exceeded by much.
const MATES: usize = 256;

/// Number of bits of the rank for the size.
const SIZE: u32 = 6;

/// Returns the rank of a recipe: the day on which its period ends, as a number, with those without time first; then the
/// size of its inputs in powers of 2, with the largest first.
pub(super) fn rank(recipe: &Recipe) -> i64 {
    let Some(plan) = &recipe.recipe else { return 0 };
    let end = recipe.dynamic_metadata.time_coverage_end.as_deref();
    let end = end.and_then(|end| end.trim_end_matches('Z').parse::<DateTime>().ok());
    let day = end.map_or(0, |end| day(end.date()));
    let bytes = plan.inputs.values().fold(0_u64, |sum, input| sum.saturating_add(input.size));
    let smallness = i64::from(bytes.leading_zeros().min((1 << SIZE) - 1));
    (day << SIZE) | smallness
}

/// Returns the number of days since the year -9999, at least 1.
fn day(date: Date) -> i64 {
    (date.duration_since(Date::MIN).as_hours() / 24).max(1)
}

/// Returns a digest of the names of a recipe's inputs, which is the same for all recipes that read the same; 0 if it has
/// none.
pub(super) fn inputs(recipe: &Recipe) -> i64 {
    let Some(plan) = recipe.recipe.as_ref().filter(|plan| !plan.inputs.is_empty()) else { return 0 };
    let names: Vec<&str> = plan.inputs.keys().map(String::as_str).collect(); // in their order
    let digest = Digest::of(names.join("\0").as_bytes());
    i64::from_str_radix(&digest.as_str()[..15], 16).unwrap_or(0) // it consists of hexadecimal digits
}

impl Ledger {
    /// Returns further recipes that are due and were never sent, and that read the same inputs as some of `taken`. They
    /// count as taken as well, see [`Ledger::take`].
    ///
    /// # Errors
    /// Returns an error if the ledger cannot be read.
    pub(crate) fn take_mates(&mut self, taken: &[i64], now: i64) -> Result<Vec<Due>, LedgerError> {
        let read = || {
            let mut known: HashSet<i64> = self.offered.keys().copied().collect();
            let query = "SELECT mate.number FROM recipe AS own JOIN recipe AS mate USING (inputs)
                WHERE own.number = ?2 AND inputs != 0 AND mate.listed = 1 AND mate.state = 0 AND mate.attempt = 0
                AND mate.alone = 0 AND mate.due <= ?1 ORDER BY mate.number LIMIT ?3";
            let mut statement = self.connection.prepare_cached(query)?;
            let mut mates = Vec::new();
            for number in taken {
                if mates.len() >= MATES {
                    break;
                }
                let row = params![now, number, i64::try_from(MAX_GROUP).unwrap_or(i64::MAX)];
                let found = statement.query_map(row, |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
                // Only recipes that were not taken yet are unpacked.
                for mate in found.into_iter().filter(|mate| known.insert(*mate)) {
                    mates.extend(due_rows(&self.connection, "recipe.number = ?1", [mate])?);
                }
            }
            rusqlite::Result::Ok(mates)
        };
        let mates = read().map_err(|e| self.fail(e))?;
        self.offered.extend(mates.iter().map(|due| (due.number, due.attempt)));
        Ok(mates)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{failed, listed, send};
    use super::*;
    use crate::fixture::recipes;
    use edp_protocol::GridKind;
    use edp_protocol::message::FailureKind;
    use edp_protocol::recipe::Version;

    fn recipe(end: Option<&str>, read: &[(&str, u64)]) -> Recipe {
        let mut recipe = recipes(&[GridKind::Native]).remove(0);
        recipe.dynamic_metadata.time_coverage_end = end.map(str::to_owned);
        let version = |size| Version { size, ..Version::default() };
        let read = read.iter().map(|(name, size)| ((*name).to_owned(), version(*size)));
        recipe.recipe.as_mut().unwrap().inputs = read.collect();
        recipe
    }

    #[test]
    fn recipes_go_time_by_time_and_large_ones_first() {
        let [january, february] = ["1992-02-01T00:00:00", "1992-03-01T00:00:00"].map(Some);
        let in_order = [
            recipe(None, &[("mask", 10)]),
            recipe(Some("0001-01-02T00:00:00"), &[("a.1", 10)]),
            recipe(january, &[("U.1", 2000), ("V.1", 2000)]),
            recipe(january, &[("T.1", 1000)]),
            recipe(january, &[("ice.1", 3)]),
            recipe(february, &[("U.2", 2000), ("V.2", 2000)]),
            recipe(Some("9999-12-31T00:00:00Z"), &[("U.3", u64::MAX), ("V.3", 1)]),
        ];
        let ranks: Vec<i64> = in_order.iter().map(rank).collect();
        assert!(ranks.windows(2).all(|pair| pair[0] < pair[1]) && ranks[0] >= 0, "{ranks:?}");
        let other = recipe(january, &[("V.1", 2000), ("U.1", 2000)]);
        assert_eq!((rank(&other), inputs(&other)), (ranks[2], inputs(&in_order[2])), "the other grid");
        assert_ne!(inputs(&recipe(january, &[("U.1", 2000), ("W.1", 2000)])), inputs(&other));
        assert_eq!(inputs(&recipe(None, &[])), 0);
    }

    #[test]
    fn those_that_read_the_same_are_found_wherever_they_are() {
        let all = recipes(&[GridKind::Native, GridKind::Latlon]);
        let mut ledger = listed(&all);
        let taken = ledger.take(0, 1).unwrap();
        let numbers = |due: &[Due]| due.iter().map(|due| due.number).collect::<Vec<_>>();
        assert_eq!(numbers(&taken), [1]);
        let mates = ledger.take_mates(&[1], 0).unwrap();
        assert_eq!(numbers(&mates), [3], "the same month on the other grid");
        assert!(ledger.take_mates(&[1], 0).unwrap().is_empty(), "it was taken");
        // A message about it counts now, as about any that was taken.
        let first = super::super::tests::id(&all[2]);
        let claim = ledger.claims(&[(first, 1, "w".to_owned())]).unwrap().remove(0);
        assert!(matches!(claim, super::super::Claim::Published { .. }), "{claim:?}");
        // Those that were sent before travel by themselves.
        send(&mut ledger, 0);
        ledger.write(&[failed(&all[3], 1, "w", FailureKind::Returned)], 0).unwrap();
        ledger.take(600_000, 0).unwrap();
        assert!(ledger.take_mates(&[2], 600_000).unwrap().is_empty());
    }
}
