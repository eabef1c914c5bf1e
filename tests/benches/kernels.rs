//! The number of instructions of the kernels for each value, as a guard against the loss of vector instructions and
//! against additional passes.
//!
//! Instructions are counted by valgrind, so the numbers do not depend on the load of the machine; they do depend on the
//! compiler and on the instruction set of the processor. The run fails if a kernel takes more than its limit. Without
//! valgrind nothing is counted, and a message says so.
//!
//! Each kernel runs in a process of its own, once with few and once with many repetitions; the difference is due to the
//! kernel alone.

use edp_demo as demo;
use edp_engine::codec::CodecKeys;
use edp_engine::granule::blocks::Element as _;
use edp_engine::granule::field::{Field, Route};
use edp_engine::granule::kinds::{Direct, Maker, Rotated};
use edp_engine::granule::rotation::Staggering;
use edp_engine::granule::source::Record;
use edp_engine::granule::stages::Stages;
use edp_engine::grid::{LevelSet, Native};
use edp_engine::mapping::Factors;
use edp_engine::mds::{FieldLocation, Header, MdsFile};
use edp_protocol::ChunkShapes;
use edp_protocol::recipe::Orientation;
use edp_tests::expect;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

/// Number of cells along the side of a tile of the grid that is used.
const SIZE: usize = 30;

/// The kernels, the meaning of one value, and the largest number of instructions for it: a quarter above the count at
/// the time when the kernel was last changed.
const KERNELS: [(&str, &str, f64); 4] = [
    ("native", "cell: read, mask, check", 26.0),
    ("latlon", "target cell: read, regrid, check", 27.0),
    ("rotated", "target cell: read both components, rotate, regrid, check", 90.0),
    ("shuffle", "value: bytes grouped for the compressor", 9.0),
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if let (Some(kernel), Some(count), Some(directory)) = (arguments.next(), arguments.next(), arguments.next()) {
        let count = count.parse().expect("a number of repetitions");
        println!("{}", run(&kernel, count, Path::new(&directory)));
        return;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions are not counted: valgrind is not installed");
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    demo::generate(directory.path(), SIZE).expect("the demo's model run");
    println!("| kernel | a value is a | instructions / value | limit |");
    println!("|---|---|---|---|");
    let mut over = Vec::new();
    for (kernel, value, limit) in KERNELS {
        let (few, values) = count(kernel, 1, directory.path());
        let (many, _) = count(kernel, 11, directory.path());
        let each = many.saturating_sub(few) as f64 / 10.0 / values as f64;
        println!("| {kernel} | {value} | {each:.2} | {limit:.1} |");
        if each > limit {
            over.push(kernel);
        }
    }
    assert!(over.is_empty(), "more instructions than the limit: {}", over.join(", "));
}

/// Returns the number of instructions of a process that runs a kernel `repetitions` times, and the number of values of
/// one run.
fn count(kernel: &str, repetitions: usize, directory: &Path) -> (u64, usize) {
    let counts = directory.join("counts");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--log-fd=2"]).arg(format!("--callgrind-out-file={}", counts.display()));
    command.arg(std::env::current_exe().expect("this program")).arg(kernel).arg(repetitions.to_string());
    let output = expect(command.arg(directory).env("RAYON_NUM_THREADS", "1"), 0);
    let text = std::fs::read_to_string(&counts).expect("the counts");
    let summary = text.lines().find_map(|line| line.strip_prefix("summary:").or(line.strip_prefix("totals:")));
    let instructions = summary.and_then(|line| line.trim().parse().ok()).expect("a sum of instructions");
    let values = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of values");
    (instructions, values)
}

/// Runs a kernel and returns the number of values of one run.
fn run(kernel: &str, repetitions: usize, directory: &Path) -> usize {
    let grid = Native::load(&directory.join("grid")).expect("the grid");
    let factors = Factors::open(&directory.join("factors")).expect("the factors");
    let level = factors.level(0, &grid.wet_positions(0)).expect("the weights");
    let targets = factors.shape().0 * factors.shape().1;
    let cancel = AtomicBool::new(false);
    let record = |name: &str| {
        let month: PathBuf = directory.join("results/DEMO/diags_monthly").join(format!("{name}_mon_mean"));
        let stem = month.join(format!("{name}_mon_mean.0000000732"));
        let read = |end: &str| std::fs::read(stem.with_extension(format!("0000000732.{end}"))).expect("model output");
        let (header, data) = (Header::parse("header", &read("meta")).expect("a header"), read("data"));
        let input: Box<dyn edp_files::ReadAt> = Box::new(data);
        let levels = header.levels();
        let found = FieldLocation { record: 0, levels, by_records: false };
        Record::new(MdsFile::open("data", header, input).expect("a pair"), found)
    };
    // The weights of the uppermost level are used for all levels.
    let latlon = || {
        let (level, shape) = (level.clone(), factors.shape().into());
        let levels = Box::new(move |_| Ok(level.clone()));
        Route::Latlon { levels, shape, uncovered_zero: true, directions: None }
    };
    let ranges = |maker: &dyn Maker, levels: Option<usize>, route: Route<'_>| {
        let stages = Stages::begin();
        let levels = levels.map(LevelSet::uppermost);
        let (codec, chunks) = (CodecKeys::default().codec(), ChunkShapes::Edp);
        let field = Field {
            name: kernel,
            maker,
            grid: &grid,
            levels,
            route,
            timed: true,
            codec,
            chunks,
            paranoid: false,
            stages: &stages,
        };
        for _ in 0..repetitions {
            black_box(field.range::<f32>(&cancel).expect("good values"));
        }
    };
    match kernel {
        "native" => {
            ranges(&Direct(record("SSH")), None, Route::Native(&grid.mask_c));
            grid.plane()
        }
        "latlon" => {
            ranges(&Direct(record("SSH")), None, latlon());
            targets
        }
        "rotated" => {
            let (x, y) = (record("UVEL"), record("VVEL"));
            let levels = x.input.header().levels().expect("a 3-D field");
            let (staggering, orientation) = (Staggering::Faces, Orientation::Zonal);
            ranges(&Rotated { x, y, staggering, orientation }, Some(levels), latlon());
            targets * levels
        }
        "shuffle" => {
            let values: Vec<f32> = (0..100_000).map(|i| i as f32 * 0.1).collect();
            for _ in 0..repetitions {
                let mut out = Vec::with_capacity(values.len() * 4);
                f32::bytes(black_box(&values), true, &mut out);
                black_box(out);
            }
            values.len()
        }
        other => panic!("no kernel '{other}'"),
    }
}
