//! `init`: from the directory of a model run to verified granules, in five commands.

use edp_protocol::recipe;
use edp_tests::{Fixture, coordinator, expect, layouts, text};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Parameter files of the demo's run, as MITgcm reads them.
const DATA: &str = "# ====\n &PARM03\n nIter0=0,\n nTimeSteps=8772,\n deltaTmom=3600.,\n deltaTClock =3600.,\n /\n &PARM04\n delR = 10*100., 500.\n /\n";
const CALENDAR: &str = " &CAL_NML\n TheCalendar='gregorian',\n startDate_1=19920101,\n startDate_2=120000,\n &END\n";
const DIAGNOSTICS: &str = " &DIAGNOSTICS_LIST\n frequency(1) = 2635200.0,\n fields(1:2,1) = 'SSH','SSHIBC',\n filename(1) = 'diags/state_2d_mon',\n\
     frequency(2) = 2635200.0,\n filename(2) = 'diags/state_3d_mon',\n frequency(3) = 21600.0,\n filename(3) = 'diags/six_hourly',\n /\n";

/// The demo's model run as MITgcm leaves it: everything in one directory, several variables in each file.
fn run_directory(fixture: &Fixture) -> PathBuf {
    let run = fixture.path("my_run");
    layouts::grouped(&fixture.demo.results, &run, false);
    for entry in fs::read_dir(&fixture.demo.grid).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "nc") {
            fs::copy(&path, run.join(path.file_name().unwrap())).unwrap();
        }
    }
    for (name, text) in [("data", DATA), ("data.cal", CALENDAR), ("data.diagnostics", DIAGNOSTICS)] {
        fs::write(run.join(name), text).unwrap();
    }
    run
}

/// Returns the values of a variable of the first granule below a directory whose name begins so.
fn values(root: &Path, start: &str, variable: &str) -> Vec<f64> {
    let granule = edp_tests::files(root).into_keys().find(|name| name.rsplit('/').next().unwrap().starts_with(start));
    let granule = granule.unwrap_or_else(|| panic!("no {start} below {}", root.display()));
    let file = netcdf::open(root.join(&granule)).unwrap();
    let variable = file.variable(variable).unwrap_or_else(|| panic!("no {variable} in {granule}"));
    variable.get_values(..).unwrap()
}

#[test]
fn five_commands_go_from_a_run_to_verified_granules() {
    let fixture = Fixture::new(8);
    let (run, made) = (run_directory(&fixture), fixture.path("made"));
    let output = expect(coordinator().arg("init").arg(&run).arg("--out").arg(&made).args(["--resolution", "6"]), 0);
    let said = text(&output);
    for guess in ["six_hourly: data.diagnostics asks for it", "llc8 with 10 levels", "1992-01-01T12:00:00"] {
        assert!(said.contains(guess), "{guess}: {said}");
    }
    let here = |arguments: &[&str], status: i32| expect(coordinator().current_dir(&made).args(arguments), status);
    let lint = here(&["lint", "--config", "config.yaml", "--metadata", "metadata", "--no-notes"], 0);
    assert!(text(&lint).contains("0 errors"), "{}", text(&lint));
    here(&["plan", "--dataset", "all", "--on", "native,latlon", "--tasks-out", "tasks.json"], 0);
    here(&["run", "tasks.json"], 0);
    here(&["verify", "tasks.json"], 0);

    // The values are those of granules that are made from single files with the demo's own metadata.
    let list = fixture.plan(&fixture.path("plain"), "plain.json", &[]);
    expect(coordinator().arg("run").arg(&list), 0);
    let granules = made.join("granules");
    let mine = values(&granules, "STATE_2D_MON_mon_mean_1992-01_MITgcm_my-run_native", "SSH");
    assert_eq!(mine, values(&fixture.path("plain"), "SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_DEMO_native", "SSH"));
    let east = values(&granules, "STATE_3D_MON_mon_mean_1992-01_MITgcm_my-run_latlon", "EVEL");
    assert!(east.iter().any(|value| value.abs() < 10.0 && *value != 0.0));
    let theta = values(&granules, "STATE_3D_MON_mon_mean_1992-01_MITgcm_my-run_native", "THETA");
    let plain = values(&fixture.path("plain"), "OCEAN_TEMPERATURE_SALINITY_mon_mean_1992-01_ECCO_DEMO_native", "THETA");
    assert_eq!(theta, plain);
}

#[test]
fn names_of_granules_follow_the_pattern_of_the_configuration() {
    let fixture = Fixture::new(8);
    let config = fs::read_to_string(&fixture.demo.configuration).unwrap();
    let pattern = |words: &str| format!("<filename>_<period>_<date>_{words}<version>_<grid>_<label>.nc");
    let usual = fixture.plan(&fixture.path("usual"), "usual.json", &[]);
    let ids = |list: &Path| -> BTreeSet<String> {
        let recipes = recipe::parse_list("list", &fs::read(list).unwrap()).unwrap();
        recipes.into_iter().map(|recipe| recipe.recipe.unwrap().id).collect()
    };
    for (directory, words) in [("none", ""), ("two", "My-run_2.0_")] {
        fs::write(&fixture.demo.configuration, format!("{config}\ngranule_name_pattern: '{}'\n", pattern(words)))
            .unwrap();
        let out = fixture.path(directory);
        let list = fixture.plan(&out, &format!("{directory}.json"), &[]);
        assert!(ids(&list).is_disjoint(&ids(&usual)));
        expect(
            coordinator().arg("run").arg(&list).arg("--ledger").arg(fixture.path(&format!("{directory}.ledger"))),
            0,
        );
        expect(coordinator().arg("verify").arg(&list), 0);
        let name = format!("SEA_SURFACE_HEIGHT_mon_mean_1992-02_{words}DEMO_native_llc0008.nc");
        let granule = netcdf::open(out.join("DEMO/native/mon_mean/SEA_SURFACE_HEIGHT").join(&name)).unwrap();
        let inside = granule.attribute("product_name").unwrap().value().unwrap();
        assert_eq!(inside, netcdf::AttributeValue::Str(name));
    }
    fs::write(&fixture.demo.configuration, format!("{config}\ngranule_name_pattern: '{}'\n", pattern("a/b_"))).unwrap();
    let refused = expect(coordinator().arg("plan").args(fixture.options(&fixture.path("refused"))), 2);
    assert!(text(&refused).contains("granule_name_pattern"), "{}", text(&refused));
}

#[test]
fn what_the_run_does_not_say_can_be_given() {
    let fixture = Fixture::new(8);
    let run = run_directory(&fixture);
    let init = |out: &str, more: &[&str], status: i32| {
        let mut command = coordinator();
        command.arg("init").arg(&run).arg("--out").arg(fixture.path(out)).args(["--resolution", "12"]).args(more);
        text(&expect(&mut command, status))
    };
    fs::remove_file(run.join("data.cal")).unwrap();
    assert!(init("a", &[], 2).contains("no `data.cal`, so that the date of step 0 is not known; give --start"));
    fs::write(run.join("data.cal"), " &CAL_NML\n TheCalendar='model',\n startDate_1=10101,\n /\n").unwrap();
    assert!(init("a", &[], 2).contains("TheCalendar = 'model'"));
    fs::write(run.join("data"), " &PARM03\n deltaT=0.5,\n /\n").unwrap();
    let said = init("a", &[], 2);
    assert!(said.contains("give --step-seconds") && said.contains("TheCalendar = 'model'"), "both at once: {said}");
    let start = ["--start", "1992-01-01T12:00:00"];
    assert!(init("a", &start, 2).contains("deltat = 0.5 in `data` is no whole number of seconds; give --step-seconds"));
    let all = [&start[..], &["--step-seconds", "3600", "--name", "mine"]].concat();
    fs::remove_file(run.join("available_diagnostics.log")).unwrap();
    let said = init("a", &all, 0);
    assert!(said.contains("UVEL: its units are not known") && said.contains("taken to lie at cell faces"), "{said}");
    assert!(init("a", &all, 2).contains("holds files already; name a new directory"));
    assert!(init("b", &[&all[..4], &["--name", "a_b"]].concat(), 2).contains("only letters, digits and hyphens"));
    fs::write(run.join("data"), " &PARM03\n deltaT='fast,\n /\n").unwrap();
    assert!(init("b", &start, 2).contains("data, line 2: a quotation mark is not closed"));
}

#[test]
fn runs_on_other_grids_are_refused_by_their_first_array() {
    let directory = tempfile::tempdir().unwrap();
    let run = directory.path().join("lab_sea");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("data"), DATA).unwrap();
    let header =
        " nDims = [ 2 ];\n dimList = [\n 20, 1, 20,\n 16, 1, 16\n ];\n dataprec = [ 'float32' ];\n nrecords = [ 1 ];\n";
    fs::write(run.join("Depth.meta"), header).unwrap();
    let output = expect(coordinator().arg("init").arg(&run).arg("--out").arg(directory.path().join("out")), 2);
    let said = text(&output);
    assert!(said.contains("Depth.meta") && said.contains("20 x 16 cells: this is no lat-lon-cap grid"), "{said}");
    assert!(!directory.path().join("out").exists());
    fs::remove_file(run.join("Depth.meta")).unwrap();
    let output = expect(
        coordinator()
            .arg("init")
            .arg(&run)
            .arg("--out")
            .arg(directory.path().join("out"))
            .args(["--start", "1992-01-01T00:00:00"]),
        2,
    );
    assert!(text(&output).contains("no results of diagnostics"), "{}", text(&output));
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_runs_of_the_model_on_other_grids_are_refused() {
    let data =
        PathBuf::from(std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data"));
    let directory = tempfile::tempdir().unwrap();
    for (run, cells) in [
        ("mds_MITgcm/verification/lab_sea/input", "20 x 16"),
        ("headers/MITgcm_meta_corpus/verification/global_ocean.cs32x15/input", "192 x 32"),
    ] {
        let run = data.join("public").join(run);
        let output = expect(coordinator().arg("init").arg(&run).arg("--out").arg(directory.path().join("out")), 2);
        let said = text(&output);
        assert!(said.contains(cells) && said.contains("this is no lat-lon-cap grid"), "{said}");
    }
}
