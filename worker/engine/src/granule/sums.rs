//! Summaries of the values of a plane: the smallest and the largest one, and the number of unusable ones.

use super::output_value::OutputValue;

/// Number of values that are processed side by side. The compiler turns these into vector instructions; otherwise it
/// would have to process floating-point numbers one by one.
const LANES: usize = 16;

/// Passes each value to `add`, with its lane.
fn in_lanes<O: OutputValue>(values: &[O], mut add: impl FnMut(usize, O)) {
    let (blocks, rest) = values.as_chunks::<LANES>();
    for block in blocks {
        for (lane, value) in block.iter().enumerate() {
            add(lane, *value);
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        add(lane, *value);
    }
}

/// Returns the smallest and the largest value over all lanes.
fn extremes<O: OutputValue>(low: [O; LANES], high: [O; LANES]) -> [O; 2] {
    let least = low.into_iter().fold(O::from_f64(f64::INFINITY), |a, b| if b < a { b } else { a });
    let most = high.into_iter().fold(O::from_f64(f64::NEG_INFINITY), |a, b| if b > a { b } else { a });
    [least, most]
}

fn sum(counts: [u32; LANES]) -> usize {
    counts.into_iter().map(|count| count as usize).sum()
}

/// The summary of a plane's values without regard to the mask.
pub(super) struct Sums<O> {
    /// Number of cells that are fill.
    pub(super) fills: usize,
    /// Number of cells that are not finite.
    pub(super) bad: usize,
    /// Smallest and largest of the other values.
    pub(super) range: Option<[O; 2]>,
}

impl<O: OutputValue> Sums<O> {
    pub(super) fn of(values: &[O]) -> Sums<O> {
        let (infinite, none) = (O::from_f64(f64::INFINITY), O::from_f64(f64::NEG_INFINITY));
        let (mut low, mut high) = ([infinite; LANES], [none; LANES]);
        let (mut fills, mut bad) = ([0_u32; LANES], [0_u32; LANES]);
        in_lanes(values, |lane, value| {
            let (fill, finite) = (value == O::FILL, value.finite());
            fills[lane] += u32::from(fill);
            bad[lane] += u32::from(!finite);
            let counts = finite & !fill;
            low[lane] = if counts & (value < low[lane]) { value } else { low[lane] };
            high[lane] = if counts & (value > high[lane]) { value } else { high[lane] };
        });
        let (fills, bad) = (sum(fills), sum(bad));
        let range = (fills + bad < values.len()).then(|| extremes(low, high));
        Sums { fills, bad, range }
    }
}

/// Returns the smallest and the largest value of a plane with `good` valid values if a single pass can tell: exactly
/// that many values are below the fill value, which neither fill nor NaN is, and none of these is infinite.
pub(super) fn plain_range<O: OutputValue>(values: &[O], good: usize) -> Option<[O; 2]> {
    let (infinite, none) = (O::from_f64(f64::INFINITY), O::from_f64(f64::NEG_INFINITY));
    let (mut low, mut high, mut below) = ([infinite; LANES], [none; LANES], [0_u32; LANES]);
    in_lanes(values, |lane, value| {
        let is_below = value < O::FILL;
        below[lane] += u32::from(is_below);
        let counts = if is_below { value } else { none };
        high[lane] = if counts > high[lane] { counts } else { high[lane] };
        low[lane] = if value < low[lane] { value } else { low[lane] };
    });
    let ([least, most], found) = (extremes(low, high), sum(below));
    (found == good && found > 0 && least > none).then_some([least, most])
}

#[cfg(test)]
mod tests {
    use super::super::output_value::FILL;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_the_plain_loop(
            values in proptest::collection::vec(prop_oneof![
                5 => -9.0_f32..9.0,
                1 => Just(FILL as f32),
                1 => prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(f32::MAX)],
            ], 0..100),
        ) {
            let sums = Sums::of(&values);
            let fill = |value: &&f32| **value == f32::FILL;
            let good: Vec<f32> = values.iter().filter(|v| v.is_finite() && !fill(v)).copied().collect();
            prop_assert_eq!(sums.fills, values.iter().filter(fill).count());
            prop_assert_eq!(sums.bad, values.iter().filter(|v| !v.is_finite()).count());
            let range = (!good.is_empty()).then(|| {
                [good.iter().copied().fold(f32::INFINITY, f32::min), good.iter().copied().fold(f32::NEG_INFINITY, f32::max)]
            });
            prop_assert_eq!(sums.range, range);
            // A single pass accepts good planes, and no others.
            let few = good.iter().all(|value| *value < f32::FILL);
            let plain = plain_range(&values, values.len() - sums.fills);
            prop_assert_eq!(plain, range.filter(|_| few && sums.bad == 0));
        }
    }
}
