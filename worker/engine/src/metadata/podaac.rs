//! The PO.DAAC table, which assigns granules to the datasets of the archive.

use super::{MAX_FILE_BYTES, Warning, without_mark};
use edp_protocol::Frequency;
use edp_protocol::name::GranuleName;

/// The column with an example of the file names of a dataset.
const FILENAME: &str = "DATASET.FILENAME";
const SHORT_NAME: &str = "DATASET.SHORT_NAME";
const LONG_NAME: &str = "DATASET.LONG_NAME";
const PERSISTENT_ID: &str = "DATASET.PERSISTENT_ID";

/// A row of the table: one dataset of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Name of an example file.
    pub filename: String,
    /// Short name of the dataset.
    pub short_name: String,
    /// Title of the dataset, as written.
    pub long_name: String,
    /// Identifier, such as `PODAAC-ECG5M-SSH44` or `10.5067/ECG5D-ATM46`.
    pub persistent_id: String,
    /// Number of the line of the table on which the row begins, from 1.
    pub line: u64,
    /// The parts of the example file's name; `None` for time-invariant and 1-D datasets.
    parsed: Option<GranuleName>,
}

/// A PO.DAAC table, as read from its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Path of the file.
    pub file: String,
    /// The rows in file order.
    pub rows: Vec<Row>,
}

/// The result of looking up a dataset in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// The row of the dataset.
    Row(&'a Row),
    /// Only the row of another release, named here. Its identifiers belong to other granules.
    OtherRelease(&'a str),
    /// There is no row.
    Nothing,
}

/// The reason why a table, or a row of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The text is larger than any table.
    #[error("{file}: {size} bytes are more than the {MAX_FILE_BYTES} that a metadata file may have")]
    TooLarge {
        /// Path of the file.
        file: String,
        /// Its size in bytes.
        size: usize,
    },
    /// The text is not a table.
    #[error("{file}: not a table of comma-separated values: {source}")]
    Csv {
        /// Path of the file.
        file: String,
        /// The error of the CSV parser, with the line.
        source: csv::Error,
    },
    /// The header lacks columns that are used.
    #[error("{file}: line 1: the columns {} are missing; the header names the columns of a PO.DAAC table", columns.join(", "))]
    Columns {
        /// Path of the file.
        file: String,
        /// Names of the missing columns.
        columns: Vec<&'static str>,
    },
    /// More than one row fits a granule.
    #[error("{file}: {} rows fit granule {granule}: {}; keep one of them", rows.len(), rows.join(", "))]
    Ambiguous {
        /// Path of the file.
        file: String,
        /// Name of the granule.
        granule: String,
        /// Short names and line numbers of the rows.
        rows: Vec<String>,
    },
}

impl Table {
    /// Returns the table of a production that no archive is meant for: it has neither a file nor rows.
    pub fn none() -> Table {
        Table { file: String::new(), rows: Vec::new() }
    }

    /// Returns true if no archive is meant.
    pub fn is_none(&self) -> bool {
        self.file.is_empty()
    }

    /// Reads a table. A byte order mark, both kinds of line endings and quoted line breaks are accepted.
    ///
    /// # Errors
    /// Returns an error if the text is not a table, or if one of the four columns that are used is missing.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<(Table, Vec<Warning>), TableError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(TableError::TooLarge { file: file.into(), size: bytes.len() });
        }
        let mut warnings = Vec::new();
        let text = String::from_utf8_lossy(without_mark(bytes));
        if let Some(line) = text.contains(char::REPLACEMENT_CHARACTER).then(|| first_bad_line(bytes)).flatten() {
            let message = "not UTF-8 text; what cannot be read is replaced";
            warnings.push(Warning::new(file, format!("line {line}"), message));
        }
        let failed = |source| TableError::Csv { file: file.into(), source };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let header = reader.headers().map_err(failed)?.clone();
        let column = |name: &'static str| header.iter().position(|title| title.trim() == name).ok_or(name);
        let wanted = [FILENAME, SHORT_NAME, LONG_NAME, PERSISTENT_ID].map(column);
        let [Ok(filename), Ok(short_name), Ok(long_name), Ok(persistent_id)] = wanted else {
            return Err(TableError::Columns {
                file: file.into(),
                columns: wanted.into_iter().filter_map(Result::err).collect(),
            });
        };
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(failed)?;
            let line = record.position().map_or(0, csv::Position::line);
            let cell = |column: usize| record.get(column).unwrap_or_default();
            if record.len() != header.len() && !cell(filename).trim().is_empty() {
                let message = format!("{} cells where the header has {}", record.len(), header.len());
                warnings.push(Warning::new(file, format!("line {line}"), message));
            }
            rows.push(Row {
                filename: cell(filename).into(),
                short_name: cell(short_name).into(),
                long_name: cell(long_name).into(),
                persistent_id: cell(persistent_id).into(),
                line,
                parsed: GranuleName::parse_example(cell(filename).trim()).ok(),
            });
        }
        Ok((Table { file: file.into(), rows }, warnings))
    }

    /// Returns the row of a granule's dataset: the one with the same first part of the file name, frequency, grid,
    /// label and release. Dates differ from granule to granule, and all kinds of snapshots are treated as one. A
    /// granule without a release fits a row of any release. Granules of a project other than that of the examples have no
    /// row.
    ///
    /// # Errors
    /// Returns [`TableError::Ambiguous`] if two or more rows fit.
    pub fn find(&self, name: &GranuleName) -> Result<Found<'_>, TableError> {
        let key = |name: &GranuleName| {
            let GranuleName { dataset, frequency, project, grid, label, .. } = name;
            (dataset.clone(), *frequency, project.clone(), *grid, label.clone())
        };
        let wanted = key(name);
        let parsed = self.rows.iter().filter_map(|row| Some((row, row.parsed.as_ref()?)));
        let (fits, others): (Vec<_>, Vec<_>) = parsed
            .filter(|(_, example)| key(example) == wanted)
            .partition(|(_, example)| name.version.is_empty() || example.version == name.version);
        let fits: Vec<&Row> = fits.into_iter().map(|(row, _)| row).collect();
        match fits[..] {
            [] => Ok(others.first().map_or(Found::Nothing, |(_, example)| Found::OtherRelease(&example.version))),
            [row] => Ok(Found::Row(row)),
            _ => Err(TableError::Ambiguous {
                file: self.file.clone(),
                granule: name.to_string(),
                rows: fits.iter().map(|row| format!("{} (line {})", row.short_name, row.line)).collect(),
            }),
        }
    }

    /// Returns the row that EDP of 2024 would find: the one row whose example matches
    /// `<filename>_<period>_.*_ECCO_.*_<grid>_<label>\.nc` from its start on; `None` if no row or several rows match.
    pub(crate) fn find_edp2024(&self, name: &GranuleName) -> Option<&Row> {
        // A match exists if there is one with the first `_ECCO_`: later ones leave less room for the end.
        self.find_like_edp(name, |rest| rest.split_once("_ECCO_").map(|(_, rest)| rest))
    }

    /// Returns the row that EDP of 2026 would find. The rule is the same except for the date, which is `\d{4}-\d{2}`
    /// for months and `\d{4}-\d{2}-\d{2}` for everything else. So it never finds a row of snapshots, nor one of months
    /// whose example has a day. Time-invariant data have neither period nor date: `<filename>_ECCO_.*_<grid>_<label>\.nc`.
    pub fn find_edp2026(&self, name: &GranuleName) -> Option<&Row> {
        if name.frequency == Frequency::TimeInvariant {
            // What follows the release begins behind any text, see `find_edp2024`.
            return self.find_like_edp(name, |rest| Some(rest));
        }
        let form = if name.period.contains("mon") { "0000-00" } else { "0000-00-00" };
        self.find_like_edp(name, |rest| {
            let (date, rest) = rest.split_at_checked(form.len())?;
            let is_date = date.bytes().zip(form.bytes()).all(|(byte, of_form)| match of_form {
                b'0' => byte.is_ascii_digit(),
                mark => byte == mark,
            });
            rest.strip_prefix("_ECCO_").filter(|_| is_date)
        })
    }

    /// Returns the only row whose example begins with the dataset's file name and the period, and contains grid and
    /// label in the part that `after` returns of the rest: the part after the date and `_ECCO_`.
    fn find_like_edp(&self, name: &GranuleName, after: impl Fn(&str) -> Option<&str>) -> Option<&Row> {
        let start = match name.frequency {
            Frequency::TimeInvariant => format!("{}_ECCO_", name.dataset),
            _ => format!("{}_{}_", name.dataset, name.period),
        };
        let end = format!("_{}_{}.nc", name.grid, name.label);
        let fits = |row: &&Row| {
            // `.` does not match line breaks, so the whole match lies on the first line.
            let line = row.filename.split('\n').next().unwrap_or_default();
            line.strip_prefix(&start).and_then(&after).is_some_and(|rest| rest.contains(&end))
        };
        let mut fitting = self.rows.iter().filter(fits);
        fitting.next().filter(|_| fitting.next().is_none())
    }
}

impl Row {
    /// Returns the DOI without resolver, such as `10.5067/ECG5M-SSH44`; `None` if the table has no identifier. `prefix`
    /// is the part before the slash, for tables that have `PODAAC-` instead.
    pub fn doi(&self, prefix: &str) -> Option<String> {
        let id = self.persistent_id.trim();
        let id = ["https://doi.org/", "http://doi.org/", "doi:"].iter().find_map(|r| id.strip_prefix(r)).unwrap_or(id);
        let prefix = prefix.trim_end_matches('/');
        match id.strip_prefix("PODAAC-") {
            _ if id.is_empty() => None,
            Some(suffix) => Some(format!("{prefix}/{suffix}")),
            None if id.contains('/') => Some(id.into()),
            None => Some(format!("{prefix}/{id}")),
        }
    }
}

/// Returns true if a text has the form of a DOI: `10.`, the number of a registrant, a slash and a name.
pub fn is_doi(text: &str) -> bool {
    let Some((registrant, name)) = text.strip_prefix("10.").and_then(|rest| rest.split_once('/')) else { return false };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    registrant.len() >= 4
        && registrant.split('.').all(is_number)
        && !name.is_empty()
        && !name.contains(char::is_whitespace)
}

/// Returns the number of the line with the first byte that is not UTF-8, from 1.
fn first_bad_line(bytes: &[u8]) -> Option<usize> {
    let error = std::str::from_utf8(bytes).err()?;
    let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
    Some(1 + before.iter().filter(|&&byte| byte == b'\n').count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "concept-id,DATASET.LONG_NAME,DATASET.SHORT_NAME,DATASET.FILENAME,DATASET.PERSISTENT_ID
,\"SSH, monthly \",SSH_M,SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc,PODAAC-ECG5M-SSH44
,\"SSH,
daily\",SSH_D,SEA_SURFACE_HEIGHT_day_mean_1992-01-01_ECCO_V4r4_latlon_0p50deg.nc,PODAAC-ECG5D-SSH44
,SSH snap,SSH_S,SEA_SURFACE_HEIGHT_snap_1992-01-01T000000_ECCO_V4r4_native_llc0090.nc,10.5067/ECL5S-SSH46
,Ice front,ICE_M,ICE_FRONT_FLUX_mon_mean_1992-01-01_ECCO_V4r6_native_llc0090.nc,10.5067/ECL5M-ICF46
,Geometry,GEO,GRID_GEOMETRY_ECCO_V4r4_native_llc0090.nc,PODAAC-ECL5A-GRD44
,1D,GMSL,GLOBAL_MEAN_SEA_LEVEL_day_mean_ECCO_V4r4_1D.nc,PODAAC-ECTSD-MSL44
";

    fn table(text: &str) -> Table {
        let (table, warnings) = Table::parse("t.csv", text.as_bytes()).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        table
    }

    fn granule(name: &str) -> GranuleName {
        GranuleName::parse(name).unwrap()
    }

    fn found(table: &Table, name: &str) -> Option<String> {
        match table.find(&granule(name)).unwrap() {
            Found::Row(row) => Some(row.short_name.clone()),
            Found::OtherRelease(_) | Found::Nothing => None,
        }
    }

    #[test]
    fn dois_have_a_registrant_and_a_name() {
        assert!(is_doi("10.5067/ECG5M-SSH44") && is_doi("10.1000.10/123"));
        for text in ["PODAAC-ECG5M-SSH44", "10.5067", "10.5067/", "10.50/x", "10.5067/a b", "11.5067/x", "10.506x/y"] {
            assert!(!is_doi(text), "{text}");
        }
    }

    #[test]
    fn marks_line_ends_and_quoted_breaks() {
        let plain = table(TABLE);
        assert_eq!(plain.rows.len(), 6);
        assert_eq!(
            (plain.rows[0].long_name.as_str(), plain.rows[1].long_name.as_str()),
            ("SSH, monthly ", "SSH,\ndaily")
        );
        assert_eq!((plain.rows[1].line, plain.rows[2].line), (3, 5));
        let windows = table(&format!("\u{feff}{}", TABLE.replace('\n', "\r\n")));
        assert_eq!(windows.rows[4].persistent_id, "PODAAC-ECL5A-GRD44");
    }

    #[test]
    fn rows_are_found_whatever_the_date_and_the_kind_of_snapshot() {
        let t = table(TABLE);
        let ssh = "SEA_SURFACE_HEIGHT";
        assert_eq!(found(&t, &format!("{ssh}_mon_mean_2001-12_ECCO_V4r4_latlon_0p50deg.nc")).as_deref(), Some("SSH_M"));
        assert_eq!(
            found(&t, &format!("{ssh}_day_mean_2001-12-31_ECCO_V4r4_latlon_0p50deg.nc")).as_deref(),
            Some("SSH_D")
        );
        for period in ["snap", "day_snap", "mon_snap"] {
            let name = format!("{ssh}_{period}_2001-12-31_ECCO_V4r4_native_llc0090.nc");
            assert_eq!(found(&t, &name).as_deref(), Some("SSH_S"));
        }
        assert_eq!(found(&t, "ICE_FRONT_FLUX_mon_mean_1992-01_ECCO_V4r6_native_llc0090.nc").as_deref(), Some("ICE_M"));
        for none in [
            format!("{ssh}_mon_mean_2001-12_ECCO_V4r4_native_llc0090.nc"),
            format!("{ssh}_mon_mean_2001-12_ECCO_V4r4_latlon_0p25deg.nc"),
            format!("X{ssh}_mon_mean_2001-12_ECCO_V4r4_latlon_0p50deg.nc"),
            format!("{ssh}_snap_2001-12_ECCO_V4r4_latlon_0p50deg.nc"),
        ] {
            assert_eq!(found(&t, &none), None, "{none}");
        }
    }

    #[test]
    fn a_row_of_another_release_is_none() {
        let t = table(TABLE);
        let other = granule("SEA_SURFACE_HEIGHT_mon_mean_2001-12_ECCO_V4r5_latlon_0p50deg.nc");
        assert_eq!(t.find(&other).unwrap(), Found::OtherRelease("V4r4"));
        // If there is one of each, the row of the granule's release is used.
        let row = TABLE.lines().nth(1).unwrap().replace("SSH_M", "SSH_5").replace("V4r4", "V4r5");
        let both = table(&format!("{TABLE}{row}\n"));
        assert_eq!(found(&both, &other.to_string()).as_deref(), Some("SSH_5"));
        assert_eq!(found(&both, &other.to_string().replace("V4r5", "V4r4")).as_deref(), Some("SSH_M"));
        let unnamed = GranuleName { version: String::new(), ..other };
        assert!(matches!(t.find(&unnamed).unwrap(), Found::Row(_)), "a granule without a release takes any");
        let foreign = GranuleName { project: "MITgcm".into(), ..unnamed };
        assert_eq!(t.find(&foreign).unwrap(), Found::Nothing);
    }

    #[test]
    fn the_rule_of_2026() {
        let t = table(TABLE);
        let found = |name: &str| t.find_edp2026(&granule(name)).map(|row| row.short_name.as_str());
        assert_eq!(found("SEA_SURFACE_HEIGHT_mon_mean_1992-02_ECCO_V4r5_latlon_0p50deg.nc"), Some("SSH_M"));
        assert_eq!(found("SEA_SURFACE_HEIGHT_snap_1992-02-01T000000_ECCO_V4r4_native_llc0090.nc"), None);
        assert_eq!(found("ICE_FRONT_FLUX_mon_mean_1992-02_ECCO_V4r6_native_llc0090.nc"), None, "its row has a day");
        for (example, fits) in [
            ("A_day_mean_1992-01-01_ECCO_V4r4_latlon_0p50deg.nc", true),
            ("A_day_mean_0000-99-00_ECCO__latlon_0p50deg.nc.md5", true),
            ("A_day_mean_1992-01-01_ECCO_latlon_0p50deg.nc", false),
            ("A_day_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc", false),
            ("A_day_mean_1992-01-01T000000_ECCO_V4r4_latlon_0p50deg.nc", false),
            ("A_day_mean_1992-01-é1_ECCO_V4r4_latlon_0p50deg.nc", false),
            (" A_day_mean_1992-01-01_ECCO_V4r4_latlon_0p50deg.nc", false),
        ] {
            let t = table(&format!("{FILENAME},{SHORT_NAME},{LONG_NAME},{PERSISTENT_ID}\n{example},s,l,i\n"));
            let name = granule("A_day_mean_1992-02-03_ECCO_V4r4_latlon_0p50deg.nc");
            assert_eq!(t.find_edp2026(&name).is_some(), fits, "{example}");
        }
    }

    #[test]
    fn several_rows_are_an_error_that_names_them() {
        let row = TABLE.lines().nth(1).unwrap().replace("SSH_M", "OTHER").replace("1992-01", "1993-01");
        let t = table(&format!("{TABLE}{row}\n"));
        let name = granule("SEA_SURFACE_HEIGHT_mon_mean_1992-02_ECCO_V4r4_latlon_0p50deg.nc");
        assert_eq!(
            t.find(&name).unwrap_err().to_string(),
            "t.csv: 2 rows fit granule SEA_SURFACE_HEIGHT_mon_mean_1992-02_ECCO_V4r4_latlon_0p50deg.nc: \
             SSH_M (line 2), OTHER (line 9); keep one of them"
        );
        assert_eq!(t.find_edp2024(&name), None);
    }

    #[test]
    fn the_rule_of_2024() {
        let t = table(TABLE);
        let found = |name: &str| t.find_edp2024(&granule(name)).map(|row| row.short_name.as_str());
        assert_eq!(found("SEA_SURFACE_HEIGHT_mon_mean_1992-02_ECCO_V4r5_latlon_0p50deg.nc"), Some("SSH_M"));
        assert_eq!(found("ICE_FRONT_FLUX_mon_mean_1992-02_ECCO_V4r5_native_llc0090.nc"), Some("ICE_M"));
        // Snapshots are called `snap` in the tables and `day_snap` in EDP of 2024.
        assert_eq!(found("SEA_SURFACE_HEIGHT_day_snap_1992-02-01_ECCO_V4r4_native_llc0090.nc"), None);
    }

    #[test]
    fn the_rule_of_2024_matches_as_its_pattern_does() {
        let name = granule("A_mon_mean_1992-02_ECCO_V4r4_latlon_0p50deg.nc");
        for (example, fits) in [
            ("A_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc", true),
            ("A_mon_mean_1992-01_ECCO_V4r4_latlon_0p50deg.nc.md5", true),
            ("A_mon_mean__ECCO__latlon_0p50deg.nc", true),
            ("A_mon_mean_x_ECCO_ECCO_y_latlon_0p50deg.nc", true),
            ("A_mon_mean_x_ECCO_y_latlon_0p50deg.nc_ECCO_", true),
            ("A_mon_mean_x_ECCO_latlon_0p50deg.nc", false),
            ("A_mon_mean_ECCO_y_latlon_0p50deg.nc", false),
            ("A_mon_mean_x_latlon_0p50deg.nc_ECCO_", false),
            ("A_mon_mean_x_ECCO_V4r4_latlon_0p50degnc", false),
            (" A_mon_mean_x_ECCO_V4r4_latlon_0p50deg.nc", false),
            ("\"A_mon_mean_x\n_ECCO_V4r4_latlon_0p50deg.nc\"", false),
        ] {
            let t = table(&format!("{FILENAME},{SHORT_NAME},{LONG_NAME},{PERSISTENT_ID}\n{example},s,l,i\n"));
            assert_eq!(t.find_edp2024(&name).is_some(), fits, "{example}");
        }
    }

    #[test]
    fn dois_of_both_forms() {
        let mut row = table(TABLE).rows.remove(0);
        assert_eq!(row.doi("10.5067").as_deref(), Some("10.5067/ECG5M-SSH44"));
        for (id, doi) in [
            ("10.5067/ECG5D-ATM46", Some("10.5067/ECG5D-ATM46")),
            ("https://doi.org/10.5067/ECG5D-ATM46 ", Some("10.5067/ECG5D-ATM46")),
            ("ECG5D-ATM46", Some("10.5067/ECG5D-ATM46")),
            ("", None),
        ] {
            row.persistent_id = id.into();
            assert_eq!(row.doi("10.5067").as_deref(), doi);
        }
    }

    #[test]
    fn bad_text_is_a_warning_and_missing_columns_an_error() {
        let mut bytes = TABLE.as_bytes().to_vec();
        bytes.splice(95..95, [0xff]);
        let (_, warnings) = Table::parse("t.csv", &bytes).unwrap();
        assert_eq!(warnings[0].to_string(), "t.csv: line 2: not UTF-8 text; what cannot be read is replaced");
        let short = Table::parse("t.csv", b"DATASET.FILENAME,DATASET.LONG_NAME\n").unwrap_err().to_string();
        assert!(short.contains("DATASET.SHORT_NAME, DATASET.PERSISTENT_ID are missing"), "{short}");
        let (t, warnings) = Table::parse("t.csv", format!("{TABLE},x,y,z_file\n").as_bytes()).unwrap();
        assert_eq!((t.rows.len(), warnings[0].place.as_str()), (7, "line 9"));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, text in "[a,\"\n\r_]{0,40}") {
            let _ = Table::parse("x", &bytes);
            let _ = Table::parse("x", format!("{FILENAME},{SHORT_NAME},{LONG_NAME},{PERSISTENT_ID}\n{text}").as_bytes());
        }
    }
}
