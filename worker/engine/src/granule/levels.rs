//! The levels of the grid that an input has. A model run may write only some of its levels; which ones they are is
//! stated by the header, by the variable metadata, or by the model's list of diagnostics.

use super::assembly::Assembly;
use super::error::MakeError;
use super::inputs::Output;
use super::source::Record;
use crate::grid::LevelSet;
use crate::metadata::variable::{self, Description};
use edp_protocol::GridKind;

/// The end of an error about an input with some levels only, in EDP's modes.
const FOR_EDP: &str = "EDP makes no granules of some levels; --compatibility corrected does, where it is known which \
                       levels they are";

/// The end of an error about levels that nothing identifies.
const UNKNOWN: &str = "nothing says which of them these are: add the key levels to its variable metadata, with the \
                       number of the uppermost levels or a list of level numbers, counted from 1";

impl Assembly<'_> {
    /// Determines the levels of the grid that an input has; `None` if it is 2-D. A third dimension of one is none,
    /// unless the grid has one level only. If the input has only some levels, they are noted in its record.
    pub(super) fn levels(
        &self,
        name: &str,
        field: &str,
        description: &Description,
        record: &mut Record,
    ) -> Result<Option<LevelSet>, MakeError> {
        let (input, n) = (&record.input, self.resources.grid.native.n);
        let size = input.header().llc_size()?;
        if size != n {
            return Err(self.fail(name, format!("{} is on LLC{size}, the grid is LLC{n}", input.name())));
        }
        let (all, found) = (self.resources.levels(), record.found.levels);
        let is_flat = || {
            let place = self.resources.grid.diagnostics.placement(field);
            place.is_some_and(|place| place.vertical.is_none())
        };
        let is_partial = input.header().part_of_levels().is_some();
        if !is_partial && found == Some(all.len()) && (all.len() != 1 || !is_flat()) {
            return Ok(Some(all));
        }
        let has = format!("{} has {} levels, the grid {}", input.name(), found.unwrap_or(1), all.len());
        if self.plan.mode.is_edp() {
            return match found {
                None | Some(1) if !is_partial => Ok(None),
                _ => Err(self.fail(name, format!("{has}: {FOR_EDP}"))),
            };
        }
        let levels = self.some_levels(field, description, record, all.len());
        let levels = levels.map_err(|why| self.fail(name, format!("{has}: {why}")))?;
        record.levels.clone_from(&levels);
        Ok(levels)
    }

    /// Determines which of the `total` levels of the grid an input has that does not have all of them; `None` if it is
    /// 2-D. An error is the reason why they are not known.
    fn some_levels(
        &self,
        field: &str,
        description: &Description,
        record: &Record,
        total: usize,
    ) -> Result<Option<LevelSet>, String> {
        let list = &self.resources.grid.diagnostics;
        let count = record.found.levels.unwrap_or(1);
        let described = description.levels.clone().or_else(|| {
            let of_field = variable::describe(&self.resources.texts.metadata, GridKind::Native, field);
            of_field.levels
        });
        let described = described.transpose().map_err(|found| {
            format!(
                "the key levels of its metadata is {found}; it must be the number of the uppermost levels, or a list of \
                 ascending level numbers, counted from 1"
            )
        })?;
        if let Some(levels) = described.as_ref().filter(|levels| levels.levels().last() >= Some(&total)) {
            return Err(format!("the metadata state the levels {levels}"));
        }
        if let Some(part) = record.input.header().part_of_levels() {
            let levels: Vec<usize> = (part.first..part.first + count).collect();
            let stated = LevelSet::new(&levels).filter(|_| part.total == total);
            let Some(stated) = stated else {
                return Err(format!("its header states a grid of {} levels", part.total));
            };
            return match described {
                Some(described) if described != stated => {
                    Err(format!("its header states the levels {stated}, the metadata {described}: correct one of them"))
                }
                _ => Ok(Some(stated)),
            };
        }
        match described {
            Some(levels) if levels.len() == count => Ok(Some(levels)),
            Some(levels) => Err(format!("the metadata state the levels {levels}")),
            None if count == 1 => {
                let is_3d = self.recipe.dynamic_metadata.dimension.eq_ignore_ascii_case("3D");
                let has_levels = list.placement(field).is_some_and(|place| place.vertical.is_some());
                if is_3d && has_levels && total != 1 { Err(UNKNOWN.into()) } else { Ok(None) }
            }
            None if list.levels(field) == Some(count) && count < total => Ok(Some(LevelSet::uppermost(count))),
            None => Err(UNKNOWN.into()),
        }
    }

    /// Returns the levels that all 3-D variables have; `None` if there is no such variable.
    pub(super) fn common_levels<'o>(&self, outputs: &'o [Output<'_>]) -> Result<Option<&'o LevelSet>, MakeError> {
        let mut of_outputs = outputs.iter().filter_map(|output| Some((output.name, output.opened.levels.as_ref()?)));
        let Some((first, levels)) = of_outputs.next() else { return Ok(None) };
        if let Some((other, others)) = of_outputs.find(|(_, others)| *others != levels) {
            let why = format!(
                "it has the levels {others}, {first} the levels {levels}: all variables of a granule need the same levels; \
                 put them into different groupings"
            );
            return Err(self.fail(other, why));
        }
        Ok(Some(levels))
    }
}
