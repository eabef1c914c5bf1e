//! Checks of planned granules against the requirements of an archive: every dataset has a row in the archive's table,
//! and no placeholder remains. They use the code that writes the attributes.

use super::Note;
use edp_engine::metadata::attribute;
use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::global::{self, Extent, Sources};
use edp_engine::metadata::podaac::{Table, TableError};
use edp_engine::metadata::source::Metadata;
use edp_engine::metadata::variable;
use edp_protocol::recipe::Recipe;
use edp_protocol::text::line;
use edp_protocol::{Frequency, GridKind, Mode};
use std::collections::{BTreeSet, HashSet};
use std::fmt;

/// One problem for an archive. `dataset` is such as `AVG_MON of native SEA_SURFACE_HEIGHT`.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveProblem {
    /// The archive's table has no row for the dataset.
    #[error(
        "{dataset}: no row of {table} is for it, so id, metadata_link and the DOI attributes cannot be written; add a row to the table, or plan without --archive"
    )]
    NoRow {
        /// Frequency, grid and name of the dataset.
        dataset: String,
        /// Name of the table's file.
        table: String,
    },
    /// The archive's table has a row for another release of the dataset only.
    #[error(
        "{dataset}: {table} has a row for its release {other} only, whose identifiers are those of other granules; add a row for this release, or plan without --archive"
    )]
    OtherRelease {
        /// Frequency, grid and name of the dataset.
        dataset: String,
        /// Name of the table's file.
        table: String,
        /// The release that the row is for.
        other: String,
    },
    /// Attributes have no value but a placeholder.
    #[error(
        "{dataset}: only placeholders for the global attributes {}; mend the global metadata, or plan without --archive", attributes.join(", ")
    )]
    Placeholders {
        /// Frequency, grid and name of the dataset.
        dataset: String,
        /// Names of the attributes.
        attributes: Vec<String>,
    },
    /// Several rows are for one dataset, which is wrong whether it is to be archived or not.
    #[error("{dataset}: {source}")]
    Table {
        /// Frequency, grid and name of the dataset.
        dataset: String,
        /// The error that names the rows.
        source: TableError,
    },
}

/// All problems for an archive.
#[derive(Debug)]
pub struct ArchiveError(pub Vec<ArchiveProblem>);

impl fmt::Display for ArchiveError {
    /// Writes one line for each problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { "\n" }, line(&problem.to_string()))?;
        }
        Ok(())
    }
}

impl std::error::Error for ArchiveError {}

/// Checks one granule of each dataset, grid and frequency.
#[derive(Debug)]
pub struct ArchiveCheck<'a> {
    configuration: &'a Configuration,
    metadata: &'a Metadata,
    table: &'a Table,
    strictly: bool,
    notes: Vec<Note>,
    problems: Vec<ArchiveProblem>,
    /// Datasets that were checked.
    datasets: HashSet<(String, GridKind, Frequency)>,
    /// Variables without an entry in the metadata.
    unknown: HashSet<(GridKind, String)>,
    /// Variables without a standard name.
    unnamed: BTreeSet<String>,
}

impl<'a> ArchiveCheck<'a> {
    /// Begins a check. With `strictly`, datasets without a row in the table and attributes that have placeholders only
    /// are problems.
    pub fn new(
        configuration: &'a Configuration,
        metadata: &'a Metadata,
        table: &'a Table,
        strictly: bool,
    ) -> ArchiveCheck<'a> {
        ArchiveCheck {
            configuration,
            metadata,
            table,
            strictly,
            notes: Vec::new(),
            problems: Vec::new(),
            datasets: HashSet::new(),
            unknown: HashSet::new(),
            unnamed: BTreeSet::new(),
        }
    }

    /// Checks the granule of a recipe, unless one of the same dataset, grid and frequency was checked before.
    pub fn see(&mut self, recipe: &Recipe) {
        let ArchiveCheck { configuration, metadata, table, strictly, .. } = *self;
        let (Ok(name), Some(plan)) = (recipe.name(), &recipe.recipe) else { return };
        if !self.datasets.insert((name.dataset.clone(), name.grid, name.frequency)) {
            return;
        }
        let mut keywords = BTreeSet::new();
        for output in recipe.variables.keys().chain(&plan.missing) {
            let described = variable::describe(metadata, name.grid, output);
            keywords.extend(described.keywords);
            if described.known && attribute::get(&described.attributes, "standard_name").is_none() {
                self.unnamed.insert(output.clone());
            }
            if !described.known && self.unknown.insert((name.grid, output.clone())) {
                let text = format!("{} {}: {output} has no entry in the variable metadata", name.grid, name.dataset);
                self.notes.push(Note::warning(format!("{text}; it gets no attributes from there")));
            }
        }
        let dataset = format!("{} of {} {}", name.frequency, name.grid, name.dataset);
        let three_d = recipe.dynamic_metadata.dimension == "3D";
        let sources = Sources {
            configuration,
            metadata,
            podaac: table,
            name: &name,
            mode: plan.mode,
            dynamic: &recipe.dynamic_metadata,
            id: &plan.id,
            production_date: &plan.production_date,
            keywords,
            // Any numbers will do here, since they are not placeholders.
            extent: (name.grid != GridKind::Series).then(|| Extent {
                latitude: [0.0; 2],
                longitude: [0.0; 2],
                vertical: three_d.then_some([0.0; 2]),
                resolution: None,
            }),
        };
        match global::lacking(&sources) {
            Err(source) => self.problems.push(ArchiveProblem::Table { dataset, source }),
            Ok(lacking) => {
                if lacking.row && strictly {
                    let (dataset, table) = (dataset.clone(), table.file.clone());
                    self.problems.push(match lacking.other_release {
                        Some(other) => ArchiveProblem::OtherRelease { dataset, table, other },
                        None => ArchiveProblem::NoRow { dataset, table },
                    });
                } else if lacking.row && !table.is_none() {
                    let consequence = match plan.mode {
                        Mode::Corrected => "id, metadata_link and the DOI attributes are left out",
                        Mode::Edp2024 | Mode::Edp2026 => "the placeholders of its attributes stay",
                    };
                    let lacks = match lacking.other_release {
                        Some(other) => format!("{} has a row for its release {other} only", table.file),
                        None => format!("no row of {} is for it", table.file),
                    };
                    self.notes.push(Note::warning(format!("{dataset}: {lacks}; {consequence}")));
                }
                if strictly && !lacking.placeholders.is_empty() {
                    self.problems.push(ArchiveProblem::Placeholders { dataset, attributes: lacking.placeholders });
                }
            }
        }
    }

    /// Ends the check. Returns warnings about datasets without a row in the table, and about variables without an entry
    /// in the metadata, once each.
    ///
    /// # Errors
    /// Returns an error if several rows are for one dataset, or if there are problems of a strict check.
    pub fn end(self) -> Result<Vec<Note>, ArchiveError> {
        let ArchiveCheck { mut notes, problems, unnamed, .. } = self;
        if !unnamed.is_empty() {
            let names = unnamed.into_iter().collect::<Vec<_>>().join(", ");
            notes.push(Note::info(format!("without standard_name in the variable metadata: {names}")));
        }
        if problems.is_empty() { Ok(notes) } else { Err(ArchiveError(problems)) }
    }
}
