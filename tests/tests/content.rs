//! Findings about the content of granules are based on what was read: on recorded digests, or on inflating every chunk.
#![allow(clippy::unwrap_used)]

use edp_protocol::recipe::Recipe;
use edp_tests::{Fixture, coordinator, count, expect, files, json, program, text};
use std::fs;
use std::path::{Path, PathBuf};

const SIZE: usize = 6;

/// A planned collection of granules that were made.
struct Site {
    fixture: Fixture,
    list: PathBuf,
    out: PathBuf,
    recipes: Vec<Recipe>,
}

fn recipes(list: &Path) -> Vec<Recipe> {
    edp_protocol::recipe::parse_list("list", &fs::read(list).unwrap()).unwrap()
}

impl Site {
    fn planned() -> Site {
        let fixture = Fixture::new(SIZE);
        let out = fixture.path("out");
        let list = fixture.plan(&out, "tasks.json", &[]);
        let recipes = recipes(&list);
        Site { fixture, list, out, recipes }
    }

    fn made() -> Site {
        let site = Site::planned();
        let report = site.run(&[], 0);
        assert_eq!(count(&report, "made"), site.recipes.len());
        site
    }

    fn run(&self, more: &[&str], status: i32) -> serde_json::Value {
        json(&expect(coordinator().arg("run").arg(&self.list).args(["--output", "json"]).args(more), status))
    }

    fn verify(&self, more: &[&str], status: i32) -> serde_json::Value {
        json(&expect(coordinator().arg("verify").arg(&self.list).args(["--output", "json"]).args(more), status))
    }

    fn manifest(&self) -> PathBuf {
        self.fixture.path("tasks.json.manifest.jsonl")
    }

    fn granule(&self, at: usize) -> &Path {
        Path::new(&self.recipes[at].granule)
    }

    /// Overwrites the first stored chunk of the first variable of a granule, and leaves everything else as it was:
    /// size, names, ids.
    fn spoil(&self, at: usize) {
        let places = edp_engine::granule::inspect::places(self.granule(at)).unwrap();
        let variable = self.recipes[at].variables.keys().next().unwrap();
        let (offset, size) = places.iter().find(|chunks| chunks.variable == *variable).unwrap().places[0];
        let mut bytes = fs::read(self.granule(at)).unwrap();
        bytes[offset as usize..(offset + size) as usize].fill(0);
        fs::write(self.granule(at), bytes).unwrap();
    }

    /// Edits a granule as a tool would: it remains complete, but is another file.
    fn touch(&self, at: usize) {
        netcdf::append(self.granule(at)).unwrap().add_attribute("edited", "by hand").unwrap();
    }
}

fn finding(verified: &serde_json::Value) -> (&str, &str) {
    assert_eq!(verified["problems"].as_array().unwrap().len(), 1, "{verified}");
    let problem = &verified["problems"][0];
    (problem[0].as_str().unwrap(), problem[1]["finding"].as_str().unwrap())
}

#[test]
fn a_granule_with_zeroed_data_is_called_good_by_nobody() {
    for recorded in [true, false] {
        let site = Site::made();
        let good = files(&site.out);
        site.spoil(0);
        if !recorded {
            fs::remove_file(site.manifest()).unwrap();
        }
        let again = site.fixture.path("again.json");
        let verified = site.verify(&["--redo", again.to_str().unwrap()], 3);
        assert_eq!(finding(&verified), (site.recipes[0].granule.as_str(), "damaged"));
        assert_eq!(recipes(&again), site.recipes[..1]);
        let report = site.run(&[], 3);
        assert_eq!((count(&report, "conflict"), count(&report, "present")), (1, site.recipes.len() - 1));
        assert!(report.to_string().contains("is damaged"), "{report}");
        assert_eq!(report["verified"]["good"], site.recipes.len() - 1);
        expect(program("edp-worker").arg("make").arg(&site.list), 3);
        // A cheaper check, which is reported as such, compares only names and ids.
        let report = site.run(&["--verify", "present"], 0);
        assert_eq!(count(&report, "present"), site.recipes.len());
        site.verify(&["--depth", "present"], 0);

        let report = site.run(&["--replace"], 0);
        assert_eq!((count(&report, "made"), count(&report, "present")), (1, site.recipes.len() - 1), "{report}");
        assert_eq!(files(&site.out), good);
        site.verify(&[], 0);
    }
}

#[test]
fn an_edited_granule_that_is_whole_is_found_by_what_is_recorded() {
    let site = Site::made();
    let good = files(&site.out);
    site.touch(1);
    assert_eq!(finding(&site.verify(&[], 3)), (site.recipes[1].granule.as_str(), "damaged"));
    assert_eq!(count(&site.run(&[], 3), "conflict"), 1);
    assert_eq!(count(&site.run(&["--replace"], 0), "made"), 1);
    assert_eq!(files(&site.out), good);
}

#[test]
fn a_ledger_knows_what_was_made_before() {
    let site = Site::planned();
    let ledger = site.fixture.path("ledger");
    let ledger = ledger.to_str().unwrap();
    site.run(&["--ledger", ledger], 0);
    let good = files(&site.out);
    fs::remove_file(site.manifest()).unwrap();
    site.touch(0);
    // Nothing is recorded beside the list any more, and the granule is complete.
    site.verify(&[], 0);
    assert_eq!(finding(&site.verify(&["--ledger", ledger], 3)).1, "damaged");
    let report = site.run(&["--ledger", ledger], 3);
    assert_eq!(finding(&report["verified"]), (site.recipes[0].granule.as_str(), "damaged"));
    let report = site.run(&["--ledger", ledger, "--replace"], 0);
    assert_eq!(count(&report, "made"), 1, "{report}");
    assert_eq!(files(&site.out), good);
    site.run(&["--ledger", ledger], 0);
}

#[test]
fn a_manifest_says_what_was_made_and_survives_what_follows() {
    let site = Site::planned();
    for part in ["1/2", "2/2"] {
        expect(program("edp-worker").arg("make").arg(&site.list).args(["--part", part]), 0);
    }
    assert!(!site.manifest().exists());
    site.touch(0);
    assert_eq!(finding(&site.verify(&[], 3)).1, "damaged");
    // The granules are made anew on another date; the records of the old ones do not apply to them.
    fs::remove_dir_all(&site.out).unwrap();
    let later = site.fixture.plan(&site.out, "tasks.json", &["--production-date", "2031-01-01T00:00:00Z"]);
    assert_eq!(later, site.list);
    let elsewhere = site.fixture.path("elsewhere.json");
    fs::copy(&later, &elsewhere).unwrap();
    expect(program("edp-worker").arg("make").arg(&elsewhere), 0);
    site.verify(&[], 0);
    assert_eq!(count(&site.run(&[], 0), "present"), site.recipes.len());
    let mut lines = 0;
    for line in fs::read_to_string(site.manifest()).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = fs::read(record["granule"].as_str().unwrap()).unwrap();
        assert_eq!(record["bytes"], bytes.len());
        assert_eq!(record["sha256"], edp_protocol::Digest::of(&bytes).as_str());
        lines += 1;
    }
    assert_eq!(lines, site.recipes.len());
    fs::write(site.manifest(), "{\"id\":").unwrap();
    let refused = expect(coordinator().arg("verify").arg(&site.list), 2);
    assert!(text(&refused).contains("tasks.json.manifest.jsonl: line 1"), "{}", text(&refused));
}

#[test]
fn granules_of_an_earlier_output_version_are_older_and_made_again_when_asked() {
    let site = Site::made();
    let good = files(&site.out);
    let (_, earlier) = site.recipes[0].earlier_ids().unwrap().remove(0);
    netcdf::append(site.granule(0)).unwrap().add_attribute("recipe_id", earlier.as_str()).unwrap();
    let older = fs::read(site.granule(0)).unwrap();
    assert_eq!(finding(&site.verify(&[], 0)).1, "older");
    let report = site.run(&[], 0);
    assert_eq!((count(&report, "older"), count(&report, "present")), (1, site.recipes.len() - 1), "{report}");
    assert_eq!(fs::read(site.granule(0)).unwrap(), older);
    let dry = expect(coordinator().arg("run").arg(&site.list).arg("--dry-run"), 0);
    assert!(text(&dry).contains("0 granules to be made"), "{}", text(&dry));
    let report = site.run(&["--replace-older"], 0);
    assert_eq!((count(&report, "made"), count(&report, "present")), (1, site.recipes.len() - 1), "{report}");
    assert_eq!(files(&site.out), good);
}

#[test]
fn values_that_no_input_gives_are_found_by_making_the_granule_again() {
    let site = Site::made();
    let all = site.recipes.len();
    assert_eq!(count_good(&site.verify(&["--depth", "values"], 0)), all);
    fs::remove_file(site.manifest()).unwrap();
    let edit = |at: usize, change: fn(&mut [f32])| -> String {
        let mut file = netcdf::append(site.granule(at)).unwrap();
        let name = site.recipes[at].variables.keys().next().unwrap().clone();
        let mut variable = file.variable_mut(&name).unwrap();
        let mut values: Vec<f32> = variable.get_values(..).unwrap();
        change(&mut values);
        variable.put_values(&values, ..).unwrap();
        name
    };
    // The same values, compressed by another library: another file, and still the right granule.
    let before = files(&site.out);
    edit(1, |_| ());
    assert_ne!(files(&site.out), before);
    // One value of a granule that is consistent in itself.
    let name = edit(0, |values| {
        let cell = values.iter().position(|value| value.abs() < 1e3).unwrap();
        values[cell] += 1.0;
    });
    assert_eq!(count_good(&site.verify(&["--depth", "content"], 0)), all);
    let verified = site.verify(&["--depth", "values"], 3);
    assert_eq!(finding(&verified), (site.recipes[0].granule.as_str(), "damaged"));
    let why = verified["problems"][0][1]["detail"][0].as_str().unwrap();
    assert!(why.starts_with(&format!("{name}: 1 of ")) && why.contains("the first at ["), "{why}");
    assert_eq!(count_good(&verified), all - 1);
    // An attribute that was edited.
    site.touch(0);
    let verified = site.verify(&["--depth", "values"], 3);
    assert!(verified.to_string().contains("attribute edited: Text(\\\"by hand\\\"), should be none"), "{verified}");
    // Without its input nothing is known of a granule.
    let input = site.recipes[1].input_paths().next().unwrap().to_owned();
    fs::rename(&input, site.fixture.path("elsewhere")).unwrap();
    let verified = site.verify(&["--depth", "values"], 4);
    assert!(verified.to_string().contains("its values cannot be computed"), "{verified}");
    fs::rename(site.fixture.path("elsewhere"), &input).unwrap();
}

fn count_good(verified: &serde_json::Value) -> usize {
    verified["good"].as_u64().unwrap().try_into().unwrap()
}
