//! A sum or a difference of variables of the model.

use super::{LevelValues, Maker, OpenedSources, OpenedVariable, Opening};
use crate::granule::error::MakeError;
use crate::granule::holes::MissingCells;
use crate::granule::route::Route;
use crate::granule::source::Record;
use crate::granule::stages::Stages;
use crate::grid::Native;
use crate::mds::compact::TileRows;
use crate::mds::{MdsError, Plane};
use edp_protocol::recipe::Rule;

/// What is done with each variable after the first one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    /// It is added.
    Add,
    /// It is subtracted.
    Subtract,
}

impl Operation {
    fn apply(self, result: &mut f64, value: f64) {
        match self {
            Operation::Add => *result += value,
            Operation::Subtract => *result -= value,
        }
    }
}

/// A variable that is computed of others cell by cell. It is computed in double precision, in the order of the rule, and
/// rounded to single precision if all variables have that.
pub(super) struct Combined {
    /// The variables.
    records: Vec<Record>,
    operation: Operation,
    /// The sentence about the rule.
    sentence: String,
}

impl Maker for Combined {
    fn records(&self) -> Vec<&Record> {
        self.records.iter().collect()
    }

    fn memory(&self, _: &Native, _: &Route<'_>, cells: usize) -> u64 {
        let largest = self.records.iter().map(|record| record.input.memory(cells)).max().unwrap_or(0);
        // The sum and its rounded copy, and which cells have no value: of the sum, and of the variable that is added.
        largest + cells as u64 * (8 + 4 + 2)
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
        self.combine(level, rows, stages)
    }

    fn sentence(&self) -> Option<String> {
        Some(self.sentence.clone())
    }
}

impl Combined {
    fn combine(&self, level: usize, rows: Option<&TileRows>, stages: &Stages) -> Result<LevelValues, MdsError> {
        let (mut results, mut holes, mut is_double): (Vec<f64>, Option<MissingCells>, bool) = (Vec::new(), None, false);
        for (at, record) in self.records.iter().enumerate() {
            let plane = record.plane(level, rows, stages)?;
            holes = union(holes, record.holes(&plane));
            is_double |= matches!(plane, Plane::F64(_));
            match plane {
                Plane::F32(values) if at == 0 => results = values.into_iter().map(f64::from).collect(),
                Plane::F64(values) if at == 0 => results = values,
                Plane::F32(values) => self.apply(&mut results, values.into_iter().map(f64::from)),
                Plane::F64(values) => self.apply(&mut results, values.into_iter()),
            }
        }
        Ok((of_precision(results, is_double), holes))
    }

    fn apply(&self, results: &mut [f64], values: impl Iterator<Item = f64>) {
        results.iter_mut().zip(values).for_each(|(result, value)| self.operation.apply(result, value));
    }
}

/// Returns values as a plane of double or, rounded, of single precision.
pub(super) fn of_precision(values: Vec<f64>, is_double: bool) -> Plane {
    match is_double {
        true => Plane::F64(values),
        false => Plane::F32(Plane::F64(values).into_f32()),
    }
}

/// Returns the cells that have no value in either of two planes.
pub(super) fn union(first: Option<MissingCells>, second: Option<MissingCells>) -> Option<MissingCells> {
    match (first, second) {
        (Some(mut first), Some(second)) => {
            first.iter_mut().zip(second).for_each(|(hole, other)| *hole |= other);
            Some(first)
        }
        (first, second) => first.or(second),
    }
}

/// Opens the inputs of a variable that is made by this operation from those of the rule.
pub(super) fn open(
    mut opening: Opening<'_, '_>,
    rule: &Rule,
    operation: Operation,
) -> Result<OpenedVariable, MakeError> {
    let OpenedSources { records, placement, levels } = opening.sources(rule)?;
    let maker = Box::new(Combined { records, operation, sentence: rule.sentence(0) });
    Ok(OpenedVariable { maker, placement, levels, of_reader: Vec::new() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::granule::source::Input;
    use crate::mds::compact::TILES;
    use crate::mds::{FieldLocation, Header, MdsFile};
    use edp_files::ReadAt;

    const N: usize = 1;

    /// Returns a record of LLC1 with these values in its first cells and 0 in the others.
    fn record(first: &[f64], is_double: bool, missing: Option<f64>) -> Record {
        let (precision, size) = if is_double { ("float64", 8) } else { ("float32", 4) };
        let text = format!(
            " nDims = [ 2 ];\n dimList = [\n {N}, 1, {N},\n 13, 1, 13\n ];\n dataprec = [ '{precision}' ];\n nrecords = [ 1 ];\n"
        );
        let header = Header::parse("x.meta", text.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        for at in 0..TILES {
            let value = first.get(at).copied().unwrap_or(0.0);
            match size {
                8 => bytes.extend(value.to_be_bytes()),
                _ => bytes.extend((value as f32).to_be_bytes()),
            }
        }
        let input: Input = MdsFile::open("x.data", header, Box::new(bytes) as Box<dyn ReadAt>).unwrap();
        let found = FieldLocation { record: 0, by_records: false, levels: None };
        Record { missing, ..Record::new(input, found) }
    }

    fn level(records: Vec<Record>, operation: Operation) -> (Plane, Option<MissingCells>) {
        let combined = Combined { records, operation, sentence: String::new() };
        combined.combine(0, None, &Stages::begin()).unwrap()
    }

    #[test]
    fn sums_are_added_in_double_precision_and_rounded_once() {
        // In single precision, 1 + 2^-24 + 2^-24 would be 1.
        let small = 1.0 / f64::from(1 << 24);
        let of = |values: [f64; 3], double| values.map(|value| record(&[value], double, None)).into();
        let (plane, holes) = level(of([1.0, small, small], false), Operation::Add);
        assert_eq!((plane.clone().into_f32()[0], holes), (1.0 + f32::EPSILON, None));
        assert!(matches!(plane, Plane::F32(_)));
        let Plane::F64(values) = level(of([1.0, small, small], true), Operation::Add).0 else { panic!("not double") };
        assert_eq!(values[0], 1.0 + 2.0 * small);
        let mixed = vec![record(&[5.0], false, None), record(&[0.1], true, None)];
        let Plane::F64(values) = level(mixed, Operation::Subtract).0 else { panic!("not double") };
        assert_eq!((values[0], values[1]), (5.0 - 0.1, 0.0));
    }

    #[test]
    fn a_cell_without_a_value_in_one_variable_has_none() {
        let records =
            vec![record(&[-999.0, 1.0, 2.0], false, Some(-999.0)), record(&[1.0, 1.0, -9.0], false, Some(-9.0))];
        let (plane, holes) = level(records, Operation::Add);
        assert_eq!(holes.unwrap()[..4], [true, false, true, false]);
        assert_eq!(plane.into_f32()[1], 2.0);
    }
}
