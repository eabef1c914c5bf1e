//! `geometry`: geometry files of the native and the latlon grid.

use super::annotate::geometry_texts;
use super::fetched;
use clap::Args;
use edp_engine::geometry::{GeometryDescription, GeometryFileError, latlon, native};
use edp_engine::granule::content::GranuleContent;
use edp_engine::granule::file::write_whole;
use edp_engine::grid::ModelFiles;
use edp_engine::mapping::Factors;
use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::source::Metadata;
use edp_engine::resources::{self, Texts};
use edp_program::settings::Settings;
use edp_protocol::message::chain;
use edp_protocol::name::{GEOMETRY, GranuleName, base_name, latlon_label, native_label};
use edp_protocol::text::line;
use edp_protocol::{Digest, GridKind, Location, Mode};
use edp_store::Stores;
use edp_worker::console::{self, Ending, Unreachable, Usage, note, out};
use edp_worker::tasks::{date_text, production_date};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct GeometryOptions {
    /// Directory with the grid files of a model run: MDS files (XC, hFacC, DRF, ...) and tile001.mitgrid to tile005.mitgrid
    #[arg(long, alias = "ecco_grid_loc", value_name = "LOCATION")]
    grid: String,
    /// Directory of the geometry files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Grids: native, latlon [default: native, and latlon if there are mapping factors]
    #[arg(long, value_delimiter = ',', value_name = "GRIDS")]
    on: Vec<GridKind>,
    /// Mapping factors, for the latlon geometry
    #[arg(long, alias = "ecco_mapping_factors_loc", value_name = "LOCATION")]
    mapping_factors: Option<String>,
    /// Configuration (YAML), for the names of the files and, with --metadata, their global attributes
    #[arg(long, aliases = ["ecco_cfg_loc", "cfgfile"], value_name = "FILE")]
    config: Option<String>,
    /// Metadata directory, for the attributes
    #[arg(long, alias = "ecco_metadata_loc", value_name = "LOCATION")]
    metadata: Option<String>,
    /// Whose layout: corrected (default), edp-2026, or edp-2024 with nothing but the variables of Release 4
    #[arg(long, value_name = "MODE")]
    compatibility: Option<Mode>,
    /// With --config and --metadata: date of the production, YYYY-MM-DDThh:mm:ssZ [default: SOURCE_DATE_EPOCH, else the time
    /// of the newest file in the grid directory]
    #[arg(long, value_name = "TIME")]
    production_date: Option<String>,
    /// Replace geometry files of the same names
    #[arg(long)]
    replace: bool,
}

/// Runs the command.
pub(crate) fn execute(options: &GeometryOptions, settings: &Settings) -> anyhow::Result<Ending> {
    let stores = edp_s3::stores(&settings.store);
    let mode = options.compatibility.unwrap_or_default();
    let mut grids: BTreeSet<GridKind> = options.on.iter().copied().collect();
    if grids.is_empty() {
        grids.insert(GridKind::Native);
        grids.extend(options.mapping_factors.is_some().then_some(GridKind::Latlon));
    }
    let directory = fetched(&options.grid, &stores)?;
    let files = ModelFiles::open(&directory).map_err(|e| console::named(&e))?;
    let both = match (&options.config, &options.metadata) {
        (Some(config), Some(metadata)) => {
            Some(ReleaseTexts::load(config, metadata, options.production_date.as_deref(), &directory, &stores)?)
        }
        _ => {
            note(
                "note: the files get a title and Conventions as their only global attributes; give --config and --metadata \
                 for those of a release",
            );
            None
        }
    };
    let alone = |location: &Option<String>| location.clone().filter(|_| both.is_none());
    let metadata = alone(&options.metadata).map(|at| described(&at, &stores)).transpose()?;
    let metadata = metadata.as_ref().or(both.as_ref().map(|both| &both.texts.metadata));
    let configuration = alone(&options.config).map(|at| configured(&at, &stores)).transpose()?;
    let configuration = configuration.as_ref().or(both.as_ref().map(|both| &both.texts.configuration));
    std::fs::create_dir_all(&options.out)
        .map_err(|e| Unreachable(format!("--out {}: cannot be made: {e}", options.out.display())))?;
    for grid in grids {
        let (mut content, path) = match grid {
            GridKind::Native => {
                let path = options.out.join(name(configuration, grid, &native_label(files.n as u64)));
                console::refuse_existing(&path, options.replace, "--out")?;
                let (content, notes) = native(&files, metadata, mode).map_err(|e| unmade(&e))?;
                notes.iter().for_each(|text| note(&format!("note: {text}")));
                (content, path)
            }
            GridKind::Series => return Err(Usage("--on 1D: time series have no grid".into()).into()),
            GridKind::Latlon => {
                let Some(at) = &options.mapping_factors else {
                    return Err(
                        Usage("--on latlon: give --mapping-factors, which `edp-worker factors` makes".into()).into()
                    );
                };
                let factors = Factors::open(&fetched(at, &stores)?).map_err(|e| console::named(&e))?;
                let height = factors.latitude_bounds().first().map_or(0.0, |[south, north]| north - south);
                let path = options.out.join(name(configuration, grid, &latlon_label(height)));
                console::refuse_existing(&path, options.replace, "--out")?;
                (latlon(&files, &factors, metadata).map_err(|e| unmade(&e))?, path)
            }
        };
        if let Some(both) = &both {
            both.describe(&mut content, mode, &path)?;
        }
        write(&content, &path)?;
    }
    Ok(Ending::Done)
}

/// The texts of a release, for the global attributes.
struct ReleaseTexts {
    texts: Texts,
    /// Digests of the configuration and of the metadata.
    digests: [Digest; 2],
    geometry_texts: Option<serde_json::Value>,
    /// Date of the production.
    date: String,
}

impl ReleaseTexts {
    fn load(
        config: &str,
        metadata: &str,
        date: Option<&str>,
        grid: &Path,
        stores: &Stores,
    ) -> anyhow::Result<ReleaseTexts> {
        let loaded = resources::load_texts(config, metadata, stores).map_err(|e| console::named(&e))?;
        let (texts, configuration, warnings) = loaded;
        warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
        let of_metadata = resources::metadata_digest(metadata, stores).map_err(|e| console::named(&e))?;
        let date = match production_date(date).map_err(|e| Usage::from_error(&e))? {
            Some(date) => date,
            None => newest(grid)?,
        };
        let geometry_texts = geometry_texts(metadata, stores)?;
        Ok(ReleaseTexts { texts, digests: [configuration, of_metadata], geometry_texts, date })
    }

    /// Puts the global attributes into a file that is made under this path.
    fn describe(&self, content: &mut GranuleContent, mode: Mode, path: &Path) -> anyhow::Result<()> {
        let base = path.to_string_lossy();
        let name = GranuleName::parse_of(&self.texts.configuration.project, base_name(&base))
            .map_err(|e| Usage::from_error(&e))?;
        let [configuration, metadata] = &self.digests;
        let description = GeometryDescription {
            name: &name,
            mode,
            texts: &self.texts,
            digests: [configuration, metadata],
            geometry_texts: self.geometry_texts.as_ref(),
            date: &self.date,
        };
        description.describe(content).map_err(|e| console::named(&e))
    }
}

/// Returns the time of the newest file in a directory as the date of a production.
fn newest(directory: &Path) -> anyhow::Result<String> {
    let read = || -> std::io::Result<Option<std::time::SystemTime>> {
        let mut newest = None;
        for entry in std::fs::read_dir(directory)? {
            let found = std::fs::metadata(entry?.path())?;
            if found.is_file() {
                newest = newest.max(Some(found.modified()?));
            }
        }
        Ok(newest)
    };
    let newest = read().map_err(|error| Usage(format!("{}: {error}", directory.display())))?;
    Ok(date_text(newest.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_default()))
}

fn write(content: &GranuleContent, path: &Path) -> anyhow::Result<()> {
    write_whole(path, content).map_err(|e| Unreachable(chain(&e)))?;
    out(&format!("{}\n", line(&path.display().to_string())))?;
    Ok(())
}

fn described(location: &str, stores: &Stores) -> anyhow::Result<Metadata> {
    let (metadata, warnings) = Metadata::load(&fetched(location, stores)?).map_err(|e| console::named(&e))?;
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok(metadata)
}

fn configured(location: &str, stores: &Stores) -> anyhow::Result<Configuration> {
    let at: Location = location.parse().map_err(|e| console::named(&e))?;
    let text = resources::read(&at, stores).map_err(|e| console::named(&e))?;
    let (configuration, warnings) = Configuration::parse(location, &text).map_err(|e| Usage::from_error(&e))?;
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    Ok(configuration)
}

/// Returns the name of a geometry file: as the configuration labels it, else by the grid's own label.
fn name(configuration: Option<&Configuration>, grid: GridKind, label: &str) -> String {
    match configuration.and_then(|found| Some((found, found.grid_labels.get(&grid)?))) {
        Some((found, label)) => GranuleName::of_geometry(&found.project, &found.ecco_version, grid, label).to_string(),
        None => format!("{GEOMETRY}_{grid}_{label}.nc"),
    }
}

/// Classifies an error of making a geometry file.
fn unmade(error: &GeometryFileError) -> anyhow::Error {
    match error {
        GeometryFileError::Codec(error) => error.clone().into(),
        error => console::named(error),
    }
}
