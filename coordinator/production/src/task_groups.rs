//! Task groups. Recipes that read the same inputs, such as those of a dataset on both kinds of grid at one time, travel
//! in one message, so that one worker makes their granules and reads the inputs once. Each remains a recipe of its own
//! in the ledger, with an outcome and attempts of its own. Only first attempts are grouped.

use super::drive_options::DriveOptions;
use super::ledger::Due;
use edp_program::settings::TaskGrouping;
use edp_protocol::Location;
use edp_protocol::recipe::{Recipe, Roots};
use edp_protocol::wire::{ExistingCheck, MAX_GROUP, MAX_RECIPE, TaskMessage, WireError};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};

/// Task messages that travel as one, with what the ledger says about their recipes.
#[derive(Debug, Default)]
pub(super) struct OutgoingGroup {
    pub(super) members: Vec<(Due, TaskMessage)>,
    /// Size of the recipes in bytes.
    size: usize,
}

impl OutgoingGroup {
    fn has_room(&self, size: usize) -> bool {
        self.members.len() < MAX_GROUP && self.size + size <= MAX_RECIPE
    }

    fn add(&mut self, due: Due, task: TaskMessage) {
        self.size += task.recipe.len();
        self.members.push((due, task));
    }
}

/// Arranges due recipes in groups, in the order in which the first of each is due. Also returns the recipes that cannot
/// be sent, with the reason.
pub(super) fn arrange(
    plan: &DriveOptions,
    grouping: TaskGrouping,
    due: Vec<Due>,
) -> (Vec<OutgoingGroup>, Vec<(Due, WireError)>) {
    let (mut groups, mut refused) = (Vec::<OutgoingGroup>::new(), Vec::new());
    // The group of the recipes that read an input.
    let mut readers: HashMap<String, usize> = HashMap::new();
    for due in due {
        let (task, recipe) = match task(plan, &due) {
            Ok(both) => both,
            Err(error) => {
                refused.push((due, error));
                continue;
            }
        };
        let reads: BTreeSet<String> = match travels(grouping, &due) {
            true => recipe.variables.values().flatten().flatten().cloned().collect(),
            false => BTreeSet::new(),
        };
        let mut found = reads.iter().filter_map(|path| readers.get(path));
        let known = found.find(|at| groups.get(**at).is_some_and(|group| group.has_room(task.recipe.len()))).copied();
        let at = known.unwrap_or_else(|| {
            groups.push(OutgoingGroup::default());
            groups.len() - 1
        });
        readers.extend(reads.into_iter().map(|path| (path, at)));
        groups[at].add(due, task);
    }
    (groups, refused)
}

/// Returns the recipes that may travel in groups at present. Workers of earlier releases do not know groups: with workers
/// of several builds there are none, and without the user's word (`always`) only if all workers are known to take them.
pub(super) fn grouping(plan: &DriveOptions, all_take_groups: bool) -> TaskGrouping {
    match plan.group {
        _ if plan.mixed_builds => TaskGrouping::Never,
        TaskGrouping::S3 if !plan.local && !all_take_groups => TaskGrouping::Never,
        group => group,
    }
}

/// Returns true if a recipe travels together with others that read the same inputs.
pub(super) fn travels(grouping: TaskGrouping, due: &Due) -> bool {
    due.attempt == 1
        && !due.alone
        && match grouping {
            TaskGrouping::S3 => is_remote(&due.recipe),
            TaskGrouping::Always => true,
            TaskGrouping::Never => false,
        }
}

/// Returns true if the inputs of a recipe are on S3.
fn is_remote(recipe: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct OnlyRoots {
        roots: Roots,
    }
    #[derive(Deserialize)]
    struct OnlyPlan {
        recipe: OnlyRoots,
    }
    let read = serde_json::from_slice::<OnlyPlan>(recipe);
    read.is_ok_and(|read| read.recipe.roots.source.parse().is_ok_and(|source: Location| source.is_remote()))
}

/// Makes the task message of a recipe.
fn task(plan: &DriveOptions, due: &Due) -> Result<(TaskMessage, Recipe), WireError> {
    let task = TaskMessage {
        production: plan.production.clone(),
        recipe_id: due.id.clone(),
        attempt: due.attempt,
        alone: due.alone,
        deadline: plan.deadline,
        look: match (plan.content, due.sha256.is_empty()) {
            (false, _) => ExistingCheck::Identity,
            (true, true) => ExistingCheck::Content,
            (true, false) => ExistingCheck::Bytes(due.sha256.clone()),
        },
        recipe: due.recipe.clone(),
    };
    if task.recipe.len() > MAX_RECIPE {
        return Err(WireError::RecipeSize { size: task.recipe.len() });
    }
    // Workers refuse a message without a valid id, and send no outcome.
    let recipe = task.identified()?;
    Ok((task, recipe))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::director::Budget;
    use crate::fixture::recipes;
    use crate::session::SessionOptions;
    use edp_protocol::GridKind;
    use edp_protocol::recipe::Version;

    fn options(group: TaskGrouping) -> DriveOptions {
        DriveOptions { group, ..SessionOptions::in_memory(Budget::NONE).plan }
    }

    /// A recipe that reads these files below a root.
    fn due(number: i64, source: &str, reads: &[&str]) -> Due {
        let mut recipe = recipes(&[GridKind::Native]).remove(0);
        recipe.granule = recipe.granule.replace("1992", &(1992 + number).to_string());
        let paths = reads.iter().map(|name| format!("{source}/{name}"));
        recipe.variables = [("V".to_owned(), vec![paths.collect()])].into_iter().collect();
        let plan = recipe.recipe.as_mut().unwrap();
        plan.roots.source = source.into();
        plan.inputs = reads.iter().map(|name| ((*name).to_owned(), Version::default())).collect();
        let id = recipe.computed_id().unwrap();
        recipe.recipe.as_mut().unwrap().id.clone_from(&id);
        let recipe = serde_json::to_vec(&recipe).unwrap();
        Due { number, id, recipe, attempt: 1, alone: false, sha256: String::new() }
    }

    fn arranged(group: TaskGrouping, due: Vec<Due>) -> Vec<Vec<i64>> {
        let plan = options(group);
        let (groups, refused) = arrange(&plan, grouping(&plan, true), due);
        assert!(refused.is_empty(), "{refused:?}");
        groups.iter().map(|group| group.members.iter().map(|(due, _)| due.number).collect()).collect()
    }

    #[test]
    fn recipes_that_read_the_same_inputs_travel_together() {
        let of = |source: &str| {
            vec![
                due(1, source, &["T.1", "S.1"]),
                due(2, source, &["T.2", "S.2"]),
                due(3, source, &["S.1", "T.1"]),
                due(4, source, &["U.1"]),
                due(5, source, &["S.2"]),
            ]
        };
        let single: Vec<Vec<i64>> = (1..=5).map(|number| vec![number]).collect();
        let grouped = [vec![1, 3], vec![2, 5], vec![4]];
        assert_eq!(arranged(TaskGrouping::S3, of("s3://results/run")), grouped);
        assert_eq!(arranged(TaskGrouping::S3, of("results")), single, "the page cache does it on a disk");
        assert_eq!(arranged(TaskGrouping::Always, of("results")), grouped);
        assert_eq!(arranged(TaskGrouping::Never, of("s3://results/run")), single);
        let mixed = DriveOptions { mixed_builds: true, ..options(TaskGrouping::Always) };
        assert_eq!(arrange(&mixed, grouping(&mixed, true), of("results")).0.len(), 5);
        let cluster = DriveOptions { local: false, ..options(TaskGrouping::S3) };
        assert_eq!([true, false].map(|all| grouping(&cluster, all)), [TaskGrouping::S3, TaskGrouping::Never]);
    }

    #[test]
    fn later_attempts_and_those_that_are_made_alone_travel_alone() {
        let mut all: Vec<Due> = (1..=4).map(|number| due(number, "results", &["T.1"])).collect();
        (all[1].attempt, all[2].alone) = (2, true);
        assert_eq!(arranged(TaskGrouping::Always, all), [vec![1, 4], vec![2], vec![3]]);
    }

    #[test]
    fn no_group_is_too_large() {
        let all: Vec<Due> = (1..=40).map(|number| due(number, "results", &["T.1"])).collect();
        let sizes: Vec<usize> = arranged(TaskGrouping::Always, all).iter().map(Vec::len).collect();
        assert_eq!(sizes, [16, 16, 8]);
        let name = "x".repeat(MAX_RECIPE / 5);
        let all: Vec<Due> = (1..=4).map(|number| due(number, "results", &["T.1", &name])).collect();
        let (groups, refused) = arrange(&options(TaskGrouping::Always), TaskGrouping::Always, all);
        assert_eq!((groups.len(), refused.len()), (2, 0));
        assert!(groups.iter().all(|group| group.size <= MAX_RECIPE));
    }

    #[test]
    fn what_cannot_be_sent_is_returned_with_its_reason() {
        let mut other = due(1, "results", &["T.1"]);
        other.id = "0".repeat(64);
        let (groups, refused) =
            arrange(&options(TaskGrouping::Always), TaskGrouping::Always, vec![other, due(2, "results", &["T.1"])]);
        assert_eq!((groups.len(), refused.len(), refused[0].0.number), (1, 1, 1));
    }
}
