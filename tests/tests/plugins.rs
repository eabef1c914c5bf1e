//! If a file names a filter that is not built in, HDF5 loads everything in `HDF5_PLUGIN_PATH`. Our programs open files
//! of unknown origin, and do not let it load anything.

use edp_tests::{Fixture, coordinator, program, text};
use hdf5_metno_sys::{h5d, h5f, h5p, h5s, h5t, h5z};
use std::ffi::{c_uint, c_void};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A filter that nobody has, from the range of numbers for tests.
const FILTER: i32 = 311;

/// The variable that names the file for the process that runs as [`opens_what_it_is_told`].
const OPEN: &str = "EDP_TESTS_OPEN";

unsafe extern "C" fn as_it_is(
    _flags: c_uint,
    _count: usize,
    _values: *const c_uint,
    bytes: usize,
    _size: *mut usize,
    _buffer: *mut *mut c_void,
) -> usize {
    bytes
}

/// Writes a file with a variable that can only be read with the filter.
fn foreign(path: &Path) {
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let values = [1.0_f32, 2.0, 3.0, 4.0];
    // SAFETY: no other thread of this process uses the library; every identifier is checked, and every buffer outlives
    // the call that it is given to.
    unsafe {
        assert!(hdf5_metno_sys::h5::H5open() >= 0);
        let class = h5z::H5Z_class2_t {
            version: 1,
            id: FILTER,
            encoder_present: 1,
            decoder_present: 1,
            name: c"nobody's".as_ptr(),
            filter: Some(as_it_is),
            ..Default::default()
        };
        assert!(h5z::H5Zregister((&raw const class).cast()) >= 0);
        let checked = |id: i64| if id < 0 { panic!("HDF5 refuses to write the file") } else { id };
        let file = checked(h5f::H5Fcreate(name.as_ptr(), h5f::H5F_ACC_TRUNC, h5p::H5P_DEFAULT, h5p::H5P_DEFAULT));
        let space = checked(h5s::H5Screate_simple(2, [2, 2].as_ptr(), std::ptr::null()));
        let list = checked(h5p::H5Pcreate(*h5p::H5P_CLS_DATASET_CREATE));
        assert!(h5p::H5Pset_chunk(list, 2, [2, 2].as_ptr()) >= 0);
        assert!(h5p::H5Pset_filter(list, FILTER, 0, 0, std::ptr::null()) >= 0);
        let (kind, default) = (*h5t::H5T_IEEE_F32LE, h5p::H5P_DEFAULT);
        let data = checked(h5d::H5Dcreate2(file, c"values".as_ptr(), kind, space, default, list, default));
        let all = h5s::H5S_ALL;
        assert!(h5d::H5Dwrite(data, kind, all, all, default, values.as_ptr().cast()) >= 0);
        assert!(h5d::H5Dclose(data) >= 0 && h5p::H5Pclose(list) >= 0 && h5s::H5Sclose(space) >= 0);
        assert!(h5f::H5Fclose(file) >= 0);
    }
}

/// The careless program, in a process of its own that the other test starts.
#[test]
fn opens_what_it_is_told() {
    let Some(path) = std::env::var_os(OPEN) else { return };
    if let Ok(file) = netcdf::open(path)
        && let Some(variable) = file.variable("values")
    {
        let _ = variable.get_values::<f32, _>(..);
    }
}

#[test]
fn nothing_is_loaded_whatever_a_file_asks_for() {
    let fixture = Fixture::new(6);
    let (plugins, mark, file) = (fixture.path("plugins"), fixture.path("loaded"), fixture.path("foreign.nc"));
    fs::create_dir(&plugins).unwrap();
    let source = format!(
        "#include <stdio.h>\n__attribute__((constructor)) static void loaded(void) {{\n    \
         FILE *mark = fopen(\"{}\", \"w\");\n    if (mark) fclose(mark);\n}}\n",
        mark.display()
    );
    fs::write(fixture.path("plugin.c"), source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(plugins.join("libplugin.so")).arg(fixture.path("plugin.c"));
    assert!(compiler.status().expect("a C compiler").success());
    foreign(&file);

    let careless = |command: &mut Command| {
        command.args(["--exact", "opens_what_it_is_told"]).env(OPEN, &file).env("HDF5_PLUGIN_PATH", &plugins);
        assert!(command.status().unwrap().success());
        mark.exists()
    };
    let this = std::env::current_exe().unwrap();
    assert!(careless(&mut Command::new(this)), "the trap does not work: nothing would be seen below");
    fs::remove_file(&mark).unwrap();

    // The file is put in place of a granule and is opened when the granule is checked.
    let out = fixture.path("out");
    let list = fixture.plan(&out, "tasks.json", &[]);
    let tasks: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    let granule = tasks[0]["granule"].as_str().unwrap();
    fs::create_dir_all(Path::new(granule).parent().unwrap()).unwrap();
    fs::copy(&file, granule).unwrap();
    let (mut look, mut make) = (program("edp-worker"), program("edp-worker"));
    look.arg("look").arg(&file).args(["--variable", "values"]);
    make.arg("make").arg(&list);
    let (mut run, mut verify) = (coordinator(), coordinator());
    run.arg("run").arg(&list);
    verify.arg("verify").arg(&list).args(["--depth", "structure"]);
    for command in [&mut look, &mut make, &mut run, &mut verify] {
        let output = command.env("HDF5_PLUGIN_PATH", &plugins).output().unwrap();
        assert!(!output.status.success(), "{command:?}\n{}", text(&output));
        assert!(output.status.code().is_some(), "{command:?}\n{}", text(&output));
        assert!(!mark.exists(), "{command:?} loads plugins");
    }
}
