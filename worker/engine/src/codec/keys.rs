//! Keys of a configuration for the compression of data variables.

use super::{Codec, Compressor};

/// The keys of `netcdf4_compression_encodings`, with the meaning that they have for xarray. Missing keys have EDP's
/// values.
#[derive(Debug, Clone, Copy)]
pub struct CodecKeys {
    zlib: bool,
    level: u8,
    shuffle: bool,
}

/// Converts the words that stand for boolean values in YAML 1.1.
fn truth(text: &str) -> Result<bool, &'static str> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("true or false"),
    }
}

impl Default for CodecKeys {
    fn default() -> CodecKeys {
        CodecKeys { zlib: true, level: 5, shuffle: true }
    }
}

impl CodecKeys {
    /// Names of the keys that are known.
    pub(crate) const KNOWN: [&'static str; 3] = ["zlib", "complevel", "shuffle"];

    /// Sets the value of a key. Returns false if there is no such key.
    ///
    /// # Errors
    /// Returns what is expected if the key cannot have this value.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, &'static str> {
        match key {
            "zlib" => self.zlib = truth(value)?,
            "shuffle" => self.shuffle = truth(value)?,
            "complevel" => {
                let level = value.trim().parse().ok().filter(|&level| level <= 9);
                self.level = level.ok_or("a level from 0 to 9")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the codec of these keys. At level 0 chunks are stored uncompressed, as the netCDF library defines it.
    pub fn codec(&self) -> Codec {
        let compressor = match self.level {
            1.. if self.zlib => Compressor::Deflate(self.level),
            _ => Compressor::None,
        };
        Codec { compressor, shuffle: self.shuffle }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_ask_for_codecs() {
        let of = |pairs: &[(&str, &str)]| {
            let mut keys = CodecKeys::default();
            pairs.iter().for_each(|(key, value)| assert_eq!(keys.set(key, value), Ok(true), "{key}"));
            keys.codec()
        };
        let deflate = |level, shuffle| Codec { compressor: Compressor::Deflate(level), shuffle };
        assert_eq!(of(&[]), deflate(5, true));
        assert_eq!(of(&[("complevel", " 9 "), ("shuffle", "Off")]), deflate(9, false));
        assert!(of(&[("zlib", "no")]).is_plain() && of(&[("complevel", "0")]).is_plain());
        let mut keys = CodecKeys::default();
        assert_eq!(keys.set("fletcher32", "true"), Ok(false));
        for (key, value) in [("zlib", "maybe"), ("complevel", "10"), ("complevel", "-1"), ("shuffle", "2")] {
            assert!(keys.set(key, value).is_err(), "{key} {value}");
        }
        assert!(CodecKeys::KNOWN.into_iter().all(|key| keys.set(key, "1") == Ok(true)));
    }
}
