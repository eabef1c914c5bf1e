//! The part of a recipe that this project adds to EDP's.

use super::{CHUNKS, Derivation, ENCODER, Version, output_version};
use crate::compression::{ChunkShapes, FieldEncoder};
use crate::digest::Digest;
use crate::vocabulary::{Mode, UnknownWord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The part of a recipe that this project adds, under the key `recipe`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// SHA-256 of everything that decides the content, see [`Recipe::computed_id`].
    pub id: String,
    /// The [`output_version`] of the planner.
    pub format: u32,
    /// The toolset whose granules are made: this project's own, or EDP of 2024 or 2026.
    pub mode: Mode,
    /// Further options that change content, by name, see [`OPTIONS`].
    #[serde(default)]
    pub options: BTreeMap<String, serde_json::Value>,
    /// CF units of the granule's time, such as `hours since 1992-01-01T12:00:00`.
    pub time_units: String,
    /// SHA-256 digests of the shared resources with which the granule is made.
    pub digests: Digests,
    /// The version of each input that was seen when planning, by path below the source root. Only the recorded SHA-256
    /// of these are part of the id.
    pub inputs: BTreeMap<String, Version>,
    /// The source and the destination root. They are not part of the id.
    pub roots: Roots,
    /// For outputs whose input files are not named after their variables: the model variable in each input, by which
    /// its record is found. It is part of the id if there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Vec<String>>,
    /// Outputs that are derived from model variables by a rule, with the rule. It is part of the id if there are any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub derived: BTreeMap<String, Derivation>,
    /// Outputs of the grouping that have no input at this time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`. It is not part of the id.
    pub production_date: String,
}

/// Digests of the resources that many recipes share.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digests {
    /// Digest of the configuration file.
    pub configuration: Digest,
    /// Digest of the metadata directory.
    pub metadata: Digest,
    /// Digest of the grid files that production reads.
    pub grid: Digest,
    /// Digest of the mapping factors that production reads. It is absent for native granules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factors: Option<Digest>,
}

/// The roots beneath which a production reads and writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roots {
    /// Root of the model's results.
    pub source: String,
    /// Root of the granules.
    pub destination: String,
}

impl Plan {
    /// Returns a plan of the present output version without an id, options, inputs, fields, derived and missing
    /// outputs: the planner adds what there is of them, and the id last.
    pub fn new(mode: Mode, time_units: String, digests: Digests, roots: Roots, production_date: String) -> Plan {
        Plan {
            id: String::new(),
            format: output_version(mode),
            mode,
            options: BTreeMap::new(),
            time_units,
            digests,
            inputs: BTreeMap::new(),
            roots,
            fields: BTreeMap::new(),
            derived: BTreeMap::new(),
            missing: Vec::new(),
            production_date,
        }
    }

    /// Returns true if the granule may be made although outputs are missing (option `allow_partial`).
    pub fn allows_partial(&self) -> bool {
        self.options.get("allow_partial").is_some_and(|value| value == true)
    }

    /// Returns true if the granule is held: outputs have no input, and it may not be made without them.
    pub fn is_held(&self) -> bool {
        self.mode == Mode::Corrected && !self.missing.is_empty() && !self.allows_partial()
    }

    /// Returns true if vectors are rotated to the directions at the cells of the longitude-latitude grid (option
    /// `vectors`).
    pub fn projects_at_target(&self) -> bool {
        self.options.get("vectors").is_some_and(|value| value == "target")
    }

    /// Returns true if variables at upper cell faces keep the depths of these faces on the longitude-latitude grid
    /// (option `vertical`).
    pub fn keeps_faces(&self) -> bool {
        self.options.get("vertical").is_some_and(|value| value == "faces")
    }

    /// Returns the encoder of fields (option `encoder`).
    ///
    /// # Errors
    /// Returns an error if the option has an unknown word.
    pub fn encoder(&self) -> Result<FieldEncoder, UnknownWord> {
        self.word(ENCODER, FieldEncoder::of_mode(self.mode))
    }

    /// Returns the shapes of the chunks of fields (option `chunks`).
    ///
    /// # Errors
    /// Returns an error if the option has an unknown word.
    pub fn chunks(&self) -> Result<ChunkShapes, UnknownWord> {
        self.word(CHUNKS, ChunkShapes::default())
    }

    /// Returns the choice that an option of one word makes, or `without` if there is no such option.
    fn word<T: FromStr<Err = UnknownWord>>(&self, option: &str, without: T) -> Result<T, UnknownWord> {
        // Another value than a text is no known word either.
        self.options.get(option).map_or(Ok(without), |value| value.as_str().unwrap_or_default().parse())
    }
}
