//! Base64 of RFC 4648, with padding, as S3 writes checksums.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text of some bytes.
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The 32 bytes of a SHA-256; nothing if the text is not that of so many bytes.
pub(super) fn decode(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=').filter(|digits| digits.len() == 43)?;
    let mut bytes = [0; 32];
    let (mut bits, mut count, mut filled) = (0_u32, 0, 0);
    for digit in digits.bytes() {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            *bytes.get_mut(filled)? = (bits >> count) as u8;
            filled += 1;
            bits &= (1 << count) - 1;
        }
    }
    // Bits beyond the last byte are zero in a canonical text.
    (filled == 32 && bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_that_of_the_rfc() {
        let pairs =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (plain, text) in pairs {
            assert_eq!(encode(plain.as_bytes()), text);
        }
        assert_eq!(encode(&[0xfb, 0xff]), "+/8=");
    }

    proptest! {
        #[test]
        fn digests_survive(bytes: [u8; 32], at in 0_usize..44, other: char) {
            let text = encode(&bytes);
            prop_assert_eq!(decode(&text), Some(bytes));
            let mut odd: Vec<char> = text.chars().collect();
            odd[at] = other;
            let odd: String = odd.into_iter().collect();
            prop_assert!(odd == text || decode(&odd) != Some(bytes));
            prop_assert_eq!(decode(&text[..at]), None);
        }
    }
}
