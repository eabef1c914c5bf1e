//! Granules and geometry files that are damaged at any place: each gives a finding that names the file, and no program
//! crashes.

use edp_engine::granule::inspect::{self, Identity, InspectError, InspectionDepth};
use edp_engine::grid::{Latlon, Native};
use edp_engine::reader::{ReadError, ReaderSession};
use edp_protocol::recipe::{self, Recipe};
use edp_tests::{Fixture, coordinator, expect, program, text};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Pseudo-random numbers, which are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        [0, 0xff, 0x80, 1, self.below(256) as u8][self.below(5)]
    }

    /// Returns a place in a file: in half of the cases outside of the values, where the libraries follow what they
    /// read.
    fn place(&mut self, length: usize, values: &[Range<usize>]) -> usize {
        let definitions = self.below(2) == 0;
        let mut at = self.below(length);
        for _ in 0..1000 {
            if !definitions || values.iter().all(|range| !range.contains(&at)) {
                break;
            }
            at = self.below(length);
        }
        at
    }
}

/// Damages a file: by flipped bits, overwritten bytes, numbers that claim much, a cut, or parts that lie elsewhere.
fn damage(bytes: &mut Vec<u8>, values: &[Range<usize>], dice: &mut Dice) {
    let length = bytes.len();
    match dice.below(10) {
        0..4 => {
            for _ in 0..=dice.below(4) {
                let at = dice.place(length, values);
                bytes[at] ^= 1 << dice.below(8);
            }
        }
        4..7 => {
            let at = dice.place(length, values);
            let (end, byte) = ((at + 1 + dice.below(64)).min(length), dice.byte());
            bytes[at..end].fill(byte);
        }
        7 => {
            let at = dice.place(length, values).min(length - 8);
            let number = [u64::MAX, u64::MAX >> 1, 1 << 40, u64::from(u32::MAX), length as u64][dice.below(5)];
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        8 => bytes.truncate(dice.below(length)),
        _ => {
            let (from, to) = (dice.place(length, values), dice.place(length, values));
            let end = (from + 512).min(length);
            let part = bytes[from..end].to_vec();
            let end = (to + part.len()).min(length);
            bytes[to..end].copy_from_slice(&part[..end - to]);
        }
    }
}

/// Reads copies of a file, each damaged in another way, from several threads. Returns the number that were found to be
/// damaged.
fn mutations(
    count: usize,
    good: &Path,
    values: &[Range<usize>],
    look: impl Fn(&Path) -> Result<(), String> + Sync,
) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let bytes = fs::read(good).unwrap();
    let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..3 {
            let (bytes, next, found, look) = (&bytes, &next, &found, &look);
            // Each thread has a directory of its own, in which the file has its usual name.
            let place = directory.path().join(number.to_string());
            fs::create_dir(&place).unwrap();
            let path = place.join(good.file_name().unwrap());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    let mut damaged = bytes.clone();
                    damage(&mut damaged, values, &mut Dice(seed as u64));
                    fs::write(&path, &damaged).unwrap();
                    if let Err(error) = look(&path) {
                        assert!(error.contains(path.to_str().unwrap()), "mutation {seed}: {error}");
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    found.into_inner()
}

/// Returns a finding about the file in words. Any other error fails the test.
fn finding(error: ReadError) -> String {
    match error {
        ReadError::Damaged { .. } => error.to_string(),
        ReadError::Io { .. } | ReadError::NoFile { .. } => panic!("{error:?}"),
    }
}

fn granule(fixture: &Fixture) -> (PathBuf, Recipe) {
    let out = fixture.path("out");
    let list = fixture.plan(&out, "list.json", &[]);
    expect(coordinator().arg("run").arg(&list), 0);
    let recipes = recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap();
    let is_wanted = |recipe: &Recipe| recipe.granule.contains("latlon/mon_mean/SEA_SURFACE_HEIGHT");
    let recipe = recipes.into_iter().find(is_wanted).unwrap();
    (recipe.granule.clone().into(), recipe)
}

fn granules(count: usize) {
    let fixture = Fixture::new(8);
    let (path, recipe) = granule(&fixture);
    let looked = inspect::look(&path, &recipe, InspectionDepth::Content, true).unwrap();
    assert_eq!((looked.identity, looked.problems), (Identity::Same, Vec::new()));
    let places = looked.places.iter().flat_map(|chunks| &chunks.places);
    let values: Vec<_> = places.map(|(at, size)| *at as usize..(*at + *size) as usize).collect();
    assert!(!values.is_empty());
    let found =
        mutations(count, &path, &values, |path| match inspect::look(path, &recipe, InspectionDepth::Content, true) {
            Ok(looked) if looked.identity == Identity::Same && looked.problems.is_empty() => Ok(()),
            Ok(looked) => Err(format!("{}: {:?} {:?}", path.display(), looked.identity, looked.problems)),
            Err(InspectError::Read(error)) => Err(finding(error)),
            Err(error) => panic!("{error:?}"),
        });
    println!("{found} of {count} damaged granules were found");
    assert!(found * 2 > count, "{found} of {count}"); // the others are padding, texts, and numbers that nothing checks
}

fn geometries(count: usize) {
    let fixture = Fixture::new(8);
    let files = fs::read_dir(&fixture.demo.grid).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "nc")).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in &files {
        let is_latlon = file.to_string_lossy().contains("latlon");
        let found = mutations(count / 2, file, &[], |path| {
            // The rest of the grid, once for each thread.
            for entry in fs::read_dir(&fixture.demo.grid).unwrap() {
                let from = entry.unwrap().path();
                let to = path.with_file_name(from.file_name().unwrap());
                if !to.exists() {
                    fs::copy(&from, &to).unwrap();
                }
            }
            let directory = path.parent().unwrap();
            let loaded = if is_latlon { Latlon::load(directory).map(drop) } else { Native::load(directory).map(drop) };
            // Everything in the file can be read, not only what the grid needs.
            let read = ReaderSession::open(path).and_then(|mut session| {
                for variable in session.variables()? {
                    let shape = variable.shape();
                    session.each(&variable, &vec![0; shape.len()], &shape, |_: &[f64]| ())?;
                }
                Ok(())
            });
            loaded.map_err(|error| error.to_string()).and(read.map_err(finding))
        });
        println!("{found} of {} damaged geometry files were found", count / 2);
        assert!(found * 10 > count / 2, "{found} of {count}: most of such a file are plain values");
    }
}

#[test]
fn damaged_granules_are_findings() {
    granules(200);
}

#[test]
fn damaged_geometry_files_are_findings() {
    geometries(200);
}

#[test]
#[ignore = "minutes"]
fn two_thousand_damaged_granules_are_findings() {
    granules(2000);
}

#[test]
#[ignore = "minutes"]
fn two_thousand_damaged_geometry_files_are_findings() {
    geometries(2000);
}

/// Every granule of a production is damaged in another way. The programs end as they should, and name all that are not
/// good, though a few of the changed bits do not matter.
#[test]
fn programs_name_each_damaged_granule() {
    let fixture = Fixture::new(8);
    let out = fixture.path("out");
    let list = fixture.plan(&out, "list.json", &[]);
    expect(coordinator().arg("run").arg(&list), 0);
    let recipes = recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap();
    for (seed, recipe) in recipes.iter().enumerate() {
        let mut bytes = fs::read(&recipe.granule).unwrap();
        match seed % 3 {
            0 => bytes.truncate(bytes.len() / 2 + seed),
            // The superblock, and the definitions after it.
            1 => bytes[8 + seed..40 + seed].fill(0xff),
            _ => (40..4000).step_by(97).for_each(|at| bytes[at + seed] ^= 0x10),
        }
        fs::write(&recipe.granule, bytes).unwrap();
    }
    for (name, what) in [("edp-coordinator", "verify"), ("edp-coordinator", "run"), ("edp-worker", "make")] {
        let output = expect(program(name).arg(what).arg(&list), 3);
        let said = text(&output);
        for recipe in &recipes {
            let name = Path::new(&recipe.granule).file_name().unwrap().to_str().unwrap();
            assert!(said.contains(name), "{what}: {name} is not named\n{said}");
        }
        assert!(!said.contains("HDF5-DIAG") && !said.contains("panicked"), "{what}: {said}");
    }
}

/// A geometry file crashes the process that reads it: the recipes that need it fail for that reason, and nothing else
/// ends.
#[test]
fn a_damaged_geometry_file_fails_its_recipes() {
    let fixture = Fixture::new(8);
    let grid = fs::read_dir(&fixture.demo.grid).unwrap().map(|entry| entry.unwrap().path());
    let geometry = grid.into_iter().find(|path| path.to_string_lossy().contains("latlon")).unwrap();
    let mut bytes = fs::read(&geometry).unwrap();
    bytes[16..200].fill(0xff);
    fs::write(&geometry, bytes).unwrap();
    let list = fixture.plan(&fixture.path("out"), "list.json", &[]);
    let recipes = recipe::parse_list("list", &fs::read(&list).unwrap()).unwrap();
    let [native, latlon] =
        ["/native/", "/latlon/"].map(|grid| recipes.iter().filter(|r| r.granule.contains(grid)).count());
    assert!(native > 0 && latlon > 0 && native + latlon == recipes.len());
    let output = expect(coordinator().args(["run", "--output", "json"]).arg(&list), 3);
    let report = edp_tests::json(&output);
    assert_eq!([edp_tests::count(&report, "made"), edp_tests::count(&report, "failed")], [native, latlon], "{report}");
    let name = geometry.file_name().unwrap().to_str().unwrap();
    assert!(text(&output).contains(name), "{}", text(&output));
}
