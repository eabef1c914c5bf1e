//! The recipes themselves, packed: most of the text of a recipe stands in all recipes of its dataset.
//!
//! A packed recipe is like a detail (the length of a JSON text in 4 bytes, little endian, and the deflated text), but the
//! compressor and the decompressor begin with the text of another recipe of the dataset, the sample. A recipe without a
//! sample is the JSON text itself, as in ledgers that were begun in layout 2.

use edp_protocol::wire::MAX_RECIPE;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::HashMap;

/// Largest size in bytes of the text of a recipe that is packed: larger ones fit into no message.
const MAX_TEXT: usize = MAX_RECIPE;

/// A sample is of use if it makes a recipe this many times smaller.
const WORTH: usize = 6;

/// The columns and the join by which [`unpacked`] reads a recipe.
pub(super) const BODY: &str = "body.recipe, sample.recipe";
pub(super) const BODIES: &str = "JOIN body USING (number) LEFT JOIN sample ON sample.number = body.sample";

/// Packs the recipes of one transaction.
pub(super) struct Packer {
    deflate: Compress,
    /// Number and text of the sample, by the number of the dataset.
    samples: HashMap<i64, (i64, Vec<u8>)>,
}

impl Packer {
    pub(super) fn new() -> Packer {
        Packer { deflate: Compress::new(Compression::fast(), false), samples: HashMap::new() }
    }

    /// Returns what is to be written for a recipe of a dataset, as JSON, and the number of its sample. The first recipe
    /// of a dataset becomes its sample; the first one of a later transaction replaces it if the texts of the dataset have
    /// changed since.
    pub(super) fn pack(
        &mut self,
        connection: &Connection,
        dataset: i64,
        json: Vec<u8>,
    ) -> rusqlite::Result<(Vec<u8>, Option<i64>)> {
        if json.len() > MAX_TEXT {
            return Ok((json, None));
        }
        let packed = match self.samples.get(&dataset) {
            Some((number, sample)) => packed(&mut self.deflate, &json, sample).map(|packed| (packed, Some(*number))),
            None => {
                let (number, sample) = self.sample(connection, dataset, &json)?;
                let first = packed(&mut self.deflate, &json, &sample).map(|packed| (packed, Some(number)));
                self.samples.insert(dataset, (number, sample));
                first
            }
        };
        Ok(packed.unwrap_or((json, None)))
    }

    /// Returns the latest sample of a dataset if it is of use for a recipe, else a new one, which is that recipe.
    fn sample(&mut self, connection: &Connection, dataset: i64, json: &[u8]) -> rusqlite::Result<(i64, Vec<u8>)> {
        let query = "SELECT number, recipe FROM sample WHERE dataset = ?1 ORDER BY number DESC LIMIT 1";
        let mut latest = connection.prepare_cached(query)?;
        let known: Option<(i64, Vec<u8>)> =
            latest.query_row([dataset], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some((number, sample)) = known
            && packed(&mut self.deflate, json, &sample).is_some_and(|packed| packed.len() <= json.len() / WORTH)
        {
            return Ok((number, sample));
        }
        connection.execute("INSERT INTO sample (dataset, recipe) VALUES (?1, ?2)", params![dataset, json])?;
        Ok((connection.last_insert_rowid(), json.to_vec()))
    }
}

/// Packs a text; `None` if the compressor fails.
fn packed(deflate: &mut Compress, text: &[u8], sample: &[u8]) -> Option<Vec<u8>> {
    deflate.reset();
    deflate.set_dictionary(sample).ok()?;
    let mut packed = Vec::with_capacity(64 + text.len() / 4);
    packed.extend(u32::try_from(text.len()).ok()?.to_le_bytes());
    loop {
        let read = usize::try_from(deflate.total_in()).ok()?;
        match deflate.compress_vec(text.get(read..)?, &mut packed, FlushCompress::Finish).ok()? {
            Status::StreamEnd => return Some(packed),
            Status::Ok | Status::BufError => packed.reserve(64 + text.len() / 4),
        }
    }
}

/// Unpacks a recipe; `None` if it is malformed.
fn unpack(packed: &[u8], sample: &[u8]) -> Option<Vec<u8>> {
    let (length, deflated) = packed.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= MAX_TEXT)?;
    let mut inflate = Decompress::new(false);
    inflate.set_dictionary(sample).ok()?;
    // No more is written than the vector has room for.
    let mut text = Vec::with_capacity(length);
    let ended = inflate.decompress_vec(deflated, &mut text, FlushDecompress::Finish).ok()?;
    (ended == Status::StreamEnd && text.len() == length).then_some(text)
}

/// Reads a recipe as JSON from the columns [`BODY`] of a row, of which the first one has this position. It is empty, and
/// so no JSON, if it is malformed.
pub(super) fn unpacked(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    match row.get_ref(column + 1)?.as_blob_or_null()? {
        Some(sample) => Ok(unpack(row.get_ref(column)?.as_blob()?, sample).unwrap_or_default()),
        None => row.get(column),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::{listed, recipes};
    use super::*;
    use edp_protocol::Digest;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn compressor() -> Compress {
        Packer::new().deflate
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            sample in vec(any::<u8>(), 0..300), text in vec(any::<u8>(), 0..300), common in 0_usize..300, times in 0_usize..200,
        ) {
            let sample = sample.repeat(times);
            let text = [&sample[..common.min(sample.len())], &text].concat();
            let mut deflate = compressor();
            let first = packed(&mut deflate, &text, &sample).unwrap();
            prop_assert_eq!(unpack(&first, &sample).unwrap(), text.clone());
            // What was packed before has no influence.
            packed(&mut deflate, &sample, &text).unwrap();
            prop_assert_eq!(packed(&mut deflate, &text, &sample).unwrap(), first);
        }

        #[test]
        fn no_blob_makes_it_panic(packed in vec(any::<u8>(), 0..200), sample in vec(any::<u8>(), 0..200)) {
            let _ = unpack(&packed, &sample);
        }
    }

    #[test]
    fn a_blob_that_claims_another_length_is_malformed() {
        let text = vec![7; 100_000];
        let mut blob = packed(&mut compressor(), &text, b"").unwrap();
        assert_eq!(unpack(&blob, b"").unwrap(), text);
        for length in [0, 1, 99_999, 100_001, u32::try_from(MAX_TEXT).unwrap() + 1, u32::MAX] {
            blob[..4].copy_from_slice(&length.to_le_bytes());
            assert_eq!(unpack(&blob, b""), None, "{length}");
        }
    }

    #[test]
    fn recipes_of_a_dataset_take_a_tenth_of_their_text() {
        let recipes = recipes();
        let mut ledger = listed(&recipes);
        let sizes = |ledger: &super::super::Ledger| -> (i64, i64) {
            let query = "SELECT (SELECT sum(length(recipe)) FROM body), (SELECT count(*) FROM sample)";
            ledger.connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
        };
        let text: usize = recipes.iter().map(|recipe| serde_json::to_vec(recipe).unwrap().len()).sum();
        let (packed, samples) = sizes(&ledger);
        assert!(packed as usize * 10 < text, "{packed} of {text} bytes");
        assert_eq!(samples, 2, "one for each grid");
        assert_eq!(ledger.recipes().unwrap(), recipes);
        // The same list again changes nothing.
        let changes = ledger.changes();
        ledger.list(&recipes).unwrap();
        assert_eq!(ledger.changes(), changes);
        // Other texts make new samples, and the recipes of the old ones can still be read.
        let words: String = (0_u8..50).map(|number| Digest::of(&[number]).as_str().to_owned()).collect();
        let mut others = recipes[..2].to_vec();
        for (number, other) in others.iter_mut().enumerate() {
            other.dynamic_metadata.summary = format!("{number} {words}");
            other.change(|_| ()).unwrap();
        }
        ledger.add(&others).unwrap();
        assert_eq!(sizes(&ledger).1, 3);
        assert_eq!(ledger.recipes().unwrap(), [recipes, others].concat());
    }

    #[test]
    fn a_damaged_recipe_is_an_error_that_names_its_granule() {
        let recipes = recipes();
        for damage in [
            "UPDATE body SET recipe = x'ffffffff00' WHERE number = 2",
            "UPDATE body SET recipe = x'' WHERE number = 2",
            "UPDATE body SET sample = 2 WHERE number = 2",
            "UPDATE body SET sample = 99 WHERE number = 2",
            "UPDATE body SET sample = NULL WHERE number = 2",
        ] {
            let ledger = listed(&recipes);
            assert_eq!(ledger.connection.execute(damage, []).unwrap(), 1);
            let error = ledger.recipes().unwrap_err();
            assert!(error.to_string().contains(&recipes[1].granule), "{damage}: {error}");
            // The others are sent, and this one fails where it is to be made.
            let due = ledger.due(0, 9).unwrap();
            assert_eq!(due.len(), recipes.len());
            assert!(serde_json::from_slice::<serde_json::Value>(&due[1].recipe).is_err(), "{damage}");
        }
    }
}
