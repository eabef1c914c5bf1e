//! `init`: everything that a production needs, from the directory of a model run.

use super::usage;
use clap::Args;
use edp_coordinator::init::describe;
use edp_coordinator::init::model_run::{GivenParameters, ModelRun};
use edp_coordinator::init::texts::{self, Choices};
use edp_engine::geometry::{latlon, native};
use edp_engine::granule::content::GranuleContent;
use edp_engine::granule::file::write_whole;
use edp_engine::grid::{self, DIAGNOSTICS_FILE, ModelFiles, NativeCells};
use edp_engine::mapping::create::{FactorRules, FactorSearch, RegularTarget, TargetEdges};
use edp_engine::mapping::{FactorOrigin, Factors, write_netcdf};
use edp_engine::metadata::factor_keys::FactorKeys;
use edp_engine::metadata::source::Metadata;
use edp_engine::verified_files::VerifiedFiles;
use edp_protocol::message::chain;
use edp_protocol::name::GranuleName;
use edp_protocol::text::line;
use edp_protocol::{GridKind, Mode};
use edp_worker::console::{Ending, Unreachable, Usage, named, note, out};
use jiff::civil::DateTime;
use std::path::{Path, PathBuf};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct InitOptions {
    /// Directory in which MITgcm has run: parameter files, results, grid files
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Directory of what is made, which must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Directory with the grid files (XC, hFacC, DRF ... or tile001.mitgrid to tile005.mitgrid) [default: RUN_DIR]
    #[arg(long, value_name = "DIR")]
    grid: Option<PathBuf>,
    /// Name of the run in the names of granules, of letters, digits and hyphens [default: that of RUN_DIR]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Date of step 0, YYYY-MM-DDThh:mm:ss [default: that of data.cal]
    #[arg(long, value_name = "DATE")]
    start: Option<DateTime>,
    /// Length of a step in seconds [default: deltaT of data]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    step_seconds: Option<i64>,
    /// Side of a latlon cell in degrees
    #[arg(long, value_name = "DEGREES", default_value_t = 0.5)]
    resolution: f64,
}

/// Runs the command `init`.
pub(crate) fn execute(options: &InitOptions) -> anyhow::Result<Ending> {
    let given = GivenParameters { start: options.start, step_seconds: options.step_seconds };
    let source = std::path::absolute(&options.run).map_err(|e| unreadable(&options.run, &e))?;
    let run = ModelRun::read(&source, &given).map_err(usage)?;
    let grid = options.grid.as_deref().unwrap_or(&source);
    let files = ModelFiles::open(grid).map_err(|e| named(&e))?;
    let target = RegularTarget::new(options.resolution, TargetEdges::GLOBE, false).map_err(usage)?;
    let list = [grid, &source].into_iter().find(|directory| directory.join(DIAGNOSTICS_FILE).exists());
    let diagnostics = list.map(|directory| grid::diagnostics(directory, &VerifiedFiles::default())).transpose();
    let diagnostics = diagnostics.map_err(|e| named(&e))?.flatten();
    let name = name(options, &source)?;
    let directory = std::path::absolute(&options.out).map_err(|e| unreadable(&options.out, &e))?;
    empty(&directory)?;

    let described = describe(&run, diagnostics.as_ref());
    let (grid_out, factors_out, metadata_out) =
        (directory.join("grid"), directory.join("factors"), directory.join("metadata"));
    for made in [&grid_out, &factors_out, &metadata_out] {
        std::fs::create_dir_all(made).map_err(|e| unwritten(made, &e))?;
    }
    for (name, content) in texts::metadata(&run, &described) {
        write(&metadata_out.join(format!("{name}.json")), &format!("{content:#}\n"))?;
    }
    if let Some(list) = list {
        let from = list.join(DIAGNOSTICS_FILE);
        std::fs::copy(&from, grid_out.join(DIAGNOSTICS_FILE)).map_err(|e| unreadable(&from, &e))?;
    }
    let (metadata, _) = Metadata::load(&metadata_out).map_err(usage)?;
    let (content, notes) = native(&files, Some(&metadata), Mode::Corrected).map_err(usage)?;
    let mut choices = Choices { name, n: files.n, levels: files.levels, bottom: 0.0, resolution: options.resolution };
    let native_file = grid_out.join(geometry_name(&choices, GridKind::Native, &choices.native_label()));
    write_geometry(&native_file, &content)?;
    drop(content);
    let cells = NativeCells::load(&native_file).map_err(|e| named(&e))?;
    choices.bottom = cells.depth_bounds().last().map_or(0.0, |[_, lower]| *lower);
    let rules = FactorRules::of(&FactorKeys::default(), Mode::Corrected);
    let search = FactorSearch::new(&cells, &target, &rules).map_err(usage)?;
    let origin = FactorOrigin { cells: &cells, target: &target, rules, mode: Mode::Corrected };
    let summary = write_netcdf(&factors_out, &origin, &search).map_err(|e| Unreachable(chain(&e)))?;
    let factors = Factors::open(&factors_out).map_err(|e| named(&e))?;
    let content = latlon(&files, &factors, Some(&metadata)).map_err(usage)?;
    write_geometry(&grid_out.join(geometry_name(&choices, GridKind::Latlon, &choices.latlon_label())), &content)?;
    write(&directory.join("config.yaml"), &texts::configuration(&run, &choices))?;
    write(&directory.join("edp.toml"), &texts::settings(&directory, &source))?;

    let all = run.guesses.iter().chain(&described.guesses).chain(&notes);
    all.for_each(|guess| note(&format!("guess: {}", line(guess))));
    if summary.uncovered > 0 {
        note(&format!(
            "warning: {} wet cells of the latlon grid, over all levels, have no wet source near them",
            summary.uncovered
        ));
    }
    out(&format!(
        "{}: {} datasets of {} variables, llc{} with {} levels, {} to {}\nLook at config.yaml and metadata, then: cd {} && edp-coordinator run --dataset all --tasks-out tasks.json\n",
        line(&directory.display().to_string()),
        described.native.len(),
        described.variables.len(),
        choices.n,
        choices.levels,
        run.start,
        run.end,
        line(&options.out.display().to_string()),
    ))?;
    Ok(Ending::Done)
}

/// Returns the name of the run, which must fit into the names of granules.
fn name(options: &InitOptions, source: &Path) -> anyhow::Result<String> {
    let fits = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if let Some(name) = &options.name {
        if !fits(name) {
            return Err(Usage(format!(
                "--name {name}: only letters, digits and hyphens can be part of the names of granules"
            ))
            .into());
        }
        return Ok(name.clone());
    }
    let of_directory = source.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = of_directory.chars().map(plain).collect::<String>().trim_matches('-').to_owned();
    if fits(&name) {
        Ok(name)
    } else {
        Err(Usage(format!("{}: gives the run no name; give --name", source.display())).into())
    }
}

/// Refuses a directory that holds anything.
fn empty(directory: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            Some(_) => {
                let text = format!("--out {}: holds files already; name a new directory", directory.display());
                Err(Usage(text).into())
            }
            None => Ok(()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unreadable(directory, &error).into()),
    }
}

fn geometry_name(choices: &Choices, grid: GridKind, label: &str) -> String {
    GranuleName::of_geometry(texts::PROJECT, &choices.name, grid, label).to_string()
}

fn write_geometry(path: &Path, content: &GranuleContent) -> anyhow::Result<()> {
    Ok(write_whole(path, content).map_err(|e| Unreachable(chain(&e)))?)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    Ok(std::fs::write(path, text).map_err(|e| unwritten(path, &e))?)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Unreachable {
    Unreachable(format!("{}: cannot be read: {error}", path.display()))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Unreachable {
    Unreachable(format!("{}: cannot be written: {error}", path.display()))
}
