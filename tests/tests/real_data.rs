//! Conformance on real model output: the granules agree with an independent computation and with EDP's own.
//!
//! The data are not part of the project: `EDP_REAL_DATA` names their directory, `EDP_REAL_TOOLS` that of the checking
//! tools, `EDP_PYTHON` an interpreter with numpy and netCDF4. `make conformance` runs
//! these tests, which fail without the data.

use edp_tests::{coordinator, expect, files, global, text};
use std::path::{Path, PathBuf};
use std::process::Command;

fn data() -> PathBuf {
    let data = std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data");
    PathBuf::from(data).join("V4r4")
}

/// Plans the sea surface height job as EDP's demonstration does, and makes its six granules.
fn produce(data: &Path, directory: &Path, mode: &str) -> PathBuf {
    let list = directory.join(format!("{mode}.json"));
    let destination = directory.join(mode);
    let mut plan = coordinator();
    plan.current_dir(data)
        .args([
            "plan",
            "--jobfile",
            "ssh.jobs.txt",
            "--ecco_source_root",
            "results",
            "--ecco_grid_loc",
            "grid_ECCOV4r4",
        ])
        .args(["--ecco_mapping_factors_loc", "mapping_factors", "--ecco_metadata_loc", "../metadata/V4r4"])
        .args(["--cfgfile", "../config/product_generation_config_updated.yaml", "--compatibility", mode])
        .arg("--ecco_destination_root")
        .arg(&destination)
        .arg("--outfile")
        .arg(&list);
    expect(&mut plan, 0);
    expect(coordinator().current_dir(data).arg("run").arg(&list), 0);
    expect(coordinator().current_dir(data).arg("verify").arg(&list).args(["--depth", "structure"]), 0);
    list
}

/// Runs the independent checker on a task list.
fn check(data: &Path, list: &Path, attributes: bool) {
    let tools = PathBuf::from(std::env::var_os("EDP_REAL_TOOLS").expect("EDP_REAL_TOOLS beside EDP_REAL_DATA"));
    let python = std::env::var_os("EDP_PYTHON").expect("EDP_PYTHON beside EDP_REAL_DATA; `make conformance` sets it");
    let mut command = Command::new(python);
    command.current_dir(data).arg(tools.join("check_granule.py")).arg(list);
    if attributes {
        for name in files(&data.join("expected/attributes")).into_keys() {
            command.arg("--attributes").arg(data.join("expected/attributes").join(name));
        }
    }
    let output = expect(&mut command, 0);
    assert!(text(&output).contains("6 of 6 granules agree"), "{}", text(&output));
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_edp_2024_agrees_value_for_value_and_attribute_for_attribute() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    let list = produce(&data, directory.path(), "edp-2024");
    check(&data, &list, true);
}

/// The beginning of the links that Release 4's configuration gives to datasets.
const COLLECTIONS: &str = "https://cmr.earthdata.nasa.gov/search/collections.umm_json?ShortName=";

/// The identifiers of Release 4 are as before. Native granules are smaller than their static coordinates alone would be
/// without compression, as in EDP's granules.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_corrected_agrees_in_every_value() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    let list = produce(&data, directory.path(), "corrected");
    check(&data, &list, false);
    let made = directory.path().join("corrected/V4r4");
    for (grid, doi, short, on) in [
        ("native", "10.5067/ECL5M-SSH44", "LLC0090GRID", "llc90 Grid"),
        ("latlon", "10.5067/ECG5M-SSH44", "05DEG", "0.5 Degree"),
    ] {
        for name in files(&made.join(grid)).into_keys() {
            let granule = netcdf::open(made.join(grid).join(&name)).unwrap();
            for (attribute, want) in [
                ("id", doi.to_owned()),
                ("identifier_product_doi", doi.to_owned()),
                ("metadata_link", format!("{COLLECTIONS}ECCO_L4_SSH_{short}_MONTHLY_V4R4")),
                ("title", format!("ECCO Sea Surface Height - Monthly Mean {on} (Version 4 Release 4)")),
            ] {
                assert_eq!(global(&granule, attribute).as_deref(), Some(&*want), "{name}: {attribute}");
            }
        }
    }
    let native = files(&made.join("native"));
    assert_eq!(native.len(), 3);
    for name in native.keys() {
        let path = made.join("native").join(name);
        let granule = netcdf::open(&path).unwrap();
        let statics = granule.variables().filter(|v| v.dimensions().iter().all(|d| d.name() != "time"));
        let plain: usize = statics.map(|v| v.len() * v.vartype().size()).sum();
        let size = path.metadata().unwrap().len() as usize;
        assert!(size < plain, "{name}: {size} bytes, static coordinates {plain}");
    }
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_plan_gives_the_recipes_of_edp() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("tasks.json");
    let mut plan = coordinator();
    plan.current_dir(&data)
        .args(["plan", "--jobs", "ssh.jobs.txt", "--source", "results", "--destination", "out"])
        .args(["--grid", "grid_ECCOV4r4", "--mapping-factors", "mapping_factors", "--metadata", "../metadata/V4r4"])
        .args(["--config", "../config/product_generation_config_updated.yaml", "--compatibility", "edp-2024"])
        .arg("--tasks-out")
        .arg(&list);
    expect(&mut plan, 0);
    let read = |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let mut ours = read(&list);
    for recipe in ours.as_array_mut().unwrap() {
        let recipe = recipe.as_object_mut().unwrap();
        assert!(recipe.remove("recipe").is_some() && recipe.remove("ecco_cfg_loc").is_some());
    }
    assert_eq!(ours, read(&data.join("expected/ssh.tasks.json")));
}

/// Compares the latlon granules with the files that EDP's authors distribute: everything except uuid and dates must
/// agree, and none may be larger.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_latlon_granules_are_those_that_edp_distributes() {
    let data = data();
    let directory = tempfile::tempdir().unwrap();
    produce(&data, directory.path(), "edp-2024");
    let expected = data.join("expected/latlon");
    let names = files(&expected);
    assert_eq!(names.len(), 3);
    let made = directory.path().join("edp-2024/V4r4");
    for name in names.keys() {
        let size = |path: &Path| path.metadata().unwrap().len();
        assert!(size(&made.join("latlon").join(name)) <= size(&expected.join(name)), "{name}");
        let theirs = netcdf::open(expected.join(name)).unwrap();
        let ours = netcdf::open(made.join("latlon").join(name)).unwrap();
        same_content(name, &ours, &theirs);
    }
}

/// Compares two granules: everything except uuid and dates must agree.
fn same_content(name: &str, ours: &netcdf::File, theirs: &netcdf::File) {
    let variables = |file: &netcdf::File| file.variables().map(|v| v.name()).collect::<Vec<_>>();
    assert_eq!(variables(ours), variables(theirs));
    let dimensions = |file: &netcdf::File| file.dimensions().map(|d| (d.name(), d.len())).collect::<Vec<_>>();
    assert_eq!(dimensions(ours), dimensions(theirs));
    for variable in theirs.variables() {
        let found = ours.variable(&variable.name()).unwrap();
        let values = |v: &netcdf::Variable<'_>| v.get_values::<f64, _>(..).unwrap();
        assert!(values(&found) == values(&variable), "{name}: {}", variable.name());
        assert_eq!(found.vartype(), variable.vartype());
        same_attributes(&found.attributes().collect::<Vec<_>>(), &variable.attributes().collect::<Vec<_>>());
    }
    same_attributes(&ours.attributes().collect::<Vec<_>>(), &theirs.attributes().collect::<Vec<_>>());
}

/// Compares names, order, types and values of attributes, except for those that differ between any two runs of EDP.
fn same_attributes(ours: &[netcdf::Attribute<'_>], theirs: &[netcdf::Attribute<'_>]) {
    const OF_THE_RUN: [&str; 6] =
        ["uuid", "date_created", "date_modified", "date_metadata_modified", "date_issued", "_NCProperties"];
    let plain = |attributes: &[netcdf::Attribute<'_>]| -> Vec<(String, String)> {
        let of_content = attributes.iter().filter(|a| !OF_THE_RUN.contains(&a.name()));
        of_content.map(|a| (a.name().to_owned(), comparable(a))).collect()
    };
    assert_eq!(plain(ours), plain(theirs));
}

/// Returns the value of an attribute as text. Lists of coordinates and keywords are treated as sets, since EDP's own
/// order is accidental.
fn comparable(attribute: &netcdf::Attribute<'_>) -> String {
    let value = attribute.value().unwrap();
    match (attribute.name(), &value) {
        ("coordinates", netcdf::AttributeValue::Str(text)) => {
            let mut names: Vec<_> = text.split_whitespace().collect();
            names.sort_unstable();
            names.join(" ")
        }
        (_, netcdf::AttributeValue::Str(text)) => text.trim_end_matches('\0').to_owned(),
        (_, value) => format!("{value:?}"),
    }
}

/// The list that EDP's authors keep for Release 5, with rotated velocities, and the granules of its tasks. The heights
/// are real, the velocities are made up; the configuration gets the number of the release, which its copy lacks.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_5_is_planned_and_made_as_edp_does() {
    let data =
        PathBuf::from(std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data"));
    let tools = PathBuf::from(std::env::var_os("EDP_REAL_TOOLS").expect("EDP_REAL_TOOLS beside EDP_REAL_DATA"));
    let python = std::env::var_os("EDP_PYTHON").expect("EDP_PYTHON beside EDP_REAL_DATA; `make conformance` sets it");
    let directory = tempfile::tempdir().unwrap();
    let demos = directory.path().join("demos");
    let (here, results) = (demos.join("native_latlon_local"), demos.join("data/ecco_results/V4r5"));
    let link = |from: &str, to: &Path| {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(data.join(from), to).unwrap();
    };
    std::fs::create_dir_all(&here).unwrap();
    link("V4r4/grid_ECCOV4r4", &demos.join("data/ecco_grids/V4r5/grid_ECCOV4r5"));
    link("V4r4/mapping_factors", &demos.join("data/ecco_mapping_factors/V4r5"));
    link("metadata/V4r5", &demos.join("ECCO-v4-Configurations/ECCOv4 Release 5/metadata"));
    for variable in ["SSH", "SSHIBC", "SSHNOIBC", "ETAN"] {
        let series = format!("{variable}_mon_mean");
        link(&format!("V4r4/results/V4r4/diags_monthly/{series}"), &results.join("diags_monthly").join(series));
    }
    let mut fields = Command::new(&python);
    fields
        .arg(tools.join("make_fields.py"))
        .arg("--grid")
        .arg(data.join("V4r4/grid_ECCOV4r4"))
        .arg("--out")
        .arg(&results);
    fields.args(["--seed", "5", "--period", "mon_mean", "--steps", "732,1428,2172"]);
    expect(fields.args(["UVEL:u3", "VVEL:v3", "WVELMASS:w3"]), 0);
    let text_of = |path: &str| std::fs::read_to_string(data.join(path)).unwrap();
    let configuration = text_of("config/product_generation_config_V4r5.yaml");
    let configuration = configuration.replace("revision 4 (V4r4)", "revision 5 (V4r5)");
    std::fs::create_dir_all(directory.path().join("config")).unwrap();
    std::fs::write(directory.path().join("config/config_V4r5.yaml"), configuration).unwrap();

    let mut plan = coordinator();
    plan.current_dir(&here).arg("plan").arg("--jobs").arg(data.join("public/edp_verif/jobs_V4r5.txt"));
    plan.args(["--source", "../data/ecco_results", "--destination", ".", "--config", "../../config/config_V4r5.yaml"]);
    plan.args([
        "--grid",
        "../data/ecco_grids/V4r5/grid_ECCOV4r5",
        "--mapping-factors",
        "../data/ecco_mapping_factors/V4r5",
    ]);
    plan.args(["--metadata", "../ECCO-v4-Configurations/ECCOv4 Release 5/metadata", "--compatibility", "edp-2026"]);
    expect(plan.args(["--tasks-out", "tasks.json"]), 0);
    let read = |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let mut ours = read(&here.join("tasks.json"));
    for recipe in ours.as_array_mut().unwrap() {
        assert!(recipe.as_object_mut().unwrap().remove("recipe").is_some());
    }
    // The lists are compared as text, since the order of keys matters.
    let theirs = data.join("public/edp_verif/tasks_V4r5.json.verif");
    assert_eq!(ours.as_array().unwrap().len(), 12);
    assert_eq!(ours.to_string(), read(&theirs).to_string());

    // Our list, and their own.
    std::fs::copy(&theirs, here.join("theirs.json")).unwrap();
    let run = |list: &str| {
        let said = text(&expect(coordinator().current_dir(&here).args(["run", list]), 0));
        assert!(said.contains("12 made of 12"), "{said}");
    };
    run("tasks.json");
    let mut check = Command::new(&python);
    let said = text(&expect(check.current_dir(&here).arg(tools.join("check_granule.py")).arg("tasks.json"), 0));
    assert!(said.contains("12 of 12 granules agree"), "{said}");
    std::fs::rename(here.join("V4r5"), here.join("ours")).unwrap();
    run("theirs.json");
    let made = files(&here.join("V4r5"));
    assert_eq!(made.len(), 12);
    for path in made.keys() {
        let [ours, theirs] = ["ours", "V4r5"].map(|root| netcdf::open(here.join(root).join(path)).unwrap());
        same_content(path, &ours, &theirs);
        let global = |name: &str| theirs.attribute(name).map(|attribute| attribute.value().unwrap());
        assert_eq!(global("product_version"), Some("Version 4, Release 5".to_owned().into()), "{path}");
        assert!(global("recipe_id").is_none(), "{path}: EDP of 2026 has none");
    }
}
