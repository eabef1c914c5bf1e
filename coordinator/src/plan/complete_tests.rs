//! Tests of completing lists of EDP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::fixture::{Production, digests, job, plan};
use edp_production::complete::{CompleteError, Completion, complete};
use edp_protocol::recipe::{Digests, Recipe, Version};
use edp_protocol::{Frequency, GridKind, Mode};
use edp_store::Stores;
use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

/// Returns the recipe that EDP would have written for January 1992.
fn edp_recipe(production: &Production, grid: GridKind) -> Recipe {
    let inventory = production.inventory();
    let request = production.request(&inventory, Mode::Edp2024, vec![job(1, 0, grid, Frequency::Month)]);
    let mut recipe = plan(&request).unwrap().recipes.remove(0);
    recipe.recipe = None;
    recipe.ecco_cfg_loc = None;
    recipe
}

fn completed(recipe: &Recipe, change: impl FnOnce(&mut Completion<'_>)) -> Result<Recipe, CompleteError> {
    let (digests, options, stores) = (digests(), BTreeMap::new(), Stores::default());
    let mut with = Completion {
        stores: &stores,
        configuration_location: Some("config.yaml"),
        digests: &digests,
        options: &options,
        edp_time_units: "hours since 1992-01-01 12:00:00",
        production_date: None,
        invariant_mode: None,
    };
    change(&mut with);
    let mut recipe = recipe.clone();
    complete(&mut recipe, &with).map(|()| recipe)
}

#[test]
fn an_edp_recipe_gets_its_identity() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    let stem = production.stem("mon_mean", "SSH", 732);
    let file = fs::File::options().write(true).open(format!("{stem}.data")).unwrap();
    let modified = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
    file.set_modified(modified).unwrap();
    let before = edp_recipe(&production, GridKind::Latlon);
    let recipe = completed(&before, |_| ()).unwrap();
    recipe.check_identity().unwrap();
    let plan = recipe.plan().unwrap();
    assert_eq!((plan.mode, plan.time_units.as_str()), (Mode::Edp2024, "hours since 1992-01-01T12:00:00"));
    assert_eq!(plan.roots.destination, "out");
    assert_eq!(plan.roots.source, format!("{}/V4r4/diags", production.root.path().display()));
    assert_eq!(plan.inputs.len(), 4);
    assert_eq!(plan.inputs["SSH_mon_mean/SSH_mon_mean.0000000732.data"], Version::of_file(16, modified));
    assert_eq!(plan.production_date, "2096-10-02T07:06:40Z");
    assert!(plan.digests.factors.is_some());
    assert_eq!(recipe.ecco_cfg_loc.as_deref(), Some("config.yaml"));
    assert_eq!((&recipe.variables, &recipe.dynamic_metadata), (&before.variables, &before.dynamic_metadata));
    let dated = completed(&before, |with| with.production_date = Some("2020-01-01T00:00:00Z")).unwrap();
    assert_eq!(dated.plan().unwrap().production_date, "2020-01-01T00:00:00Z");
    assert_eq!(dated.plan().unwrap().id, plan.id);
}

#[test]
fn our_own_recipes_stay_as_they_are() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    let once = completed(&edp_recipe(&production, GridKind::Native), |_| ()).unwrap();
    assert!(once.plan().unwrap().digests.factors.is_none());
    let twice = completed(&once, |with| with.production_date = Some("2020-01-01T00:00:00Z")).unwrap();
    assert_eq!(twice, once);
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    let good = edp_recipe(&production, GridKind::Latlon);
    type Change = fn(&mut Recipe);
    let changes: [(Change, &str); 7] = [
        (|r| r.granule = "out/x.nc".into(), "not a granule name"),
        (|r| r.variables.clear(), "no input files"),
        (|r| r.dynamic_metadata.time_coverage_center = None, "time_coverage_center is absent"),
        (|r| r.dynamic_metadata.time_coverage_end = Some("soon".into()), "time_coverage_end is 'soon'"),
        (|r| r.variables["SSH"][0][0].push('x'), "SSH_mon_mean.0000000732.datax: "),
        (|r| r.variables["SSH"][0][0] = "https://b/x".into(), "only paths and s3://"),
        (|r| r.granule = "out/../V4r4/../SSH_snap_1992_ECCO_V4r4_latlon_0p50deg.nc".into(), ""),
    ];
    for (change, why) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        match completed(&bad, |_| ()) {
            Ok(_) => assert!(why.is_empty()),
            Err(error) => assert!(error.to_string().contains(why), "{error}"),
        }
    }
    let units = completed(&good, |with| with.edp_time_units = "moons since 1992-01-01");
    assert!(matches!(units, Err(CompleteError::Units { .. })));
    let (none, options) = (Digests { factors: None, ..digests() }, BTreeMap::new());
    let with = Completion {
        stores: &Stores::default(),
        configuration_location: None,
        digests: &none,
        options: &options,
        edp_time_units: "hours since 1992-01-01",
        production_date: None,
        invariant_mode: None,
    };
    let mut unchanged = good.clone();
    assert!(matches!(complete(&mut unchanged, &with), Err(CompleteError::Factors { .. })));
    assert_eq!(unchanged, good);
}

#[test]
fn snapshots_may_have_a_centre_only() {
    let production = Production::new("mon_mean", &["SSH", "ETAN"], &[732]);
    let mut recipe = edp_recipe(&production, GridKind::Native);
    recipe.dynamic_metadata.time_coverage_start = None;
    recipe.dynamic_metadata.time_coverage_end = None;
    completed(&recipe, |_| ()).unwrap();
}
