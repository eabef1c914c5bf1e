//! Tests of the rules of the plan, one for each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::fixture::{Planned, Production, job, plan};
use super::jobfile::{Job, Steps};
use super::{Request, Severity};
use edp_protocol::recipe::format_list;
use edp_protocol::{Frequency, GridKind, Mode};
use serde_json::Value;

use Frequency::{Day, Month, Snapshot};
use GridKind::{Latlon, Native};
use Mode::{Corrected, Edp2024, Edp2026};

fn planned(production: &Production, mode: Mode, jobs: Vec<Job>) -> Planned {
    with(production, mode, jobs, |_| ()).unwrap()
}

fn with(
    production: &Production,
    mode: Mode,
    jobs: Vec<Job>,
    change: impl FnOnce(&mut Request<'_>),
) -> Result<Planned, String> {
    let inventory = production.inventory();
    let mut request = production.request(&inventory, mode, jobs);
    change(&mut request);
    plan(&request).map_err(|error| error.to_string())
}

fn granules(planned: &Planned) -> Vec<&str> {
    planned.recipes.iter().map(|recipe| edp_protocol::name::base_name(&recipe.granule)).collect()
}

fn notes(planned: &Planned) -> Vec<String> {
    assert!(planned.notes.iter().all(|note| note.severity == Severity::Warning));
    planned.notes.iter().map(|note| note.text.clone()).collect()
}

#[test]
fn a_recipe_says_all_there_is_to_say() {
    let production = Production::new("mon_mean", &["UVEL", "VVEL", "WVELMASS"], &[1428]);
    let planned = planned(&production, Corrected, vec![job(1, 1, Latlon, Month)]);
    assert!(planned.notes.is_empty());
    let list: Value = serde_json::from_str(&format_list(&planned.recipes).unwrap()).unwrap();
    let pair = |variable: &str| {
        let stem = production.stem("mon_mean", variable, 1428);
        serde_json::json!([format!("{stem}.data"), format!("{stem}.meta")])
    };
    let mut found = list[0].clone();
    let own = found.as_object_mut().unwrap().shift_remove("recipe").unwrap();
    let want = serde_json::json!({
        "granule": "out/V4r4/latlon/mon_mean/OCEAN_VELOCITY/OCEAN_VELOCITY_mon_mean_1992-02_ECCO_V4r4_latlon_0p50deg.nc",
        "variables": {
            "EVEL": [pair("UVEL"), pair("VVEL")],
            "NVEL": [pair("UVEL"), pair("VVEL")],
            "WVEL": [pair("WVELMASS")],
        },
        "ecco_cfg_loc": "config.yaml",
        "ecco_grid_loc": "grid",
        "ecco_mapping_factors_loc": "factors",
        "ecco_metadata_loc": "metadata",
        "dynamic_metadata": {
            "name": "ocean velocity",
            "dimension": "3D",
            "time_coverage_start": "1992-02-01T00:00:00",
            "time_coverage_end": "1992-03-01T00:00:00",
            "time_coverage_center": "1992-02-15T12:00:00",
            "time_long_name": "center time of averaging period",
            "time_coverage_duration": "P1M",
            "time_coverage_resolution": "P1M",
            "field_components": {"EVEL": {"x": "UVEL", "y": "VVEL"}, "NVEL": {"x": "UVEL", "y": "VVEL"}},
            "field_orientations": {"EVEL": "zonal", "NVEL": "meridional"},
            "summary": "This dataset contains monthly-averaged ocean velocity interpolated to a grid.",
        },
    });
    assert_eq!(found.to_string(), want.to_string()); // the order of keys too
    let recipe = &planned.recipes[0];
    recipe.check_identity().unwrap();
    let plan = recipe.plan().unwrap();
    assert_eq!((plan.mode, plan.time_units.as_str()), (Corrected, "hours since 1992-01-01T12:00:00"));
    assert_eq!(plan.inputs.len(), 6);
    assert_eq!(plan.inputs["V4r4/diags/UVEL_mon_mean/UVEL_mon_mean.0000001428.data"].size, 16);
    assert_eq!(
        plan.inputs["V4r4/diags/UVEL_mon_mean/UVEL_mon_mean.0000001428.meta"].size,
        super::fixture::HEADER.len() as u64
    );
    assert!(own.get("missing").is_none());
    assert_eq!(own["production_date"], "2024-11-05T06:07:08Z");
    assert_eq!(own["roots"]["destination"], "out");
}

#[test]
fn recipes_come_job_by_job_and_step_by_step() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[2172, 732, 1428]);
    let listed = Job { steps: Steps::Listed(vec![732, 2172]), ..job(5, 0, Native, Month) };
    let planned = planned(&production, Corrected, vec![job(2, 0, Latlon, Month), listed]);
    let name = |date, grid| format!("SEA_SURFACE_HEIGHT_mon_mean_{date}_ECCO_V4r4_{grid}.nc");
    let want = [
        name("1992-01", "latlon_0p50deg"),
        name("1992-02", "latlon_0p50deg"),
        name("1992-03", "latlon_0p50deg"),
        name("1992-01", "native_llc0090"),
        name("1992-03", "native_llc0090"),
    ];
    assert_eq!(granules(&planned), want);
    assert!(planned.notes.is_empty());
    let digests = |i: usize| planned.recipes[i].plan().unwrap().digests.factors.is_some();
    assert!(digests(0) && !digests(4));
    assert_eq!(planned.recipes[4].ecco_mapping_factors_loc.as_deref(), Some("factors"));
}

#[test]
fn the_mode_decides_names_times_and_words() {
    let production = Production::new("day_mean", &["SSH", "ETAN"], &[227_892]);
    for (word, step) in [("day_snap", 12), ("mon_snap", 732), ("snap", 13)] {
        production.write(word, "SSH", step);
        production.write(word, "ETAN", step);
    }
    let jobs = || vec![job(1, 0, Native, Day), job(2, 0, Native, Snapshot)];
    let corrected = planned(&production, Corrected, jobs());
    let want = [
        "SEA_SURFACE_HEIGHT_day_mean_2017-12-30_ECCO_V4r4_native_llc0090.nc",
        "SEA_SURFACE_HEIGHT_snap_1992-01-02T000000_ECCO_V4r4_native_llc0090.nc",
        "SEA_SURFACE_HEIGHT_snap_1992-01-02T010000_ECCO_V4r4_native_llc0090.nc",
        "SEA_SURFACE_HEIGHT_snap_1992-02-01T000000_ECCO_V4r4_native_llc0090.nc",
    ];
    assert_eq!(granules(&corrected), want);
    let snapshot = &corrected.recipes[1].dynamic_metadata;
    assert_eq!(snapshot.time_coverage_start, snapshot.time_coverage_end);
    assert_eq!(snapshot.time_long_name.as_deref(), Some("snapshot time"));
    assert_eq!(snapshot.time_coverage_duration.as_deref(), Some("PT0S"));
    let edp = planned(&production, Edp2024, jobs());
    let want = [
        "SEA_SURFACE_HEIGHT_day_mean_2017-12-31_ECCO_V4r4_native_llc0090.nc",
        "SEA_SURFACE_HEIGHT_day_snap_1992-01-02_ECCO_V4r4_native_llc0090.nc",
    ];
    assert_eq!(granules(&edp), want);
    assert_eq!(edp.recipes[0].dynamic_metadata.time_coverage_start.as_deref(), Some("2017-12-30T12:00:00"));
    let units = with(&production, Edp2024, jobs(), |r| r.edp_time_units = Some("hours since 1992-01-01 00:00:00"));
    assert_eq!(units.unwrap().recipes[0].plan().unwrap().time_units, "hours since 1992-01-01");
    assert!(with(&production, Edp2024, jobs(), |r| r.edp_time_units = None).unwrap_err().contains("time coordinate"));
}

#[test]
fn a_variable_without_input_at_a_step_is_listed_as_missing() {
    let production = Production::new("mon_mean", &["UVEL", "VVEL", "WVELMASS"], &[732, 1428]);
    production.remove("mon_mean", "VVEL", 1428);
    let jobs = || vec![job(1, 1, Latlon, Month)];
    let held = planned(&production, Corrected, jobs());
    let recipe = &held.recipes[1];
    assert_eq!(recipe.variables.keys().collect::<Vec<_>>(), ["WVEL"]);
    assert_eq!(recipe.plan().unwrap().missing, ["EVEL", "NVEL"]);
    assert_eq!(recipe.plan().unwrap().inputs.len(), 2);
    let want = "jobs.txt line 1: VVEL (for EVEL, NVEL) has no input at 1 steps: 1428; these granules are held";
    assert_eq!(notes(&held), [want]);
    let partial = with(&production, Corrected, jobs(), |r| r.allow_partial = true).unwrap();
    assert!(notes(&partial)[0].ends_with("made without it"));
    // A recipe that lacks nothing is the same in both, so that an existing granule counts as its own.
    assert_eq!(partial.recipes[0], held.recipes[0]);
    assert!(!held.recipes[1].plan().unwrap().allows_partial() && partial.recipes[1].plan().unwrap().allows_partial());
    let edp = with(&production, Edp2024, jobs(), |r| r.allow_partial = true).unwrap();
    assert_eq!(edp.recipes, planned(&production, Edp2024, jobs()).recipes);
    assert!(notes(&planned(&production, Edp2024, jobs()))[0].ends_with("made without it"));
}

#[test]
fn a_variable_without_any_file_is_a_warning_once_and_an_error_if_strict() {
    let production = Production::new("mon_mean", &["SSH"], &[732, 1428]);
    let jobs = || vec![job(1, 0, Native, Month)];
    let found = planned(&production, Corrected, jobs());
    assert_eq!(notes(&found), ["jobs.txt line 1: ETAN has no file at any step; these granules are held"]);
    assert_eq!(found.recipes.len(), 2);
    assert_eq!(found.recipes[0].plan().unwrap().missing, ["ETAN"]);
    assert_eq!(
        with(&production, Corrected, jobs(), |r| r.strict = true).unwrap_err(),
        "jobs.txt line 1: ETAN has no file at any step"
    );
    let none = planned(&production, Corrected, vec![job(1, 0, Native, Day)]);
    assert!(none.recipes.is_empty());
    assert!(notes(&none)[0].ends_with("SSH has no file at any step; nothing is made"));
}

#[test]
fn a_step_asked_for_that_is_absent_is_a_warning_and_an_error_if_strict() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    let jobs = || vec![Job { steps: Steps::Listed(vec![732, 1428]), ..job(1, 0, Native, Month) }];
    let found = planned(&production, Corrected, jobs());
    assert_eq!(found.recipes.len(), 1);
    assert_eq!(notes(&found), ["jobs.txt line 1: no results at steps that are asked for: 1428; left out"]);
    assert!(with(&production, Corrected, jobs(), |r| r.strict = true).unwrap_err().ends_with("asked for: 1428"));
    let nothing = vec![Job { steps: Steps::Listed(vec![]), ..job(7, 0, Native, Month) }];
    assert!(notes(&planned(&production, Corrected, nothing))[0].starts_with("jobs.txt line 7: the list"));
}

#[test]
fn gaps_are_counted_in_days_and_months_of_the_calendar() {
    // January, February, May 1992
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732, 1428, 3636]);
    for mode in [Corrected, Edp2024] {
        let found = planned(&production, mode, vec![job(1, 0, Native, Month)]);
        assert_eq!(notes(&found), ["jobs.txt line 1: no results for 2 months in between: 1992-03 to 1992-04"]);
    }
    // the first day lasts 12 hours
    let production = Production::new("day_mean", &["SSH", "ETAN"], &[12, 36, 84]);
    let found = planned(&production, Corrected, vec![job(1, 0, Native, Day)]);
    assert_eq!(notes(&found), ["jobs.txt line 1: no results for 1 days in between: 1992-01-03"]);
    let production = Production::new("mon_snap", &["SSH", "ETAN"], &[732, 2172]);
    let found = planned(&production, Corrected, vec![job(1, 0, Native, Snapshot)]);
    assert_eq!(notes(&found), ["jobs.txt line 1: no results for 1 months in between: 1992-03"]);
}

#[test]
fn a_grouping_that_is_not_there_or_not_offered() {
    let production = Production::new("snap", &["UVEL", "VVEL", "WVELMASS"], &[12]);
    let jobs = || vec![job(3, 2, Latlon, Month), job(4, 1, Latlon, Snapshot)];
    let error = with(&production, Corrected, jobs(), |_| ()).unwrap_err();
    assert_eq!(error, "jobs.txt line 3: there is no latlon grouping 2; the valid range is 0 to 1");
    let found = with(&production, Corrected, jobs(), |r| r.keep_going = true).unwrap();
    assert_eq!(found.recipes.len(), 1);
    let notes = notes(&found);
    assert!(notes[0].ends_with("the valid range is 0 to 1; left out"));
    assert_eq!(notes[1], "jobs.txt line 4: the grouping 'ocean velocity' is not offered as SNAP; made all the same");
}

#[test]
fn two_recipes_for_one_granule_are_an_error_naming_both() {
    let production = Production::new("day_mean", &["SSH", "ETAN"], &[227_892, 227_904]);
    let jobs = || vec![job(1, 0, Native, Day)];
    assert_eq!(planned(&production, Corrected, jobs()).recipes.len(), 2);
    for edp in [Edp2024, Edp2026] {
        let error = with(&production, edp, jobs(), |_| ()).unwrap_err();
        assert!(
            error.starts_with("jobs.txt line 1 at step 227892 and jobs.txt line 1 at step 227904 both make "),
            "{edp}: {error}"
        );
        let found = with(&production, edp, jobs(), |r| r.keep_going = true).unwrap();
        assert_eq!(found.recipes.len(), 1);
        assert_eq!(found.recipes[0].dynamic_metadata.time_coverage_end.as_deref(), Some("2017-12-31T12:00:00"));
        assert!(notes(&found)[0].ends_with("the later one is kept"));
    }
    let twice = vec![job(1, 0, Native, Day), job(2, 0, Native, Day)];
    let error = with(&production, Corrected, twice, |r| r.keep_going = true).unwrap_err();
    assert!(error.contains("jobs.txt line 1 at step 227892 and jobs.txt line 2 at step 227892"), "{error}");
}

#[test]
fn results_that_are_there_twice_are_an_error_when_asked_for() {
    let production = Production::new("day_snap", &["SSH", "ETAN"], &[12, 36]);
    production.write("snap", "SSH", 36);
    let jobs = || vec![job(1, 0, Native, Snapshot)];
    let error = with(&production, Corrected, jobs(), |_| ()).unwrap_err();
    assert!(error.contains("SSH_day_snap.0000000036.data and ") && error.contains("SSH_snap.0000000036.data"));
    assert_eq!(with(&production, Corrected, jobs(), |r| r.keep_going = true).unwrap().recipes.len(), 1);
    assert_eq!(planned(&production, Edp2024, jobs()).recipes.len(), 2);
    let other = vec![Job { steps: Steps::Listed(vec![12]), ..job(1, 0, Native, Snapshot) }];
    assert_eq!(planned(&production, Corrected, other).recipes.len(), 1);
}

#[test]
fn times_that_cannot_be_are_errors() {
    let production = Production::new("day_mean", &["SSH", "ETAN"], &[0, 12, 9_999_999_999]);
    let jobs = || vec![job(1, 0, Native, Day)];
    let error = with(&production, Corrected, jobs(), |_| ()).unwrap_err();
    assert!(error.contains("step 0 is the AVG_DAY mean of nothing"), "{error}");
    assert!(error.ends_with("(and 1 more steps like this)"), "{error}");
    assert_eq!(with(&production, Corrected, jobs(), |r| r.keep_going = true).unwrap().recipes.len(), 1);
    let edp = with(&production, Edp2024, jobs(), |r| r.keep_going = true).unwrap();
    assert_eq!(edp.recipes.len(), 2);
    assert!(notes(&edp).iter().any(|note| note.contains("start before the model does") && note.contains("steps 0;")));
}

#[test]
fn times_after_the_end_and_between_units_are_warnings() {
    let production = Production::new("day_mean", &["SSH", "ETAN"], &[13, 227_928]);
    let listed = Job { steps: Steps::Listed(vec![13, 227_928]), ..job(1, 0, Native, Day) };
    let found = planned(&production, Corrected, vec![listed]);
    let notes = notes(&found);
    assert!(notes[0].contains("end after the model does (2017-12-31T12:00:00) at steps 227928;"), "{notes:?}");
    assert!(notes[1].contains("finer units are used at steps 13;"), "{notes:?}");
    assert_eq!(found.recipes[0].plan().unwrap().time_units, "minutes since 1992-01-01T12:00:00");
}

#[test]
fn what_latlon_needs_is_asked_for() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    let jobs = || vec![job(1, 0, Latlon, Month)];
    assert!(
        with(&production, Corrected, jobs(), |r| r.digests.factors = None).unwrap_err().contains("--mapping-factors")
    );
    assert!(with(&production, Corrected, jobs(), |r| r.factors_location = None).is_err());
    let native = vec![job(1, 0, Native, Month)];
    let found = with(&production, Corrected, native, |r| r.factors_location = None).unwrap();
    assert_eq!(found.recipes[0].ecco_mapping_factors_loc, None);
}

#[test]
fn names_that_cannot_be_taken_apart_and_missing_labels_are_errors() {
    let mut production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    production.configuration.grid_labels.insert(Native, "llc_90".into());
    let jobs = || vec![job(1, 0, Native, Month)];
    assert!(
        with(&production, Corrected, jobs(), |_| ()).unwrap_err().contains("_native_llc_90.nc' cannot be taken apart")
    );
    production.configuration.grid_labels.clear();
    assert!(with(&production, Corrected, jobs(), |_| ()).unwrap_err().contains("no native label"));
}

#[test]
fn options_and_versions_are_part_of_the_identity_but_roots_are_not() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    let id = |change: fn(&mut Request<'_>)| {
        let found = with(&production, Corrected, vec![job(1, 0, Native, Month)], change).unwrap();
        found.recipes[0].plan().unwrap().id.clone()
    };
    let plain = id(|_| ());
    assert_eq!(plain.len(), 64);
    assert_ne!(id(|r| drop(r.options.insert("vertical".into(), "faces".into()))), plain);
    assert_eq!(id(|r| r.roots.destination = "s3://bucket/x/".into()), plain);
    assert_eq!(id(|r| r.production_date = "2000-01-01T00:00:00Z".into()), plain);
    assert_eq!(id(|r| r.digests.factors = None), plain);
}

#[test]
fn a_root_that_is_not_that_of_the_inventory_is_refused() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    let error = with(&production, Corrected, vec![job(1, 0, Native, Month)], |r| r.roots.source = "other".into());
    assert!(error.unwrap_err().contains("is not below its root 'other'"));
}

#[test]
fn a_window_takes_granules_by_their_centre_and_hides_the_rest() {
    use super::selection::Window;
    use jiff::civil::date;
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732, 1428, 2172, 10_908]);
    production.remove("mon_mean", "SSH", 732); // outside the window: neither reported nor held
    let months = |from, to| {
        let window = Window::new(from, to).unwrap();
        let found = with(&production, Corrected, vec![job(0, 0, Native, Month)], |r| r.window = window).unwrap();
        (granules(&found).iter().map(|name| name[28..35].to_owned()).collect::<Vec<_>>(), notes(&found))
    };
    let (found, said) = months(Some(date(1992, 2, 15)), Some(date(1992, 3, 16)));
    assert_eq!((found, said), (vec!["1992-02".into(), "1992-03".into()], vec![]));
    // the centre of February is 1992-02-15T12
    assert_eq!(months(Some(date(1992, 2, 16)), Some(date(1992, 12, 31))).0, ["1992-03"]);
    let (found, said) = months(Some(date(1994, 1, 1)), None);
    assert!(found.is_empty());
    assert_eq!(said, ["AVG_MON of native SEA_SURFACE_HEIGHT: no results from 1994-01-01 on; nothing is made"]);
    let days = Production::new("day_mean", &["SSH", "ETAN"], &[0, 12, 36]);
    // step 0 is the mean of nothing, at the model's start
    let window = Window::new(Some(date(1992, 1, 2)), None).unwrap();
    let found = with(&days, Corrected, vec![job(0, 0, Native, Day)], |r| r.window = window).unwrap();
    assert_eq!(found.recipes.len(), 1);
}

#[test]
fn a_recipe_that_fits_into_no_message_is_refused() {
    let production = Production::new("mon_mean", &["ETAN"], &[732]);
    let stem = production.stem("mon_mean", "SSH", 732);
    std::fs::create_dir_all(std::path::Path::new(&stem).parent().unwrap()).unwrap();
    for x in 1..=130 {
        for y in 1..=100 {
            for end in ["data", "meta"] {
                std::fs::write(format!("{stem}.{x:03}.{y:03}.{end}"), "").unwrap();
            }
        }
    }
    let inventory = production.inventory();
    let request = production.request(&inventory, Corrected, vec![job(3, 0, Native, Month)]);
    let error = plan(&request).unwrap_err().to_string();
    for part in [
        "jobs.txt line 3: the recipe of SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_V4r4_native_llc0090.nc names 26002 files",
        "but a message has 4194304 at most; join the pieces of each array",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let planned = plan(&Request { keep_going: true, ..request }).unwrap();
    assert!(planned.recipes.is_empty());
    assert!(planned.notes.iter().any(|note| note.text.ends_with("; left out")), "{:?}", planned.notes);
}
