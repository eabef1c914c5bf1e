//! Jobs without a job file: datasets by name, grids, frequencies, and a window in time.

use super::jobfile::{Job, Steps};
use edp_engine::metadata::groupings::Grouping;
use edp_protocol::{Frequency, GridKind};
use jiff::civil::{Date, DateTime};
use std::collections::BTreeMap;
use std::fmt;

/// The word that selects every dataset.
pub const ALL: &str = "all";

/// The datasets that are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Names of datasets (`filename` of their groupings, in upper or lower case), or [`ALL`].
    pub datasets: Vec<String>,
    /// Grids to select; both if none is named.
    pub grids: Vec<GridKind>,
    /// Frequencies to select; if none is named, all that each dataset is offered at.
    pub frequencies: Vec<Frequency>,
}

/// A range of days for the centres of granules. Both days are part of it; one that is not given sets no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// The first day of the window.
    pub from: Option<Date>,
    /// The last day of the window.
    pub to: Option<Date>,
}

/// The reason why nothing can be selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// There is no dataset of that name.
    #[error(
        "there is no dataset '{name}' on the {} grid; the datasets are {}, or all of them: {ALL}",
        on(grids),
        names(valid)
    )]
    Unknown {
        /// The name as it was given.
        name: String,
        /// The grids on which it was looked for.
        grids: Vec<GridKind>,
        /// Names of the existing datasets.
        valid: Vec<String>,
    },
    /// No dataset is offered at these frequencies.
    #[error("none of the datasets asked for is offered as {} on the {} grid", at(frequencies), on(grids))]
    NotOffered {
        /// The frequencies that were asked for.
        frequencies: Vec<Frequency>,
        /// The grids that were asked for.
        grids: Vec<GridKind>,
    },
    /// The window ends before it begins.
    #[error("the time from {from} to {to} ends before it begins")]
    Backwards {
        /// The first day of the window.
        from: Date,
        /// The last day of the window.
        to: Date,
    },
}

fn on(grids: &[GridKind]) -> String {
    grids.iter().map(|grid| grid.as_str()).collect::<Vec<_>>().join(" or ")
}

fn at(frequencies: &[Frequency]) -> String {
    match frequencies {
        [] => "a mean or snapshot".into(),
        _ => frequencies.iter().map(|frequency| frequency.job_word()).collect::<Vec<_>>().join(" or "),
    }
}

fn names(valid: &[String]) -> String {
    if valid.is_empty() { "none".into() } else { valid.join(", ") }
}

impl Selection {
    /// Returns the jobs: grid by grid, and dataset by dataset in the order of the groupings, each with all existing
    /// steps.
    ///
    /// A dataset that is named is selected at the frequencies that are named, whether it is offered at them or not.
    /// With [`ALL`], or without a named frequency, the frequencies are those that its grouping offers (all, if it does
    /// not state any).
    ///
    /// # Errors
    /// Returns an error if a name belongs to no dataset on any of the grids, or if nothing is selected.
    pub fn jobs(&self, groupings: &BTreeMap<GridKind, Vec<Grouping>>) -> Result<Vec<Job>, SelectionError> {
        let grids = match self.grids[..] {
            [] => GridKind::ALL.to_vec(),
            _ => self.grids.clone(),
        };
        let on_grid = |grid: &GridKind| groupings.get(grid).map_or(&[][..], Vec::as_slice);
        let is = |name: &str, grouping: &Grouping| name.trim().eq_ignore_ascii_case(&grouping.filename);
        let is_all = |name: &str| name.trim().eq_ignore_ascii_case(ALL);
        for name in self.datasets.iter().filter(|name| !is_all(name)) {
            if !grids.iter().flat_map(on_grid).any(|grouping| is(name, grouping)) {
                let mut valid: Vec<String> = Vec::new();
                for grouping in grids.iter().flat_map(on_grid) {
                    if !valid.contains(&grouping.filename) {
                        valid.push(grouping.filename.clone());
                    }
                }
                return Err(SelectionError::Unknown { name: name.clone(), grids, valid });
            }
        }
        let mut jobs: Vec<Job> = Vec::new();
        for grid in &grids {
            for (index, grouping) in on_grid(grid).iter().enumerate() {
                let named = self.datasets.iter().any(|name| is(name, grouping));
                if !named && !self.datasets.iter().any(|name| is_all(name)) {
                    continue;
                }
                for frequency in Frequency::ALL {
                    let asked = self.frequencies.contains(&frequency);
                    let wanted = match self.frequencies.is_empty() {
                        true => grouping.offers(frequency),
                        false => asked && (named || grouping.offers(frequency)),
                    };
                    let job = Job { line: 0, grouping: index, grid: *grid, frequency, steps: Steps::All };
                    if wanted && !jobs.contains(&job) {
                        jobs.push(job);
                    }
                }
            }
        }
        if jobs.is_empty() {
            return Err(SelectionError::NotOffered { frequencies: self.frequencies.clone(), grids });
        }
        Ok(jobs)
    }
}

impl Window {
    /// Makes a window of days.
    ///
    /// # Errors
    /// Returns an error if the window ends before it begins.
    pub fn new(from: Option<Date>, to: Option<Date>) -> Result<Window, SelectionError> {
        match (from, to) {
            (Some(from), Some(to)) if to < from => Err(SelectionError::Backwards { from, to }),
            _ => Ok(Window { from, to }),
        }
    }

    /// Returns true if the window has no limit.
    pub fn is_open(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Returns true if a granule with this centre is in the window.
    pub fn contains(&self, center: DateTime) -> bool {
        let day = center.date();
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.to) {
            (None, None) => f.write_str("at any time"),
            (Some(from), None) => write!(f, "from {from} on"),
            (None, Some(to)) => write!(f, "up to {to}"),
            (Some(from), Some(to)) => write!(f, "from {from} to {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{height, velocity};
    use super::*;
    use Frequency::{Day, Month, Snapshot, TimeInvariant};
    use GridKind::{Latlon, Native};
    use jiff::civil::{date, datetime};

    /// Returns groupings: SEA_SURFACE_HEIGHT at all frequencies on both grids, OCEAN_VELOCITY without snapshots, and
    /// GEOMETRY without time.
    fn groupings() -> BTreeMap<GridKind, Vec<Grouping>> {
        let fixed = Grouping { filename: "GEOMETRY".into(), frequencies: Vec::new(), time_invariant: true, ..height() };
        [(Native, vec![height(), velocity(), fixed]), (Latlon, vec![velocity(), height()])].into()
    }

    fn jobs(
        datasets: &[&str],
        grids: &[GridKind],
        frequencies: &[Frequency],
    ) -> Result<Vec<(GridKind, usize, Frequency)>, SelectionError> {
        let datasets = datasets.iter().map(|&name| name.to_owned()).collect();
        let selection = Selection { datasets, grids: grids.to_vec(), frequencies: frequencies.to_vec() };
        let jobs = selection.jobs(&groupings())?;
        assert!(jobs.iter().all(|job| job.line == 0 && job.steps == Steps::All));
        Ok(jobs.into_iter().map(|job| (job.grid, job.grouping, job.frequency)).collect())
    }

    #[test]
    fn datasets_are_found_by_name_on_each_grid() {
        let found = jobs(&["sea_surface_height"], &[], &[Month]).unwrap();
        assert_eq!(found, [(Native, 0, Month), (Latlon, 1, Month)]);
        let found =
            jobs(&["SEA_SURFACE_HEIGHT", "Sea_Surface_Height"], &[Latlon, Latlon], &[Snapshot, Day, Day]).unwrap();
        assert_eq!(found, [(Latlon, 1, Day), (Latlon, 1, Snapshot)]);
        assert_eq!(jobs(&["OCEAN_VELOCITY"], &[Latlon], &[]).unwrap(), [(Latlon, 0, Day), (Latlon, 0, Month)]);
    }

    #[test]
    fn all_is_what_is_offered() {
        assert_eq!(jobs(&["all"], &[Native], &[Snapshot]).unwrap(), [(Native, 0, Snapshot)]);
        assert_eq!(jobs(&["ALL"], &[], &[Month]).unwrap().len(), 4);
        assert_eq!(jobs(&["all"], &[], &[]).unwrap().len(), 2 * (3 + 2) + 1);
        assert_eq!(jobs(&["all"], &[], &[TimeInvariant]).unwrap(), [(Native, 2, TimeInvariant)]);
        assert_eq!(jobs(&["GEOMETRY"], &[], &[]).unwrap(), [(Native, 2, TimeInvariant)]);
        // A dataset named with a frequency is selected although it is not offered; the plan warns of it.
        assert_eq!(jobs(&["OCEAN_VELOCITY"], &[Native], &[Snapshot]).unwrap(), [(Native, 1, Snapshot)]);
    }

    #[test]
    fn what_cannot_be_selected_is_an_error_that_helps() {
        let error = jobs(&["all", "OCEAN_VELOCITIES"], &[Native], &[]).unwrap_err().to_string();
        let want = "there is no dataset 'OCEAN_VELOCITIES' on the native grid; \
            the datasets are SEA_SURFACE_HEIGHT, OCEAN_VELOCITY, GEOMETRY, or all of them: all";
        assert_eq!(error, want);
        let error = jobs(&["GEOMETRY"], &[Latlon], &[]).unwrap_err();
        assert!(matches!(error, SelectionError::Unknown { .. }));
        let error = jobs(&["all"], &[Latlon], &[TimeInvariant]).unwrap_err().to_string();
        assert_eq!(error, "none of the datasets asked for is offered as TIME-INVARIANT on the latlon grid");
        assert!(Selection { datasets: vec!["all".into()], ..Selection::default() }.jobs(&BTreeMap::new()).is_err());
    }

    #[test]
    fn a_window_has_whole_days() {
        let (first, last) = (date(1992, 2, 1), date(1992, 2, 29));
        let window = Window::new(Some(first), Some(last)).unwrap();
        for (center, within) in [
            (datetime(1992, 1, 31, 23, 59, 59, 0), false),
            (datetime(1992, 2, 1, 0, 0, 0, 0), true),
            (datetime(1992, 2, 29, 23, 59, 59, 0), true),
            (datetime(1992, 3, 1, 0, 0, 0, 0), false),
        ] {
            assert_eq!(window.contains(center), within, "{center}");
            assert!(Window::default().contains(center));
        }
        assert!(Window::new(Some(first), None).unwrap().contains(datetime(2017, 1, 1, 0, 0, 0, 0)));
        assert!(!Window::new(None, Some(last)).unwrap().contains(datetime(2017, 1, 1, 0, 0, 0, 0)));
        assert!(Window::new(Some(first), Some(first)).is_ok() && Window::new(Some(last), Some(first)).is_err());
        assert_eq!(window.to_string(), "from 1992-02-01 to 1992-02-29");
    }
}
