//! Bad input of every kind, end to end: it is named, makes only its own granules fail, and leaves nothing behind.

mod changes;
mod destination;
mod factors;
mod inputs;
mod special;
mod texts;

use edp_protocol::recipe::{self, Recipe};
use edp_tests::{Fixture, coordinator, count, files, json, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A small grid, so that a production takes a second, but with all 13 tiles.
const SIZE: usize = 8;

/// One dataset on both grids at one time, for cases that affect all granules alike.
const TWO_GRANULES: &str = "[0,'native','AVG_MON',[732]]\n[0,'latlon','AVG_MON',[732]]\n";

/// A made-up model run that a test is going to damage, and the list of its granules.
struct Production {
    fixture: Fixture,
    out: PathBuf,
    list: PathBuf,
}

/// The report of a run, and the production.
struct Ended {
    report: serde_json::Value,
    stderr: String,
}

impl Production {
    /// Makes a production of everything that the demo has: 24 granules.
    fn new() -> Production {
        let fixture = Fixture::new(SIZE);
        let (out, list) = (fixture.path("out"), fixture.path("tasks.json"));
        Production { fixture, out, list }
    }

    /// Makes a production of two granules: one native, one latlon.
    fn small() -> Production {
        let production = Production::new();
        fs::write(&production.fixture.demo.jobs, TWO_GRANULES).unwrap();
        production
    }

    /// Returns the `.data` file of a variable at a step of the demo: 732, 1428 or 2172.
    fn data(&self, variable: &str, step: u32) -> PathBuf {
        let name = format!("{variable}_mon_mean");
        self.fixture.demo.results.join("DEMO/diags_monthly").join(&name).join(format!("{name}.{step:010}.data"))
    }

    /// Returns the header of that file.
    fn meta(&self, variable: &str, step: u32) -> PathBuf {
        self.data(variable, step).with_extension("meta")
    }

    /// Plans, and returns what was printed.
    fn plan(&self) -> String {
        let said = self.try_plan(0);
        assert!(self.list.exists(), "{said}");
        said
    }

    /// Plans, and checks the exit status.
    fn try_plan(&self, status: i32) -> String {
        let mut command = coordinator();
        command.arg("plan").env("SOURCE_DATE_EPOCH", "1577836800").args(self.fixture.options(&self.out));
        let output = command.arg("--tasks-out").arg(&self.list).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        calm(&output);
        text(&output)
    }

    fn recipes(&self) -> Vec<Recipe> {
        recipe::parse_list("list", &fs::read(&self.list).unwrap()).unwrap()
    }

    /// Returns the granules that need a file or the other file of its pair.
    fn users(&self, input: &Path) -> Vec<String> {
        let [data, meta] = ["data", "meta"].map(|end| input.with_extension(end).display().to_string());
        let uses = |recipe: &&Recipe| {
            recipe.variables.values().flatten().flatten().any(|input| *input == data || *input == meta)
        };
        self.recipes().iter().filter(uses).map(|recipe| recipe.granule.clone()).collect()
    }

    /// Runs the list to its end, and checks what must hold for every run.
    fn run(&self, status: i32) -> Ended {
        let mut command = coordinator();
        command.arg("run").arg(&self.list).args(["--output", "json"]);
        self.run_as(command, status)
    }

    fn run_as(&self, mut command: Command, status: i32) -> Ended {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
        calm(&output);
        assert_eq!(temporary(&self.out), [""; 0]);
        Ended { report: json(&output), stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

impl Ended {
    fn count(&self, state: &str) -> usize {
        count(&self.report, state)
    }

    /// Returns the granules in a state, with the reasons.
    fn reasons(&self, state: &str) -> Vec<(String, String)> {
        let entries = self.report["entries"].as_array().unwrap().iter().filter(|entry| entry["state"] == state);
        let text = |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        entries.map(|entry| (text(entry, "granule"), text(entry, "reason"))).collect()
    }

    /// Checks that all granules failed or were made, and that the reasons contain all these texts. Returns the number
    /// that failed.
    fn failed_with(&self, words: &[&str]) -> usize {
        let failed = self.reasons("failed");
        assert!(!failed.is_empty(), "{}", self.report);
        for (granule, reason) in &failed {
            for word in words {
                assert!(reason.contains(word), "{granule}: '{word}' is not in: {reason}");
            }
        }
        let all = self.report["entries"].as_array().unwrap().len();
        assert_eq!(failed.len() + self.count("made"), all, "{}", self.report);
        failed.len()
    }
}

/// Checks that nothing panicked and that no message for programmers was printed.
fn calm(output: &Output) {
    let said = text(output);
    for word in ["panicked", "RUST_BACKTRACE", "HDF5-DIAG", "please report", "memory allocation"] {
        assert!(!said.contains(word), "{said}");
    }
}

/// Returns the files below a directory that are not granules.
fn temporary(root: &Path) -> Vec<String> {
    files(root).into_keys().filter(|name| !name.ends_with(".nc")).collect()
}

/// Returns the text of a path.
fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Changes the bytes of a file.
fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    edp_tests::keeping_age(path, |path| fs::write(path, bytes)).unwrap();
}

/// Replaces a text in a file, which must contain it.
fn replace(path: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(old), "{}: no '{old}' in {text}", path.display());
    edp_tests::keeping_age(path, |path| fs::write(path, text.replace(old, new))).unwrap();
}

/// Returns a program with limited address space, in MiB. A process that asks for more does not get it, and ends.
fn with_memory(program: &Command, limit: usize) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {} && exec \"$@\"", limit * 1024);
    // These settings reduce the address space that is reserved beyond its use: one arena of the C library, two threads.
    command.args(["-c", &script, "sh"]).env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "2");
    command.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}
