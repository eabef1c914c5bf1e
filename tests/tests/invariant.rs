//! Granules without time: made of a NetCDF file by tasks that people write.

use edp_demo::LEVELS;
use edp_tests::{Fixture, coordinator, expect, files, global, program, text};
use netcdf::AttributeValue;
use netcdf::types::{FloatType, IntType, NcVariableType};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

const SIZE: usize = 8;

const NATIVE: &str = "MIXING_ECCO_DEMO_native_llc0008.nc";

/// A model run, and a file with the fields of a native grid: of single and double precision, of whole numbers and truth
/// values, some of them missing.
struct Invariant {
    fixture: Fixture,
}

impl Invariant {
    fn new() -> Invariant {
        let fixture = Fixture::new(SIZE);
        let invariant = Invariant { fixture };
        invariant.write("in/mixing.nc", |_| ());
        invariant
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fixture.path(name)
    }

    fn cells(&self) -> usize {
        LEVELS * 13 * SIZE * SIZE
    }

    fn write(&self, name: &str, more: impl FnOnce(&mut netcdf::FileMut)) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        let mut file = netcdf::create(path).unwrap();
        for (name, length) in [("k", LEVELS), ("tile", 13), ("j", SIZE), ("i", SIZE), ("i_g", SIZE)] {
            file.add_dimension(name, length).unwrap();
        }
        let field = ["k", "tile", "j", "i"];
        let values: Vec<f32> = (0..self.cells()).map(|n| if n % 5 == 0 { f32::NAN } else { n as f32 / 8.0 }).collect();
        let mut kappa = file.add_variable::<f32>("KAPPA", &field).unwrap();
        kappa.put_values(&values, ..).unwrap();
        kappa.put_attribute("left_over", "old").unwrap();
        kappa.put_attribute("coordinates", "XC").unwrap();
        let mut count = file.add_variable::<i64>("COUNT", &["tile", "j", "i_g"]).unwrap();
        count.put_values(&(0..(13 * SIZE * SIZE) as i64).collect::<Vec<_>>(), ..).unwrap();
        let mut gaps = file.add_variable::<i16>("GAPS", &["tile", "j", "i"]).unwrap();
        gaps.set_fill_value(-1_i16).unwrap();
        let short = (0..(13 * SIZE * SIZE) as i16).map(|n| if n == 3 { -1 } else { n });
        gaps.put_values(&short.collect::<Vec<_>>(), ..).unwrap();
        let mut wet = file.add_variable::<i8>("WET", &["tile", "j", "i"]).unwrap();
        wet.put_values(&(0..13 * SIZE * SIZE).map(|n| i8::from(n % 2 == 0)).collect::<Vec<_>>(), ..).unwrap();
        wet.put_attribute("dtype", "bool").unwrap();
        let mut depth = file.add_variable::<f64>("Z", &["k"]).unwrap();
        depth.put_values(&(0..LEVELS).map(|k| -5.0 - 10.0 * k as f64).collect::<Vec<_>>(), ..).unwrap();
        let mut longitude = file.add_variable::<f32>("XC", &["tile", "j", "i"]).unwrap();
        longitude.put_values(&(0..13 * SIZE * SIZE).map(|n| n as f32 / 16.0).collect::<Vec<_>>(), ..).unwrap();
        file.add_attribute("old_global", "x").unwrap();
        file.add_attribute("title", "old title").unwrap();
        more(&mut file);
    }

    fn task(&self, granule: &str, input: &str, strip: serde_json::Value) -> serde_json::Value {
        let demo = &self.fixture.demo;
        json!({
            "granule": self.path("out").join(granule), "input_netcdf": self.path(input), "strip_attributes": strip,
            "ecco_cfg_loc": demo.configuration, "ecco_grid_loc": demo.grid,
            "ecco_mapping_factors_loc": demo.factors, "ecco_metadata_loc": demo.metadata,
            "dynamic_metadata": {
                "name": "mixing", "dimension": "3D", "summary": "Mixing.",
                "time_coverage_duration": "TIME-INVARIANT", "time_coverage_resolution": "time-invariant",
            },
        })
    }

    /// Runs a list of tasks in a mode, and returns what is said.
    fn run(&self, tasks: &[serde_json::Value], mode: &str, status: i32) -> String {
        let list = self.path("tasks.json");
        fs::write(&list, serde_json::to_string(tasks).unwrap()).unwrap();
        let _ = fs::remove_dir_all(self.path("out"));
        let output = expect(coordinator().arg("run").arg(&list).args(["--compatibility", mode]), status);
        text(&output) + &String::from_utf8_lossy(&output.stderr)
    }

    fn granule(&self, name: &str) -> netcdf::File {
        netcdf::open(self.path("out").join(name)).unwrap()
    }
}

fn attribute(variable: &netcdf::Variable<'_>, name: &str) -> Option<String> {
    match variable.attribute_value(name)?.unwrap() {
        AttributeValue::Str(text) => Some(text),
        other => Some(format!("{other:?}")),
    }
}

/// Names of the variables of a file, in their order.
fn names(file: &netcdf::File) -> Vec<String> {
    file.variables().map(|variable| variable.name()).collect()
}

#[test]
fn edp_makes_numbers_of_all_data() {
    let invariant = Invariant::new();
    invariant.run(&[invariant.task(NATIVE, "in/mixing.nc", json!("True"))], "edp-2026", 0);
    let made = invariant.granule(NATIVE);
    assert_eq!(names(&made), ["KAPPA", "COUNT", "GAPS", "WET", "Z", "XC", "XC_bnds", "YC_bnds", "Z_bnds"]);
    let lengths: Vec<_> = made.dimensions().map(|dimension| (dimension.name(), dimension.len())).collect();
    assert_eq!(lengths[5..], [("nb".to_owned(), 4), ("nv".to_owned(), 2)]);
    for name in ["KAPPA", "COUNT", "GAPS", "WET"] {
        let variable = made.variable(name).unwrap();
        assert_eq!(variable.vartype(), NcVariableType::Float(FloatType::F32), "{name}");
        assert!(variable.attribute("_FillValue").is_some() && variable.attribute("valid_min").is_some(), "{name}");
        assert!(variable.chunking().unwrap().is_some(), "{name}");
    }
    let kappa = made.variable("KAPPA").unwrap();
    let fill = kappa.fill_value::<f32>().unwrap().unwrap();
    let values: Vec<f32> = kappa.get_values(..).unwrap();
    assert!(values.iter().enumerate().all(|(n, value)| *value == if n % 5 == 0 { fill } else { n as f32 / 8.0 }));
    assert_eq!(attribute(&kappa, "left_over"), None);
    assert_eq!(attribute(&kappa, "coordinates").as_deref(), Some("XC"), "EDP keeps what the input says");
    let gaps: Vec<f32> = made.variable("GAPS").unwrap().get_values(..).unwrap();
    assert_eq!((gaps[2], gaps[3], gaps[4]), (2.0, fill, 4.0));
    assert_eq!(made.variable("Z").unwrap().vartype(), NcVariableType::Float(FloatType::F32));
    assert_eq!((global(&made, "old_global"), global(&made, "time_coverage_start")), (None, None));
    assert_eq!(global(&made, "product_name").as_deref(), Some(NATIVE));
    assert!(made.variable("time").is_none() && made.dimension("time").is_none());
}

#[test]
fn corrected_keeps_truth_values_and_integers() {
    let invariant = Invariant::new();
    let task = invariant.task(NATIVE, "in/mixing.nc", json!("False"));
    let said = invariant.run(std::slice::from_ref(&task), "corrected", 0);
    assert!(said.contains("verified: 1 good"), "{said}");
    let made = invariant.granule(NATIVE);
    let kind = |name: &str| made.variable(name).unwrap().vartype();
    assert_eq!(kind("WET"), NcVariableType::Int(IntType::I8));
    assert_eq!(kind("COUNT"), NcVariableType::Int(IntType::I32));
    assert_eq!(kind("GAPS"), NcVariableType::Float(FloatType::F32), "some of its integers are missing");
    for name in ["WET", "COUNT"] {
        let variable = made.variable(name).unwrap();
        assert!(variable.attribute("_FillValue").is_none() && variable.attribute("actual_range").is_none(), "{name}");
    }
    assert_eq!(attribute(&made.variable("WET").unwrap(), "dtype").as_deref(), Some("bool"));
    let wet: Vec<i8> = made.variable("WET").unwrap().get_values(..).unwrap();
    assert_eq!(wet[..4], [1, 0, 1, 0]);
    let kappa = made.variable("KAPPA").unwrap();
    assert!(kappa.attribute("actual_range").is_some() && kappa.attribute("valid_min").is_none());
    assert_eq!(attribute(&kappa, "left_over").as_deref(), Some("old"), "False does not strip");
    assert_eq!(attribute(&kappa, "coordinates").as_deref(), Some("XC Z"));
    assert_eq!(attribute(&kappa, "cell_methods"), None);
    assert_eq!(global(&made, "old_global").as_deref(), Some("x"));
    assert_ne!(global(&made, "title").as_deref(), Some("old title"));
    // COUNT lies at the U points, which have coordinates of their own.
    assert!(names(&made).ends_with(&["XU".into(), "YU".into()]), "{:?}", names(&made));
    assert_eq!(attribute(&made.variable("COUNT").unwrap(), "coordinates").as_deref(), Some("XU YU"));
    // The same task makes the same bytes.
    let first = files(&invariant.path("out"));
    invariant.run(&[task], "corrected", 0);
    assert_eq!(files(&invariant.path("out")), first);
}

#[test]
fn a_longitude_latitude_granule_gets_the_bounds_of_its_grid() {
    let invariant = Invariant::new();
    let input = invariant.path("in/latlon.nc");
    let target = files(&invariant.fixture.demo.grid).into_keys().find(|name| name.contains("latlon")).unwrap();
    let target = netcdf::open(invariant.fixture.demo.grid.join(target)).unwrap();
    let label = target.path().unwrap().file_stem().unwrap().to_string_lossy().rsplit_once('_').unwrap().1.to_owned();
    {
        let mut file = netcdf::create(&input).unwrap();
        let mut lengths = Vec::new();
        for name in ["Z", "latitude", "longitude"] {
            let values: Vec<f32> = target.variable(name).unwrap().get_values(..).unwrap();
            file.add_dimension(name, values.len()).unwrap();
            file.add_variable::<f32>(name, &[name]).unwrap().put_values(&values, ..).unwrap();
            lengths.push(values.len());
        }
        let values = vec![1.0_f32; lengths.iter().product()];
        file.add_variable::<f32>("KAPPA", &["Z", "latitude", "longitude"]).unwrap().put_values(&values, ..).unwrap();
    }
    let granule = format!("MIXING_ECCO_DEMO_latlon_{label}.nc");
    for mode in ["edp-2026", "corrected"] {
        invariant.run(&[invariant.task(&granule, "in/latlon.nc", json!(true))], mode, 0);
        let made = invariant.granule(&granule);
        let bounds = ["latitude_bnds", "longitude_bnds", "Z_bnds"];
        assert_eq!(names(&made)[4..], bounds, "{mode}");
        assert_eq!(global(&made, "time_coverage_end"), None);
    }
}

#[test]
fn what_cannot_be_made_says_why() {
    let invariant = Invariant::new();
    let odd = |name: &str, more: fn(&mut netcdf::FileMut)| invariant.write(name, more);
    odd("in/time.nc", |file| {
        file.add_dimension("time", 1).unwrap();
    });
    odd("in/other.nc", |file| {
        file.add_dimension("k_l", 99).unwrap();
        file.add_variable::<f32>("W", &["k_l"]).unwrap();
    });
    odd("in/packed.nc", |file| {
        file.variable_mut("KAPPA").unwrap().put_attribute("scale_factor", 2.0).unwrap();
    });
    odd("in/text.nc", |file| {
        file.add_string_variable("WORDS", &["k"]).unwrap();
    });
    odd("in/long.nc", |file| {
        let mut long = file.add_variable::<i64>("LONG", &["k"]).unwrap();
        long.put_values(&[1_i64 << 40], 0..1).unwrap();
    });
    odd("in/infinite.nc", |file| {
        file.variable_mut("KAPPA").unwrap().put_values(&[f32::INFINITY], (0..1, 0..1, 0..1, 0..1)).unwrap();
    });
    fs::write(invariant.path("in/none.nc"), b"CDF no more").unwrap();
    for (input, reason) in [
        ("in/time.nc", "no dimension 'time'"),
        ("in/other.nc", "99 values along this dimension, the grid"),
        ("in/packed.nc", "packed (attribute scale_factor)"),
        ("in/text.nc", "neither numbers nor truth values"),
        ("in/long.nc", "more than 32 bits"),
        ("in/infinite.nc", "infinite"),
        ("in/none.nc", "cannot be read as NetCDF"),
        ("in/absent.nc", "in/absent.nc"),
    ] {
        let said = invariant.run(&[invariant.task(NATIVE, input, json!(false))], "corrected", 3);
        assert!(said.contains(reason), "{input}: {said}");
        assert!(!Path::new(&invariant.path("out").join(NATIVE)).exists(), "{input}");
    }
    let mut task = invariant.task(NATIVE, "in/mixing.nc", json!("perhaps"));
    let said = invariant.run(std::slice::from_ref(&task), "corrected", 3);
    assert!(said.contains("strip_attributes"), "{said}");
    invariant.run(std::slice::from_ref(&task), "edp-2026", 0);
    task["dynamic_metadata"]["time_coverage_resolution"] = json!(null);
    let said = invariant.run(&[task], "edp-2026", 3);
    assert!(said.contains("must be TIME-INVARIANT"), "{said}");
}

#[test]
fn a_file_is_annotated_without_a_grid() {
    let invariant = Invariant::new();
    let out = invariant.path("GRID_GEOMETRY_ECCO_DEMO_native_llc0008.nc");
    let annotate = |mode: &str, more: &[&str], status: i32| {
        let mut command = program("edp-worker");
        command.arg("annotate").arg("-i").arg(invariant.path("in/mixing.nc")).arg("-o").arg(&out);
        command.arg("-m").arg(&invariant.fixture.demo.metadata).arg("-c").arg(&invariant.fixture.demo.configuration);
        let output = expect(command.args(["--compatibility", mode]).args(more), status);
        text(&output) + &String::from_utf8_lossy(&output.stderr)
    };
    annotate("edp-2026", &["-s"], 0);
    let made = netcdf::open(&out).unwrap();
    assert_eq!(names(&made), ["KAPPA", "COUNT", "GAPS", "WET", "Z", "XC"], "nothing is added");
    assert_eq!(made.variable("WET").unwrap().vartype(), NcVariableType::Int(IntType::I8));
    let count = made.variable("COUNT").unwrap();
    assert_eq!(count.vartype(), NcVariableType::Int(IntType::I32));
    let highest = count.attribute_value("valid_max").unwrap().unwrap();
    assert!(matches!(highest, AttributeValue::Int(831)) && count.attribute("_FillValue").is_none(), "{highest:?}");
    assert!(global(&made, "summary").unwrap().starts_with("ECCO dataset "));
    drop(made);
    let said = annotate("corrected", &[], 2);
    assert!(said.contains("exists") && said.contains("--replace"), "{said}");
    annotate("corrected", &["--replace"], 0);
    let first = fs::read(&out).unwrap();
    let made = netcdf::open(&out).unwrap();
    assert_eq!(global(&made, "old_global").as_deref(), Some("x"));
    assert!(made.variable("COUNT").unwrap().attribute("actual_range").is_none());
    assert_eq!(global(&made, "geospatial_lon_max").as_deref(), Some("Double(51.9375)"), "the last of XC");
    drop(made);
    annotate("corrected", &["--replace"], 0);
    assert_eq!(fs::read(&out).unwrap(), first);
    fs::write(invariant.path("in/mixing.nc"), b"not one").unwrap();
    let said = annotate("corrected", &["--replace"], 2);
    assert!(said.contains("cannot be read as NetCDF"), "{said}");
    assert_eq!(fs::read(&out).unwrap(), first, "what was there stays");
    assert!(files(out.parent().unwrap()).keys().all(|name| !name.contains(".part")));
}
