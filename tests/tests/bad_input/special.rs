//! FIFOs, sockets and devices in place of every kind of file: each is named and refused, and nothing blocks on it.
//! Input that a user pipes into a command on purpose is read.

use super::{Production, calm, shown};
use edp_tests::{coordinator, files, program, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A special file on which a program must not block.
#[derive(Clone, Copy)]
enum Kind {
    Fifo,
    Socket,
    Device,
}

const KINDS: [Kind; 3] = [Kind::Fifo, Kind::Socket, Kind::Device];

impl Kind {
    /// Returns its name in messages.
    fn word(self) -> &'static str {
        match self {
            Kind::Fifo => "a FIFO",
            Kind::Socket => "a socket",
            Kind::Device => "a device",
        }
    }
}

/// A special file at a path, as long as this value lives; then the original is restored.
struct Put {
    path: PathBuf,
    aside: PathBuf,
}

impl Put {
    fn new(path: &Path, kind: Kind) -> Put {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".aside");
        let put = Put { path: path.to_owned(), aside: aside.into() };
        if put.path.exists() {
            fs::rename(&put.path, &put.aside).unwrap();
        }
        match kind {
            Kind::Fifo => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
            // The paths of sockets must be short.
            Kind::Socket => {
                let short = tempfile::tempdir().unwrap();
                drop(UnixListener::bind(short.path().join("s")).unwrap());
                let moved = Command::new("mv").arg(short.path().join("s")).arg(path).status().unwrap();
                assert!(moved.success());
            }
            // A terminal, or a device like it, could be read forever.
            Kind::Device => symlink("/dev/zero", path).unwrap(),
        }
        put
    }
}

impl Drop for Put {
    fn drop(&mut self) {
        fs::remove_file(&self.path).unwrap();
        if self.aside.exists() {
            fs::rename(&self.aside, &self.path).unwrap();
        }
    }
}

/// Runs a program that must not block: otherwise it would be ended with another status.
fn at_once(command: &Command, status: i32) -> String {
    let mut within = Command::new("timeout");
    within.args(["-k", "5", "60"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => within.env(name, value),
            None => within.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        within.current_dir(directory);
    }
    let output: Output = within.output().unwrap();
    calm(&output);
    assert_eq!(output.status.code(), Some(status), "{command:?}\n{}", text(&output));
    text(&output)
}

/// Checks that a message names the file and its kind.
fn names(said: &str, path: &Path, kind: Kind) {
    assert!(said.contains(&shown(path)) && said.contains(kind.word()), "{}: {said}", path.display());
}

fn plan(production: &Production) -> Command {
    let mut command = coordinator();
    command.arg("plan").args(production.fixture.options(&production.out)).arg("--tasks-out").arg(&production.list);
    command
}

#[test]
fn what_planning_reads_is_refused_by_name() {
    let production = Production::small();
    let demo = &production.fixture.demo;
    let first = |directory: &Path, end: &str| -> PathBuf {
        let name = files(directory).into_keys().find(|name| name.ends_with(end)).unwrap();
        directory.join(name)
    };
    let metadata = first(&demo.metadata, "variable_metadata.json");
    let table = first(&demo.metadata, ".csv");
    let all = [
        &demo.jobs,
        &demo.configuration,
        &metadata,
        &table,
        &demo.grid.join("RC.data"),
        &first(&demo.grid, ".nc"),
        &first(&demo.factors, ".xz"),
    ];
    for path in all {
        for kind in KINDS {
            let _put = Put::new(path, kind);
            names(&at_once(&plan(&production), 2), path, kind);
            assert!(!production.list.exists());
        }
    }
}

#[test]
fn inputs_are_refused_when_planned_and_when_read() {
    let production = Production::small();
    let (data, meta) = (production.data("SSH", 732), production.meta("SSH", 732));
    let sums = data.with_file_name("SHA256SUMS");
    for kind in KINDS {
        for path in [&data, &meta] {
            let _put = Put::new(path, kind);
            names(&at_once(&plan(&production), 0), path, kind);
        }
        let _put = Put::new(&sums, kind);
        names(&at_once(plan(&production).arg("--digests"), 2), &sums, kind);
    }
    production.plan();
    for kind in KINDS {
        for path in [&data, &meta] {
            let _put = Put::new(path, kind);
            let said = at_once(coordinator().arg("run").arg(&production.list).args(["--slots", "1"]), 3);
            names(&said, path, kind);
            assert!(said.contains("failed"), "{said}");
        }
    }
}

#[test]
fn what_stands_in_the_place_of_a_granule_is_no_granule() {
    let production = Production::small();
    production.plan();
    let granule = PathBuf::from(&production.recipes()[0].granule);
    fs::create_dir_all(granule.parent().unwrap()).unwrap();
    for kind in KINDS {
        let _put = Put::new(&granule, kind);
        let said = at_once(coordinator().arg("run").arg(&production.list), 3);
        assert!(said.contains("1 conflict"), "{said}");
        names(&said, &granule, kind);
        names(&at_once(program("edp-worker").arg("make").arg(&production.list), 3), &granule, kind);
        let said = at_once(coordinator().arg("verify").arg(&production.list), 3);
        assert!(said.contains("1 damaged") && said.contains(&shown(&granule)), "{said}");
        let mut look = program("edp-worker");
        let said = at_once(look.arg("look").arg(&granule).arg("--out").arg(production.fixture.path("x.png")), 1);
        assert!(said.contains(&shown(&granule)) && said.contains("not a regular file"), "{said}");
    }
}

#[test]
fn lists_and_what_lies_beside_them_are_refused_by_name() {
    let production = Production::small();
    production.plan();
    production.run(0);
    let list = &production.list;
    let manifest = PathBuf::from(format!("{}.manifest.jsonl", list.display()));
    assert!(manifest.exists());
    for kind in KINDS {
        let _put = Put::new(&manifest, kind);
        names(&at_once(coordinator().arg("verify").arg(list), 2), &manifest, kind);
    }
    for kind in KINDS {
        let _put = Put::new(list, kind);
        for command in ["run", "verify", "ranges"] {
            names(&at_once(coordinator().arg(command).arg(list), 2), list, kind);
        }
        names(&at_once(program("edp-worker").arg("make").arg(list), 2), list, kind);
    }
}

#[test]
fn lists_that_are_piped_are_read() {
    let production = Production::small();
    production.plan();
    let demo = &production.fixture.demo;
    let directory = PathBuf::from(coordinator().get_program()).parent().unwrap().to_owned();
    let options = production.fixture.options(&production.out);
    let options: Vec<_> = options.chunks(2).filter(|pair| pair[0] != "--jobs").flatten().cloned().collect();
    let mut shell = Command::new("bash");
    shell.args(["-c", include_str!("piped.sh"), "piped.sh"]).arg(&production.list).arg(&demo.jobs).args(options);
    shell.env("PATH", format!("{}:{}", directory.display(), std::env::var("PATH").unwrap()));
    shell.current_dir(production.fixture.path(""));
    let said = at_once(&shell, 0);
    assert!(said.contains("2 made of 2 granules") && said.contains("2 present of 2 granules"), "{said}");
    assert!(said.contains("2 good"), "{said}");
}

#[test]
fn ledgers_are_refused_by_name_with_all_that_lies_beside_them() {
    let production = Production::small();
    production.plan();
    let ledger = production.fixture.path("p.ledger");
    let run = || {
        let mut command = coordinator();
        command.arg("run").arg(&production.list).arg("--ledger").arg(&ledger);
        command
    };
    for made in [false, true] {
        for end in ["", ".lock", "-journal", "-wal", "-shm"] {
            let path = PathBuf::from(format!("{}{end}", ledger.display()));
            for kind in KINDS {
                let _put = Put::new(&path, kind);
                names(&at_once(&run(), 2), &path, kind);
                if made && end != ".lock" {
                    names(&at_once(coordinator().arg("status").arg("--ledger").arg(&ledger), 2), &path, kind);
                }
            }
        }
        at_once(&run(), 0);
    }
}

#[test]
fn settings_and_what_they_name_are_refused_by_name() {
    let production = Production::small();
    production.plan();
    let at = |name: &str| production.fixture.path(name);
    let (found, named) = (at("edp.toml"), at("named.toml"));
    let verify = || {
        let mut command = coordinator();
        command.arg("verify").arg(&production.list).current_dir(production.fixture.path(""));
        command
    };
    for kind in KINDS {
        let _put = Put::new(&found, kind);
        names(&at_once(&verify(), 2), Path::new("edp.toml"), kind);
    }
    for kind in KINDS {
        let _put = Put::new(&named, kind);
        names(&at_once(verify().arg("--settings").arg(&named), 2), &named, kind);
    }
    let secret = at("secret");
    for (key, variable) in [
        ("queue.url_file", "EDP_QUEUE__URL_FILE"),
        ("queue.password_file", "EDP_QUEUE__PASSWORD_FILE"),
        ("certificate authority", "EDP_QUEUE__CA"),
    ] {
        for kind in KINDS {
            let _put = Put::new(&secret, kind);
            let mut serve = program("edp-worker");
            serve.arg("serve").arg("--root").arg(&production.out).env("EDP_QUEUE__PATIENCE", "1");
            if key != "queue.url_file" {
                serve.env("EDP_QUEUE__URL", "amqps://u@127.0.0.1:1/");
            }
            serve.env(variable, &secret);
            fs::create_dir_all(&production.out).unwrap();
            let said = at_once(&serve, 2);
            names(&said, &secret, kind);
            assert!(said.contains(key), "{said}");
        }
    }
    for kind in KINDS {
        let _put = Put::new(&secret, kind);
        let mut plan = coordinator();
        plan.args(["verify", "s3://bucket/list.json"]).env("EDP_STORE__S3__CREDENTIALS", &secret);
        plan.env("EDP_STORE__S3__ENDPOINT", "http://127.0.0.1:1").env("AWS_REGION", "x");
        let said = at_once(&plan, 2);
        names(&said, &secret, kind);
        assert!(said.contains("store.s3.credentials"), "{said}");
    }
}

/// No code opens a file for reading except the module that checks its kind. The other places listed here open files
/// that the program has made itself, directories, and files of the kernel.
#[test]
fn every_reader_goes_through_one_door() {
    const OTHERS: [&str; 8] = [
        "protocol/files/src/commit.rs",
        "protocol/files/src/files.rs",
        "protocol/files/src/regular.rs",
        "protocol/s3/src/put.rs",
        "worker/engine/src/granule/make.rs",
        "worker/src/console/signals.rs",
        "worker/src/notice/ec2.rs",
        "worker/src/service/identity.rs",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut seen = 0;
    for folder in ["protocol", "worker", "coordinator"] {
        for name in files(&root.join(folder)).into_keys() {
            let path = format!("{folder}/{name}");
            if !path.ends_with(".rs") || path.ends_with("tests.rs") || OTHERS.contains(&path.as_str()) {
                continue;
            }
            seen += 1;
            let source = fs::read_to_string(root.join(&path)).unwrap();
            let code = source.split("#[cfg(test)]").next().unwrap();
            let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for word in ["File::open", "fs::read(", "fs::read_to_string", "OpenOptions::new().read"] {
                // Types of this project whose names end in the same way are others.
                let is_call = |(at, _): (usize, &str), line: &str| !line[..at].ends_with(char::is_alphanumeric);
                let found = code.clone().find(|line| line.match_indices(word).any(|found| is_call(found, line)));
                assert!(found.is_none(), "{path}: {found:?}: use edp_files::regular");
            }
        }
    }
    assert!(seen > 150, "{seen} files were looked at");
}
