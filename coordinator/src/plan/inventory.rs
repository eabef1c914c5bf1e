//! The inventory of what a model run has left: the files of each series of results by step, and the variables in them.
//!
//! A series is named `<variable>_<period word>` as a rule. A variable without files of its own name may be in a series
//! of another name, alone or with other variables. The headers tell which one; [`Inventory::learn`] reads as few of
//! them as it needs.

use super::files::{FilePair, FileVersion, OtherFile, Pair, join};
use super::headers::HeaderCache;
use super::{Note, few};
use edp_engine::mds::is_field;
use edp_protocol::name::{ResultName, split_period};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The error of a variable that exists more than once at one step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} at step {step} is there more than once: {}; keep one of them below the source root", paths.join(" and "))]
pub struct Twice {
    /// Name of the variable.
    pub variable: String,
    /// Number of the model step.
    pub step: u64,
    /// Paths of the `.data` files.
    pub paths: Vec<String>,
}

/// The files of a variable at one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFiles {
    /// One pair, or those of all pieces of the array, in the order of their numbers.
    pub pairs: Vec<Pair>,
    /// Word for the period, such as `mon_mean`.
    pub word: &'static str,
    /// True if the files are named after the variable. Otherwise its record is found by its name in their headers.
    pub own: bool,
}

/// All results below a root. A million files take about 100 MB, since paths are put together only when they are needed.
#[derive(Debug, Default)]
pub struct Inventory {
    variables: BTreeMap<String, BTreeMap<&'static str, Series>>,
    /// Variables in files of other names, with these files, for the variables that were looked for.
    elsewhere: BTreeMap<String, Vec<FieldSeries>>,
    /// Variables that were looked for in files of other names, with the words for periods.
    looked_for: BTreeSet<(String, Vec<String>)>,
    files: usize,
    seen: usize,
    /// Files without a step in their names that may hold data without time.
    others: Vec<OtherFile>,
}

/// The word for the period of series whose names have none.
const NO_WORD: &str = "";

/// The results of one name under one word for the period.
#[derive(Debug, Default)]
struct Series {
    pairs: BTreeMap<u64, Place>,
    /// Steps that were found again, with their places. There are few of these.
    again: BTreeMap<u64, Vec<Place>>,
}

#[derive(Debug, Clone)]
struct Place {
    directory: Arc<str>,
    files: StepFiles,
}

/// The files of one step.
#[derive(Debug, Clone)]
enum StepFiles {
    /// The whole array in one file.
    Whole(FilePair),
    /// The pieces by their numbers, as the model writes them without `useSingleCpuIO`.
    Pieces(BTreeMap<[u32; 2], FilePair>),
}

/// Properties of files that are alike, so that the header of one tells what is in all of them: directory, size of the
/// `.data` and of the `.meta` file, and number of pieces.
type FilePattern = (Arc<str>, u64, u64, usize);

/// One place where a variable was found at a step.
struct FoundPlace<'a> {
    place: &'a Place,
    /// Name of the series.
    name: &'a str,
    /// The word for the period in its name, or [`NO_WORD`].
    key: &'static str,
    /// The word for the period that it stands for.
    word: &'static str,
}

impl FoundPlace<'_> {
    /// Returns the pairs by the numbers of their pieces.
    fn pairs(&self, step: u64) -> Vec<(Option<[u32; 2]>, Pair)> {
        self.place.numbered_pairs(self.name, self.key, step)
    }
}

/// A series that contains a variable other than the one in its name.
#[derive(Debug)]
struct FieldSeries {
    name: String,
    /// The word for the period in its name, or [`NO_WORD`].
    key: &'static str,
    /// The files that contain the variable, with the word for the period that they stand for.
    patterns: Vec<(FilePattern, &'static str)>,
}

impl Place {
    /// Returns the path without `.data` and `.meta`.
    fn stem(&self, name: &str, word: &str, step: u64, piece: Option<[u32; 2]>) -> String {
        let series = if word == NO_WORD { name.to_owned() } else { format!("{name}_{word}") };
        let piece = piece.map(|[x, y]| format!(".{x:03}.{y:03}")).unwrap_or_default();
        join(&self.directory, &format!("{series}.{step:010}{piece}"))
    }

    fn pairs(&self, name: &str, word: &str, step: u64) -> Vec<Pair> {
        self.numbered_pairs(name, word, step).into_iter().map(|(_, pair)| pair).collect()
    }

    /// Returns the pairs with the numbers of their pieces, in the order of these.
    fn numbered_pairs(&self, name: &str, word: &str, step: u64) -> Vec<(Option<[u32; 2]>, Pair)> {
        let pair = |piece, both: &FilePair| {
            let stem = self.stem(name, word, step, piece);
            let pair = Pair {
                data: format!("{stem}.data"),
                meta: format!("{stem}.meta"),
                data_version: both.data.version(),
                meta_version: both.meta.version(),
            };
            (piece, pair)
        };
        match &self.files {
            StepFiles::Whole(both) => vec![pair(None, both)],
            StepFiles::Pieces(pieces) => pieces.iter().map(|(number, both)| pair(Some(*number), both)).collect(),
        }
    }

    /// Number of pairs at this place.
    fn count(&self) -> usize {
        match &self.files {
            StepFiles::Whole(_) => 1,
            StepFiles::Pieces(pieces) => pieces.len(),
        }
    }

    fn pattern(&self) -> FilePattern {
        let first = match &self.files {
            StepFiles::Whole(both) => Some(both),
            StepFiles::Pieces(pieces) => pieces.values().next(),
        };
        let (data, meta) = first.map_or((0, 0), |both| (both.data.size, both.meta.size));
        (Arc::clone(&self.directory), data, meta, self.count())
    }
}

/// Returns the variable and the word for the period in the name of a result.
fn series_of<'a>(name: &ResultName<'a>) -> Option<(&'a str, &'static str)> {
    let (variable, word) = split_period(name.series).unwrap_or((name.series, NO_WORD));
    (!variable.is_empty()).then_some((variable, word))
}

impl Inventory {
    /// Number of `.data` and `.meta` files of results.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Number of files of any kind that were seen.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Returns the names of the series that are in pieces.
    pub(super) fn in_pieces(&self) -> Vec<String> {
        let is_in_pieces = |place: &Place| matches!(place.files, StepFiles::Pieces(_));
        let all = self
            .variables
            .iter()
            .flat_map(|(name, words)| words.iter().map(move |(word, series)| (name, word, series)));
        let names = all.filter(|(.., series)| series.pairs.values().any(is_in_pieces));
        names.map(|(name, word, _)| if *word == NO_WORD { name.clone() } else { format!("{name}_{word}") }).collect()
    }

    /// Returns the files without a step in their names that may hold data without time.
    pub fn others(&self) -> &[OtherFile] {
        &self.others
    }

    /// Adds such a file.
    pub(super) fn add_other(&mut self, path: String, file: FileVersion) {
        self.others.push(OtherFile { path, version: file.version() });
    }

    /// Counts a file of any kind.
    pub(super) fn count(&mut self) {
        self.seen += 1;
    }

    /// Returns the names of series and their words for the period, by name.
    pub fn series(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.variables.iter().flat_map(|(variable, words)| words.keys().map(|word| (variable.as_str(), *word)))
    }

    /// Returns the steps at which a variable has files under any of these words for the period.
    pub fn steps(&self, variable: &str, words: &[&str]) -> BTreeSet<u64> {
        let own = self.places(variable, words).flat_map(|(_, series)| series.pairs.keys().copied());
        let others = self.streams(variable, words).map(|(step, ..)| step);
        own.chain(others).collect()
    }

    /// Returns the files of a variable at a step, under any of these words for the period: those that are named after
    /// it, else those that contain it as far as is known, see [`Inventory::learn`]. Pieces of one array may be in
    /// several directories, into which the processes of a model write with `mdsioLocalDir`.
    ///
    /// # Errors
    /// Returns an error if there is more than one.
    pub fn find(&self, variable: &str, words: &[&str], step: u64) -> Result<Option<InputFiles>, Twice> {
        let mut found = Vec::new();
        for (word, series) in self.places(variable, words) {
            let again = series.again.get(&step).into_iter().flatten();
            let places = series.pairs.get(&step).into_iter().chain(again);
            found.extend(places.map(|place| FoundPlace { place, name: variable, key: word, word }));
        }
        if found.is_empty() {
            let others = self.streams(variable, words).filter(|(at, ..)| *at == step);
            found.extend(others.map(|(_, word, stream, place)| FoundPlace {
                place,
                name: &stream.name,
                key: stream.key,
                word,
            }));
        }
        let Some(first) = found.first() else { return Ok(None) };
        let files = |pairs| InputFiles { pairs, word: first.word, own: first.name == variable };
        if found.len() == 1 {
            return Ok(Some(files(first.pairs(step).into_iter().map(|(_, pair)| pair).collect())));
        }
        let is_of_one_array = |other: &FoundPlace<'_>| {
            let alike = (other.name, other.key, other.word) == (first.name, first.key, first.word);
            alike && matches!(other.place.files, StepFiles::Pieces(_))
        };
        if found.iter().all(is_of_one_array) {
            let count: usize = found.iter().map(|found| found.place.count()).sum();
            let all: BTreeMap<_, _> = found.iter().flat_map(|found| found.pairs(step)).collect();
            if all.len() == count {
                return Ok(Some(files(all.into_values().collect())));
            }
        }
        let paths = found.iter().filter_map(|found| Some(found.pairs(step).into_iter().next()?.1.data)).collect();
        Err(Twice { variable: variable.into(), step, paths })
    }

    /// Finds the files of other names that contain variables which lack files of their own at steps where another
    /// variable has them. Reads the header of one file of all that are alike, and none if nothing is missing.
    pub fn learn(&mut self, wanted: &[&str], words: &[&str], headers: &HeaderCache) -> Vec<Note> {
        let looked_for = |variable: &str| (variable.to_owned(), words.iter().map(|word| (*word).to_owned()).collect());
        let own = |variable: &str| -> BTreeSet<u64> {
            self.places(variable, words).flat_map(|(_, series)| series.pairs.keys().copied()).collect()
        };
        let own: Vec<(&str, BTreeSet<u64>)> = wanted.iter().map(|variable| (*variable, own(variable))).collect();
        let all: BTreeSet<u64> = own.iter().flat_map(|(_, steps)| steps).copied().collect();
        let missing: Vec<&str> = own
            .iter()
            .filter(|(_, steps)| steps.len() < all.len().max(1))
            .map(|(variable, _)| *variable)
            .filter(|variable| !self.looked_for.contains(&looked_for(variable)))
            .collect();
        if missing.is_empty() {
            return Vec::new();
        }
        // Of files that are alike, the one in the middle: at the ends of a run periods may be cut short.
        let mut samples: Vec<(&str, &'static str, FilePattern, Pair)> = Vec::new();
        for (name, series) in &self.variables {
            for (word, series) in series.iter().filter(|(word, _)| **word == NO_WORD || words.contains(*word)) {
                let mut alike: HashMap<FilePattern, Vec<(u64, &Place)>> = HashMap::new();
                let again =
                    series.again.iter().flat_map(|(step, places)| places.iter().map(move |place| (step, place)));
                for (step, place) in series.pairs.iter().chain(again) {
                    alike.entry(place.pattern()).or_default().push((*step, place));
                }
                for (pattern, places) in alike {
                    let (step, place) = places[places.len() / 2];
                    let pair = place.pairs(name, word, step).swap_remove(0);
                    samples.push((name, word, pattern, pair));
                }
            }
        }
        headers.load(samples.iter().map(|(.., pair)| pair));
        let (mut notes, mut found) = (Vec::new(), BTreeMap::<String, BTreeMap<(&str, &'static str), Vec<_>>>::new());
        let mut others: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, key, pattern, pair) in &samples {
            let header = match headers.of(pair) {
                Ok(header) => header,
                Err(error) => {
                    notes.push(Note::warning(format!("{error}; it is not known which variables these results have")));
                    continue;
                }
            };
            let word = if *key == NO_WORD { header.period_word() } else { Some(*key) };
            let Some(word) = word.filter(|word| words.contains(word)) else { continue };
            let mut used = false;
            for variable in &missing {
                let named = *key == NO_WORD && name == variable && header.fields.is_empty();
                if named || header.fields.iter().any(|field| is_field(field, variable)) {
                    let streams = found.entry((*variable).to_owned()).or_default();
                    streams.entry((*name, *key)).or_default().push((pattern.clone(), word));
                    used = true;
                }
            }
            if !used && !wanted.contains(name) && (*key == NO_WORD || header.fields.len() > 1) {
                let series = pair.data.rsplit('/').next().and_then(|name| name.split('.').next());
                let fields = others.entry(series.unwrap_or(name).to_owned()).or_default();
                fields.extend(header.fields.iter().cloned());
            }
        }
        let found: BTreeMap<String, Vec<FieldSeries>> = found
            .into_iter()
            .map(|(variable, streams)| {
                let stream = |((name, key), patterns): ((&str, &'static str), Vec<_>)| FieldSeries {
                    name: name.to_owned(),
                    key,
                    patterns,
                };
                (variable, streams.into_iter().map(stream).collect())
            })
            .collect();
        if !others.is_empty() && missing.iter().any(|variable| !found.contains_key(*variable)) {
            let text = |(series, fields): (&String, &BTreeSet<String>)| match fields.len() {
                0 => format!("{series} (without names of fields)"),
                _ => format!("{series} ({})", few(fields)),
            };
            let series = few(others.iter().map(text));
            notes.push(Note::info(format!("also there are {series}; none of them has {}", few(&missing))));
        }
        self.looked_for.extend(missing.iter().map(|variable| looked_for(variable)));
        for (variable, streams) in found {
            self.elsewhere.entry(variable).or_default().extend(streams);
        }
        notes
    }

    /// Removes the results for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&[Pair]) -> bool) {
        let mut taken = 0;
        for (variable, words) in &mut self.variables {
            for (word, series) in &mut *words {
                // The model writes the pieces of a step one by one; a step with fewer pieces than others is not
                // complete. They may be in several directories.
                let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
                let again =
                    series.again.iter().flat_map(|(step, places)| places.iter().map(move |place| (step, place)));
                for (step, place) in series.pairs.iter().chain(again) {
                    *counts.entry(*step).or_default() += place.count();
                }
                let most = counts.values().copied().max().unwrap_or(0);
                let mut keeps = |step: u64, place: &Place| {
                    let in_pieces = matches!(place.files, StepFiles::Pieces(_));
                    let is_complete = !in_pieces || counts.get(&step) == Some(&most);
                    let kept = keep(&place.pairs(variable, word, step)) && is_complete;
                    taken += 2 * usize::from(!kept) * place.count();
                    kept
                };
                series.again.retain(|step, places| {
                    places.retain(|place| keeps(*step, place));
                    !places.is_empty()
                });
                series.pairs.retain(|step, place| keeps(*step, place));
                for (step, places) in &mut series.again {
                    if !series.pairs.contains_key(step)
                        && let Some(place) = places.pop()
                    {
                        series.pairs.insert(*step, place);
                    }
                }
                series.again.retain(|_, places| !places.is_empty());
            }
            words.retain(|_, series| !series.pairs.is_empty());
        }
        self.variables.retain(|_, words| !words.is_empty());
        self.files -= taken;
    }

    fn places(&self, variable: &str, words: &[&str]) -> impl Iterator<Item = (&'static str, &Series)> {
        let series = self.variables.get(variable).into_iter().flatten();
        series.filter(|(word, _)| words.contains(*word)).map(|(word, series)| (*word, series))
    }

    /// Returns steps, words for the period and places of a variable in files of other names.
    fn streams(
        &self,
        variable: &str,
        words: &[&str],
    ) -> impl Iterator<Item = (u64, &'static str, &FieldSeries, &Place)> {
        let streams = self.elsewhere.get(variable).into_iter().flatten();
        streams.flat_map(move |stream| {
            let series = self.variables.get(&stream.name).and_then(|series| series.get(stream.key));
            let pairs = series.into_iter().flat_map(|series| &series.pairs);
            let again = series.into_iter().flat_map(|series| &series.again);
            let again = again.flat_map(|(step, places)| places.iter().map(move |place| (step, place)));
            pairs.chain(again).filter_map(move |(step, place)| {
                let pattern = place.pattern();
                let (_, word) =
                    stream.patterns.iter().find(|(known, word)| *known == pattern && words.contains(word))?;
                Some((*step, *word, stream, place))
            })
        })
    }

    /// Adds a pair. Returns true if it was passed over, because the whole array exists as well.
    pub(super) fn add(&mut self, name: &ResultName<'_>, directory: Arc<str>, both: FilePair) -> bool {
        let Some((variable, word)) = series_of(name) else { return false };
        self.files += 2;
        // the name is copied only the first time
        if !self.variables.contains_key(variable) {
            self.variables.insert(variable.into(), BTreeMap::new());
        }
        let Some(words) = self.variables.get_mut(variable) else { return false };
        let series = words.entry(word).or_default();
        let new = |both| match name.piece {
            None => StepFiles::Whole(both),
            Some(number) => StepFiles::Pieces([(number, both)].into()),
        };
        let Some(first) = series.pairs.get_mut(&name.step) else {
            series.pairs.insert(name.step, Place { directory, files: new(both) });
            return false;
        };
        let again = series.again.get_mut(&name.step).into_iter().flatten();
        if let Some(place) = [&mut *first].into_iter().chain(again).find(|place| place.directory == directory) {
            match (&mut place.files, name.piece) {
                (StepFiles::Pieces(pieces), Some(number)) => {
                    pieces.insert(number, both);
                }
                (StepFiles::Whole(_), _) => {
                    self.files -= 2;
                    return true;
                }
                (StepFiles::Pieces(pieces), None) => {
                    self.files -= 2 * pieces.len();
                    place.files = StepFiles::Whole(both);
                    return true;
                }
            }
            return false;
        }
        let place = Place { directory, files: new(both) };
        let real = |place: &Place| {
            std::fs::canonicalize(format!("{}.data", place.stem(variable, word, name.step, name.piece))).ok()
        };
        // one file that appears twice because of links is not a contradiction
        let (a, b) = (real(first), real(&place));
        if a.is_none() || a != b {
            series.again.entry(name.step).or_default().push(place);
        }
        false
    }
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
