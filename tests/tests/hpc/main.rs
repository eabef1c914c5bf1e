//! Productions by the jobs of a cluster, as a user starts them with the scripts of `deploy/hpc`.

mod broker;
mod pbs;
mod slurm;
mod submit;

use edp_protocol::Digest;
use edp_tests::{Fixture, coordinator, program};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A model run of a size with which a granule takes some time, so that jobs can be disturbed between two of them.
const SIZE: usize = 20;

/// A production that is to be made by jobs.
struct Case {
    fixture: Fixture,
    list: PathBuf,
    out: PathBuf,
}

impl Case {
    fn new() -> Case {
        let fixture = Fixture::new(SIZE);
        let out = fixture.path("out");
        let list = fixture.plan(&out, "tasks.json", &[]);
        fs::create_dir(fixture.path("bin")).unwrap();
        Case { fixture, list, out }
    }

    fn reference(&self) -> BTreeMap<String, Digest> {
        self.fixture.reference()
    }

    /// Returns one of the scripts, which finds the programs as a user's shell does: those of this production first.
    fn script(&self, name: &str) -> Command {
        let mut command = script(name);
        let programs = coordinator();
        let programs = Path::new(programs.get_program()).parent().unwrap();
        let system = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{}:{system}", self.fixture.path("bin").display(), programs.display()));
        command.current_dir(self.fixture.path(""));
        command
    }

    /// Returns the command that submits this production, with one core for each job.
    fn submit(&self, scheduler: &str) -> Command {
        let mut command = self.script("submit");
        command
            .args(["--scheduler", scheduler, "--cpus", "1", "--broker-host", "127.0.0.1", "--tasks"])
            .arg(&self.list);
        command.arg("--root").arg(self.fixture.path(""));
        command
    }

    /// Lets the first call of a program hang once the first granule exists, as on a node that is broken: it is stopped,
    /// and stopped again when a scheduler lets it continue for its end. `first` is a pattern for the call's first word.
    fn hang(&self, name: &str, first: &str) {
        let (real, marker) = (program(name), self.fixture.path(&format!("{name}.hangs")));
        let text = format!(
            "#!/usr/bin/env bash\ncase $1 in {first}) ;; *) exec '{real}' \"$@\" ;; esac\n\
             mkdir '{marker}' 2>/dev/null || exec '{real}' \"$@\"\n\
             trap '' TERM\n'{real}' \"$@\" &\n\
             until [ -n \"$(find '{out}' -name '*.nc' -print -quit 2>/dev/null)\" ]; do sleep 0.01; done\n\
             touch '{marker}/stopped'\n\
             while kill -STOP $! 2>/dev/null; do sleep 0.01; done\n",
            real = real.get_program().display(),
            marker = marker.display(),
            out = self.out.display(),
        );
        let path = self.fixture.path("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Returns a file of the run directory, empty if there is none.
    fn of_run(&self, name: &str) -> String {
        fs::read_to_string(self.fixture.path("edp-default").join(name)).unwrap_or_default()
    }

    /// Returns the logs of all jobs, for messages.
    fn logs(&self) -> String {
        let mut text = self.of_run("progress");
        for entry in fs::read_dir(self.fixture.path("edp-default/log")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            text += &format!("---- {}\n{log}\n", entry.path().display());
        }
        text
    }
}

/// Returns one of the scripts of `deploy/hpc`.
fn script(name: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/hpc");
    program(scripts.join(name).to_str().unwrap())
}

/// Returns the command lines of the processes that were started by `deploy/hpc/broker` for a node below a directory.
fn of_brokers(directory: &Path) -> Vec<String> {
    let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let variable = format!("EDP_BROKER_DIRECTORY={}", directory.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.filter(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|text| text.starts_with(variable.as_bytes()))
    });
    ours.map(|process| fs::read_to_string(process.path().join("cmdline")).unwrap_or_default()).collect()
}
