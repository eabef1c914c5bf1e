//! A variable of the model minus its mean over a period.

use super::combined::{of_precision, union};
use super::{LevelValues, Maker, OpenedSources, OpenedVariable, Opening};
use crate::granule::error::MakeError;
use crate::granule::mean_file::Mean;
use crate::granule::means::WantedMean;
use crate::granule::route::Route;
use crate::granule::source::Record;
use crate::granule::stages::Stages;
use crate::grid::Native;
use crate::mds::compact::TileRows;
use crate::mds::{MdsError, Plane};
use edp_protocol::recipe::{self, Rule};
use edp_protocol::wire;

/// The difference between a record and the mean of its variable, computed in double precision and rounded to the
/// precision of the record.
pub(super) struct AnomalyMaker {
    record: Record,
    mean: Mean,
    /// The sentence about the rule.
    sentence: String,
}

impl Maker for AnomalyMaker {
    fn records(&self) -> Vec<&Record> {
        vec![&self.record]
    }

    fn memory(&self, _: &Native, _: &Route<'_>, cells: usize) -> u64 {
        // The mean, its cells without a value, those of the record, and a copy that is rounded.
        self.record.input.memory(cells) + cells as u64 * (8 + 1 + 1 + 4) + Mean::READING
    }

    fn is_by_rows(&self) -> bool {
        true
    }

    fn level(
        &self,
        _: &Native,
        level: usize,
        rows: Option<&TileRows>,
        stages: &Stages,
    ) -> Result<LevelValues, MdsError> {
        let plane = self.record.plane(level, rows, stages)?;
        let holes = self.record.holes(&plane);
        let (mean, without_mean) = self.mean.plane(level, rows, stages)?;
        Ok((minus(plane, mean), union(holes, without_mean)))
    }

    fn sentence(&self) -> Option<String> {
        Some(self.sentence.clone())
    }

    fn means(&self) -> Vec<wire::InputRead> {
        vec![self.mean.read().clone()]
    }

    fn resident(&self) -> u64 {
        self.mean.resident()
    }
}

/// Subtracts a mean from values of a record.
fn minus(plane: Plane, mut mean: Vec<f64>) -> Plane {
    let is_double = matches!(plane, Plane::F64(_));
    match plane {
        Plane::F32(values) => mean.iter_mut().zip(values).for_each(|(mean, value)| *mean = f64::from(value) - *mean),
        Plane::F64(values) => mean.iter_mut().zip(values).for_each(|(mean, value)| *mean = value - *mean),
    }
    of_precision(mean, is_double)
}

/// Opens the input of the variable, and the mean, which is made if it does not exist yet.
pub(super) fn open(mut opening: Opening<'_, '_>, anomaly: recipe::Anomaly) -> Result<OpenedVariable, MakeError> {
    let rule = Rule::Anomaly(anomaly);
    let OpenedSources { mut records, placement, levels } = opening.sources(&rule)?;
    let assembly = opening.assembly;
    let described = assembly.plan.derived.get(opening.name).and_then(|derivation| derivation.mean.as_ref());
    let (Rule::Anomaly(anomaly), Some(described), Some(record)) = (&rule, described, records.pop()) else {
        return Err(opening.fail("the recipe does not describe its mean"));
    };
    let wanted = WantedMean {
        name: opening.name,
        anomaly,
        mean: described,
        description: opening.description,
        levels: levels.clone(),
        point: placement.horizontal,
    };
    let mean = assembly.mean(&wanted)?;
    let maker = Box::new(AnomalyMaker { record, mean, sentence: rule.sentence(described.count()) });
    Ok(OpenedVariable { maker, placement, levels, of_reader: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_taken_in_double_precision() {
        let mean = 1e8 + 0.25;
        let single = minus(Plane::F32(vec![1e8, 3.0]), vec![mean, 1.0]);
        assert_eq!(single, Plane::F32(vec![-0.25, 2.0]));
        let double = minus(Plane::F64(vec![1e8 + 0.5]), vec![mean]);
        assert_eq!(double, Plane::F64(vec![0.25]));
    }
}
