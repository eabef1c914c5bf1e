//! EDP's configuration: one flat YAML mapping.

use edp_protocol::GridKind;
use jiff::civil::DateTime;
use std::collections::BTreeMap;

/// Type of the data variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// IEEE single precision.
    Float32,
    /// IEEE double precision.
    Float64,
}

/// How data variables are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// Whether chunks are deflated at all.
    pub deflate: bool,
    /// Deflate level, 0 to 9.
    pub level: u8,
    /// Whether bytes are shuffled first.
    pub shuffle: bool,
}

/// All of the configuration that decides what granules look like; keys of other purpose are accepted and ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// `ecco_version`: `V4r4`; may be empty.
    pub ecco_version: String,
    /// `product_version`.
    pub product_version: String,
    /// `ecco_production_filestr_grid_label`: last part of file names, by grid kind.
    pub grid_labels: BTreeMap<GridKind, String>,
    /// `array_precision`.
    pub precision: Precision,
    /// `model_start_time`: t0.
    pub model_start: DateTime,
    /// `model_end_time`.
    pub model_end: DateTime,
    /// Seconds of one model step: `model_timestep` in `model_timestep_units`.
    pub step_seconds: i64,
    /// `geospatial_vertical_min`, metres.
    pub geospatial_vertical_min: f64,
    /// `podaac_metadata_filename`.
    pub podaac_file: String,
    /// `history`.
    pub history: String,
    /// `references`.
    pub references: String,
    /// `source`.
    pub source: String,
    /// `summary`, else `project_summary`.
    pub summary: String,
    /// `netcdf4_compression_encodings`.
    pub compression: Compression,
    /// `doi_prefix`.
    pub doi_prefix: String,
    /// `doi_authority`.
    pub doi_authority: Option<String>,
    /// `metadata_link_root`.
    pub metadata_link_root: Option<String>,
    /// `dataset_description_tail_native`, `_latlon`: part of the `summary` attribute.
    pub description_tails: BTreeMap<GridKind, String>,
}
