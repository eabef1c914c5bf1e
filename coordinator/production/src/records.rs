//! Records of granules: id, size and SHA-256 when they were made or last read. Later checks compare the granules at the
//! destination with them, without parsing any file.
//!
//! A ledger has these records of its production. Beside a task list they are kept in its *manifest*, a file of JSON
//! lines: `tasks.json` has `tasks.json.manifest.jsonl`. Part 2 of 8 of the list, which is made at the same time as the
//! other parts, has `tasks.json.2-of-8.manifest.jsonl`.

use super::ledger::Settled;
use edp_protocol::recipe::Recipe;
use edp_protocol::{Digest, Location};
use edp_store::{StoreError, Stores};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Last part of the names of manifests.
const SUFFIX: &str = ".manifest.jsonl";

/// Largest size in bytes of all manifests of a list together, enough for some four million granules.
const LARGEST: u64 = 1 << 30;

/// The reason why records cannot be kept or used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A manifest cannot be inspected, read or written.
    #[error("the manifest of the list: {0}")]
    Store(#[from] StoreError),
    /// A line of a manifest is not a record.
    #[error("{manifest}: line {line}: {source}; restore the file, or take it away: granules are then read instead")]
    Line {
        /// Location of the manifest.
        manifest: String,
        /// Number of the line, from 1.
        line: usize,
        /// The error of the JSON parser.
        source: serde_json::Error,
    },
}

/// The record of one granule, when it was made or last read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GranuleRecord {
    /// Id of the recipe.
    pub id: String,
    /// Size of the granule in bytes.
    pub bytes: u64,
    /// SHA-256 of the granule's bytes.
    pub sha256: Digest,
    /// Date of production. It is in the granule's bytes but not part of the id, so the record of a granule with another
    /// date does not apply. `None` if the date is known to be that of the granule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub production_date: Option<String>,
    /// Path or address of the granule, for people who read the file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub granule: String,
}

impl GranuleRecord {
    /// Returns the record of a granule that is done, from the ledger; `None` if its bytes were not read.
    pub fn of(one: &Settled) -> Option<GranuleRecord> {
        let sha256 = Digest::from_hex(&one.made.sha256).filter(|_| one.made.older == 0)?;
        let (id, granule) = (one.id.clone(), one.granule.clone());
        Some(GranuleRecord { id, bytes: one.made.bytes, sha256, production_date: None, granule })
    }
}

/// Records by the ids of recipes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records(BTreeMap<String, GranuleRecord>);

impl Records {
    /// Returns the record of a recipe's granule.
    pub fn of(&self, recipe: &Recipe) -> Option<&GranuleRecord> {
        let plan = recipe.recipe.as_ref()?;
        let record = self.0.get(&plan.id)?;
        record.production_date.as_ref().is_none_or(|date| *date == plan.production_date).then_some(record)
    }

    /// Adds a record, which replaces an earlier one with the same id.
    pub fn enter(&mut self, record: GranuleRecord) {
        self.0.insert(record.id.clone(), record);
    }

    /// Adds all of these records, which replace earlier ones with the same ids.
    pub fn extend(&mut self, others: Records) {
        self.0.extend(others.0);
    }

    /// Returns true if there are no records.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns all records of these recipes.
    pub fn each<'a>(&'a self, recipes: &'a [Recipe]) -> impl Iterator<Item = &'a GranuleRecord> {
        recipes.iter().filter_map(|recipe| self.of(recipe))
    }
}

/// The manifest that one process writes for its list, or for its part of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest(Location);

impl Manifest {
    /// Returns the manifest of a list, or of one part of it: `part` is its number and the number of all parts. Returns
    /// `None` if the list is not a file but, for example, a pipe: a manifest beside it would not be found.
    pub fn beside(list: &Location, part: Option<(usize, usize)>) -> Option<Manifest> {
        if is_no_file(list) {
            return None;
        }
        let part = part.map(|(number, all)| format!(".{number}-of-{all}")).unwrap_or_default();
        Some(Manifest(list.appended(&format!("{part}{SUFFIX}"))))
    }

    /// Location of the manifest.
    pub fn location(&self) -> &Location {
        &self.0
    }

    /// Adds records to the manifest. Those of other recipes stay in it.
    ///
    /// # Errors
    /// Returns an error, and leaves the manifest as it was, if it cannot be read or written.
    pub fn add(&self, records: Records, stores: &Stores) -> Result<(), RecordError> {
        if records.is_empty() {
            return Ok(());
        }
        let before = match stores.head(&self.0)? {
            Some(_) => read(&self.0, stores, &mut { LARGEST })?,
            None => Records::default(),
        };
        let mut all = before.clone();
        all.extend(records);
        if all == before {
            return Ok(());
        }
        let mut text = Vec::new();
        for record in all.0.values() {
            // A record consists of texts and numbers: writing them to memory does not fail.
            if serde_json::to_writer(&mut text, record).is_ok() {
                text.push(b'\n');
            }
        }
        Ok(stores.write(&self.0, &text)?)
    }
}

/// Reads the records of all manifests beside a list. The manifest that was written last takes precedence.
///
/// # Errors
/// Returns an error if a manifest cannot be read, or has a line that is not a record.
pub fn beside(list: &Location, stores: &Stores) -> Result<Records, RecordError> {
    let mut manifests: Vec<(SystemTime, Location)> = Vec::new();
    for at in manifests_of(list, stores)? {
        if let Some(head) = stores.head(&at)? {
            manifests.push((head.modified, at));
        }
    }
    manifests.sort_by_cached_key(|(written, at)| (*written, at.to_string()));
    let (mut records, mut left) = (Records::default(), LARGEST);
    for (_, at) in manifests {
        records.extend(read(&at, stores, &mut left)?);
    }
    Ok(records)
}

/// Returns the locations of the manifests of a list. A list that is not a file, such as a pipe, has none.
fn manifests_of(list: &Location, stores: &Stores) -> Result<Vec<Location>, RecordError> {
    if is_no_file(list) {
        return Ok(Vec::new());
    }
    Ok(stores.beginning(list, &is_end_of_manifest)?)
}

/// Returns true if there is no regular file at a local path. Objects count as files.
fn is_no_file(list: &Location) -> bool {
    list.local().is_ok_and(|path| !path.is_file())
}

/// Returns true if this text, appended to the name of a list, gives the name of one of its manifests.
fn is_end_of_manifest(end: &str) -> bool {
    let Some(part) = end.strip_suffix(SUFFIX) else { return false };
    let numbers = part.strip_prefix('.').and_then(|part| part.split_once("-of-"));
    let is_part = |(number, all): (&str, &str)| [number, all].iter().all(|text| text.parse::<usize>().is_ok());
    part.is_empty() || numbers.is_some_and(is_part)
}

/// Reads a manifest of at most `left` bytes, and subtracts its size from these.
fn read(at: &Location, stores: &Stores, left: &mut u64) -> Result<Records, RecordError> {
    let text = stores.read(at, *left)?;
    *left = left.saturating_sub(text.len() as u64);
    let mut records = Records::default();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let record = serde_json::from_slice(line).map_err(|source| RecordError::Line {
            manifest: at.to_string(),
            line: number + 1,
            source,
        })?;
        records.enter(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(id: &str, content: &[u8], date: Option<&str>) -> GranuleRecord {
        GranuleRecord {
            id: id.into(),
            bytes: content.len() as u64,
            sha256: Digest::of(content),
            production_date: date.map(str::to_owned),
            granule: format!("out/{id}.nc"),
        }
    }

    fn records(of: impl IntoIterator<Item = GranuleRecord>) -> Records {
        let mut records = Records::default();
        of.into_iter().for_each(|record| records.enter(record));
        records
    }

    #[test]
    fn manifests_of_all_parts_are_read_and_those_of_other_lists_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let stores = Stores::default();
        let list = Location::Local(dir.path().join("tasks.json"));
        std::fs::write(dir.path().join("tasks.json"), "[]").unwrap();
        for name in ["tasks.json2.manifest.jsonl", "tasks.json.old.manifest.jsonl", "other.json.manifest.jsonl"] {
            std::fs::write(dir.path().join(name), "no record").unwrap();
        }
        assert!(beside(&list, &stores).unwrap().is_empty());
        let whole = Manifest::beside(&list, None).unwrap();
        whole.add(records([record("a", b"a", None), record("b", b"b", None)]), &stores).unwrap();
        whole.add(records([record("b", b"other", None)]), &stores).unwrap();
        let part = Manifest::beside(&list, Some((2, 3))).unwrap();
        assert!(part.location().to_string().ends_with("tasks.json.2-of-3.manifest.jsonl"));
        part.add(records([record("c", b"c", None)]), &stores).unwrap();
        let expected = records([record("a", b"a", None), record("b", b"other", None), record("c", b"c", None)]);
        assert_eq!(beside(&list, &stores).unwrap(), expected);
        let error =
            std::fs::write(dir.path().join("tasks.json.manifest.jsonl"), "\n{}\n").map(|()| beside(&list, &stores));
        let error = error.unwrap().unwrap_err().to_string();
        assert!(error.contains("tasks.json.manifest.jsonl: line 2") && error.contains("take it away"), "{error}");
    }

    #[test]
    fn what_is_no_file_has_no_manifest() {
        let stores = Stores::default();
        for at in ["/dev/null", "/none/none.json"] {
            let list = Location::Local(at.into());
            assert_eq!(Manifest::beside(&list, None), None, "{at}");
            assert!(beside(&list, &stores).unwrap().is_empty(), "{at}");
        }
    }

    #[test]
    fn the_record_of_another_date_says_nothing_of_a_granule() {
        let recipe = crate::fixture::recipes(&[edp_protocol::GridKind::Native]).remove(0);
        let plan = recipe.recipe.clone().unwrap();
        for (date, counts) in
            [(Some(plan.production_date.as_str()), true), (Some("1999-01-01T00:00:00Z"), false), (None, true)]
        {
            assert_eq!(records([record(&plan.id, b"x", date)]).of(&recipe).is_some(), counts, "{date:?}");
        }
        assert!(records([record("other", b"x", None)]).of(&recipe).is_none());
    }
}
