//! Files of one input: they are opened, compared with the recipe, and read like one array, whether they are one file,
//! several pieces of it, or have other variables as well.

use super::assembly::Assembly;
use super::error::MakeError;
use super::remote::Remote;
use super::source::{Input, InputDataFile, Record};
use super::stages::Stage;
use crate::grid::HorizontalPoint;
use crate::mds::compact::{self, TILES};
use crate::mds::{Header, MdsError, MdsFile, PiecedArray, UncoveredCells, describe_gaps, is_field};
use crate::shared_objects::{ObjectContent, wanted_tag};
use edp_files::ReadAt;
use edp_protocol::calendar::{self, TimeComparison};
use edp_protocol::name::{ResultName, base_name, split_period};
use edp_protocol::recipe::Version;
use edp_protocol::{Digest, Location, Mode, wire};
use edp_store::{StoreError, Stores};
use jiff::civil::DateTime;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, PoisonError};

/// Opens a file at a location. An object is fetched at once, if it has this entity tag and at most `limit` bytes. Also
/// returns the version that was opened.
pub(super) fn open_version(
    stores: &Stores,
    path: &str,
    location: &Location,
    etag: Option<&str>,
    limit: u64,
) -> Result<(Box<dyn ReadAt>, Version), MakeError> {
    let fail = |source| MakeError::Input { path: path.into(), source };
    let limit = if location.is_remote() { limit } else { u64::MAX };
    let file = stores.open(location, etag, limit).map_err(|error| match error {
        StoreError::Io { source, .. } => fail(source),
        error => error.into(),
    })?;
    let size = file.length().map_err(fail)?;
    let version = match file.stamp() {
        Some(stamp) => Version::of_file(size, stamp.modified()),
        None => Version::of_object(size, etag.map(str::to_owned)),
    };
    Ok((file, version))
}

/// Access to the files of an input.
pub(super) trait RecordAccess {
    /// Opens a header.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or is another version.
    fn header(&mut self, path: &str) -> Result<Box<dyn ReadAt>, MakeError>;

    /// Opens a data file.
    ///
    /// # Errors
    /// Returns an error if it cannot be opened, or is another version.
    fn data(&mut self, path: &str) -> Result<Box<dyn ReadAt>, MakeError>;
}

/// The inputs of the granule's own time.
struct StepAccess<'a, 'r> {
    assembly: &'a Assembly<'r>,
    remotes: &'a mut Vec<Remote>,
}

impl RecordAccess for StepAccess<'_, '_> {
    fn header(&mut self, path: &str) -> Result<Box<dyn ReadAt>, MakeError> {
        self.assembly.open_header(path)
    }

    fn data(&mut self, path: &str) -> Result<Box<dyn ReadAt>, MakeError> {
        self.assembly.open_data(path, self.remotes)
    }
}

/// An input whose files are open, before its variable was found in it. The missing value is that of the header.
pub(super) struct OpenedInput {
    /// Path of the first data file.
    pub(super) first: String,
    pub(super) input: Input,
    pub(super) gaps: Vec<UncoveredCells>,
    pub(super) files: Vec<InputDataFile>,
    pub(super) headers: Vec<wire::InputRead>,
}

/// The variable and the time that an input must have.
pub(super) struct ExpectedRecord<'a> {
    /// Name of the output variable.
    pub(super) name: &'a str,
    /// Name of the model variable.
    pub(super) field: &'a str,
    /// True if the recipe names the model variable, so that names of files do not tell it.
    pub(super) is_planned: bool,
    /// End of its period, or its time.
    pub(super) end: Option<DateTime>,
}

impl Assembly<'_> {
    /// Opens the files of the input with this number. Also returns the model variable that is read from them: the one
    /// that the recipe names, else the one in the name of the file.
    pub(super) fn open(
        &self,
        name: &str,
        number: usize,
        paths: &[String],
        remotes: &mut Vec<Remote>,
        warnings: &mut Vec<String>,
    ) -> Result<(Record, String), MakeError> {
        let opened = self.open_input(name, paths, &mut StepAccess { assembly: self, remotes })?;
        let stem = base_name(&opened.first).split('.').next().unwrap_or_default();
        let named = split_period(stem).map_or(stem, |(variable, _)| variable);
        // Files of constant fields are named by people.
        let named = if self.has_time() { named } else { name };
        let planned = self.plan.fields.get(name).map(|fields| {
            let field = fields.get(number).map(String::as_str);
            field.ok_or_else(|| self.fail(name, format!("the recipe's fields do not say what input {number} is")))
        });
        let field = planned.transpose()?.unwrap_or(named).to_owned();
        let end = self.recipe.dynamic_metadata.time_coverage_end.as_deref().and_then(|end| end.parse().ok());
        let is_planned = self.plan.fields.contains_key(name);
        let record = self.record(opened, &ExpectedRecord { name, field: &field, is_planned, end }, warnings)?;
        Ok((record, field))
    }

    /// Opens the files of an input.
    pub(super) fn open_input(
        &self,
        name: &str,
        paths: &[String],
        access: &mut dyn RecordAccess,
    ) -> Result<OpenedInput, MakeError> {
        let pairs = self.pairs(name, paths)?;
        let (mut opened, mut files, mut headers) = (Vec::new(), Vec::new(), Vec::new());
        for (data_path, meta_path) in &pairs {
            let own = match meta_path {
                Some(path) => Some(self.read_header(path, &*access.header(path)?)?),
                None => None,
            };
            let data: Arc<dyn ReadAt> = access.data(data_path)?.into();
            let header = match own {
                Some((header, of_header)) => {
                    headers.push(of_header);
                    header
                }
                None => self.header_of_plain(data_path, &*data)?,
            };
            files.push(InputDataFile {
                path: (*data_path).clone(),
                data: Arc::clone(&data),
                size: header.byte_length(),
            });
            opened.push((header, data));
        }
        let first = pairs[0].0;
        let (input, gaps) = match <[_; 1]>::try_from(opened) {
            Ok([(header, data)]) if header.piece().is_none() => {
                (MdsFile::open(first, header, Box::new(data) as Box<dyn ReadAt>)?, Vec::new())
            }
            opened => {
                let opened = opened.map_or_else(|several| several, Vec::from);
                let label = format!("{first} (one of {} pieces)", pairs.len());
                let pieces = PiecedArray::new(&label, opened)?;
                let gaps = pieces.gaps().to_vec();
                (MdsFile::open(&label, pieces.header().clone(), Box::new(pieces) as Box<dyn ReadAt>)?, gaps)
            }
        };
        Ok(OpenedInput { first: first.clone(), input, gaps, files, headers })
    }

    /// Finds a variable in an input whose files are open.
    pub(super) fn record(
        &self,
        opened: OpenedInput,
        expected: &ExpectedRecord<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Record, MakeError> {
        let OpenedInput { first, input, gaps, files, headers } = opened;
        self.check_header(&first, expected, input.header())?;
        let found = input.find(expected.field, self.resources.levels().len())?;
        let missing = input.header().missing.filter(|_| self.plan.mode == Mode::Corrected);
        if missing == Some(0.0) {
            let (granule, name) = (&self.recipe.granule, expected.name);
            warnings
                .push(format!("{granule}: {name}: the missingValue of {first} is 0, which water has too: not used"));
        }
        let missing = missing.filter(|value| *value != 0.0);
        Ok(Record { missing, gaps, files, headers, ..Record::new(input, found) })
    }

    /// Returns the `.data` and `.meta` paths of an input, those of each piece together. A single file without header is
    /// accepted for a field that does not change with time, since such fields are often inputs of the model.
    fn pairs<'p>(&self, name: &str, paths: &'p [String]) -> Result<Vec<(&'p String, Option<&'p String>)>, MakeError> {
        if let ([plain], false) = (paths, self.has_time()) {
            return Ok(vec![(plain, None)]);
        }
        let ending = |end: &str| paths.iter().filter(|path| path.ends_with(end)).collect::<Vec<_>>();
        let (data, meta) = (ending(".data"), ending(".meta"));
        if let ([data], [meta]) = (&data[..], &meta[..]) {
            return Ok(vec![(*data, Some(*meta))]);
        }
        for (end, there) in [(".data", &data), (".meta", &meta)] {
            if there.is_empty() {
                return Err(self.fail(name, format!("its input has no {end} file: {paths:?}")));
            }
        }
        let of_data = |data: &'p String| {
            let stem = data.strip_suffix(".data").unwrap_or(data);
            let own = meta.iter().find(|meta| meta.strip_suffix(".meta") == Some(stem));
            let own = own.ok_or_else(|| self.fail(name, format!("its input {data} has no .meta file")))?;
            Ok::<_, MakeError>((data, Some(*own)))
        };
        let pairs = data.into_iter().map(of_data).collect::<Result<Vec<_>, _>>()?;
        if pairs.len() != meta.len() {
            return Err(self.fail(name, format!("{} .data files, but {} .meta files", pairs.len(), meta.len())));
        }
        Ok(pairs)
    }

    /// Returns the header that a file without one would have, by its size and the grid.
    fn header_of_plain(&self, path: &str, data: &dyn ReadAt) -> Result<Header, MakeError> {
        let size = data.length().map_err(|source| MakeError::Input { path: path.into(), source })?;
        Ok(Header::of_plain(path, size, self.resources.grid.native.n, self.resources.levels().len())?)
    }

    /// Reads a header. Also returns its entry for the outcome.
    fn read_header(&self, path: &str, meta: &dyn ReadAt) -> Result<(Header, wire::InputRead), MakeError> {
        let limit = crate::mds::MAX_HEADER as u64;
        let length = meta.length().map_err(|source| MakeError::Input { path: path.into(), source })?;
        let mut text = vec![0; length.min(limit + 1) as usize];
        meta.read_exact_at(&mut text, 0).map_err(|source| MakeError::Input { path: path.into(), source })?;
        let header = Header::parse_any(path, &text)?;
        let below = self.recipe.input_below_root(path)?.to_owned();
        Ok((header, wire::InputRead { path: below, size: length, sha256: Digest::of(&text).as_str().to_owned() }))
    }

    /// Refuses an input if pieces with wet cells in them are missing. Adds a warning if all cells that no piece covers
    /// are land, since the model omits such tiles.
    pub(super) fn check_gaps(
        &self,
        name: &str,
        record: &Record,
        point: HorizontalPoint,
        warnings: &mut Vec<String>,
    ) -> Result<(), MakeError> {
        if record.gaps.is_empty() {
            return Ok(());
        }
        let (mask, n) = (self.mask_of(point), self.resources.grid.native.n);
        let mut lines = vec![0; TILES * n]; // row of a compact plane to the line of tiles
        (0..TILES * n).for_each(|line| lines[compact::row(n, line / n, line % n)] = line);
        let is_wet = |row: usize, column: usize| (0..mask.levels()).any(|level| mask.is_wet(level, lines[row], column));
        let water = record.gaps.iter().any(|gap| gap.columns.clone().any(|column| is_wet(gap.row, column)));
        let cells = record.gaps.iter().map(|gap| gap.columns.len()).sum();
        let (file, pieces) = (record.input.name(), record.files.len());
        if water {
            let mut ranges = describe_gaps(&record.gaps);
            let absent = absent_pieces(record.files.iter().map(|file| file.path.as_str()));
            if !absent.is_empty() {
                ranges = format!("{ranges}; by their numbers {} are not there", absent.join(", "));
            }
            return Err(MdsError::Missing { file: file.into(), cells, pieces, ranges }.into());
        }
        warnings.push(format!(
            "{}: {name}: {cells} cells are in none of the {pieces} pieces of {file}; all of them are land",
            self.recipe.granule
        ));
        Ok(())
    }

    /// Opens a data file. An object on S3 is fetched later.
    fn open_data(&self, path: &str, remotes: &mut Vec<Remote>) -> Result<Box<dyn ReadAt>, MakeError> {
        let location = path.parse::<Location>()?;
        if !location.is_remote() {
            return self.open_file(path, u64::MAX);
        }
        let remote = self.remote(path, location)?;
        remote.expect();
        remotes.push(remote.clone());
        Ok(Box::new(remote))
    }

    /// Opens a header. An object on S3 is fetched once for all variables, and for all recipes of a group.
    fn open_header(&self, path: &str) -> Result<Box<dyn ReadAt>, MakeError> {
        const LIMIT: u64 = crate::mds::MAX_HEADER as u64;
        let location = path.parse::<Location>()?;
        if !location.is_remote() {
            return self.open_file(path, LIMIT);
        }
        let remote = self.remote(path, location)?;
        if remote.size() > LIMIT {
            return self.open_file(path, LIMIT); // which refuses it
        }
        remote.fetch(self.stores, self.stages)?;
        Ok(Box::new(remote))
    }

    /// Returns the access to an object, which the variables of this recipe share, and the recipes of its group.
    fn remote(&self, path: &str, location: Location) -> Result<Remote, MakeError> {
        let known = || self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = known().get(path).cloned();
        let remote = match (earlier, self.planned(path)?) {
            (Some(remote), _) => remote,
            (None, Some(version)) => {
                let shared = self.shared_objects.content(path, version);
                Remote::new(path, location, version, shared.unwrap_or_default())
            }
            (None, None) => {
                let missing = || MakeError::Input { path: path.into(), source: io::ErrorKind::NotFound.into() };
                let head = self.stores.head(&location)?.ok_or_else(missing)?;
                let version = Version::of_object(head.size, head.etag);
                Remote::new(path, location, &version, ObjectContent::default())
            }
        };
        // Others may have opened it meanwhile: all share what the first of them fetches.
        Ok(known().entry(path.to_owned()).or_insert(remote).clone())
    }

    /// Opens a file. An object of at most `limit` bytes is fetched at once.
    pub(super) fn open_file(&self, path: &str, limit: u64) -> Result<Box<dyn ReadAt>, MakeError> {
        let location = path.parse::<Location>()?;
        let planned = self.planned(path)?;
        let etag = planned.and_then(wanted_tag).filter(|_| location.is_remote());
        let size = planned.map_or(0, |version| version.size);
        let opened = self.stages.time(Stage::Fetch, size, || open_version(self.stores, path, &location, etag, limit));
        let (file, found) = opened?;
        match planned.and_then(|planned| planned.difference(&found)) {
            Some(difference) => Err(MakeError::InputChanged { path: path.into(), difference }),
            None => Ok(file),
        }
    }

    /// Returns the version of an input when the recipe was planned.
    fn planned(&self, path: &str) -> Result<Option<&Version>, MakeError> {
        Ok(self.plan.inputs.get(self.recipe.input_below_root(path)?))
    }

    /// Refuses an input whose own header states another variable or another time than its name.
    fn check_header(&self, path: &str, expected: &ExpectedRecord<'_>, header: &Header) -> Result<(), MakeError> {
        let ExpectedRecord { name, field, is_planned, end } = *expected;
        if let [found] = &header.fields[..]
            && !is_field(found, field)
        {
            let why = match is_planned {
                true => format!("{path}: its header says that it holds {found}, the recipe {field}: plan it again"),
                false => format!(
                    "{path}: its header says that it holds {found}, its name says {field}: one of them is wrong"
                ),
            };
            return Err(self.fail(name, why));
        }
        self.check_time(name, path, end, header)?;
        let step = ResultName::parse(base_name(path)).map(|name| name.step);
        match (step, header.step) {
            (Some(named), Some(found)) if named != found => {
                let why = format!("{path}: its header says step {found}, its name says {named}: one of them is wrong");
                Err(self.fail(name, why))
            }
            _ => Ok(()),
        }
    }

    /// Refuses an input whose own header states another time than the recipe.
    fn check_time(&self, name: &str, path: &str, end: Option<DateTime>, header: &Header) -> Result<(), MakeError> {
        let configuration = &self.resources.texts.configuration;
        let (Some(end), Some(&found)) = (end, header.interval.last()) else { return Ok(()) };
        let planned = end.duration_since(configuration.model_start).as_secs();
        let comparison = calendar::compare_times(planned, configuration.step_seconds, found);
        if self.plan.mode != Mode::Corrected || comparison != TimeComparison::Differs {
            return Ok(());
        }
        let why = format!(
            "{path}: its header (timeInterval) ends {found} s after the start of the model, the recipe {planned} s: correct \
             model_timestep and model_start_time, or plan with --dates header"
        );
        Err(self.fail(name, why))
    }
}

/// Returns the numbers of missing pieces, as names have them, by the numbers of those that exist.
fn absent_pieces<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<String> {
    const SHOWN: usize = 10;
    let there: BTreeSet<[u32; 2]> = paths.filter_map(|path| ResultName::parse(base_name(path))?.piece).collect();
    let most = |axis: usize| there.iter().map(|numbers| numbers[axis]).max().unwrap_or(0);
    let all = (1..=most(1)).flat_map(|y| (1..=most(0)).map(move |x| [x, y]));
    let absent = all.filter(|numbers| !there.contains(numbers));
    absent.take(SHOWN).map(|[x, y]| format!("{x:03}.{y:03}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_are_not_there_are_known_by_their_numbers() {
        let absent = |names: &[&str]| absent_pieces(names.iter().copied());
        assert_eq!(
            absent(&["d/SSH.0000000001.001.001.data", "d/SSH.0000000001.003.002.data"]),
            ["002.001", "003.001", "001.002", "002.002"]
        );
        assert!(absent(&["d/SSH.0000000001.001.001.data", "d/SSH.0000000001.002.001.data"]).is_empty());
        assert!(absent(&["d/SSH.0000000001.data"]).is_empty());
    }
}
