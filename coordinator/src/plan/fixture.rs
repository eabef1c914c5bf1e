//! A small production for the tests of the plan: two datasets and their results.

use super::dates::DateSource;
use super::headers::HeaderCache;
use super::inventory::Inventory;
use super::jobfile::{Job, Steps};
use super::recipes::Request;
use super::selection::Window;
use super::{Note, PlanError};
use edp_engine::codec::CodecKeys;
use edp_engine::metadata::configuration::{Configuration, OutputPrecision};
use edp_engine::metadata::groupings::Grouping;
use edp_protocol::recipe::{Components, Digests, Recipe, Roots};
use edp_protocol::{Digest, Frequency, GridKind, Mode};
use jiff::civil::datetime;
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

/// The header of results, without a time.
pub(crate) const HEADER: &str = "nDims=[2];dimList=[2,1,2,2,1,2];dataprec=['float32'];nrecords=[1];";

pub(crate) fn configuration() -> Configuration {
    Configuration {
        ecco_version: "V4r4".into(),
        project: edp_protocol::name::PROJECT.into(),
        product_version: "Version 4, Release 4".into(),
        grid_labels: [(GridKind::Native, "llc0090".into()), (GridKind::Latlon, "0p50deg".into())].into(),
        precision: OutputPrecision::Float32,
        horizontal_coordinates: true,
        model_start: datetime(1992, 1, 1, 12, 0, 0, 0),
        model_end: datetime(2017, 12, 31, 12, 0, 0, 0),
        step_seconds: 3600,
        geospatial_vertical_min: -6134.5,
        results_version: None,
        podaac_file: "table.csv".into(),
        history: String::new(),
        references: String::new(),
        source: String::new(),
        summary: String::new(),
        project_summary: None,
        grid_texts: std::collections::BTreeMap::new(),
        codec: CodecKeys::default().codec(),
        doi_prefix: "10.5067".into(),
        doi_authority: None,
        metadata_link_root: None,
        description_tails: [
            (GridKind::Native, "on tiles.".into()),
            (GridKind::Latlon, "interpolated to a grid.".into()),
        ]
        .into(),
    }
}

pub(crate) fn height() -> Grouping {
    Grouping {
        name: "sea surface height".into(),
        fields: vec!["SSH".into(), "ETAN".into()],
        filename: "SEA_SURFACE_HEIGHT".into(),
        dimension: "2D".into(),
        frequencies: vec![Frequency::Day, Frequency::Month, Frequency::Snapshot],
        comment: Some("of the sea".into()),
        ..Grouping::default()
    }
}

pub(crate) fn velocity() -> Grouping {
    let vector = Components { x: "UVEL".into(), y: "VVEL".into() };
    Grouping {
        name: "ocean velocity".into(),
        fields: ["EVEL", "NVEL", "WVELMASS"].map(String::from).into(),
        filename: "OCEAN_VELOCITY".into(),
        dimension: "3D".into(),
        frequencies: vec![Frequency::Day, Frequency::Month],
        rename: Some(("WVELMASS".into(), "WVEL".into())),
        components: Some([("EVEL".into(), vector.clone()), ("NVEL".into(), vector)].into_iter().collect()),
        orientations: Some(
            [("EVEL".into(), "zonal".into()), ("NVEL".into(), "meridional".into())].into_iter().collect(),
        ),
        ..Grouping::default()
    }
}

/// A plan with all of its recipes.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) recipes: Vec<Recipe>,
    pub(crate) notes: Vec<Note>,
}

/// Plans, and returns all recipes.
pub(crate) fn plan(request: &Request<'_>) -> Result<Planned, PlanError> {
    let mut recipes = Vec::new();
    let planned = super::plan(request, &mut |recipe| {
        recipes.push(recipe);
        ControlFlow::Continue(())
    })?;
    Ok(Planned { recipes, notes: planned.notes })
}

/// Results of a run in a directory of their own, with what is needed to plan.
pub(crate) struct Production {
    pub(crate) root: tempfile::TempDir,
    pub(crate) configuration: Configuration,
    pub(crate) groupings: BTreeMap<GridKind, Vec<Grouping>>,
    pub(crate) headers: HeaderCache,
}

impl Production {
    /// Writes the pairs of the variables at the steps, all with one word for the period.
    pub(crate) fn new(word: &str, variables: &[&str], steps: &[u64]) -> Production {
        let groupings = vec![height(), velocity()];
        let production = Production {
            root: tempfile::tempdir().unwrap(),
            configuration: configuration(),
            groupings: [(GridKind::Native, groupings.clone()), (GridKind::Latlon, groupings)].into(),
            headers: HeaderCache::default(),
        };
        for variable in variables {
            for step in steps {
                production.write(word, variable, *step);
            }
        }
        production
    }

    pub(crate) fn stem(&self, word: &str, variable: &str, step: u64) -> String {
        let root = self.root.path().to_str().unwrap();
        format!("{root}/V4r4/diags/{variable}_{word}/{variable}_{word}.{step:010}")
    }

    pub(crate) fn write(&self, word: &str, variable: &str, step: u64) {
        let stem = self.stem(word, variable, step);
        fs::create_dir_all(Path::new(&stem).parent().unwrap()).unwrap();
        fs::write(format!("{stem}.data"), [0; 16]).unwrap();
        fs::write(format!("{stem}.meta"), HEADER).unwrap();
    }

    /// Writes a pair whose header has more entries than the shape.
    pub(crate) fn write_header(&self, word: &str, variable: &str, step: u64, more: &str) {
        self.write(word, variable, step);
        fs::write(format!("{}.meta", self.stem(word, variable, step)), format!("{HEADER}{more}")).unwrap();
    }

    pub(crate) fn remove(&self, word: &str, variable: &str, step: u64) {
        fs::remove_file(format!("{}.data", self.stem(word, variable, step))).unwrap();
        fs::remove_file(format!("{}.meta", self.stem(word, variable, step))).unwrap();
    }

    pub(crate) fn inventory(&self) -> Inventory {
        Inventory::scan(self.root.path(), &self.configuration.ecco_version).unwrap().0
    }

    pub(crate) fn request<'a>(&'a self, inventory: &'a Inventory, mode: Mode, jobs: Vec<Job>) -> Request<'a> {
        Request {
            job_file: "jobs.txt",
            jobs,
            window: Window::default(),
            configuration: &self.configuration,
            groupings: &self.groupings,
            inventory,
            grid_files: None,
            roots: Roots { source: self.root.path().to_str().unwrap().into(), destination: "out".into() },
            configuration_location: "config.yaml".into(),
            grid_location: "grid".into(),
            factors_location: Some("factors".into()),
            metadata_location: "metadata".into(),
            digests: digests(),
            options: BTreeMap::new(),
            mode,
            edp_time_units: Some("hours since 1992-01-01 12:00:00"),
            headers: &self.headers,
            dates: DateSource::Steps,
            production_date: "2024-11-05T06:07:08Z".into(),
            keep_going: false,
            strict: false,
            growing: false,
            allow_partial: false,
        }
    }
}

pub(crate) fn digests() -> Digests {
    Digests {
        configuration: Digest::of(b"c"),
        metadata: Digest::of(b"m"),
        grid: Digest::of(b"g"),
        factors: Some(Digest::of(b"f")),
    }
}

/// Returns a job for all steps of a grouping.
pub(crate) fn job(line: usize, grouping: usize, grid: GridKind, frequency: Frequency) -> Job {
    Job { line, grouping, grid, frequency, steps: Steps::All }
}
