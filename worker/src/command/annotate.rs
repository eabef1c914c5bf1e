//! `annotate`: the metadata of a release onto a NetCDF file that exists.

use super::fetched;
use anyhow::Context as _;
use clap::Args;
use edp_engine::granule::annotate::{Annotation, GEOMETRY_TEXTS};
use edp_engine::metadata::MAX_FILE_BYTES;
use edp_engine::resources;
use edp_files::regular;
use edp_program::settings::Settings;
use edp_protocol::name::{GranuleName, base_name};
use edp_protocol::{GridKind, Mode};
use edp_store::Stores;
use edp_worker::console::{self, Ending, Usage, note, out};
use edp_worker::tasks::production_date;
use jiff::Timestamp;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct AnnotateOptions {
    /// NetCDF file that is read
    #[arg(long, short, value_name = "FILE")]
    input: PathBuf,
    /// File that is made; its name says the dataset: <filename>_<project>_<version>_<grid>_<label>.nc
    #[arg(long, short, alias = "output-file", value_name = "FILE")]
    output: PathBuf,
    /// Metadata directory
    #[arg(long, short, alias = "ecco_metadata_loc", value_name = "LOCATION")]
    metadata: String,
    /// Configuration (YAML)
    #[arg(long, short, aliases = ["ecco_cfg_loc", "cfgfile"], value_name = "FILE")]
    config: String,
    /// Grid, if the name of the file says another: native or latlon
    #[arg(long, short, value_name = "GRID")]
    grid: Option<GridKind>,
    /// 2D or 3D [default: 3D if the file has levels]
    #[arg(long, short, value_name = "DIMENSION", value_parser = ["2D", "3D"], ignore_case = true)]
    dimension: Option<String>,
    /// Drop the attributes that the file has
    #[arg(long, short)]
    strip: bool,
    /// Whose rules apply: corrected (default), edp-2026 or edp-2024
    #[arg(long, value_name = "MODE")]
    compatibility: Option<Mode>,
    /// Date of the production [default: SOURCE_DATE_EPOCH, else the time of the input]
    #[arg(long, value_name = "TIME")]
    production_date: Option<String>,
    /// Replace a file of the same name
    #[arg(long)]
    replace: bool,
}

/// Runs the command.
pub(crate) fn execute(options: &AnnotateOptions, settings: &Settings) -> anyhow::Result<Ending> {
    let stores = edp_s3::stores(&settings.store);
    let output = &options.output;
    let text = output.to_string_lossy();
    console::refuse_existing(output, options.replace, "--output")?;
    let (texts, configuration, warnings) =
        resources::load_texts(&options.config, &options.metadata, &stores).map_err(|e| console::named(&e))?;
    warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
    let project = &texts.configuration.project;
    let mut name = GranuleName::parse_of(project, base_name(&text)).map_err(|e| Usage::from_error(&e))?;
    name.grid = options.grid.unwrap_or(name.grid);
    let metadata = resources::metadata_digest(&options.metadata, &stores).map_err(|e| console::named(&e))?;
    let geometry_texts = geometry_texts(&options.metadata, &stores)?;
    let date = match production_date(options.production_date.as_deref()).map_err(|e| Usage::from_error(&e))? {
        Some(date) => date,
        None => date_of(&options.input)?,
    };
    let annotation = Annotation {
        input: &options.input,
        name: &name,
        mode: options.compatibility.unwrap_or_default(),
        strip: options.strip,
        dimension: options.dimension.as_deref(),
        texts: &texts,
        digests: [&configuration, &metadata],
        geometry_texts: geometry_texts.as_ref(),
        date: &date,
        memory: u64::from(settings.run.memory) << 20,
    };
    let made = annotation.make(output).map_err(|e| console::named(&e))?;
    out(&format!("{}  {text}\n", made.digest))?;
    Ok(Ending::Done)
}

/// Returns the texts about geometry files, if the metadata have them.
pub(super) fn geometry_texts(metadata: &str, stores: &Stores) -> anyhow::Result<Option<serde_json::Value>> {
    let path = fetched(metadata, stores)?.join(GEOMETRY_TEXTS);
    let file = match regular::open_named(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES as u64).read_to_end(&mut text).with_context(|| path.display().to_string())?;
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|error| Usage(format!("{}: {error}", path.display())).into())
}

/// Returns the time of a file as the date of a production.
fn date_of(path: &Path) -> anyhow::Result<String> {
    let modified = regular::open_named(path).and_then(|file| file.metadata()?.modified());
    let modified = modified.map_err(|error| Usage(format!("{}: {error}", path.display())))?;
    Ok(Timestamp::try_from(modified).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
