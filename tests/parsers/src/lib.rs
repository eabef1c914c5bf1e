//! Every parser of untrusted input of the engine and of the protocol behind one signature, for the replay of the corpus
//! and for the fuzz targets. A crate of its own, so that these are built without what reaches the network.
//!
//! A parser may refuse whatever it likes. It must not panic, and what it accepts must keep the promises checked here.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a parser that breaks a promise ends its test

use edp_engine::grid::Diagnostics;
use edp_engine::mapping::pickle::PickleDocument;
use edp_engine::mapping::{check_matrix, unpack_pickle};
use edp_engine::mds::{Header, MdsFile, PiecedArray};
use edp_engine::metadata::configuration::Configuration;
use edp_engine::metadata::entry::{Entries, GlobalEntry};
use edp_engine::metadata::groupings;
use edp_engine::metadata::podaac::Table;
use edp_engine::metadata::variable;
use edp_engine::reader::{self, ReadError, ReaderSession};
use edp_protocol::name::GranuleName;
use edp_protocol::recipe;
use edp_protocol::wire::{CONTENT_TYPE, MAX_OUTCOME, MAX_RECIPE, MAX_WORKER, Outcome, TaskMessage};
use edp_protocol::{GridKind, Location};
use std::fs::File;
use std::io::{Cursor, Write as _};
use std::path::Path;

/// Name of a fuzz target, which is also that of its part of the corpus, and what it runs.
pub type Parser = (&'static str, fn(&[u8]));

/// All that are here.
pub const ALL: [Parser; 14] = [
    ("arrays", arrays),
    ("configuration", configuration),
    ("diagnostics", diagnostics),
    ("frame", frame),
    ("groupings", groupings),
    ("header", header),
    ("location", location),
    ("metadata", metadata),
    ("name", name),
    ("netcdf", netcdf),
    ("npz", npz),
    ("pickle", pickle),
    ("podaac", podaac),
    ("tasks", tasks),
];

/// The name that appears in errors; each of them must say it.
pub const FILE: &str = "input";

/// Holds an error against the promise that it names its file.
///
/// # Panics
/// It does not.
pub fn names_it(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(text.contains(FILE), "does not name its file: {text}");
}

/// A NetCDF file, read by the helper process as the programs read it: it is good, or it is damaged and this is said.
///
/// # Panics
/// A promise is broken, or there is no room for the file.
pub fn netcdf(input: &[u8]) {
    let path = Path::new(FILE);
    let read = ReaderSession::with(written(input), path).and_then(|mut session| session.variables());
    if let Err(error) = read {
        names_it(&error);
        assert!(matches!(error, ReadError::Damaged { .. }), "{error:?}");
    }
}

/// A NetCDF file, read in this process by what the helper process does. What brings the libraries down is found here;
/// the programs are protected from it by the helper.
///
/// # Panics
/// There is no room for the file.
pub fn netcdf_here(input: &[u8]) {
    let _ = reader::examine(&written(input));
}

fn written(input: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(input).expect("room for it");
    file
}

/// Rows and columns of the matrices: those of the seeds.
const MATRIX: [usize; 2] = [2, 3];

/// The four arrays of a matrix of weights, one behind the other with `----` between them, in a sound archive. Changed
/// bytes of a real archive would nearly all end at its check sums.
///
/// # Panics
/// A promise is broken.
pub fn arrays(input: &[u8]) {
    let mut rest = Some(input);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for entry in ["shape.npy", "indptr.npy", "indices.npy", "data.npy"] {
        let Some(all) = rest else { break };
        let at = all.windows(4).position(|four| four == b"----");
        let (array, more) = at.map_or((all, None), |at| (&all[..at], Some(&all[at + 4..])));
        rest = more;
        archive.start_file(entry, options).and_then(|()| Ok(archive.write_all(array)?)).expect("a zip file in memory");
    }
    npz(archive.finish().expect("a zip file in memory").get_ref());
}

/// A configuration.
///
/// # Panics
/// A promise is broken.
pub fn configuration(input: &[u8]) {
    match Configuration::parse(FILE, input) {
        Ok((_, warnings)) => warnings.iter().for_each(names_it),
        Err(error) => names_it(&error),
    }
}

/// The model's list of diagnostics.
///
/// # Panics
/// A promise is broken.
pub fn diagnostics(input: &[u8]) {
    match Diagnostics::parse(FILE, input) {
        Ok(list) => drop(list.placement("THETA")),
        Err(error) => names_it(&error),
    }
}

/// A message's body: what is understood is written the same way, or larger, and understood again.
///
/// # Panics
/// A promise is broken.
pub fn frame(input: &[u8]) {
    if let Ok(task) = TaskMessage::decode(CONTENT_TYPE, input) {
        assert!(task.recipe.len() <= MAX_RECIPE && task.attempt > 0);
        let body = task.encode().expect("a task message that was read");
        assert_eq!(TaskMessage::decode(CONTENT_TYPE, &body).expect("a task message that was written"), task);
        drop(task.recipe());
        if let Ok(recipe) = task.identified() {
            assert_eq!(recipe.computed_id().expect("an id"), task.recipe_id);
        }
    }
    if let Ok(outcome) = Outcome::decode(CONTENT_TYPE, input) {
        let body = outcome.encode().expect("an outcome that was read");
        assert!(body.len() <= MAX_OUTCOME && (1..=MAX_WORKER).contains(&outcome.worker.len()));
        assert_eq!(Outcome::decode(CONTENT_TYPE, &body).expect("an outcome that was written"), outcome);
    }
}

/// Groupings.
///
/// # Panics
/// A promise is broken.
pub fn groupings(input: &[u8]) {
    match groupings::parse(FILE, input) {
        Ok((_, warnings)) => warnings.iter().for_each(names_it),
        Err(error) => names_it(&error),
    }
}

/// A `.meta` header; some data of the size that it asks for, if that is small, can then be read.
///
/// # Panics
/// A promise is broken.
pub fn header(input: &[u8]) {
    let header = match Header::parse_any(FILE, input) {
        Ok(header) => header,
        Err(error) => return names_it(&error),
    };
    assert!(header.records >= 1 && header.plane() >= 1);
    assert!(header.fields.len() <= header.records);
    for field in &header.fields {
        match header.find(field, 50) {
            Ok(found) => {
                let records = if found.by_records { found.levels.unwrap_or(1) } else { 1 };
                assert!(found.record + records <= header.records);
            }
            Err(error) => names_it(&error),
        }
    }
    if header.piece().is_some() {
        match Header::parse(FILE, input) {
            Ok(_) => panic!("a piece passes for a whole array"),
            Err(error) => names_it(&error),
        }
        return piece(header);
    }
    if let Ok(n) = header.llc_size() {
        assert_eq!(header.plane(), 13 * n * n);
    }
    let length = header.byte_length();
    if length <= 1 << 20 {
        let (records, levels, plane) = (header.records, header.levels().unwrap_or(1), header.plane());
        let data = MdsFile::open(FILE, header, vec![0; length as usize]).expect("data of the header's size");
        let last = data.read_plane(records - 1, levels - 1).expect("the last level of the last record");
        assert_eq!(last.len(), plane);
    }
}

/// A piece of an array: some data of the size that its header asks for can be read as part of the whole, if both are small.
fn piece(header: Header) {
    const SMALL: u64 = 1 << 20;
    if header.byte_length() > SMALL || header.plane() as u64 > SMALL {
        return;
    }
    let data = vec![0; header.byte_length() as usize];
    match PiecedArray::new(FILE, vec![(header, data)]) {
        Ok(pieces) => {
            let (header, plane) = (pieces.header().clone(), pieces.header().plane());
            let whole = MdsFile::open(FILE, header, pieces).expect("an array of its header's size");
            assert_eq!(whole.read_plane(0, 0).expect("the first level").len(), plane);
        }
        Err(error) => names_it(&error),
    }
}

/// A location.
///
/// # Panics
/// A promise is broken.
pub fn location(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(location) = text.parse::<Location>() {
        assert_eq!(location.to_string().parse(), Ok(location));
    }
}

/// Entries of variables, coordinates and global attributes.
///
/// # Panics
/// A promise is broken.
pub fn metadata(input: &[u8]) {
    let mut all = edp_engine::metadata::source::Metadata::default();
    match Entries::parse(FILE, input) {
        Ok((entries, warnings)) => {
            warnings.iter().for_each(names_it);
            all.variables = entries;
            for grid in [GridKind::Native, GridKind::Latlon] {
                drop(variable::describe(&all, grid, "THETA"));
            }
        }
        Err(error) => names_it(&error),
    }
    if let Err(error) = GlobalEntry::parse_list(FILE, input) {
        names_it(&error);
    }
}

/// Name of a granule.
///
/// # Panics
/// A promise is broken.
pub fn name(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(name) = GranuleName::parse(text) {
        assert_eq!(name.to_string(), text);
        assert!(name.path().ends_with(text));
    }
}

/// A matrix of weights as it is stored.
///
/// # Panics
/// A promise is broken.
pub fn npz(input: &[u8]) {
    let [rows, columns] = MATRIX;
    if let Err(error) = check_matrix(Path::new(FILE), input, 0, rows, columns) {
        names_it(&error);
    }
}

/// A pickle, plain or in an XZ file.
///
/// # Panics
/// A promise is broken.
pub fn pickle(input: &[u8]) {
    /// Far above the seeds, so that only damage runs into it.
    const LIMIT: usize = 1 << 20;
    match unpack_pickle(Path::new(FILE), input, LIMIT) {
        Ok(unpacked) => {
            assert!(unpacked.len() <= LIMIT);
            look(&unpacked);
        }
        Err(error) => names_it(&error),
    }
    look(input);
}

/// Reads a pickle and looks at all of it that factors are made of.
fn look(bytes: &[u8]) {
    let Ok(document) = PickleDocument::parse(bytes) else { return };
    let mut seen = vec![document.root()];
    seen.extend(document.items(document.root()).unwrap_or_default());
    seen.extend(document.pairs(document.root()).unwrap_or_default().iter().map(|(_, value)| *value));
    for value in seen {
        assert_ne!(value.kind(), "");
        if let Some(array) = document.array(value) {
            assert!(array.floats().is_none_or(|floats| floats.len() == array.len()));
            assert!(array.integers().is_none_or(|integers| integers.len() == array.len()));
            assert!(document.objects(value).is_none_or(|objects| objects.len() == array.len()));
        }
    }
}

/// A PO.DAAC table.
///
/// # Panics
/// A promise is broken.
pub fn podaac(input: &[u8]) {
    let name = "SEA_SURFACE_HEIGHT_mon_mean_1992-01_ECCO_DEMO_latlon_6p00deg.nc";
    let name = GranuleName::parse(name).expect("a granule's name");
    match Table::parse(FILE, input) {
        Ok((table, warnings)) => {
            warnings.iter().for_each(names_it);
            if let Err(error) = table.find(&name) {
                names_it(&error);
            }
        }
        Err(error) => names_it(&error),
    }
}

/// A task list, EDP's or ours.
///
/// # Panics
/// A promise is broken.
pub fn tasks(input: &[u8]) {
    let recipes = match recipe::parse_list(FILE, input) {
        Ok(recipes) => recipes,
        Err(recipe::RecipeError::Duplicate { .. } | recipe::RecipeError::Destinations { .. }) => return,
        Err(error) => {
            assert!(recipe::read_list(FILE, input, u64::MAX).is_err(), "read as it comes, it is not a list either");
            return names_it(&error);
        }
    };
    match recipe::read_list(FILE, input, input.len() as u64) {
        Ok(read) => assert_eq!(read, recipes),
        // Shorter recipes than lists may have so many of.
        Err(error) => assert!(matches!(error, recipe::RecipeError::TooLarge { .. }), "{error}"),
    }
    for recipe in &recipes {
        if recipe.check_identity().is_ok() {
            let plan = recipe.plan().expect("a recipe with an id has a plan");
            assert_eq!(recipe.computed_id().expect("an id"), plan.id);
            assert!(!recipe.granule_below_root().expect("a path").split('/').any(|part| part == ".."));
        }
    }
    let text = recipe::format_list(&recipes).expect("a list as text");
    assert_eq!(recipe::parse_list(FILE, text.as_bytes()).expect("our own list"), recipes);
}
