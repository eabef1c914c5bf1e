//! The files of a metadata directory, one by one.

use super::Defects;
use edp_engine::metadata::entry::Entries;
use edp_engine::metadata::source::{self, Metadata, MetadataError};
use edp_engine::metadata::{MAX_FILE_BYTES, Warning, json};
use edp_engine::verified_files::VerifiedFiles;
use edp_files::Files;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Parts of the names of all files that EDP or this program reads, or that are known to be for people.
const KNOWN: [&str; 16] = [
    "groupings",
    "coordinate_metadata_for_native_datasets.",
    "coordinate_metadata_for_latlon_datasets.",
    "coordinate_metadata_for_1D_datasets.",
    "time_coordinate_metadata.",
    "variable_metadata.",
    "variable_metadata_for_latlon_datasets.",
    "variable_metadata_for_1D_datasets.",
    "geometry_metadata_for_native_datasets.",
    "geometry_metadata_for_latlon_datasets.",
    "global_metadata_for_all_datasets.",
    "global_metadata_for_native_datasets.",
    "global_metadata_for_latlon_datasets.",
    "global_metadata_for_1D_datasets.",
    "dataset_summary.",
    "grid_geometry_dataset_descriptions.",
];

/// A JSON file.
#[derive(Debug)]
struct JsonFile {
    /// Path of the file, for messages.
    path: String,
    /// The file as it is; empty if it cannot be read.
    bytes: Vec<u8>,
    /// Its content, and the warnings of the parser; or what is wrong with it.
    content: Result<(Value, Vec<Warning>), String>,
}

/// The files of a metadata directory.
#[derive(Debug)]
pub(super) struct MetadataFiles {
    directory: PathBuf,
    paths: Vec<PathBuf>,
    json: Vec<JsonFile>,
}

impl MetadataFiles {
    /// Reads the JSON files of a directory.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be listed, or holds more than metadata may have.
    pub(super) fn read(directory: &Path) -> Result<MetadataFiles, MetadataError> {
        let paths = source::files(directory, &Files::default())?;
        let is_json = |path: &&PathBuf| path.extension().is_some_and(|end| end == "json");
        let json = paths.iter().filter(is_json).map(|path| {
            let name = path.display().to_string();
            let (bytes, content) = match read(path) {
                Ok(bytes) => {
                    let content = json::parse(&name, &bytes).map_err(|error| error.to_string());
                    (bytes, content)
                }
                Err(what) => (Vec::new(), Err(what)),
            };
            JsonFile { path: name, bytes, content }
        });
        Ok(MetadataFiles { directory: directory.into(), json: json.collect(), paths })
    }

    /// Reports files that are no JSON, whether they can be read nevertheless or not, and files that nothing reads.
    pub(super) fn check_json(&self, defects: &mut Defects) {
        for file in &self.json {
            match &file.content {
                Err(what) => defects.failure(&file.path, what),
                Ok((_, warnings)) => {
                    for warning in warnings {
                        let message = format!("no valid JSON, so that EDP cannot read it: {}", warning.message);
                        defects.error(&file.path, &warning.place, message);
                    }
                }
            }
            let name = base_name(&file.path);
            if !KNOWN.iter().any(|part| name.contains(part)) {
                defects.note(&file.path, "", "nothing reads a file of this name");
            }
        }
    }

    /// Reads the directory as planning does; `None` if it cannot be used, which is then reported.
    pub(super) fn load(&self, defects: &mut Defects) -> Option<Metadata> {
        match Metadata::load_verified(&self.directory, self.paths.clone(), &VerifiedFiles::default()) {
            Ok((metadata, warnings)) => {
                // Mended JSON is reported by `check_json`, as an error.
                let mended: Vec<&Warning> =
                    self.json.iter().filter_map(|f| f.content.as_ref().ok()).flat_map(|(_, w)| w).collect();
                defects.warnings(warnings.into_iter().filter(|warning| !mended.contains(&warning)).collect());
                Some(metadata)
            }
            Err(error) => {
                defects.failure(&self.directory.display().to_string(), &error);
                None
            }
        }
    }

    /// Returns the content of all JSON files that can be read.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.json.iter().filter_map(|file| Some((file.path.as_str(), &file.content.as_ref().ok()?.0)))
    }

    /// Returns the entries of the files whose names contain a text; files that are no lists of entries are left out,
    /// since reading the directory reports them.
    pub(super) fn entries(&self, part_of_name: &str) -> Vec<(&str, Entries)> {
        let of_that_name = self.json.iter().filter(|file| base_name(&file.path).contains(part_of_name));
        let parsed = of_that_name.map(|file| (file.path.as_str(), Entries::parse(&file.path, &file.bytes)));
        parsed.filter_map(|(path, entries)| Some((path, entries.ok()?.0))).collect()
    }

    /// Returns the path of the groupings file of a grid word (`native`, `latlon`, `1d`), or the directory where there
    /// is none.
    pub(super) fn groupings(&self, grid: &str) -> String {
        let part = format!("_{grid}_");
        let is_it = |name: &str| name.contains("groupings") && name.contains(&part);
        let last = self.json.iter().rev().find(|file| is_it(&base_name(&file.path).to_ascii_lowercase()));
        last.map_or_else(|| self.directory.display().to_string(), |file| file.path.clone())
    }

    /// Returns the tables in the directory.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path).filter(|path| path.extension().is_some_and(|end| end == "csv"))
    }

    /// Returns the name of the directory.
    pub(super) fn directory(&self) -> String {
        self.directory.display().to_string()
    }
}

/// Reads a file that is no larger than a metadata file may be.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes =
        VerifiedFiles::default().read(path, MAX_FILE_BYTES).map_err(|error| format!("cannot be read: {error}"))?;
    match bytes.len() {
        size if size > MAX_FILE_BYTES => {
            Err(format!("larger than the {MAX_FILE_BYTES} bytes that a metadata file may have"))
        }
        _ => Ok(bytes),
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
