//! Model output that does not match its header, or is missing.

use super::{Production, SIZE, edit, replace, shown};
use edp_tests::files;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The demo makes each dataset at three steps on two grids. One damage to each step of a variable shows which granules
/// fail, and no granule has two damages.
struct Damaged {
    production: Production,
    /// The damaged files, and the text that the reason must contain.
    spoilt: Vec<(PathBuf, &'static str)>,
}

impl Damaged {
    /// Makes a production whose inputs are damaged after planning.
    fn new() -> Damaged {
        let damaged = Damaged::unplanned();
        damaged.production.plan();
        damaged
    }

    /// Makes a production whose inputs are damaged before planning.
    fn unplanned() -> Damaged {
        Damaged { production: Production::new(), spoilt: Vec::new() }
    }

    /// Damages one of the two files of a variable at a step.
    fn spoil(&mut self, variable: &str, step: u32, end: &str, words: &'static str, damage: impl FnOnce(&Path)) {
        let path = self.production.data(variable, step).with_extension(end);
        edp_tests::keeping_age(&path, damage);
        self.spoilt.push((path, words));
    }

    /// Runs the production, and checks that exactly the granules of damaged files fail, with the right reasons.
    fn run(self) {
        let mut expected = BTreeMap::new();
        for (path, words) in &self.spoilt {
            for granule in self.production.users(path) {
                assert!(expected.insert(granule.clone(), (path, words)).is_none(), "{granule} has two damages");
            }
        }
        let ended = self.production.run(3);
        let failed: BTreeMap<_, _> = ended.reasons("failed").into_iter().collect();
        for (granule, reason) in &failed {
            let Some((path, words)) = expected.get(granule) else { panic!("{granule}: {reason}") };
            // Either file of the pair may be named.
            assert!(reason.contains(&shown(&path.with_extension(""))), "{}: {reason}", path.display());
            assert!(reason.contains(*words), "{}: '{words}' is not in: {reason}", path.display());
        }
        assert_eq!(failed.keys().collect::<BTreeSet<_>>(), expected.keys().collect());
        assert_eq!(ended.count("made"), self.production.recipes().len() - failed.len());
    }
}

/// Writes a number to all cells of the uppermost level that are open, or to all that are closed.
fn set(production: &Production, data: &Path, point: &str, open: bool, value: f32) {
    let fractions = fs::read(production.fixture.demo.grid.join(format!("hFac{point}.data"))).unwrap();
    let plane = 13 * SIZE * SIZE;
    edit(data, |bytes| {
        for (place, fraction) in bytes.chunks_mut(4).zip(fractions.chunks(4)).take(plane) {
            if (fraction != [0; 4]) == open {
                place.copy_from_slice(&value.to_be_bytes());
            }
        }
    });
}

#[test]
fn damaged_data_cost_their_own_granules() {
    let mut damaged = Damaged::new();
    let changed = "when the recipe was planned: plan again";
    damaged.spoil("SSH", 732, "data", changed, |path| edit(path, |bytes| bytes.truncate(bytes.len() - 1)));
    damaged.spoil("SSHIBC", 1428, "data", changed, |path| edit(path, |bytes| bytes.extend([0; 4])));
    damaged.spoil("SSHNOIBC", 2172, "data", changed, |path| fs::write(path, "").unwrap());
    damaged.spoil("SIarea", 732, "data", "cannot be opened", |path| fs::remove_file(path).unwrap());
    damaged.spoil("SIheff", 1428, "meta", "cannot be opened", |path| fs::remove_file(path).unwrap());
    damaged.spoil("SIhsnow", 2172, "data", "", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    });
    let not_finite = "wet cells are not finite numbers at level 0";
    for (variable, step, point, value, words) in [
        ("THETA", 732, "C", f32::NAN, not_finite),
        ("SALT", 1428, "C", f32::INFINITY, not_finite),
        ("THETA", 2172, "C", 9.969_21e36, "wet cells hold the fill value at level 0"),
        ("WVELMASS", 732, "C", f32::NEG_INFINITY, not_finite),
        ("UVEL", 1428, "W", f32::NAN, not_finite),
        ("VVEL", 2172, "S", f32::NAN, not_finite),
    ] {
        let data = damaged.production.data(variable, step);
        set(&damaged.production, &data, point, true, value);
        damaged.spoil(variable, step, "data", words, |_| ());
    }
    damaged.run();
}

#[test]
fn data_that_do_not_fit_their_headers_cost_their_own_granules() {
    // The inputs are damaged before planning, so only header and data can show it.
    let mut damaged = Damaged::unplanned();
    let size = |n: usize| format!("{n}, 1, {n}, {0}, 1, {0}", 13 * n);
    let header = |of: &str| {
        let text = format!("nDims = [ 2 ]; dimList = [ {of} ]; dataprec = [ 'float32' ]; nrecords = [ 1 ];");
        move |path: &Path| fs::write(path, &text).unwrap()
    };
    let plain = size(SIZE);
    damaged.spoil("SSH", 732, "data", "asks for exactly 3328", |path| edit(path, |bytes| bytes.truncate(3324)));
    damaged.spoil("SSHIBC", 1428, "data", "asks for exactly 3328", |path| edit(path, |bytes| bytes.extend([0; 4])));
    // The header is that of a grid with 10 GB per level.
    damaged.spoil("SSHNOIBC", 2172, "meta", "asks for exactly 10402742272", header(&size(14_144)));
    damaged.spoil("SIarea", 732, "meta", "asks for exactly", |path| replace(path, "float32", "float64"));
    damaged.spoil("SIheff", 1428, "meta", "asks for exactly 6656", |path| {
        header(&plain)(path);
        replace(path, "nrecords = [ 1 ]", "nrecords = [ 2 ]");
    });
    // The file is of another N, with data of that size.
    damaged.spoil("SIhsnow", 2172, "meta", "is on LLC9, the grid is LLC8", |path| {
        header(&size(9))(path);
        fs::write(path.with_extension("data"), vec![0; 13 * 81 * 4]).unwrap();
    });
    // The files have other numbers of levels, with data of that size.
    for (variable, step, levels, words) in [("THETA", 732, 9, "has 9 levels"), ("SALT", 1428, 11, "has 11 levels")] {
        damaged.spoil(variable, step, "meta", words, |path| {
            header(&format!("{plain}, {levels}, 1, {levels}"))(path);
            replace(path, "nDims = [ 2 ]", "nDims = [ 3 ]");
            fs::write(path.with_extension("data"), vec![0; 13 * SIZE * SIZE * levels * 4]).unwrap();
        });
    }
    damaged.spoil("THETA", 2172, "meta", "its header asks for exactly", header(&format!("{SIZE}, 1, 4, 104, 1, 104")));
    damaged.spoil("WVELMASS", 732, "meta", "no lat-lon-cap grid", |path| {
        header("104, 1, 104, 8, 1, 8")(path);
        fs::write(path.with_extension("data"), vec![0; 3328]).unwrap();
    });
    damaged.spoil("UVEL", 1428, "meta", "bytes than can be counted", header(&size(usize::MAX / 16)));
    damaged.spoil("VVEL", 2172, "meta", "expected", |path| fs::write(path, b"dimList = \xff\xfe;").unwrap());
    damaged.production.plan();
    damaged.run();
}

#[test]
fn headers_of_no_use_cost_their_own_granules() {
    let mut damaged = Damaged::unplanned();
    let to = |text: &'static [u8]| move |path: &Path| fs::write(path, text).unwrap();
    damaged.spoil("SSH", 732, "meta", "'nDims' is missing", to(b""));
    damaged
        .spoil("SSHIBC", 1428, "meta", "too many for a header", |path| fs::write(path, vec![b' '; 2 << 20]).unwrap());
    damaged.spoil("SSHNOIBC", 2172, "meta", "line 1", to(b"\x00\x00\x00"));
    damaged
        .spoil("SIarea", 732, "meta", "a second time", |path| edit(path, |bytes| bytes.extend(b"nrecords = [ 1 ];")));
    damaged.spoil("SIheff", 1428, "meta", "'float32' or 'float64'", |path| replace(path, "float32", "float16"));
    damaged.spoil("SIhsnow", 2172, "meta", "the end of the file", |path| {
        edit(path, |bytes| bytes.truncate(bytes.len() / 3))
    });
    damaged.production.plan();
    damaged.run();
}

#[test]
fn whatever_stands_on_land_does_not_matter() {
    let production = Production::new();
    production.plan();
    production.run(0);
    let clean = files(&production.out);
    fs::remove_dir_all(&production.out).unwrap();
    for (variable, point) in [("SSH", "C"), ("THETA", "C"), ("WVELMASS", "C"), ("UVEL", "W"), ("VVEL", "S")] {
        for (step, value) in [(732, f32::NAN), (1428, f32::INFINITY), (2172, f32::NEG_INFINITY)] {
            set(&production, &production.data(variable, step), point, false, value);
        }
    }
    // Times of modification are compared, but are not part of an id.
    production.plan();
    production.run(0);
    assert_eq!(files(&production.out), clean);
}

#[test]
fn halves_of_pairs_are_reported_and_their_steps_left_out() {
    let production = Production::new();
    // If all variables of a dataset are missing at a step, there is no recipe; if one of several is missing, the recipe
    // is held.
    for variable in ["UVEL", "VVEL", "WVELMASS"] {
        fs::remove_file(production.meta(variable, 732)).unwrap();
    }
    fs::remove_file(production.data("SIheff", 1428)).unwrap();
    let said = production.plan();
    assert!(said.contains(".data without .meta: UVEL_mon_mean.0000000732; left out"), "{said}");
    assert!(said.contains(".meta without .data: SIheff_mon_mean.0000001428; left out"), "{said}");
    let ended = production.run(3);
    assert_eq!((ended.count("made"), ended.count("held")), (20, 2), "{}", ended.report);
    for (granule, reason) in ended.reasons("held") {
        assert!(granule.contains("SEA_ICE_CONC_THICKNESS_mon_mean_1992-02"), "{granule}");
        assert!(reason.contains("SIheff"), "{reason}");
    }
}

#[test]
fn odd_names_and_knots_of_links_in_the_results_cost_nothing() {
    let production = Production::new();
    let results = &production.fixture.demo.results;
    fs::write(results.join(OsStr::from_bytes(b"DEMO/SSH\xff_mon_mean.0000000732.data")), "x").unwrap();
    fs::create_dir(results.join(OsStr::from_bytes(b"DEMO/\xfe"))).unwrap();
    symlink(results, results.join("DEMO/again")).unwrap();
    symlink("self", results.join("DEMO/self")).unwrap();
    symlink("nowhere", results.join("DEMO/SSH_mon_mean.0000000733.data")).unwrap();
    let said = production.plan();
    for words in ["not UTF-8", "leads back to a directory above it", "DEMO/self", "DEMO/SSH_mon_mean.0000000733.data"] {
        assert!(said.contains(words), "'{words}' is not in: {said}");
    }
    assert_eq!(production.run(0).count("made"), 24);
}
