//! Mapping factors that are damaged, or made to do harm, make the latlon granules fail, and take no memory.

use super::{Production, calm, edit, shown, with_memory};
use edp_tests::coordinator;
use liblzma::stream::{Action, Check, Status, Stream};
use std::fs;
use std::io::{Cursor, Read as _, Write as _};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

const TARGET: &str = "latlon_grid/latlon_grid.xz";
const MASK: &str = "land_mask/ecco_latlon_land_mask_0.xz";
const MATRIX: &str = "sparse/sparse_matrix_0.npz";

/// Address space of a run in MiB: that of a normal run of this size, and half as much again. Each bomb is larger.
const MEMORY: usize = 768;
/// Unpacked size of a bomb in bytes.
const BOMB: usize = 1 << 30;

/// The path of a file of the factors, texts that the error must contain, and the damage done to the file.
type Case<'a> = (&'a str, &'a [&'a str], &'a dyn Fn(&Path));

/// Plans with a damaged file, and makes a native and a latlon granule, of which only the latter fails.
fn costs_latlon_granules_only(cases: &[Case<'_>]) {
    let production = Production::small();
    for (file, words, damage) in cases {
        let path = production.fixture.demo.factors.join(file);
        let sound = fs::read(&path).unwrap();
        damage(&path);
        production.plan();
        let mut run = coordinator();
        run.arg("run").arg(&production.list).args(["--slots", "1", "--output", "json"]);
        let ended = production.run_as(with_memory(&run, MEMORY), 3);
        let path_text = shown(&path);
        let words: Vec<&str> = words.iter().copied().chain([path_text.as_str()]).collect();
        assert_eq!(ended.failed_with(&words), 1, "{file}: {words:?}");
        assert!(ended.reasons("failed")[0].0.contains("/latlon/"));
        fs::remove_dir_all(&production.out).unwrap();
        fs::write(&path, sound).unwrap();
    }
    // After the file is repaired, all is made within the same memory.
    production.plan();
    let mut run = coordinator();
    run.arg("run").arg(&production.list).args(["--slots", "1", "--output", "json"]);
    assert_eq!(production.run_as(with_memory(&run, MEMORY), 0).count("made"), 2);
}

/// Returns one XZ stream.
fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut stream = Stream::new_easy_encoder(0, Check::Crc64).unwrap();
    let mut packed = Vec::with_capacity(bytes.len() / 64 + 4096);
    assert!(matches!(stream.process_vec(bytes, &mut packed, Action::Finish).unwrap(), Status::StreamEnd));
    packed
}

/// Returns some bytes and a gigabyte of zeros, packed into a few hundred kilobytes.
fn bomb(beginning: &[u8]) -> Vec<u8> {
    let zeros = xz(&vec![0; 16 << 20]);
    assert!(zeros.len() < 16 << 10);
    [xz(beginning), zeros.repeat(BOMB / (16 << 20))].concat()
}

fn truncate(path: &Path) {
    edit(path, |bytes| bytes.truncate(bytes.len() * 2 / 3));
}

fn flip(path: &Path) {
    edit(path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
    });
}

fn no_bytes(path: &Path) {
    fs::write(path, "").unwrap();
}

/// Changes one array of a matrix.
fn rewrite(path: &Path, entry: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let mut sound = ZipArchive::new(Cursor::new(fs::read(path).unwrap())).unwrap();
    let mut changed = ZipWriter::new(fs::File::create(path).unwrap());
    for at in 0..sound.len() {
        let mut file = sound.by_index(at).unwrap();
        let (name, mut bytes) = (file.name().unwrap().into_owned(), Vec::new());
        file.read_to_end(&mut bytes).unwrap();
        changed.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        changed.write_all(&if name == entry { change(bytes) } else { bytes }).unwrap();
    }
    changed.finish().unwrap();
}

/// Returns the header of an array with this element type and shape.
fn npy(element: &str, shape: &str) -> Vec<u8> {
    let header = format!("{{'descr': '{element}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes
}

#[test]
fn damaged_files_are_named() {
    costs_latlon_granules_only(&[
        (TARGET, &["not a whole XZ file"], &truncate),
        (TARGET, &["not a whole XZ file"], &flip),
        (TARGET, &["not a whole XZ file"], &no_bytes),
        (MASK, &["not a whole XZ file"], &truncate),
        (MASK, &["not a whole XZ file"], &flip),
        (MASK, &["pickle"], &|path| fs::write(path, xz(b"\x80\x04]")).unwrap()),
        (MASK, &["cannot open"], &|path| fs::remove_file(path).unwrap()),
        (MATRIX, &["entry"], &truncate),
        (MATRIX, &["entry"], &flip),
        (MATRIX, &["entry (archive)"], &no_bytes),
        (MATRIX, &["entry indptr.npy", "not an array"], &|path| rewrite(path, "indptr.npy", |_| b"text".to_vec())),
        (MATRIX, &["entry data.npy"], &|path| {
            rewrite(path, "data.npy", |bytes| [&npy("<f8", "(1,)"), &f64::NAN.to_le_bytes()[..], &bytes[..0]].concat());
        }),
    ]);
}

#[test]
fn what_unpacks_without_end_is_refused_without_memory() {
    // Files whose packed size is plausible for a mask: zeros, and one long text as it may occur in a pickle.
    let zeros = vec![0; 16 << 20];
    let mut text = b"\x80\x04X".to_vec();
    text.extend((zeros.len() as u32).to_le_bytes());
    text.extend(&zeros);
    text.push(b'.');
    costs_latlon_granules_only(&[
        (TARGET, &["not a pickle"], &|path| fs::write(path, bomb(b"")).unwrap()),
        (TARGET, &["pickle"], &|path| fs::write(path, bomb(b"\x80\x04]q\x00.")).unwrap()),
        (TARGET, &["more than 256 open containers"], &|path| {
            fs::write(path, xz(&[&b"\x80\x04"[..], &vec![b'('; 16 << 20]].concat())).unwrap();
        }),
        (TARGET, &["more than 4194304 values"], &|path| {
            fs::write(path, xz(&[&b"\x80\x04"[..], &vec![b'N'; 16 << 20]].concat())).unwrap();
        }),
        (MASK, &["larger than the limit"], &|path| fs::write(path, bomb(b"")).unwrap()),
        (MASK, &["larger than the limit"], &|path| fs::write(path, xz(&zeros)).unwrap()),
        (MASK, &["larger than the limit"], &|path| fs::write(path, xz(&text)).unwrap()),
        (MATRIX, &["entry indices.npy", "claims the shape [10000000000]"], &|path| {
            rewrite(path, "indices.npy", |_| [npy("<i4", "(10000000000,)"), vec![0; 64]].concat());
        }),
        (MATRIX, &["entry indices.npy", "larger than the limit"], &|path| {
            rewrite(path, "indices.npy", |_| [npy("<i4", "(16777216,)"), vec![0; 64 << 20]].concat());
        }),
    ]);
}

#[test]
fn a_pickle_that_wants_to_run_code_runs_nothing() {
    let production = Production::small();
    let mark = production.fixture.path("mark");
    // The program is os.system("touch <mark>"), as Python's pickle module would write and run it.
    let command = format!("touch {}", shown(&mark));
    let mut program = b"\x80\x04cos\nsystem\nX".to_vec();
    program.extend((command.len() as u32).to_le_bytes());
    program.extend(command.bytes());
    program.extend(b"\x85R.");
    for file in [TARGET, MASK] {
        let path = production.fixture.demo.factors.join(file);
        let sound = fs::read(&path).unwrap();
        fs::write(&path, xz(&program)).unwrap();
        production.plan();
        let ended = production.run(3);
        assert_eq!(ended.failed_with(&["\"os.system\"", "do not trust this file", &shown(&path)]), 1);
        assert!(!mark.exists(), "{file}: the pickle ran");
        fs::remove_dir_all(&production.out).unwrap();
        fs::write(&path, sound).unwrap();
    }
}

#[test]
fn factors_that_are_not_there_are_named_when_planning() {
    let production = Production::small();
    fs::remove_file(production.fixture.demo.factors.join(TARGET)).unwrap();
    let said = production.try_plan(2);
    assert!(said.contains(TARGET), "{said}");
    let output = coordinator().arg("run").arg(production.fixture.path("none.json")).output().unwrap();
    calm(&output);
    assert_eq!(output.status.code(), Some(2));
}
