//! Random numbers that depend on what they are for, and on nothing else: the same attempt has the same luck in every
//! run, whatever happens around it, so that two runs differ only by what was changed between them.

/// The random numbers of one attempt, or of one machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draws(u64);

impl Draws {
    /// Returns the numbers of a subject, such as a recipe, and of an occasion, such as an attempt.
    pub(crate) fn new(seed: u64, subject: u64, occasion: u64) -> Draws {
        Draws(mixed(mixed(mixed(seed) ^ subject) ^ occasion))
    }

    /// Returns the next number, from 0 to 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns the next latency with this median. Functions such as the exponential are avoided, since their last bits
    /// differ from one platform to another: the quantiles are joined by straight lines.
    pub(crate) fn latency(&mut self, median: f64) -> f64 {
        let chance = self.next();
        let mut last = LATENCY[0];
        for (share, factor) in LATENCY {
            if chance < share {
                let (from, begin) = last;
                return median * (begin + (factor - begin) * (chance - from) / (share - from));
            }
            last = (share, factor);
        }
        median * last.1
    }
}

/// Quantiles of latencies: the share of requests, and their longest latency as a multiple of the median.
pub(crate) const LATENCY: [(f64, f64); 6] =
    [(0.0, 0.5), (0.5, 1.0), (0.9, 1.6), (0.99, 3.0), (0.999, 8.0), (1.0, 20.0)];

/// The mean latency as a multiple of the median.
pub(crate) fn mean_latency() -> f64 {
    LATENCY.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[0].1 + pair[1].1) / 2.0).sum()
}

/// Mixes the bits of a number.
fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_have_the_mean_and_the_median_that_are_said() {
        let mut draws = Draws::new(1, 2, 3);
        let mut all: Vec<f64> = (0..200_000).map(|_| draws.latency(0.03)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        all.sort_by(f64::total_cmp);
        assert!((all[all.len() / 2] - 0.03).abs() < 0.0003, "{}", all[all.len() / 2]);
        assert!((mean / (0.03 * mean_latency()) - 1.0).abs() < 0.02, "{mean}");
        assert_eq!(Draws::new(1, 2, 3).next(), Draws::new(1, 2, 3).next());
        assert_ne!(Draws::new(1, 2, 3).next(), Draws::new(1, 2, 4).next());
    }
}
