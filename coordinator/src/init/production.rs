//! The directory of a new production: everything that `run` needs, made from the directory of a model run.

use super::descriptions::describe;
use super::model_run::{GivenParameters, ModelRun, RunError};
use super::texts::{self, Choices};
use edp_engine::geometry::{GeometryFileError, latlon, native};
use edp_engine::granule::file::{FileError, write_whole};
use edp_engine::grid::{self, DIAGNOSTICS_FILE, GridError, ModelFiles, NativeCells};
use edp_engine::mapping::create::{CreateError, FactorRules, FactorSearch, RegularTarget, TargetEdges};
use edp_engine::mapping::{FactorOrigin, Factors, MakeFactorsError, MappingError, write_netcdf};
use edp_engine::metadata::factor_keys::FactorKeys;
use edp_engine::metadata::source::{Metadata, MetadataError};
use edp_engine::verified_files::VerifiedFiles;
use edp_protocol::name::GranuleName;
use edp_protocol::{GridKind, Mode};
use jiff::civil::DateTime;
use std::io;
use std::path::{Path, PathBuf};

/// Error of making the directory of a production.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file or directory cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file or directory cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The geometry cannot be written.
    #[error(transparent)]
    WriteGeometry(#[from] FileError),
    /// The mapping factors cannot be made or written.
    #[error(transparent)]
    WriteFactors(#[from] MakeFactorsError),
    /// The directory of the production is not empty.
    #[error("{}: holds files already; name a new directory", directory.display())]
    NotEmpty {
        /// Its path.
        directory: PathBuf,
    },
    /// The name of the run cannot be part of the names of granules.
    #[error("the name '{name}' of the run: only letters, digits and hyphens can be part of the names of granules")]
    Name {
        /// The name.
        name: String,
    },
    /// The run has no name, and that of its directory gives none.
    #[error("{}: gives the run no name; give one by --name", run.display())]
    Unnamed {
        /// Path of the run.
        run: PathBuf,
    },
    /// The run directory does not describe a run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The grid files cannot be used.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// The geometry cannot be made from the grid files.
    #[error(transparent)]
    Geometry(#[from] GeometryFileError),
    /// There is no such latlon grid, or it cannot be reached from the cells of the model.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The mapping factors cannot be read again.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// The metadata cannot be read again.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

impl InitError {
    /// Returns true if the cause is the machine, not what the user has given: a file that cannot be read or written.
    pub fn is_of_machine(&self) -> bool {
        matches!(
            self,
            InitError::Read { .. } | InitError::Write { .. } | InitError::WriteGeometry(_) | InitError::WriteFactors(_)
        )
    }
}

/// A production that is to be made from a model run.
#[derive(Debug, Clone)]
pub struct NewProduction<'a> {
    /// Directory in which MITgcm has run.
    pub run: &'a Path,
    /// Directory of the production, which must be new or empty.
    pub directory: &'a Path,
    /// Directory with the grid files; `None`: that of the run.
    pub grid: Option<&'a Path>,
    /// Name of the run in the names of granules; `None`: that of its directory.
    pub name: Option<&'a str>,
    /// Parameters that the files of the run do not have to state.
    pub given: GivenParameters,
    /// Side of a latlon cell in degrees.
    pub resolution: f64,
}

/// A production that was made from a model run.
#[derive(Debug)]
pub struct CreatedProduction {
    /// Its directory.
    pub directory: PathBuf,
    /// Number of its datasets.
    pub datasets: usize,
    /// Number of their variables.
    pub variables: usize,
    /// Number of cells along the side of a tile, N.
    pub n: usize,
    /// Number of levels.
    pub levels: usize,
    /// Date of the first step of the run.
    pub start: DateTime,
    /// Date of the last one.
    pub end: DateTime,
    /// Sentences on what was guessed.
    pub guesses: Vec<String>,
    /// Number of wet cells of the latlon grid, over all levels, that no wet cell of the model is near to.
    pub uncovered: usize,
}

impl NewProduction<'_> {
    /// Makes the directory: configuration, settings, metadata, geometry, and mapping factors. Everything that is given
    /// is read before the first file is written.
    ///
    /// # Errors
    /// Returns an error if the directory holds files, if the run or its grid cannot be used, or if a file cannot be
    /// read or written.
    pub fn create(&self) -> Result<CreatedProduction, InitError> {
        let source = std::path::absolute(self.run).map_err(|e| unreadable(self.run, e))?;
        let run = ModelRun::read(&source, &self.given)?;
        let grid = self.grid.unwrap_or(&source);
        let files = ModelFiles::open(grid)?;
        let target = RegularTarget::new(self.resolution, TargetEdges::GLOBE, false)?;
        let list = [grid, &source].into_iter().find(|directory| directory.join(DIAGNOSTICS_FILE).exists());
        let diagnostics = list.map(|directory| grid::diagnostics(directory, &VerifiedFiles::default())).transpose()?;
        let name = name(self.name, &source)?;
        let directory = std::path::absolute(self.directory).map_err(|e| unreadable(self.directory, e))?;
        refuse_files(&directory)?;

        let described = describe(&run, diagnostics.flatten().as_ref());
        let [grid_out, factors_out, metadata_out] = ["grid", "factors", "metadata"].map(|name| directory.join(name));
        for made in [&grid_out, &factors_out, &metadata_out] {
            std::fs::create_dir_all(made).map_err(|e| unwritten(made, e))?;
        }
        for (name, content) in texts::metadata(&run, &described) {
            write(&metadata_out.join(format!("{name}.json")), &format!("{content:#}\n"))?;
        }
        if let Some(list) = list {
            let from = list.join(DIAGNOSTICS_FILE);
            std::fs::copy(&from, grid_out.join(DIAGNOSTICS_FILE)).map_err(|e| unreadable(&from, e))?;
        }
        let (metadata, _) = Metadata::load(&metadata_out)?;
        let mut choices = Choices { name, n: files.n, levels: files.levels, bottom: 0.0, resolution: self.resolution };
        let native_file = grid_out.join(geometry_name(&choices, GridKind::Native, &choices.native_label()));
        let (content, notes) = native(&files, Some(&metadata), Mode::Corrected)?;
        write_whole(&native_file, &content)?;
        // It holds whole fields, and the search needs memory for others.
        drop(content);
        let cells = NativeCells::load(&native_file)?;
        choices.bottom = cells.depth_bounds().last().map_or(0.0, |[_, lower]| *lower);
        let rules = FactorRules::of(&FactorKeys::default(), Mode::Corrected);
        let search = FactorSearch::new(&cells, &target, &rules)?;
        let origin = FactorOrigin { cells: &cells, target: &target, rules, mode: Mode::Corrected };
        let summary = write_netcdf(&factors_out, &origin, &search)?;
        let content = latlon(&files, &Factors::open(&factors_out)?, Some(&metadata))?;
        let latlon_file = grid_out.join(geometry_name(&choices, GridKind::Latlon, &choices.latlon_label()));
        write_whole(&latlon_file, &content)?;
        write(&directory.join("config.yaml"), &texts::configuration(&run, &choices))?;
        write(&directory.join("edp.toml"), &texts::settings(&directory, &source))?;
        Ok(CreatedProduction {
            directory,
            datasets: described.native.len(),
            variables: described.variables.len(),
            n: choices.n,
            levels: choices.levels,
            start: run.start,
            end: run.end,
            guesses: run.guesses.into_iter().chain(described.guesses).chain(notes).collect(),
            uncovered: summary.uncovered,
        })
    }
}

/// Returns the name of the run, which must fit into the names of granules.
fn name(given: Option<&str>, run: &Path) -> Result<String, InitError> {
    let fits = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if let Some(name) = given {
        return if fits(name) { Ok(name.to_owned()) } else { Err(InitError::Name { name: name.to_owned() }) };
    }
    let of_directory = run.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = of_directory.chars().map(plain).collect::<String>().trim_matches('-').to_owned();
    if fits(&name) { Ok(name) } else { Err(InitError::Unnamed { run: run.to_owned() }) }
}

/// Refuses a directory that holds anything.
fn refuse_files(directory: &Path) -> Result<(), InitError> {
    match std::fs::read_dir(directory) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(InitError::NotEmpty { directory: directory.to_owned() }),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unreadable(directory, error)),
    }
}

fn geometry_name(choices: &Choices, grid: GridKind, label: &str) -> String {
    GranuleName::of_geometry(texts::PROJECT, &choices.name, grid, label).to_string()
}

fn write(path: &Path, text: &str) -> Result<(), InitError> {
    std::fs::write(path, text).map_err(|e| unwritten(path, e))
}

fn unreadable(path: &Path, source: io::Error) -> InitError {
    InitError::Read { path: path.to_owned(), source }
}

fn unwritten(path: &Path, source: io::Error) -> InitError {
    InitError::Write { path: path.to_owned(), source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_fit_into_names_of_granules() {
        let run = Path::new("/models/my run_3.");
        assert_eq!(name(None, run).unwrap(), "my-run-3");
        assert_eq!(name(Some("iter-42"), run).unwrap(), "iter-42");
        for given in ["", "a b", "a/b", "ä", "a_b"] {
            assert!(matches!(name(Some(given), run), Err(InitError::Name { .. })), "{given}");
        }
        assert!(matches!(name(None, Path::new("/")), Err(InitError::Unnamed { .. })));
    }

    #[test]
    fn a_directory_with_files_is_refused_and_a_missing_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        assert!(refuse_files(directory.path()).is_ok() && refuse_files(&directory.path().join("new")).is_ok());
        std::fs::write(directory.path().join("file"), "").unwrap();
        assert!(matches!(refuse_files(directory.path()), Err(InitError::NotEmpty { .. })));
        let error = refuse_files(&directory.path().join("file")).unwrap_err();
        assert!(error.is_of_machine(), "{error}");
    }
}
