//! The choices of a plan on how the values of variables are stored: they decide bytes of a granule, and no value.

use crate::vocabulary::{Mode, UnknownWord};
use std::fmt;
use std::str::FromStr;

/// The encoder of the zlib streams of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldEncoder {
    /// The encoder for shuffled planes of this project.
    Planes,
    /// libdeflate alone.
    Libdeflate,
}

/// The shape of the chunks of fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ChunkShapes {
    /// The shape that netCDF-C chooses, as in the granules of EDP.
    #[default]
    Edp,
    /// Whole horizontal planes, for readers of maps.
    Maps,
    /// All levels of small parts of a plane, for readers of profiles.
    Columns,
}

impl FieldEncoder {
    /// All encoders.
    pub const ALL: [FieldEncoder; 2] = [FieldEncoder::Planes, FieldEncoder::Libdeflate];

    /// Returns the encoder that a mode uses in its present output version, if a plan names none.
    pub const fn of_mode(mode: Mode) -> FieldEncoder {
        match mode {
            Mode::Corrected => FieldEncoder::Planes,
            Mode::Edp2024 | Mode::Edp2026 => FieldEncoder::Libdeflate,
        }
    }

    /// Returns the word for it in recipes and on command lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            FieldEncoder::Planes => "planes",
            FieldEncoder::Libdeflate => "libdeflate",
        }
    }
}

impl ChunkShapes {
    /// All shapes.
    pub const ALL: [ChunkShapes; 3] = [ChunkShapes::Edp, ChunkShapes::Maps, ChunkShapes::Columns];

    /// Returns the word for them in recipes and on command lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            ChunkShapes::Edp => "edp",
            ChunkShapes::Maps => "maps",
            ChunkShapes::Columns => "columns",
        }
    }
}

impl FromStr for FieldEncoder {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord { what: "encoder", word: word.into(), choices: "planes, libdeflate" };
        FieldEncoder::ALL.into_iter().find(|encoder| encoder.as_str() == word).ok_or_else(unknown)
    }
}

impl FromStr for ChunkShapes {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord { what: "shape of chunks", word: word.into(), choices: "edp, maps, columns" };
        ChunkShapes::ALL.into_iter().find(|chunks| chunks.as_str() == word).ok_or_else(unknown)
    }
}

impl fmt::Display for FieldEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ChunkShapes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
