//! Binary logarithms by integers alone: the bytes of a stream depend on them, and must be the same on every processor.

/// Steps of a bit in which logarithms and costs are given.
pub(crate) const STEPS: u64 = 256;

/// Number of bits of a number after the first that count.
const PRECISION: u32 = 8;

/// The logarithms of 1 to 2 in steps of 1/256, in the same steps.
const MANTISSAS: [u16; 1 << PRECISION] = {
    let mut table = [0; 1 << PRECISION];
    let mut at = 0;
    while at < table.len() {
        // The number as a fraction of 2^32. Each square doubles the logarithm, and shows its next bit.
        let mut number = ((1 << PRECISION) + at as u64) << (32 - PRECISION);
        let (mut logarithm, mut bit) = (0, 1 << PRECISION);
        while bit > 1 {
            bit >>= 1;
            // Below 4 as a fraction of 2^32: at most 34 bits, of which the square keeps its upper half.
            number = ((number as u128 * number as u128) >> 32) as u64;
            if number >> 33 > 0 {
                logarithm |= bit;
                number >>= 1;
            }
        }
        table[at] = logarithm;
        at += 1;
    }
    table
};

/// Returns the binary logarithm of a number in [`STEPS`], and 0 for 0.
pub(crate) fn log2(number: u32) -> u64 {
    let Some(whole) = number.checked_ilog2() else { return 0 };
    let mantissa = (u64::from(number) << PRECISION >> whole) as usize & (MANTISSAS.len() - 1);
    u64::from(whole) * STEPS + u64::from(MANTISSAS[mantissa])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_right_to_the_next_step() {
        assert_eq!([0, 1, 2, 4, 1 << 31].map(log2), [0, 0, 256, 512, 31 * 256]);
        // The logarithms of 3, 10, 1,000,003 and 2^32 - 1 are 1.58496, 3.32193, 19.93157 and just below 32. The bits
        // after the first nine of a number do not count.
        assert_eq!([3, 10, 1_000_003, u32::MAX].map(log2), [405, 850, 5102, 8191]);
        assert!((1..100_000).all(|number| log2(number) <= log2(number + 1)));
        for number in 1..256 {
            assert_eq!(log2(2 * number), log2(number) + STEPS, "{number}");
        }
    }
}
