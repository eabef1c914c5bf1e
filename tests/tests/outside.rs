//! NetCDF files that refer to other files, by links or by values that are stored elsewhere. A program that followed
//! them would read, and publish, data that the author of the file may not read. All are refused before any other file
//! is opened.

use edp_tests::{Fixture, coordinator, count, json, program, text};
use hdf5_metno_sys::{h5d, h5f, h5g, h5l, h5p, h5s, h5t};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The way in which a file refers to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The file refers to no other.
    Plain,
    /// A dataset whose values are the bytes of another file.
    Storage,
    /// A virtual dataset, made of a dataset of another file.
    Virtual,
    /// An external link to a dataset of another file.
    Link,
    /// An external link to a group of another file.
    Group,
    /// A symbolic link within the file.
    Symbolic,
    /// A link to another file, in a group.
    Below,
    /// A group that contains itself.
    Round,
}

use Way::*;

/// Adds an object that refers elsewhere to an HDF5 file, under the name `extra`, with two numbers as values.
fn lead(file: &Path, way: Way, elsewhere: &Path) {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let (name, other) = (text(file), text(elsewhere));
    let checked = |id: i64| if id < 0 { panic!("HDF5 refuses to write {way:?}") } else { id };
    let default = h5p::H5P_DEFAULT;
    static LIBRARY: Mutex<()> = Mutex::new(());
    let _turn = LIBRARY.lock().unwrap();
    // SAFETY: no other thread of this process uses the library meanwhile; every identifier is checked, every text ends with
    // NUL, and every buffer outlives the call that it is given to.
    unsafe {
        assert!(hdf5_metno_sys::h5::H5open() >= 0);
        let file = match file.exists() {
            true => checked(h5f::H5Fopen(name.as_ptr(), h5f::H5F_ACC_RDWR, default)),
            false => checked(h5f::H5Fcreate(name.as_ptr(), h5f::H5F_ACC_EXCL, default, default)),
        };
        let space = checked(h5s::H5Screate_simple(1, [2].as_ptr(), std::ptr::null()));
        let list = checked(h5p::H5Pcreate(*h5p::H5P_CLS_DATASET_CREATE));
        let dataset = |at: i64| {
            let kind = *h5t::H5T_IEEE_F32LE;
            let dataset = checked(h5d::H5Dcreate2(at, c"extra".as_ptr(), kind, space, default, list, default));
            assert!(h5d::H5Dclose(dataset) >= 0);
        };
        let group = || checked(h5g::H5Gcreate2(file, c"group".as_ptr(), default, default, default));
        let link = |at: i64, to: &CString| {
            let to_what = if way == Group { c"/" } else { c"/extra" };
            h5l::H5Lcreate_external(to.as_ptr(), to_what.as_ptr(), at, c"extra".as_ptr(), default, default)
        };
        match way {
            Plain => dataset(file),
            Storage => {
                assert!(h5p::H5Pset_external(list, other.as_ptr(), 0, 8) >= 0);
                dataset(file);
            }
            Virtual => {
                assert!(h5p::H5Pset_virtual(list, space, other.as_ptr(), c"/extra".as_ptr(), space) >= 0);
                dataset(file);
            }
            Link | Group => assert!(link(file, &other) >= 0),
            Symbolic => {
                let made = h5l::H5Lcreate_soft(c"/somewhere".as_ptr(), file, c"extra".as_ptr(), default, default);
                assert!(made >= 0);
            }
            Below => {
                let group = group();
                assert!(link(group, &other) >= 0);
                assert!(h5g::H5Gclose(group) >= 0);
            }
            Round => {
                let group = group();
                assert!(h5l::H5Lcreate_hard(file, c"/".as_ptr(), group, c"round".as_ptr(), default, default) >= 0);
                assert!(h5g::H5Gclose(group) >= 0);
            }
        }
        assert!(h5p::H5Pclose(list) >= 0 && h5s::H5Sclose(space) >= 0 && h5f::H5Fclose(file) >= 0);
    }
}

fn look(file: &Path, variable: &str, out: PathBuf) -> Output {
    let mut look = program("edp-worker");
    look.arg("look").arg(file).args(["--variable", variable, "--out"]).arg(out);
    look.output().unwrap()
}

#[test]
fn what_leads_elsewhere_is_refused_in_the_geometry_of_a_grid() {
    for way in [Plain, Storage, Virtual, Link, Group, Symbolic, Below, Round] {
        let fixture = Fixture::new(6);
        let elsewhere = fixture.path("elsewhere.nc");
        lead(&elsewhere, Plain, &elsewhere);
        let geometries: Vec<_> = fs::read_dir(&fixture.demo.grid).unwrap().map(|entry| entry.unwrap().path()).collect();
        let geometries = geometries.iter().filter(|path| path.extension().is_some_and(|end| end == "nc"));
        let mut changed = 0;
        for geometry in geometries {
            lead(geometry, way, &elsewhere);
            changed += 1;
        }
        assert_eq!(changed, 2, "one geometry for each kind of grid");
        let list = fixture.plan(&fixture.path("out"), "tasks.json", &[]);
        let output = coordinator().arg("run").arg(&list).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(if way == Plain { 0 } else { 3 }), "{way:?}: {said}");
        let why = match way {
            Plain => continue,
            Storage | Virtual => "take values from another file, for extra",
            Link | Group | Symbolic => "follow a link, which may lead to another file: extra",
            Below => "follow a link, which may lead to another file: group/extra",
            Round => "read so many objects, or groups so deep",
        };
        assert!(said.contains(why), "{way:?}: {said}");
    }
}

#[test]
fn what_leads_elsewhere_is_refused_where_files_are_looked_at() {
    let fixture = Fixture::new(6);
    let elsewhere = fixture.path("elsewhere.nc");
    lead(&elsewhere, Plain, &elsewhere);
    for way in [Storage, Virtual, Link, Group, Symbolic, Below, Round] {
        let file = fixture.path(&format!("{way:?}.nc"));
        lead(&file, way, &elsewhere);
        let output = look(&file, "extra", fixture.path("x.png"));
        let said = text(&output);
        assert!(!output.status.success(), "{way:?}: {said}");
        assert!(said.contains("HDF5 could not") && said.contains(&format!("{way:?}.nc")), "{way:?}: {said}");
        assert!(!fixture.path("x.png").exists());
    }
}

#[test]
fn what_leads_elsewhere_is_refused_in_the_input_of_a_task() {
    let fixture = Fixture::new(6);
    let elsewhere = fixture.path("elsewhere.nc");
    lead(&elsewhere, Plain, &elsewhere);
    let demo = &fixture.demo;
    for way in [Plain, Storage, Virtual, Link, Group, Symbolic, Below, Round] {
        let input = fixture.path(&format!("{way:?}.nc"));
        lead(&input, way, &elsewhere);
        let granule = fixture.path(&format!("{way:?}/EXTRA_ECCO_DEMO_native_llc0006.nc"));
        let task = serde_json::json!([{
            "granule": granule, "input_netcdf": input, "ecco_cfg_loc": demo.configuration, "ecco_grid_loc": demo.grid,
            "ecco_metadata_loc": demo.metadata,
            "dynamic_metadata": {
                "name": "n", "dimension": "2D", "summary": "s", "time_coverage_resolution": "TIME-INVARIANT",
            },
        }]);
        let list = fixture.path("task.json");
        fs::write(&list, task.to_string()).unwrap();
        let output = coordinator().arg("run").arg(&list).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(if way == Plain { 0 } else { 3 }), "{way:?}: {said}");
        let (annotated, mut annotate) = (fixture.path("A_ECCO_DEMO_native_llc0006.nc"), program("edp-worker"));
        annotate.arg("annotate").arg("-i").arg(&input).arg("-o").arg(&annotated).arg("--replace");
        annotate.arg("-m").arg(&demo.metadata).arg("-c").arg(&demo.configuration);
        let output = annotate.output().unwrap();
        assert_eq!(output.status.success(), way == Plain, "{way:?}: {}", text(&output));
        if way != Plain {
            assert!(
                said.contains("cannot be read as NetCDF") && said.contains(&format!("{way:?}.nc")),
                "{way:?}: {said}"
            );
            assert!(!granule.exists());
        }
    }
}

/// An attacker who may write into the destination replaces each partial file once by a link to a file that he may not
/// write. That file remains unchanged, and all granules are made.
#[test]
fn who_may_write_into_the_destination_makes_no_worker_write_elsewhere() {
    let fixture = Fixture::new(6);
    let (out, victim) = (fixture.path("out"), fixture.path("victim"));
    fs::write(&victim, "precious").unwrap();
    let list = fixture.plan(&out, "tasks.json", &[]);
    let mut run = coordinator();
    run.arg("run").arg(&list).args(["--output", "json"]);
    let over = AtomicBool::new(false);
    let (output, swapped) = std::thread::scope(|scope| {
        let racer = scope.spawn(|| {
            let mut swapped = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                for part in parts(&out) {
                    // The worker may commit or remove the partial file at this moment.
                    if !swapped.contains(&part) && fs::remove_file(&part).is_ok() && symlink(&victim, &part).is_ok() {
                        swapped.insert(part);
                    }
                }
            }
            swapped
        });
        let output = run.output().unwrap();
        over.store(true, Ordering::Relaxed);
        (output, racer.join().unwrap())
    });
    assert!(!swapped.is_empty(), "nothing was exchanged: nothing was seen");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(output.status.code(), Some(0), "{} exchanged: {}", swapped.len(), text(&output));
    let report = json(&output);
    assert_eq!(count(&report, "made"), report["entries"].as_array().unwrap().len());
    // A link that is made just after the worker has removed its own file stays there, but not in place of a granule.
    let strange = walk(&out).into_iter().filter(|path| !path.symlink_metadata().unwrap().is_file());
    let strange = strange.filter(|path| !swapped.contains(path));
    assert_eq!(strange.count(), 0);
}

/// Lists everything below a directory except directories.
fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() && !path.is_symlink() { walk(&path) } else { vec![path] }).collect()
}

fn parts(directory: &Path) -> Vec<PathBuf> {
    walk(directory).into_iter().filter(|path| path.extension().is_some_and(|end| end == "part")).collect()
}
