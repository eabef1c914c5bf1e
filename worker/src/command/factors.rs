//! `factors`: makes the mapping factors from a native grid to a regular one.

use super::fetched;
use clap::{Args, ValueEnum};
use edp_engine::grid::NativeCells;
use edp_engine::mapping::create::{FactorRules, FactorSearch, NeighbourLimit, RadiusRule, RegularTarget, TargetEdges};
use edp_engine::mapping::{self, FactorOrigin, MakeFactorsError, write_edp, write_esmf, write_netcdf};
use edp_engine::metadata::factor_keys::{FactorKeys, RadiusMethod};
use edp_engine::resources;
use edp_program::settings::Settings;
use edp_protocol::Mode;
use edp_protocol::message::chain;
use edp_protocol::text::line;
use edp_worker::console::{self, Ending, ReportForm, Unreachable, Usage, note, out, out_json};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct FactorsOptions {
    /// Native geometry (*native*.nc), or a directory with it or with MDS and mitgrid files of a model run [default: that
    /// of the configuration]
    #[arg(long, aliases = ["grid_file", "grid-file", "ecco_grid_loc"], value_name = "LOCATION")]
    grid: Option<String>,
    /// Configuration (YAML): resolution, extent and radius of the regular grid
    #[arg(long, aliases = ["ecco_cfg_loc", "cfgfile"], value_name = "FILE")]
    config: Option<String>,
    /// Directory for the factors [default: that of the configuration]
    #[arg(long, aliases = ["output_dir", "output-dir", "ecco_mapping_factors_loc"], value_name = "DIR")]
    out: Option<PathBuf>,
    /// Form of the factors
    #[arg(long, value_enum, default_value_t)]
    format: FactorFormat,
    /// The mode: corrected (default); or one with the rules of EDP: edp-2024, or edp-2026
    #[arg(long, value_name = "MODE")]
    compatibility: Option<Mode>,
    /// Side of a cell of the regular grid in degrees [default: that of the configuration, otherwise 0.5]
    #[arg(long, value_name = "DEGREES")]
    resolution: Option<f64>,
    /// Edges of the regular grid in degrees [default: those of the configuration, otherwise the whole globe]
    #[arg(long, value_name = "WEST,SOUTH,EAST,NORTH", allow_hyphen_values = true)]
    extent: Option<Edges>,
    /// Method for the radius of averages [default: that of the configuration, otherwise method_1]
    #[arg(long, value_enum, conflicts_with = "radius")]
    method: Option<Method>,
    /// Radius of averages in kilometres
    #[arg(long, value_name = "KM")]
    radius: Option<f64>,
    /// Average only the nearest N cells within the radius; all of them if absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    neighbours: Option<u32>,
    /// Replace existing factors in the directory
    #[arg(long, alias = "force")]
    replace: bool,
    /// EDP's spelling; all levels are made in any case
    #[arg(long = "dims", hide = true, num_args = 1.., value_name = "N")]
    _dims: Vec<String>,
    /// EDP's spelling of the same
    #[arg(hide = true, value_name = "DIMS")]
    _positional_dims: Vec<String>,
    /// EDP's spelling; nothing is kept between steps
    #[arg(long, hide = true, value_name = "DIR")]
    workingdir: Option<String>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// Form of the files of factors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum FactorFormat {
    /// EDP's directory: XZ-packed pickles and sparse matrices
    #[default]
    Edp,
    /// One NetCDF file with all levels
    Nc,
    /// One NetCDF file for each level with row, col and S, in the format of ESMF's tools
    Esmf,
}

/// EDP's methods for the radius.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// The radius of a circle with the area of the target cell
    #[value(name = "method_1")]
    CellArea,
    /// Half of the diagonal of a target cell at the equator, the same everywhere
    #[value(name = "method_2")]
    HalfDiagonal,
}

/// Four edges on the command line.
#[derive(Debug, Clone, Copy)]
struct Edges(TargetEdges);

impl FromStr for Edges {
    type Err = String;

    fn from_str(text: &str) -> Result<Edges, String> {
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[west, south, east, north]) => Ok(Edges(TargetEdges { west, south, east, north })),
            _ => Err("give four numbers: WEST,SOUTH,EAST,NORTH in degrees".into()),
        }
    }
}

/// Runs the command `factors`: makes mapping factors and writes them.
pub(crate) fn execute(options: &FactorsOptions, settings: &Settings) -> anyhow::Result<Ending> {
    let stores = edp_s3::stores(&settings.store);
    if options.workingdir.is_some() {
        note("--workingdir has no meaning here: nothing is kept between steps");
    }
    let mode = options.compatibility.unwrap_or_default();
    let mut keys = FactorKeys::default();
    if let Some(configuration) = &options.config {
        let at = configuration.parse().map_err(|e| console::named(&e))?;
        let text = resources::read(&at, &stores).map_err(|e| console::named(&e))?;
        let (read, warnings) = FactorKeys::parse(configuration, &text).map_err(|e| Usage::from_error(&e))?;
        warnings.iter().for_each(|warning| note(&format!("warning: {warning}")));
        keys = read;
    }
    keys.resolution = options.resolution.or(keys.resolution);
    if let Some(method) = options.method {
        keys.radius = None;
        keys.method = Some(match method {
            Method::CellArea => RadiusMethod::CellArea,
            Method::HalfDiagonal => RadiusMethod::HalfDiagonal,
        });
    }
    let mut rules = FactorRules::of(&keys, mode);
    match (options.radius, options.method) {
        // The value of an option has its documented meaning.
        (Some(kilometres), _) => rules.radius = RadiusRule::Metres(kilometres * 1000.0),
        (None, Some(Method::CellArea)) => rules.radius = RadiusRule::CellArea,
        (None, Some(Method::HalfDiagonal)) => rules.radius = RadiusRule::HalfDiagonal,
        (None, None) => {}
    }
    if let Some(count) = options.neighbours {
        rules.neighbours = NeighbourLimit::Nearest(count as usize);
    }
    let of_configuration = keys.extent.map(|[west, south, east, north]| TargetEdges { west, south, east, north });
    let extent = options.extent.map(|edges| edges.0).or(of_configuration).unwrap_or(TargetEdges::GLOBE);
    let target = RegularTarget::new(keys.resolution.unwrap_or(RESOLUTION), extent, mode.is_edp())
        .map_err(|e| Usage::from_error(&e))?;

    let needed = |option: &str, key: &str| {
        Usage(format!("--{option} is needed: there is none, and no {key} in a configuration (--config)"))
    };
    let directory = options.out.clone().or_else(|| keys.directory.as_ref().map(PathBuf::from));
    let directory = directory.ok_or_else(|| needed("out", "mapping_factors_dir"))?;
    let grid = options.grid.as_ref().or(keys.grid.as_ref()).ok_or_else(|| needed("grid", "ecco_grid_dir"))?;
    clear(&directory, options.replace)?;
    let cells = NativeCells::load(&fetched(grid, &stores)?).map_err(|e| console::named(&e))?;
    let search = FactorSearch::new(&cells, &target, &rules).map_err(|e| Usage::from_error(&e))?;
    let origin = FactorOrigin { cells: &cells, target: &target, rules, mode };
    let made = match options.format {
        FactorFormat::Edp => write_edp(&directory, &cells, &target, &search),
        FactorFormat::Nc => write_netcdf(&directory, &origin, &search),
        FactorFormat::Esmf => write_esmf(&directory, &origin, &search),
    };
    let summary = made.map_err(|error| unwritten(&error))?;
    if summary.uncovered > 0 {
        note(&format!(
            "warning: {} wet cells of the regular grid, over all levels, have no wet source cell near them: they will have \
             the fill value",
            summary.uncovered
        ));
    }
    let (rows, columns) = target.shape();
    match options.output {
        ReportForm::Json => out_json(&serde_json::to_string_pretty(&serde_json::json!({
            "factors": directory,
            "levels": summary.levels,
            "shape": [rows, columns],
            "source_cells": cells.xc.len(),
            "radius": rules.radius.to_string(),
            "wet": summary.wet,
            "averaged": summary.averaged,
            "weights": summary.weights,
            "uncovered": summary.uncovered,
        }))?)?,
        ReportForm::Human => out(&format!(
            "{}: {} levels, {rows} x {columns} cells from 13 x {n} x {n}, radius {}\n{} wet cells, {} of them averages\n",
            line(&directory.display().to_string()),
            summary.levels,
            rules.radius,
            summary.wet,
            summary.averaged,
            n = cells.n
        ))?,
    }
    Ok(Ending::Done)
}

/// Side of a cell in degrees, if it is set nowhere.
const RESOLUTION: f64 = 0.5;

/// Refuses to write where factors exist already, or removes them.
fn clear(out: &Path, replace: bool) -> anyhow::Result<()> {
    if out.exists() && !out.is_dir() {
        return Err(Usage(format!("--out {}: is not a directory", out.display())).into());
    }
    let existing = mapping::existing(out).map_err(|e| Unreachable(chain(&e)))?;
    let Some(first) = existing.first() else { return Ok(()) };
    if !replace {
        let text = format!(
            "--out {}: has factors already ({}): name another directory, or give --replace",
            out.display(),
            first.display()
        );
        return Err(Usage(text).into());
    }
    for file in &existing {
        std::fs::remove_file(file).map_err(|e| Unreachable(format!("{}: cannot be removed: {e}", file.display())))?;
    }
    Ok(())
}

/// Classifies an error of making or writing factors.
fn unwritten(error: &MakeFactorsError) -> anyhow::Error {
    match error {
        MakeFactorsError::Create(error) => Usage::from_error(error).into(),
        MakeFactorsError::Codec(error) => error.clone().into(),
        error => Unreachable(chain(error)).into(),
    }
}
