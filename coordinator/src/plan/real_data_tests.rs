//! Comparison of the plan with the task list that EDP wrote for its own demonstration. `EDP_REAL_DATA` names
//! the directory of these files; `make conformance` runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::dates::DateSource;
use super::fixture::{self, plan};
use super::headers::HeaderCache;
use super::inventory::Inventory;
use super::jobfile;
use super::recipes::Request;
use edp_engine::metadata::groupings::Grouping;
use edp_engine::metadata::source::Metadata;
use edp_production::complete::{Completion, complete};
use edp_protocol::recipe::{Roots, output_version, parse_list};
use edp_protocol::{Digest, Frequency, GridKind, Mode, name};
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
        comment: entry.get("comment").map(text),
        ..Grouping::default()
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
fn the_plan_is_edps_own_list() {
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
        grid_files: None,
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
        growing: false,
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
}

/// Tasks of EDP's list are completed in place, and find their inputs and the roots.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn tasks_of_edps_list_are_completed() {
    let data = std::env::var("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data");
    let at = |path: &str| format!("{data}/V4r4/{path}");
    let expected = fs::read(at("expected/ssh.tasks.json")).unwrap();
    let (digests, options, stores) = (fixture::digests(), BTreeMap::new(), Stores::default());
    let with = Completion {
        stores: &stores,
        configuration_location: None,
        digests: &digests,
        options: &options,
        edp_time_units: "hours since 1992-01-01 12:00:00",
        production_date: None,
        invariant_mode: None,
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

/// Returns the SHA-256 of the ids of all recipes of a release, each with its granule, in the order of the plan.
fn ids(release: &str, mode: Mode) -> String {
    let data = std::env::var("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data");
    let (metadata, _) = Metadata::load(&Path::new(&data).join("metadata").join(release)).unwrap();
    let mut production = fixture::Production::new("mon_mean", &[], &[]);
    production.groupings = metadata.groupings;
    let all = production.groupings.iter().flat_map(|(grid, all)| all.iter().map(|grouping| (*grid, grouping)));
    let mut jobs = Vec::new();
    for (grid, grouping) in all {
        let number = production.groupings[&grid].iter().position(|one| std::ptr::eq(one, grouping)).unwrap();
        for (frequency, steps) in
            [(Frequency::Day, [36, 60]), (Frequency::Month, [732, 1428]), (Frequency::Snapshot, [24, 48])]
        {
            let word = name::input_periods(frequency, mode)[0];
            for field in &grouping.fields {
                let kind = grouping.kind(field, grid).unwrap();
                for source in kind.sources(field) {
                    steps.iter().for_each(|step| production.write(word, source, *step));
                }
            }
            jobs.push(fixture::job(jobs.len() + 1, number, grid, frequency));
        }
    }
    let count = jobs.len();
    let inventory = production.inventory();
    let request = Request { keep_going: true, ..production.request(&inventory, mode, jobs) };
    let planned = plan(&request).unwrap();
    assert!(planned.recipes.len() >= count, "{} recipes of {count} jobs", planned.recipes.len());
    let lines = planned.recipes.iter().map(|recipe| {
        let id = recipe.computed_id().unwrap();
        assert_eq!(id, recipe.plan().unwrap().id);
        format!("{} {id}\n", recipe.granule_below_root().unwrap())
    });
    Digest::of(lines.collect::<String>().as_bytes()).as_str().to_owned()
}

/// Recipes whose ids change without need make everything anew that was made of earlier lists. The digests change with the
/// output version of a mode, and for no other reason.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn the_lists_of_the_releases_keep_their_ids() {
    let found: Vec<_> = ["V4r4", "V4r5", "V4r6"]
        .into_iter()
        .flat_map(|release| Mode::ALL.map(|mode| (release, mode.to_string(), output_version(mode), ids(release, mode))))
        .collect();
    let found: Vec<_> =
        found.iter().map(|(release, mode, version, ids)| (*release, &mode[..], *version, &ids[..])).collect();
    assert_eq!(found, IDS);
}

/// Release, mode, output version, and the digest of all ids.
const IDS: [(&str, &str, u32, &str); 9] = [
    ("V4r4", "corrected", 4, "e17b78c1cde5732e37ed5a2ad2c0913b5399657ff502aba92cd750fd11400fa1"),
    ("V4r4", "edp-2024", 2, "1c20cd5e98826dd0f3ba5595c5d355b568066a3ecb6ce20e4cf75e9b205061f3"),
    ("V4r4", "edp-2026", 2, "5f31176de576708a3f31eaecccd640aa4613c588fcdedd5bc64202475e8f02d1"),
    ("V4r5", "corrected", 4, "ad0429b1c701f2220db23bac2e79db4acc5b22715a61012c2d0db1db47844af5"),
    ("V4r5", "edp-2024", 2, "b2377e6d6e0c76e6878d413fdcdc2a32ac814ba636546c83c11b71c740cde3db"),
    ("V4r5", "edp-2026", 2, "d56d4c57d0ff6a87f9b932e737532a14e897a113c264ecf6e283de4eff71bdf5"),
    ("V4r6", "corrected", 4, "1feb2d891c9c2546fd0059e5ff8d1088ab132b05683793ed616d89211bb75483"),
    ("V4r6", "edp-2024", 2, "8de1dcb9bef11aefafe8bd76095d9f475d97774bd4f2b5720beb037bcf709620"),
    ("V4r6", "edp-2026", 2, "30b74e78cc4201b97c3bf0623f18a3a1e579b77e7c395c50937e77cbc47cd6ca"),
];
