//! Comparison of the plan with the task list that EDP wrote for its own demonstration. `EDP_REAL_DATA` names
//! the directory of these files; `make conformance` runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::dates::DateSource;
use super::headers::HeaderCache;
use super::inventory::Inventory;
use super::recipes::Request;
use super::{fixture, jobfile, plan};
use edp_engine::metadata::groupings::Grouping;
use edp_production::complete::{Completion, complete};
use edp_protocol::recipe::{Roots, parse_list};
use edp_protocol::{GridKind, Mode};
use edp_store::Stores;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Reads the parts of a groupings file that the demonstration uses.
fn groupings(path: &str) -> Vec<Grouping> {
    let list: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let grouping = |entry: &Value| Grouping {
        name: text(&entry["name"]),
        fields: text(&entry["fields"]).split(',').map(|field| field.trim().to_owned()).collect(),
        filename: text(&entry["filename"]),
        dimension: text(&entry["dimension"]),
        frequencies: Vec::new(),
        time_invariant: false,
        comment: entry.get("comment").map(text),
        rename: None,
        components: None,
        orientations: None,
    };
    list.iter().map(grouping).collect()
}

/// Returns the value of a quoted one-line key.
fn yaml_text(yaml: &str, key: &str) -> String {
    let line = yaml.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_start_matches(':').trim().trim_matches('\'').to_owned()
}

/// EDP's list was written with the directory of the data as working directory. Tests share one working directory, so
/// paths are absolute here and made relative for the comparison.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn edps_own_list() {
    let data = std::env::var("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data");
    let at = |path: &str| format!("{data}/V4r4/{path}");
    let yaml = fs::read_to_string(at("../config/product_generation_config_updated.yaml")).unwrap();
    let mut configuration = fixture::configuration();
    for (grid, key) in
        [(GridKind::Native, "dataset_description_tail_native"), (GridKind::Latlon, "dataset_description_tail_latlon")]
    {
        configuration.description_tails.insert(grid, yaml_text(&yaml, key));
    }
    let metadata = "../metadata/V4r4";
    let groupings: BTreeMap<_, _> = [GridKind::Native, GridKind::Latlon]
        .map(|grid| (grid, groupings(&at(&format!("{metadata}/ECCOv4r4_groupings_for_{grid}_datasets.json")))))
        .into();
    let (inventory, notes) = Inventory::scan(Path::new(&at("results")), "V4r4").unwrap();
    assert_eq!((inventory.files(), notes.len()), (24, 0));
    let text = fs::read_to_string(at("ssh.jobs.txt")).unwrap();
    let (jobs, _) = jobfile::parse("ssh.jobs.txt", &text, false).unwrap();
    let headers = HeaderCache::default();
    let request = Request {
        job_file: "ssh.jobs.txt",
        jobs,
        window: super::selection::Window::default(),
        configuration: &configuration,
        groupings: &groupings,
        inventory: &inventory,
        roots: Roots { source: at("results"), destination: "out".into() },
        configuration_location: "config.yaml".into(),
        grid_location: "grid_ECCOV4r4".into(),
        factors_location: Some("mapping_factors".into()),
        metadata_location: metadata.into(),
        digests: fixture::digests(),
        options: BTreeMap::new(),
        mode: Mode::Edp2024,
        edp_time_units: Some("hours since 1992-01-01 12:00:00"),
        headers: &headers,
        dates: DateSource::Steps,
        production_date: "2024-11-05T06:07:08Z".into(),
        keep_going: false,
        strict: true,
        allow_partial: false,
    };
    let planned = plan(&request).unwrap();
    assert_eq!(planned.notes, []);
    let mut found = serde_json::to_value(&planned.recipes).unwrap();
    for recipe in found.as_array_mut().unwrap() {
        recipe.as_object_mut().unwrap().retain(|key, _| key != "recipe" && key != "ecco_cfg_loc");
    }
    let expected = fs::read(at("expected/ssh.tasks.json")).unwrap();
    let want: Value = serde_json::from_slice(&expected).unwrap();
    assert_eq!(found.as_array().unwrap().len(), 6);
    assert_eq!(found.to_string().replace(&at("results"), "results"), want.to_string()); // the order of keys too

    let (digests, options, stores) = (fixture::digests(), BTreeMap::new(), Stores::default());
    let with = Completion {
        stores: &stores,
        configuration_location: None,
        digests: &digests,
        options: &options,
        edp_time_units: "hours since 1992-01-01 12:00:00",
        production_date: None,
    };
    for mut recipe in parse_list("ssh.tasks.json", &expected).unwrap() {
        for path in recipe.variables.values_mut().flatten().flatten() {
            *path = at(path);
        }
        complete(&mut recipe, &with).unwrap();
        recipe.check_identity().unwrap();
        let plan = recipe.plan().unwrap();
        assert_eq!(
            (plan.roots.source.as_str(), plan.roots.destination.as_str()),
            (at("results/V4r4/diags_monthly").as_str(), "out")
        );
    }
}
