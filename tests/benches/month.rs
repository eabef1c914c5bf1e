//! What one month of Release 6 costs: all datasets on both grids, the means of the month and those of its days.
//!
//! The fields are made up, on the grid of ECCO V4 (LLC90, 50 levels), with the groupings, the metadata and the
//! configuration of Release 6; `EDP_REAL_DATA` has all of these. The means of the month are one production, and those of
//! each day another one: each is planned, made and verified by the program as a user would start it, in one process, with
//! as many slots as there are cores and with a ledger. Its granules are counted and then removed, so there is never more on the
//! disk than the fields and the granules of one step. Without the data the demo's datasets are made instead.
//!
//! Settings: `DAYS` (31) is the number of days that are made; from fewer, the month is extrapolated. `CORE_HOUR_USD` and
//! `GB_MONTH_USD` are the rates of the prices.

use edp_engine::mds::MdsFile;
use edp_engine::metadata::source::Metadata;
use edp_protocol::Frequency;
use edp_protocol::name::{GranuleName, base_name};
use edp_protocol::recipe::{self, Recipe};
use edp_protocol::vocabulary::GridKind;
use edp_tests::coordinator;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Number of days of the month that is made, January 1992.
const DAYS: u32 = 31;

/// Number of months of Release 6.
const MONTHS: u32 = 408;

fn main() {
    let days = setting("DAYS", f64::from(DAYS)) as u32;
    assert!((1..=DAYS).contains(&days), "DAYS is {days}, and can be 1 to {DAYS}");
    let rates = Rates { core_hour: setting("CORE_HOUR_USD", 0.05), gigabyte_month: setting("GB_MONTH_USD", 0.023) };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = std::env::var_os("EDP_REAL_DATA").map(PathBuf::from).filter(|data| data.is_dir());
    if data.is_none() {
        println!("Release 6 needs EDP_REAL_DATA, which names no folder: these are the demo's datasets.");
        println!("They have 10 levels, and EDP's costs are those of 50, so the last columns compare nothing.\n");
    }
    println!("{} cores, and as many slots\n", cores());
    println!(
        "| production | granules | plan s | wall s | CPU s | read GB | written GB | granules GB | granules a second | peak memory MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let Some(data) = data else {
        let made = demo(directory.path());
        let cost = made.cost();
        print_kinds(&made.granules);
        return print_prices(&[("the demo".to_owned(), cost)], rates);
    };
    let release = Release::new(&data, directory.path());
    // The run begins at noon, and a step is an hour: the first month ends with step 732, the first day with step 12.
    let month = release.make("means of the month", Frequency::Month, 732);
    let day = |day| release.make(&format!("means of day {}", day + 1), Frequency::Day, 12 + 24 * day);
    let daily = (0..days).map(day).fold(Production::default(), Production::plus);
    let whole = month.cost().plus(daily.cost().times(f64::from(DAYS) / f64::from(days)));
    let all = month.plus(daily);
    print_kinds(&all.granules);
    let from = format!("extrapolated from {days} of {DAYS} days");
    let of_month = if days == DAYS { "the month, as made".to_owned() } else { format!("the month, {from}") };
    print_prices(
        &[
            (format!("as made: means of the month, and of {days} of its {DAYS} days"), all.cost()),
            (of_month, whole),
            (format!("all of Release 6, extrapolated: {MONTHS} such months"), whole.times(f64::from(MONTHS))),
        ],
        rates,
    );
    println!("\nFor all months of Release 6, EDP is said to take 2 to 5 days.");
}

/// Returns the number of cores, which is also that of slots.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns a setting of the environment.
fn setting(name: &str, default: f64) -> f64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is not a number"))
}

/// What things cost, in US dollars.
#[derive(Clone, Copy)]
struct Rates {
    core_hour: f64,
    gigabyte_month: f64,
}

/// What a command took.
#[derive(Clone, Copy, Default)]
struct Usage {
    wall: Duration,
    /// Processor time of the command and of all its processes.
    processor: Duration,
    read: u64,
    written: u64,
    /// The most memory that it had at once.
    megabytes: u64,
}

impl Usage {
    fn plus(self, other: Usage) -> Usage {
        Usage {
            wall: self.wall + other.wall,
            processor: self.processor + other.processor,
            read: self.read + other.read,
            written: self.written + other.written,
            megabytes: self.megabytes.max(other.megabytes),
        }
    }
}

/// The granules of one kind.
#[derive(Clone, Copy, Default)]
struct Granules {
    count: usize,
    bytes: u64,
    /// What EDP takes for them.
    edp_seconds: f64,
}

impl Granules {
    fn plus(self, other: Granules) -> Granules {
        Granules {
            count: self.count + other.count,
            bytes: self.bytes + other.bytes,
            edp_seconds: self.edp_seconds + other.edp_seconds,
        }
    }
}

/// One production, or the sum of several.
#[derive(Clone, Default)]
struct Production {
    granules: BTreeMap<String, Granules>,
    usage: Usage,
}

impl Production {
    fn plus(mut self, other: Production) -> Production {
        for (kind, granules) in other.granules {
            let sum = self.granules.entry(kind).or_default();
            *sum = sum.plus(granules);
        }
        Production { usage: self.usage.plus(other.usage), ..self }
    }

    fn cost(&self) -> Cost {
        let sum = self.granules.values().copied().fold(Granules::default(), Granules::plus);
        Cost {
            granules: sum.count as f64,
            wall: self.usage.wall.as_secs_f64(),
            core_hours: self.usage.processor.as_secs_f64() / 3600.0,
            read: self.usage.read as f64 / 1e9,
            stored: sum.bytes as f64 / 1e9,
            edp_core_hours: sum.edp_seconds / 3600.0,
        }
    }
}

/// What a number of granules costs, in units of people who pay for it.
#[derive(Clone, Copy)]
struct Cost {
    granules: f64,
    wall: f64,
    core_hours: f64,
    read: f64,
    stored: f64,
    edp_core_hours: f64,
}

impl Cost {
    fn plus(self, other: Cost) -> Cost {
        Cost {
            granules: self.granules + other.granules,
            wall: self.wall + other.wall,
            core_hours: self.core_hours + other.core_hours,
            read: self.read + other.read,
            stored: self.stored + other.stored,
            edp_core_hours: self.edp_core_hours + other.edp_core_hours,
        }
    }

    fn times(self, factor: f64) -> Cost {
        Cost {
            granules: self.granules * factor,
            wall: self.wall * factor,
            core_hours: self.core_hours * factor,
            read: self.read * factor,
            stored: self.stored * factor,
            edp_core_hours: self.edp_core_hours * factor,
        }
    }
}

/// Returns the kind of a recipe, and the processor seconds that EDP takes for it.
///
/// EDP was measured for one granule of each kind with 50 levels: sea surface height (3.8 on the native grid, 5.6 on the other),
/// temperature and salinity (9, and 52 at least), and rotated velocity (67). Of these, 2.5 are taken for its start. The rest of a
/// 3-D granule grows with its variables, two in the former and three in the latter; a 2-D one counts as one, however many it has.
fn kind(recipe: &Recipe) -> (String, f64) {
    const START: f64 = 2.5;
    let name = GranuleName::parse(base_name(&recipe.granule)).expect("a granule name");
    let rotated = recipe.variables.values().any(|inputs| inputs.len() > 1);
    let count = recipe.variables.len() as f64;
    let deep = recipe.dynamic_metadata.dimension == "3D";
    let seconds = match (name.grid, deep) {
        (GridKind::Latlon, false) => 5.6,
        (_, false) => 3.8,
        (GridKind::Latlon, true) if rotated => START + count * (67.0 - START) / 3.0,
        (GridKind::Latlon, true) => START + count * (52.0 - START) / 2.0,
        (_, true) => START + count * (9.0 - START) / 2.0,
    };
    let words = (if deep { "3-D" } else { "2-D" }, if rotated { ", rotated" } else { "" });
    (format!("{} {}{}", words.0, name.grid, words.1), seconds)
}

fn print_kinds(all: &BTreeMap<String, Granules>) {
    println!("\n| granules | number | GB | EDP's CPU s for each |\n|---|---|---|---|");
    for (kind, Granules { count, bytes, edp_seconds }) in all {
        println!("| {kind} | {count} | {:.2} | {:.1} |", *bytes as f64 / 1e9, edp_seconds / *count as f64);
    }
}

fn print_prices(rows: &[(String, Cost)], rates: Rates) {
    let Rates { core_hour, gigabyte_month } = rates;
    println!(
        "\nFiles are local, so no requests are paid for. The hours are those of this machine under its load. EDP's costs follow from its measured processor seconds, for the same list at the same rate.\n"
    );
    println!(
        "| | granules | hours | read GB | core-hours | USD at {core_hour} a core-hour | granules GB | USD a month at {gigabyte_month} a GB | EDP core-hours | EDP USD | EDP / this program |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, cost) in rows {
        println!(
            "| {name} | {:.0} | {:.3} | {:.1} | {:.3} | {:.4} | {:.1} | {:.3} | {:.2} | {:.3} | {:.0} |",
            cost.granules,
            cost.wall / 3600.0,
            cost.read,
            cost.core_hours,
            cost.core_hours * core_hour,
            cost.stored,
            cost.stored * gigabyte_month,
            cost.edp_core_hours,
            cost.edp_core_hours * core_hour,
            cost.edp_core_hours / cost.core_hours,
        );
    }
}

/// The inputs of Release 6, with made-up fields.
struct Release<'a> {
    directory: &'a Path,
    data: &'a Path,
    /// The variables that the model writes.
    variables: Vec<String>,
    /// The text of each variable's header.
    headers: Vec<String>,
}

impl<'a> Release<'a> {
    fn new(data: &'a Path, directory: &'a Path) -> Release<'a> {
        let (metadata, _) = Metadata::load(&data.join("metadata/V4r6")).expect("the metadata of Release 6");
        let mut levels = BTreeMap::new();
        for (grid, grouping) in metadata.on_grids().flat_map(|(grid, all)| all.iter().map(move |one| (grid, one))) {
            if ![Frequency::Day, Frequency::Month].iter().any(|frequency| grouping.offers(*frequency)) {
                continue;
            }
            for field in &grouping.fields {
                for source in grouping.kind(field, grid).expect("a kind of variable").sources(field) {
                    levels.insert(source.to_owned(), if grouping.dimension == "3D" { 50 } else { 1 });
                }
            }
        }
        let grid = directory.join("grid");
        fs::create_dir(&grid).expect("the grid's directory");
        for entry in fs::read_dir(data.join("V4r4/grid_ECCOV4r4")).expect("the grid of Release 4") {
            let entry = entry.expect("a file of the grid");
            if entry.file_name() != "available_diagnostics.log" {
                symlink(entry.path(), grid.join(entry.file_name())).expect("a link");
            }
        }
        let list = "available_diagnostics.log";
        symlink(data.join("V4r6").join(list), grid.join(list)).expect("a link");
        let ocean = Ocean::read(&grid);
        let fields = directory.join("fields");
        fs::create_dir(&fields).expect("the fields' directory");
        let mut headers = Vec::new();
        for (name, levels) in &levels {
            // The two pressures, and what is derived from them, are the only ones in double precision.
            let double = name.starts_with("OBP");
            fs::write(fields.join(name), ocean.field(name, *levels, double)).expect("a field");
            headers.push(header(name, *levels, double));
        }
        Release { directory, data, variables: levels.into_keys().collect(), headers }
    }

    /// Makes all granules of one step.
    fn make(&self, title: &str, frequency: Frequency, step: u32) -> Production {
        let (word, stream) = match frequency {
            Frequency::Month => ("mon_mean", "diags_monthly"),
            _ => ("day_mean", "diags_daily"),
        };
        let results = self.directory.join("results");
        for (variable, header) in self.variables.iter().zip(&self.headers) {
            let series = results.join("V4r6").join(stream).join(format!("{variable}_{word}"));
            fs::create_dir_all(&series).expect("a directory of results");
            let [meta, values] = MdsFile::<fs::File>::pair(&series.join(format!("{variable}_{word}.{step:010}")));
            fs::write(meta, format!("{header} timeStepNumber = [ {step} ];\n")).expect("a header");
            fs::hard_link(self.directory.join("fields").join(variable), values).expect("a link to the field");
        }
        let mut plan = coordinator();
        plan.args(["plan", "--dataset", "all", "--frequency"]);
        plan.arg(if frequency == Frequency::Month { "month" } else { "day" });
        for (option, path) in [
            ("--source", results.clone()),
            ("--grid", self.directory.join("grid")),
            ("--mapping-factors", self.data.join("V4r4/mapping_factors")),
            ("--metadata", self.data.join("metadata/V4r6")),
            ("--config", self.data.join("config/product_generation_config_V4r6.yaml")),
        ] {
            plan.arg(option).arg(path);
        }
        let made = produce(title, &mut plan, self.directory);
        fs::remove_dir_all(results).expect("the results");
        made
    }
}

/// Makes the granules of the demo.
fn demo(directory: &Path) -> Production {
    let inputs = edp_demo::generate(&directory.join("inputs"), 90).expect("the demo's inputs");
    let mut plan = coordinator();
    plan.arg("plan");
    for (option, path) in [
        ("--jobs", inputs.jobs),
        ("--config", inputs.configuration),
        ("--source", inputs.results),
        ("--grid", inputs.grid),
        ("--mapping-factors", inputs.factors),
        ("--metadata", inputs.metadata),
    ] {
        plan.arg(option).arg(path);
    }
    produce("the demo", &mut plan, directory)
}

/// Plans, makes, counts and removes granules. `plan` lacks the destination and the list. `run` fails unless
/// all granules were made and found good.
fn produce(title: &str, plan: &mut Command, directory: &Path) -> Production {
    let (list, out, ledger) = (directory.join("tasks.json"), directory.join("granules"), directory.join("ledger"));
    let planning = measured(plan.arg("--destination").arg(&out).arg("--tasks-out").arg(&list), directory);
    let recipes = recipe::parse_list("list", &fs::read(&list).expect("the list")).expect("a task list");
    let mut run = coordinator();
    run.arg("run").arg(&list).arg("--ledger").arg(&ledger).args(["--slots", &cores().to_string()]);
    let running = measured(&mut run, directory);
    let mut granules: BTreeMap<String, Granules> = BTreeMap::new();
    for recipe in &recipes {
        let (kind, edp_seconds) = kind(recipe);
        let bytes = fs::metadata(&recipe.granule).expect("the granule").len();
        let sum = granules.entry(kind).or_default();
        *sum = sum.plus(Granules { count: 1, bytes, edp_seconds });
    }
    fs::remove_dir_all(out).expect("the granules");
    for path in fs::read_dir(directory).expect("the directory").flatten().map(|entry| entry.path()) {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ledger")) && path.is_file() {
            fs::remove_file(path).expect("the ledger");
        }
    }
    let made = Production { granules, usage: planning.plus(running) };
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    println!(
        "| {title} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
        recipes.len(),
        planning.wall.as_secs_f64(),
        made.usage.wall.as_secs_f64(),
        made.usage.processor.as_secs_f64(),
        gigabytes(made.usage.read),
        gigabytes(made.usage.written),
        made.cost().stored,
        recipes.len() as f64 / made.usage.wall.as_secs_f64(),
        made.usage.megabytes,
    );
    made
}

/// Runs a command to its end and measures it (Linux).
fn measured(command: &mut Command, directory: &Path) -> Usage {
    let log = directory.join("log");
    let file = fs::File::create(&log).expect("a log");
    command.stdout(file.try_clone().expect("the same file")).stderr(file);
    let (before, started) = (processor_time_of_children(), Instant::now());
    let mut child = command.spawn().expect("edp-coordinator");
    let process = PathBuf::from("/proc").join(child.id().to_string());
    let mut usage = Usage::default();
    let status = loop {
        let figure = |file: &str, key: &str| {
            let text = fs::read_to_string(process.join(file)).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        usage.read = usage.read.max(figure("io", "rchar:"));
        usage.written = usage.written.max(figure("io", "wchar:"));
        usage.megabytes = usage.megabytes.max(figure("status", "VmHWM:") / 1000);
        if let Some(status) = child.try_wait().expect("the program's end") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    usage.wall = started.elapsed();
    usage.processor = processor_time_of_children().saturating_sub(before);
    assert!(status.success(), "{command:?}\n{}", fs::read_to_string(&log).unwrap_or_default());
    usage
}

/// Processor time of all processes that this one has started and that have ended, with the processes which those started.
fn processor_time_of_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10) // the kernel counts in hundredths of a second
}

/// Returns the text of a header, but for the step.
fn header(name: &str, levels: usize, double: bool) -> String {
    let third = if levels > 1 { format!(",\n {levels}, 1, {levels}") } else { String::new() };
    format!(
        " nDims = [ {} ];\n dimList = [\n 90, 1, 90,\n 1170, 1, 1170{third}\n ];\n dataprec = [ 'float{}' ];\n \
         nrecords = [ 1 ];\n nFlds = [ 1 ];\n fldList = {{\n '{name:8}'\n }};\n",
        if levels > 1 { 3 } else { 2 },
        if double { 64 } else { 32 },
    )
}

/// The cells of the grid, in the order of the model's files.
struct Ocean {
    /// Longitude and latitude in radians.
    centres: Vec<(f64, f64)>,
    /// Whether a cell has water, level by level.
    wet: Vec<bool>,
}

impl Ocean {
    fn read(grid: &Path) -> Ocean {
        let array = |name: &str| {
            let file = MdsFile::open_pair(&grid.join(name)).expect("a file of the grid");
            file.read_record(0).expect("its values").into_f32()
        };
        let radians = |degrees: f32| f64::from(degrees).to_radians();
        let centres = array("XC").into_iter().zip(array("YC")).map(|(x, y)| (radians(x), radians(y))).collect();
        Ocean { centres, wet: array("hFacC").into_iter().map(|share| share > 0.0).collect() }
    }

    /// Returns the bytes of a smooth field, 0 on land. Each variable has a field of its own, by its name.
    #[expect(clippy::disallowed_methods, reason = "only costs are measured: last bits may differ between platforms")]
    fn field(&self, name: &str, levels: usize, double: bool) -> Vec<u8> {
        let phase = name.bytes().fold(0.0, |phase, byte| (phase * 1.7 + f64::from(byte)) % std::f64::consts::TAU);
        let patterns: Vec<(f64, f64)> = self
            .centres
            .iter()
            .map(|(x, y)| {
                let broad = y.cos() * (1.0 + 0.3 * (3.0 * x + phase).sin());
                (broad, (9.0 * y + phase).sin() * (7.0 * x + 2.0 * phase).cos())
            })
            .collect();
        let mut bytes = Vec::with_capacity(levels * patterns.len() * 8);
        for (level, wet) in self.wet.chunks_exact(patterns.len()).take(levels).enumerate() {
            let depth = level as f64;
            let shares = ((-depth / 12.0).exp(), 0.3 * (depth / 9.0 + phase).cos());
            for ((broad, fine), wet) in patterns.iter().zip(wet) {
                let value = if *wet { 10.0 * (broad * shares.0 + fine * shares.1) } else { 0.0 };
                if double {
                    bytes.extend(value.to_be_bytes());
                } else {
                    bytes.extend((value as f32).to_be_bytes());
                }
            }
        }
        bytes
    }
}
