//! Files of data that do not change with time: they have no step in their names.
//!
//! Nobody writes them by a rule: the model has such fields as inputs, in plain binary files or with a `.meta` header, and
//! prepared files are NetCDF. So they are found by names that begin with the variable's, or with the dataset's, and
//! what is found is told when the name is not exactly that.

use super::files::{OtherFile, Pair};
use super::inventory::Inventory;
use edp_protocol::name::{GranuleName, base_name};
use std::collections::BTreeMap;

/// The files of one input, with their versions.
pub(super) type InputVersions = Vec<OtherFile>;

/// What was found of a variable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileSearch<T> {
    /// No file.
    Nothing,
    /// One, or the two of a pair; true if the name is exactly that of the variable or dataset.
    One(T, bool),
    /// Several that fit equally well.
    Several(Vec<String>),
}

/// Returns true if a file may hold data without time, by its name: a NetCDF file or a binary one with or without header,
/// and not a granule of some time.
pub(super) fn is_candidate(name: &str) -> bool {
    let binary = [".bin", ".data", ".meta"].iter().any(|end| name.ends_with(end));
    // Granules have a period word in their names; there may be millions of them below the root.
    let timed = || ["_mean_", "_snap_"].iter().any(|word| name.contains(word)) && !name.ends_with("_1D.nc");
    binary || name.ends_with(".nc") && !timed()
}

/// Finds the binary field of a variable: `NAME.data` with `NAME.meta`, `NAME.bin` or `NAME.data` without header, the same
/// with a step in the name if there is one step only, or names that begin with the variable's, in any case and after
/// `total_`, by which ECCO calls the sum of a first guess and its adjustment.
pub(super) fn field(inventory: &Inventory, variable: &str, beside: &str) -> FileSearch<InputVersions> {
    let steps: Vec<u64> = inventory.steps(variable, &[""]).into_iter().collect();
    let mut found: BTreeMap<u8, Vec<InputVersions>> = BTreeMap::new();
    let files = || inventory.others().iter().filter(|file| !is_below(&file.path, beside));
    for file in files() {
        let name = base_name(&file.path);
        let Some((stem, ending)) = name.rsplit_once('.').filter(|(_, ending)| ["data", "bin"].contains(ending)) else {
            continue;
        };
        let Some(rank) = rank(stem, variable) else { continue };
        let meta = file.path.strip_suffix("data").filter(|_| ending == "data").map(|stem| format!("{stem}meta"));
        let meta = meta.and_then(|meta| inventory.others().iter().find(|file| file.path == meta));
        found.entry(rank).or_default().push([file].into_iter().chain(meta).cloned().collect());
    }
    match steps[..] {
        [] => {}
        [step] => match inventory.find(variable, &[""], step) {
            Ok(Some(input)) => found.entry(0).or_default().push(of_pairs(input.pairs)),
            Ok(None) => {}
            Err(twice) => return FileSearch::Several(twice.paths),
        },
        _ => return FileSearch::Several(steps.iter().map(|step| format!("{variable} at step {step}")).collect()),
    }
    let Some((rank, mut best)) = found.pop_first() else { return FileSearch::Nothing };
    match (best.pop(), &best[..]) {
        (Some(one), []) => FileSearch::One(one, rank == 0),
        (last, others) => {
            let all = others.iter().chain(&last).filter_map(|files| files.first());
            FileSearch::Several(all.map(|file| file.path.clone()).collect())
        }
    }
}

/// Finds the NetCDF file of a dataset on a grid: one with the name of its granule, else one whose name begins with the
/// dataset's and has the word of the grid in it, and that is of this version, if it names any.
pub(super) fn netcdf(files: &[OtherFile], granule: &GranuleName, version: &str, beside: &str) -> FileSearch<OtherFile> {
    let (mut exact, mut alike) = (Vec::new(), Vec::new());
    for file in files.iter().filter(|file| !is_below(&file.path, beside)) {
        let name = base_name(&file.path);
        if name == granule.to_string() {
            exact.push(file);
        } else if is_alike(name, granule, version) {
            alike.push(file);
        }
    }
    let is_exact = !exact.is_empty();
    match if is_exact { &exact } else { &alike }[..] {
        [] => FileSearch::Nothing,
        [one] => FileSearch::One(one.clone(), is_exact),
        ref several => FileSearch::Several(several.iter().map(|file| file.path.clone()).collect()),
    }
}

/// Finds the file of this name.
pub(super) fn named(files: &[OtherFile], name: &str, beside: &str) -> FileSearch<OtherFile> {
    let found: Vec<&OtherFile> =
        files.iter().filter(|file| base_name(&file.path) == name && !is_below(&file.path, beside)).collect();
    match found[..] {
        [] => FileSearch::Nothing,
        [one] => FileSearch::One(one.clone(), true),
        ref several => FileSearch::Several(several.iter().map(|file| file.path.clone()).collect()),
    }
}

fn of_pairs(pairs: Vec<Pair>) -> InputVersions {
    let files = |pair: Pair| {
        let data = OtherFile { path: pair.data, version: pair.data_version };
        [data, OtherFile { path: pair.meta, version: pair.meta_version }]
    };
    pairs.into_iter().flat_map(files).collect()
}

/// Returns how well the name of a file fits a variable, from 0: exactly, but for case and `total_`, or with more after it.
fn rank(stem: &str, variable: &str) -> Option<u8> {
    if stem == variable {
        return Some(0);
    }
    let (stem, variable) = (stem.to_ascii_lowercase(), variable.to_ascii_lowercase());
    let rest = stem.strip_prefix("total_").unwrap_or(&stem).strip_prefix(&variable)?;
    match rest.chars().next() {
        None => Some(1),
        Some('_') => Some(2),
        Some(_) => None,
    }
}

/// Returns true if a NetCDF file is of the dataset and the grid of a granule by its name, and of no other version unless
/// any will do (`""`).
fn is_alike(name: &str, granule: &GranuleName, version: &str) -> bool {
    let GranuleName { dataset, project, grid, .. } = granule;
    let rest = name.strip_suffix(".nc").and_then(|stem| stem.strip_prefix(dataset.as_str()));
    let parts = rest.and_then(|rest| rest.strip_prefix('_')).unwrap_or_default();
    let behind = format!("_{parts}");
    let its_version = behind.split_once(&format!("_{project}_")).and_then(|(_, rest)| rest.split('_').next());
    parts.split('_').any(|part| part == grid.as_str())
        && its_version.filter(|_| !project.is_empty()).is_none_or(|its| version.is_empty() || its == version)
}

/// Returns true if a path is below the root of the granules, which may lie below that of the results: what a plan made is
/// no input of the next one.
fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    /// Returns the inventory of a directory with these files.
    fn inventory(names: &[&str]) -> (tempfile::TempDir, Inventory) {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let (inventory, _) = Inventory::scan(root.path(), "").unwrap();
        (root, inventory)
    }

    #[test]
    fn fields_are_found_by_names_that_begin_with_theirs() {
        for (names, found, exact) in [
            (&["a/KAPGM.data", "a/KAPGM.meta"][..], &["a/KAPGM.data", "a/KAPGM.meta"][..], true),
            (&["a/KAPGM.bin"], &["a/KAPGM.bin"], true),
            (&["a/KAPGM.data"], &["a/KAPGM.data"], true),
            (&["kapgm.bin"], &["kapgm.bin"], false),
            (&["in/total_kapgm_r009bit11.bin", "in/xx_kapgm.data"], &["in/total_kapgm_r009bit11.bin"], false),
            (&["total_kapgm_a.bin", "KAPGM.bin"], &["KAPGM.bin"], true),
            (
                &["KAPGM.0000000000.data", "KAPGM.0000000000.meta"],
                &["KAPGM.0000000000.data", "KAPGM.0000000000.meta"],
                false,
            ),
            (&["KAPGMX.bin", "xx_kapgm.bin", "out/KAPGM.bin"], &[], false),
        ] {
            let (root, inventory) = inventory(names);
            let at = |name: &&str| root.path().join(name).display().to_string();
            let found: Vec<String> = found.iter().map(at).collect();
            let out = at(&"out");
            match field(&inventory, "KAPGM", &out) {
                FileSearch::One(files, is_exact) => {
                    assert_eq!(files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), found, "{names:?}");
                    assert!(is_exact || !exact, "{names:?}");
                    assert!(files.iter().all(|file| file.version.size > 0));
                }
                other => assert!(other == FileSearch::Nothing && found.is_empty(), "{names:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_fits_equally_well_is_not_chosen_from() {
        let (_root, two) = inventory(&["a/KAPGM.bin", "b/KAPGM.bin"]);
        assert!(matches!(field(&two, "KAPGM", "out"), FileSearch::Several(paths) if paths.len() == 2));
        let (_root, two) = inventory(&[
            "V4r6/KAPGM.0000000001.data",
            "V4r6/KAPGM.0000000001.meta",
            "V4r6/KAPGM.0000000002.data",
            "V4r6/KAPGM.0000000002.meta",
        ]);
        let FileSearch::Several(steps) = field(&two, "KAPGM", "out") else { unreachable!() };
        assert_eq!(steps, ["KAPGM at step 1", "KAPGM at step 2"]);
    }

    #[test]
    fn netcdf_files_are_of_a_dataset_a_grid_and_a_version() {
        let granule = GranuleName::parse("MIXING_ECCO_V4r6_native_llc0090.nc").unwrap();
        let find = |names: &[&str]| {
            let (root, inventory) = inventory(names);
            match netcdf(inventory.others(), &granule, "V4r6", &root.path().join("out").display().to_string()) {
                FileSearch::One(file, exact) => Some((base_name(&file.path).to_owned(), exact)),
                FileSearch::Nothing => None,
                FileSearch::Several(paths) => Some((paths.len().to_string(), false)),
            }
        };
        for (names, found) in [
            (
                &["x/MIXING_ECCO_V4r6_native_llc0090.nc", "MIXING_native.nc"][..],
                Some(("MIXING_ECCO_V4r6_native_llc0090.nc", true)),
            ),
            (&["MIXING_native_llc0090.nc", "MIXING_latlon.nc"], Some(("MIXING_native_llc0090.nc", false))),
            (&["MIXING_ECCO_V4r5_native_llc0090.nc", "MIXINGS_native.nc", "native.nc"], None),
            (&["out/V4r6/native/MIXING_ECCO_V4r6_native_llc0090.nc"], None),
            (&["a/MIXING_native.nc", "b/MIXING_native.nc"], Some(("2", false))),
            (&["MIXING_mon_mean_1992-01_ECCO_V4r6_native_llc0090.nc"], None),
        ] {
            assert_eq!(find(names), found.map(|(name, exact)| (name.to_owned(), exact)), "{names:?}");
        }
    }
}
