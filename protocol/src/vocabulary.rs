//! The few words that every part of the system shares: kind of grid, frequency and mode.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The error of a word that is none of the known choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{word}': use one of {choices}")]
pub struct UnknownWord {
    /// The kind of word that was expected.
    pub what: &'static str,
    /// The word as it was given.
    pub word: String,
    /// The words that are known, separated by commas.
    pub choices: &'static str,
}

/// The grid on which a granule is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GridKind {
    /// The model's lat-lon-cap grid as 13 tiles of N by N cells.
    Native,
    /// The regular longitude-latitude grid of the mapping factors.
    Latlon,
    /// No grid: time series of single numbers, one granule for all times.
    #[serde(rename = "1D")]
    Series,
}

impl GridKind {
    /// All kinds, in the order in which datasets are selected.
    pub const ALL: [GridKind; 3] = [GridKind::Native, GridKind::Latlon, GridKind::Series];

    /// Returns the word in names and job files; directories have it in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            GridKind::Native => "native",
            GridKind::Latlon => "latlon",
            GridKind::Series => "1D",
        }
    }
}

impl GridKind {
    /// Parses the word as this project writes it. In names upper and lower case differ.
    pub(crate) fn of_name(word: &str) -> Option<GridKind> {
        GridKind::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for GridKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for GridKind {
    type Err = UnknownWord;

    /// Parses the word in upper or lower case.
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word.to_ascii_lowercase().as_str() {
            "native" => Ok(GridKind::Native),
            "latlon" => Ok(GridKind::Latlon),
            "1d" => Ok(GridKind::Series),
            _ => Err(UnknownWord { what: "grid type", word: word.into(), choices: "native, latlon, 1D" }),
        }
    }
}

/// The period that one record of a variable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frequency {
    /// A mean over a calendar day.
    Day,
    /// A mean over a calendar month.
    Month,
    /// The value at one instant.
    Snapshot,
    /// One value for the whole model run: the granule has no time.
    TimeInvariant,
}

impl Frequency {
    /// The frequencies of data that change with time, in the order in which datasets offer them.
    pub const TIMED: [Frequency; 3] = [Frequency::Day, Frequency::Month, Frequency::Snapshot];

    /// All frequencies, in the same order, with the absence of time last.
    pub const ALL: [Frequency; 4] = [Frequency::Day, Frequency::Month, Frequency::Snapshot, Frequency::TimeInvariant];

    /// Returns the word of EDP's job files.
    pub fn job_word(self) -> &'static str {
        match self {
            Frequency::Day => "AVG_DAY",
            Frequency::Month => "AVG_MON",
            Frequency::Snapshot => "SNAP",
            Frequency::TimeInvariant => "TIME-INVARIANT",
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

    /// Parses EDP's words and the short ones of the command line, in upper or lower case.
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word.to_ascii_lowercase().as_str() {
            "avg_day" | "day" | "day_mean" => Ok(Frequency::Day),
            "avg_mon" | "month" | "mon_mean" => Ok(Frequency::Month),
            "snap" | "snapshot" => Ok(Frequency::Snapshot),
            "time-invariant" | "ti" => Ok(Frequency::TimeInvariant),
            _ => Err(UnknownWord {
                what: "frequency",
                word: word.into(),
                choices: "AVG_DAY, AVG_MON, SNAP, TIME-INVARIANT",
            }),
        }
    }
}

/// The toolset whose granules a recipe asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// This project's own, in which the defects of EDP are mended and the CF conventions are followed.
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
    /// All modes, in the order in which they are listed.
    pub const ALL: [Mode; 3] = [Mode::Corrected, Mode::Edp2024, Mode::Edp2026];

    /// Returns true for both modes of EDP, whose granules keep its defects.
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
