//! The global attributes of geometry files: those that all granules of a release have.

use crate::granule::annotate::{geometry_summary, without_time};
use crate::granule::content::{Attributes, GranuleContent, Storage, Value, Values, get, set};
use crate::granule::coordinates::CellLimits;
use crate::metadata::attribute::remove;
use crate::metadata::global::{self, Extent, Sources};
use crate::metadata::podaac::TableError;
use crate::metadata::variable;
use crate::resources::Texts;
use edp_protocol::name::GranuleName;
use edp_protocol::{Digest, GridKind, Mode};
use serde_json::json;
use std::collections::BTreeSet;

/// The texts and rules by which a geometry file is described.
#[derive(Debug)]
pub struct GeometryDescription<'a> {
    /// Name of the file.
    pub name: &'a GranuleName,
    /// The mode whose rules apply.
    pub mode: Mode,
    /// Configuration and metadata.
    pub texts: &'a Texts,
    /// Digests of the configuration and of the metadata.
    pub digests: [&'a Digest; 2],
    /// Content of [`GEOMETRY_TEXTS`](crate::granule::annotate::GEOMETRY_TEXTS), if the metadata have it.
    pub geometry_texts: Option<&'a serde_json::Value>,
    /// Date of the production, `YYYY-MM-DDThh:mm:ssZ`.
    pub date: &'a str,
}

impl GeometryDescription<'_> {
    /// Puts the global attributes of a granule into a geometry file. Its own title stays where the table of the archive
    /// has none, and so does the list of coordinates, which is the last attribute.
    ///
    /// # Errors
    /// Returns an error if more than one row of the table fits the file.
    pub fn describe(&self, content: &mut GranuleContent) -> Result<(), TableError> {
        let configuration = &self.texts.configuration;
        let text = |name: &str| get(&content.attributes, name).and_then(Value::text).unwrap_or_default().to_owned();
        let (title, coordinates, conventions) = (text("title"), text("coordinates"), text("Conventions"));
        let summary = geometry_summary(self.geometry_texts, configuration, self.name);
        let dynamic = without_time(title, "3D".into(), summary.unwrap_or_default());
        let keywords = content.variables.iter().flat_map(|variable| {
            variable::describe_invariant(&self.texts.metadata, self.name.grid, &variable.name).keywords
        });
        let mut attributes: Attributes = global::describe(&Sources {
            configuration,
            metadata: &self.texts.metadata,
            podaac: &self.texts.podaac,
            name: self.name,
            mode: self.mode,
            dynamic: &dynamic,
            id: self.id(content).as_str(),
            production_date: self.date,
            keywords: keywords.collect::<BTreeSet<_>>(),
            extent: Some(extent(content, self.name.grid)),
        })?;
        if get(&attributes, "Conventions").is_none() {
            set(&mut attributes, "Conventions", conventions);
            attributes.sort_by_key(|(name, _)| name.to_lowercase());
        }
        // It is made without a recipe.
        remove(&mut attributes, "recipe_id");
        set(&mut attributes, "coordinates", coordinates);
        content.attributes = attributes;
        Ok(())
    }

    /// Returns the id of the file: SHA-256 of its name, the mode, the texts, and everything that is in it.
    fn id(&self, content: &GranuleContent) -> Digest {
        let stored = |storage: &Storage| match storage {
            Storage::Contiguous(values) => vec![Digest::of(format!("{values:?}").as_bytes())],
            Storage::Chunked(_, chunked) => {
                let chunks = chunked.chunks.iter().flat_map(|chunks| chunks.iter());
                chunks.map(|chunk| Digest::of(&chunk.bytes)).collect()
            }
        };
        let variables = content.variables.iter().map(|variable| {
            let digests: Vec<String> =
                stored(&variable.storage).iter().map(|digest| digest.as_str().to_owned()).collect();
            (variable.name.as_str(), digests)
        });
        let id = json!({
            "geometry": self.name.to_string(), "mode": self.mode, "configuration": self.digests[0],
            "metadata": self.digests[1], "variables": variables.collect::<Vec<_>>(),
        });
        Digest::of(id.to_string().as_bytes())
    }
}

/// Returns the region that the cells cover, by their bounds in the file.
fn extent(content: &GranuleContent, grid: GridKind) -> Extent {
    let values = |name: &str| {
        let found = content.variables.iter().find(|variable| variable.name == name);
        match found.map(|variable| &variable.storage) {
            Some(Storage::Contiguous(Values::F32(values))) => values.to_vec(),
            _ => Vec::new(),
        }
    };
    let limits = |name: &str, whole: [f64; 2]| {
        let values = values(name);
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if values.is_empty() { whole } else { [low, high].map(f64::from) }
    };
    let [latitude, longitude] = match grid {
        GridKind::Native => {
            let mut limits = CellLimits::default();
            limits.add(&values("XC_bnds"), &values("YC_bnds"));
            limits.limits()
        }
        GridKind::Latlon | GridKind::Series => {
            [limits("latitude_bnds", [-90.0, 90.0]), limits("longitude_bnds", [-180.0, 180.0])]
        }
    };
    let rounded = |limits: [f64; 2]| limits.map(|limit| (limit * 1e6).round() / 1e6);
    let resolution = (grid == GridKind::Latlon).then(|| {
        let count = |name: &str| content.length(name).unwrap_or(1).max(1) as f64;
        let side = |[low, high]: [f64; 2], name: &str| ((high - low) / count(name) * 1e6).round() / 1e6;
        [side(latitude, "latitude"), side(longitude, "longitude")]
    });
    let vertical = Some(rounded(limits("Z_bnds", [0.0; 2])));
    Extent { latitude: rounded(latitude), longitude: rounded(longitude), vertical, resolution }
}
