//! The table of valid ranges: its form, and how it becomes part of recipes.
//!
//! It is one JSON object. `valid_ranges` is the version of the form, 1; `collections` has one entry for each dataset,
//! grid and frequency. A table written by hand may omit the information on the origin of the numbers; if it is there,
//! it is compared with the plan.

use edp_engine::metadata::configuration::OutputPrecision;
use edp_protocol::digest::Digest;
use edp_protocol::name::GranuleName;
use edp_protocol::recipe::{Digests, Recipe, RecipeError};
use edp_protocol::{Frequency, GridKind, Location};
use edp_store::{StoreError, Stores};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Version of the form.
const FORM: u32 = 1;

/// A table of the ranges of whole collections.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeTable {
    /// Version of the form, which is 1.
    pub valid_ranges: u32,
    /// Collections: each dataset, grid and frequency once.
    pub collections: Vec<Collection>,
}

/// One dataset on one grid at one frequency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// First part of granule names.
    pub dataset: String,
    /// Kind of the grid: `native` or `latlon`.
    pub grid: GridKind,
    /// Frequency: `AVG_DAY`, `AVG_MON` or `SNAP`.
    pub frequency: String,
    /// The basis of the ranges, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<RangeBasis>,
    /// Ranges of the outputs, by name.
    pub variables: IndexMap<String, VariableRange>,
}

/// The data over which ranges were computed: enough to tell whether they are still those of a collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeBasis {
    /// Type of the values: `float32` or `float64`.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Number of granules in the table.
    pub granules: usize,
    /// Earliest start of a granule.
    pub time_coverage_start: Option<String>,
    /// Latest end of a granule.
    pub time_coverage_end: Option<String>,
    /// Number of input files.
    pub files: usize,
    /// SHA-256 of one line for each input file, sorted: path below the source root, a tab, size in bytes.
    pub inputs: Digest,
    /// SHA-256 of configuration, metadata, grid and mapping factors.
    pub digests: Digests,
}

/// The range of one output. `min` and `max` are exact, even if the values have single precision. Both are `null` if it
/// has no valid value in any granule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableRange {
    /// Smallest value in the collection.
    pub min: Option<f64>,
    /// Largest value in the collection.
    pub max: Option<f64>,
    /// Number of granules that have the output.
    #[serde(default)]
    pub granules: usize,
}

/// Largest table that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// The reason why a table cannot be used for a plan.
#[derive(Debug, thiserror::Error)]
pub enum RangeTableError {
    /// The table cannot be read.
    #[error("{0}")]
    Read(#[source] StoreError),
    /// The file is not a table.
    #[error("{table}: not a table of valid ranges: {source}; `edp-coordinator ranges` makes one")]
    Json {
        /// Name of the file.
        table: String,
        /// The parser's message, with line and column.
        source: serde_json::Error,
    },
    /// An entry of the table is wrong.
    #[error("{table}: {place}: {why}")]
    Content {
        /// Name of the file.
        table: String,
        /// Name of the dataset, or the version of the table.
        place: String,
        /// Description of the problem.
        why: String,
    },
    /// The table does not suit the plan.
    #[error("{table}: {dataset}: {why}; make the table anew with `edp-coordinator ranges`")]
    Unfit {
        /// Name of the file.
        table: String,
        /// Dataset, grid and frequency.
        dataset: String,
        /// Description of the mismatch.
        why: String,
    },
    /// The granule is one of EDP's modes, which have ranges of their own.
    #[error(
        "{granule}: valid ranges of whole collections are for corrected granules only; those of EDP's modes, such as edp-2024, have their own"
    )]
    Mode {
        /// Name of the granule.
        granule: String,
    },
    /// A recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// Returns the name of a precision in tables, which is that of the configuration.
pub(super) fn type_name(precision: OutputPrecision) -> &'static str {
    match precision {
        OutputPrecision::Float32 => "float32",
        OutputPrecision::Float64 => "float64",
    }
}

impl Default for RangeTable {
    fn default() -> RangeTable {
        RangeTable { valid_ranges: FORM, collections: Vec::new() }
    }
}

impl RangeTable {
    /// Reads a table.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, or is not a table.
    pub fn read(at: &Location, stores: &Stores) -> Result<RangeTable, RangeTableError> {
        RangeTable::parse(&at.to_string(), &stores.read(at, MAX_BYTES).map_err(RangeTableError::Read)?)
    }

    /// Parses a table; `name` is its name in messages.
    ///
    /// # Errors
    /// Returns an error if the text is not a table, a collection occurs twice, or a range is invalid.
    pub fn parse(name: &str, text: &[u8]) -> Result<RangeTable, RangeTableError> {
        let table: RangeTable =
            serde_json::from_slice(text).map_err(|source| RangeTableError::Json { table: name.into(), source })?;
        let wrong = |place: String, why: String| RangeTableError::Content { table: name.into(), place, why };
        if table.valid_ranges != FORM {
            let why = format!("is {}, this program reads {FORM}", table.valid_ranges);
            return Err(wrong("valid_ranges".into(), why));
        }
        let mut seen = BTreeSet::new();
        for collection in &table.collections {
            let frequency: Frequency =
                collection.frequency.parse().map_err(|e| wrong(collection.dataset.clone(), format!("{e}")))?;
            let place = label(&collection.dataset, collection.grid, frequency);
            if !seen.insert((&collection.dataset, collection.grid, frequency)) {
                return Err(wrong(place, "stands in it twice".into()));
            }
            for (variable, range) in &collection.variables {
                let why = match (range.min, range.max) {
                    (None, None) => continue,
                    (Some(min), Some(max)) if min <= max => continue,
                    (Some(min), Some(max)) => format!("{variable}: min {min} is larger than max {max}"),
                    _ => format!("{variable}: min and max are both numbers or both null"),
                };
                return Err(wrong(place, why));
            }
        }
        Ok(table)
    }

    /// Returns the text of the table.
    ///
    /// # Errors
    /// Returns errors of serde, which ranges of finite values cannot cause.
    pub fn format(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Writes the ranges of outputs into every recipe, as a part of its id. `name` is the table's name in messages,
    /// `precision` the configured precision.
    ///
    /// # Errors
    /// Returns an error if a dataset or an output is not in the table, if it was computed with another grid, other
    /// mapping factors or in another precision, or if a recipe is in a mode that has ranges of its own.
    pub fn apply(&self, name: &str, precision: OutputPrecision, recipes: &mut [Recipe]) -> Result<(), RangeTableError> {
        for recipe in recipes {
            let plan = recipe.plan()?;
            let granule = recipe.name();
            let Ok(granule) = granule.as_ref() else { continue };
            if granule.is_whole_dataset() {
                continue;
            }
            if plan.mode.is_edp() {
                return Err(RangeTableError::Mode { granule: granule.to_string() });
            }
            let unfit = |why: String| RangeTableError::Unfit {
                table: name.into(),
                dataset: label(&granule.dataset, granule.grid, granule.frequency),
                why,
            };
            let collection = self.find(granule).ok_or_else(|| unfit("it is not in the table".into()))?;
            if let Some(over) = &collection.over {
                if over.digests.grid != plan.digests.grid {
                    return Err(unfit("its ranges were computed with another grid".into()));
                }
                if over.digests.factors != plan.digests.factors {
                    return Err(unfit("its ranges were computed with other mapping factors".into()));
                }
                if over.data_type != type_name(precision) {
                    let (found, wanted) = (&over.data_type, type_name(precision));
                    return Err(unfit(format!("its ranges are {found}, the configuration asks for {wanted}")));
                }
            }
            let mut ranges = serde_json::Map::new();
            for output in recipe.variables.keys() {
                let range =
                    collection.variables.get(output).ok_or_else(|| unfit(format!("{output} is not in the table")))?;
                let pair = range.min.zip(range.max).map(|(min, max)| [min, max]);
                ranges.insert(output.clone(), serde_json::json!(pair));
            }
            recipe.set_option("valid_range", ranges.into())?;
        }
        Ok(())
    }

    fn find(&self, name: &GranuleName) -> Option<&Collection> {
        self.collections.iter().find(|collection| {
            collection.dataset == name.dataset
                && collection.grid == name.grid
                && collection.frequency.parse() == Ok(name.frequency)
        })
    }
}

/// Returns the name of a collection in messages.
fn label(dataset: &str, grid: GridKind, frequency: Frequency) -> String {
    format!("{frequency} of {grid} {dataset}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use edp_protocol::Mode;

    fn text(collections: &str) -> String {
        format!(r#"{{"valid_ranges": 1, "collections": [{collections}]}}"#)
    }

    const HEIGHT: &str = r#"{"dataset": "SSH", "grid": "native", "frequency": "AVG_MON",
        "variables": {"SSH": {"min": -1.7312757968902588, "max": 1.5}, "ICE": {"min": null, "max": null}}}"#;

    fn recipe() -> Recipe {
        serde_json::from_value(serde_json::json!({
            "granule": "out/V/native/mon_mean/SSH/SSH_mon_mean_1992-01_ECCO_V_native_l.nc",
            "variables": {"SSH": [["in/a.data", "in/a.meta"]]},
            "dynamic_metadata": {"name": "n", "dimension": "2D", "summary": "s"},
            "recipe": {
                "id": "", "format": 4, "mode": "corrected", "time_units": "hours since 1992-01-01",
                "digests": {"configuration": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", "metadata": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd", "grid": "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}, "inputs": {},
                "roots": {"source": "in", "destination": "out"}, "production_date": "2020-01-01T00:00:00Z",
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_table_survives_a_round_trip_to_the_last_bit() {
        let table = RangeTable::parse("t", text(HEIGHT).as_bytes()).unwrap();
        let ranges = &table.collections[0].variables["SSH"];
        assert_eq!(ranges.min, Some(f64::from(-1.731_275_8_f32)));
        assert_eq!(RangeTable::parse("t", table.format().unwrap().as_bytes()).unwrap(), table);
    }

    #[test]
    fn what_is_no_table_says_why() {
        let range = |range: &str| text(&HEIGHT.replace(r#"{"min": null, "max": null}"#, range));
        for (text, why) in [
            ("[]".to_owned(), "t: not a table of valid ranges"),
            (text(HEIGHT).replace(": 1,", ": 2,"), "valid_ranges: is 2, this program reads 1"),
            (text(&HEIGHT.replace("AVG_MON", "AVG_MOON")), "SSH: unknown frequency 'AVG_MOON'"),
            (
                text(&format!("{HEIGHT}, {}", HEIGHT.replace("AVG_MON", "month"))),
                "AVG_MON of native SSH: stands in it twice",
            ),
            (range(r#"{"min": 2, "max": 1}"#), "ICE: min 2 is larger than max 1"),
            (range(r#"{"min": 2, "max": null}"#), "ICE: min and max are both"),
            (range(r#"{"mean": 2}"#), "unknown field `mean`"),
        ] {
            let error = RangeTable::parse("t", text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn recipes_get_the_ranges_of_their_outputs() {
        let table = RangeTable::parse("t", text(HEIGHT).as_bytes()).unwrap();
        let mut recipes = [recipe()];
        table.apply("t", OutputPrecision::Float32, &mut recipes).unwrap();
        let plan = recipes[0].plan().unwrap();
        assert_eq!(plan.options["valid_range"], serde_json::json!({"SSH": [-1.731_275_796_890_258_8, 1.5]}));
        recipes[0].check_identity().unwrap();
    }

    #[test]
    fn what_does_not_fit_the_plan_is_refused() {
        let over = r#""over": {"type": "float32", "granules": 1, "time_coverage_start": null, "time_coverage_end": null, "files": 2,
            "inputs": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            "digests": {"configuration": "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc",
                "metadata": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
                "grid": "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"}}, "variables""#;
        let good = HEIGHT.replace("\"variables\"", over);
        let apply = |collection: &str, precision, change: fn(&mut Recipe)| {
            let mut recipe = recipe();
            change(&mut recipe);
            let table = RangeTable::parse("t", text(collection).as_bytes()).unwrap();
            table.apply("t", precision, &mut [recipe]).map_err(|error| error.to_string())
        };
        assert_eq!(apply(&good, OutputPrecision::Float32, |_| ()), Ok(()));
        let named = "t: AVG_MON of native SSH: ";
        let error = apply(&good, OutputPrecision::Float64, |_| ()).unwrap_err();
        assert!(error.starts_with(&format!("{named}its ranges are float32, the configuration asks for float64")));
        for (collection, why) in [
            (good.replace(&"e".repeat(64), &"a".repeat(64)), "computed with another grid"),
            (
                good.replace(r#""digests": {"#, &format!(r#""digests": {{"factors": "{}", "#, "f".repeat(64))),
                "computed with other mapping factors",
            ),
            (good.replace("AVG_MON", "SNAP"), "it is not in the table"),
            (good.replace(r#""SSH": {"#, r#""ETAN": {"#), "SSH is not in the table"),
        ] {
            let error = apply(&collection, OutputPrecision::Float32, |_| ()).unwrap_err();
            assert!(error.starts_with(named) && error.contains(why), "{error}");
        }
        let edp = apply(&good, OutputPrecision::Float32, |r| r.recipe.as_mut().unwrap().mode = Mode::Edp2024);
        assert!(edp.unwrap_err().contains("edp-2024"));
    }
}
