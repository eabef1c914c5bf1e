//! `geometry`: geometry files of the native and the latlon grid.

use super::fetched;
use clap::Args;
use edp_engine::geometry::{GeometryFileError, latlon, native};
use edp_engine::granule::content::GranuleContent;
use edp_engine::granule::file::write_whole;
use edp_engine::grid::ModelFiles;
use edp_engine::mapping::Factors;
use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::source::Metadata;
use edp_engine::resources;
use edp_program::settings::Settings;
use edp_protocol::message::chain;
use edp_protocol::text::line;
use edp_protocol::{GridKind, Location, Mode};
use edp_store::Stores;
use edp_worker::console::{self, Ending, Unreachable, Usage, note, out};
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
    /// Configuration (YAML), for the names of the files
    #[arg(long, aliases = ["ecco_cfg_loc", "cfgfile"], value_name = "FILE")]
    config: Option<String>,
    /// Metadata directory, for the attributes of variables
    #[arg(long, alias = "ecco_metadata_loc", value_name = "LOCATION")]
    metadata: Option<String>,
    /// Whose layout: corrected (default), edp-2026, or edp-2024 with nothing but the variables of Release 4
    #[arg(long, value_name = "MODE")]
    compatibility: Option<Mode>,
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
    let files = ModelFiles::open(&fetched(&options.grid, &stores)?).map_err(|e| console::named(&e))?;
    let metadata = options.metadata.as_deref().map(|at| described(at, &stores)).transpose()?;
    let configuration = options.config.as_deref().map(|at| configured(at, &stores)).transpose()?;
    std::fs::create_dir_all(&options.out)
        .map_err(|e| Unreachable(format!("--out {}: cannot be made: {e}", options.out.display())))?;
    for grid in grids {
        let (content, label) = match grid {
            GridKind::Native => {
                let path = options.out.join(name(configuration.as_ref(), grid, &format!("llc{:04}", files.n)));
                free(&path, options.replace)?;
                let (content, notes) = native(&files, metadata.as_ref(), mode).map_err(|e| unmade(&e))?;
                notes.iter().for_each(|text| note(&format!("note: {text}")));
                (content, path)
            }
            GridKind::Latlon => {
                let Some(at) = &options.mapping_factors else {
                    return Err(
                        Usage("--on latlon: give --mapping-factors, which `edp-worker factors` makes".into()).into()
                    );
                };
                let factors = Factors::open(&fetched(at, &stores)?).map_err(|e| console::named(&e))?;
                let height = factors.latitude_bounds().first().map_or(0.0, |[south, north]| north - south);
                let label = format!("{height:.2}deg").replace('.', "p");
                let path = options.out.join(name(configuration.as_ref(), grid, &label));
                free(&path, options.replace)?;
                (latlon(&files, &factors, metadata.as_ref()).map_err(|e| unmade(&e))?, path)
            }
        };
        write(&content, &label)?;
    }
    Ok(Ending::Done)
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
    match configuration.and_then(|found| Some((&found.ecco_version, found.grid_labels.get(&grid)?))) {
        Some((version, label)) => format!("GRID_GEOMETRY_ECCO_{version}_{grid}_{label}.nc"),
        None => format!("GRID_GEOMETRY_{grid}_{label}.nc"),
    }
}

/// Refuses to write over a file that is there.
fn free(path: &Path, replace: bool) -> anyhow::Result<()> {
    if path.exists() && !replace {
        let text = format!("{}: exists: name another directory with --out, or give --replace", path.display());
        return Err(Usage(text).into());
    }
    Ok(())
}

/// Classifies an error of making a geometry file.
fn unmade(error: &GeometryFileError) -> anyhow::Error {
    match error {
        GeometryFileError::Codec(error) => error.clone().into(),
        error => console::named(error),
    }
}
