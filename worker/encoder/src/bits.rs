//! The bits of a deflate stream, from the least significant bit of each byte upwards.

/// Writes blocks of bits after bytes.
#[derive(Debug)]
pub(crate) struct BitWriter {
    /// The complete bytes.
    bytes: Vec<u8>,
    /// Bits that are no complete byte yet, and their number, which is below 8.
    word: u64,
    count: u32,
}

/// Writes the bits of one block into room for them. It is a value of its own so that a compiler keeps it in registers.
pub(crate) struct BlockBits<'a> {
    room: &'a mut [u8],
    at: usize,
    word: u64,
    count: u32,
}

/// Number of bytes that are written at once.
const AT_ONCE: usize = 8;

impl BlockBits<'_> {
    /// Adds bits. At most 56 fit in between two flushes; the bits above `count` are zero.
    #[inline(always)]
    pub(crate) fn put(&mut self, bits: u64, count: u32) {
        debug_assert!(self.count + count < 64 && bits >> count == 0);
        self.word |= bits << self.count;
        self.count += count;
    }

    /// Writes complete bytes.
    #[inline(always)]
    pub(crate) fn flush(&mut self) {
        // There is always room, by the size that was asked for.
        if let Some(room) = self.room[self.at..].first_chunk_mut::<AT_ONCE>() {
            *room = self.word.to_le_bytes();
        }
        self.at += self.count as usize / 8;
        self.word >>= self.count & 56;
        self.count &= 7;
    }
}

impl BitWriter {
    /// Returns a writer that begins after these bytes.
    pub(crate) fn after(bytes: Vec<u8>) -> BitWriter {
        BitWriter { bytes, word: 0, count: 0 }
    }

    /// Writes a block of at most this number of bits.
    pub(crate) fn block(&mut self, bits: u64, write: impl FnOnce(&mut BlockBits<'_>)) {
        let begin = self.bytes.len();
        self.bytes.resize(begin + bits as usize / 8 + 2 * AT_ONCE, 0);
        let mut block = BlockBits { room: &mut self.bytes[begin..], at: 0, word: self.word, count: self.count };
        write(&mut block);
        block.flush();
        let end = begin + block.at;
        (self.word, self.count) = (block.word, block.count);
        self.bytes.truncate(end);
    }

    /// Fills the last byte with zero bits.
    pub(crate) fn align(&mut self) {
        if self.count > 0 {
            self.bytes.push(self.word as u8);
            (self.word, self.count) = (0, 0);
        }
    }

    /// Returns true if the last bits are no complete byte.
    pub(crate) fn is_amid_bits(&self) -> bool {
        self.count > 0
    }

    /// Adds whole bytes. The bits so far must have been aligned.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        debug_assert!(!self.is_amid_bits());
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds whole bytes that are written into room for them, unless `write` gives none. Returns their number.
    pub(crate) fn extend_by(&mut self, room: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<usize> {
        debug_assert!(!self.is_amid_bits());
        let begin = self.bytes.len();
        self.bytes.resize(begin + room, 0);
        let written = write(&mut self.bytes[begin..]);
        self.bytes.truncate(begin + written.unwrap_or_default());
        written
    }

    /// Returns the bytes, of which the last is filled with zero bits.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_each_other_from_the_least_significant_one() {
        let mut writer = BitWriter::after(vec![7]);
        writer.block(3, |bits| bits.put(0b101, 3));
        writer.block(57, |bits| {
            bits.put(0b11, 2);
            bits.put((1 << 54) - 1, 54);
            bits.flush();
            assert_eq!(bits.count, 3);
        });
        writer.align();
        writer.extend(&[9, 8]);
        assert_eq!(writer.finish(), [7, 0b1111_1101, 255, 255, 255, 255, 255, 255, 0b111, 9, 8]);
    }
}
