//! Mapping factors made by a user from a grid directory, in every format, and granules that are made with them.

use edp_engine::mapping::{Factors, existing};
use edp_protocol::recipe;
use edp_tests::{Fixture, coordinator, expect, files, json, program, text};
use std::path::{Path, PathBuf};
use std::process::Command;

const FORMS: [&str; 3] = ["edp", "nc", "esmf"];

fn factors(grid: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = program("edp-worker");
    command.arg("factors").arg("--grid").arg(grid).arg("--out").arg(out).args(more);
    command
}

/// The demo's own factors are the nearest neighbours on a grid of 10 degrees, and so are these in every format.
#[test]
fn granules_are_the_same_with_factors_of_every_form() {
    let mut fixture = Fixture::new(6);
    let values = |fixture: &Fixture, name: &str| {
        let list = fixture.plan(&fixture.path(name), &format!("{name}.json"), &[]);
        expect(coordinator().arg("run").arg(&list), 0);
        let recipes = recipe::parse_list("list", &std::fs::read(&list).unwrap()).unwrap();
        let mut all: Vec<(String, Vec<f32>)> = Vec::new();
        for recipe in recipes.iter().filter(|recipe| recipe.granule.contains("latlon")) {
            let granule = netcdf::open(&recipe.granule).unwrap();
            for variable in granule.variables().filter(|variable| variable.dimensions().len() > 2) {
                all.push((
                    format!("{} {}", granule.path().unwrap().file_name().unwrap().display(), variable.name()),
                    variable.get_values(..).unwrap(),
                ));
            }
        }
        assert!(!all.is_empty());
        all
    };
    let expected = values(&fixture, "demo");
    for form in FORMS {
        let out = fixture.path(&format!("factors-{form}"));
        let options = ["--resolution", "10", "--compatibility", "edp-2024", "--format", form, "--output", "json"];
        let made = json(&expect(&mut factors(&fixture.demo.grid, &out, &options), 0));
        assert_eq!(made["shape"], serde_json::json!([18, 36]), "{made}");
        assert_eq!((made["averaged"].as_u64(), made["uncovered"].as_u64()), (Some(0), Some(0)), "{made}");
        fixture.demo.factors = out;
        assert!(values(&fixture, form) == expected, "{form}");
    }
}

#[test]
fn numpy_and_netcdf4_read_what_is_written() {
    let Some(python) = std::env::var_os("EDP_PYTHON") else {
        assert!(std::env::var_os("CI").is_none(), "EDP_PYTHON is not set: run `make test`, which finds the readers");
        eprintln!("not run: EDP_PYTHON names no interpreter with netCDF4 and numpy; `make test` sets it");
        return;
    };
    let fixture = Fixture::new(8);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/read_factors.py");
    for (name, options) in [
        ("averages", &["--resolution", "6", "--radius", "900"][..]),
        ("method_1", &["--resolution", "10"]),
        ("edp-2024", &["--resolution", "5", "--compatibility", "edp-2024"]),
        ("region", &["--resolution", "2.5", "--extent=-60,-30,0,40", "--method", "method_2", "--neighbours", "2"]),
    ] {
        let out = FORMS.map(|form| fixture.path(&format!("{name}-{form}")));
        for (form, out) in FORMS.iter().zip(&out) {
            expect(factors(&fixture.demo.grid, out, options).args(["--format", form]), 0);
        }
        let output = expect(Command::new(&python).arg(&script).args(&out), 0);
        println!("{}", text(&output));
    }
}

#[test]
fn the_model_s_own_files_give_the_same_factors_as_the_geometry() {
    let fixture = Fixture::new(6);
    let grid = fixture.path("model-files");
    std::fs::create_dir(&grid).unwrap();
    for name in ["XC", "YC", "DXG", "DYG", "DRF", "hFacC"] {
        for end in ["meta", "data"] {
            let name = format!("{name}.{end}");
            std::fs::copy(fixture.demo.grid.join(&name), grid.join(&name)).unwrap();
        }
    }
    let [first, second] = ["of-geometry", "of-model"].map(|name| fixture.path(name));
    expect(&mut factors(&fixture.demo.grid, &first, &["--resolution", "10"]), 0);
    expect(&mut factors(&grid, &second, &["--resolution", "10"]), 0);
    assert!(files(&first).len() > 10);
    assert!(files(&first) == files(&second));
    std::fs::remove_file(grid.join("DYG.meta")).unwrap();
    std::fs::remove_file(grid.join("DYG.data")).unwrap();
    let output = expect(&mut factors(&grid, &fixture.path("none"), &["--resolution", "10"]), 2);
    assert!(
        text(&output).contains("model-files: no DYG: neither DYG.meta and DYG.data nor a mitgrid file"),
        "{}",
        text(&output)
    );
    let output = expect(&mut factors(&fixture.demo.results, &fixture.path("none"), &[]), 2);
    assert!(text(&output).contains("no grid: neither a native geometry"), "{}", text(&output));
}

#[test]
fn configurations_and_spellings_of_edp_are_understood() {
    let fixture = Fixture::new(6);
    let configuration = fixture.path("factors.yaml");
    let text_of = "history: x\nlatlon_grid_resolution: 5\nlatlon_grid_radius_method: method_2\n\
                   latlon_grid_area_extent: [-90.0, 90.0, 90.0, -90.0]\nlatlon_effective_grid_radius:\n";
    std::fs::write(&configuration, text_of).unwrap();
    let out = fixture.path("out");
    let edp = |more: &[&str]| {
        let mut command = program("edp-worker");
        command.args(["factors", "--workingdir", ".", "--dims", "2", "3", "--output", "json"]);
        command.arg("--grid_file").arg(&fixture.demo.grid).arg("--cfgfile").arg(&configuration);
        command.arg("--output_dir").arg(&out).args(more);
        command
    };
    let made = json(&expect(&mut edp(&[]), 0));
    assert_eq!(made["shape"], serde_json::json!([36, 36]));
    assert!(made["radius"].as_str().unwrap().starts_with("method_2"), "{made}");
    // Existing factors are kept.
    let before = files(&out);
    let output = expect(&mut edp(&[]), 2);
    assert!(text(&output).contains("has factors already") && text(&output).contains("--replace"), "{}", text(&output));
    assert!(files(&out) == before);
    expect(&mut edp(&["--force"]), 0);
    assert!(files(&out) == before);
    // Another format replaces the first one.
    let made = json(&expect(&mut edp(&["--replace", "--format", "esmf", "--method", "method_1"]), 0));
    assert!(made["radius"].as_str().unwrap().starts_with("method_1"), "{made}");
    assert!(existing(&out).unwrap().iter().all(|file| file.extension().is_some_and(|end| end == "nc")));
    assert_eq!(Factors::open(&out).unwrap().shape(), (36, 36));
    let config = |text: &str| std::fs::write(&configuration, text).unwrap();
    config("latlon_grid_radius_method: method_9\n");
    assert!(text(&expect(&mut edp(&["--replace"]), 2)).contains("line 1, key latlon_grid_radius_method"));
    config("latlon_grid_resolution: 7\n");
    assert!(text(&expect(&mut edp(&["--replace"]), 2)).contains("no whole number of cells"));
    let there: PathBuf = fixture.path("file");
    std::fs::write(&there, "").unwrap();
    assert!(text(&expect(&mut factors(&fixture.demo.grid, &there, &[]), 2)).contains("is not a directory"));
    // Nothing was removed for factors that could not be made.
    assert_eq!(Factors::open(&out).unwrap().shape(), (36, 36));
}
