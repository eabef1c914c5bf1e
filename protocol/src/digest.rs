//! SHA-256 digests of bytes, streams and sets of files.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};

/// A SHA-256 digest as 64 lower-case hexadecimal characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest(String);

/// The error of a text that is not a SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest has 64 characters 0-9 and a-f, this text has {length} bytes or other characters")]
pub struct DigestError {
    /// Length of the text in bytes. The text itself may be of any length, and is not repeated.
    length: usize,
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Digest, DigestError> {
        let is_hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() == 64 && is_hexadecimal { Ok(Digest(text)) } else { Err(DigestError { length: text.len() }) }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl Digest {
    /// Returns the digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::from_hash(Sha256::digest(bytes).as_slice())
    }

    /// Reads to the end, and returns the digest of all bytes and their number.
    ///
    /// # Errors
    /// Returns the reader's error.
    pub fn of_reader(mut reader: impl Read) -> io::Result<(Digest, u64)> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        let mut length = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((Digest::from_hash(hash.finalize().as_slice()), length)),
                Ok(n) => {
                    hash.update(&buffer[..n]);
                    length += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Returns the digest of a set of named parts. It does not depend on the order in which they are given, nor on the
    /// place where they are kept.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = (&'a str, &'a Digest)>) -> Digest {
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort();
        let mut hash = Sha256::new();
        for (name, digest) in parts {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update(digest.0.as_bytes());
        }
        Digest::from_hash(hash.finalize().as_slice())
    }

    /// Parses a digest of 64 hexadecimal digits in upper or lower case.
    pub fn from_hex(text: &str) -> Option<Digest> {
        let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then(|| Digest(text.to_ascii_lowercase()))
    }

    /// Returns the digest that has these 32 bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Digest {
        Digest::from_hash(bytes)
    }

    fn from_hash(hash: &[u8]) -> Digest {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(64);
        for byte in hash {
            let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        }
        Digest(text)
    }

    /// The digest as 64 lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digest() {
        // FIPS 180-2, appendix B.1
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").as_str(), want);
        assert_eq!(Digest::of_reader(&b"abc"[..]).unwrap(), (Digest::of(b"abc"), 3));
    }

    #[test]
    fn nothing_else_is_taken_for_a_digest() {
        let good = Digest::of(b"abc");
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), good);
        let upper = good.as_str().to_uppercase();
        for bad in ["", "abc", &good.as_str()[1..], &upper, &format!("{good}0"), &"é".repeat(32), &"0".repeat(1 << 20)]
        {
            let error = serde_json::from_str::<Digest>(&format!("{bad:?}")).unwrap_err().to_string();
            assert!(error.contains("64 characters") && error.len() < 200, "{error}");
        }
    }

    #[test]
    fn parts_are_a_set_of_names_and_contents() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(Digest::of_parts([("x", &a), ("y", &b)]), Digest::of_parts([("y", &b), ("x", &a)]));
        assert_ne!(Digest::of_parts([("x", &a), ("y", &b)]), Digest::of_parts([("x", &b), ("y", &a)]));
    }
}
