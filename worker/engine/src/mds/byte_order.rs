//! Files with swapped bytes: no header tells of them, but their values do.

use super::error::MdsError;
use super::plane::Plane;

/// Smallest number of values of a level that is enough for a decision.
pub(super) const ENOUGH: usize = 8;

/// Smallest number of values of a part of a level that is enough for a decision. A level has many parts, and a few odd
/// values in one of them say nothing of the file.
pub(super) const ENOUGH_OF_PART: usize = 1000;

/// Binary exponents of magnitudes from about 1e-20 to 1e20, which cover everything that an ocean model writes. With
/// swapped bytes a number gets a random exponent: one in two is outside this range then, and nine in ten of double
/// precision.
const EXPONENTS: std::ops::RangeInclusive<i32> = -67..=66;

/// The classification of a value in one byte order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plausibility {
    Zero,
    NotANumber,
    Plausible,
    Implausible,
}

/// Refuses values that make sense only with swapped bytes: of the values that are neither 0 nor NaN in either order,
/// which are at least `enough`, one in ten or more is implausible as it is, and at most one in a hundred when swapped.
pub(super) fn check(file: &str, plane: &Plane, enough: usize) -> Result<(), MdsError> {
    let wrong = match plane {
        Plane::F32(values) => {
            let values = || values.iter().map(|value| value.to_bits());
            is_swapped(values, enough, of_single, |bits: u32| of_single(bits.swap_bytes()))
        }
        Plane::F64(values) => {
            let values = || values.iter().map(|value| value.to_bits());
            is_swapped(values, enough, of_double, |bits: u64| of_double(bits.swap_bytes()))
        }
    };
    match wrong {
        None => Ok(()),
        Some([implausible, values]) => Err(MdsError::ByteOrder { file: file.into(), implausible, values }),
    }
}

/// Returns the number of implausible values, and that of all values, if the other byte order is the right one.
fn is_swapped<B: Copy, I: Iterator<Item = B>>(
    values: impl Fn() -> I,
    enough: usize,
    plain: impl Fn(B) -> Plausibility,
    swapped: impl Fn(B) -> Plausibility,
) -> Option<[usize; 2]> {
    // Nearly all levels end here.
    let (mut there, mut odd) = (0_usize, 0_usize);
    for value in values() {
        let looks = plain(value);
        there += usize::from(looks != Plausibility::Zero);
        odd += usize::from(looks == Plausibility::Implausible || looks == Plausibility::NotANumber);
    }
    if there < enough || odd * 10 < there {
        return None;
    }
    let (mut implausible, mut odd, mut count) = (0, 0, 0);
    for value in values() {
        let both = [plain(value), swapped(value)];
        if both.contains(&Plausibility::Zero) || both.contains(&Plausibility::NotANumber) {
            continue;
        }
        count += 1;
        implausible += usize::from(both[0] == Plausibility::Implausible);
        odd += usize::from(both[1] == Plausibility::Implausible);
    }
    (count >= enough && implausible * 10 >= count && odd * 100 <= count).then_some([implausible, count])
}

fn of_single(bits: u32) -> Plausibility {
    looks(bits & 0x7fff_ffff == 0, (bits >> 23 & 0xff) as i32 - 127, 128, bits & 0x7f_ffff != 0)
}

fn of_double(bits: u64) -> Plausibility {
    looks(bits << 1 == 0, (bits >> 52 & 0x7ff) as i32 - 1023, 1024, bits << 12 != 0)
}

fn looks(zero: bool, exponent: i32, special: i32, has_fraction: bool) -> Plausibility {
    match exponent {
        _ if zero => Plausibility::Zero,
        _ if exponent == special && has_fraction => Plausibility::NotANumber,
        _ if EXPONENTS.contains(&exponent) => Plausibility::Plausible,
        _ => Plausibility::Implausible,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn single(values: &[f32]) -> [bool; 2] {
        let swapped = values.iter().map(|value| f32::from_bits(value.to_bits().swap_bytes())).collect();
        [Plane::F32(values.to_vec()), Plane::F32(swapped)].map(|plane| check("x.data", &plane, ENOUGH).is_ok())
    }

    #[test]
    fn what_makes_sense_only_when_swapped_is_refused() {
        let ice: Vec<f32> = (0..100).map(|at| [0.0, 0.5, 1.0][at % 3]).collect();
        assert_eq!(single(&ice), [true, false]);
        let mut warm: Vec<f32> = (0..1000).map(|at| 273.15 + at as f32 * 0.017).collect();
        assert_eq!(single(&warm), [true, false]);
        // land as runs and tools represent it
        warm.extend([0.0, -999.0, f32::NAN, -0.0]);
        assert_eq!(single(&warm), [true, false]);
        let double: Vec<f64> = (0..100).map(|at| f64::from(at) * 1e-7 - 3e-6).collect();
        let swapped = double.iter().map(|value| f64::from_bits(value.to_bits().swap_bytes())).collect();
        assert!(check("x.data", &Plane::F64(double), ENOUGH).is_ok());
        let message = check("x.data", &Plane::F64(swapped), ENOUGH).unwrap_err().to_string();
        assert!(message.starts_with("x.data: its values are little-endian: "), "{message}");
        assert!(message.contains("of 99") || message.contains("of 100"), "{message}");
    }

    #[test]
    fn odd_values_alone_are_no_reason() {
        let tiny: Vec<f32> = (1..200).map(|at| f32::from_bits(at * 4099)).collect();
        assert!(single(&tiny)[0], "ice that is nearly gone");
        assert_eq!(single(&[9.969_21e36; 50]), [true, true], "fill");
        assert_eq!(single(&[f32::NAN; 50]), [true, true]);
        assert_eq!(single(&[0.0; 50]), [true, true]);
        assert_eq!(single(&[1.0; ENOUGH - 1]), [true, true], "too few to tell");
        assert_eq!(single(&[]), [true, true]);
    }

    proptest! {
        #[test]
        fn values_of_oceans_are_never_refused(values in proptest::collection::vec(-1e15_f32..1e15, 0..50)) {
            prop_assert!(single(&values)[0]);
        }
    }
}
