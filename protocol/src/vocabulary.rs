//! The few words that every part of the system shares: grid kind, frequency, mode.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A word that names none of the known choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{word}': use one of {choices}")]
pub struct UnknownWord {
    /// What kind of word was expected.
    pub what: &'static str,
    /// The word as given.
    pub word: String,
    /// The words that are known.
    pub choices: &'static str,
}

/// The grid a granule is written on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GridKind {
    /// The model's lat-lon-cap grid as 13 tiles of N x N cells.
    Native,
    /// The regular longitude-latitude grid of the mapping factors.
    Latlon,
}

impl GridKind {
    /// The word in paths, names and job files.
    pub fn as_str(self) -> &'static str {
        match self {
            GridKind::Native => "native",
            GridKind::Latlon => "latlon",
        }
    }
}

impl GridKind {
    /// The kind of a word as this system writes it: in names, a word in other letters is not the same name.
    pub fn of_name(word: &str) -> Option<GridKind> {
        [GridKind::Native, GridKind::Latlon].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for GridKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for GridKind {
    type Err = UnknownWord;

    /// Upper and lower case are the same.
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word.to_ascii_lowercase().as_str() {
            "native" => Ok(GridKind::Native),
            "latlon" => Ok(GridKind::Latlon),
            _ => Err(UnknownWord { what: "grid type", word: word.into(), choices: "native, latlon" }),
        }
    }
}

/// What one record of a variable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frequency {
    /// Mean over a calendar day.
    Day,
    /// Mean over a calendar month.
    Month,
    /// Value at one instant.
    Snapshot,
}

impl Frequency {
    /// The word of EDP's job files.
    pub fn job_word(self) -> &'static str {
        match self {
            Frequency::Day => "AVG_DAY",
            Frequency::Month => "AVG_MON",
            Frequency::Snapshot => "SNAP",
        }
    }
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.job_word())
    }
}

impl FromStr for Frequency {
    type Err = UnknownWord;

    /// Accepts EDP's words and the short ones of the command line; upper and lower case are the same.
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word.to_ascii_lowercase().as_str() {
            "avg_day" | "day" | "day_mean" => Ok(Frequency::Day),
            "avg_mon" | "month" | "mon_mean" => Ok(Frequency::Month),
            "snap" | "snapshot" => Ok(Frequency::Snapshot),
            _ => Err(UnknownWord { what: "frequency", word: word.into(), choices: "AVG_DAY, AVG_MON, SNAP" }),
        }
    }
}

/// Whose results a recipe asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// This system's own: EDP's defects mended, CF conventions followed.
    #[default]
    #[serde(rename = "corrected")]
    Corrected,
    /// The Python toolset of November 2024, for comparison with old collections.
    #[serde(rename = "edp-2024")]
    Edp2024,
    /// The Python toolset of 2026, which makes Release 6.
    #[serde(rename = "edp-2026")]
    Edp2026,
}

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 3] = [Mode::Corrected, Mode::Edp2024, Mode::Edp2026];

    /// Whether granules are those of EDP, of whatever year, with what it does wrong.
    pub fn is_edp(self) -> bool {
        self != Mode::Corrected
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Corrected => "corrected",
            Mode::Edp2024 => "edp-2024",
            Mode::Edp2026 => "edp-2026",
        })
    }
}

impl FromStr for Mode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "corrected" => Ok(Mode::Corrected),
            "edp-2024" => Ok(Mode::Edp2024),
            "edp-2026" => Ok(Mode::Edp2026),
            _ => {
                Err(UnknownWord { what: "compatibility", word: word.into(), choices: "corrected, edp-2024, edp-2026" })
            }
        }
    }
}
