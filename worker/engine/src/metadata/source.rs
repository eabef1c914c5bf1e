//! The metadata directory: finding its files by their names, and reading them.

use super::entry::{Entries, EntryError, GlobalEntry};
use super::groupings::{self, Grouping};
use super::{MAX_FILE_BYTES, Warning};
use crate::verified_files::VerifiedFiles;
use edp_files::Files;
use edp_protocol::GridKind;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// The reason why a metadata directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The directory or a file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// Path of the directory or file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file is larger than metadata files may be.
    #[error("{path}: larger than the {MAX_FILE_BYTES} bytes that a metadata file may have")]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
    },
    /// The files are too many, or too large together.
    #[error("{directory}: its files have more than {MAX_FILE_BYTES} bytes together, or are more than {MOST}")]
    TooMuch {
        /// Path of the directory.
        directory: PathBuf,
    },
    /// Files that are required are missing.
    #[error("{directory}: no file like {}; is this a metadata directory of EDP?", patterns.join(", "))]
    Missing {
        /// Path of the directory.
        directory: PathBuf,
        /// Patterns of the names of all missing files.
        patterns: Vec<String>,
    },
    /// A file has invalid content.
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// The content of a metadata directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// The datasets on each grid. Their positions are the indices used in job files. Those of time series are empty if
    /// there is no such file.
    pub groupings: BTreeMap<GridKind, Vec<Grouping>>,
    /// The coordinates of native granules.
    pub native_coordinates: Entries,
    /// The coordinates of latlon granules.
    pub latlon_coordinates: Entries,
    /// The coordinates of time series; empty if there is no such file.
    pub series_coordinates: Entries,
    /// The time coordinate and its bounds.
    pub time_coordinates: Entries,
    /// The variables of all granules, and then the native geometry. They are applied first.
    pub variables: Entries,
    /// The variables of latlon granules. They are applied on top of `variables`.
    pub latlon_variables: Entries,
    /// The variables of time series; empty if there is no such file.
    pub series_variables: Entries,
    /// The geometry of the latlon grid; empty if there is no such file.
    pub latlon_geometry: Entries,
    /// The global attributes of all granules.
    pub globals_all: Vec<GlobalEntry>,
    /// The global attributes of latlon granules.
    pub globals_latlon: Vec<GlobalEntry>,
    /// The global attributes of native granules.
    pub globals_native: Vec<GlobalEntry>,
    /// The global attributes of time series; empty if there is no such file.
    pub globals_series: Vec<GlobalEntry>,
}

impl Metadata {
    /// Reads a metadata directory. Files are recognized by their names, with or without the prefixes that the releases
    /// put before them.
    ///
    /// If there are several groupings files of one grid, the last in the order of names is used, with a warning.
    /// Several files for another purpose are read one after the other in the order of names, with a warning.
    ///
    /// # Errors
    /// Returns an error if required files are missing (all of them are named at once), or if a file cannot be read or
    /// is invalid.
    pub fn load(directory: &Path) -> Result<(Metadata, Vec<Warning>), MetadataError> {
        Metadata::load_verified(directory, files(directory, &Files::default())?, &VerifiedFiles::default())
    }

    /// Reads a metadata directory of which the files are already listed. Those among them that `verified` holds open
    /// are read from there.
    ///
    /// # Errors
    /// Returns the errors of [`Metadata::load`].
    pub fn load_verified(
        directory: &Path,
        files: Vec<PathBuf>,
        verified: &VerifiedFiles,
    ) -> Result<(Metadata, Vec<Warning>), MetadataError> {
        let mut loader = Loader { directory, files: &files, verified, missing: Vec::new(), warnings: Vec::new() };
        let metadata = Metadata {
            groupings: BTreeMap::from([
                (GridKind::Native, loader.groupings("native", true)?),
                (GridKind::Latlon, loader.groupings("latlon", true)?),
                (GridKind::Series, loader.groupings("1D", false)?),
            ]),
            native_coordinates: loader.entries(&["coordinate_metadata_for_native_datasets"], true)?,
            latlon_coordinates: loader.entries(&["coordinate_metadata_for_latlon_datasets"], true)?,
            series_coordinates: loader.entries(&["coordinate_metadata_for_1D_datasets"], false)?,
            time_coordinates: loader.entries(&["time_coordinate_metadata"], true)?,
            variables: loader.entries(&["variable_metadata", "geometry_metadata_for_native_datasets"], true)?,
            latlon_variables: loader.entries(&["variable_metadata_for_latlon_datasets"], true)?,
            series_variables: loader.entries(&["variable_metadata_for_1D_datasets"], false)?,
            latlon_geometry: loader.entries(&["geometry_metadata_for_latlon_datasets"], false)?,
            globals_all: loader.globals("global_metadata_for_all_datasets", true)?,
            globals_latlon: loader.globals("global_metadata_for_latlon_datasets", true)?,
            globals_native: loader.globals("global_metadata_for_native_datasets", true)?,
            globals_series: loader.globals("global_metadata_for_1D_datasets", false)?,
        };
        if loader.missing.is_empty() {
            Ok((metadata, loader.warnings))
        } else {
            Err(MetadataError::Missing { directory: directory.into(), patterns: loader.missing })
        }
    }
}

impl Metadata {
    /// Returns the datasets on grids, without time series.
    pub fn on_grids(&self) -> impl Iterator<Item = (GridKind, &Vec<Grouping>)> {
        self.groupings.iter().map(|(grid, groupings)| (*grid, groupings)).filter(|(grid, _)| *grid != GridKind::Series)
    }

    /// Returns the datasets of time series.
    pub fn series(&self) -> &[Grouping] {
        self.groupings.get(&GridKind::Series).map_or(&[], Vec::as_slice)
    }
}

/// Largest number of files of a metadata directory.
const MOST: usize = 256;

/// Lists all `*.json` and `*.csv` files of a metadata directory in the order of names. Links are followed,
/// subdirectories are not.
///
/// # Errors
/// Returns an error if the directory cannot be read, if a file or all files together are larger than metadata may be,
/// or if there are too many files.
pub fn files(directory: &Path, files: &Files) -> Result<Vec<PathBuf>, MetadataError> {
    let names = files.names(directory).map_err(|source| MetadataError::Read { path: directory.into(), source })?;
    let (mut wanted, mut bytes) = (Vec::new(), 0_u64);
    for path in names.into_iter().map(|name| directory.join(name)) {
        if path.extension().is_some_and(|end| end == OsStr::new("json") || end == OsStr::new("csv")) {
            match files.metadata(&path) {
                Ok(found) if found.is_file() && found.len() > MAX_FILE_BYTES as u64 => {
                    return Err(MetadataError::TooLarge { path });
                }
                // Other things that are not files are refused when they are opened.
                Ok(found) if !found.is_dir() => {
                    bytes += found.len();
                    wanted.push(path);
                }
                Ok(_) => {}
                Err(error) if leads_nowhere(&error) => {}
                // Without this file it would look as if the metadata had been changed.
                Err(source) => return Err(MetadataError::Read { path, source }),
            }
        }
        if bytes > MAX_FILE_BYTES as u64 || wanted.len() > MOST {
            return Err(MetadataError::TooMuch { directory: directory.into() });
        }
    }
    Ok(wanted)
}

/// Returns true if an error says that a link leads to nothing that may be read.
fn leads_nowhere(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::NotFound | K::NotADirectory | K::PermissionDenied)
        || Errno::from_io_error(error) == Some(Errno::LOOP)
}

struct Loader<'a> {
    directory: &'a Path,
    files: &'a [PathBuf],
    verified: &'a VerifiedFiles,
    missing: Vec<String>,
    warnings: Vec<Warning>,
}

impl<'a> Loader<'a> {
    /// Returns the JSON files whose names fit, in the order of names.
    fn matching(&self, fits: impl Fn(&str) -> bool) -> Vec<&'a Path> {
        let files = self.files.iter().map(PathBuf::as_path);
        files.filter(|path| path.extension() == Some(OsStr::new("json")) && fits(&file_name(path))).collect()
    }

    /// Reads a metadata file that is not too large.
    fn read(&self, path: &Path) -> Result<Vec<u8>, MetadataError> {
        let failed = |source| MetadataError::Read { path: path.into(), source };
        let bytes = self.verified.read(path, MAX_FILE_BYTES).map_err(failed)?;
        if bytes.len() > MAX_FILE_BYTES { Err(MetadataError::TooLarge { path: path.into() }) } else { Ok(bytes) }
    }

    fn warn(&mut self, files: &[&Path], message: &str) {
        let names: Vec<String> = files.iter().map(|path| file_name(path)).collect();
        let directory = self.directory.display().to_string();
        self.warnings.push(Warning::new(&directory, names.join(", "), message));
    }

    fn groupings(&mut self, kind: &str, required: bool) -> Result<Vec<Grouping>, MetadataError> {
        let part = format!("_{}_", kind.to_ascii_lowercase());
        let files = self.matching(|name| {
            let name = name.to_ascii_lowercase();
            name.contains("groupings") && name.contains(&part)
        });
        let Some(file) = files.last() else {
            if required {
                self.missing.push(format!("*groupings*_{kind}_*.json"));
            }
            return Ok(Vec::new());
        };
        if files.len() > 1 {
            self.warn(&files, &format!("several groupings files for {kind}; the last counts"));
        }
        let (groupings, warnings) = groupings::parse(&file.display().to_string(), &self.read(file)?)?;
        self.warnings.extend(warnings);
        Ok(groupings)
    }

    /// Returns the files for one purpose: those in whose names the id is directly followed by a dot, whatever precedes
    /// it.
    fn role(&mut self, id: &str, required: bool) -> Vec<&'a Path> {
        let pattern = format!("{id}.");
        let files = self.matching(|name| name.contains(&pattern));
        if files.is_empty() && required {
            self.missing.push(format!("*{id}.json"));
        }
        if files.len() > 1 {
            self.warn(&files, "several files of one kind; read one after the other, the first entry of a name counts");
        }
        files
    }

    fn entries(&mut self, ids: &[&str], required: bool) -> Result<Entries, MetadataError> {
        let mut all = Entries::default();
        for id in ids {
            for file in self.role(id, required) {
                let (entries, warnings) = Entries::parse(&file.display().to_string(), &self.read(file)?)?;
                all.0.extend(entries.0);
                self.warnings.extend(warnings);
            }
        }
        Ok(all)
    }

    fn globals(&mut self, id: &str, required: bool) -> Result<Vec<GlobalEntry>, MetadataError> {
        let mut all = Vec::new();
        for file in self.role(id, required) {
            let (entries, warnings) = GlobalEntry::parse_list(&file.display().to_string(), &self.read(file)?)?;
            all.extend(entries);
            self.warnings.extend(warnings);
        }
        Ok(all)
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::metadata::podaac::{Found, Table};
    use edp_protocol::Frequency;
    use edp_protocol::name::{GranuleName, PROJECT, period};
    use std::fs;

    #[test]
    fn a_directory_of_too_much_is_refused_before_it_is_read() {
        let directory = release("", "");
        // The files are sparse: none takes space on the disk.
        let put = |name: &str, size| fs::File::create(directory.path().join(name)).unwrap().set_len(size).unwrap();
        let list = || files(directory.path(), &Files::default());
        put("a.json", 40 << 20);
        assert!(list().is_ok());
        put("b.csv", 40 << 20);
        let message = list().unwrap_err().to_string();
        assert!(message.contains("more than 67108864 bytes together"), "{message}");
        put("b.csv", 65 << 20);
        assert!(matches!(list(), Err(MetadataError::TooLarge { path }) if path.ends_with("b.csv")));
        fs::remove_file(directory.path().join("b.csv")).unwrap();
        (0..MOST).for_each(|n| put(&format!("{n}.json"), 1));
        assert!(matches!(list(), Err(MetadataError::TooMuch { .. })));
    }

    /// Makes a metadata directory like those of the releases, with one entry in each file.
    fn release(prefix: &str, spatial: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: String, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let grouping = r#"[{"name": "n", "fields": "A", "filename": "F", "dimension": "2D"}]"#;
        for kind in ["1D", "latlon", "native"] {
            write(format!("{prefix}groupings_for_{kind}_datasets.json"), grouping);
        }
        for kind in ["latlon", "native"] {
            let name = format!(r#"[{{"name": "{kind}", "axis": "X"}}]"#);
            write(format!("{spatial}coordinate_metadata_for_{kind}_datasets.json"), &name);
            write(
                format!("{prefix}geometry_metadata_for_{kind}_datasets.json"),
                &format!(r#"[{{"name": "geometry {kind}"}}]"#),
            );
        }
        for kind in ["1D", "all", "latlon", "native"] {
            let text = format!(r#"[{{"name": "comment", "type": "s", "value": "{kind}"}}]"#);
            write(format!("{prefix}global_metadata_for_{kind}_datasets.json"), &text);
        }
        write("time_coordinate_metadata.json".into(), r#"[{"name": "time"}]"#);
        write(format!("{prefix}variable_metadata.json"), r#"[{"name": "A", "units": "m"}]"#);
        write(format!("{prefix}variable_metadata_for_latlon_datasets.json"), r#"[{"name": "A latlon"}]"#);
        for other in ["variable_metadata_for_1D_datasets", "variable_metadata_unsorted", "dataset_summary"] {
            write(format!("{prefix}{other}.json"), r#"[{"name": "not read"}]"#);
        }
        write("table.csv".into(), "a,b\n");
        write("notes.txt".into(), "");
        directory
    }

    #[test]
    fn files_are_found_by_role_in_all_releases() {
        for (prefix, spatial) in [("ECCOv4r4_", "ECCOv4r4_"), ("", "spatial_")] {
            let directory = release(prefix, spatial);
            let (m, warnings) = Metadata::load(directory.path()).unwrap();
            assert_eq!(warnings, []);
            assert_eq!((m.groupings[&GridKind::Native].len(), m.groupings[&GridKind::Latlon].len()), (1, 1));
            assert_eq!(m.groupings[&GridKind::Series].len(), 1);
            let names = |e: &Entries| e.0.iter().map(|e| e.name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&m.native_coordinates), ["native"]);
            assert_eq!(names(&m.latlon_coordinates), ["latlon"]);
            assert_eq!(names(&m.time_coordinates), ["time"]);
            assert_eq!(names(&m.variables), ["A", "geometry native"]);
            assert_eq!(names(&m.latlon_variables), ["A latlon"]);
            assert_eq!(names(&m.latlon_geometry), ["geometry latlon"]);
            assert_eq!((m.globals_all.len(), m.globals_latlon.len(), m.globals_native.len()), (1, 1, 1));
            let files = files(directory.path(), &Files::default()).unwrap();
            assert_eq!(files.len(), 18);
            assert!(files.is_sorted() && files.iter().any(|path| path.ends_with("table.csv")));
        }
    }

    #[test]
    fn all_missing_files_are_named_at_once() {
        let directory = release("", "spatial_");
        for name in [
            "groupings_for_native_datasets",
            "variable_metadata",
            "geometry_metadata_for_latlon_datasets",
            "groupings_for_1D_datasets",
        ] {
            fs::remove_file(directory.path().join(format!("{name}.json"))).unwrap();
        }
        let error = Metadata::load(directory.path()).unwrap_err().to_string();
        let expected = format!(
            "{}: no file like *groupings*_native_*.json, *variable_metadata.json; is",
            directory.path().display()
        );
        assert!(error.starts_with(&expected), "{error}");
        let absent = Metadata::load(&directory.path().join("absent")).unwrap_err().to_string();
        assert!(absent.contains("absent: cannot be read"), "{absent}");
    }

    #[test]
    fn two_files_of_one_role() {
        let directory = release("", "spatial_");
        fs::write(directory.path().join("a_variable_metadata.json"), r#"[{"name": "A", "units": "km"}]"#).unwrap();
        let second = r#"[{"name": "other", "fields": "B", "filename": "G", "dimension": "2D"}]"#;
        fs::write(directory.path().join("z_groupings_for_NATIVE_datasets.json"), second).unwrap();
        let (m, warnings) = Metadata::load(directory.path()).unwrap();
        assert_eq!(m.variables.find("A").unwrap().text("units"), Some("km"));
        assert_eq!(m.variables.0.len(), 3);
        assert_eq!(m.groupings[&GridKind::Native][0].name, "other");
        assert_eq!(
            warnings.iter().map(|w| w.place.as_str()).collect::<Vec<_>>(),
            [
                "groupings_for_native_datasets.json, z_groupings_for_NATIVE_datasets.json",
                "a_variable_metadata.json, variable_metadata.json",
            ]
        );
    }

    #[test]
    fn huge_files_are_refused() {
        let directory = release("", "spatial_");
        let huge = directory.path().join("variable_metadata.json");
        std::fs::File::create(&huge).unwrap().set_len(MAX_FILE_BYTES as u64 + 1).unwrap();
        assert!(matches!(Metadata::load(directory.path()), Err(MetadataError::TooLarge { .. })));
    }

    fn real(release: &str) -> PathBuf {
        crate::real_data::real_data("metadata").join(release)
    }

    #[test]
    #[ignore = "needs EDP_REAL_DATA: make conformance"]
    fn real_data_releases_are_read() {
        for (release, native, latlon, coordinates, variables, expected) in
            [("V4r4", 21, 13, 23, 94 + 21, 0), ("V4r5", 29, 14, 20, 94 + 23, 2), ("V4r6", 30, 14, 20, 141 + 23, 0)]
        {
            let directory = real(release);
            let (m, warnings) = Metadata::load(&directory).unwrap();
            for warning in &warnings {
                println!("{warning}");
            }
            assert_eq!((m.groupings[&GridKind::Native].len(), m.groupings[&GridKind::Latlon].len()), (native, latlon));
            assert_eq!(
                (m.groupings[&GridKind::Series].len(), m.native_coordinates.0.len(), m.variables.0.len()),
                (3, coordinates, variables)
            );
            assert_eq!(warnings.len(), expected, "{release}");
        }
    }

    /// Looks up every dataset that a release offers in a table. Returns those without a row, and those for which EDP of
    /// 2026 finds no row.
    fn unmatched(directory: &Path, release: &str, table: &str) -> [Vec<String>; 2] {
        let (m, _) = Metadata::load(directory).unwrap();
        let (table, warnings) = Table::parse(table, &std::fs::read(directory.join(table)).unwrap()).unwrap();
        assert_eq!(warnings, []);
        let mut unmatched = [const { Vec::new() }; 2];
        // Names of time series have neither a date nor a label.
        for (&grid, groupings) in m.groupings.iter().filter(|(grid, _)| **grid != GridKind::Series) {
            for grouping in groupings {
                for &frequency in &grouping.frequencies {
                    let label = if grid == GridKind::Native { "llc0090" } else { "0p50deg" };
                    let mode = edp_protocol::Mode::Corrected;
                    let name = GranuleName {
                        dataset: grouping.filename.clone(),
                        period: period(frequency, mode),
                        frequency,
                        date: if frequency == Frequency::Month { "2000-06" } else { "2000-06-01" }.into(),
                        project: PROJECT.into(),
                        version: release.into(),
                        grid,
                        label: label.into(),
                    };
                    let dataset = || format!("{grid} {} {frequency}", grouping.filename);
                    match table.find(&name).unwrap() {
                        Found::Row(row) => {
                            assert!(row.doi("10.5067").unwrap().starts_with("10.5067/EC"));
                            assert_eq!(table.find_edp2024(&name), Some(row), "{name}");
                        }
                        Found::OtherRelease(_) | Found::Nothing => unmatched[0].push(dataset()),
                    }
                    if table.find_edp2026(&name).is_none() {
                        unmatched[1].push(dataset());
                    }
                    if frequency == Frequency::Snapshot {
                        let edp = GranuleName { period: "day_snap", ..name };
                        assert_eq!(table.find_edp2024(&edp), None);
                    }
                }
            }
        }
        unmatched
    }

    #[test]
    #[ignore = "needs EDP_REAL_DATA: make conformance"]
    fn real_data_datasets_of_the_releases_are_in_their_tables() {
        for (release, table, expected) in [
            // EDP of 2026 finds no snapshots.
            ("V4r4", "PODAAC_datasets-revised_20210226.5.csv", [0, 5]),
            ("V4r4", "PODAAC_datasets-revised_20210226.4.csv", [0, 5]),
            ("V4r4", "ECCOv4r4_PODAAC_dataset_table.csv", [0, 5]),
            // The later tables have other names for the three-dimensional budgets, or do not have them yet.
            ("V4r5", "PODAAC_dataset_table_V4r5_20230103.csv", [6, 11]),
            // There is no row for snapshots of the bolus velocity.
            ("V4r6", "PODAAC_dataset_table_V4r6_20260525.csv", [1, 9]),
        ] {
            let directory = real(release);
            let unmatched = unmatched(&directory, release, table);
            println!("{table}: {unmatched:?}");
            assert_eq!(unmatched.each_ref().map(Vec::len), expected, "{table}: {unmatched:?}");
        }
    }
}
