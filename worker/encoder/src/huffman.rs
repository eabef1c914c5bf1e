//! Huffman codes of limited length, in the canonical form of RFC 1951, section 3.2.2.

/// The longest code that any of the trees may have.
const MOST_BITS: usize = 15;

/// Finds the lengths of the best codes for symbols that occur so often, none longer than `limit` bits. Symbols that do
/// not occur get no code; but at least two symbols have one, since some readers refuse a tree of a single code.
pub(crate) fn lengths<const N: usize>(frequencies: &[u32; N], limit: usize) -> [u8; N] {
    let mut lengths = [0; N];
    let mut leaves = [(0_u32, 0_u16); N];
    let mut used = 0;
    for (symbol, &frequency) in frequencies.iter().enumerate() {
        if frequency > 0 {
            leaves[used] = (frequency, symbol as u16);
            used += 1;
        }
    }
    if used < 2 {
        let other = usize::from(leaves[0].1 == 0 || used == 0);
        lengths[usize::from(leaves[0].1)] = 1;
        lengths[other] = 1;
        return lengths;
    }
    let leaves = &mut leaves[..used];
    leaves.sort_unstable();
    let mut counts = depths(leaves);
    limit_depths(&mut counts, limit);
    // The most frequent symbols, which are at the end, get the shortest codes.
    let mut symbols = leaves.iter().rev();
    for (length, &count) in counts.iter().enumerate() {
        for &(_, symbol) in symbols.by_ref().take(count as usize) {
            lengths[usize::from(symbol)] = length as u8;
        }
    }
    lengths
}

/// Number of levels that a tree of 32-bit frequencies can have: they grow like Fibonacci's numbers.
const DEEPEST: usize = 64;

/// Returns how many leaves Huffman's tree has at each depth. The leaves are in ascending order.
fn depths(leaves: &[(u32, u16)]) -> [u32; DEEPEST] {
    // Nodes are made in the order of their weights, so that the two lightest of all are the next of the leaves, or the
    // next of the nodes. The parent of a node has a higher number than the node.
    let mut nodes: Vec<(u64, usize)> = Vec::with_capacity(leaves.len());
    let mut leaf_parents = vec![0; leaves.len()];
    let (mut leaf, mut node) = (0, 0);
    for parent in 0..leaves.len() - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let made = nodes.get(node).map(|node| node.0);
            let next = leaves.get(leaf).map(|leaf| u64::from(leaf.0));
            if next.is_some_and(|next| made.is_none_or(|made| next <= made)) {
                weight += next.unwrap_or_default();
                leaf_parents[leaf] = parent;
                leaf += 1;
            } else {
                weight += made.unwrap_or_default();
                nodes[node].1 = parent;
                node += 1;
            }
        }
        nodes.push((weight, 0));
    }
    let mut node_depths = vec![0_usize; nodes.len()];
    for node in (0..nodes.len() - 1).rev() {
        node_depths[node] = node_depths[nodes[node].1] + 1;
    }
    let mut counts = [0; DEEPEST];
    for parent in leaf_parents {
        counts[(node_depths[parent] + 1).min(DEEPEST - 1)] += 1;
    }
    counts
}

/// Moves leaves that are deeper than `limit` up, and as few others down as makes room for them.
fn limit_depths(counts: &mut [u32; DEEPEST], limit: usize) {
    let moved: u32 = counts[limit + 1..].iter().sum();
    if moved == 0 {
        return;
    }
    counts[limit + 1..].fill(0);
    counts[limit] += moved;
    // The room that all codes take, in codes of the longest length. Each step frees the room of one: a leaf becomes a
    // node of itself and a leaf from the lowest level.
    let taken = counts[..=limit].iter().enumerate().map(|(length, &count)| u64::from(count) << (limit - length));
    let mut excess = taken.sum::<u64>().saturating_sub(1 << limit);
    while excess > 0 {
        let Some(length) = (1..limit).rev().find(|&length| counts[length] > 0) else { break };
        counts[length] -= 1;
        counts[length + 1] += 2;
        counts[limit] -= 1;
        excess -= 1;
    }
}

/// Returns the code of each symbol, with its first bit lowest, as a stream has it.
pub(crate) fn codes<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut counts = [0_u16; MOST_BITS + 1];
    lengths.iter().for_each(|&length| counts[usize::from(length)] += 1);
    counts[0] = 0;
    let mut next = [0_u16; MOST_BITS + 1];
    for length in 1..=MOST_BITS {
        next[length] = (next[length - 1] + counts[length - 1]) << 1;
    }
    let mut codes = [0; N];
    for (code, &length) in codes.iter_mut().zip(lengths) {
        if length > 0 {
            let next = &mut next[usize::from(length)];
            *code = next.reverse_bits() >> (16 - u32::from(length));
            *next = next.wrapping_add(1);
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The room that codes of these lengths take, of 2^15.
    fn room(lengths: &[u8]) -> u32 {
        lengths.iter().filter(|&&length| length > 0).map(|&length| 1 << (15 - u32::from(length))).sum()
    }

    #[test]
    fn frequent_symbols_have_short_codes() {
        assert_eq!(lengths(&[1, 0, 1, 2, 4], 15), [3, 0, 3, 2, 1]);
        assert_eq!(codes(&[3, 0, 3, 2, 1]), [0b011, 0, 0b111, 0b01, 0b0]);
    }

    #[test]
    fn two_symbols_have_codes_even_if_fewer_occur() {
        assert_eq!(lengths(&[0, 0, 0], 15), [1, 1, 0]);
        assert_eq!(lengths(&[5, 0, 0], 15), [1, 1, 0]);
        assert_eq!(lengths(&[0, 0, 5], 15), [1, 0, 1]);
    }

    #[test]
    fn codes_are_complete_and_within_their_limit_for_fibonacci_frequencies() {
        let mut frequencies = [0_u32; 40];
        for at in 0..40 {
            frequencies[at] = if at < 2 { 1 } else { frequencies[at - 1] + frequencies[at - 2] };
        }
        for limit in [6, 7, 14, 15] {
            let lengths = lengths(&frequencies, limit);
            assert_eq!(room(&lengths), 1 << 15, "{limit}: {lengths:?}");
            assert!(lengths.iter().all(|&length| (1..=limit).contains(&usize::from(length))), "{limit}: {lengths:?}");
            assert!(lengths.is_sorted_by(|first, second| first >= second), "{limit}: {lengths:?}");
        }
    }
}
