//! Metadata onto a file that exists, without a grid or mapping factors beside it: nothing is added to its variables but
//! attributes, fill values and compression.

use super::error::MakeError;
use super::file::complete;
use super::invariant::InvariantMaker;
use super::invariant_input::InvariantInput;
use super::make::MadeFile;
use super::stages::Stages;
use crate::grid::VerticalPoint;
use crate::metadata::configuration::Configuration;
use crate::reader::{Outline, open};
use crate::resources::Texts;
use edp_protocol::name::{GEOMETRY, GranuleName};
use edp_protocol::recipe::{DynamicMetadata, TIME_INVARIANT};
use edp_protocol::{Digest, Mode};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// The file in the metadata directory that has the texts about geometry files.
pub const GEOMETRY_TEXTS: &str = "grid_geometry_dataset_descriptions.json";

/// A file to be annotated, and the rules and texts by which that is done.
#[derive(Debug)]
pub struct Annotation<'a> {
    /// The file that is read.
    pub input: &'a Path,
    /// Name of the file that is made, by which its dataset is found.
    pub name: &'a GranuleName,
    /// The mode whose rules apply.
    pub mode: Mode,
    /// True if the attributes of the input are dropped.
    pub strip: bool,
    /// `2D` or `3D`; found by the dimensions of the input if absent.
    pub dimension: Option<&'a str>,
    /// Configuration and metadata.
    pub texts: &'a Texts,
    /// Digests of the configuration and of the metadata.
    pub digests: [&'a Digest; 2],
    /// Content of [`GEOMETRY_TEXTS`], if the metadata have it.
    pub geometry_texts: Option<&'a Value>,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`.
    pub date: &'a str,
    /// Bytes that may be taken for the input and its values.
    pub memory: u64,
}

impl Annotation<'_> {
    /// Makes the file. It appears under its path when it is complete, in the place of one that is there.
    ///
    /// # Errors
    /// Returns an error if the input cannot be used, or the file cannot be written.
    pub fn make(&self, path: &Path) -> Result<MadeFile, MakeError> {
        let input = self.open()?;
        complete(path, |part| self.make_of(input, part))
    }

    fn open(&self) -> Result<InvariantInput, MakeError> {
        let file = open(self.input)?;
        let path = self.input.display().to_string();
        InvariantInput::copy(&file, &path, self.memory, &AtomicBool::new(false), &Stages::begin())
    }

    fn make_of(&self, input: InvariantInput, path: &Path) -> Result<MadeFile, MakeError> {
        let (mode, texts) = (self.mode, self.texts);
        let dimension = self.dimension.map_or_else(|| dimension_of(&input.outline), str::to_owned);
        let own = self.summary();
        let dynamic = without_time(self.name.dataset.to_lowercase().replace('_', " "), dimension, own);
        let id = json!({
            "annotated": self.name.to_string(), "input": input.read.sha256, "mode": mode, "strip": self.strip,
            "dimension": dynamic.dimension, "configuration": self.digests[0], "metadata": self.digests[1],
        });
        let id = Digest::of(id.to_string().as_bytes());
        let (memory, cancel, stages) = (self.memory - input.read.size, AtomicBool::new(false), Stages::begin());
        let maker = InvariantMaker {
            granule: &self.name.to_string(),
            name: self.name,
            mode,
            texts,
            strip: self.strip,
            dynamic: &dynamic,
            id: id.as_str(),
            production_date: self.date,
            grid: None,
            memory,
            cancel: &cancel,
            stages: &stages,
        };
        maker.make(input, path)
    }

    /// Returns the text about a geometry, else a plain one.
    fn summary(&self) -> String {
        let is_geometry = self.name.dataset.contains(GEOMETRY);
        let texts = self.geometry_texts.filter(|_| is_geometry);
        geometry_summary(texts, &self.texts.configuration, self.name).unwrap_or_else(|| "ECCO dataset".to_owned())
    }
}

/// Returns the text about the geometry of a grid, with the values of the configuration in it, if there is one.
pub(crate) fn geometry_summary(
    texts: Option<&Value>,
    configuration: &Configuration,
    name: &GranuleName,
) -> Option<String> {
    let mut text = texts?.get(name.grid.as_str())?.get("description_template")?.as_str()?.to_owned();
    for (key, value) in &configuration.grid_texts {
        text = text.replace(&format!("{{{key}}}"), value);
    }
    text = text.replace("{product_version}", &configuration.product_version);
    Some(text.replace("{ecco_version}", &configuration.ecco_version))
}

/// Returns the description of a dataset without time.
pub(crate) fn without_time(name: String, dimension: String, summary: String) -> DynamicMetadata {
    DynamicMetadata {
        name,
        dimension,
        summary,
        time_coverage_duration: Some(TIME_INVARIANT.to_owned()),
        time_coverage_resolution: Some(TIME_INVARIANT.to_owned()),
        ..DynamicMetadata::default()
    }
}

/// Returns `3D` if a file has a dimension of levels.
fn dimension_of(outline: &Outline) -> String {
    let vertical = [VerticalPoint::Center, VerticalPoint::Lower, VerticalPoint::Upper].map(VerticalPoint::dim);
    let is_vertical = |name: &str| ["Z", "k_p1"].contains(&name) || vertical.contains(&name);
    if outline.dimensions.iter().any(|(name, _)| is_vertical(name)) { "3D".into() } else { "2D".into() }
}
