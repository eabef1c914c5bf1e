//! EDP's configuration: one flat YAML mapping.
//!
//! The keys of all generations are accepted, including those that have no use here. Where an old file lacks a key that
//! has a default, the default is used and a warning given.

use super::Warning;
use super::keys::{COMPRESSION, LABELS};
use super::reader::KeyReader;
use crate::codec::{Codec, CodecKeys};
use edp_protocol::GridKind;
use edp_protocol::name::{self, GranuleName};
use jiff::civil::DateTime;
use std::collections::BTreeMap;

pub use super::reader::{ConfigurationError, MAX_BYTES};

/// The number type of the data variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputPrecision {
    /// IEEE single precision, 4 bytes.
    Float32,
    /// IEEE double precision, 8 bytes.
    Float64,
}

/// The keys of the configuration that affect the granules. Keys of other purpose are accepted and ignored.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// `ecco_version`: the release, such as `V4r4`; may be empty.
    pub ecco_version: String,
    /// `granule_name_pattern`: the words for the project in names of granules, see [`name::project_of_pattern`].
    pub project: String,
    /// `product_version`: written to the global attribute of that name.
    pub product_version: String,
    /// `ecco_production_filestr_grid_label`: the last part of file names, by grid kind.
    pub grid_labels: BTreeMap<GridKind, String>,
    /// `array_precision`: the number type of the data variables.
    pub precision: OutputPrecision,
    /// `static_coordinates`: `all`, or `axes` for native granules without horizontal coordinates.
    pub horizontal_coordinates: bool,
    /// `model_start_time`: the time t0 of model step 0.
    pub model_start: DateTime,
    /// `model_end_time`: the end of the model run.
    pub model_end: DateTime,
    /// `model_timestep` in `model_timestep_units`: the length of one model step in seconds.
    pub step_seconds: i64,
    /// `geospatial_vertical_min`: the depth of the bottom in metres, negative downwards.
    pub geospatial_vertical_min: f64,
    /// `results_version`: the text that the paths of results must have, if it is not `ecco_version`; may be empty.
    pub results_version: Option<String>,
    /// `podaac_metadata_filename`: the file name of the PO.DAAC table; empty where granules are for no archive.
    pub podaac_file: String,
    /// `history`: the text of the global attribute.
    pub history: String,
    /// `references`: the text of the global attribute.
    pub references: String,
    /// `source`: the text of the global attribute.
    pub source: String,
    /// `summary`, or `project_summary` if there is no `summary`.
    pub summary: String,
    /// `project_summary`: the only one that EDP of 2026 uses.
    pub project_summary: Option<String>,
    /// Keys that say of which size and resolution the grids are, for texts about the geometry.
    pub grid_texts: BTreeMap<&'static str, String>,
    /// `netcdf4_compression_encodings`: the compression of data variables.
    pub codec: Codec,
    /// `doi_prefix`: the part of a DOI before the slash.
    pub doi_prefix: String,
    /// `doi_authority`: the organization that resolves DOIs.
    pub doi_authority: Option<String>,
    /// `metadata_link_root`: the beginning of the links to datasets.
    pub metadata_link_root: Option<String>,
    /// `dataset_description_tail_native`, `_latlon` and `_1D`: a part of the attribute `summary`, by grid kind.
    pub description_tails: BTreeMap<GridKind, String>,
}

/// Keys of [`Configuration::grid_texts`].
const GRID_TEXTS: [&str; 3] = ["llc_grid_size", "llc_code", "latlon_grid_resolution"];

impl Configuration {
    /// Reads a configuration. `name` is used in messages only.
    ///
    /// # Errors
    /// Returns an error if the text is not a flat YAML mapping, if a value does not fit its key, or if keys without
    /// default are missing. The message names file, line and key.
    pub fn parse(name: &str, text: &[u8]) -> Result<(Configuration, Vec<Warning>), ConfigurationError> {
        let mut reader = KeyReader::new(name, text)?;
        let labels = reader.labels()?;
        let configuration = Configuration {
            ecco_version: reader.part_of_names("ecco_version")?,
            results_version: reader.text("results_version"),
            project: reader.project()?,
            product_version: reader.required("product_version"),
            grid_labels: labels,
            precision: reader.precision()?,
            horizontal_coordinates: reader.horizontal_coordinates()?,
            model_start: reader.date("model_start_time")?,
            model_end: reader.date("model_end_time")?,
            step_seconds: reader.step_seconds()?,
            geospatial_vertical_min: reader.vertical_min()?,
            podaac_file: reader.file_name("podaac_metadata_filename")?,
            history: reader.required("history"),
            references: reader.required("references"),
            source: reader.required("source"),
            summary: reader.summary(),
            project_summary: reader.text("project_summary"),
            grid_texts: GRID_TEXTS.iter().filter_map(|key| Some((*key, reader.text(key)?))).collect(),
            codec: reader.codec()?,
            doi_prefix: reader.doi_prefix(),
            doi_authority: reader.text("doi_authority"),
            metadata_link_root: reader.text("metadata_link_root"),
            description_tails: BTreeMap::from([
                (GridKind::Native, reader.required("dataset_description_tail_native")),
                (GridKind::Latlon, reader.required("dataset_description_tail_latlon")),
                (GridKind::Series, reader.text("dataset_description_tail_1D").unwrap_or_default()),
            ]),
        };
        if !reader.missing.is_empty() {
            return Err(ConfigurationError::Missing { file: name.into(), keys: reader.missing });
        }
        if configuration.model_end < configuration.model_start {
            let found = format!("{} is before model_start_time {}", configuration.model_end, configuration.model_start);
            return Err(reader.wrong("model_end_time", found, "a time after the start of the model"));
        }
        Ok((configuration, reader.warnings))
    }
}

impl KeyReader<'_> {
    fn project(&mut self) -> Result<String, ConfigurationError> {
        const KEY: &str = "granule_name_pattern";
        let Some(pattern) = self.text(KEY) else { return Ok(name::PROJECT.into()) };
        let project = name::project_of_pattern(&pattern);
        // Words for periods or grids would make names ambiguous.
        let survives = |project: &&str| {
            let geometry = GranuleName::of_geometry(project, "V", GridKind::Native, "l");
            GranuleName::parse_of(project, &geometry.to_string()).as_ref() == Ok(&geometry)
        };
        project.filter(survives).map(str::to_owned).ok_or_else(|| {
            let expected = "<filename>_<period>_<date>_ECCO_<version>_<grid>_<label>.nc with other words for ECCO, or none; \
                            they have letters, digits, '-', '.' and '_', and are not words for periods";
            self.wrong(KEY, pattern.clone(), expected)
        })
    }

    fn part_of_names(&mut self, key: &'static str) -> Result<String, ConfigurationError> {
        let text = self.required(key);
        if text.contains(['_', '/']) || text.contains(char::is_control) || matches!(text.as_str(), "." | "..") {
            return Err(self.wrong(
                key,
                format!("'{text}'"),
                "a text that can be part of file names: without '_' and '/', not '..'",
            ));
        }
        Ok(text)
    }

    fn file_name(&mut self, key: &'static str) -> Result<String, ConfigurationError> {
        let text = self.required(key);
        if text.contains('/') || text.contains(char::is_control) || text == ".." {
            return Err(self.wrong(
                key,
                format!("'{text}'"),
                "the name of a file of the metadata directory, without '/'",
            ));
        }
        Ok(text)
    }

    fn labels(&mut self) -> Result<BTreeMap<GridKind, String>, ConfigurationError> {
        let given = self.mapping(LABELS);
        for key in given.keys().filter(|key| !matches!(key.as_str(), "latlon" | "native" | "1D" | "1d")) {
            let message = format!("unknown grid type '{key}' is ignored; known: latlon, native, 1D");
            self.warnings.push(Warning::new(self.file, self.place(LABELS), message));
        }
        let mut labels = BTreeMap::new();
        let mut taken = Vec::new();
        for kind in [GridKind::Latlon, GridKind::Native] {
            let label = match given.get(kind.as_str()).cloned().flatten() {
                Some(label) => label,
                None => {
                    let label = self.derived_label(kind)?;
                    taken.push(format!("{kind} {label}"));
                    label
                }
            };
            let bad = label.is_empty() || label.contains(['_', '/', '.']) || label.contains(char::is_control);
            if bad {
                return Err(self.wrong(
                    LABELS,
                    format!("'{label}' for {kind}"),
                    "a label like 0p50deg, without '_', '.' and '/'",
                ));
            }
            labels.insert(kind, label);
        }
        if !taken.is_empty() {
            self.defaulted(LABELS, &taken.join(", "));
        }
        Ok(labels)
    }

    fn derived_label(&self, kind: GridKind) -> Result<String, ConfigurationError> {
        match kind {
            GridKind::Latlon => {
                let key = "latlon_grid_resolution";
                let expected = "degrees, more than 0, at most 180";
                let text = self.text(key).unwrap_or_else(|| "0.5".into());
                let degrees: f64 = self.parsed(key, &text, expected)?;
                if !(degrees > 0.0 && degrees <= 180.0) {
                    return Err(self.wrong(key, format!("'{text}'"), expected));
                }
                Ok(name::latlon_label(degrees))
            }
            GridKind::Series => Ok(String::new()),
            GridKind::Native => {
                let key = "llc_grid_size";
                let text = self.text(key).unwrap_or_else(|| "90".into());
                let cells = self.whole_number(key, &text, "the number of cells along a tile's edge, 1 or more")?;
                Ok(name::native_label(cells.unsigned_abs()))
            }
        }
    }

    fn precision(&self) -> Result<OutputPrecision, ConfigurationError> {
        let key = "array_precision";
        match self.text(key).as_deref().map(str::trim) {
            None | Some("" | "float64") => Ok(OutputPrecision::Float64),
            Some("float32") => Ok(OutputPrecision::Float32),
            Some(other) => Err(self.wrong(key, format!("'{other}'"), "float32 or float64")),
        }
    }

    fn horizontal_coordinates(&self) -> Result<bool, ConfigurationError> {
        let key = "static_coordinates";
        match self.text(key).as_deref().map(str::trim) {
            None | Some("all") => Ok(true),
            Some("axes") => Ok(false),
            Some(other) => Err(self.wrong(key, format!("'{other}'"), "all or axes")),
        }
    }

    fn date(&mut self, key: &'static str) -> Result<DateTime, ConfigurationError> {
        let Some(text) = self.text(key) else {
            self.missing.push(key);
            return Ok(DateTime::ZERO);
        };
        let expected = "a time YYYY-MM-DDThh:mm:ss";
        let date: DateTime = self.parsed(key, &text, expected)?;
        if date.subsec_nanosecond() != 0 {
            return Err(self.wrong(key, format!("'{text}'"), expected));
        }
        Ok(date)
    }

    fn step_seconds(&mut self) -> Result<i64, ConfigurationError> {
        let (length, unit) = ("model_timestep", "model_timestep_units");
        let expected = "a whole number of units, 1 or more";
        let steps = match self.text(length) {
            Some(text) => self.whole_number(length, &text, expected)?,
            None => {
                self.defaulted(length, "1");
                1
            }
        };
        let units = self.text(unit).unwrap_or_else(|| {
            self.defaulted(unit, "h");
            "h".into()
        });
        let seconds: i64 = match units.trim() {
            "D" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return Err(self.wrong(unit, format!("'{units}'"), "D, h, m or s (days, hours, minutes, seconds)")),
        };
        steps.checked_mul(seconds).ok_or_else(|| self.wrong(length, format!("'{steps}'"), expected))
    }

    fn vertical_min(&mut self) -> Result<f64, ConfigurationError> {
        let key = "geospatial_vertical_min";
        let Some(text) = self.text(key) else {
            self.missing.push(key);
            return Ok(0.0);
        };
        let expected = "a depth in metres, such as -6134.5";
        let metres: f64 = self.parsed(key, &text, expected)?;
        if metres.is_finite() { Ok(metres) } else { Err(self.wrong(key, format!("'{text}'"), expected)) }
    }

    fn summary(&mut self) -> String {
        self.text("summary").or_else(|| self.text("project_summary")).unwrap_or_else(|| {
            self.missing.push("summary (or project_summary)");
            String::new()
        })
    }

    fn doi_prefix(&mut self) -> String {
        self.text("doi_prefix").unwrap_or_else(|| {
            self.defaulted("doi_prefix", "10.5067");
            "10.5067".into()
        })
    }

    fn codec(&mut self) -> Result<Codec, ConfigurationError> {
        let mut keys = CodecKeys::default();
        for (key, value) in self.mapping(COMPRESSION) {
            let Some(text) = value else { continue };
            let wrong = |expected| self.wrong(COMPRESSION, format!("{key} '{text}'"), expected);
            if !keys.set(&key, &text).map_err(wrong)? {
                let message = format!("'{key}' is ignored; known: {}", CodecKeys::KNOWN.join(", "));
                self.warnings.push(Warning::new(self.file, self.place(COMPRESSION), message));
            }
        }
        Ok(keys.codec())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::codec::Compressor;
    use jiff::civil::date;
    use proptest::prelude::*;

    const FULL: &str = "\
ecco_version: 'V4r4'
product_version: 1.10
ecco_production_filestr_grid_label:
    latlon: '0p50deg'
    native: llc0090
    1D: '1D'
array_precision: float32
model_start_time: 1992-01-01T12:00:00
model_end_time: '2017-12-31T12:00:00'
model_timestep: '3600'
model_timestep_units: s
geospatial_vertical_min: '-6134.5'
podaac_metadata_filename: table.csv
history: h
references: r
source: 3
summary: s
project_summary: not used
doi_prefix: 10.5067
doi_authority: org.doi
metadata_link_root: https://x?ShortName=
dataset_description_tail_latlon: ' on a grid.'
dataset_description_tail_native: ''
dataset_description_tail_1D:
latlon_effective_grid_radius:
latlon_grid_area_extent: [-180.0, 90.0, 180.0, -90.0]
create_checksum: True
netcdf4_compression_encodings: {zlib: True, complevel: '4', shuffle: no}
";

    fn read(text: &str) -> (Configuration, Vec<String>) {
        let (configuration, warnings) = Configuration::parse("c.yaml", text.as_bytes()).unwrap();
        (configuration, warnings.iter().map(|w| w.to_string()).collect())
    }

    fn error(text: &str) -> String {
        Configuration::parse("c.yaml", text.as_bytes()).unwrap_err().to_string()
    }

    /// Returns FULL without the lines of some keys.
    fn without(keys: &[&str]) -> String {
        let drop = |line: &&str| !keys.iter().any(|key| line.trim_start().starts_with(&format!("{key}:")));
        FULL.lines().filter(drop).fold(String::new(), |text, line| text + line + "\n")
    }

    #[test]
    fn all_values_are_taken_as_written() {
        let (c, warnings) = read(FULL);
        assert_eq!(warnings, [""; 0]);
        assert_eq!((c.ecco_version.as_str(), c.product_version.as_str(), c.source.as_str()), ("V4r4", "1.10", "3"));
        assert_eq!(
            c.grid_labels,
            BTreeMap::from([(GridKind::Latlon, "0p50deg".into()), (GridKind::Native, "llc0090".into())])
        );
        assert_eq!(c.precision, OutputPrecision::Float32);
        assert_eq!(
            (c.model_start, c.model_end),
            (date(1992, 1, 1).at(12, 0, 0, 0), date(2017, 12, 31).at(12, 0, 0, 0))
        );
        assert_eq!((c.step_seconds, c.geospatial_vertical_min), (3600, -6134.5));
        assert_eq!((c.podaac_file.as_str(), c.summary.as_str(), c.doi_prefix.as_str()), ("table.csv", "s", "10.5067"));
        assert_eq!(c.doi_authority.as_deref(), Some("org.doi"));
        assert_eq!(c.metadata_link_root.as_deref(), Some("https://x?ShortName="));
        assert_eq!(c.description_tails[&GridKind::Latlon], " on a grid.");
        assert_eq!(c.description_tails[&GridKind::Native], "");
        assert_eq!(c.codec, Codec { compressor: Compressor::Deflate(4), shuffle: false });
    }

    #[test]
    fn old_files_get_defaults_and_one_warning_for_each_key() {
        let old = without(&[
            "ecco_production_filestr_grid_label",
            "latlon",
            "native",
            "1D",
            "model_timestep",
            "model_timestep_units",
            "doi_prefix",
            "array_precision",
            "netcdf4_compression_encodings",
            "doi_authority",
            "metadata_link_root",
            "summary",
        ]);
        let (c, warnings) = read(&old);
        assert_eq!(
            warnings,
            [
                "c.yaml: key ecco_production_filestr_grid_label: missing; taken: latlon 0p50deg, native llc0090",
                "c.yaml: key model_timestep: missing; taken: 1",
                "c.yaml: key model_timestep_units: missing; taken: h",
                "c.yaml: key doi_prefix: missing; taken: 10.5067",
            ]
        );
        assert_eq!((c.step_seconds, c.precision, c.summary.as_str()), (3600, OutputPrecision::Float64, "not used"));
        assert_eq!(c.codec, Codec { compressor: Compressor::Deflate(5), shuffle: true });
        assert_eq!((c.doi_authority, c.metadata_link_root), (None, None));
    }

    #[test]
    fn labels_follow_resolution_and_grid_size() {
        let old = without(&["native", "latlon"]).replace("    1D: '1D'\n", "    latlon:\n");
        let (c, warnings) = read(&(old + "latlon_grid_resolution: 0.25\nllc_grid_size: 270\n"));
        assert_eq!(c.grid_labels[&GridKind::Latlon], "0p25deg");
        assert_eq!(c.grid_labels[&GridKind::Native], "llc0270");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn all_missing_keys_are_named_at_once() {
        assert_eq!(
            error("ecco_version: ''\nhistory:\n"),
            "c.yaml: missing: product_version, model_start_time, model_end_time, geospatial_vertical_min, \
             podaac_metadata_filename, history, references, source, summary (or project_summary), \
             dataset_description_tail_native, dataset_description_tail_latlon; add these keys, they have no default"
        );
    }

    #[test]
    fn unknown_and_repeated_keys_are_warned_about() {
        let (c, warnings) = read(&format!("model_timesteps: 2\nxyz: [1]\n{FULL}source: later\n"));
        assert_eq!(c.source, "later");
        assert_eq!(
            warnings,
            [
                "c.yaml: line 1: unknown key 'model_timesteps' is ignored; did you mean 'model_timestep'?",
                "c.yaml: line 2: unknown key 'xyz' is ignored",
                "c.yaml: line 31: key 'source' is given again, after line 18; the later one counts",
            ]
        );
    }

    #[test]
    fn wrong_values_name_line_key_and_what_is_expected() {
        for (from, to, expected) in [
            (
                "ecco_version:",
                "granule_name_pattern: '<date>_X.nc'\necco_version:",
                "line 1, key granule_name_pattern: <date>",
            ),
            ("'V4r4'", "'V4_r4'", "c.yaml: line 1, key ecco_version: 'V4_r4'; expected a text that can be part"),
            ("'V4r4'", "'..'", "line 1, key ecco_version"),
            ("'V4r4'", "'a/b'", "line 1, key ecco_version"),
            ("'V4r4'", "[V4r4]", "line 1, key ecco_version: "),
            ("'0p50deg'", "0.5", "line 3, key ecco_production_filestr_grid_label: '0.5' for latlon; expected a label"),
            ("llc0090", "a_b", "line 3, key"),
            ("float32", "float16", "expected float32 or float64"),
            ("1992-01-01T12:00:00", "January", "line 8, key model_start_time: 'January'; expected a time"),
            ("1992-01-01T12", "2018-01-01T12", "line 9, key model_end_time: 2017-12-31T12:00:00 is before"),
            ("'3600'", "0", "line 10, key model_timestep: '0'; expected a whole number"),
            ("'3600'", "0.5", "line 10"),
            ("'3600'", "9223372036854775807\n#", ""),
            ("_units: s", "_units: M", "line 11, key model_timestep_units: 'M'; expected D, h, m or s"),
            ("'-6134.5'", "nan", "line 12, key geospatial_vertical_min"),
            ("table.csv", "../t.csv", "line 13, key podaac_metadata_filename"),
            (
                "complevel: '4'",
                "complevel: 10",
                "line 28, key netcdf4_compression_encodings: complevel '10'; expected a level",
            ),
            ("zlib: True", "zlib: maybe", "true or false"),
            ("summary: s", "summary: {a: b}", "line 17, key summary"),
            ("history: h", "history: 'open", ""),
        ] {
            let text = FULL.replacen(from, to, 1);
            assert_ne!(text, FULL, "{from}");
            match Configuration::parse("c.yaml", text.as_bytes()) {
                Err(error) => assert!(error.to_string().contains(expected), "{to}: {error}"),
                // The largest number of seconds still fits.
                Ok((c, _)) => assert_eq!(c.step_seconds, i64::MAX, "{to}"),
            }
        }
        let days = FULL.replace("'3600'", "9223372036854775807").replace("units: s", "units: D");
        assert!(error(&days).contains("key model_timestep"), "{}", error(&days));
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        assert!(error("- a\n- b\n").starts_with("c.yaml: line 1: not a YAML mapping"), "{}", error("- a\n"));
        assert!(matches!(
            Configuration::parse("c", &vec![b'#'; MAX_BYTES + 1]),
            Err(ConfigurationError::TooLarge { .. })
        ));
        let bad = Configuration::parse("c", b"a: b\nc: \xff\n").unwrap_err();
        assert_eq!(bad.to_string(), "c: line 2: not UTF-8 text; save the file as UTF-8");
        read(&format!("\u{feff}{}", FULL.replace('\n', "\r\n")));
    }

    #[test]
    #[ignore = "needs EDP_REAL_DATA: make conformance"]
    fn real_data_configurations_of_the_releases_are_read() {
        let directory = crate::real_data::real_data("config");
        for (file, expected) in [("V4r4", 4), ("V4r5", 4), ("updated", 0)] {
            let name = format!("product_generation_config_{file}.yaml");
            let (c, warnings) = Configuration::parse(&name, &std::fs::read(directory.join(&name)).unwrap()).unwrap();
            assert_eq!(warnings.len(), expected, "{warnings:?}");
            assert_eq!(
                (c.precision, c.step_seconds, c.geospatial_vertical_min),
                (OutputPrecision::Float32, 3600, -6134.5)
            );
            assert_eq!(c.grid_labels[&GridKind::Native], "llc0090");
            assert!(c.description_tails[&GridKind::Native].starts_with(" on the native"));
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, line in "[a-z_]{1,24}: [-0-9a-z'\\[{*&!.:]{0,12}", at in 0..FULL.len()) {
            let _ = Configuration::parse("x", &bytes);
            let _ = Configuration::parse("x", format!("{}\n{line}\n{}", &FULL[..at], &FULL[at..]).as_bytes());
        }
    }
}
