//! The shared parts of the end-to-end tests: a made-up model run, and the two programs, started as a user would.

pub mod broker;
pub mod certificates;
pub mod collector;
pub mod derived;
pub mod imds;
pub mod layouts;
pub mod null;
pub mod parsers;
pub mod proxy;
pub mod real;
pub mod s3;
pub mod scrape;
pub mod shuffled;
mod started;
pub mod strace;
pub mod timeless;

pub use started::Started;

use edp_demo::{self as demo, Demo};
use edp_production::snapshots;
use edp_protocol::Digest;
use edp_protocol::recipe::Recipe;
use edp_protocol::wire::{self, ExistingCheck, TaskMessage};
use edp_queue::Message;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory with a small made-up model run, and everything that is needed to make granules from it.
pub struct Fixture {
    /// The paths of the made-up files.
    pub demo: Demo,
    directory: tempfile::TempDir,
}

impl Fixture {
    /// Makes a model run on a grid of 13 tiles of N x N cells, with three months of output.
    pub fn new(size: usize) -> Fixture {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let demo = demo::generate(&directory.path().join("model"), size).expect("the demo's model run");
        Fixture { demo, directory }
    }

    /// Returns a path in the fixture's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the options of `plan` and `run` for this model run.
    pub fn options(&self, destination: &Path) -> Vec<String> {
        let pairs = [
            ("--jobs", self.demo.jobs.as_path()),
            ("--config", &self.demo.configuration),
            ("--source", &self.demo.results),
            ("--destination", destination),
            ("--grid", &self.demo.grid),
            ("--mapping-factors", &self.demo.factors),
            ("--metadata", &self.demo.metadata),
        ];
        pairs.into_iter().flat_map(|(option, path)| [option.to_owned(), path.display().to_string()]).collect()
    }

    /// Plans all granules for a destination. The task list is kept in the fixture's directory.
    pub fn plan(&self, destination: &Path, list: &str, more: &[&str]) -> PathBuf {
        let list = self.path(list);
        let output = coordinator()
            .arg("plan")
            .env("SOURCE_DATE_EPOCH", "1577836800") // 2020-01-01
            .args(self.options(destination))
            .args(more)
            .arg("--tasks-out")
            .arg(&list)
            .output()
            .expect("edp-coordinator plan");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        list
    }

    /// Returns all granules as one undisturbed process makes them.
    pub fn reference(&self) -> BTreeMap<String, Digest> {
        let out = self.path("reference");
        let list = self.plan(&out, "reference.json", &[]);
        expect(program("edp-worker").arg("make").arg(list), 0);
        files(&out)
    }
}

/// A model run, and the granules that one undisturbed process makes from it.
pub struct Site {
    /// The model run.
    pub fixture: Fixture,
    /// The granules.
    pub reference: BTreeMap<String, Digest>,
}

impl Site {
    /// Makes both, on a grid of 13 tiles of N x N cells. The larger the grid, the longer it takes to make a granule.
    pub fn new(size: usize) -> Site {
        let fixture = Fixture::new(size);
        let reference = fixture.reference();
        Site { fixture, reference }
    }

    /// Plans all granules for a destination of this name. Returns the task list and the destination.
    pub fn plan(&self, name: &str) -> (PathBuf, PathBuf) {
        let out = self.fixture.path(name);
        (self.fixture.plan(&out, &format!("{name}.json"), &[]), out)
    }

    /// Checks that a destination has all granules, byte for byte.
    ///
    /// # Panics
    /// Panics if it has others, or too few.
    pub fn assert_whole(&self, out: &Path) {
        assert!(files(out) == self.reference, "{}: other bytes", out.display());
    }
}

/// Returns a command for the coordinator, without the settings in the environment of the test.
pub fn coordinator() -> Command {
    program("edp-coordinator")
}

/// Returns a command for a program of this workspace, which was built next to the running test.
///
/// # Panics
/// Panics if the program does not exist: `cargo build --workspace` builds it; `make test` does so by itself.
pub fn program(name: &str) -> Command {
    let test = std::env::current_exe().expect("the path of the running test");
    let directory = test.parent().and_then(Path::parent).expect("target/<profile>");
    let path = directory.join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace` first", path.display());
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        let others = ["RUST_LOG", "SOURCE_DATE_EPOCH", "SLURM_JOB_END_TIME"];
        if name.starts_with("EDP_") || name.starts_with("OTEL_") || others.contains(&&*name) {
            command.env_remove(variable);
        }
    }
    command
}

/// Returns everything that a program printed, for messages.
pub fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a program to its end and checks its exit status.
///
/// # Panics
/// Panics if the program cannot be started or has another exit status.
pub fn expect(command: &mut Command, status: i32) -> Output {
    let output = command.output().expect("the program starts");
    assert_eq!(output.status.code(), Some(status), "{command:?}\n{}", text(&output));
    output
}

/// Returns the JSON object that a program printed.
///
/// # Panics
/// Panics if it printed something else.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(output)))
}

/// Returns the header of a result with another time step, and with the time of its end if a step takes an hour.
///
/// # Panics
/// Panics if the header has no step or no time.
pub fn header_of_step(header: &str, step: u64) -> String {
    let with = |header: &str, key: &str, value: u64| {
        let line = header.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("no {key}: {header}"));
        header.replace(line, &format!(" {key} = [ {value} ];"))
    };
    with(&with(header, "timeStepNumber", step), "timeInterval", step * 3600)
}

/// Returns the number of granules in a report that are in a state.
pub fn count(outcome: &serde_json::Value, state: &str) -> usize {
    outcome["entries"].as_array().map_or(0, |entries| entries.iter().filter(|e| e["state"] == state).count())
}

/// Longest time that anything may take on a busy machine before it counts as hanging.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Waits until a condition holds. `what` describes it in messages.
///
/// # Panics
/// Panics if it does not hold within two minutes.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Returns the first task message of a recipe that was completed by a plan.
///
/// # Panics
/// Panics if it cannot be encoded.
pub fn task(recipe: &Recipe) -> Message {
    let id = &recipe.plan().expect("a plan").id;
    Message::new(task_naming(recipe, id).encode().expect("a task message"), wire::CONTENT_TYPE, id)
}

/// Returns the first task message of a recipe, with any text in place of the recipe's id.
///
/// # Panics
/// Panics if the recipe cannot be encoded.
pub fn task_naming(recipe: &Recipe, id: &str) -> TaskMessage {
    TaskMessage {
        production: "default".into(),
        recipe_id: id.into(),
        attempt: 1,
        alone: false,
        deadline: 0,
        look: ExistingCheck::Content,
        recipe: wire::json(recipe).expect("a recipe"),
    }
}

/// Changes an input and keeps its time of modification, by which a change after planning is noticed.
///
/// # Panics
/// Panics if there is no such file.
pub fn keeping_age<T>(path: &Path, change: impl FnOnce(&Path) -> T) -> T {
    let modified = std::fs::metadata(path).and_then(|found| found.modified()).expect("a file");
    let changed = change(path);
    if let Ok(file) = std::fs::File::options().write(true).open(path) {
        file.set_modified(modified).expect("a time");
    }
    changed
}

/// Returns the digests of all files below a directory by their relative paths, except for files that vanish in the
/// meantime, as partial files do, and for the copies of ledgers at a destination.
pub fn files(root: &Path) -> BTreeMap<String, Digest> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.expect("a directory entry").path();
            if path.file_name().is_some_and(|name| name == snapshots::DIRECTORY) {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else {
                let bytes = match std::fs::read(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                    read => read.expect("a readable file"),
                };
                let name = path.strip_prefix(root).expect("below the root").display().to_string();
                found.insert(name, Digest::of(&bytes));
            }
        }
    }
    found
}

/// Sends a signal, by its name without `SIG`, to a process.
///
/// # Panics
/// Panics if there is no such process.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &process.to_string()]).status().expect("kill");
    assert!(sent.success(), "{name} to the process {process}: {sent}");
}

/// Returns a global attribute of a granule: a text as it is, anything else with its type; `None` if there is none.
///
/// # Panics
/// Panics if it cannot be read.
pub fn global(granule: &netcdf::File, name: &str) -> Option<String> {
    match granule.attribute(name)?.value().expect("an attribute") {
        netcdf::AttributeValue::Str(text) => Some(text),
        other => Some(format!("{other:?}")),
    }
}

/// Reports that a test cannot run here, since a tool is missing that `make deps` installs. Where `CI` is set, as
/// `.ci/run` does, this is a failure.
pub fn not_run(why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{why}: run `make deps` (only where CI is not set, the test may be left out)"
    );
    eprintln!("not run: {why}");
}

/// Reports that a test cannot run here, since its user may not do what it needs: this cannot be installed.
pub fn not_permitted(why: &str) {
    eprintln!("not run: {why}");
}
