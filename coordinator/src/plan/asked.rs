//! Requests that have no results at all. They are reported, so that their absence is not taken for success.

use super::jobfile::Job;
use super::selection::{ALL, Selection};
use edp_engine::metadata::groupings::Grouping;
use edp_protocol::{Frequency, GridKind};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the requests that have no input at any step, in the words of the user: a line of the job file, or a dataset
/// that was named, at a frequency if that was named as well. [`ALL`] requests whatever exists.
///
/// `without_input` contains the positions, in the list of jobs, of the jobs without input.
pub fn unanswered(
    jobs: &[Job],
    without_input: &BTreeSet<usize>,
    job_file: &str,
    selection: &Selection,
    groupings: &BTreeMap<GridKind, Vec<Grouping>>,
) -> Vec<String> {
    // Several jobs may belong to one request, for example on both grids. Any of them answers it.
    let mut asked: Vec<(String, bool)> = Vec::new();
    for (at, job) in jobs.iter().enumerate() {
        let Some(name) = name(job, job_file, selection, groupings) else { continue };
        let has_input = !without_input.contains(&at);
        match asked.iter_mut().find(|(other, _)| *other == name) {
            Some((_, answered)) => *answered |= has_input,
            None => asked.push((name, has_input)),
        }
    }
    asked.into_iter().filter(|(_, answered)| !answered).map(|(name, _)| name).collect()
}

/// Returns the request to which a job belongs, or `None` if it was not asked for by itself.
fn name(
    job: &Job,
    job_file: &str,
    selection: &Selection,
    groupings: &BTreeMap<GridKind, Vec<Grouping>>,
) -> Option<String> {
    if job.line > 0 {
        return Some(format!("{job_file} line {}", job.line));
    }
    let dataset = &groupings.get(&job.grid)?.get(job.grouping)?.filename;
    let is_named = |name: &&String| !name.trim().eq_ignore_ascii_case(ALL) && name.trim().eq_ignore_ascii_case(dataset);
    selection.datasets.iter().find(is_named)?;
    Some(if selection.frequencies.is_empty() {
        dataset.clone()
    } else {
        format!("{dataset} ({})", word(job.frequency))
    })
}

/// Returns a frequency as it is written on the command line.
fn word(frequency: Frequency) -> &'static str {
    match frequency {
        Frequency::Day => "day",
        Frequency::Month => "month",
        Frequency::Snapshot => "snap",
        Frequency::TimeInvariant => "time-invariant",
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{height, job, velocity};
    use super::*;
    use Frequency::{Day, Month};
    use GridKind::{Latlon, Native};

    #[test]
    fn what_was_named_needs_an_answer() {
        let groupings = [(Native, vec![height(), velocity()]), (Latlon, vec![height(), velocity()])].into();
        let jobs =
            [job(0, 0, Native, Month), job(0, 0, Latlon, Month), job(0, 0, Native, Day), job(0, 1, Native, Month)];
        let find = |datasets: &[&str], frequencies: &[Frequency], without: &[usize]| {
            let datasets = datasets.iter().map(|name| (*name).to_owned()).collect();
            let selection = Selection { datasets, frequencies: frequencies.to_vec(), ..Selection::default() };
            unanswered(&jobs, &without.iter().copied().collect(), "", &selection, &groupings)
        };
        let both = ["sea_surface_height", "OCEAN_VELOCITY"];
        assert!(find(&both, &[], &[0, 1]).is_empty(), "there are daily means");
        assert_eq!(find(&both, &[], &[0, 1, 2]), ["SEA_SURFACE_HEIGHT"]);
        assert_eq!(find(&both, &[Day, Month], &[0, 1, 3]), ["SEA_SURFACE_HEIGHT (month)", "OCEAN_VELOCITY (month)"]);
        assert!(find(&both, &[Day, Month], &[0]).is_empty(), "the other grid has them");
        assert!(find(&["all"], &[Month], &[0, 1, 2, 3]).is_empty());
        assert_eq!(find(&["all", "OCEAN_VELOCITY"], &[], &[0, 1, 2, 3]), ["OCEAN_VELOCITY"]);
        let lines = [job(3, 0, Native, Month), job(4, 0, Native, Day)];
        let selection = Selection::default();
        assert_eq!(unanswered(&lines, &[1].into(), "jobs.txt", &selection, &groupings), ["jobs.txt line 4"]);
    }
}
