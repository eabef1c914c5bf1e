//! Texts that are not text, or are too large: planning refuses them with status 2 and names them.

use super::{Production, edit, replace, shown};
use edp_tests::{coordinator, text};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A byte that is not UTF-8 by itself; in Latin-1 it is an é.
const LATIN: u8 = 0xe9;

/// Damages a file, plans, and checks that the message contains the name of the file and some texts.
fn refused(production: &Production, path: &Path, words: &[&str], damage: impl FnOnce(&mut Vec<u8>)) {
    let sound = fs::read(path).unwrap();
    edit(path, damage);
    let said = production.try_plan(2);
    for word in words.iter().chain([&shown(path).as_str()]) {
        assert!(said.contains(word), "{}: '{word}' is not in: {said}", path.display());
    }
    assert!(!production.list.exists());
    fs::write(path, sound).unwrap();
}

/// Returns every text that planning reads, except the metadata that only some granules need.
fn texts(production: &Production) -> Vec<PathBuf> {
    let demo = &production.fixture.demo;
    let metadata = ["PODAAC_demo_datasets.csv", "groupings_for_native_datasets.json", "variable_metadata.json"];
    let metadata =
        metadata.into_iter().chain(["global_metadata_for_all_datasets.json", "time_coordinate_metadata.json"]);
    metadata.map(|name| demo.metadata.join(name)).chain([demo.configuration.clone(), demo.jobs.clone()]).collect()
}

#[test]
fn texts_that_are_no_utf_8_are_refused_by_name() {
    let production = Production::small();
    for path in texts(&production).into_iter().filter(|path| path.extension().is_none_or(|end| end != "csv")) {
        // The byte is inserted in the middle of the present content, which is ASCII.
        refused(&production, &path, &["line"], |bytes| bytes.insert(bytes.len() / 2, LATIN));
    }
    // Tables are exported from spreadsheets: a title may be damaged, which gives a warning.
    let table = production.fixture.demo.metadata.join("PODAAC_demo_datasets.csv");
    edit(&table, |bytes| bytes.insert(bytes.len() / 2, LATIN));
    let said = production.plan();
    assert!(said.contains(&format!("warning: {}: line", shown(&table))) && said.contains("not UTF-8"), "{said}");
}

#[test]
fn texts_cut_off_or_not_what_they_should_be_are_refused_by_name() {
    let production = Production::small();
    let zeros = |bytes: &mut Vec<u8>| bytes.fill(0);
    for path in texts(&production) {
        refused(&production, &path, &[], zeros);
        if path.extension().is_some_and(|end| end == "json") {
            refused(&production, &path, &["line"], |bytes| bytes.truncate(bytes.len() / 2));
            refused(&production, &path, &["recursion limit"], |bytes| bytes.splice(.., [b'['; 1 << 20]).for_each(drop));
        }
    }
    production.plan();
}

#[test]
fn texts_of_gigabytes_are_not_read() {
    let production = Production::small();
    for path in texts(&production) {
        let sound = fs::read(&path).unwrap();
        // The file is sparse and takes no space on the disk.
        fs::File::options().write(true).open(&path).unwrap().set_len(10 << 30).unwrap();
        let said = production.try_plan(2);
        assert!(said.contains(&shown(&path)) && said.contains("larger than"), "{said}");
        fs::write(&path, sound).unwrap();
    }
}

/// Files of grids and mapping factors are hashed completely, which takes a time that depends on their size.
#[test]
fn files_of_terabytes_are_not_hashed() {
    let production = Production::small();
    let demo = &production.fixture.demo;
    let geometry = |word: &str| -> PathBuf {
        let mut names = fs::read_dir(&demo.grid).unwrap().map(|entry| entry.unwrap().path());
        names.find(|path| path.to_str().is_some_and(|name| name.ends_with(".nc") && name.contains(word))).unwrap()
    };
    let grid = ["XC.data", "XC.meta", "RC.data", "available_diagnostics.log"].map(|name| demo.grid.join(name));
    let factors = ["sparse/sparse_matrix_0.npz", "land_mask/ecco_latlon_land_mask_0.xz", "latlon_grid/latlon_grid.xz"];
    let factors = factors.map(|name| demo.factors.join(name));
    let mut tried = 0;
    for path in grid.into_iter().chain([geometry("native"), geometry("latlon")]).chain(factors) {
        let Ok(sound) = fs::read(&path) else { continue };
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let said = production.try_plan(2);
        assert!(said.contains(&shown(&path)) && said.contains("1099511627776 bytes"), "{said}");
        fs::write(&path, sound).unwrap();
        tried += 1;
    }
    assert!(tried >= 7, "{tried}");
    production.plan();
}

#[test]
fn a_configuration_that_unfolds_without_end_is_refused() {
    let production = Production::small();
    let mut laughs = "a0: &a0 [x]\n".to_owned();
    for i in 1..40 {
        laughs += &format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}]\n", i - 1);
    }
    refused(&production, &production.fixture.demo.configuration, &[], |bytes| bytes.extend(laughs.bytes()));
    let nested = format!("history: {}\n", "[".repeat(1 << 20));
    refused(&production, &production.fixture.demo.configuration, &[], |bytes| bytes.extend(nested.bytes()));
}

#[test]
fn a_task_list_that_is_no_text_is_refused_by_name() {
    let production = Production::small();
    production.plan();
    let sound = fs::read(&production.list).unwrap();
    let middle = sound.len() / 2;
    let damages = [
        [&sound[..middle], &[LATIN], &sound[middle..]].concat(),
        sound[..middle].to_vec(),
        vec![0; sound.len()],
        vec![b'['; 1 << 20],
        b"[{\"granule\": \"\\ud800\"}]".to_vec(),
    ];
    for damage in damages {
        fs::write(&production.list, damage).unwrap();
        for command in ["run", "verify"] {
            let output = coordinator().arg(command).arg(&production.list).output().unwrap();
            super::calm(&output);
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            assert!(text(&output).contains(&shown(&production.list)), "{}", text(&output));
        }
    }
    assert!(!production.out.exists());
}

#[test]
fn recipes_that_point_elsewhere_are_refused() {
    let production = Production::small();
    production.plan();
    let granule = production.recipes()[0].granule.clone();
    let below = granule.strip_prefix(&shown(&production.out)).unwrap();
    for elsewhere in [format!("/..{below}"), format!("/./x/../..{below}"), "/\\u0000.nc".to_owned()] {
        let elsewhere = format!("{}{elsewhere}", shown(&production.out));
        let list = fs::read_to_string(&production.list).unwrap();
        replace(&production.list, &granule, &elsewhere);
        let output = coordinator().arg("run").arg(&production.list).output().unwrap();
        super::calm(&output);
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        assert!(text(&output).contains("is not below its root"), "{}", text(&output));
        assert!(!std::path::Path::new(&elsewhere).try_exists().unwrap_or(false), "{elsewhere}");
        fs::write(&production.list, list).unwrap();
    }
}

#[test]
fn names_on_the_command_line_that_are_no_utf_8_are_usage_errors() {
    let production = Production::small();
    let odd = OsStr::from_bytes(b"/tmp/caf\xe9");
    for option in ["--source", "--jobs", "--config", "--grid", "--metadata", "--mapping-factors", "--destination"] {
        let mut options = production.fixture.options(&production.out);
        let at = options.iter().position(|given| given == option).unwrap();
        options.drain(at..at + 2);
        let output = coordinator().arg("plan").args(options).arg(option).arg(odd).output().unwrap();
        super::calm(&output);
        assert_eq!(output.status.code(), Some(2), "{option}: {}", text(&output));
        assert!(text(&output).contains("UTF-8"), "{option}: {}", text(&output));
    }
    production.plan();
    let list = &production.list;
    let output = edp_tests::expect(coordinator().arg("run").arg(odd), 2);
    super::calm(&output);
    assert!(text(&output).contains("UTF-8"), "{}", text(&output));
    let settings = production.fixture.path("x").with_file_name(OsStr::from_bytes(b"caf\xe9.toml"));
    fs::write(&settings, b"log = 'caf\xe9'").unwrap();
    let output = edp_tests::expect(coordinator().arg("--settings").arg(&settings).arg("verify").arg(list), 2);
    super::calm(&output);
    assert!(text(&output).contains("caf"), "{}", text(&output));
}
