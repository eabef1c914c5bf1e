//! Counts of refused messages, by reason.
//!
//! A hostile publisher can publish millions of meaningless messages. Each is counted, but few of them are logged.

use super::metrics::metrics;
use std::collections::BTreeMap;

/// The number of messages that were refused for each reason. There are few reasons, which the program itself gives.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<&'static str, u64>);

impl Refusals {
    /// Counts a message. Returns the number of messages that were refused for this reason if this one is to be logged:
    /// the first, the tenth, the hundredth, and so on.
    pub fn count(&mut self, reason: &'static str) -> Option<u64> {
        metrics().refused(reason);
        let count = self.0.entry(reason).or_default();
        *count = count.saturating_add(1);
        is_power_of_ten(*count).then_some(*count)
    }

    /// Returns the numbers of refused messages, by reason.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(reason, count)| (*reason, *count))
    }
}

fn is_power_of_ten(mut number: u64) -> bool {
    while number >= 10 && number.is_multiple_of(10) {
        number /= 10;
    }
    number == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_of_many_are_spoken_of() {
        let mut refusals = Refusals::default();
        let said: Vec<u64> = (0..12_000).filter_map(|_| refusals.count("nonsense")).collect();
        assert_eq!(said, [1, 10, 100, 1000, 10_000]);
        assert_eq!(refusals.count("too large"), Some(1));
        assert_eq!(refusals.counts().collect::<Vec<_>>(), [("nonsense", 12_000), ("too large", 1)]);
    }
}
