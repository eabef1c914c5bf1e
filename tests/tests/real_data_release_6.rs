//! Conformance: Release 6 as made by the EDP of 2026, compared with what that program wrote from the same inputs.
//!
//! The data are not part of the project, see `real_data.rs`: `EDP_REAL_DATA`, `EDP_REAL_TOOLS`, `EDP_PYTHON`.

use edp_engine::metadata::source::Metadata;
use edp_protocol::{Digest, Frequency, Mode, name};
use edp_tests::{coordinator, expect, files, global, program, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// SHA-256 of the made-up salinity from which the values of the reference were computed. Versions of numpy below 2
/// compute sums of waves with other last bits, in this field and in that of VVEL.
const SALINITY: &str = "e6389f118427bbf2df6d7c09b1dde4f6719f87b0fba5662238357d2a7cba2723";

/// The inputs of Release 6 in the layout that its task list names.
struct Release {
    directory: tempfile::TempDir,
    data: PathBuf,
    tools: PathBuf,
}

impl Release {
    /// Makes the inputs with results for the list of EDP.
    fn new() -> Release {
        let release = Release::without_results();
        let (path, data) = (|name: &str| release.path(name), |name: &str| release.data.join(name));
        let results = path("results/V4r6");
        fs::create_dir_all(results.join("diags_monthly")).unwrap();
        for entry in fs::read_dir(data("V4r4/results/V4r4/diags_monthly")).unwrap() {
            let entry = entry.unwrap();
            symlink(entry.path(), results.join("diags_monthly").join(entry.file_name())).unwrap();
        }
        let heights = ["SSH:c2", "SSHIBC:c2", "SSHNOIBC:c2", "ETAN:c2"];
        release.fields("1", "day_mean", "12,36", &heights);
        release.fields("2", "mon_snap", "732", &heights);
        let months = [
            "THETA:c3",
            "SALT:c3",
            "UVEL:u3",
            "VVEL:v3",
            "WVELMASS:w3",
            "EXFtaux:c2",
            "EXFtauy:c2",
            "oceTAUX:u2",
            "oceTAUY:v2",
            "botTauX:u2",
            "botTauY:v2",
        ];
        release.fields("3", "mon_mean", "732", &months);
        release
    }

    fn without_results() -> Release {
        let data =
            PathBuf::from(std::env::var_os("EDP_REAL_DATA").expect("EDP_REAL_DATA names the folder of the real data"));
        let tools = PathBuf::from(std::env::var_os("EDP_REAL_TOOLS").expect("EDP_REAL_TOOLS beside EDP_REAL_DATA"));
        let directory = tempfile::tempdir().unwrap();
        let release = Release { directory, data, tools };
        let (path, data) = (|name: &str| release.path(name), |name: &str| release.data.join(name));
        release.grid("grid");
        for (name, target) in [
            ("factors", "V4r4/mapping_factors"),
            ("metadata", "metadata/V4r6"),
            ("config.yaml", "config/product_generation_config_V4r6.yaml"),
        ] {
            symlink(data(target), path(name)).unwrap();
        }
        release
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn expected(&self, name: &str) -> PathBuf {
        self.data.join("V4r6/expected").join(name)
    }

    fn python(&self, tool: &str) -> Command {
        let python = std::env::var_os("EDP_PYTHON").expect("EDP_PYTHON beside EDP_REAL_DATA");
        let mut command = Command::new(python);
        command.arg(self.tools.join(tool));
        command
    }

    /// Makes up model output for some fields.
    fn fields(&self, seed: &str, period: &str, steps: &str, fields: &[&str]) {
        let mut command = self.python("make_fields.py");
        command.arg("--grid").arg(self.data.join("V4r4/grid_ECCOV4r4"));
        command.arg("--out").arg(self.path("results/V4r6")).args(["--seed", seed, "--period", period]);
        expect(command.args(["--steps", steps]).args(fields), 0);
    }

    /// Makes the grid of Release 4 with the list of diagnostics of Release 6.
    fn grid(&self, name: &str) {
        let grid = self.path(name);
        fs::create_dir(&grid).unwrap();
        for entry in fs::read_dir(self.data.join("V4r4/grid_ECCOV4r4")).unwrap() {
            let entry = entry.unwrap();
            symlink(entry.path(), grid.join(entry.file_name())).unwrap();
        }
        let list = grid.join("available_diagnostics.log");
        fs::remove_file(&list).unwrap();
        symlink(self.data.join("V4r6/available_diagnostics.log"), &list).unwrap();
    }

    fn plan(&self, mode: &str, grid: &str, list: &str) -> Command {
        let mut plan = self.plan_of_jobs(mode, grid, list);
        plan.arg("--jobs").arg(self.expected("jobs_V4r6.txt"));
        plan
    }

    /// Returns a plan without its jobs.
    fn plan_of_jobs(&self, mode: &str, grid: &str, list: &str) -> Command {
        let mut plan = coordinator();
        plan.current_dir(self.directory.path()).arg("plan");
        plan.args(["--source", "results", "--destination", "granules", "--grid", grid, "--metadata", "metadata"]);
        plan.args(["--mapping-factors", "factors", "--config", "config.yaml", "--compatibility", mode]);
        plan.args(["--tasks-out", list]);
        plan
    }

    fn run(&self, list: &str) {
        let _ = fs::remove_dir_all(self.path("granules"));
        expect(coordinator().current_dir(self.directory.path()).args(["run", list]), 0);
    }

    /// Compares the granule whose name begins in this way with the file of that name, values included.
    fn check(&self, granule: &str, grid: &str, expected: &str) {
        let made = files(&self.path("granules"));
        let path = made.keys().find(|path| {
            let path = path.to_string();
            path.contains(&format!("/{granule}")) && path.contains(&format!("_{grid}_"))
        });
        let path = self.path("granules").join(path.unwrap_or_else(|| panic!("no granule {granule} {grid}")));
        let mut command = self.python("check_expected.py");
        command.arg(path).arg(self.expected(&format!("{expected}.json")));
        let salinity = self.path("results/V4r6/diags_monthly/SALT_mon_mean/SALT_mon_mean.0000000732.data");
        let same_inputs = Digest::of(&fs::read(salinity).unwrap()).as_str() == SALINITY;
        if same_inputs || !["OCEAN_TEMPERATURE", "OCEAN_VELOCITY"].iter().any(|dataset| expected.starts_with(dataset)) {
            command.arg("--values").arg(self.expected("values_sha256.json"));
        } else {
            println!("{expected}: not held against values, which come from inputs of another numpy");
        }
        let output = expect(&mut command, 0);
        assert!(text(&output).contains("as expected"), "{expected}: {}", text(&output));
    }

    /// Checks every time-varying granule for which EDP has made one.
    fn check_all(&self) {
        for (granule, date, grids) in [
            ("SEA_SURFACE_HEIGHT_mon_mean", "1992-01", &["native", "latlon"][..]),
            ("SEA_SURFACE_HEIGHT_day_mean", "1992-01-03", &["latlon"]),
            ("SEA_SURFACE_HEIGHT_snap", "1992-02-01T000000", &["native"]),
            ("OCEAN_TEMPERATURE_SALINITY_mon_mean", "1992-01", &["native", "latlon"]),
            ("OCEAN_VELOCITY_mon_mean", "1992-01", &["native", "latlon"]),
            ("OCEAN_AND_ICE_SURFACE_STRESS_mon_mean", "1992-01", &["native"]),
        ] {
            let (dataset, period) = granule.split_at(granule.len() - if granule.ends_with("snap") { 5 } else { 9 });
            for grid in grids {
                self.check(&format!("{granule}_{date}_"), grid, &format!("{dataset}_{grid}{period}"));
            }
        }
    }
}

fn list(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_is_planned_and_made_as_edp_2026_does() {
    let release = Release::new();
    let output = expect(&mut release.plan("edp-2026", "grid", "tasks.json"), 0);
    assert!(text(&output).contains("17 recipes"), "{}", text(&output));
    let mut ours = list(&release.path("tasks.json"));
    for recipe in ours.as_array_mut().unwrap() {
        assert!(recipe.as_object_mut().unwrap().remove("recipe").is_some());
    }
    // The lists are compared as text, since the order of keys matters.
    let theirs = list(&release.expected("tasks_V4r6.json"));
    assert_eq!(ours.to_string(), theirs.to_string());
    release.run("tasks.json");
    release.check_all();
    // This is EDP's own list, which names its configuration.
    fs::copy(release.expected("tasks_V4r6.json"), release.path("theirs.json")).unwrap();
    release.run("theirs.json");
    release.check_all();
    // Without the configuration it is a list of 2024.
    let mut older = theirs;
    for recipe in older.as_array_mut().unwrap() {
        recipe.as_object_mut().unwrap().remove("ecco_cfg_loc");
    }
    fs::write(release.path("older.json"), older.to_string()).unwrap();
    let _ = fs::remove_dir_all(release.path("granules"));
    let mut run = coordinator();
    run.current_dir(release.directory.path()).args(["run", "older.json", "--config", "config.yaml"]);
    expect(&mut run, 0);
    for name in files(&release.path("granules")).into_keys().filter(|name| !name.to_string().contains("_snap_")) {
        let granule = netcdf::open(release.path("granules").join(name)).unwrap();
        assert!(granule.attribute("coordinates_comment").is_some() && granule.attribute("coordinates_note").is_none());
    }
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_has_the_edge_points_of_its_geometry() {
    let release = Release::new();
    release.grid("gridx");
    // The edge points of the reference are made up: they are those of the corners.
    let geometry = release.path("gridx/GRID_GEOMETRY_ECCO_V4r4_native_llc0090.nc");
    let original = fs::canonicalize(&geometry).unwrap();
    fs::remove_file(&geometry).unwrap();
    fs::copy(original, &geometry).unwrap();
    let mut permissions = fs::metadata(&geometry).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(&geometry, permissions).unwrap();
    let mut file = netcdf::append(&geometry).unwrap();
    for (name, corner, dimensions) in [
        ("XU", "XG", ["tile", "j", "i_g"]),
        ("YU", "YG", ["tile", "j", "i_g"]),
        ("XV", "XG", ["tile", "j_g", "i"]),
        ("YV", "YG", ["tile", "j_g", "i"]),
    ] {
        let values: Vec<f32> = file.variable(corner).unwrap().get_values(..).unwrap();
        file.add_variable::<f32>(name, &dimensions).unwrap().put_values(&values, ..).unwrap();
    }
    drop(file);
    expect(&mut release.plan("edp-2026", "gridx", "tasks.json"), 0);
    release.run("tasks.json");
    let stress = "OCEAN_AND_ICE_SURFACE_STRESS_native_mon_mean_with_XU";
    release.check("OCEAN_AND_ICE_SURFACE_STRESS_mon_mean_1992-01_", "native", stress);
    // A granule without variables at these points has none of them.
    release.check("SEA_SURFACE_HEIGHT_mon_mean_1992-01_", "native", "SEA_SURFACE_HEIGHT_native_mon_mean");
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_corrected_has_the_identifiers_of_the_archive() {
    let release = Release::new();
    expect(release.plan("corrected", "grid", "tasks.json").arg("--allow-partial"), 0);
    release.run("tasks.json");
    let snapshot = files(&release.path("granules")).into_keys().find(|name| name.to_string().contains("_snap_"));
    let granule = netcdf::open(release.path("granules").join(snapshot.unwrap())).unwrap();
    for (name, expected) in [
        ("id", "ECCO_L4_SSH_LLC0090GRID_SNAPSHOT_V4R6"),
        ("metadata_link", "https://doi.org/10.5067/ECL5S-SSH46"),
        ("identifier_product_doi", "https://doi.org/10.5067/ECL5S-SSH46"),
        ("identifier_product_doi_authority", "org.doi"),
        ("time_coverage_start", "1992-02-01T00:00:00Z"),
        ("time_coverage_end", "1992-02-01T00:00:00Z"),
    ] {
        let found = granule.attribute(name).unwrap().value().unwrap();
        assert!(matches!(&found, netcdf::AttributeValue::Str(text) if text == expected), "{name}: {found:?}");
    }
    assert!(granule.attribute("coordinates_note").is_none() && granule.attribute("project_summary").is_none());
}

/// The points that remain are in doc/compliance.md. The metadata have no entries for two stresses at the bottom.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_corrected_passes_the_checkers() {
    let Some(python) = std::env::var_os("EDP_CHECKERS") else {
        return edp_tests::not_run("EDP_CHECKERS names no interpreter with the checkers; `make conformance` sets it");
    };
    let release = Release::new();
    expect(release.plan("corrected", "grid", "tasks.json").arg("--allow-partial"), 0);
    release.run("tasks.json");
    let made = files(&release.path("granules")).into_keys().filter(|name| name.ends_with(".nc"));
    // One granule of each dataset and grid: other months differ in their values only.
    let (undescribed, described): (Vec<String>, Vec<String>) = made
        .filter(|name| !["1992-02_", "1992-03_", "1992-01-02_"].iter().any(|date| name.contains(date)))
        .map(|name| release.path("granules").join(name).display().to_string())
        .partition(|name| name.contains("SURFACE_STRESS"));
    assert_eq!((undescribed.len(), described.len()), (2, 9));
    let mut check = Command::new(python);
    check.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/checkers.py")).args(described);
    let output = expect(check.arg("--undescribed").args(undescribed), 0);
    println!("{}", text(&output));
    assert!(text(&output).contains("11 of 11 granules are understood by all"), "{}", text(&output));
}

/// Tasks that people write: the geometry, and made-up mixing coefficients.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_has_its_time_invariant_granules() {
    let release = Release::new();
    let mut inputs = release.python("make_fields.py");
    let python = inputs.get_program().to_owned();
    inputs = Command::new(python);
    inputs.arg(release.expected("make_static_inputs.py")).arg(release.data.join("V4r4/grid_ECCOV4r4"));
    expect(inputs.current_dir(release.directory.path()), 0);
    let list = release.path("grid/available_diagnostics.log");
    fs::copy(list, release.path("gridx/available_diagnostics.log")).unwrap();
    fs::copy(release.expected("static_tasks.json"), release.path("static_tasks.json")).unwrap();
    let output = expect(coordinator().current_dir(release.directory.path()).args(["run", "static_tasks.json"]), 0);
    assert!(text(&output).contains("6 made of 6"), "{}", text(&output));
    // Older versions of xarray write the variables of the inputs in another order, and the names in the attribute
    // `coordinates` in an order that changes from run to run. Both go on into the granules.
    let input = netcdf::open(release.path("static_native_in.nc")).unwrap();
    let named = input.variable("DIFFKR").unwrap().attribute_value("coordinates").unwrap().unwrap();
    let levels: Vec<String> =
        input.variables().map(|v| v.name()).filter(|name| ["k", "Z"].contains(&&**name)).collect();
    let same_inputs = levels == ["k", "Z"] && matches!(named, netcdf::AttributeValue::Str(text) if text == "XC YC Z");
    let mixing = "OCEAN_3D_MIXING_COEFFS_ECCO_V4r6_native_llc0090.nc";
    let geometry = "dest_x/V4r6/native/GRID_GEOMETRY_ECCO_V4r6_native_llc0090.nc";
    let mixing_values = "OCEAN_3D_MIXING_COEFFS_native_static";
    for (granule, expected) in [
        (format!("strip/{mixing}"), format!("{mixing_values}_strip")),
        (format!("nostrip/{mixing}"), format!("{mixing_values}_nostrip")),
        (geometry.to_owned(), "GRID_GEOMETRY_native_static_task".to_owned()),
    ] {
        if !same_inputs {
            println!("{expected}: not compared, since another xarray wrote the inputs with other names of coordinates");
            continue;
        }
        let mut command = release.python("check_expected.py");
        command.arg(release.path(&granule)).arg(release.expected(&format!("{expected}.json")));
        command.arg("--values").arg(release.expected("values_sha256.json"));
        let output = expect(&mut command, 0);
        assert!(text(&output).contains("as expected"), "{granule}: {}", text(&output));
    }
    for (input, name, strip) in [
        ("pregrid_native.nc", "GRID_GEOMETRY_ECCO_V4r6_native_llc0090.nc", true),
        ("pregrid_latlon.nc", "GRID_GEOMETRY_ECCO_V4r6_latlon_0p50deg.nc", true),
    ] {
        let mut annotate = program("edp-worker");
        annotate.current_dir(release.directory.path()).args(["annotate", "-i", input, "-o", name, "-m", "metadata"]);
        annotate.args(["-c", "config.yaml", "--compatibility", "edp-2026"]).args(strip.then_some("-s"));
        expect(&mut annotate, 0);
        if !same_inputs {
            continue;
        }
        let grid = if name.contains("native") { "native" } else { "latlon" };
        let mut command = release.python("check_expected.py");
        command.arg(release.path(name)).arg(release.expected(&format!("GRID_GEOMETRY_{grid}_add_metadata.json")));
        command.arg("--values").arg(release.expected("values_sha256.json"));
        let output = expect(&mut command, 0);
        assert!(text(&output).contains("as expected"), "{name}: {}", text(&output));
    }
    let kept = |directory: &str| {
        let granule = netcdf::open(release.path(directory).join(mixing)).unwrap();
        granule.variable("DIFFKR").unwrap().attribute("left_over").is_some()
    };
    assert_eq!(["text_true", "text_false", "nostrip"].map(kept), [false, false, true], "EDP strips by any text");
    // The same in our own way: the geometry's masks stay truth values, and "False" means what it says.
    fs::remove_dir_all(release.path("dest_x")).unwrap();
    for directory in ["strip", "nostrip", "text_true", "text_false"] {
        fs::remove_dir_all(release.path(directory)).unwrap();
    }
    let mut run = coordinator();
    run.current_dir(release.directory.path()).args(["run", "static_tasks.json", "--compatibility", "corrected"]);
    expect(&mut run, 0);
    assert_eq!(["text_true", "text_false"].map(kept), [false, true]);
    let made = netcdf::open(release.path(geometry)).unwrap();
    let mask = made.variable("maskC").unwrap();
    if same_inputs {
        // Older versions of xarray write no mark of truth values.
        assert_eq!(mask.vartype(), netcdf::types::NcVariableType::Int(netcdf::types::IntType::I8));
    }
    let wet: Vec<i8> = mask.get_values(..).unwrap();
    assert_eq!(wet.iter().filter(|wet| **wet == 1).count(), 2_406_992);
    let [ours, theirs] = [release.path(geometry), release.path("pregrid_native.nc")]
        .map(|path| netcdf::open(path).unwrap().variable("Depth").unwrap().get_values::<f32, _>(..).unwrap());
    assert!(ours.iter().zip(&theirs).all(|(ours, theirs)| ours == theirs), "Depth is as before");
}

/// The rows of some monthly means have a full date, which EDP does not accept.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_finds_the_row_of_ice_shelf_fluxes() {
    let release = Release::without_results();
    release.fields("6", "mon_mean", "732", &["SHIfwFlx:c2", "SHIhtFlx:c2"]);
    let table = fs::read_to_string(release.path("metadata/PODAAC_dataset_table_V4r6_20260525.csv")).unwrap();
    let row = table.lines().find(|row| row.contains("ICE_SHELF_FLUX_mon_mean_1992-01-01_ECCO_V4r6_native_llc0090.nc"));
    let [name, short, _, doi, _] = row.unwrap().split(',').collect::<Vec<_>>()[..] else { panic!("{row:?}") };
    let doi = format!("https://doi.org/{doi}");
    for (mode, id, link, title) in
        [("corrected", short, doi.as_str(), name), ("edp-2026", "TBD_PODAAC_SHORTNAME", "TBD_DOI", "TBD_BY_GRANULE")]
    {
        let mut plan = release.plan_of_jobs(mode, "grid", "tasks.json");
        expect(plan.args(["--dataset", "ICE_SHELF_FLUX", "--on", "native", "--frequency", "month"]), 0);
        release.run("tasks.json");
        let made = files(&release.path("granules")).into_keys().find(|path| path.ends_with(".nc")).unwrap();
        let granule = netcdf::open(release.path("granules").join(made)).unwrap();
        let doi = if mode == "corrected" { link } else { "TBD_BY_GRANULE" };
        for (name, want) in [("id", id), ("metadata_link", link), ("identifier_product_doi", doi), ("title", title)] {
            assert_eq!(global(&granule, name).as_deref(), Some(want), "{mode}: {name}");
        }
        assert_eq!(global(&granule, "coordinates_note"), None);
    }
}

/// Writes a pair without values for every variable of every dataset at one step, as a complete model run leaves them.
/// Returns the jobs of all time-varying datasets, as a job file has them.
fn complete_results(release: &Release) -> Vec<String> {
    const HEADER: &str = "nDims=[2];dimList=[90,1,90,1170,1,1170];dataprec=['float32'];nrecords=[1];";
    let (metadata, _) = Metadata::load(&release.path("metadata")).unwrap();
    let mut jobs = Vec::new();
    for (grid, groupings) in &metadata.groupings {
        for (at, grouping) in groupings.iter().enumerate() {
            for frequency in grouping.frequencies.iter().filter(|frequency| **frequency != Frequency::TimeInvariant) {
                let word = name::input_periods(*frequency, Mode::Corrected)[0];
                for field in &grouping.fields {
                    for source in grouping.kind(field, *grid).unwrap().sources(field) {
                        let series = release.path("results/V4r6/diags").join(format!("{source}_{word}"));
                        fs::create_dir_all(&series).unwrap();
                        let stem = series.join(format!("{source}_{word}.0000000732")).display().to_string();
                        fs::write(format!("{stem}.data"), "").unwrap();
                        fs::write(format!("{stem}.meta"), HEADER).unwrap();
                    }
                }
                let frequency = match frequency {
                    Frequency::Day => "AVG_DAY",
                    Frequency::Month => "AVG_MON",
                    _ => "SNAP",
                };
                jobs.push(format!("[{at}, '{grid}', '{frequency}', 'all']  # {}", grouping.filename));
            }
        }
    }
    jobs
}

#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_lacks_one_row_for_the_archive() {
    let release = Release::without_results();
    let jobs = complete_results(&release);
    assert_eq!(jobs.len(), 65 + 26, "native and latlon datasets, without those that do not change with time");
    let mut plan = release.plan_of_jobs("corrected", "grid", "tasks.json");
    let said = text(&expect(plan.args(["--dataset", "all", "--archive"]), 2));
    let wrong: Vec<&str> = said.lines().filter(|line| line.contains("plan without --archive")).collect();
    assert_eq!(wrong.len(), 1, "{said}");
    assert!(wrong[0].contains("SNAP of native OCEAN_BOLUS_VELOCITY: no row of "), "{said}");
    // The same without this dataset, and with it alone.
    let is_without_row = |job: &&String| job.contains("OCEAN_BOLUS_VELOCITY") && job.contains("SNAP");
    let (without, others): (Vec<_>, Vec<_>) = jobs.iter().partition(is_without_row);
    assert_eq!(without.len(), 1);
    for (jobs, status) in [(without, 2), (others, 0)] {
        let text = jobs.iter().map(|job| format!("{job}\n")).collect::<String>();
        fs::write(release.path("jobs.txt"), text).unwrap();
        let mut plan = release.plan_of_jobs("corrected", "grid", "tasks.json");
        expect(plan.args(["--jobs", "jobs.txt", "--archive"]), status);
    }
}

/// EDP names daily means by their ends, so that the last two of the run have one name.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_has_two_last_days() {
    const HEADER: &str = "nDims=[2];dimList=[90,1,90,1170,1,1170];dataprec=['float32'];nrecords=[1];";
    let release = Release::without_results();
    for variable in ["SSH", "SSHIBC", "SSHNOIBC", "ETAN"] {
        let series = release.path("results/V4r6/diags_daily").join(format!("{variable}_day_mean"));
        fs::create_dir_all(&series).unwrap();
        for step in [298_020, 298_032] {
            let stem = series.join(format!("{variable}_day_mean.{step:010}")).display().to_string();
            fs::write(format!("{stem}.data"), "").unwrap();
            fs::write(format!("{stem}.meta"), HEADER).unwrap();
        }
    }
    let plan = |mode: &str, status: i32| {
        let mut plan = release.plan_of_jobs(mode, "grid", &format!("{mode}.json"));
        plan.args(["--dataset", "SEA_SURFACE_HEIGHT", "--on", "native", "--frequency", "day"]);
        text(&expect(&mut plan, status))
    };
    let said = plan("edp-2026", 2);
    let name = "SEA_SURFACE_HEIGHT_day_mean_2025-12-31_ECCO_V4r6_native_llc0090.nc";
    assert!(said.contains("both make") && said.contains(name), "{said}");
    plan("corrected", 0);
    let recipes = list(&release.path("corrected.json"));
    let names: Vec<&str> = recipes.as_array().unwrap().iter().map(|r| r["granule"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2);
    for (name, date) in names.iter().zip(["2025-12-30", "2025-12-31"]) {
        assert!(name.contains(&format!("_day_mean_{date}_")), "{name}");
    }
}

/// EDP has no mask for variables at corners, and fails; here they are made in all modes.
#[test]
#[ignore = "needs EDP_REAL_DATA: make conformance"]
fn real_data_release_6_has_variables_at_corners() {
    let release = Release::without_results();
    release.fields("7", "mon_mean", "732", &["momVort3:c3", "momHDiv:c3", "momKE:c3"]);
    let made = |mode: &str| {
        let mut plan = release.plan_of_jobs(mode, "grid", "tasks.json");
        plan.args(["--dataset", "OCEAN_3D_VORT_DIV_KE", "--on", "native", "--frequency", "month"]);
        expect(&mut plan, 0);
        release.run("tasks.json");
        let made = files(&release.path("granules")).into_keys().find(|path| path.ends_with(".nc")).unwrap();
        netcdf::open(release.path("granules").join(made)).unwrap()
    };
    let valid = |granule: &netcdf::File| {
        let values = granule.variable("momVort3").unwrap().get_values::<f32, _>(..).unwrap();
        values.iter().filter(|value| **value < 9e36).count()
    };
    let mut at_corners = None;
    for mode in ["edp-2024", "edp-2026", "corrected"] {
        let granule = made(mode);
        let variable = granule.variable("momVort3").unwrap();
        let dimensions: Vec<String> = variable.dimensions().iter().map(netcdf::Dimension::name).collect();
        assert_eq!(dimensions, ["time", "k", "tile", "j_g", "i_g"], "{mode}");
        if mode != "edp-2024" {
            let named = variable.attribute_value("coordinates").unwrap().unwrap();
            assert!(matches!(&named, netcdf::AttributeValue::Str(text) if text == "XG YG Z"), "{mode}: {named:?}");
        }
        assert!(*at_corners.get_or_insert_with(|| valid(&granule)) == valid(&granule), "{mode}");
    }
    assert!(at_corners > Some(2_406_992), "a corner is wet if any of its cells is");
    // The metadata may name a mask.
    let metadata = release.path("metadata");
    let original = fs::canonicalize(&metadata).unwrap();
    fs::remove_file(&metadata).unwrap();
    fs::create_dir(&metadata).unwrap();
    for entry in fs::read_dir(&original).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), metadata.join(entry.file_name())).unwrap();
    }
    let path = metadata.join("variable_metadata.json");
    let mut entries = list(&path);
    let entry = entries.as_array_mut().unwrap().iter_mut().find(|entry| entry["name"] == "momVort3").unwrap();
    entry["land_mask_override"] = "maskC".into();
    fs::remove_file(&path).unwrap();
    fs::write(&path, entries.to_string()).unwrap();
    assert_eq!(valid(&made("edp-2026")), 2_406_992);
}
