//! A survey of the inventory for one dataset: for each step the inputs of each output, and everything that is missing.

use super::dataset::Dataset;
use super::inventory::{InputFiles, Inventory, Twice};
use super::jobfile::Steps;
use std::collections::BTreeSet;

/// The inputs of one granule.
#[derive(Debug)]
pub(super) struct StepInputs {
    /// Number of the model step.
    pub(super) step: u64,
    /// For each output of the dataset its inputs (one, or x and y); `None` if any of them is missing.
    pub(super) inputs: Vec<Option<Vec<InputFiles>>>,
}

/// The steps at which a model variable is missing while others exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lack<'a> {
    /// Name of the model variable.
    pub(super) source: &'a str,
    /// The steps, in ascending order.
    pub(super) steps: Vec<u64>,
}

/// Everything that was found for a dataset.
#[derive(Debug, Default)]
pub(super) struct Survey<'a> {
    /// Steps at which at least one output has all its inputs, in ascending order.
    pub(super) records: Vec<StepInputs>,
    /// Model variables without any file.
    pub(super) never: Vec<&'a str>,
    /// Model variables that exist at some of the steps only.
    pub(super) lacks: Vec<Lack<'a>>,
    /// Steps at which there are only single components of vectors, so that no output can be made.
    pub(super) barren: Vec<u64>,
    /// Steps that were asked for by number and have nothing.
    pub(super) absent: Vec<u64>,
    /// Variables that exist more than once. Their steps have no record.
    pub(super) twice: Vec<Twice>,
}

impl<'a> Survey<'a> {
    /// Finds a dataset's inputs under these words for the period, at the steps that are asked for and are `within` the
    /// window.
    pub(super) fn new(
        dataset: &'a Dataset<'_>,
        inventory: &Inventory,
        words: &[&str],
        steps: &Steps,
        within: impl Fn(u64) -> bool,
    ) -> Survey<'a> {
        let sources = dataset.sources();
        let there: Vec<BTreeSet<u64>> = sources.iter().map(|source| inventory.steps(source, words)).collect();
        let asked: Vec<u64> = match steps {
            Steps::All => there.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect(),
            Steps::Listed(steps) => steps.clone(),
        };
        let mut survey = Survey::default();
        let mut lacks: Vec<Lack<'a>> = Vec::new();
        for (source, there) in sources.iter().zip(&there) {
            if there.is_empty() {
                survey.never.push(source);
            } else {
                lacks.push(Lack { source, steps: Vec::new() });
            }
        }
        for step in asked.into_iter().filter(|step| within(*step)) {
            if !there.iter().any(|there| there.contains(&step)) {
                survey.absent.push(step);
                continue;
            }
            for lack in &mut lacks {
                let at = sources.iter().position(|source| *source == lack.source);
                if at.is_some_and(|at| !there[at].contains(&step)) {
                    lack.steps.push(step);
                }
            }
            survey.record(dataset, inventory, words, step);
        }
        lacks.retain(|lack| !lack.steps.is_empty());
        survey.lacks = lacks;
        survey
    }

    /// Returns true if no step was inspected.
    pub(super) fn is_empty(&self) -> bool {
        let Survey { records, barren, absent, twice, .. } = self;
        records.is_empty() && barren.is_empty() && absent.is_empty() && twice.is_empty()
    }

    fn record(&mut self, dataset: &Dataset<'_>, inventory: &Inventory, words: &[&str], step: u64) {
        let mut inputs = Vec::new();
        for output in &dataset.outputs {
            let mut pairs = Vec::new();
            for source in output.sources() {
                match inventory.find(source, words, step) {
                    Ok(pair) => pairs.push(pair),
                    Err(twice) => {
                        self.twice.push(twice);
                        return;
                    }
                }
            }
            inputs.push(pairs.into_iter().collect::<Option<Vec<_>>>());
        }
        if inputs.iter().all(Option::is_none) {
            self.barren.push(step);
        } else {
            self.records.push(StepInputs { step, inputs });
        }
    }
}

/// Returns the first and the last number of each gap between ascending numbers that should be consecutive.
pub(super) fn gaps(numbers: &[i64]) -> Vec<(i64, i64)> {
    let between = |pair: &[i64]| (pair[0] + 1, pair[1] - 1);
    numbers.windows(2).map(between).filter(|(first, last)| first <= last).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::fixture::{Production, velocity};
    use super::*;
    use edp_protocol::GridKind;

    const WORDS: &[&str] = &["mon_mean"];

    #[test]
    fn steps_are_the_union_over_outputs_and_vectors_need_both_components() {
        let production = Production::new("mon_mean", &["UVEL", "VVEL", "WVELMASS"], &[1, 2, 3, 4]);
        production.remove("mon_mean", "VVEL", 2);
        production.remove("mon_mean", "VVEL", 3);
        production.remove("mon_mean", "WVELMASS", 3);
        production.remove("mon_mean", "WVELMASS", 4);
        let (inventory, velocity) = (production.inventory(), velocity());
        let dataset = Dataset::new(&velocity, GridKind::Latlon).unwrap();
        let survey = Survey::new(&dataset, &inventory, WORDS, &Steps::All, |_| true);
        let made = |record: &StepInputs| {
            let counts = record.inputs.iter().map(|inputs| inputs.as_ref().map_or(0, Vec::len));
            (record.step, counts.collect::<Vec<_>>())
        };
        let made: Vec<_> = survey.records.iter().map(made).collect();
        assert_eq!(made, [(1, vec![2, 2, 1]), (2, vec![0, 0, 1]), (4, vec![2, 2, 0])]);
        assert_eq!(survey.barren, [3]);
        let lacks = [Lack { source: "VVEL", steps: vec![2, 3] }, Lack { source: "WVELMASS", steps: vec![3, 4] }];
        assert_eq!(survey.lacks, lacks);
        let pairs = survey.records[0].inputs[1].as_ref().unwrap();
        assert!(pairs[0].pairs[0].data.contains("UVEL") && pairs[1].pairs[0].data.contains("VVEL"));
        let survey = Survey::new(&dataset, &inventory, WORDS, &Steps::Listed(vec![1, 9]), |_| true);
        assert_eq!((survey.records.len(), survey.absent), (1, vec![9]));
        let survey = Survey::new(&dataset, &inventory, &["day_mean"], &Steps::All, |_| true);
        assert_eq!(survey.never, ["UVEL", "VVEL", "WVELMASS"]);
        assert!(survey.records.is_empty());
    }

    #[test]
    fn gaps_are_what_lies_between() {
        assert_eq!(gaps(&[1, 2, 5, 5, 6, 8]), [(3, 4), (7, 7)]);
        assert!(gaps(&[3]).is_empty() && gaps(&[]).is_empty());
    }
}
