//! Headers of results, which are read when a plan needs them. Those that were used last are kept for the next plan.

use super::files::Pair;
use edp_engine::mds::{Header, MAX_HEADER};
use edp_files::at_once;
use edp_protocol::Location;
use edp_protocol::recipe::Version;
use edp_store::Stores;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number of headers that are read at once. Reading waits for the store or the disk, not for the processor.
const AT_ONCE: usize = 8;

/// Number of headers that one call of [`HeaderCache::load`] should be asked for at most, so that all of them are still
/// known afterwards.
pub(super) const BATCH: usize = 4096;

/// Approximate number of bytes of each of the two generations of headers that are kept, some 70,000 of them.
const GENERATION: usize = 32 << 20;

/// The entries of a header that a plan uses.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderSummary {
    /// Names of the fields.
    pub fields: Vec<String>,
    /// Start and end of an average, or the time of a snapshot, in seconds since the start of the model; may be empty.
    pub interval: Vec<f64>,
}

impl HeaderSummary {
    /// Returns the word for the period that the interval indicates, if it does, for files whose names have none.
    pub(crate) fn period_word(&self) -> Option<&'static str> {
        const DAY: f64 = 86_400.0;
        match self.interval[..] {
            [_] => Some("snap"),
            [start, end] => match (end - start) / DAY {
                days if days.abs() < 1e-9 => Some("snap"),
                days if (0.5..1.5).contains(&days) => Some("day_mean"),
                days if (27.0..32.0).contains(&days) => Some("mon_mean"),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A header, or the reason why it cannot be read, for a version of its file.
type KnownHeader = (Version, Result<Arc<HeaderSummary>, Arc<str>>);

/// The headers of results that were read last.
#[derive(Debug, Default)]
pub struct HeaderCache {
    stores: Stores,
    known: Mutex<KnownHeaders>,
}

/// Headers in two generations. When the younger one is full, it becomes the older one, and the older one is dropped. A
/// header that is used is young again.
#[derive(Debug, Default)]
struct KnownHeaders {
    young: HashMap<String, KnownHeader>,
    old: HashMap<String, KnownHeader>,
    /// Approximate number of bytes that the younger generation takes.
    bytes: usize,
}

impl KnownHeaders {
    /// Returns a header of this version of its file.
    fn get(&mut self, pair: &Pair) -> Option<Result<Arc<HeaderSummary>, Arc<str>>> {
        if !self.young.contains_key(&pair.meta) {
            let (path, known) = self.old.remove_entry(&pair.meta)?;
            self.insert(path, known);
        }
        let (version, header) = self.young.get(&pair.meta).or_else(|| self.old.get(&pair.meta))?;
        (*version == pair.meta_version).then(|| header.clone())
    }

    fn insert(&mut self, path: String, known: KnownHeader) {
        const ENTRY: usize = size_of::<(String, KnownHeader)>() + size_of::<HeaderSummary>();
        self.bytes += path.len() + ENTRY + known.0.etag.as_ref().map_or(0, String::len);
        self.bytes += match &known.1 {
            Ok(header) => {
                let names = header.fields.iter().map(|field| field.len() + size_of::<String>());
                names.sum::<usize>() + size_of_val(&header.interval[..])
            }
            Err(error) => error.len(),
        };
        self.young.insert(path, known);
        if self.bytes > GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
    }
}

impl HeaderCache {
    /// Makes an empty cache.
    pub fn new(stores: &Stores) -> HeaderCache {
        HeaderCache { stores: stores.clone(), known: Mutex::default() }
    }

    /// Returns the header of a pair.
    ///
    /// # Errors
    /// Returns the reason why it cannot be read, with its name.
    pub fn of(&self, pair: &Pair) -> Result<Arc<HeaderSummary>, Arc<str>> {
        if let Some(header) = self.known().get(pair) {
            return header;
        }
        let header = self.read(&pair.meta);
        self.known().insert(pair.meta.clone(), (pair.meta_version.clone(), header.clone()));
        header
    }

    /// Reads headers that are not known yet, several at once. Of very many headers, those that were read first may be
    /// forgotten again.
    pub fn load<'p>(&self, pairs: impl Iterator<Item = &'p Pair>) {
        let unknown: Vec<&Pair> = {
            let mut known = self.known();
            pairs.filter(|pair| known.get(pair).is_none()).collect()
        };
        at_once::map(&unknown, AT_ONCE, |pair| drop(self.of(pair))); // an error is known from now on as well
    }

    fn read(&self, path: &str) -> Result<Arc<HeaderSummary>, Arc<str>> {
        let read = || {
            let at: Location = path.parse().map_err(|error| format!("{path}: {error}"))?;
            let text = self.stores.read(&at, MAX_HEADER as u64).map_err(|error| error.to_string())?;
            let header = Header::parse_any(path, &text).map_err(|error| error.to_string())?;
            Ok(HeaderSummary { fields: header.fields, interval: header.interval })
        };
        read().map(Arc::new).map_err(|error: String| error.into())
    }

    /// Each entry is valid by itself, so a panic elsewhere does no harm.
    fn known(&self) -> MutexGuard<'_, KnownHeaders> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::time::SystemTime;

    #[test]
    fn headers_are_read_once_for_each_version() {
        let root = tempfile::tempdir().unwrap();
        let stem = root.path().join("SSH_snap.0000000001").display().to_string();
        let text =
            "nDims=[2];dimList=[1,1,1,13,1,13];dataprec=['float32'];nrecords=[1];timeInterval=[7];fldList={'SSH'};";
        let mut pair = Pair {
            data: format!("{stem}.data"),
            meta: format!("{stem}.meta"),
            data_version: Version::default(),
            meta_version: Version::of_file(1, SystemTime::UNIX_EPOCH),
        };
        let headers = HeaderCache::new(&Stores::default());
        assert!(headers.of(&pair).unwrap_err().contains("SSH_snap.0000000001.meta"));
        fs::write(&pair.meta, text).unwrap();
        assert!(headers.of(&pair).is_err(), "known");
        pair.meta_version.size = 2;
        headers.load([&pair, &pair].into_iter());
        fs::remove_file(&pair.meta).unwrap();
        let header = headers.of(&pair).unwrap();
        assert_eq!((&header.fields[..], &header.interval[..]), (&["SSH".to_owned()][..], &[7.0][..]));
    }

    #[test]
    fn only_headers_that_were_used_last_are_kept() {
        let pair = |number: usize| Pair {
            data: String::new(),
            meta: format!("{number:0>1000}"),
            data_version: Version::default(),
            meta_version: Version::default(),
        };
        let header = || Ok(Arc::new(HeaderSummary { fields: vec!["x".repeat(1000)], interval: vec![0.0; 100] }));
        let mut known = KnownHeaders::default();
        let used = pair(0);
        let count = 3 * GENERATION / 2800;
        for number in 0..count {
            known.insert(pair(number).meta, (Version::default(), header()));
            assert!(known.get(&used).is_some(), "{number}");
            assert!(known.bytes <= GENERATION);
        }
        let bytes = |kept: &HashMap<String, KnownHeader>| kept.len() * 2800;
        assert!(bytes(&known.old) <= GENERATION && bytes(&known.young) <= GENERATION);
        assert!(known.get(&pair(1)).is_none() && known.get(&pair(count - 1)).is_some());
        let other = Pair { meta_version: Version { size: 1, ..Version::default() }, ..used };
        assert!(known.get(&other).is_none(), "another version");
    }

    #[test]
    fn intervals_tell_the_period() {
        let word = |interval: &[f64]| HeaderSummary { fields: Vec::new(), interval: interval.into() }.period_word();
        for (days, want) in [(1.0, Some("day_mean")), (29.5, Some("mon_mean")), (31.0, Some("mon_mean")), (5.0, None)] {
            assert_eq!(word(&[86_400.0, (1.0 + days) * 86_400.0]), want, "{days}");
        }
        assert_eq!((word(&[5.0]), word(&[5.0, 5.0]), word(&[])), (Some("snap"), Some("snap"), None));
    }
}
