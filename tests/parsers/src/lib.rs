//! All parsers of untrusted input of the engine and of the protocol, with one signature, for replaying the corpus and
//! for the fuzz targets. This is a separate crate so that these are built without the libraries that use the network.
//!
//! A parser may refuse any input. It must not panic, and for the input that it accepts, the properties checked here
//! must hold.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a parser that breaks a promise ends its test

use edp_encoder::{PlaneEncoder, PlaneLayout};
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
use edp_protocol::name::{self, GranuleName};
use edp_protocol::recipe::{self, ListForm};
use edp_protocol::wire::{CONTENT_TYPE, MAX_OUTCOME, MAX_RECIPE, MAX_WORKER, Outcome, TaskGroup, TaskMessage};
use edp_protocol::{GridKind, Location};
use libdeflater::Decompressor;
use std::fs::File;
use std::io::{Cursor, Write as _};
use std::path::Path;

/// The name of a fuzz target, which is also the name of its part of the corpus, and the function that it runs.
pub type Parser = (&'static str, fn(&[u8]));

/// All parsers of this crate.
pub const ALL: [Parser; 15] = [
    ("arrays", arrays),
    ("configuration", configuration),
    ("diagnostics", diagnostics),
    ("encoder", encoder),
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

/// The file name given to the parsers. Each error must contain it.
pub const FILE: &str = "input";

/// Checks that an error names its file.
///
/// # Panics
/// Panics if it does not.
pub fn names_it(error: &impl std::fmt::Display) {
    let text = error.to_string();
    assert!(text.contains(FILE), "does not name its file: {text}");
}

/// Reads a NetCDF file with the helper process, as the programs do. The file is good, or it is reported as damaged.
///
/// # Panics
/// Panics if a property does not hold, or if the file cannot be written.
pub fn netcdf(input: &[u8]) {
    let path = Path::new(FILE);
    let read = ReaderSession::with(written(input), path).and_then(|mut session| session.variables());
    if let Err(error) = read {
        names_it(&error);
        assert!(matches!(error, ReadError::Damaged { .. }), "{error:?}");
    }
}

/// Reads a NetCDF file in this process with the code of the helper process. Inputs that crash the libraries are found
/// here; the programs are protected from them by the helper.
///
/// # Panics
/// Panics if the file cannot be written.
pub fn netcdf_here(input: &[u8]) {
    let _ = reader::examine(&written(input));
}

fn written(input: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(input).expect("room for it");
    file
}

/// Number of rows and columns of the matrices, which are those of the seeds.
const MATRIX: [usize; 2] = [2, 3];

/// Parses the four arrays of a matrix of weights, separated by `----`, which are put into a valid archive. If bytes of
/// a real archive were changed, nearly all inputs would fail at its checksums.
///
/// # Panics
/// Panics if a property does not hold.
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

/// Parses a configuration.
///
/// # Panics
/// Panics if a property does not hold.
pub fn configuration(input: &[u8]) {
    match Configuration::parse(FILE, input) {
        Ok((_, warnings)) => warnings.iter().for_each(names_it),
        Err(error) => names_it(&error),
    }
}

/// Parses the model's list of diagnostics.
///
/// # Panics
/// Panics if a property does not hold.
pub fn diagnostics(input: &[u8]) {
    match Diagnostics::parse(FILE, input) {
        Ok(list) => drop(list.placement("THETA")),
        Err(error) => names_it(&error),
    }
}

/// Decodes the body of a message. What is understood is encoded to the same or a larger size, and decoded again.
///
/// # Panics
/// Panics if a property does not hold.
pub fn frame(input: &[u8]) {
    if let Ok(group) = TaskGroup::decode(CONTENT_TYPE, input) {
        let body = group.encode().expect("a group that was read");
        assert_eq!(TaskGroup::decode(CONTENT_TYPE, &body).expect("a group that was written"), group);
    }
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

/// Parses a groupings file.
///
/// # Panics
/// Panics if a property does not hold.
pub fn groupings(input: &[u8]) {
    match groupings::parse(FILE, input) {
        Ok((_, warnings)) => warnings.iter().for_each(names_it),
        Err(error) => names_it(&error),
    }
}

/// Parses a `.meta` header. Data of the size that it asks for, if that is small, can then be read.
///
/// # Panics
/// Panics if a property does not hold.
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

/// Checks a header of a tiled file: data of the size that it asks for can be read as part of the whole array, if both
/// are small.
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

/// Parses a location.
///
/// # Panics
/// Panics if a property does not hold.
pub fn location(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(location) = text.parse::<Location>() {
        assert_eq!(location.to_string().parse(), Ok(location));
    }
}

/// Parses entries of variables, coordinates and global attributes.
///
/// # Panics
/// Panics if a property does not hold.
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

/// Compresses a chunk, which is no parsing, but its bytes decide every step. The first two bytes choose the layout, and
/// the others are repeated with a change until they are a chunk that is not too small.
///
/// # Panics
/// Panics if it is not read back, or is larger than it may be.
pub fn encoder(input: &[u8]) {
    let Some((&[element, row], pattern)) = input.split_first_chunk().filter(|(_, pattern)| !pattern.is_empty()) else {
        return;
    };
    let element = usize::from(element % 9);
    let layout = PlaneLayout { element, row: usize::from(row) * 7, level: usize::from(row) * 77 };
    let length = (edp_encoder::SMALLEST + input.len()) / element.max(1) * element.max(1);
    let times = (0_usize..).flat_map(|time| pattern.iter().map(move |byte| byte.wrapping_add((time / 64) as u8)));
    let plain: Vec<u8> = times.take(length).collect();
    let stream = PlaneEncoder::new(5).expect("a level").encode(&plain, layout);
    assert!(stream.len() <= plain.len() + plain.len() / 1000 + 64, "{} bytes of {}", stream.len(), plain.len());
    let mut read = vec![0; plain.len()];
    let found = Decompressor::new().zlib_decompress(&stream, &mut read).expect("a stream");
    assert!(found == plain.len() && read == plain);
}

/// Parses the name of a granule.
///
/// # Panics
/// Panics if a property does not hold.
pub fn name(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Two lines are the words for the project, or a pattern, and a name.
    let (project, text) = text.split_once('\n').unwrap_or((name::PROJECT, text));
    let project = name::project_of_pattern(project).unwrap_or(project);
    if let Ok(name) = GranuleName::parse_of(project, text) {
        assert_eq!(name.to_string(), text);
        assert!(name.path().ends_with(text));
    }
}

/// Parses a matrix of weights in its file format.
///
/// # Panics
/// Panics if a property does not hold.
pub fn npz(input: &[u8]) {
    let [rows, columns] = MATRIX;
    if let Err(error) = check_matrix(Path::new(FILE), input, 0, rows, columns) {
        names_it(&error);
    }
}

/// Parses a pickle, either plain or in an XZ file.
///
/// # Panics
/// Panics if a property does not hold.
pub fn pickle(input: &[u8]) {
    /// A limit far above the seeds, so that only damaged files reach it.
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

/// Reads all parts of a pickle of which mapping factors are made.
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

/// Parses a PO.DAAC table.
///
/// # Panics
/// Panics if a property does not hold.
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

/// Parses a task list, either EDP's or ours.
///
/// # Panics
/// Panics if a property does not hold.
pub fn tasks(input: &[u8]) {
    // Any line that is read as a recipe is a recipe of an array too.
    if let Ok(recipes) = recipe::read_list(FILE, ListForm::Lines, input, input.len() as u64) {
        let text = recipe::format_list(&recipes).expect("a list as text");
        assert_eq!(recipe::parse_list(FILE, text.as_bytes()).expect("the same recipes"), recipes);
    }
    let recipes = match recipe::parse_list(FILE, input) {
        Ok(recipes) => recipes,
        Err(recipe::RecipeError::Duplicate { .. } | recipe::RecipeError::Destinations { .. }) => return,
        Err(error) => {
            assert!(
                recipe::read_list(FILE, ListForm::Array, input, u64::MAX).is_err(),
                "read as it comes, it is not a list either"
            );
            return names_it(&error);
        }
    };
    match recipe::read_list(FILE, ListForm::Array, input, input.len() as u64) {
        Ok(read) => assert_eq!(read, recipes),
        // A list of very short recipes may have more of them than are allowed.
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
