//! The choices of a plan on how fields are stored: they change bytes and ids, and no value.

use edp_protocol::name::GranuleName;
use edp_protocol::recipe::{self, Recipe};
use edp_tests::{Fixture, coordinator, count, expect, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Large enough that chunks have planes for the encoder, and with other chunks for maps and columns.
const SIZE: usize = 90;

/// A variable of a granule.
#[derive(Debug, PartialEq)]
struct Stored {
    name: String,
    values: Vec<u32>,
    chunk: Vec<usize>,
}

/// Returns the fields of a granule: variables of time and space.
fn fields(recipe: &Recipe) -> Vec<Stored> {
    let file = netcdf::open(&recipe.granule).unwrap();
    let of = |name: &String| {
        let variable = file.variable(name).unwrap();
        // As bits, so that fill values and signs of zeros count.
        let values = variable.get_values::<f32, _>(..).unwrap().into_iter().map(f32::to_bits).collect();
        Stored { name: name.clone(), values, chunk: variable.chunking().unwrap().unwrap() }
    };
    recipe.variables.keys().map(of).collect()
}

/// Plans and makes granules with these options. Returns the recipes.
fn made(fixture: &Fixture, name: &str, options: &[&str]) -> Vec<Recipe> {
    let list = fixture.plan(&fixture.path(name), &format!("{name}.json"), options);
    let report = json(&expect(coordinator().arg("run").arg(&list).args(["--paranoid", "--output", "json"]), 0));
    let recipes = recipe::parse_list(name, &std::fs::read(&list).unwrap()).unwrap();
    assert_eq!(count(&report, "made"), recipes.len(), "{report}");
    expect(coordinator().arg("verify").arg(&list), 0);
    recipes
}

fn bytes(recipes: &[Recipe]) -> u64 {
    recipes.iter().map(|recipe| Path::new(&recipe.granule).metadata().unwrap().len()).sum()
}

#[test]
fn encoders_and_chunks_change_no_value() {
    let fixture = Fixture::new(SIZE);
    let plain = made(&fixture, "plain", &[]);
    let values: Vec<Vec<Stored>> = plain.iter().map(fields).collect();
    let mut sizes = Vec::new();
    for choice in [["--encoder", "libdeflate"], ["--chunks", "maps"], ["--chunks", "columns"]] {
        let other = made(&fixture, choice[1], &choice);
        let mut shapes = BTreeSet::new();
        for ((other, plain), values) in other.iter().zip(&plain).zip(&values) {
            let is_other = choice[1] != "columns" || plain.dynamic_metadata.dimension == "3D";
            assert_eq!(other.plan().unwrap().id != plain.plan().unwrap().id, is_other, "{choice:?}");
            for (found, wanted) in fields(other).iter().zip(values) {
                assert!((&found.name, &found.values) == (&wanted.name, &wanted.values), "{choice:?}: {}", found.name);
                let grid = GranuleName::parse(other.granule.rsplit('/').next().unwrap()).unwrap().grid;
                shapes.insert((grid, found.chunk.clone()));
            }
        }
        let has = |chunk: &[usize]| shapes.iter().any(|(_, found)| found == chunk);
        match choice[1] {
            "maps" => assert!(has(&[1, 10, 13, 90, 90]) && has(&[1, 5, 360, 720]), "{shapes:?}"),
            "columns" => assert!(has(&[1, 10, 1, 90, 90]) && has(&[1, 10, 90, 180]), "{shapes:?}"),
            _ => {}
        }
        sizes.push(bytes(&other));
    }
    let (planes, libdeflate) = (bytes(&plain), sizes[0]);
    assert!(planes != libdeflate && planes as f64 <= libdeflate as f64 * 1.015, "{planes}, libdeflate {libdeflate}");
}

#[test]
fn the_modes_of_edp_have_one_form() {
    let fixture = Fixture::new(8);
    for mode in ["edp-2024", "edp-2026"] {
        for choice in [["--encoder", "planes"], ["--chunks", "maps"]] {
            let mut plan = coordinator();
            plan.arg("plan").args(fixture.options(&fixture.path("out"))).args(["--compatibility", mode]).args(choice);
            let message = String::from_utf8(expect(&mut plan, 2).stderr).unwrap();
            assert!(message.contains(&choice.join(" ")) && message.contains(mode), "{message}");
        }
        let list = fixture.plan(&fixture.path(mode), mode, &["--compatibility", mode, "--encoder", "libdeflate"]);
        let recipes = recipe::parse_list(mode, &std::fs::read(&list).unwrap()).unwrap();
        assert!(recipes.iter().all(|recipe| recipe.plan().unwrap().options.is_empty()));
    }
}
