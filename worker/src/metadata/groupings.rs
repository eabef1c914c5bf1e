//! Groupings: which variables form a dataset.

use edp_protocol::Frequency;
use edp_protocol::recipe::Components;
use indexmap::IndexMap;

/// One dataset, as an entry of a groupings file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Grouping {
    /// Name in prose.
    pub name: String,
    /// Variables in file order, before renaming.
    pub fields: Vec<String>,
    /// First part of granule names.
    pub filename: String,
    /// `1D`, `2D` or `3D`.
    pub dimension: String,
    /// Frequencies the dataset is offered at; empty where the file does not say.
    pub frequencies: Vec<Frequency>,
    /// Added to the global comment.
    pub comment: Option<String>,
    /// Old and new name of a renamed variable.
    pub rename: Option<(String, String)>,
    /// Rotated outputs and their model components.
    pub components: Option<IndexMap<String, Components>>,
    /// Rotated outputs: `zonal` or `meridional`.
    pub orientations: Option<IndexMap<String, String>>,
}
