//! The groupings with the rows of the archive's table, and the placeholders that granules would keep.

use super::Defects;
use super::datasets::place;
use super::metadata_files::MetadataFiles;
use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::global::{self, Extent, Sources};
use edp_engine::metadata::groupings::Grouping;
use edp_engine::metadata::podaac::{Row, Table};
use edp_engine::metadata::source::Metadata;
use edp_protocol::name::{self, GranuleName};
use edp_protocol::recipe::DynamicMetadata;
use edp_protocol::{Frequency, GridKind, Mode};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Checks that every dataset and frequency has one row, that every row has a dataset, and that nothing remains of the
/// placeholders of global attributes.
pub(super) fn check(
    files: &MetadataFiles,
    metadata: &Metadata,
    table: &Table,
    configuration: Option<&Configuration>,
    defects: &mut Defects,
) {
    let mut coverage = Coverage { table, configuration, used: HashSet::new(), unfilled: BTreeMap::new(), defects };
    for (grid, groupings) in metadata.on_grids() {
        let file = files.groupings(grid.as_str());
        for (index, grouping) in groupings.iter().enumerate() {
            coverage.check(&file, &place(index, grouping), grouping, (grid, metadata));
        }
    }
    let file = files.groupings("1d");
    for (index, grouping) in metadata.series().iter().enumerate() {
        coverage.check_series(&file, &place(index, grouping), grouping);
    }
    coverage.report_unused();
    for (attribute, datasets) in std::mem::take(&mut coverage.unfilled) {
        let some: Vec<&str> = datasets.iter().take(3).map(String::as_str).collect();
        let more = if datasets.len() > some.len() { " ..." } else { "" };
        let message = format!(
            "nothing fills the placeholder of the global attribute {attribute} in {} datasets: {}{more}",
            datasets.len(),
            some.join(", ")
        );
        coverage.defects.error(&files.directory(), "", message);
    }
}

struct Coverage<'a, 'd> {
    table: &'a Table,
    configuration: Option<&'a Configuration>,
    /// Lines of the rows that belong to a dataset.
    used: HashSet<u64>,
    /// Attributes that keep a placeholder, with their datasets.
    unfilled: BTreeMap<String, BTreeSet<String>>,
    defects: &'d mut Defects,
}

impl Coverage<'_, '_> {
    /// Checks a dataset of a grid at all its frequencies.
    fn check(&mut self, file: &str, place: &str, grouping: &Grouping, (grid, metadata): (GridKind, &Metadata)) {
        let invariant = grouping.time_invariant.then_some(Frequency::TimeInvariant);
        for frequency in grouping.frequencies.iter().copied().chain(invariant) {
            let fits = |row: &&Row| {
                GranuleName::parse_example(row.filename.trim()).is_ok_and(|example| {
                    (example.dataset.as_str(), example.frequency, example.grid)
                        == (grouping.filename.as_str(), frequency, grid)
                })
            };
            let rows: Vec<&Row> = self.table.rows.iter().filter(fits).collect();
            self.used.extend(rows.iter().map(|row| row.line));
            let word = frequency.job_word();
            match rows[..] {
                [] => {
                    let message =
                        format!("{word} has no row in {}: its granules have no id and no DOI", self.table.file);
                    self.defects.error(file, place, message);
                }
                [row] => self.check_row(row, (place, grouping), frequency, (grid, metadata)),
                _ => {
                    let lines: Vec<String> = rows.iter().map(|row| row.line.to_string()).collect();
                    let message =
                        format!("{word} has {} rows in {}: lines {}", rows.len(), self.table.file, lines.join(", "));
                    self.defects.error(file, place, message);
                }
            }
        }
    }

    /// Checks the one row of a dataset, and the global attributes of its granules.
    fn check_row(
        &mut self,
        row: &Row,
        (place, grouping): (&str, &Grouping),
        frequency: Frequency,
        (grid, metadata): (GridKind, &Metadata),
    ) {
        let Some(configuration) = self.configuration else { return };
        let label = configuration.grid_labels.get(&grid).cloned().unwrap_or_default();
        let granule = GranuleName {
            dataset: grouping.filename.clone(),
            period: name::period(frequency, Mode::Edp2026),
            frequency,
            date: String::new(),
            project: configuration.project.clone(),
            version: configuration.ecco_version.clone(),
            grid,
            label,
        };
        let dynamic = DynamicMetadata { dimension: grouping.dimension.clone(), ..DynamicMetadata::default() };
        let vertical = (grouping.dimension == "3D").then_some([0.0; 2]);
        let sources = Sources {
            configuration,
            metadata,
            podaac: self.table,
            name: &granule,
            mode: Mode::Corrected,
            dynamic: &dynamic,
            id: "",
            production_date: "",
            keywords: BTreeSet::new(),
            // Any numbers will do here, since they are not placeholders.
            extent: Some(Extent { latitude: [0.0; 2], longitude: [0.0; 2], vertical, resolution: None }),
        };
        let (file, line) = (self.table.file.as_str(), format!("line {}", row.line));
        match global::lacking(&sources) {
            // Several rows have been reported.
            Err(_) => {}
            // Rows of another release are counted in the table as a whole.
            Ok(lacking) if lacking.other_release.is_some() => {}
            Ok(lacking) if lacking.row => {
                let message = format!(
                    "{} does not count as the row of {grid} {place}: its label is not '{}'",
                    row.filename.trim(),
                    granule.label
                );
                self.defects.error(file, line, message);
            }
            Ok(lacking) => {
                let dataset = format!("{} of {grid} {}", frequency.job_word(), grouping.filename);
                // The times of a granule are those of its recipe.
                for attribute in lacking.placeholders.into_iter().filter(|name| !name.starts_with("time_coverage_")) {
                    self.unfilled.entry(attribute).or_default().insert(dataset.clone());
                }
                if self.table.find_edp2026(&granule).is_none() {
                    let message = format!(
                        "EDP of 2026 does not find it, since the date in {} is not one of its form: granules of edp-2026 keep placeholders",
                        row.filename.trim()
                    );
                    self.defects.note(file, line, message);
                }
            }
        }
    }

    /// Checks a dataset of time series. Their names have neither a date nor a grid.
    fn check_series(&mut self, file: &str, place: &str, grouping: &Grouping) {
        for frequency in grouping.frequencies.iter().copied() {
            let start = format!("{}_{}_", grouping.filename, name::period(frequency, Mode::Corrected));
            let rows: Vec<u64> = self
                .table
                .rows
                .iter()
                .filter(|row| row.filename.trim().starts_with(&start))
                .map(|row| row.line)
                .collect();
            self.used.extend(&rows);
            if rows.len() != 1 {
                let message = format!("{} has {} rows in {}", frequency.job_word(), rows.len(), self.table.file);
                self.defects.warning(file, place, message);
            }
        }
        // Without a frequency, no more can be asked than that there is a row.
        if grouping.frequencies.is_empty() {
            let start = format!("{}_", grouping.filename);
            let rows = self.table.rows.iter().filter(|row| row.filename.trim().starts_with(&start));
            self.used.extend(rows.map(|row| row.line));
        }
    }

    /// Reports rows that no dataset has.
    fn report_unused(&mut self) {
        // No grouping makes the rows of the grids.
        let is_geometry = |name: &str| name.strip_prefix(name::GEOMETRY).is_some_and(|rest| rest.starts_with('_'));
        let others = self.table.rows.iter().filter(|row| !is_geometry(row.filename.trim()));
        for row in others.filter(|row| !self.used.contains(&row.line)) {
            let message = format!("no dataset of the groupings makes {}", row.filename.trim());
            self.defects.warning(&self.table.file, format!("line {}", row.line), message);
        }
    }
}
