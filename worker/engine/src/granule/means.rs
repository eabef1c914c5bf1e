//! The mean of a variable over a period: it is made once, by the first worker that needs it, and put to the place that
//! the recipe names.
//!
//! Each cell is summed in double precision over the records in the order of their steps, and divided by their number.
//! Neither the number of threads nor the memory changes the order, so that all workers make the same bytes. Levels are
//! summed in slabs of as many as fit into the memory of a job slot.

use super::assembly::Assembly;
use super::cancellable_reader::CancellableReader;
use super::error::MakeError;
use super::field_error::FieldError;
use super::mean_file::{self, Mean, MeanHeader, NO_MEAN};
use super::records::{ExpectedRecord, OpenedInput, RecordAccess, open_version};
use super::source::Record;
use super::stages::Stage;
use crate::grid::{HorizontalPoint, LevelSet};
use crate::mds::{MAX_HEADER, Plane};
use crate::metadata::variable::Description;
use edp_files::commit::{CommitError, Committed, PartialFile};
use edp_files::{Files, ReadAt};
use edp_protocol::recipe::{Anomaly, PeriodMean, PeriodRecord, RecordVersions, Version};
use edp_protocol::{Digest, Location, calendar};
use edp_store::{Head, Stores};
use rayon::prelude::*;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread;

/// Number of records on S3 that are fetched at once.
const FETCHED_AT_ONCE: usize = 8;

/// Memory of a cell while it is summed: its sum, and whether it lacks a value.
const CELL: u64 = 8 + 1;

/// The mean that a variable needs.
pub(super) struct WantedMean<'a> {
    /// Name of the output variable.
    pub(super) name: &'a str,
    pub(super) anomaly: &'a Anomaly,
    pub(super) mean: &'a PeriodMean,
    /// Description of the output variable in the metadata.
    pub(super) description: &'a Description,
    /// Levels of the grid that it has; `None` if it is 2-D.
    pub(super) levels: Option<LevelSet>,
    /// Points of the grid at which it is defined.
    pub(super) point: HorizontalPoint,
}

impl Assembly<'_> {
    /// Returns the mean of an anomaly, which is made if it does not exist yet.
    ///
    /// # Errors
    /// Returns an error if the mean exists and is damaged or another one, or if it cannot be made.
    pub(super) fn mean(&self, wanted: &WantedMean<'_>) -> Result<Mean, MakeError> {
        let place = self.recipe.at_destination(&wanted.mean.path)?;
        let location: Location = place.parse()?;
        let cancelled = || MakeError::Field(FieldError::Cancelled);
        // Another slot may be making it.
        let _lock = self.mean_locks.take(&place, self.cancel).ok_or_else(cancelled)?;
        if self.stores.head(&location)?.is_some() {
            return self.stored(&place, &location, wanted);
        }
        let made = MeanJob { assembly: self, wanted }.make(&location)?;
        let stored = self.stored(&place, &location, wanted)?;
        if stored.read().sha256 != made.as_str() {
            let found = &stored.read().sha256;
            let why = format!("another worker has put it there with the SHA-256 {found}, this one makes {made}");
            return Err(MakeError::Mean { path: place, why });
        }
        Ok(stored)
    }

    /// Opens and checks a mean that exists.
    fn stored(&self, place: &str, location: &Location, wanted: &WantedMean<'_>) -> Result<Mean, MakeError> {
        let limit = match location {
            Location::Local(_) => u64::MAX,
            Location::Object(_) => self.memory,
        };
        let file = self.stages.time(Stage::Fetch, 0, || self.stores.open(location, None, limit))?;
        let shape = (wanted.levels.clone(), self.resources.grid.native.plane());
        Mean::open(place, file, wanted.mean, shape, |file, hash| {
            self.stages.time(Stage::Hash, file.length().unwrap_or(0), || self.digest_cache.digest(file, hash))
        })
    }
}

/// A mean that is to be made.
struct MeanJob<'a, 'r> {
    assembly: &'a Assembly<'r>,
    wanted: &'a WantedMean<'a>,
}

/// An open record, with the versions of its files by path below the source root.
type VersionedRecord = (Record, Vec<(String, Version)>);

/// Number of levels and of records that are in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SumLayout {
    levels: usize,
    records: usize,
}

impl SumLayout {
    /// Returns the layout that takes the fewest passes over the records within `limit` bytes. A record has `levels`
    /// levels of `cells` cells; a thread takes `reading` bytes for a level of it, and `fetched` bytes are in memory for
    /// a record as a whole.
    ///
    /// # Errors
    /// Returns the least number of bytes that are needed, if that is more than the limit.
    fn within(limit: u64, levels: usize, cells: u64, reading: u64, fetched: u64) -> Result<SumLayout, u64> {
        let threads = rayon::current_num_threads();
        let bytes = |layout: SumLayout| {
            let sums = (layout.levels as u64).saturating_mul(cells).saturating_mul(CELL);
            let read = (layout.levels.min(threads) as u64).saturating_mul(reading);
            sums.saturating_add(read).saturating_add((layout.records as u64).saturating_mul(fetched))
        };
        let most = if fetched == 0 { 1 } else { FETCHED_AT_ONCE };
        let layouts = (1..=levels.max(1))
            .rev()
            .flat_map(|levels| (1..=most).rev().map(move |records| SumLayout { levels, records }));
        let least = bytes(SumLayout { levels: 1, records: 1 });
        layouts.into_iter().find(|layout| bytes(*layout) <= limit).ok_or(least)
    }
}

/// Sums of some levels: the values, and the cells that lack a value in one of the records.
struct LevelSums<'a> {
    /// The levels of the grid.
    levels: &'a [usize],
    cells: usize,
    values: Vec<f64>,
    without: Vec<bool>,
}

impl LevelSums<'_> {
    fn new(levels: &[usize], cells: usize) -> LevelSums<'_> {
        let count = levels.len() * cells;
        LevelSums { levels, cells, values: vec![0.0; count], without: vec![false; count] }
    }

    /// Adds records, in their order.
    fn add(&mut self, records: &[Record], assembly: &Assembly<'_>) -> Result<(), MakeError> {
        let LevelSums { levels, cells, values, without } = self;
        let all = values.par_chunks_mut(*cells).zip(without.par_chunks_mut(*cells)).zip(*levels);
        all.try_for_each(|((sums, without), level)| {
            for record in records {
                if assembly.cancel.load(Ordering::Relaxed) {
                    return Err(MakeError::Field(FieldError::Cancelled));
                }
                let plane = record.plane(*level, None, assembly.stages)?;
                if let Some(holes) = record.holes(&plane) {
                    without.iter_mut().zip(holes).for_each(|(without, hole)| *without |= hole);
                }
                match plane {
                    Plane::F32(values) => sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += f64::from(value)),
                    Plane::F64(values) => sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
                }
            }
            Ok(())
        })
    }

    /// Writes the means of this number of records.
    fn write(&self, count: u64, writer: &mut impl Write) -> io::Result<()> {
        let count = count as f64;
        for (sum, without) in self.values.iter().zip(&self.without) {
            let mean = if *without { NO_MEAN } else { sum / count };
            writer.write_all(&mean.to_be_bytes())?;
        }
        Ok(())
    }
}

impl MeanJob<'_, '_> {
    /// Returns the levels of the grid that the variable has.
    fn levels(&self) -> &[usize] {
        self.wanted.levels.as_ref().map_or(&[0], LevelSet::levels)
    }

    /// Returns the number of cells of a level.
    fn cells(&self) -> usize {
        self.assembly.resources.grid.native.plane()
    }

    /// Makes the mean and commits it if there is none yet. Returns the digest of the file that was made.
    fn make(&self, location: &Location) -> Result<Digest, MakeError> {
        let (assembly, stores) = (self.assembly, self.assembly.stores);
        tracing::info!(mean = %location, records = self.wanted.mean.count(), "made by this worker, which needs it first");
        let (target, files): (PathBuf, &Files) = match location {
            Location::Local(path) => (path.clone(), stores.files()),
            // The scratch directory is ours, not one that recipes name.
            Location::Object(_) => (stores.scratch().join(format!("{}.mean", self.wanted.mean.id)), &Files::default()),
        };
        let partial = PartialFile::new(&target, assembly.worker, files)?;
        if matches!(location, Location::Local(_)) {
            partial.check_commit()?;
        }
        let fail = |source| CommitError { path: target.clone(), action: "write its partial file", source };
        let file = File::options().read(true).write(true).open(partial.path()).map_err(fail)?;
        let mut writer = mean_file::begin(&file).map_err(fail)?;
        self.sum(|sums| sums.write(self.wanted.mean.count(), &mut writer).map_err(|source| fail(source).into()))?;
        writer.flush().map_err(fail)?;
        drop(writer);
        let sha256 = mean_file::digest_of_values(&file).map_err(fail)?;
        let (levels, cells) = (self.wanted.levels.as_ref().map(LevelSet::len), self.cells());
        let header = MeanHeader::new(self.wanted.anomaly, self.wanted.mean, levels, cells, sha256);
        header.write(&file).map_err(fail)?;
        let digest = self.digest(&file).map_err(fail)?;
        if assembly.cancel.load(Ordering::Relaxed) {
            return Err(MakeError::Field(FieldError::Cancelled));
        }
        let committed = match location {
            Location::Local(_) => partial.commit(false)?,
            Location::Object(_) => stores.put(&partial.path(), location, self.wanted.mean.id.as_str(), false)?,
        };
        if committed == Committed::AlreadyThere {
            tracing::info!(mean = %location, "another worker was faster");
        }
        Ok(digest)
    }

    /// Sums the records of the period, some levels after the others, and calls `write` with each.
    fn sum(&self, mut write: impl FnMut(&LevelSums<'_>) -> Result<(), MakeError>) -> Result<(), MakeError> {
        let (assembly, layout) = (self.assembly, self.layout()?);
        for (number, levels) in self.levels().chunks(layout.levels).enumerate() {
            let is_first = number == 0;
            let mut sums = LevelSums::new(levels, self.cells());
            let mut versions = RecordVersions::new(self.wanted.anomaly, self.wanted.mean.by_content);
            let mut records = self.wanted.mean.records().peekable();
            while records.peek().is_some() {
                if assembly.cancel.load(Ordering::Relaxed) {
                    return Err(MakeError::Field(FieldError::Cancelled));
                }
                let batch: Vec<PeriodRecord> = records.by_ref().take(layout.records).collect();
                // The contents need be hashed only once.
                let opened = self.open_all(&batch, is_first)?;
                let (batch, found): (Vec<Record>, Vec<_>) = opened.into_iter().unzip();
                found.iter().flatten().for_each(|(path, version)| versions.add(path, version));
                sums.add(&batch, assembly)?;
            }
            self.check(&versions, is_first)?;
            write(&sums)?;
        }
        Ok(())
    }

    /// Returns the number of levels and records that the memory of a job slot has room for.
    fn layout(&self) -> Result<SumLayout, MakeError> {
        let name = self.wanted.name;
        let first =
            self.wanted.mean.records().next().ok_or_else(|| self.assembly.fail(name, "its mean has no records"))?;
        // Opening a record on S3 brings it into memory; its size is known from its headers before.
        let (reading, fetched) = self.size_of_record(&first)?;
        let cells = self.cells() as u64;
        let levels = self.levels().len();
        let layout = SumLayout::within(self.assembly.memory, levels, cells, reading + cells, fetched);
        layout.map_err(|needed| MakeError::Memory {
            granule: self.assembly.recipe.granule.clone(),
            variable: name.to_owned(),
            needed,
            limit: self.assembly.memory,
        })
    }

    /// Returns the number of bytes that reading a level of a record takes, and that of a record that is in memory as a
    /// whole.
    fn size_of_record(&self, record: &PeriodRecord) -> Result<(u64, u64), MakeError> {
        let assembly = self.assembly;
        let mut fetched = 0_u64;
        for path in record.files.iter().filter(|path| path.ends_with(".data")) {
            let path = assembly.recipe.at_source(path)?;
            let location: Location = path.parse()?;
            if location.is_remote() {
                fetched = fetched.saturating_add(head(assembly.stores, &path, &location)?.size);
            }
        }
        if fetched > assembly.memory {
            let (granule, variable) = (assembly.recipe.granule.clone(), self.wanted.name.to_owned());
            return Err(MakeError::Memory { granule, variable, needed: fetched, limit: assembly.memory });
        }
        let (record, _) = self.open(record, false)?;
        Ok((record.input.memory(self.assembly.resources.grid.native.plane()), fetched))
    }

    /// Opens records; those on S3 all at once.
    fn open_all(&self, records: &[PeriodRecord], hashed: bool) -> Result<Vec<VersionedRecord>, MakeError> {
        if let [only] = records {
            return Ok(vec![self.open(only, hashed)?]);
        }
        thread::scope(|scope| {
            let opening: Vec<_> = records.iter().map(|record| scope.spawn(move || self.open(record, hashed))).collect();
            opening.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    /// Opens a record. Also returns the versions of its files, by path below the source root; with the SHA-256 of the
    /// contents if the id of the mean covers these, and `hashed` is true.
    fn open(&self, record: &PeriodRecord, hashed: bool) -> Result<VersionedRecord, MakeError> {
        let (assembly, WantedMean { name, anomaly, description, point, .. }) = (self.assembly, self.wanted);
        let paths = record.files.iter().map(|path| assembly.recipe.at_source(path)).collect::<Result<Vec<_>, _>>()?;
        let mut access = PeriodAccess { stores: assembly.stores, versions: HashMap::new() };
        let opened = assembly.open_input(name, &paths, &mut access)?;
        let mut versions = access.versions;
        if hashed && self.wanted.mean.by_content {
            self.hash(&opened, &mut versions)?;
        }
        let configuration = &assembly.resources.texts.configuration;
        let end = calendar::end_of_step(configuration.model_start, configuration.step_seconds, record.step).ok();
        // With the times of headers, headers are right whatever the steps are.
        let end = end.filter(|_| !assembly.plan.options.contains_key("dates"));
        let expected = ExpectedRecord { name, field: &anomaly.of, is_planned: true, end };
        let mut warnings = Vec::new(); // the record of the granule itself gives the same ones
        let mut opened = assembly.record(opened, &expected, &mut warnings)?;
        let levels = assembly.levels(name, &anomaly.of, description, &mut opened)?;
        if levels != self.wanted.levels {
            let file = opened.input.name();
            return Err(assembly.fail(name, format!("{file} has other levels than the record of the granule")));
        }
        assembly.check_gaps(name, &opened, *point, &mut warnings)?;
        let found = record.files.iter().zip(&paths);
        let found = found.map(|(below, path)| (below.clone(), versions.remove(path).unwrap_or_default()));
        Ok((opened, found.collect()))
    }

    /// Adds the SHA-256 of the files of a record to their versions.
    fn hash(&self, opened: &OpenedInput, versions: &mut HashMap<String, Version>) -> Result<(), MakeError> {
        for header in &opened.headers {
            let path = self.assembly.recipe.at_source(&header.path)?;
            versions.entry(path).or_default().sha256 = Digest::from_hex(&header.sha256);
        }
        for file in &opened.files {
            let fail = |source| MakeError::Input { path: file.path.clone(), source };
            let digest = self.assembly.digest_cache.digest(&*file.data, || self.digest(&*file.data).map_err(fail))?;
            versions.entry(file.path.clone()).or_default().sha256 = Some(digest);
        }
        Ok(())
    }

    /// Returns the SHA-256 of a file, unless it is cancelled.
    fn digest(&self, file: &dyn ReadAt) -> io::Result<Digest> {
        let size = file.length()?;
        let pass = CancellableReader { file, at: 0, size, stop: &[self.assembly.cancel] };
        self.assembly.stages.time(Stage::Hash, size, || Digest::of_reader(pass)).map(|(digest, _)| digest)
    }

    /// Refuses records that are not those that were planned with. Contents are compared only if they were hashed.
    fn check(&self, versions: &RecordVersions, hashed: bool) -> Result<(), MakeError> {
        let [id, seen] = versions.digests();
        let mean = self.wanted.mean;
        let difference = match mean.by_content {
            true if hashed && id != mean.id => "names, sizes or contents differ",
            false if id != mean.id => "names, sizes or entity tags differ",
            false if seen != mean.seen => "times of modification differ",
            _ => return Ok(()),
        };
        let path = self.assembly.recipe.at_destination(&mean.path)?;
        Err(MakeError::RecordsChanged { path, records: mean.count(), difference })
    }
}

/// Returns what a store says of an object.
fn head(stores: &Stores, path: &str, location: &Location) -> Result<Head, MakeError> {
    let missing = || MakeError::Input { path: path.to_owned(), source: io::ErrorKind::NotFound.into() };
    stores.head(location)?.ok_or_else(missing)
}

/// The records of a period, which recipes do not list one by one: their versions are gathered while they are opened.
struct PeriodAccess<'a> {
    stores: &'a Stores,
    versions: HashMap<String, Version>,
}

impl PeriodAccess<'_> {
    fn open(&mut self, path: &str, limit: u64) -> Result<Box<dyn ReadAt>, MakeError> {
        let location: Location = path.parse()?;
        let etag = if location.is_remote() { head(self.stores, path, &location)?.etag } else { None };
        let (file, version) = open_version(self.stores, path, &location, etag.as_deref(), limit)?;
        self.versions.insert(path.to_owned(), version);
        Ok(file)
    }
}

impl RecordAccess for PeriodAccess<'_> {
    fn header(&mut self, path: &str) -> Result<Box<dyn ReadAt>, MakeError> {
        self.open(path, MAX_HEADER as u64)
    }

    fn data(&mut self, path: &str) -> Result<Box<dyn ReadAt>, MakeError> {
        self.open(path, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn as_many_levels_are_summed_at_once_as_the_memory_has_room_for() {
        let all = SumLayout::within(u64::MAX, 50, 100, 800, 0).unwrap();
        assert_eq!(all, SumLayout { levels: 50, records: 1 });
        let least = SumLayout::within(0, 50, 100, 800, 0).unwrap_err();
        assert_eq!(least, 100 * CELL + 800);
        assert_eq!(SumLayout::within(least, 50, 100, 800, 0), Ok(SumLayout { levels: 1, records: 1 }));
        assert_eq!(SumLayout::within(least - 1, 50, 100, 800, 0), Err(least));
        let few = SumLayout::within(20 * least, 50, 100, 800, 0).unwrap();
        assert!((2..50).contains(&few.levels), "{few:?}");
        // Records on S3 are in memory: first as many levels as possible, then as many records.
        let remote = SumLayout::within(u64::MAX, 50, 100, 800, 1 << 20).unwrap();
        assert_eq!(remote, SumLayout { levels: 50, records: FETCHED_AT_ONCE });
        let tight = SumLayout::within((3 << 20) + 50 * least, 50, 100, 800, 1 << 20).unwrap();
        assert_eq!(tight, SumLayout { levels: 50, records: 3 });
    }

    #[test]
    fn means_of_cells_without_a_value_are_marked() {
        let mut sums = LevelSums::new(&[0], 3);
        sums.values = vec![3.0, 8.0, 1.0];
        sums.without[1] = true;
        let mut bytes = Vec::new();
        sums.write(4, &mut bytes).unwrap();
        let values: Vec<f64> = bytes.as_chunks().0.iter().map(|bytes| f64::from_be_bytes(*bytes)).collect();
        assert_eq!(values, [0.75, NO_MEAN, 0.25]);
    }
}
