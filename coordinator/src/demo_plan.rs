//! The demo's model run and what is needed to plan with it, for tests.

use crate::plan::jobfile;
use crate::plan::preparation::{PlanRules, PreparedPlan, RequestedJobs};
use edp_demo::Demo;
use edp_engine::resources::{SharedInputs, SharedLocations};
use edp_protocol::recipe::Roots;
use edp_store::Stores;
use std::path::{Path, PathBuf};

/// Number of cells along the side of a tile, the smallest that a demo may have.
const SIZE: usize = 6;

/// A demo in a directory of its own.
pub(crate) struct DemoPlan {
    pub(crate) demo: Demo,
    /// Root of the results, at first those of the demo.
    pub(crate) source: PathBuf,
    directory: tempfile::TempDir,
}

impl DemoPlan {
    pub(crate) fn new() -> DemoPlan {
        let directory = tempfile::tempdir().unwrap();
        let demo = edp_demo::generate(directory.path(), SIZE).unwrap();
        DemoPlan { source: demo.results.clone(), demo, directory }
    }

    /// Returns everything that the job file asks for.
    pub(crate) fn requested(&self) -> RequestedJobs {
        let text = String::from_utf8(edp_files::regular::read(&self.demo.jobs, 1 << 20).unwrap()).unwrap();
        let (jobs, notes) = jobfile::parse("jobs.txt", &text, false).unwrap();
        assert!(!jobs.is_empty() && notes.is_empty(), "{notes:?}");
        RequestedJobs { job_file: "jobs.txt".into(), jobs, ..RequestedJobs::default() }
    }

    pub(crate) fn prepared(&self, rules: PlanRules) -> PreparedPlan {
        let text = |path: &Path| path.display().to_string();
        let locations = SharedLocations {
            configuration: text(&self.demo.configuration),
            grid: text(&self.demo.grid),
            metadata: text(&self.demo.metadata),
            factors: Some(text(&self.demo.factors)),
        };
        let (shared, warnings) = SharedInputs::load(locations, &Stores::default()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let roots = Roots { source: text(&self.source), destination: text(&self.directory.path().join("granules")) };
        let rules = PlanRules { production_date: "1970-01-01T00:00:00Z".into(), ..rules };
        PreparedPlan::new(rules, self.requested(), roots, shared, &Stores::default())
    }
}
