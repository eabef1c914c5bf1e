//! The symbols of lengths and distances (RFC 1951, section 3.2.5).

/// Length of the shortest and of the longest match.
pub(crate) const SHORTEST: usize = 3;
pub(crate) const LONGEST: usize = 258;

/// The largest distance of a match.
pub(crate) const FARTHEST: usize = 32_768;

/// Numbers of symbols for literals and lengths, and for distances.
pub(crate) const LITERALS_AND_LENGTHS: usize = 286;
pub(crate) const DISTANCES: usize = 30;

/// The symbol that ends a block.
pub(crate) const END_OF_BLOCK: usize = 256;

/// Symbol of the shortest length.
const FIRST_LENGTH: usize = 257;

/// Number of lengths that share the symbol with this number among those of lengths, as a power of two.
const fn length_bits(index: usize) -> u32 {
    match index {
        0..8 | 28 => 0,
        _ => index as u32 / 4 - 1,
    }
}

/// For each length: the number of its symbol among those of lengths, and the first length of that symbol.
const LENGTHS: [(u8, u16); LONGEST + 1] = {
    let mut table = [(0, 0); LONGEST + 1];
    let (mut index, mut first) = (0, SHORTEST);
    while index < 28 {
        let mut length = first;
        while length < first + (1 << length_bits(index)) {
            table[length] = (index as u8, first as u16);
            length += 1;
        }
        first = length;
        index += 1;
    }
    // The last length has a symbol of its own, although the range of the one before it would include it.
    table[LONGEST] = (28, LONGEST as u16);
    table
};

/// A symbol, and the bits that follow its code: which of the lengths or distances of the symbol it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) symbol: usize,
    pub(crate) extra: u32,
    pub(crate) extra_bits: u32,
}

/// Returns the symbol of a length from [`SHORTEST`] to [`LONGEST`].
pub(crate) fn of_length(length: usize) -> Symbol {
    let (index, first) = LENGTHS[length];
    let extra = length as u32 - u32::from(first);
    Symbol { symbol: FIRST_LENGTH + usize::from(index), extra, extra_bits: length_bits(index.into()) }
}

/// Returns the symbol of a distance from 1 to [`FARTHEST`].
pub(crate) fn of_distance(distance: usize) -> Symbol {
    let from_zero = distance as u32 - 1;
    let extra_bits = from_zero.checked_ilog2().unwrap_or_default().saturating_sub(1);
    let symbol = 2 * extra_bits + (from_zero >> extra_bits);
    Symbol { symbol: symbol as usize, extra: from_zero & ((1 << extra_bits) - 1), extra_bits }
}

/// Number of bits after the code of a symbol of literals and lengths.
pub(crate) fn extra_bits_of_length(symbol: usize) -> u32 {
    symbol.checked_sub(FIRST_LENGTH).map_or(0, length_bits)
}

/// Number of bits after the code of a symbol of distances.
pub(crate) fn extra_bits_of_distance(symbol: usize) -> u32 {
    (symbol as u32 / 2).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_the_symbols_of_the_specification() {
        let of = |length| (of_length(length).symbol, of_length(length).extra, of_length(length).extra_bits);
        assert_eq!([of(3), of(10), of(11), of(12)], [(257, 0, 0), (264, 0, 0), (265, 0, 1), (265, 1, 1)]);
        assert_eq!([of(114), of(115), of(257), of(258)], [(279, 15, 4), (280, 0, 4), (284, 30, 5), (285, 0, 0)]);
        for length in SHORTEST..=LONGEST {
            assert_eq!(of_length(length).extra_bits, extra_bits_of_length(of_length(length).symbol));
        }
    }

    #[test]
    fn distances_have_the_symbols_of_the_specification() {
        let of =
            |distance| (of_distance(distance).symbol, of_distance(distance).extra, of_distance(distance).extra_bits);
        assert_eq!([of(1), of(4), of(5), of(6), of(7)], [(0, 0, 0), (3, 0, 0), (4, 0, 1), (4, 1, 1), (5, 0, 1)]);
        assert_eq!([of(24_576), of(24_577), of(32_768)], [(28, 8191, 13), (29, 0, 13), (29, 8191, 13)]);
        for distance in 1..=FARTHEST {
            assert_eq!(of_distance(distance).extra_bits, extra_bits_of_distance(of_distance(distance).symbol));
        }
    }
}
