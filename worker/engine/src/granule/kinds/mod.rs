//! The makers of variables, one for each [`VariableKind`].
//!
//! A maker opens the inputs of a variable and returns the values of one level after the other, on the model's grid. What
//! follows, on either grid, is the same for all kinds; see [`Field`](super::field::Field). `Assembly::maker` selects the
//! maker of a kind.

mod anomaly;
mod combined;
mod direct;
mod rotated;

pub use direct::Direct;
pub use rotated::Rotated;

use combined::Operation;

use super::assembly::Assembly;
use super::error::MakeError;
use super::holes::MissingCells;
use super::remote::Remote;
use super::route::Route;
use super::source::Record;
use super::stages::Stages;
use crate::grid::{LevelSet, Native, Placement};
use crate::mds::compact::TileRows;
use crate::mds::{MdsError, Plane};
use crate::metadata::attribute::Attributes;
use crate::metadata::variable::{self, Description};
use edp_protocol::recipe::{InputPaths, Rule, VariableKind};
use edp_protocol::{GridKind, wire};

/// Values of a level, and the cells that have none, if there are any.
pub type LevelValues = (Plane, Option<MissingCells>);

/// Makes the values of one variable on the model's grid from its opened inputs.
pub trait Maker: Send + Sync {
    /// Returns the records that are read.
    fn records(&self) -> Vec<&Record>;

    /// Returns the largest number of bytes that a thread takes while it makes so many cells of a level, without the
    /// values on the target grid. If it is not made by rows, it always makes all cells.
    fn memory(&self, grid: &Native, route: &Route<'_>, cells: usize) -> u64;

    /// Returns true if a cell depends on the same cell of the inputs only, so that rows can be made without the others.
    fn is_by_rows(&self) -> bool;

    /// Returns the values of a level of the grid in compact order, and the cells that have none, if there are any. With
    /// `rows`, which is given only if it is made by rows, returns these rows in their order.
    ///
    /// # Errors
    /// Returns an error if an input cannot be read.
    fn level(
        &self,
        grid: &Native,
        level: usize,
        rows: Option<&TileRows>,
        stages: &Stages,
    ) -> Result<LevelValues, MdsError>;

    /// Returns the maker itself if it makes a component of a vector, which has a direction.
    fn vector(&self) -> Option<&Rotated> {
        None
    }

    /// Returns a sentence that says how the variable was computed, for the granule of `corrected`.
    fn sentence(&self) -> Option<String> {
        None
    }

    /// Returns the means that are used, for the outcome.
    fn means(&self) -> Vec<wire::InputRead> {
        Vec::new()
    }

    /// Returns the number of bytes that are in memory as long as the maker exists.
    fn resident(&self) -> u64 {
        0
    }

    /// Returns the names of the input files, for messages.
    fn names(&self) -> String {
        let names: Vec<&str> = self.records().iter().map(|record| record.input.name()).collect();
        names.join(" or ")
    }
}

/// A variable whose inputs are open.
pub(super) struct OpenedVariable {
    pub(super) maker: Box<dyn Maker>,
    /// Points of the grid at which it is defined.
    pub(super) placement: Placement,
    /// Levels of the grid that it has; `None` if it is 2-D.
    pub(super) levels: Option<LevelSet>,
    /// Attributes of EDP's reader, as far as the mode keeps them. Texts of the metadata replace them in place.
    pub(super) of_reader: Attributes,
}

/// A variable whose inputs are to be opened.
pub(super) struct Opening<'a, 'r> {
    pub(super) assembly: &'a Assembly<'r>,
    pub(super) name: &'a str,
    /// Description in the metadata.
    pub(super) description: &'a Description,
    /// Files of each of its inputs.
    pub(super) inputs: &'a [InputPaths],
    /// The list to which the inputs on S3 are added.
    pub(super) remotes: &'a mut Vec<Remote>,
    /// The list to which warnings are added.
    pub(super) warnings: &'a mut Vec<String>,
}

/// The inputs of a derived variable.
struct OpenedSources {
    records: Vec<Record>,
    placement: Placement,
    levels: Option<LevelSet>,
}

impl Opening<'_, '_> {
    /// Opens the input of this number. Also returns the name of the model variable.
    fn input(&mut self, number: usize) -> Result<(Record, String), MakeError> {
        let paths = self.inputs.get(number).map_or(&[][..], Vec::as_slice);
        self.assembly.open(self.name, number, paths, self.remotes, self.warnings)
    }

    /// Opens the inputs of a derived variable, which are on the same points of the grid and have the same levels.
    fn sources(&mut self, rule: &Rule) -> Result<OpenedSources, MakeError> {
        let assembly = self.assembly;
        let (mut records, mut common) = (Vec::new(), None);
        for (number, source) in rule.sources().into_iter().enumerate() {
            let (mut record, field) = self.input(number)?;
            if field != source {
                return Err(self
                    .fail(format!("input {number} of its rule is {source}, but {} has {field}", record.input.name())));
            }
            let levels = assembly.levels(self.name, &field, self.description, &mut record)?;
            // A variable of the model may have another description than the output that is made of it.
            let description = variable::describe(&assembly.resources.texts.metadata, GridKind::Native, &field);
            let placement = assembly.placement(self.name, &field, &description, levels.is_some(), self.warnings)?;
            assembly.check_gaps(self.name, &record, placement.horizontal, self.warnings)?;
            match &common {
                None => common = Some((placement, levels)),
                Some(first) if *first == (placement, levels) => {}
                Some(_) => {
                    let all = rule.sources().join(", ");
                    return Err(
                        self.fail(format!("{all} are not all at the same points of the grid, with the same levels"))
                    );
                }
            }
            records.push(record);
        }
        let (placement, levels) = common.ok_or_else(|| self.fail("its rule has no variables"))?;
        Ok(OpenedSources { records, placement, levels })
    }

    /// Returns an error about this variable.
    fn fail(&self, why: impl ToString) -> MakeError {
        self.assembly.fail(self.name, why.to_string())
    }
}

impl Assembly<'_> {
    /// Opens the inputs of a variable by the maker of its kind.
    pub(super) fn maker(&self, opening: Opening<'_, '_>) -> Result<OpenedVariable, MakeError> {
        match self.recipe.kind(opening.name).map_err(|why| opening.fail(why))? {
            VariableKind::Direct => direct::open(opening),
            VariableKind::Rotated { components, orientation } => rotated::open(opening, &components, orientation),
            VariableKind::Derived(rule) => match rule {
                Rule::Sum(_) => combined::open(opening, &rule, Operation::Add),
                Rule::Difference(_) => combined::open(opening, &rule, Operation::Subtract),
                Rule::Anomaly(anomaly) => anomaly::open(opening, anomaly),
            },
        }
    }
}
