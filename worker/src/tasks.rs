//! Task lists of EDP or of this project, prepared for production.

use edp_engine::metadata;
use edp_engine::resources::{ResourceError, SharedInputs, SharedLocations};
use edp_production::complete::{Completion, complete};
use edp_program::settings::PlanSettings;
use edp_protocol::Mode;
use edp_protocol::message::chain;
use edp_protocol::recipe::{Recipe, RecipeError, check_unique, is_production_date};
use edp_store::Stores;
use jiff::Timestamp;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

/// Locations of the resources that recipes share, for recipes that do not state them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct GivenLocations {
    /// Location of the configuration.
    pub configuration: Option<String>,
    /// Location of the grid directory.
    pub grid: Option<String>,
    /// Location of the metadata directory.
    pub metadata: Option<String>,
    /// Location of the mapping factors.
    pub factors: Option<String>,
}

/// The reason why a list cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Neither the recipe nor an option states a location.
    #[error("{granule}: the list does not say where it is: give --{option}")]
    NoPlace {
        /// Path or address of the granule.
        granule: String,
        /// Name of the option that states it.
        option: &'static str,
    },
    /// Something that recipes share cannot be read.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// Two entries of the list are one recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The metadata have no units of time.
    #[error("{metadata}: no units of 'time' there")]
    NoTimeUnits {
        /// Location of the metadata directory.
        metadata: String,
    },
}

/// A list whose recipes all have their identity.
#[derive(Debug, Default)]
pub struct Tasks {
    /// Recipes that can be made.
    pub recipes: Vec<Recipe>,
    /// Granules of recipes that cannot be completed, with reasons. They do not keep others from being made.
    pub refused: Vec<(String, String)>,
    /// Warnings about the things that recipes share.
    pub warnings: Vec<metadata::Warning>,
}

impl GivenLocations {
    /// Returns the same locations, with those of the settings where none is given.
    #[must_use]
    pub fn or(self, settings: &PlanSettings) -> GivenLocations {
        GivenLocations {
            configuration: self.configuration.or_else(|| settings.config.clone()),
            grid: self.grid.or_else(|| settings.grid.clone()),
            metadata: self.metadata.or_else(|| settings.metadata.clone()),
            factors: self.factors.or_else(|| settings.mapping_factors.clone()),
        }
    }
}

impl Tasks {
    /// Completes the recipes of a list that EDP wrote. The recipes state locations; `places` is used where they do not
    /// (EDP of 2024 has no configuration in its lists). Recipes that lack more than can be completed are refused one by
    /// one. `date` is the date of production and `mode` the mode of time-invariant tasks, if they were asked for.
    ///
    /// # Errors
    /// Returns an error if something that recipes share is not named or cannot be read, or if two entries are one
    /// recipe for two destinations.
    pub fn ready(
        mut recipes: Vec<Recipe>,
        places: &GivenLocations,
        date: Option<&str>,
        mode: Option<Mode>,
        stores: &Stores,
    ) -> Result<Tasks, TaskError> {
        let (mut refused, mut warnings) = (Vec::new(), Vec::new());
        let mut loaded: HashMap<SharedLocations, SharedInputs> = HashMap::new();
        let options = BTreeMap::new();
        for recipe in recipes.iter_mut().filter(|recipe| recipe.recipe.is_none()) {
            let granule = recipe.granule.clone();
            let needed = |own: &Option<String>, given: &Option<String>, option| {
                let missing = || TaskError::NoPlace { granule: granule.clone(), option };
                own.clone().or_else(|| given.clone()).ok_or_else(missing)
            };
            let grid = needed(&recipe.ecco_grid_loc, &places.grid, "grid")?;
            let metadata = needed(&recipe.ecco_metadata_loc, &places.metadata, "metadata")?;
            let configuration = needed(&recipe.ecco_cfg_loc, &places.configuration, "config")?;
            let factors = recipe.ecco_mapping_factors_loc.clone().or_else(|| places.factors.clone());
            recipe.ecco_grid_loc = Some(grid.clone());
            recipe.ecco_metadata_loc = Some(metadata.clone());
            recipe.ecco_mapping_factors_loc.clone_from(&factors);
            let its = SharedLocations { configuration: configuration.clone(), grid, metadata, factors };
            let shared = match loaded.entry(its) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let (shared, odd) = SharedInputs::load(entry.key().clone(), stores)?;
                    warnings.extend(odd);
                    entry.insert(shared)
                }
            };
            let no_units = || TaskError::NoTimeUnits { metadata: shared.locations.metadata.clone() };
            let edp_time_units = shared.edp_time_units().ok_or_else(no_units)?;
            let with = Completion {
                stores,
                configuration_location: Some(&configuration),
                digests: &shared.digests,
                options: &options,
                edp_time_units,
                production_date: date,
                invariant_mode: mode,
            };
            if let Err(error) = complete(recipe, &with) {
                refused.push((granule, chain(&error)));
            }
        }
        check_unique(&recipes)?;
        recipes.retain(|recipe| recipe.recipe.is_some());
        Ok(Tasks { recipes, refused, warnings })
    }
}

/// The reason why there is no such date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// The option is not a time.
    #[error("--production-date '{text}': {why}; write YYYY-MM-DDThh:mm:ssZ")]
    Option {
        /// Text of the option.
        text: String,
        /// Description of the problem.
        why: String,
    },
    /// The environment variable is not a time.
    #[error("SOURCE_DATE_EPOCH '{0}' is not a number of seconds since 1970")]
    Epoch(String),
}

/// Returns the date of a production: the given one, else that of SOURCE_DATE_EPOCH, else `None`.
///
/// # Errors
/// Returns an error if it is not a date.
pub fn production_date(given: Option<&str>) -> Result<Option<String>, DateError> {
    let time = match given {
        Some(text) => {
            let time = text.parse::<Timestamp>();
            Some(time.map_err(|why| DateError::Option { text: text.into(), why: why.to_string() })?)
        }
        None => match std::env::var("SOURCE_DATE_EPOCH") {
            Err(_) => None,
            Ok(text) => {
                let time = text.trim().parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
                Some(time.ok_or(DateError::Epoch(text))?)
            }
        },
    };
    match time.map(date_text) {
        Some(text) if !is_production_date(&text) => {
            Err(DateError::Option { text, why: "it is not within the years 0000 to 9999".into() })
        }
        text => Ok(text),
    }
}

/// Writes a time in the form of dates of production: whole seconds, UTC.
pub fn date_text(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// A share of a list. Shares are disjoint, and together they cover the whole list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Number of the share, from 1.
    part: usize,
    /// Number of all shares.
    of: usize,
}

/// The reason why a share is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The text is not a part and a number of parts.
    #[error("'{0}' is not part of a list: write I/N with I from 1 to N, such as 1/4")]
    Text(String),
    /// An environment variable is not a number.
    #[error("{name}='{value}' is not a number: give --part I/N instead")]
    Variable {
        /// Name of the variable.
        name: &'static str,
        /// Value of the variable.
        value: String,
    },
    /// The number of parts is not known.
    #[error("{name} says which part this is, but not of how many: give --parts N{}", numbered(name))]
    Parts {
        /// Name of the variable with the number of the part.
        name: &'static str,
    },
    /// The array has another size than the list has parts.
    #[error(
        "--parts {parts}, but AWS_BATCH_JOB_ARRAY_SIZE is {size}: not every part would be made; give the array as many \
         jobs as parts"
    )]
    Size {
        /// Number of parts of the list.
        parts: usize,
        /// Number of jobs of the array.
        size: usize,
    },
    /// The number of the part is larger than the number of parts.
    #[error("this is part {part} of {of}: the array must be as large as the number of parts, without gaps")]
    Beyond {
        /// Number of the part, from 1.
        part: usize,
        /// Number of parts of the list.
        of: usize,
    },
    /// The array is numbered from 0, and nothing tells where it ends.
    #[error(
        "{name} is 0: number the array from 1 to the number of parts{}, since PBS does not tell its size",
        numbered(name)
    )]
    Zero {
        /// Name of the variable with the number of the part.
        name: &'static str,
    },
    /// There is a task id, but not what Slurm states about the whole array.
    #[error(
        "SLURM_ARRAY_TASK_ID is {id}, but {missing} is not set, so that nothing tells how many tasks the array has: give \
         --part {id}/N, or unset SLURM_ARRAY_TASK_ID if this is not an array job"
    )]
    Alone {
        /// Id of the task.
        id: usize,
        /// Name of the missing variable.
        missing: &'static str,
    },
    /// The task ids of an array do not number the parts of a list.
    #[error(
        "the task ids of this Slurm array ({count} from {first} to {last}, step {step}) {}; give --part \
         $SLURM_ARRAY_TASK_ID/{} instead",
        why(*parts),
        parts.map_or("N".to_owned(), |parts| parts.to_string())
    )]
    Array {
        /// Smallest id of the array.
        first: usize,
        /// Largest id of the array.
        last: usize,
        /// Difference of two consecutive ids.
        step: usize,
        /// Number of ids in the array.
        count: usize,
        /// Number of parts, if it is given.
        parts: Option<usize>,
    },
}

/// Says why the task ids of an array do not determine a share.
fn why(parts: Option<usize>) -> String {
    match parts {
        Some(parts) => {
            format!("are not those of {parts} parts: neither 1 to {parts} nor 0 to {}", parts.saturating_sub(1))
        }
        None => "have gaps, so that they do not number the parts of the list".to_owned(),
    }
}

/// Variables with the number of a task in an array of PBS Pro or OpenPBS, and of Torque.
const PBS: [(&str, &str); 2] = [("PBS_ARRAY_INDEX", "-J"), ("PBS_ARRAYID", "-t")];

/// Says how an array of PBS is submitted whose tasks number the parts of a list. Other variables need no such advice.
fn numbered(name: &str) -> String {
    let option = PBS.iter().find_map(|(variable, option)| (*variable == name).then_some(option));
    option.map(|option| format!(" (and submit the array by qsub {option} 1-N)")).unwrap_or_default()
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Share, ShareError> {
        let numbers = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((part, of)) if 1 <= part && part <= of => Ok(Share { part, of }),
            _ => Err(ShareError::Text(text.into())),
        }
    }
}

impl Share {
    /// Number of the share, from 1, and the number of all shares.
    pub fn numbers(self) -> (usize, usize) {
        (self.part, self.of)
    }

    /// Returns the share of an array job: of AWS Batch (`AWS_BATCH_JOB_ARRAY_INDEX`, from 0, of `parts` or
    /// `AWS_BATCH_JOB_ARRAY_SIZE`), of Slurm (`SLURM_ARRAY_TASK_ID`, `_MIN`, `_MAX`, `_STEP`, `_COUNT`), or of PBS
    /// (`PBS_ARRAY_INDEX`, in Torque `PBS_ARRAYID`, from 1 to `parts`, since PBS tells nothing else about the array).
    /// Returns `None` if this is not an array job.
    ///
    /// The ids of a Slurm array number the shares if they are a complete range, whatever its beginning and step. If
    /// some tasks of an earlier array are submitted again (`--array=3,6`), or if `parts` are given that the ids do not
    /// number, nothing tells which share is meant.
    ///
    /// # Errors
    /// Returns an error if the variables contradict each other.
    pub fn of_array(
        parts: Option<usize>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Share>, ShareError> {
        let number = |name: &'static str| -> Result<Option<usize>, ShareError> {
            let Some(value) = variable(name) else { return Ok(None) };
            value.trim().parse().map(Some).map_err(|_| ShareError::Variable { name, value })
        };
        let (index, of) = if let Some(index) = number("AWS_BATCH_JOB_ARRAY_INDEX")? {
            match (parts, number("AWS_BATCH_JOB_ARRAY_SIZE")?) {
                (Some(parts), Some(size)) if parts != size => return Err(ShareError::Size { parts, size }),
                (Some(of), _) | (None, Some(of)) => (index, of),
                (None, None) => return Err(ShareError::Parts { name: "AWS_BATCH_JOB_ARRAY_INDEX" }),
            }
        } else if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
            let said = |name| number(name)?.ok_or(ShareError::Alone { id, missing: name });
            let (first, count) = (said("SLURM_ARRAY_TASK_MIN")?, said("SLURM_ARRAY_TASK_COUNT")?);
            let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
            let without_gaps = first.saturating_add(step.saturating_mul(count.saturating_sub(1)));
            let last = number("SLURM_ARRAY_TASK_MAX")?.unwrap_or(without_gaps);
            let is_range = (first..=last).contains(&id)
                && (id - first) % step == 0
                && (last - first) % step == 0
                && (last - first) / step + 1 == count;
            // A single id has no step.
            let numbers = |parts: usize| parts == count && first <= 1 && (count == 1 || step == 1);
            if !is_range || parts.is_some_and(|parts| !numbers(parts)) {
                return Err(ShareError::Array { first, last, step, count, parts });
            }
            ((id - first) / step, count)
        } else {
            let mut found = PBS.iter().filter_map(|(name, _)| Some((*name, number(name).transpose()?)));
            let Some((name, id)) = found.next() else { return Ok(None) };
            let of = parts.ok_or(ShareError::Parts { name })?;
            (id?.checked_sub(1).ok_or(ShareError::Zero { name })?, of)
        };
        if index < of {
            Ok(Some(Share { part: index + 1, of }))
        } else {
            Err(ShareError::Beyond { part: index + 1, of })
        }
    }

    /// Keeps the share of a list, and drops the rest. It takes every N-th recipe: neighbours in a list are alike, so
    /// the shares are even.
    pub fn keep<T>(self, list: Vec<T>) -> Vec<T> {
        list.into_iter().skip(self.part - 1).step_by(self.of).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn of(parts: Option<usize>, variables: &[(&str, &str)]) -> Result<Option<Share>, ShareError> {
        Share::of_array(parts, |name| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn arrays_tell_their_share() {
        let share = |part, of| Ok(Some(Share { part, of }));
        assert_eq!(of(None, &[]), Ok(None));
        let aws = ("AWS_BATCH_JOB_ARRAY_INDEX", "3");
        assert_eq!(of(Some(4), &[aws]), share(4, 4));
        assert_eq!(of(None, &[aws, ("AWS_BATCH_JOB_ARRAY_SIZE", "10")]), share(4, 10));
        assert_eq!(of(None, &[aws]), Err(ShareError::Parts { name: aws.0 }));
        assert_eq!(of(Some(3), &[aws]), Err(ShareError::Beyond { part: 4, of: 3 }));
        let slurm = [("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_COUNT", "4")];
        assert!(of(None, &slurm).is_err(), "with a step that is not said");
        assert_eq!(of(None, &[&slurm[..], &[("SLURM_ARRAY_TASK_STEP", "2")]].concat()), share(4, 4));
        assert!(matches!(of(Some(3), &[("SLURM_ARRAY_TASK_ID", "x")]), Err(ShareError::Variable { .. })));
        let size = [("AWS_BATCH_JOB_ARRAY_SIZE", "10"), aws];
        assert_eq!(of(Some(10), &size), share(4, 10));
        assert_eq!(of(Some(8), &size), Err(ShareError::Size { parts: 8, size: 10 }));
    }

    /// Returns the share of the task `id` in a Slurm array with these ids.
    fn slurm(parts: Option<usize>, ids: &[usize], step: usize, id: usize) -> Result<Option<Share>, ShareError> {
        let (first, last) = (ids.iter().min().unwrap(), ids.iter().max().unwrap());
        let all = [("ID", id), ("MIN", *first), ("MAX", *last), ("COUNT", ids.len()), ("STEP", step)];
        Share::of_array(parts, |name| {
            let name = name.strip_prefix("SLURM_ARRAY_TASK_")?;
            all.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
        })
    }

    #[test]
    fn slurm_arrays_cover_the_list_or_are_refused() {
        // ids, step, parts if given; true if they determine shares
        let cases: [(&[usize], usize, Option<usize>, bool); 16] = [
            (&[1, 2, 3, 4], 1, None, true),
            (&[0, 1, 2], 1, None, true),
            (&[5, 6, 7, 8], 1, None, true),
            (&[1, 3, 5, 7, 9], 2, None, true),
            (&[1], 1, None, true),
            (&[5], 1, None, true),
            (&[1, 2, 3, 4], 1, Some(4), true),
            (&[0, 1, 2, 3], 1, Some(4), true),
            (&[1], 1, Some(1), true),
            (&[3, 6], 1, None, false),
            (&[1, 2, 4], 1, None, false),
            (&[3, 6], 1, Some(8), false),
            (&[5], 1, Some(8), false),
            (&[1, 2, 3, 4], 1, Some(8), false),
            (&[2, 3, 4, 5], 1, Some(4), false),
            (&[1, 3, 5, 7], 2, Some(4), false),
        ];
        for (ids, step, parts, told) in cases {
            let shares: Vec<_> = ids.iter().map(|id| slurm(parts, ids, step, *id)).collect();
            if told {
                let of = ids.len();
                let want: Vec<_> = (1..=of).map(|part| Ok(Some(Share { part, of }))).collect();
                assert_eq!(shares, want, "{ids:?} {parts:?}");
            } else {
                for share in shares {
                    let text = share.unwrap_err().to_string();
                    let advice = format!("--part $SLURM_ARRAY_TASK_ID/{}", parts.map_or("N".into(), |n| n.to_string()));
                    assert!(text.contains(&advice), "{ids:?} {parts:?}: {text}");
                }
            }
        }
        // an id that is not of this array: variables of two jobs
        assert!(slurm(None, &[1, 2, 3], 1, 7).is_err());
        assert!(slurm(None, &[5, 6, 7], 1, 1).is_err());
        for parts in [None, Some(8)] {
            let text = of(parts, &[("SLURM_ARRAY_TASK_ID", "3")]).unwrap_err().to_string();
            assert!(text.contains("SLURM_ARRAY_TASK_MIN is not set") && text.contains("--part 3/N"), "{text}");
        }
    }

    #[test]
    fn arrays_of_pbs_are_numbered_from_one() {
        for name in ["PBS_ARRAY_INDEX", "PBS_ARRAYID"] {
            let shares = ["1", "2", "3"].map(|id| of(Some(3), &[(name, id)]));
            assert_eq!(shares, [1, 2, 3].map(|part| Ok(Some(Share { part, of: 3 }))));
            assert_eq!(of(Some(3), &[(name, "4")]), Err(ShareError::Beyond { part: 4, of: 3 }));
            assert_eq!(of(Some(3), &[(name, "0")]), Err(ShareError::Zero { name }));
            assert!(matches!(of(Some(3), &[(name, "3[]")]), Err(ShareError::Variable { .. })));
            let advice = of(None, &[(name, "1")]).unwrap_err().to_string();
            let option = if name == "PBS_ARRAYID" { "qsub -t 1-N" } else { "qsub -J 1-N" };
            assert!(advice.contains(name) && advice.contains("--parts N") && advice.contains(option), "{advice}");
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "1", "0/3", "4/3", "a/b", "1/0", "-1/3", "1/3/5", "99999999999999999999/3"] {
            assert_eq!(text.parse::<Share>(), Err(ShareError::Text(text.into())));
        }
    }

    proptest! {
        #[test]
        fn shares_make_the_whole(length in 0_usize..50, of in 1_usize..9) {
            let mut all: Vec<usize> = Vec::new();
            let mut sizes = Vec::new();
            for part in 1..=of {
                let share = format!("{part}/{of}").parse::<Share>().unwrap().keep((0..length).collect());
                sizes.push(share.len());
                all.extend(share);
            }
            all.sort_unstable();
            prop_assert_eq!(all, (0..length).collect::<Vec<_>>());
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}
