//! The archive's table by itself: its rows, their identifiers, and the release that they are for.

use super::metadata_files::{self, MetadataFiles};
use super::release::ReleaseNumber;
use super::{Defects, NamedText};
use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::podaac::{Row, Table, is_doi};
use edp_protocol::name::GranuleName;
use edp_protocol::{Frequency, GridKind};
use std::collections::HashMap;

/// Most rows that one message names.
const NAMED_ROWS: usize = 3;

/// Reads and checks the table: the one given, else the one that the configuration names, else the only one in the
/// directory.
pub(super) fn read(
    given: Option<NamedText<'_>>,
    files: &MetadataFiles,
    configuration: Option<&Configuration>,
    defects: &mut Defects,
) -> Option<Table> {
    let table = match given {
        Some(text) => parse(text.name, Ok(text.bytes.to_vec()), defects)?,
        None => {
            let named = configuration.map(|configuration| configuration.podaac_file.as_str());
            let all: Vec<_> = files.tables().collect();
            let of_that_name =
                |path: &&&std::path::Path| path.file_name().is_some_and(|name| Some(name) == named.map(AsRef::as_ref));
            let path = match (named, &all[..]) {
                // Nothing is for an archive.
                (Some(""), _) => return None,
                (Some(_), _) => *all.iter().find(of_that_name)?,
                (None, [only]) => only,
                (None, _) => {
                    let message = format!(
                        "{} tables: which of them is the archive's is said by a configuration or --podaac; none is checked",
                        all.len()
                    );
                    defects.note(&files.directory(), "", message);
                    return None;
                }
            };
            parse(&path.display().to_string(), metadata_files::read(path), defects)?
        }
    };
    let prefix = configuration.map_or("10.5067", |configuration| configuration.doi_prefix.as_str());
    check(&table, prefix, configuration, defects);
    Some(table)
}

fn parse(name: &str, bytes: Result<Vec<u8>, String>, defects: &mut Defects) -> Option<Table> {
    let parsed = bytes.and_then(|bytes| Table::parse(name, &bytes).map_err(|error| error.to_string()));
    match parsed {
        Ok((mut table, warnings)) => {
            defects.warnings(warnings);
            // Tables often end in lines of nothing but commas.
            table.rows.retain(|row| !(row.filename.trim().is_empty() && row.persistent_id.trim().is_empty()));
            Some(table)
        }
        Err(what) => {
            defects.failure(name, &what);
            None
        }
    }
}

fn check(table: &Table, prefix: &str, configuration: Option<&Configuration>, defects: &mut Defects) {
    let file = table.file.as_str();
    for row in &table.rows {
        let line = format!("line {}", row.line);
        let cells = [
            ("DATASET.FILENAME", &row.filename),
            ("DATASET.SHORT_NAME", &row.short_name),
            ("DATASET.LONG_NAME", &row.long_name),
            ("DATASET.PERSISTENT_ID", &row.persistent_id),
        ];
        for (column, _) in cells.iter().filter(|(_, cell)| cell.trim().is_empty()) {
            defects.error(file, line.as_str(), format!("no {column} for {}", title(row)));
        }
        if let Some(doi) = row.doi(prefix).filter(|doi| !is_doi(doi)) {
            defects.error(file, line.as_str(), format!("'{doi}' of {} has not the form of a DOI", title(row)));
        }
        check_code(file, &line, row, defects);
    }
    unique(table, "DATASET.PERSISTENT_ID", |row| row.doi(prefix), defects);
    unique(table, "DATASET.SHORT_NAME", |row| Some(row.short_name.trim().to_ascii_uppercase()), defects);
    unique(table, "DATASET.FILENAME", |row| Some(row.filename.trim().to_owned()), defects);
    let own = configuration.and_then(|configuration| ReleaseNumber::parse(&configuration.ecco_version));
    let Some(own) = own else { return };
    let digits = own.digits();
    let wrong = |text: &str| ReleaseNumber::all_in(text).iter().any(|named| *named != own);
    let of_another: [(&str, Vec<&Row>); 4] = [
        ("file name", table.rows.iter().filter(|row| wrong(&row.filename)).collect()),
        ("short name", table.rows.iter().filter(|row| wrong(&row.short_name)).collect()),
        ("long name", table.rows.iter().filter(|row| wrong(&row.long_name)).collect()),
        ("DOI", table.rows.iter().filter(|row| DoiCode::of(row).is_some_and(|code| code.release != digits)).collect()),
    ];
    for (what, rows) in of_another {
        if let Some(first) = rows.first() {
            let value = match what {
                "file name" => &first.filename,
                "short name" => &first.short_name,
                "long name" => &first.long_name,
                _ => &first.persistent_id,
            };
            let message = format!(
                "the {what} of {} of {} rows is of another release than {own}, such as {}",
                rows.len(),
                table.rows.len(),
                value.trim()
            );
            defects.error(file, lines(&rows), message);
        }
    }
}

/// Returns the name by which a message calls a row.
fn title(row: &Row) -> &str {
    [&row.filename, &row.short_name, &row.persistent_id]
        .into_iter()
        .find(|text| !text.trim().is_empty())
        .map_or("it", |text| text.trim())
}

/// Returns the lines of some rows, the first few of them.
fn lines(rows: &[&Row]) -> String {
    let numbers: Vec<String> = rows.iter().take(NAMED_ROWS).map(|row| row.line.to_string()).collect();
    let more = if rows.len() > NAMED_ROWS { " ..." } else { "" };
    format!("{} {}{more}", if rows.len() == 1 { "line" } else { "lines" }, numbers.join(", "))
}

/// Reports values that several rows share.
fn unique(table: &Table, column: &str, value: impl Fn(&Row) -> Option<String>, defects: &mut Defects) {
    let mut of_values: HashMap<String, Vec<&Row>> = HashMap::new();
    for row in &table.rows {
        if let Some(value) = value(row).filter(|value| !value.is_empty()) {
            of_values.entry(value).or_default().push(row);
        }
    }
    for (value, rows) in of_values.into_iter().filter(|(_, rows)| rows.len() > 1) {
        defects.error(&table.file, lines(&rows), format!("{} rows have the {column} {value}", rows.len()));
    }
}

/// The code in the DOIs of ECCO's datasets: `EC`, grid, `5` or `S`, period, three or more letters of the dataset, release.
struct DoiCode<'a> {
    /// `L` native, `G` latlon, `T` time series.
    grid: char,
    /// `D`, `M`, `S` (snapshot), `A` (static).
    period: char,
    /// The digits of version and release.
    release: &'a str,
}

impl DoiCode<'_> {
    /// Takes the identifier of a row apart; `None` if it is built in another way.
    fn of(row: &Row) -> Option<DoiCode<'_>> {
        let id = row.persistent_id.trim();
        let code = id.rsplit_once('/').map_or(id, |(_, code)| code);
        let (kind, rest) = code.strip_prefix("PODAAC-").unwrap_or(code).strip_prefix("EC")?.split_once('-')?;
        let (_, release) = rest.split_at_checked(rest.len().checked_sub(2)?)?;
        let [grid, '5' | 'S', period] = kind.chars().collect::<Vec<_>>()[..] else { return None };
        release.bytes().all(|byte| byte.is_ascii_digit()).then_some(DoiCode { grid, period, release })
    }
}

/// Holds the code of a DOI against the file name of its row.
fn check_code(file: &str, line: &str, row: &Row, defects: &mut Defects) {
    let (Some(code), Ok(name)) = (DoiCode::of(row), GranuleName::parse_example(row.filename.trim())) else { return };
    let grid = match name.grid {
        GridKind::Native => 'L',
        GridKind::Latlon => 'G',
        GridKind::Series => 'T',
    };
    let period = match name.frequency {
        Frequency::Day => 'D',
        Frequency::Month => 'M',
        Frequency::Snapshot => 'S',
        Frequency::TimeInvariant => 'A',
    };
    if (code.grid, code.period) != (grid, period) {
        let message = format!(
            "the code of {} has the letters {} and {} for grid and period, but {} is of {grid} and {period}",
            row.persistent_id.trim(),
            code.grid,
            code.period,
            row.filename.trim()
        );
        defects.warning(file, line, message);
    }
}
