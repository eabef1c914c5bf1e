//! The speed of making granules, compared with the costs of the format itself.
//!
//! For each kind of granule, one run measures: the floor set by the codec (the same chunks compressed by the same
//! threads, and nothing else); our time with cold and with warm caches, by stages; our time with inputs from which no
//! granule was made before; the file that the netCDF library writes with its own filters; processor seconds; peak
//! memory; bytes. Then the making of mapping factors. Speed is judged by ratios within a run, since absolute times depend on the machine and on its other
//! load.
//!
//! With `EDP_REAL_DATA` and `EDP_REAL_TOOLS`, the benchmark runs on the grid of ECCO V4 (LLC90, 50 levels), otherwise
//! on the demo's grid of the same size with 10 levels.

use edp_engine::codec::{Codec, CodecKeys};
use edp_engine::granule::blocks::Block;
use edp_engine::granule::chunk_shapes::chunk_shape;
use edp_engine::granule::field::FILL;
use edp_engine::granule::stages::{Stage, Stages};
use edp_engine::granule::{make, make::MakeContext};
use edp_engine::libraries::silence_hdf5;
use edp_engine::resources::Cache;
use edp_production::records::{GranuleRecord, Records};
use edp_production::verify::{Check, InspectionDepth, verify};
use edp_protocol::Digest;
use edp_protocol::name::{GranuleName, base_name};
use edp_protocol::recipe::{self, Recipe};
use edp_store::Stores;
use edp_tests::{coordinator, count, expect, files, program, real};
use edp_worker::service::Worker;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// Number of repetitions of each measurement. The shortest time counts, since other load can only add to it.
const REPEAT: usize = 6;

/// Number of times that the floor and granules are measured in turn, so that a phase in which the machine is slower
/// affects both.
const TURNS: usize = 3;

fn main() {
    silence_hdf5();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let recipes = inputs(directory.path());
    println!("threads: {}", rayon::current_num_threads());
    println!(
        "| granule | values MB | floor ms | warm ms | warm / floor | inputs new ms | inputs new / floor | cold ms | read ms | rotate ms | mask or regrid ms | compress ms | write ms | hash ms | gate ms | CPU ms | netCDF ms | file MB | netCDF MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for recipe in &recipes {
        row(recipe, directory.path());
    }
    println!("\npeak memory: {} MB\n", peak_megabytes("self"));
    slots(&recipes, directory.path());
    processes(&recipes, directory.path());
    verification(directory.path());
    factors(&recipes, directory.path());
}

/// Longest time in seconds that all mapping factors of ECCO's grid at half a degree should take on two cores.
const FACTORS_TARGET: f64 = 5.0;

/// Measures the making of mapping factors at half a degree, with the program started as a user would start it: all levels
/// of the grid, with both rules for the radius, in both forms.
fn factors(recipes: &[Recipe], directory: &Path) {
    let grid = recipes.iter().find_map(|recipe| recipe.ecco_grid_loc.clone()).expect("a grid");
    println!("\n| factors at half a degree | form | seconds (target: {FACTORS_TARGET} for 50 levels) | MB |");
    println!("|---|---|---|---|");
    for (method, form) in [("method_1", "nc"), ("method_2", "nc"), ("method_1", "edp"), ("method_2", "edp")] {
        let out = directory.join(format!("factors-{method}-{form}"));
        let mut took = Duration::MAX;
        for _ in 0..REPEAT / 2 {
            let _ = std::fs::remove_dir_all(&out);
            let mut make = program("edp-worker");
            make.args(["factors", "--grid", &grid, "--resolution", "0.5", "--method", method, "--format", form]);
            let (one, _) = timed(|| expect(make.arg("--out").arg(&out), 0));
            took = took.min(one);
        }
        let bytes: u64 = files(&out).keys().map(|name| out.join(name).metadata().map_or(0, |found| found.len())).sum();
        println!("| {method} | {form} | {:.2} | {:.0} |", took.as_secs_f64(), bytes as f64 / 1e6);
    }
}

/// Measures the rate at which granules are verified by content, compared with SHA-256 alone of the same files on as
/// many threads. The target is 0.8 of that rate. All files are in the cache of the system, so the disk affects neither.
fn verification(directory: &Path) {
    let demo = directory.join("verified");
    expect(coordinator().args(["demo", "--size", "90", "--out"]).arg(&demo), 0);
    let list = std::fs::read(demo.join("tasks.json")).expect("the task list");
    let recipes = recipe::parse_list("list", &list).expect("a task list");
    let paths: Vec<PathBuf> = recipes.iter().map(|recipe| demo.join(&recipe.granule)).collect();
    let bytes: u64 = paths.iter().map(|path| path.metadata().expect("a granule").len()).sum();
    let digests: Vec<Digest> = hashed(&paths);
    let mut records = Records::default();
    for ((recipe, path), sha256) in recipes.iter().zip(&paths).zip(digests) {
        let id = recipe.plan().expect("a plan").id.clone();
        let bytes = path.metadata().expect("a granule").len();
        records.enter(GranuleRecord { id, bytes, sha256, production_date: None, granule: recipe.granule.clone() });
    }
    let (stores, known) = (Stores::default(), HashSet::new());
    let (mut hashing, mut verifying) = (Duration::MAX, Duration::MAX);
    for _ in 0..REPEAT {
        hashing = hashing.min(timed(|| hashed(&paths)).0);
        let check = Check { depth: InspectionDepth::Content, records: &records, read: false, known: &known };
        let (took, verified) = timed(|| verify(&recipes, check, &stores));
        assert_eq!(verified.good, recipes.len(), "{verified:?}");
        verifying = verifying.min(took);
    }
    let rate = |took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    println!("\n| granules | MB | SHA-256 MB/s | verify MB/s | verify / SHA-256 |\n|---|---|---|---|---|");
    let (plain, ours) = (rate(hashing), rate(verifying));
    println!("| {} | {:.0} | {plain:.0} | {ours:.0} | {:.2} |", recipes.len(), bytes as f64 / 1e6, ours / plain);
}

/// Returns the digests of files, computed by as many threads as there are cores.
fn hashed(paths: &[PathBuf]) -> Vec<Digest> {
    let digest = |path: &PathBuf| Digest::of_reader(File::open(path).expect("a granule")).expect("its bytes").0;
    paths.par_iter().map(digest).collect()
}

/// Measures the output of two slots on two cores relative to that of one slot on one core, with the program started as
/// a user would start it (Linux). It compares a long and a short list, so that the time for loading shared resources
/// drops out.
fn slots(recipes: &[Recipe], directory: &Path) {
    /// Numbers of copies of each kind of granule.
    const COPIES: [usize; 2] = [2, 10];
    println!("| processes | slots | cores | granules | seconds | CPU seconds | peak memory of the first process MB |");
    println!("|---|---|---|---|---|---|---|");
    let mut taken = Vec::new();
    for slots in [1, 2] {
        let shape = Shape { processes: 1, slots, cores: slots };
        let seconds = COPIES.map(|copies| run_copies(recipes, directory, shape, copies));
        taken.push(seconds[1] - seconds[0]);
    }
    println!("\ntwo slots on two cores make {:.2} times what one makes on one", taken[0] / taken[1]);
}

/// Measures the output of one and more processes with 1 to 16 slots on all cores of this machine.
fn processes(recipes: &[Recipe], directory: &Path) {
    /// Numbers of copies of each kind of granule.
    const COPIES: [usize; 2] = [4, 16];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\n| processes | slots | cores | granules | seconds | CPU seconds | peak memory of the first process MB |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut rates = Vec::new();
    for (processes, slots) in
        [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (2, 2), (2, 4), (2, 16), (4, 4), (4, 16), (8, 16)]
    {
        let seconds = COPIES.map(|copies| run_copies(recipes, directory, Shape { processes, slots, cores }, copies));
        let more = (COPIES[1] - COPIES[0]) * recipes.len();
        rates.push((processes, slots, more as f64 / (seconds[1] - seconds[0])));
    }
    println!("\n| processes | slots | granules a second | of those of one slot |\n|---|---|---|---|");
    for (processes, slots, rate) in &rates {
        println!("| {processes} | {slots} | {rate:.1} | {:.2} |", rate / rates[0].2);
    }
}

/// The form of a worker.
#[derive(Clone, Copy)]
struct Shape {
    processes: usize,
    slots: usize,
    /// Number of cores that it may use, which is also its number of threads for computing.
    cores: usize,
}

/// Returns the seconds that a worker takes for `copies` copies of each recipe.
fn run_copies(recipes: &[Recipe], directory: &Path, shape: Shape, copies: usize) -> f64 {
    let Shape { processes, slots, cores } = shape;
    let out = directory.join(format!("slots-{processes}-{slots}-{copies}"));
    let copies = (0..copies).flat_map(|copy| {
        let out = &out;
        recipes.iter().map(move |recipe| {
            let mut recipe = recipe.clone();
            // The name is part of the identity, the destination is not; the copies get their destinations as in lists
            // of EDP.
            let mut name = GranuleName::parse(base_name(&recipe.granule)).expect("a name");
            name.dataset.push_str(&format!("_{copy}"));
            recipe.granule = out.join(name.to_string()).display().to_string();
            recipe.recipe = None;
            recipe
        })
    });
    let copies: Vec<Recipe> = copies.collect();
    let list = directory.join("copies.json");
    std::fs::write(&list, recipe::format_list(&copies).expect("a list")).expect("the list");
    // The number of cores is limited as well as that of the threads: hashing and writing have threads of their own.
    let worker = program("edp-worker");
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(format!("0-{}", cores - 1)).arg(worker.get_program());
    command.arg("make").arg(&list).args(["--output", "json", "--slots", &slots.to_string()]);
    command.args(["--processes", &processes.to_string()]);
    command.env("RAYON_NUM_THREADS", cores.to_string()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("edp-worker");
    // The report has hundreds of kilobytes, so it must be read while it is written.
    let mut output = child.stdout.take().expect("its output");
    let reading = std::thread::spawn(move || std::io::read_to_string(&mut output));
    let (mut peak, mut used) = (0, Duration::ZERO);
    let process = child.id().to_string();
    while child.try_wait().expect("the worker").is_none() {
        peak = peak.max(peak_megabytes(&process));
        used = used.max(processor_time(&process));
        std::thread::sleep(Duration::from_millis(20));
    }
    let report = reading.join().expect("the reader").expect("the worker's report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("the worker's report");
    assert_eq!(count(&report, "made"), copies.len(), "{report}");
    std::fs::remove_dir_all(&out).expect("the copies");
    let seconds = report["seconds"].as_f64().unwrap_or_default();
    println!(
        "| {processes} | {slots} | {cores} | {} | {seconds:.2} | {:.2} | {peak} |",
        copies.len(),
        used.as_secs_f64()
    );
    seconds
}

/// Returns one recipe of each kind.
fn inputs(directory: &Path) -> Vec<Recipe> {
    let list = match (std::env::var_os("EDP_REAL_DATA"), std::env::var_os("EDP_REAL_TOOLS")) {
        (Some(data), Some(tools)) => real::made_up_fields(&PathBuf::from(data), &PathBuf::from(tools), directory),
        _ => {
            expect(coordinator().args(["demo", "--size", "90", "--out"]).arg(directory.join("demo")), 0);
            directory.join("demo/tasks.json")
        }
    };
    let all = recipe::parse_list("list", &std::fs::read(list).expect("the task list")).expect("a task list");
    let mut kinds = BTreeMap::new();
    for recipe in all {
        let name = GranuleName::parse(base_name(&recipe.granule)).expect("a granule name");
        kinds.entry((recipe.dynamic_metadata.dimension.clone(), name.grid, name.dataset)).or_insert(recipe);
    }
    kinds.into_values().collect()
}

/// Measures one granule and prints its line of the table.
fn row(recipe: &Recipe, directory: &Path) {
    let cancel = AtomicBool::new(false);
    let path = directory.join("granule.nc");
    let once = |cache: &Cache| {
        std::fs::File::create(&path).expect("an empty file");
        let stages = Stages::begin();
        let context = MakeContext {
            cache,
            memory: Worker::MEMORY,
            paranoid: false,
            worker: "bench",
            cancel: &cancel,
            stages: &stages,
        };
        let made = make::make(recipe, context, &path).expect("the granule");
        stages.report(made.size)
    };
    let (cold, _) = timed(|| once(&Cache::default()));
    let cache = Cache::default();
    once(&cache); // loads shared resources
    let bytes = std::fs::metadata(&path).expect("the granule").len();
    let fields = values(&path, recipe);
    let megabytes = fields.iter().map(|(_, values)| values.len() * 4).sum::<usize>() as f64 / 1e6;
    let codec = CodecKeys::default().codec();
    let mut floor = Duration::MAX;
    let mut best = (Duration::MAX, Vec::new(), Duration::ZERO);
    for _ in 0..TURNS {
        let compressing = (0..REPEAT).map(|_| timed(|| compress(&codec, &fields)).0);
        floor = compressing.fold(floor, Duration::min);
        for _ in 0..REPEAT {
            let before = processor_time("self");
            let (warm, stages) = timed(|| once(&cache));
            let used = processor_time("self").saturating_sub(before);
            if warm < best.0 {
                best = (warm, stages, used);
            }
        }
    }
    let (warm, stages, used) = best;
    let unknown = (0..TURNS * REPEAT).map(|_| {
        touch(recipe);
        timed(|| once(&cache)).0
    });
    let unknown = unknown.min().unwrap_or_default();
    std::thread::sleep(Duration::from_secs(6)); // until the change is old enough for the digests to be kept
    let plain = directory.join("plain.nc");
    let (library, _) = timed(|| by_library(&plain, &fields));
    let library_bytes = std::fs::metadata(&plain).expect("the plain file").len();
    let name = GranuleName::parse(base_name(&recipe.granule)).expect("a granule name");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let stage = |wanted: &[Stage]| {
        let found = stages.iter().filter(|stage| wanted.iter().any(|wanted| wanted.name() == stage.name));
        found.map(|stage| stage.seconds * 1e3).sum::<f64>()
    };
    println!(
        "| {} {} | {megabytes:.1} | {:.1} | {:.1} | {:.2} | {:.1} | {:.2} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} | {:.2} | {:.2} |",
        name.dataset,
        name.grid,
        ms(floor),
        ms(warm),
        ms(warm) / ms(floor),
        ms(unknown),
        ms(unknown) / ms(floor),
        ms(cold),
        stage(&[Stage::Read]),
        stage(&[Stage::Rotate]),
        stage(&[Stage::Mask, Stage::Regrid]),
        stage(&[Stage::Compress]),
        stage(&[Stage::Write]),
        stage(&[Stage::Hash]),
        stage(&[Stage::Gate]),
        ms(used),
        ms(library),
        bytes as f64 / 1e6,
        library_bytes as f64 / 1e6,
    );
}

/// Changes the inputs of a recipe so that they count as unknown: their inodes change, but not their times of
/// modification, by which they would count as changed since planning.
fn touch(recipe: &Recipe) {
    for path in recipe.variables.values().flatten().flatten() {
        let file = std::fs::File::options().append(true).open(path).expect("an input");
        let modified = file.metadata().and_then(|found| found.modified()).expect("its time");
        file.set_modified(modified).expect("the same time");
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = work();
    (started.elapsed(), result)
}

/// Returns the shapes and values of the data variables.
fn values(path: &Path, recipe: &Recipe) -> Vec<(Vec<usize>, Vec<f32>)> {
    let file = netcdf::open(path).expect("the granule");
    let read = |name: &String| {
        let variable = file.variable(name).expect("the variable");
        let shape = variable.dimensions().iter().map(netcdf::Dimension::len).collect();
        (shape, variable.get_values(..).expect("its values"))
    };
    recipe.variables.keys().map(read).collect()
}

/// Measures the floor: the chunks are compressed, and nothing else is done.
fn compress(codec: &Codec, fields: &[(Vec<usize>, Vec<f32>)]) -> usize {
    let clock = Stages::begin();
    let encode = |(shape, values): &(Vec<usize>, Vec<f32>)| {
        let chunk = chunk_shape(shape, 4);
        let block = Block { values, shape, origin: &vec![0; shape.len()], chunk: &chunk, pad: FILL as f32 };
        let chunks = codec.encode(&block, || (), &clock).expect("chunks");
        chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>()
    };
    fields.iter().map(encode).sum()
}

/// Writes the same values with the netCDF library's own filters.
fn by_library(path: &Path, fields: &[(Vec<usize>, Vec<f32>)]) {
    let _ = std::fs::remove_file(path);
    let mut file = netcdf::create(path).expect("a file");
    for (number, (shape, values)) in fields.iter().enumerate() {
        let names: Vec<String> = (0..shape.len()).map(|d| format!("d{number}_{d}")).collect();
        for (name, length) in names.iter().zip(shape) {
            file.add_dimension(name, *length).expect("a dimension");
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut variable = file.add_variable::<f32>(&format!("v{number}"), &names).expect("a variable");
        variable.set_chunking(&chunk_shape(shape, 4)).expect("chunks");
        variable.set_compression(5, true).expect("filters");
        variable.put_values(values, ..).expect("values");
    }
    file.close().expect("closing");
}

/// Processor time of a process so far.
fn processor_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10) // the kernel counts in hundredths of a second
}

/// The most memory that a process had at once.
fn peak_megabytes(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kilobytes| kilobytes / 1000)
}
