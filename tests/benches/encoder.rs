//! The encoder of fields beside general compressors: size and speed on chunks of granules, one thread.
//!
//! The chunks are those that granules have, shuffled. With `EDP_REAL_DATA` and `EDP_REAL_TOOLS` they are fields on the
//! grid of ECCO V4 and the real sea surface height; in any case smooth fields of the demo at LLC270. Each chunk is
//! compressed by all encoders in turn, so that a phase in which the machine is slower affects all of them. `igzip`
//! takes part where it is installed; its time includes the start of the program.

#![allow(unsafe_code)] // zlib has no interface for Rust

use edp_encoder::PlaneEncoder;
use edp_protocol::name::base_name;
use edp_protocol::recipe::{self, Recipe};
use edp_tests::shuffled::{self, ShuffledChunk};
use edp_tests::{coordinator, expect, real};
use libdeflater::{CompressionLvl, Compressor};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Number of repetitions of each measurement. The shortest time counts, since other load can only add to it.
const REPEAT: usize = 3;

/// Number of chunks of a set that are measured at most.
const MOST: usize = 48;

/// Size and time of an encoder for a set.
#[derive(Default)]
struct Sum {
    bytes: usize,
    time: Duration,
}

fn main() {
    edp_engine::libraries::silence_hdf5();
    let directory = tempfile::tempdir().expect("a temporary directory");
    println!(
        "| chunks of | MB | zlib 5 | libdeflate 5 | planes | igzip 2 | planes / libdeflate: bytes | planes / libdeflate: \
         speed |\n|---|---|---|---|---|---|---|---|"
    );
    for (name, recipes) in sets(directory.path()) {
        let chunks: Vec<ShuffledChunk> = recipes.iter().flat_map(shuffled::chunks_of).collect();
        let step = chunks.len().div_ceil(MOST).max(1);
        row(&name, &chunks.into_iter().step_by(step).collect::<Vec<_>>(), directory.path());
    }
}

/// Returns recipes whose granules were made, by the name of their set.
fn sets(directory: &Path) -> Vec<(String, Vec<Recipe>)> {
    let demo = directory.join("demo");
    expect(coordinator().args(["demo", "--size", "270", "--out"]).arg(&demo), 0);
    let mut lists = vec![("LLC270", demo.join("tasks.json"))];
    if let (Some(data), Some(tools)) = (std::env::var_os("EDP_REAL_DATA"), std::env::var_os("EDP_REAL_TOOLS")) {
        let made_up = real::made_up_fields(&PathBuf::from(&data), &PathBuf::from(tools), &directory.join("made-up"));
        lists.push(("LLC90", made_up));
        lists.push(("real", real::sea_surface_height(&PathBuf::from(data), &directory.join("real"))));
    }
    let mut sets: Vec<(String, Vec<Recipe>)> = Vec::new();
    for (model, list) in lists {
        expect(coordinator().arg("run").arg(&list), 0);
        let recipes = recipe::parse_list("list", &std::fs::read(&list).expect("the list")).expect("a list");
        for recipe in recipes {
            let granule = recipe.name().expect("a name");
            if model == "LLC270" && !base_name(&recipe.granule).contains("_1992-01_") {
                continue;
            }
            let name = match model {
                "real" => "real SSH".to_owned(),
                _ => format!("{model} {} {}", granule.dataset, granule.grid),
            };
            match sets.iter_mut().find(|(known, _)| *known == name) {
                Some((_, recipes)) => recipes.push(recipe),
                None => sets.push((name, vec![recipe])),
            }
        }
    }
    sets
}

/// Measures one set and prints its line of the table.
fn row(name: &str, chunks: &[ShuffledChunk], directory: &Path) {
    let mut planes = PlaneEncoder::new(5).expect("a level");
    let mut libdeflate = Compressor::new(CompressionLvl::new(5).expect("a level"));
    let mut room = Vec::new();
    let [mut ours, mut general, mut zlib] = [(); 3].map(|()| Sum::default());
    for ShuffledChunk { bytes, layout } in chunks {
        ours.measure(|| planes.encode(bytes, *layout).len());
        general.measure(|| {
            room.resize(libdeflate.zlib_compress_bound(bytes.len()), 0);
            libdeflate.zlib_compress(bytes, &mut room).expect("room")
        });
        zlib.measure(|| by_zlib(bytes, &mut room));
    }
    let all: Vec<u8> = chunks.iter().flat_map(|chunk| &chunk.bytes).copied().collect();
    let megabytes = all.len() as f64 / 1e6;
    let text = |sum: &Sum| format!("{:.3} @ {:.0}", sum.bytes as f64 / 1e6, megabytes / sum.time.as_secs_f64());
    let igzip = by_igzip(&all, directory).map_or("-".to_owned(), |sum| text(&sum));
    println!(
        "| {name} | {megabytes:.1} | {} | {} | {} | {igzip} | {:.3} | {:.2} |",
        text(&zlib),
        text(&general),
        text(&ours),
        ours.bytes as f64 / general.bytes as f64,
        general.time.as_secs_f64() / ours.time.as_secs_f64()
    );
}

impl Sum {
    /// Adds the size that `encode` returns, and its shortest time.
    fn measure(&mut self, mut encode: impl FnMut() -> usize) {
        let once = || {
            let started = Instant::now();
            let size = encode();
            (started.elapsed(), size)
        };
        let best = std::iter::repeat_with(once).take(REPEAT).min().unwrap_or_default();
        self.time += best.0;
        self.bytes += best.1;
    }
}

/// Compresses bytes by zlib at level 5. Returns their number.
fn by_zlib(bytes: &[u8], room: &mut Vec<u8>) -> usize {
    // SAFETY: the functions are given the addresses and lengths of two slices, and write no more than that.
    unsafe {
        room.resize(libz_sys::compressBound(bytes.len() as _) as usize, 0);
        let mut length = room.len() as _;
        let status = libz_sys::compress2(room.as_mut_ptr(), &mut length, bytes.as_ptr(), bytes.len() as _, 5);
        assert_eq!(status, libz_sys::Z_OK);
        length as usize
    }
}

/// Compresses bytes by `igzip -2`, if there is such a program.
fn by_igzip(bytes: &[u8], directory: &Path) -> Option<Sum> {
    let path = directory.join("chunks");
    File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("a file");
    let mut sum = Sum::default();
    for _ in 0..REPEAT {
        let started = Instant::now();
        let mut igzip = Command::new("igzip");
        igzip.args(["-2", "--stdout"]).arg(&path).stderr(Stdio::null());
        let output = igzip.output().ok().filter(|output| output.status.success())?;
        let took = started.elapsed();
        if sum.bytes == 0 || took < sum.time {
            sum = Sum { bytes: output.stdout.len(), time: took };
        }
    }
    Some(sum)
}
